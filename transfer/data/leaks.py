"""Searches prepared Kuzushiji-Kanji for look-alikes: images of val and test that train may hold
under another name.

The published images are cut from scanned pages. A character that was cut out twice (shifted by a
few pixels, or with other margins) would be in two files under two names. Every image of `val` and
`test` is compared with all train images of its own class, in two steps:

    coarse  box filter to 16x16, zero mean, unit length; cosine over shifts of up to 2 cells
            (8 pixels) each way and over three sizes; the five best pairs of COARSE or more go on
    fine    64x64, slightly blurred; correlation (Pearson's r) of the overlapping area, over
            shifts around the coarse one

A score proves nothing: two hands write a plain 一 almost alike. THRESHOLD is low enough to find 97
of 100 true duplicates (`controls` measures that). The eye must judge what it finds.
"""

import csv
from dataclasses import dataclass

import numpy as np
from PIL import Image

from transfer.system.entry import ESCAPED
from transfer.system.errors import DataError

COARSE = 0.60
THRESHOLD = 0.85
CELLS = 16
REACH = 2  # cells that the coarse search shifts by
FINE = 3  # pixels around the coarse optimum
SCALES = (1.0, 0.94, 1.06)


@dataclass(frozen=True)
class Pair:
    """Two images of one class: their published names, and their best correlation, at most 1."""

    split: str
    name: str
    train_name: str
    score: float
    shift: tuple[int, int]  # pixels (down, right) that the train image lies from the other


def _rescaled(image: np.ndarray, scale: float) -> np.ndarray:
    """(64, 64) -> the same, enlarged about its centre by `scale`, nearest pixel, paper outside."""
    if scale == 1.0:
        return image
    size = len(image)
    at = np.rint((np.arange(size) - (size - 1) / 2) / scale + (size - 1) / 2).astype(int)
    inside = (at >= 0) & (at < size)
    out = image[at.clip(0, size - 1)][:, at.clip(0, size - 1)]
    return out * (inside[:, None] & inside)


def _cells(images: np.ndarray) -> np.ndarray:
    """(n, 64, 64) uint8 or float -> (n, 16, 16) float32 means of 4x4 pixels."""
    n, size, _ = images.shape
    step = size // CELLS
    return images.reshape(n, CELLS, step, CELLS, step).mean((2, 4), dtype=np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    """(n, d) -> rows of zero mean and length 1."""
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _shifted(cells: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """(16, 16) -> all its shifts as (25, 256), and the shifts in cells."""
    shifts = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
    padded = np.pad(cells, REACH)
    rows = [
        padded[REACH - y : REACH - y + CELLS, REACH - x : REACH - x + CELLS].ravel()
        for y, x in shifts
    ]
    return np.stack(rows), shifts


def _blurred(image: np.ndarray) -> np.ndarray:
    """(64, 64) -> float32, [1 2 1]/4 both ways: thin strokes half a pixel apart must still
    match."""
    image = image.astype(np.float32)
    for axis in (0, 1):
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image


def _overlap(first: np.ndarray, second: np.ndarray, y: int, x: int) -> float:
    """Pearson's r over the area that both share when `first` is moved y down and x right."""
    size = len(first)
    a = first[max(0, -y) : size - max(0, y), max(0, -x) : size - max(0, x)]
    b = second[max(0, y) : size + min(0, y), max(0, x) : size + min(0, x)]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-6))


def best_match(
    image: np.ndarray, others: np.ndarray, cells: np.ndarray | None = None
) -> tuple[int, float, tuple]:
    """The nearest of `others` to `image`: (index, score, (down, right)). The index is -1 if none
    passes the coarse step.

    image: (64, 64) uint8; others: (n, 64, 64) uint8; cells: (n, 256) float32,
    `_unit(_cells(others))` if known.
    """
    cells = _unit(_cells(others).reshape(len(others), -1)) if cells is None else cells
    queries = [_rescaled(image, s) for s in SCALES]
    rows, shifts = zip(*(_shifted(_cells(q[None])[0]) for q in queries))
    similarity = cells @ _unit(np.concatenate(rows)).T  # (n, scales * shifts)
    best = similarity.max(1)
    index, score, shift = -1, -1.0, (0, 0)
    blurred = [_blurred(q) for q in queries]
    step = len(image) // CELLS
    for i in np.argsort(-best)[:5]:
        if best[i] < COARSE:
            break
        scale, at = divmod(int(similarity[i].argmax()), len(shifts[0]))
        down, right = (step * v for v in shifts[0][at])
        other = _blurred(others[i])
        for y in range(down - FINE, down + FINE + 1):
            for x in range(right - FINE, right + FINE + 1):
                if (r := _overlap(blurred[scale], other, y, x)) > score:
                    index, score, shift = int(i), r, (y, x)
    return index, score, shift


def search(
    old, names=("val", "test"), threshold: float = THRESHOLD, progress=None
) -> tuple[list[Pair], dict[str, int]]:
    """The look-alikes in train of the images in the splits `names`, best first, and how many images
    were searched.

    old: `corpus.load(...).old`. About 15 s on one core for the published val list. `progress(done,
    total)` is called after every image. Raises DataError if train is empty.
    """
    train = old.indices("train")
    if not len(train):
        raise DataError("leaks: train holds no images; prepare the published files first")
    labels = np.asarray(old.code_points)
    order = train[np.argsort(labels[train], kind="stable")]
    bounds = labels[order]
    wanted = [(s, i) for s in names for i in old.indices(s)]
    wanted.sort(key=lambda pair: labels[pair[1]])
    found = []
    for done, (split, i) in enumerate(wanted, 1):
        low, high = np.searchsorted(bounds, [labels[i], labels[i] + 1])
        if high > low:
            same = np.sort(order[low:high])
            index, score, shift = best_match(
                np.asarray(old.images[i]), np.asarray(old.images[same])
            )
            if score >= threshold:
                found.append(
                    Pair(split, str(old.names[i]), str(old.names[same[index]]), score, shift)
                )
        if progress:
            progress(done, len(wanted))
    found.sort(key=lambda p: (-p.score, p.name))
    return found, {s: len(old.indices(s)) for s in names}


def _shift(image, rng):
    down, right = rng.integers(-6, 7, 2)
    size = len(image)
    return np.pad(image, 6)[6 - down : 6 - down + size, 6 - right : 6 - right + size]


def _recut(image, rng, low, high):
    """The image with other margins: each side moves inwards by low to high pixels (outwards below
    0), then the image is scaled to 64x64 again."""
    left, top, right, bottom = rng.integers(low, high + 1, 4)
    size = len(image)
    cut = Image.fromarray(image).crop((left, top, size - right, size - bottom))
    return np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))


CONTROLS = {
    "shifted by up to 6 pixels": _shift,
    "cut narrower by 0 to 3 pixels a side": lambda image, rng: _recut(image, rng, 0, 3),
    "cut wider by 0 to 3 pixels a side": lambda image, rng: _recut(image, rng, -3, 0),
    "cut narrower or wider by up to 3 pixels a side": lambda image, rng: _recut(image, rng, -3, 3),
}


def controls(old, count: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    """What true duplicates score: `count` images of val, each compared with itself after a change
    listed in CONTROLS.

    Returns {change: (count,) float64 scores}. A pair that did not pass the coarse step has score
    -1.
    """
    rng = np.random.default_rng(seed)
    val = old.indices("val")
    out = {}
    for way, change in CONTROLS.items():
        chosen = np.sort(rng.choice(val, min(count, len(val)), replace=False))
        images = [np.asarray(old.images[i]) for i in chosen]
        out[way] = np.array([best_match(image, change(image, rng)[None])[1] for image in images])
    return out


def write(pairs: list[Pair], path) -> None:
    """Write the pairs as CSV: split, name, train_name, score, down, right."""
    try:
        with open(path, "w", newline="", encoding="utf-8", errors=ESCAPED) as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["split", "name", "train_name", "score", "down", "right"])
            rows.writerows(
                [p.split, p.name, p.train_name, f"{p.score:.3f}", *p.shift] for p in pairs
            )
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); choose another file"
        ) from None
