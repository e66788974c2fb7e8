"""`kuzushiji-transfer data`: the data sets, as `python -m transfer.data` has them."""

from __future__ import annotations

import argparse

from transfer.commands import arguments

EXAMPLES = """  kuzushiji-transfer data list
  kuzushiji-transfer data prepare --data DIR
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "data",
        run,
        "list, download, prepare and convert data sets",
        "The commands of `python -m transfer.data`; `kuzushiji-transfer data --help` lists them.",
        EXAMPLES,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(chosen) -> int:
    from transfer.data.__main__ import main

    return main(["--help"] if chosen.help else chosen.words)
