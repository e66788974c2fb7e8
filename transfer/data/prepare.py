"""Turns published files in a folder into memory-mapped arrays in <folder>/prepared/, once.

    prepared/kkanji/   images (N, 64, 64) uint8 · code_points (N,) int32 · names (N,) str ·
                       split (N,) uint8
    prepared/kanjivg/  images (M, 64, 64) uint8 · code_points (M,) int32 · variants, ids (M,) str ·
                       points (P, 2) float32 · strokes (S + 1,) int64 into points ·
                       glyphs (M + 1,) int64 into strokes · stroke_types (S,) str ·
                       components (C,) records · component_bounds (M + 1,) int64 into components
    prepared/manifest.json  version, sources with sha256 and bytes, counts

Everything is written beside `prepared` and renamed at the end. So a run that fails or is killed
changes nothing.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import socket
import sys
from contextlib import closing, contextmanager
from pathlib import Path, PurePath

import numpy as np
from tqdm import tqdm

from transfer.data import splits
from transfer.data.published import kanjivg, kkanji
from transfer.data.raster import rasterise
from transfer.system.errors import DataError
from transfer.system.folders import is_leftover
from transfer.system.locks import process_runs

VERSION = 2  # of the prepared layout; raise it when an array or its meaning changes
EPSILON = 0.25  # box units; the published sketch-rnn kanji set used this
RELEASES = "https://github.com/KanjiVG/kanjivg/releases"
_KANJIVG = ("kanjivg-*-all.zip", "kanjivg-*-main.zip", "kanjivg-*.xml.gz", "kanjivg-*.xml")


def kkanji_source(folder: Path) -> Path | None:
    """kkanji.tar, or else the unpacked kkanji2/, or else None."""
    return next((p for p in (folder / "kkanji.tar", folder / "kkanji2") if p.exists()), None)


def kanjivg_source(folder: Path) -> Path | None:
    """The newest -all.zip (which has the variants), or else -main.zip, .xml.gz, the folder kanji/,
    or None."""
    for pattern in _KANJIVG:
        if found := sorted(p for p in folder.glob(pattern) if p.is_file()):
            return found[-1]
    return folder / "kanji" if (folder / "kanji").is_dir() else None


def find_sources(folder: Path) -> tuple[Path, Path]:
    """The published files of (Kuzushiji-Kanji, KanjiVG). Raises DataError, which names what is
    missing and where it is published."""
    old, new = kkanji_source(folder), kanjivg_source(folder)
    missing = [
        text
        for found, text in (
            (old, f"kkanji.tar ({kkanji.URL})"),
            (new, f"kanjivg-<date>-all.zip ({RELEASES})"),
        )
        if found is None
    ]
    if missing:
        raise DataError(
            f"{folder}: {' and '.join(missing)} missing; download there or with "
            f"`python -m transfer.data download kkanji kanjivg --data {folder}`, and run again"
        )
    return old, new


def recover(folder: Path) -> None:
    """Put the earlier prepared data back if a run was killed between the two renames at its end."""
    if (folder / "prepared.old").is_dir() and not (folder / "prepared").exists():
        os.rename(folder / "prepared.old", folder / "prepared")


def prepare(folder, progress: bool = True) -> Path:
    """Read the published files in `folder` and write <folder>/prepared/; returns that path.

    The full sets take about a minute and a few hundred MB of memory. `progress` shows bars on
    stderr. Raises DataError if files are missing, damaged or unexpected, or if the folder cannot be
    written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; create it and put kkanji.tar and kanjivg-<date>-all.zip"
            " there"
        )
    old, new = find_sources(folder)
    try:
        recover(folder)
        with _temporary(folder) as part:
            sources = {p.name: fingerprint(p) for p in (old, new)}
            glyphs = kanjivg.read(new)
            counts = {
                "new": _write_new(glyphs, new, part / "kanjivg", progress),
                "old": _write_old(
                    old, {g.code_point for g in glyphs if not g.variant}, part / "kkanji", progress
                ),
            }
            manifest = {
                "version": VERSION,
                "epsilon": EPSILON,
                "sources": sources,
                "counts": counts,
            }
            (part / "manifest.json").write_text(
                json.dumps(manifest, indent=1) + "\n", encoding="utf-8"
            )
            _exchange(part, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the prepared data cannot be written ({error.strerror or error}); "
            "free space or choose another folder with --data"
        ) from None
    return folder / "prepared"


@contextmanager
def _temporary(folder: Path):
    """A temporary folder beside `prepared`. It is removed on failure; those of killed processes are
    removed first."""
    mine = f"prepared.tmp-{socket.gethostname()}-"
    for left in folder.glob(mine + "*"):
        if not process_runs(left.name.removeprefix(mine)):
            shutil.rmtree(left, ignore_errors=True)
    part = folder / f"{mine}{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    (part / ".started").touch()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _exchange(part: Path, folder: Path) -> None:
    earlier = folder / "prepared.old"
    for attempt in range(3):  # another prepare may be doing the same
        if _finished_meanwhile(part, folder / "prepared"):
            break
        shutil.rmtree(earlier, ignore_errors=True)
        try:
            if (folder / "prepared").exists():
                os.rename(folder / "prepared", earlier)
            os.rename(part, folder / "prepared")
            break
        except OSError:
            if attempt == 2:
                raise
    shutil.rmtree(earlier, ignore_errors=True)


def _finished_meanwhile(part: Path, prepared: Path) -> bool:
    """Whether another process prepared the same files after this one had started."""
    try:
        theirs, started = prepared / "manifest.json", (part / ".started").stat().st_mtime_ns
        return theirs.stat().st_mtime_ns > started and theirs.read_text("utf-8") == (
            part / "manifest.json"
        ).read_text("utf-8")
    except OSError:
        return False


def fingerprint(path: Path) -> dict:
    """sha256 and size of a file. For a folder they cover its files' names and contents in name
    order, without leftovers of file managers; what `unchanged` compares is added."""
    digest, size = hashlib.sha256(), 0
    if path.is_file():
        with open(path, "rb") as file:
            return {
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
                "bytes": path.stat().st_size,
            }
    # Before the files are read: what is put there meanwhile is noticed the next time.
    seen = {"changed": _changed(path), "listing": _listing(path)}
    for file in sorted(
        p for p in path.rglob("*") if p.is_file() and not is_leftover(p.relative_to(path))
    ):
        content = file.read_bytes()
        digest.update(
            f"{file.relative_to(path).as_posix()} {len(content)}\n".encode(
                "utf-8", "surrogateescape"
            )
            + content
        )
        size += len(content)
    return {"sha256": digest.hexdigest(), "bytes": size} | seen


def unchanged(path: Path, source: dict) -> bool:
    """Whether a published file or folder still has the sizes and names of `source`, its
    `fingerprint`.

    It looks at a folder's files only if one has come, gone or been renamed since, so that opening
    takes no time.
    """
    if path.is_file():
        return path.stat().st_size == source["bytes"]
    return source.get("changed") == _changed(path) or source.get("listing") == _listing(path)


def _changed(folder: Path) -> int:
    """When an entry of a folder or of a folder in it last came, went or was renamed, in
    nanoseconds."""
    with os.scandir(folder) as entries:
        inside = [entry.stat().st_mtime_ns for entry in entries if entry.is_dir()]
    return max([folder.stat().st_mtime_ns, *inside])


def _listing(folder: Path) -> str:
    """sha256 of the names and sizes of a folder's files and of those in its folders, without
    leftovers of file managers."""
    found = []
    for place, _, names in os.walk(folder):
        paths = [os.path.join(place, name) for name in names]
        paths = [p for p in paths if not is_leftover(PurePath(os.path.relpath(p, folder)))]
        found += [f"{os.path.relpath(path, folder)}\0{os.lstat(path).st_size}" for path in paths]
    return hashlib.sha256("\n".join(sorted(found)).encode(errors="surrogateescape")).hexdigest()


def _bar(title: str, progress: bool):
    return tqdm(
        desc=title, disable=not progress, file=sys.stderr, unit="", unit_scale=True, leave=False
    )


class _Images:
    """Writes images to an .npy file one by one, and the final shape into its header at the end."""

    def __init__(self, path: Path):
        self.path, self.count = path, 0
        self.file = open(path, "wb")
        self._header()

    def _header(self):
        # numpy leaves room in the header for a longer first axis
        np.lib.format.write_array_header_1_0(
            self.file,
            {
                "descr": "|u1",
                "fortran_order": False,
                "shape": (self.count, kkanji.SIZE, kkanji.SIZE),
            },
        )

    def add(self, image: np.ndarray):
        self.file.write(image.tobytes())
        self.count += 1

    def close(self):
        try:
            self.file.seek(0)
            self._header()
        finally:
            # On a full disk, too: Python 3.13 prints a traceback for a file that is dropped with
            # bytes to write.
            self.file.close()


def _write_old(source: Path, glyphs: set[int], out: Path, progress: bool) -> dict:
    out.mkdir(parents=True)
    code_points, names, blank = [], [], 0
    with closing(_Images(out / "images.npy")) as images, _bar("Kuzushiji-Kanji", progress) as bar:

        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)

        for code_point, name, image in kkanji.read(source, show):
            if image.min() == image.max():
                blank += 1
                continue
            images.add(image)
            code_points.append(code_point)
            names.append(name)
    if not names:
        raise DataError(f"{source}: holds no images; download it again from {kkanji.URL}")
    split = splits.assign(names, glyphs)
    code_points = np.array(code_points, np.int32)
    np.save(out / "code_points.npy", code_points)
    np.save(out / "names.npy", np.array(names))
    np.save(out / "split.npy", split)
    counts = {
        "images": len(names),
        "classes": len(np.unique(code_points)),
        "blank, dropped": blank,
        "with a glyph": int(np.isin(code_points, list(glyphs)).sum()),
    }
    for i, name in enumerate(splits.SPLITS):
        counts[name] = {
            "images": int((split == i).sum()),
            "classes": len(np.unique(code_points[split == i])),
        }
    return counts


def _write_new(glyphs: list[kanjivg.Glyph], source: Path, out: Path, progress: bool) -> dict:
    out.mkdir(parents=True)
    points, strokes = kanjivg.polylines_many(glyphs, EPSILON, where=str(source))
    bounds = np.cumsum([0] + [len(g.strokes) for g in glyphs], dtype=np.int64)
    images = np.zeros((len(glyphs), kkanji.SIZE, kkanji.SIZE), np.uint8)
    with _bar("KanjiVG", progress) as bar:
        bar.total = len(glyphs)
        for i, (first, last) in enumerate(zip(bounds, bounds[1:])):
            images[i] = rasterise(
                np.split(
                    points[strokes[first] : strokes[last]],
                    strokes[first + 1 : last] - strokes[first],
                ),
                kkanji.SIZE,
            )
            bar.update()
    np.save(out / "images.npy", images)
    np.save(out / "code_points.npy", np.array([g.code_point for g in glyphs], np.int32))
    np.save(out / "variants.npy", np.array([g.variant for g in glyphs], "U32"))
    np.save(out / "ids.npy", np.array([g.id for g in glyphs], "U48"))
    np.save(out / "points.npy", points)
    np.save(out / "strokes.npy", strokes.astype(np.int64))
    np.save(out / "glyphs.npy", bounds)
    np.save(out / "stroke_types.npy", np.array([s.type for g in glyphs for s in g.strokes]))
    np.save(out / "components.npy", _records([c for g in glyphs for c in g.components]))
    np.save(
        out / "component_bounds.npy",
        np.cumsum([0] + [len(g.components) for g in glyphs], dtype=np.int64),
    )
    standard = [g for g in glyphs if not g.variant]
    return {
        "glyphs": len(glyphs),
        "standard forms": len(standard),
        "kanji": sum(kanjivg.is_kanji(g.code_point) for g in standard),
        "strokes": len(strokes) - 1,
        "points": len(points),
    }


def _records(components: list[kanjivg.Component]) -> np.ndarray:
    """Components as records (C,) with the fields of `kanjivg.Component`: texts are as wide as
    needed, numbers are int16."""
    columns = {}
    for field in dataclasses.fields(kanjivg.Component):
        kind = np.int16 if field.type is int else field.type
        columns[field.name] = np.array([getattr(c, field.name) for c in components], kind)
    out = np.empty(len(components), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        out[name] = column
    return out
