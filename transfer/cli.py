"""Command line `kuzushiji-transfer`: image files in, drawings out. Each command is a module of
`transfer.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from transfer.commands import (
    brush,
    candidates,
    completion,
    data,
    draw,
    evaluate,
    export,
    info,
    serve,
    train,
)
from transfer.commands.arguments import Help
from transfer.system.entry import guarded

COMMANDS = (
    draw,
    candidates,
    brush,
    serve,
    train,
    evaluate,
    export,
    data,
    info,
    completion,
)
"""Each has `add(commands)`, which adds its parser and names the function that runs it. None imports
jax before it runs."""

EXAMPLES = """examples:
  kuzushiji-transfer draw examples/*.png --out drawings
  kuzushiji-transfer candidates page.jpg
  kuzushiji-transfer serve
"""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, like all errors here."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


class Version(argparse.Action):
    """Prints the installed version, and looks for it only then: finding metadata takes time, and a
    checkout may have none."""

    def __call__(self, parser, *unused) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("kuzushiji-transfer")
        except metadata.PackageNotFoundError:
            parser.error("the package is not installed, so it has no version; pip install .")
        print(f"{parser.prog} {version}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = Parser(
        prog="kuzushiji-transfer",
        description=(
            "From an image of one Kuzushiji character to the modern kanji, stroke by stroke."
        ),
        epilog=EXAMPLES,
        formatter_class=Help,
        allow_abbrev=False,
    )
    top.add_argument(
        "--version", action=Version, nargs=0, help="show the program's version and exit"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    # The script for a shell's completion is made of the whole command line.
    top.set_defaults(top=top)
    return top


@guarded
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input (one line on stderr), 130
    after Ctrl-C."""
    chosen = parser().parse_args(arguments)
    return chosen.run(chosen)
