"""`kuzushiji-transfer data`: the commands of `python -m transfer.data`."""

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
        "Run one of the commands of `python -m transfer.data`.",
        EXAMPLES,
    )
    parser.add_argument(
        "words",
        metavar="COMMAND ...",
        nargs=argparse.REMAINDER,
        help="list, download, prepare, fonts, hands, info, split, leaks or convert, and its "
        "arguments; COMMAND --help lists them",
    )


def run(chosen) -> int:
    from transfer.data.__main__ import main

    return main(chosen.words)
