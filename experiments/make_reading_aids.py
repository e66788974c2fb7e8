"""KanjiVG's stroke counts, radicals and components -> the table that `kuzushiji-transfer
candidates` shows.

    python experiments/make_reading_aids.py --data DIR
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from transfer import reading_aids
from transfer.data import corpus as corpora
from transfer.system.entry import guarded
from transfer.system.errors import DataError
from transfer.system.files import atomic_write

DEPTH = 2


def components(records: np.ndarray, parent: int = 0, depth: int = DEPTH) -> str:
    """The elements in a glyph's group, in writing order, each followed by its own in brackets,
    `depth` levels of them.

    records: `Corpus.new.components`. A group without an element only holds others together, and one
    named by a code of KanjiVG's own (CDP-8BC4) is no character: the elements in it stand in its
    place. Of a description (⿱日隹) the characters are given. An element in several pieces is named
    once.
    """
    parts, pieces = [], set()
    for index in np.flatnonzero(records["parent"] == parent):
        element, part = str(records["element"][index]), int(records["part"][index])
        if len(element) != 1:
            if not part or element not in pieces:
                described = (
                    "".join(c for c in element[1:] if not is_description(c))
                    if is_description(element[:1])
                    else ""
                )
                parts.append(described or components(records, index, depth))
        elif not part or element not in pieces:
            inside = components(records, index, depth - 1) if depth > 1 else ""
            parts.append(element + (f"({inside})" if inside else ""))
        if part:
            pieces.add(element)
    return "".join(parts)


def is_description(character: str) -> bool:
    """Whether it tells how the characters after it are put together: ⿰, ⿱, …"""
    return "\u2ff0" <= character <= "\u2fff"


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="data folder with KanjiVG")
    parser.add_argument("--out", type=Path, default=reading_aids.FILE)
    chosen = parser.parse_args()
    try:
        corpus = corpora.load(chosen.data)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if corpus.is_sample:
        print(
            "error: the built-in sample corpus has no components; give --data DIR with KanjiVG",
            file=sys.stderr,
        )
        return 2
    new = corpus.new
    source = ", ".join(name for name in corpus.manifest["sources"] if name.startswith("kanjivg"))
    lines = [
        f"# kanji, strokes, radical, components. Derived from KanjiVG ({source}), (c) Ulrich Apel,"
        " CC BY-SA 3.0: see README.md"
    ]
    for i in new.gallery():
        lines.append(
            "\t".join(
                (
                    chr(int(new.code_points[i])),
                    str(len(new.strokes(i))),
                    new.radical(i),
                    components(new.components(i)),
                )
            )
        )
    with atomic_write(chosen.out) as part:
        part.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{chosen.out}: {len(lines) - 1:,} kanji, {chosen.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
