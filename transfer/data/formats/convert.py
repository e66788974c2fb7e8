"""Strokes between file formats: KanjiVG or any simple SVG, stroke-3 .npz, QuickDraw .ndjson.

    KanjiVG  .xml.gz .xml .zip, a folder of SVGs read
    SVG      .svg .svgz .zip, a folder           read and written (.svgz not), as KanjiVG's
    stroke-3 .npz                                read and written (see sketch_npz)
    QuickDraw .ndjson                            read (raw and simplified) and written (simplified)

In between, every drawing is a list of strokes in the 109x109 box, so that it keeps its place
whatever the format.
"""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from transfer.data.formats import quickdraw, sketch_npz, svg
from transfer.data.published import kanjivg
from transfer.data.strokes import from_stroke3, simplify, to_stroke3
from transfer.system.entry import ESCAPED
from transfer.system.errors import DataError
from transfer.system.folders import is_leftover
from transfer.system.untrusted import BROKEN, opened_zip, unpacked

# Box units: with flattening (0.01) and int16 rounding (0.08) less than 0.25 from the curve.
EPSILON = 0.15
INT_SCALE = 9.0  # box units become at most 981: Sketch-RNN programs cut movements off at 1000
SPLIT = (0.9, 0.05, 0.05)
_MAX_ZIP = 1 << 28  # bytes, unpacked
_DEVICE = re.compile(
    r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE
)  # no file can be called so on Windows


@dataclass(frozen=True)
class Drawing:
    strokes: list[np.ndarray]  # (n, 2) float32, n >= 2, box units, writing order
    word: str = ""  # the character, or what the drawing shows
    key: str = (
        ""  # its name in the source: "04e00", "04e00-Kaisho", a QuickDraw key_id, a file's stem
    )
    split: str = ""  # "train", "valid", "test", or "" where the source has none


def read(
    path,
    epsilon: float | None = None,
    scale: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Drawing]:
    """Read all drawings of a file or folder, whose name tells the format.

    epsilon: simplify strokes (box units); None simplifies curves by EPSILON and leaves polylines as
    they are.
    scale: file units to one box unit, for .npz and .ndjson. None takes what the file says;
    QuickDraw's simplified drawings have 255 units to the box's 109. Drawings without any scale (raw
    QuickDraw, other .npz) are each fitted into the box.
    say: called with a line on what was left out.

    Raises DataError.
    """
    path = Path(path)
    kind = _kind(path)
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise DataError(f"--input-scale {scale}: give a number above 0")
    if scale is not None and kind not in ("npz", "ndjson"):
        raise DataError(
            f"{path}: --input-scale is for .npz and .ndjson; an SVG's page gives its scale"
        )
    try:
        if kind == "npz":
            drawings = _read_npz(path, scale)
        elif kind == "ndjson":
            drawings = _read_ndjson(path, scale, say)
        elif kind == "xml":
            drawings = _of_glyphs(kanjivg.read(path), path, epsilon)
        else:
            drawings = [
                _of_svg(content, name, where, epsilon) for name, content, where in _svgs(path)
            ]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file or folder") from None
    except BROKEN as error:
        raise DataError(
            f"{path}: cannot be read, or damaged ({_line(error)}); fetch it again"
        ) from None
    if not drawings:
        raise DataError(f"{path}: holds no drawings")
    if epsilon is not None and kind in ("npz", "ndjson"):
        return [replace(d, strokes=[simplify(s, epsilon) for s in d.strokes]) for d in drawings]
    return drawings


def write(
    path,
    drawings: list[Drawing],
    scale: float | None = None,
    dtype: str = "float32",
    layout: str = "sketch-rnn",
    split: tuple[float, float, float] | None = None,
    seed: int = 0,
) -> None:
    """Write drawings to a file or folder, whose name tells the format; whole or not at all.

    scale: file units to one box unit, for .npz (1, or INT_SCALE with int16) and .ndjson (255/109).
    dtype "int16" writes whole numbers: no point moves by more than 0.71 / scale box units (0.08 for
    .npz, 0.30 for .ndjson). Otherwise .npz has float32 and .ndjson two decimals. layout: see
    sketch_npz. split: shares of train, valid and test, drawn with `seed`. None keeps the drawings'
    own split, or draws SPLIT if they have none. Raises DataError.
    """
    path = Path(path)
    kind = _kind(path, writing=True)
    if kind in ("svg", "zip", "folder"):
        if scale is not None or dtype != "float32":
            raise DataError(
                f"{path}: --scale and --dtype are for .npz and .ndjson; an SVG's page is 109x109"
            )
    integers = dtype == "int16"
    if scale is None:
        scale = {"npz": INT_SCALE if integers else 1.0, "ndjson": quickdraw.UNITS}.get(kind, 1.0)
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"--scale {scale}: give a number above 0")
    if kind == "npz":
        rows = [_stroke3(d, scale, integers) for d in drawings]
        splits = split_of(drawings, split, seed)
        content = sketch_npz.Set(
            rows, splits, [d.word for d in drawings], [d.key for d in drawings], scale
        )
        with _replacing(path) as part, open(part, "wb") as file:
            sketch_npz.write(file, content, layout)
    elif kind == "ndjson":
        with _replacing(path) as part, open(part, "w", encoding="utf-8", errors=ESCAPED) as file:
            for d in drawings:
                strokes = [np.asarray(s, np.float64) * scale for s in d.strokes]
                file.write(quickdraw.line(d.word, d.key, strokes, None if integers else 2))
    elif kind == "svg":
        if len(drawings) != 1:
            raise DataError(
                f"{path}: one SVG holds one drawing, but there are {len(drawings):,}; "
                "name a folder or a .zip instead"
            )
        with _replacing(path) as part:
            part.write_text(_svg_text(drawings[0]), encoding="utf-8")
    elif kind == "zip":
        with _replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
            for name, drawing in zip(file_names(drawings), drawings):
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                archive.writestr(info, _svg_text(drawing), zipfile.ZIP_DEFLATED)
    else:
        with _replacing(path) as part:
            part.mkdir()
            for name, drawing in zip(file_names(drawings), drawings):
                (part / name).write_text(_svg_text(drawing), encoding="utf-8")


def convert(
    source,
    target,
    epsilon: float | None = None,
    input_scale: float | None = None,
    say: Callable[[str], None] = lambda text: None,
    **options,
) -> int:
    """Read `source` and write `target`. `say` is as in `read`, the options are as in `write`.
    Returns the number of drawings. Raises DataError."""
    _kind(Path(target), writing=True)  # before the work
    drawings = read(source, epsilon, input_scale, say)
    write(target, drawings, **options)
    return len(drawings)


def split_of(drawings: list[Drawing], shares=None, seed: int = 0) -> list[str]:
    """The split of each drawing: its own, or a random one with `shares` of train, valid and test
    (which add up to 1)."""
    if shares is None and all(d.split for d in drawings):
        return [d.split for d in drawings]
    shares = np.asarray(SPLIT if shares is None else shares, np.float64)
    if (
        shares.shape != (3,)
        or not np.isfinite(shares).all()
        or (shares < 0).any()
        or abs(shares.sum() - 1) > 1e-6
    ):
        raise DataError(
            f"--split {','.join(map(str, shares))}: give three shares that add up to 1, such as "
            "0.9,0.05,0.05"
        )
    bounds = np.rint(np.cumsum(shares) * len(drawings)).astype(int)
    order = np.random.default_rng(seed).permutation(len(drawings))
    number = np.searchsorted(bounds, np.argsort(order), side="right")
    return [sketch_npz.SPLITS[min(n, 2)] for n in number]


def file_names(drawings: list[Drawing]) -> list[str]:
    """A name for the SVG of each drawing: its key, else its character's code point, else its
    number; all different."""
    names, used = [], set()
    for number, d in enumerate(drawings):
        stem = (
            d.key
            or (f"{ord(d.word):05x}" if len(d.word) == 1 else d.word)
            or f"drawing{number:06d}"
        )
        stem = re.sub(r"[^\w-]+", "_", stem)[:80]
        name, copy = f"{stem}_" if _DEVICE.fullmatch(stem) else stem, 1
        while name.lower() in used:  # some file systems hold a and A for one
            copy += 1
            name = f"{stem}-{copy}"
        used.add(name.lower())
        names.append(f"{name}.svg")
    return names


def _kind(path: Path, writing: bool = False) -> str:
    name = path.name.lower()
    if path.is_dir() or writing and not path.suffix:
        return "folder"
    for kind, endings in (
        ("npz", ".npz"),
        ("ndjson", ".ndjson"),
        ("svg", (".svg", ".svgz")),
        ("zip", ".zip"),
        ("xml", (".xml", ".xml.gz")),
    ):
        if name.endswith(endings) and not (writing and (kind == "xml" or name.endswith(".svgz"))):
            return kind
    if not writing and not path.exists():
        raise DataError(f"{path}: no such file or folder")
    known = ".svg, .zip, .npz, .ndjson or a folder"
    raise DataError(
        f"{path}: format not known by its name; give "
        f"{known if writing else '.xml.gz, .svgz, ' + known}"
    )


def _read_npz(path: Path, scale: float | None) -> list[Drawing]:
    content = sketch_npz.read(path)
    scale = scale or content.scale
    drawings = []
    for number, (rows, split, word, key) in enumerate(
        zip(content.rows, content.splits, content.words, content.keys)
    ):
        try:
            rows = np.array(rows, np.float64)
            rows[:, :2] /= scale or 1.0
            with np.errstate(over="ignore"):
                strokes = from_stroke3(rows)
        except DataError as error:
            raise DataError(f"{path}: drawing {number}: {error}") from None
        strokes = strokes if scale else svg.fit_to_box(strokes)
        drawings.append(Drawing(_sound(strokes, f"{path}: drawing {number}"), word, key, split))
    return drawings


def _read_ndjson(path: Path, scale: float | None, say: Callable[[str], None]) -> list[Drawing]:
    drawings = []
    with open(path, "rb") as file:
        for number, (word, key, strokes, is_raw) in enumerate(quickdraw.read(file, path, say), 1):
            if is_raw and not scale:
                strokes = svg.fit_to_box(strokes)
            else:
                strokes = [s / (scale or quickdraw.UNITS) for s in strokes]
            drawings.append(Drawing(_sound(strokes, f"{path}: drawing {number}"), word, key))
    return drawings


def _sound(strokes, where: str) -> list[np.ndarray]:
    with np.errstate(over="ignore"):
        strokes = [np.asarray(s, np.float32) for s in strokes]
    if not all(np.isfinite(s).all() for s in strokes):
        raise DataError(f"{where}: coordinates too large; fix or remove it")
    return strokes


def _of_glyphs(glyphs: list[kanjivg.Glyph], path, epsilon: float | None) -> list[Drawing]:
    points, bounds = kanjivg.polylines_many(
        glyphs, EPSILON if epsilon is None else epsilon, str(path), svg.TOLERANCE
    )
    strokes = iter(np.split(points, bounds[1:-1]))
    return [
        Drawing(
            [next(strokes) for _ in glyph.strokes],
            chr(glyph.code_point),
            glyph.id.removeprefix("kvg:"),
        )
        for glyph in glyphs
    ]


def _of_svg(content: bytes, name: str, where: str, epsilon: float | None) -> Drawing:
    picture = svg.read(content, where)
    # Polylines as this module writes them are done with: simplified again after rounding, errors
    # would add up.
    strokes = [
        simplify(s, epsilon if epsilon is not None else EPSILON if curved else 0.0)
        for s, curved in zip(picture.strokes, picture.curved)
    ]
    return Drawing(strokes, picture.word, Path(name).stem)


def _svgs(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """(name, content, name in error lines) of a single SVG, or of each in a folder or zip, sorted
    by stem."""
    if path.is_dir():
        for file in sorted(
            (
                f
                for f in path.iterdir()
                if f.suffix.lower() in (".svg", ".svgz") and not is_leftover(f)
            ),
            key=lambda f: f.stem,
        ):
            yield file.name, _bounded(file), str(file)
    elif path.suffix.lower() in (".svg", ".svgz"):
        yield path.name, _bounded(path), str(path)
    else:
        with opened_zip(path, _MAX_ZIP, "split it") as archive:
            for member in sorted(archive.infolist(), key=lambda m: m.filename[:-4]):
                name = Path(member.filename).name
                if not name.lower().endswith(".svg") or is_leftover(member.filename):
                    continue
                if member.file_size > svg.MAX_BYTES:
                    raise DataError(
                        f"{path}: {member.filename}: larger than {svg.MAX_BYTES >> 20} MB;"
                        " simplify it"
                    )
                yield name, archive.read(member), f"{path}: {member.filename}"


def _bounded(file: Path) -> bytes:
    with unpacked(file) as opened:
        return opened.read(svg.MAX_BYTES + 1)


def _stroke3(drawing: Drawing, scale: float, integers: bool) -> np.ndarray:
    strokes = [np.asarray(s, np.float64) * scale for s in drawing.strokes]
    if not integers:
        return to_stroke3(strokes)
    rows = to_stroke3(
        [np.rint(s) for s in strokes]
    )  # positions are rounded, not movements: errors do not add up
    if len(rows) and np.abs(rows).max() > 32767:
        raise DataError(
            f"drawing {drawing.key or drawing.word!r} does not fit int16 at scale {scale:g}; lower"
            " --scale"
        )
    return rows.astype(np.int16)


def _svg_text(drawing: Drawing) -> str:
    return svg.to_svg(drawing.strokes, drawing.word, drawing.key)


@contextmanager
def _replacing(path: Path):
    """A temporary sibling of `path` to write to. At the end it takes the place of `path`; if
    anything fails, it is removed."""
    if path.is_dir() and any(path.iterdir()):
        raise DataError(f"{path}: is a folder with files in it; name a new one")
    try:
        room = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({_line(error)}); choose another place"
        ) from None
    try:
        yield room / "part"
        os.replace(room / "part", path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({_line(error)}); choose another place"
        ) from None
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _line(error) -> str:
    return " ".join(
        str(error.strerror if isinstance(error, OSError) and error.strerror else error).split()
    )[:150]
