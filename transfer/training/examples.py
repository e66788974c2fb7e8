"""The training examples of the old domain's models: books, fonts, made hands and kana in one pool.

Batches are drawn inside the compiled step, from arrays that stay on the device.
"""

from __future__ import annotations

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from transfer.data.corpus import Corpus, New
from transfer.data.published.kanjivg import HIRAGANA
from transfer.data.writing import kana
from transfer.reading_aids import forms_of
from transfer.system.devices import shard

FEWEST = 8
"""In how many kanji a component must occur to be an attribute."""
STROKES = range(2, 26)
"""Stroke counts n for which "at least n strokes" is an attribute."""


# Drawing batches ----------------------------------------------------------------------------------


def class_table(
    labels: np.ndarray, balance: float, places: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Arrays from which `draw` picks examples.

    A class of n examples is picked with weight n**(1 - balance), and then one of its examples.

    labels: (N,) int, from 0; classes without an example are never drawn.
    places: (N,), the examples' indices [0 to N - 1].
    """
    order = np.argsort(labels, kind="stable").astype(np.int32)
    count = np.bincount(labels)
    weight = np.where(count > 0, np.maximum(count, 1).astype(np.float64) ** (1.0 - balance), 0.0)
    order = order if places is None else places[order]
    return {
        "order": order,
        "start": (np.cumsum(count) - count).astype(np.int32),
        "count": count.astype(np.int32),
        "cumulative": (np.cumsum(weight) / weight.sum()).astype(np.float32),
    }


def draw(table: dict[str, jax.Array], batch: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Indices and labels, (batch,) int32 each, drawn with replacement as `class_table` says."""
    class_key, example_key = jax.random.split(key)
    label = jnp.searchsorted(
        table["cumulative"], jax.random.uniform(class_key, (batch,)), side="right"
    )
    label = jnp.minimum(label, len(table["count"]) - 1)
    within = jnp.floor(jax.random.uniform(example_key, (batch,)) * table["count"][label]).astype(
        jnp.int32
    )
    # From here on the batch is split over the devices.
    return shard(
        (
            table["order"][table["start"][label] + jnp.minimum(within, table["count"][label] - 1)],
            label,
        )
    )


def mix(
    tables: dict, shares: dict[str, float], batch: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Indices and labels, drawn from the table "real" or, for a share of the batch, from another
    table.

    tables: name -> the result of `class_table`.
    shares: name -> its approximate share of the batch; missing tables get none.
    """
    chosen, level = draw(tables["real"], batch, jax.random.fold_in(key, 0)), 0.0
    which = jax.random.uniform(jax.random.fold_in(key, 1), (batch,))
    for number, (name, share) in enumerate(sorted(shares.items())):
        if name in tables and share:
            other = draw(tables[name], batch, jax.random.fold_in(key, 2 + number))
            mine = (which >= level) & (which < level + share)
            chosen, level = (
                jax.tree.map(lambda a, b: jnp.where(mine, b, a), chosen, other),
                level + share,
            )
    return chosen


# The pool -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pool:
    """Examples of the old domain.

    images: (N, 64, 64) uint8, those from books first.
    classes: (C,) int32 code points, ascending.
    tables: for `mix`, whose labels index the classes. Characters of fonts and made hands all have
    the same weight.
    photographed: (C,) bool, which classes have images from books.
    group: (C,) int32, the same number for forms of one character.
    real: how many images are from books.
    """

    images: np.ndarray
    classes: np.ndarray
    tables: dict[str, dict[str, np.ndarray]]
    photographed: np.ndarray
    group: np.ndarray
    real: int

    def data(self) -> dict:
        """The arrays that `mix` and `taking_part` need, for a device."""
        return {
            "images": self.images,
            "tables": self.tables,
            "photographed": self.photographed,
            "group": self.group,
        }


def taking_part(data: dict, real: int, index: jax.Array, label: jax.Array) -> jax.Array:
    """Classes that compete for each image, (B, C) bool.

    For an image from a book (an index below `real`) these are the classes with such images: a class
    without them must not learn to be unlikely. For an image from a font or a made hand these are
    all classes. Another form of the image's own character (國 for 国) never competes.

    data: `Pool.data`.
    real: `Pool.real`.
    index, label: (B,), from `mix`.
    """
    other_form = (data["group"] == data["group"][label][:, None]) & (
        jnp.arange(len(data["group"])) != label[:, None]
    )
    return (data["photographed"] | (index >= real)[:, None]) & ~other_form


def pool(
    corpus: Corpus,
    chosen: np.ndarray,
    code_points: np.ndarray,
    balance: float,
    fonts: float = 0.0,
    hands: float = 0.0,
    kana_too: bool = False,
) -> Pool:
    """The pool of training images from books, and of the other images in the data folder.

    chosen, code_points: (n,), the images of corpus.old and their kanji.
    balance: see `class_table`.
    fonts, hands: shares of a batch; a source without a share is left out.
    kana_too: whether hiragana are learned too.
    """
    parts, points = (
        {"real": [np.asarray(corpus.old.images[chosen])]},
        {"real": [np.asarray(code_points, np.int32)]},
    )
    if kana_too and not corpus.is_sample and (found := kana.learned(corpus.folder)):
        parts["real"].append(found.images)
        points["real"].append(found.code_points)
    hiragana = [ord(c) for c in HIRAGANA]
    sources = {"fonts": (fonts, corpus.fonts), "hands": (hands, corpus.hands)}
    for name, (share, source) in sources.items():
        if not share or source is None:
            continue
        rows = source.of("train") if name == "fonts" else np.arange(len(source.images))
        if not kana_too:
            rows = rows[~np.isin(source.code_points[rows], hiragana)]
        parts[name], points[name] = (
            [np.asarray(source.images[rows])],
            [np.asarray(source.code_points[rows], np.int32)],
        )
    points = {name: np.concatenate(p) for name, p in points.items()}
    classes = np.unique(np.concatenate(list(points.values())))
    tables, at = {}, 0
    for name, of in points.items():
        places = np.arange(at, at + len(of), dtype=np.int32)
        tables[name] = class_table(
            np.searchsorted(classes, of), balance if name == "real" else 1.0, places
        )
        at += len(of)
    return Pool(
        np.concatenate([image for part in parts.values() for image in part]),
        classes,
        tables,
        np.isin(classes, points["real"]),
        form_groups(classes),
        len(points["real"]),
    )


def form_groups(code_points: np.ndarray) -> np.ndarray:
    """(C,) int32: the same number for code points (C,) that are forms of one character."""
    first = [ord(forms_of(chr(int(point)))[0]) for point in code_points]
    return np.unique(first, return_inverse=True)[1].astype(np.int32)


def set_aside(code_points: np.ndarray, most: int) -> np.ndarray:
    """Classes of the books that training leaves out, code points (a,).

    Probabilities can then be fitted on unknown characters. They are the `most` classes with the
    lowest hashes among those with fewer than five images, which have no val image.

    code_points: (N,), those of the training images.
    """
    points, count = np.unique(code_points, return_counts=True)
    rare = points[count < 4]
    return np.sort(
        sorted(rare, key=lambda p: hashlib.sha256(f"set aside U+{int(p):04X}".encode()).digest())[
            :most
        ]
    ).astype(np.int32)


def attributes(new: New, classes: np.ndarray) -> np.ndarray:
    """Components and stroke counts of characters, (C, A) uint8 of 0 and 1.

    A column says whether a character has a certain component in KanjiVG, or at least a certain
    number of strokes. classes: (C,) code points.
    """
    standard = {
        int(new.code_points[i]): int(i) for i in np.flatnonzero(np.asarray(new.variants) == "")
    }
    of = [standard.get(int(c)) for c in classes]
    strokes = [0 if i is None else len(new.strokes(i)) for i in of]
    parts = [
        set() if i is None else {str(e) for e in new.components(i)["element"]} - {"", chr(int(c))}
        for i, c in zip(of, classes)
    ]
    names, count = np.unique([p for part in parts for p in part], return_counts=True)
    names = names[count >= FEWEST]
    has = np.array([[name in part for name in names] for part in parts], np.uint8).reshape(
        len(classes), -1
    )
    return np.concatenate(
        [has, np.array([[s >= n for n in STROKES] for s in strokes], np.uint8)], 1
    )
