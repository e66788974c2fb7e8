"""A CSV file of predictions -> candidates and drawings of each image of a split.

    image,candidates,svg
    U+4E00/1ac2b92ff34ac3e2.png,一 二 三,drawings/0001.svg

image: the file's name in the data set, or its number in the split's sorted list of names, from 0.
candidates: kanji, best first, with or without spaces between them; may be empty. svg: optional
column with the path, relative to the CSV file, of a drawing of the first candidate; may be empty.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.data import splits
from transfer.data.corpus import Corpus
from transfer.data.formats import svg
from transfer.system.errors import DataError

MAX_BYTES = 64 << 20
MOST_CANDIDATES = 10_000


@dataclass(frozen=True)
class Predictions:
    """names: (N,), the images that are scored, in the order of the split's list. candidates: (N,),
    kanji as one text each, best first. drawings: (N,), strokes, (n, 2) float64 polylines in box
    units, empty where nothing was drawn; None if the file has no drawings at all."""

    names: list[str]
    candidates: list[str]
    drawings: list[list[np.ndarray]] | None


def names_of(corpus: Corpus, split: str) -> tuple[list[str], list[str]]:
    """The names by which rows are numbered, and those of them that are scored.

    For the published data set the first are the published list, so that numbers do not depend on
    the copy at hand; for another corpus they are its own images. The images that are scored are
    those of the split in the data folder, or the whole list if the folder holds none of them (some
    copies lack the test images; only their names are needed). Raises DataError if there are none at
    all.
    """
    own = sorted(str(corpus.old.names[i]) for i in corpus.old.indices(split))
    published = own
    if not corpus.is_sample:
        lists = splits.read_lists()
        if set(map(str, corpus.old.names)) & set().union(*lists.values()):
            published = sorted(lists[split])
    if not published:
        raise DataError(f"{corpus.folder}: holds no images of the split {split!r}; choose another")
    known = set(published)
    return published, [name for name in own if name in known] or published


def read(path: Path, corpus: Corpus, split: str) -> Predictions:
    """Read a file's predictions for a split. Raises DataError, which names the line that is
    wrong."""
    path = Path(path)
    numbered, scored = names_of(corpus, split)
    known = set(numbered)
    rows: dict[str, tuple[str, str]] = {}
    lines = _lines(path)
    _, header = next(lines, (0, []))
    columns = [cell.strip().lower() for cell in header]
    if not {"image", "candidates"} <= set(columns) or not set(columns) <= {
        "image",
        "candidates",
        "svg",
    }:
        raise DataError(
            f"{path}: its first line is {','.join(header)[:60]!r}; it must name the columns:"
            " image,candidates or image,candidates,svg"
        )
    for number, cells in lines:
        where = f"{path}, line {number}"
        if len(cells) != len(columns):
            raise DataError(
                f"{where}: has {len(cells)} columns, not {len(columns)}; separate candidates by"
                " spaces, not by commas"
            )
        row = dict(zip(columns, map(str.strip, cells)))
        name = _name(row["image"], numbered, known, where, split)
        if name in rows:
            raise DataError(f"{where}: {name} already has a row; keep one")
        rows[name] = _kanji(row["candidates"], where), row.get("svg", "")
    missing = [name for name in scored if name not in rows]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of {len(scored):,} images of {split} have no row; the first"
            f" is {missing[0]}; add them, with empty candidates if there is no answer"
        )
    drawings = None
    if "svg" in columns:
        drawings = [_drawing(path, rows[name][1]) for name in scored]
    return Predictions(scored, [rows[name][0] for name in scored], drawings)


def _lines(path: Path):
    """(number of the line, cells) of every row of the file that is not empty."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MB; give fewer candidates")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV ({error}); save it as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); name a CSV file of predictions"
        ) from None


def _name(text: str, numbered: list[str], known: set[str], where: str, split: str) -> str:
    if text.isascii() and text.isdigit() and len(text) < 10:
        if int(text) < len(numbered):
            return numbered[int(text)]
        raise DataError(
            f"{where}: image {text}: {split} has {len(numbered):,} images, numbered from 0"
        )
    if text in known:
        return text
    raise DataError(
        f"{where}: image {text[:60]!r} is not in {split}; write a name such as {numbered[0]}, or"
        " its number in the sorted list"
    )


def _kanji(text: str, where: str) -> str:
    kanji = "".join(text.split())
    if any(character.isascii() for character in kanji):
        raise DataError(
            f"{where}: candidates {text[:40]!r}; write the characters themselves, best first, with"
            " nothing or spaces between them"
        )
    if len(kanji) > MOST_CANDIDATES:
        raise DataError(f"{where}: has {len(kanji):,} candidates; give at most {MOST_CANDIDATES:,}")
    if len(set(kanji)) != len(kanji):
        twice = next(c for i, c in enumerate(kanji) if c in kanji[:i])
        raise DataError(f"{where}: candidate {twice} appears twice; keep the better place")
    return kanji


def _drawing(path: Path, cell: str) -> list[np.ndarray]:
    if not cell:
        return []
    file = path.parent / cell
    try:
        if file.stat().st_size > svg.MAX_BYTES:
            raise DataError(f"{file}: larger than {svg.MAX_BYTES >> 20} MB; simplify the drawing")
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file}: cannot be read ({reason}); paths in the column svg begin at the CSV file"
        ) from None
    return svg.read(content, file).strokes
