"""Make transfer/reading_aids/forms.tsv, the table of kanji that are two forms of one character,
such as 国 and 國.

    pip install OpenCC
    python experiments/make_forms.py --data DIR

Two kanji are forms of one character if OpenCC's tables for Japan, Taiwan or Hong Kong turn them
into the same traditional character, or if Unicode says that one is a compatibility form of the
other.
"""

import argparse
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

from transfer.data import corpus as corpora
from transfer.reading_aids import FORMS
from transfer.system.errors import DataError

DISTINCT = "鯰覈纔蔘踴"
"""Left out: Japanese writes other words with them than with what Taiwan or Hong Kong makes of
them."""


def groups(characters: list[str], tables: list) -> list[list[str]]:
    """The characters that share a form, each group sorted by code point; those that stand alone are
    left out."""
    of = {c: c for c in characters}

    def root(c: str) -> str:
        while of.setdefault(c, c) != c:
            c = of[c]
        return c

    for character in characters:
        for convert in (lambda c: unicodedata.normalize("NFKC", c), *tables):
            if len(other := convert(character)) == 1 and not {character, other} & set(DISTINCT):
                of[root(character)] = root(other)
    found = defaultdict(list)
    for character in sorted(characters):
        found[root(character)].append(character)
    return sorted(group for group in found.values() if len(group) > 1)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="data folder [$KUZUSHIJI_DATA, the user's cache, else the built-in sample]",
    )
    chosen = parser.parse_args()
    try:
        import opencc
    except ImportError:
        print(
            "error: the table of forms is OpenCC's: python -m pip install OpenCC", file=sys.stderr
        )
        return 2
    try:
        new = corpora.load(chosen.data).new
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kanji = [chr(c) for c in new.code_points[new.gallery()]]
    found = groups(kanji, [opencc.OpenCC(name).convert for name in ("jp2t", "tw2t", "hk2t")])
    FORMS.write_text(
        "# Forms of one character, modern Japanese first. Derived from OpenCC's variant tables"
        " (Apache License 2.0, BYVoid and contributors).\n"
        + "".join("\t".join(modern_first(group)) + "\n" for group in found),
        encoding="utf-8",
    )
    print(f"{FORMS}: {len(found)} groups, {sum(map(len, found))} of {len(kanji)} kanji")
    return 0


def modern_first(group: list[str]) -> list[str]:
    """The form in Japan's everyday set first: the one that JIS X 0208 lists in its first level,
    else the one with the lower row."""

    def place(c: str) -> tuple:
        try:
            return (0, c.encode("euc_jp"))
        except UnicodeEncodeError:
            return (1, c.encode("utf-32-be"))

    return sorted(group, key=place)


if __name__ == "__main__":
    sys.exit(main())
