"""The split "hands": hands that occur in no training image.

It is a sample of the characters of the brush fonts whose role is "unseen", and the characters cut
out of a letter, if the data folder has them, in `pages/letter_1882` with a `labels.csv` (file,
character, …). They are read like a user's pictures. The built-in sample corpus has neither, so its
test images stand in for them.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.data.corpus import Corpus
from transfer.inference.images import ImageError, read_image
from transfer.system.errors import DataError

EACH = 400
"""How many characters of each family of fonts."""
LETTER = Path("pages") / "letter_1882"


@dataclass(frozen=True)
class Selection:
    """images: (N, 64, 64) uint8, ink 255. code_points: (N,) int32. sources: (N,) str, where each
    image comes from."""

    images: np.ndarray
    code_points: np.ndarray
    sources: np.ndarray


def select(corpus: Corpus, known: np.ndarray) -> Selection:
    """The split's images of known characters, code points (K,).

    Raises DataError if the data folder has neither such fonts nor such a letter, or if the letter's
    labels or pictures cannot be read.
    """
    parts = (
        of_sample(corpus, known)
        if corpus.is_sample
        else [*of_fonts(corpus, known), *of_letter(corpus.folder, known)]
    )
    if not parts:
        raise DataError(
            f"{corpus.folder}: holds no fonts of unseen hands and no {LETTER}; draw fonts with "
            "`python -m transfer.data fonts` first, Yuji or Zhi Mang Xing among them"
        )
    return Selection(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.code_points for p in parts]),
        np.concatenate([p.sources for p in parts]),
    )


def family(name: str) -> str:
    """The family of a font's name: Yuji Boku, Mai and Syuku are one."""
    plain = re.sub(r"^@fontsource/|\.(ttf|otf|woff2)$", "", name.lower())
    return "yuji" if plain.startswith("yuji") else plain


def of_fonts(corpus: Corpus, known: np.ndarray) -> list[Selection]:
    """Up to `EACH` characters of every unseen family, one image of each, chosen by seed 0."""
    if corpus.fonts is None:
        return []
    rows = corpus.fonts.of("unseen")
    points = np.asarray(corpus.fonts.code_points)[rows]
    rows, points = rows[np.isin(points, known)], points[np.isin(points, known)]
    names = np.array([family(corpus.fonts.names[i]) for i in corpus.fonts.font[rows]])
    found, rng = [], np.random.default_rng(0)
    for name in sorted(set(names)):
        order = rng.permutation(np.flatnonzero(names == name))
        # One image a character: the first of a random order.
        _, first = np.unique(points[order], return_index=True)
        chosen = np.sort(order[np.sort(first)[:EACH]])
        images = np.array(corpus.fonts.images[np.sort(rows[chosen])])
        chosen = chosen[np.argsort(rows[chosen])]
        found.append(Selection(images, points[chosen], np.full(len(chosen), f"font {name}")))
    return found


def of_sample(corpus: Corpus, known: np.ndarray) -> list[Selection]:
    """The sample corpus's test images."""
    chosen = corpus.old.indices("test")
    points = np.asarray(corpus.old.code_points)[chosen]
    chosen, points = chosen[np.isin(points, known)], points[np.isin(points, known)]
    images = np.array(corpus.old.images[chosen])
    return [Selection(images, points, np.full(len(images), "sample corpus"))]


def of_letter(folder: Path, known: np.ndarray) -> list[Selection]:
    """The characters of the letter, each read from its own picture file."""
    labels = folder / LETTER / "labels.csv"
    if not labels.is_file():
        return []
    images, points = [], []
    try:
        with open(labels, encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if len(row.get("character") or "") != 1 or not row.get("file"):
                    raise ValueError(f"line {len(images) + 2} lacks a file or one character")
                if ord(row["character"]) in known:
                    images.append(read_image(labels.parent / row["file"]).image)
                    points.append(ord(row["character"]))
    except (OSError, ValueError, csv.Error, ImageError) as error:
        raise DataError(
            f"{labels}: cannot be used ({error}); give columns file and character, and the files"
        ) from None
    if not images:
        return []
    return [Selection(np.stack(images), np.array(points, np.int32), np.full(len(images), "letter"))]
