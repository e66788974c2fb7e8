"""Describes a data set in the data folder in lines of text: counts of images and classes, and how
large the classes are."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from transfer.data.prepare import RELEASES, kanjivg_source, kkanji_source
from transfer.data.published import catalogue, download, kanjivg, kkanji, kmnist
from transfer.system.errors import DataError

_EDGES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


def histogram(sizes) -> list[str]:
    """Class sizes, any integers > 0, as lines "  10-19    512 classes  ####". The longest bar is 40
    wide."""
    sizes = np.asarray(list(sizes))
    counts = [int(((sizes >= a) & (sizes < b)).sum()) for a, b in zip(_EDGES, _EDGES[1:])]
    names = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in zip(_EDGES, _EDGES[1:])]
    return [
        f"  {name:>9}{count:>7,} classes  {'#' * round(40 * count / max(counts))}".rstrip()
        for name, count in zip(names, counts)
        if count
    ]


def lines(name: str, folder: Path) -> list[str]:
    """What `python -m transfer.data info NAME` prints. Raises DataError if the folder holds nothing
    of the data set."""
    return {"kkanji": _kkanji, "kanjivg": _kanjivg}.get(name, lambda f: _kana(name, f))(folder)


def _kkanji(folder: Path) -> list[str]:
    source = kkanji_source(folder)
    if source is None:
        raise DataError(
            f"{folder}: kkanji.tar missing; `python -m transfer.data download kkanji --data"
            f" {folder}` gets it"
        )
    classes, blank = Counter(), 0
    with tqdm(
        desc=source.name, disable=None, file=sys.stderr, leave=False, unit="", unit_scale=True
    ) as bar:

        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)

        for code_point, _, image in kkanji.read(source, show):
            classes[code_point] += 1
            blank += bool(image.min() == image.max())
    if not classes:
        raise DataError(f"{source}: holds no images; download it again from {kkanji.URL}")
    kanji = sum(kanjivg.is_kanji(c) for c in classes)
    largest, size = classes.most_common(1)[0]
    return [
        f"{catalogue.TITLES['kkanji']}: {source}",
        (
            f"{classes.total():,} images, {len(classes):,} classes ({kanji:,} of them kanji),"
            f" {blank} images blank"
        ),
        f"the largest class is {chr(largest)} (U+{largest:04X}) with {size:,} images; class sizes:",
        *histogram(classes.values()),
    ]


def _kanjivg(folder: Path) -> list[str]:
    source = kanjivg_source(folder)
    if source is None:
        raise DataError(
            f"{folder}: kanjivg-<date>-all.zip missing; `python -m transfer.data download kanjivg"
            f" --data {folder}` gets it, or see {RELEASES}"
        )
    glyphs = kanjivg.read(source)
    standard = [g for g in glyphs if not g.variant]
    strokes = [len(g.strokes) for g in standard]
    kanji = sum(kanjivg.is_kanji(g.code_point) for g in standard)
    return [
        f"{catalogue.TITLES['kanjivg']}: {source}",
        (
            f"{len(glyphs):,} glyphs: {len(standard):,} standard forms ({kanji:,} of them kanji)"
            f" and {len(glyphs) - len(standard):,} variants"
        ),
        (
            f"{sum(strokes):,} strokes in the standard forms, {min(strokes)} to {max(strokes)} a"
            f" character, mean {np.mean(strokes):.1f}"
        ),
    ]


def _kana(name: str, folder: Path) -> list[str]:
    out, reasons = [], []
    characters = kmnist.class_map(name, folder)[1]
    for split in ("train", "test"):
        try:
            labels = kmnist.load_labels(name, split, folder)
        except DataError as error:
            if "missing" not in str(error):
                raise
            reasons.append(error)
            out.append(f"{split}: the labels are not here")
            continue
        try:
            images = f"{len(kmnist.load(name, split, folder).images):,} images"
        except DataError as error:
            if "missing" not in str(error):
                raise
            images = f"{len(labels):,} labels, the images are not here"
        counts = np.bincount(labels, minlength=len(characters))
        out.append(f"{split}: {images}, {np.count_nonzero(counts)} classes")
        out.append("  " + " ".join(f"{c} {n:,}" for c, n in zip(characters, counts)))
    if len(reasons) == 2:
        raise reasons[0]
    return [f"{catalogue.TITLES[name]}: {folder}", *out]


def listing(folder: Path, release: str) -> list[str]:
    """What `python -m transfer.data list` prints: each published file, its size, how it is checked,
    and whether it is here."""
    out, files = [], catalogue.files(release)
    for dataset in catalogue.NAMES:
        out.append(f"{dataset}  {catalogue.TITLES[dataset]}")
        for file in (f for f in files if f.dataset == dataset):
            size = f"{file.size:,}" if file.exact else f"about {_rounded(file.size)}"
            checked = file.hash.partition(":")[0] if file.hash else "by form"
            out.append(
                f"  {file.name:<30}{file.format:<5}{size:>16}  {checked:<8}"
                f"{'here' if download.find(folder, file) else ''}".rstrip()
            )
    return out


def _rounded(size: int) -> str:
    return f"{round(size / 1e6)} MB" if size >= 1e6 else f"{round(size / 1e3)} kB"
