"""Turns the data folder into one `Corpus`: memory-mapped images of both domains, strokes and
splits.

`load` prepares published files on first use. If there are none, it takes the built-in sample
corpus.
"""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.data.prepare import (
    VERSION,
    kanjivg_source,
    kkanji_source,
    prepare,
    recover,
    unchanged,
)
from transfer.data.published.kanjivg import HIRAGANA, is_kanji
from transfer.data.splits import SPLITS
from transfer.data.writing import fonts, hands
from transfer.data.writing.fonts import Fonts
from transfer.data.writing.hands import Hands
from transfer.system.errors import DataError
from transfer.system.folders import VARIABLE, data_folder, is_chosen, needed_cache

_SAMPLE = "kanjivg-00000000.xml.gz"  # no release has this date


@dataclass(frozen=True)
class Old:
    """The old domain, Kuzushiji-Kanji: images (N, 64, 64) uint8, code_points (N,) int32, names (N,)
    str, split (N,) uint8.

    >>> old = load(quiet=True).old
    >>> bool((old.split[old.indices("val")] == SPLITS.index("val")).all())
    True
    """

    images: np.ndarray
    code_points: np.ndarray
    names: np.ndarray
    split: np.ndarray

    def indices(self, split: str) -> np.ndarray:
        """(n,) int64 indices of the images in one of SPLITS, ascending. Raises DataError for any
        other name."""
        if split not in SPLITS:
            raise DataError(
                f"split {split!r}: there is no such split; choose from {', '.join(SPLITS)}"
            )
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)


@dataclass(frozen=True)
class New:
    """The new domain, KanjiVG: images (M, 64, 64) uint8, code_points (M,) int32, variants and ids
    (M,) str, strokes and components.

    >>> new = load(quiet=True).new
    >>> glyph = new.gallery()[0]
    >>> len(new.strokes(glyph)) == len(new.stroke_types(glyph))
    True
    """

    images: np.ndarray
    code_points: np.ndarray
    variants: np.ndarray
    ids: np.ndarray
    points: np.ndarray
    stroke_bounds: np.ndarray
    glyph_bounds: np.ndarray
    types: np.ndarray
    component_records: np.ndarray
    component_bounds: np.ndarray

    def strokes(self, i: int) -> list[np.ndarray]:
        """Glyph i's strokes in writing order, list of (n, 2) float32 in box units, simplified with
        epsilon 0.25."""
        bounds = self.stroke_bounds[self.glyph_bounds[i] : self.glyph_bounds[i + 1] + 1]
        return [np.array(self.points[a:b]) for a, b in zip(bounds, bounds[1:])]

    def stroke_types(self, i: int) -> list[str]:
        """KanjiVG's type of each of glyph i's strokes, e.g. "㇐" or "㇔a"; "" if it gives none."""
        return [str(t) for t in self.types[self.glyph_bounds[i] : self.glyph_bounds[i + 1]]]

    def components(self, i: int) -> np.ndarray:
        """Glyph i's groups, outer before inner: records with the fields of `kanjivg.Component`
        (element, radical, …)."""
        return np.array(
            self.component_records[self.component_bounds[i] : self.component_bounds[i + 1]]
        )

    def radical(self, i: int) -> str:
        """The character of glyph i's radical: the one of all dictionaries, or else the traditional
        one; "" if KanjiVG marks none."""
        components = self.components(i)
        for kind in ("general", "tradit", "nelson", "jis"):
            if len(found := components[components["radical"] == kind]):
                return str(found["element"][0] or found["original"][0])
        return ""

    def gallery(self) -> np.ndarray:
        """(g,) int64 indices of the standard form of every kanji, by code point."""
        chosen = np.flatnonzero(np.asarray(self.variants) == "")
        chosen = chosen[[is_kanji(int(c)) for c in self.code_points[chosen]]]
        return chosen[np.argsort(self.code_points[chosen])].astype(np.int64)

    def writable(self) -> np.ndarray:
        """(w,) int32 code points that fonts and made hands should write: every kanji of the
        gallery and the hiragana, ascending."""
        kana = np.isin(self.code_points, [ord(c) for c in HIRAGANA]) & (
            np.asarray(self.variants) == ""
        )
        return np.sort(
            np.concatenate([self.code_points[self.gallery()], self.code_points[kana]])
        ).astype(np.int32)


@dataclass(frozen=True)
class Corpus:
    """Both domains of a data folder, as `load` opens them.

    folder: where the arrays are.
    is_sample: whether this is the built-in sample.
    manifest: version, checksums of the sources, and counts.
    old, new: the two domains.
    fonts, hands: further images to train on, or None.
    """

    folder: Path
    is_sample: bool
    manifest: dict  # version, epsilon, sources {file: {sha256, bytes}}, counts
    old: Old
    new: New
    # Brush fonts beside the old domain, where `python -m transfer.data fonts` has drawn them.
    fonts: Fonts | None = None
    hands: Hands | None = None  # made hands, where `python -m transfer.data hands` has written them


def load(data=None, quiet: bool = False) -> Corpus:
    """Open the corpus in `data`, or else $KUZUSHIJI_DATA, the user's cache folder, or the built-in
    sample.

    It prepares published files first, if that is not done yet. It takes the sample only if you name
    no folder and the cache holds no data, and says so in one line on stderr. `quiet` silences that
    line and the progress bars. Raises DataError if the named folder holds nothing usable, or if
    files are missing or damaged.

    >>> corpus = load(quiet=True)
    >>> corpus.old.images.shape[1:], corpus.new.images.dtype
    ((64, 64), dtype('uint8'))
    """
    folder = data_folder(data)
    if folder.is_dir():
        recover(folder)
    elif is_chosen(data):
        raise DataError(
            f"{folder}: no such folder; create it and put kkanji.tar and kanjivg-<date>-all.zip"
            " there"
        )
    if is_chosen(data) or any(
        (kkanji_source(folder), kanjivg_source(folder), (folder / "prepared").exists())
    ):
        return _open_or_prepare(folder, quiet)
    if not quiet:
        print(
            "Using the built-in sample corpus; for the real data put kkanji.tar and"
            " kanjivg-<date>-all.zip into DIR, run `python -m transfer.data prepare --data DIR`"
            f" and give --data DIR (or set ${VARIABLE}).",
            file=sys.stderr,
        )
    return _open_or_prepare(_sample_folder(), True)


def _open_or_prepare(folder: Path, quiet: bool) -> Corpus:
    if not _is_current(folder):
        prepare(folder, progress=not quiet)
    return _open(folder)


def _manifest(folder: Path) -> dict | None:
    try:
        manifest = json.loads((folder / "prepared" / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _is_current(folder: Path) -> bool:
    """Whether the prepared data are whole, have this layout, and were made from the published files
    that are there now.

    It compares sizes and names, not checksums: opening must not take seconds. The published files
    may be gone by now.
    """
    manifest = _manifest(folder)
    if not manifest or manifest.get("version") != VERSION:
        return False
    published = kkanji_source(folder), kanjivg_source(folder)
    present = [path for path in published if path is not None]
    if len(present) < len(published):
        return True
    sources = manifest.get("sources", {})
    return all(p.name in sources and unchanged(p, sources[p.name]) for p in present)


def _open(folder: Path) -> Corpus:
    def array(name):
        path = folder / "prepared" / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); run `python -m transfer.data prepare --data"
                f" {folder}`"
            ) from None

    old = Old(*(array(f"kkanji/{n}") for n in ("images", "code_points", "names", "split")))
    new = New(
        *(
            array(f"kanjivg/{n}")
            for n in (
                "images",
                "code_points",
                "variants",
                "ids",
                "points",
                "strokes",
                "glyphs",
                "stroke_types",
                "components",
                "component_bounds",
            )
        )
    )
    manifest = _manifest(folder) or {}
    return Corpus(
        folder,
        _SAMPLE in manifest.get("sources", {}),
        manifest,
        old,
        new,
        fonts.load(folder),
        hands.load(folder),
    )


def _sample_folder() -> Path:
    """The sample corpus on disk, written on first use. A half-written one never gets the final
    name."""
    from transfer.data import sample

    folder = needed_cache() / f"sample-v{sample.VERSION}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix="sample.tmp-", dir=folder.parent))
        try:
            sample.write(part)
            if not folder.exists():
                os.rename(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():
            raise DataError(
                f"{folder}: the sample corpus cannot be written ({error.strerror or error}); "
                f"set XDG_CACHE_HOME or ${VARIABLE} to a folder that can"
            ) from None
    return folder
