"""Turn the published files into arrays, once: `python data/prepare.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout need not be installed

from transfer.data.__main__ import main

sys.exit(main(["prepare", *sys.argv[1:]]))
