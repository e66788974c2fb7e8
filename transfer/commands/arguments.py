"""What several commands share: their arguments, and how they report what is wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import shtab

from transfer.reading_aids import FORM_CHOICES
from transfer.system.files import sweep


class Help(argparse.RawDescriptionHelpFormatter):
    """A help formatter with room for the options' names."""

    def __init__(self, prog: str, **settings):
        super().__init__(prog, **{"max_help_position": 30, "width": 120} | settings)


def add(
    commands, name: str, run: Callable, help: str, description: str, examples: str, **settings
) -> argparse.ArgumentParser:
    """A command's parser, with `examples` at the end of its help."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{examples}",
        allow_abbrev=False,
        formatter_class=Help,
        **settings,
    )
    parser.set_defaults(run=run)
    return parser


def images(parser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="picture files, folders of them, patterns such as 'scans/**/*.png', "
        "or - for a picture on standard input; each picture shows one character",
    ).complete = shtab.FILE


def weights(parser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder of runs or weights [the shipped weights]",
    ).complete = shtab.DIRECTORY


def data(parser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder [$KUZUSHIJI_DATA, the user's cache, else the built-in sample]",
    ).complete = shtab.DIRECTORY


def top(parser) -> None:
    parser.add_argument(
        "--top",
        type=integer(1, 10_000),
        default=10,
        metavar="N",
        help="number of candidates to list [%(default)s]",
    )


def out(parser, default: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(default),
        metavar="DIR",
        help="folder for the results [%(default)s]",
    ).complete = shtab.DIRECTORY


def forms(parser) -> None:
    parser.add_argument(
        "--forms",
        choices=FORM_CHOICES,
        default="as-read",
        help="which form comes first if a character has several, such as 国 and 國 [%(default)s]",
    )


def samples(parser) -> None:
    parser.add_argument(
        "--samples",
        type=integer(1, 1000),
        default=10,
        metavar="N",
        help="drawings for each image [%(default)s]",
    )


def seed(parser, text: str = "random seed [%(default)s]") -> None:
    parser.add_argument("--seed", type=integer(0, 2**31 - 1), default=0, metavar="N", help=text)


def jobs(parser) -> None:
    parser.add_argument(
        "--jobs",
        type=integer(1, 256),
        metavar="N",
        help="threads that read and write files, or processes where they are many [one for each "
        "core]",
    )


def loudness(parser) -> None:
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    loud.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also print which weights are used and how long it takes",
    )


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number from low to high."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return number

    return parse


def temperature(text: str) -> float:
    """An argument's type: a number above 0 and up to 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return number


def sources(names: list[str]) -> Iterator:
    """The images that names stand for (see `transfer.inference.batch.find`), standard input among
    them."""
    from transfer.inference import batch

    for name in names:
        if name == "-":
            yield "stdin", sys.stdin.buffer.read()
        else:
            yield from batch.find([name])


def judgement(result) -> str:
    """A Result in a few words: what it is read as, and how sure that is."""
    best = "  ".join(f"{character} {100 * p:.0f}%" for character, p in result.candidates[:5])
    note = f"   ({result.note})" if result.note else ""
    begin = {"sure": "", "not sure": "not sure: ", "not a kanji": "not a kanji; at best: "}
    if result.verdict == "kana":
        begin["kana"] = f"kana, perhaps {result.kana[0]}; as a kanji at best: "
    return begin[result.verdict] + best + note


def make_folder(path: Path) -> str:
    """Make an output folder, and remove what killed writers left in it; returns what is wrong with
    it, or ""."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
        sweep(path)
    except OSError as error:
        return f"{path}: cannot write there ({error.strerror}); choose another folder with --out"
    return ""
