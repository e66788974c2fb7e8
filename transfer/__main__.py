import sys

from transfer.cli import main

if __name__ == "__main__":  # not where a process that reads pictures begins
    sys.exit(main())
