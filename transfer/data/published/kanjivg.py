"""Turns KanjiVG (a single XML file, a zip or a folder of SVGs) into glyphs: strokes in writing
order, as polylines.

Format: https://kanjivg.tagaini.net/files.html and SVG 1.1, section 8.3 (path data). The whole of
KanjiVG uses the path commands M m C c S s only; anything else is an error here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lxml import etree

from transfer.data.curves import flatten_many, parse_path
from transfer.data.strokes import BOX, simplify_many
from transfer.system import markup
from transfer.system.errors import DataError
from transfer.system.folders import is_leftover
from transfer.system.untrusted import (
    BROKEN,
    ZIP,
    beginning,
    begins,
    is_web_page,
    opened_zip,
    unpacked,
)

_MAX_SVG = 1 << 20  # bytes; the largest published one has 40 kB
_MAX_XML = 1 << 27  # unpacked; the published zip has 53 MB, the published XML 14
_MAX_MARKUP = 4_000_000  # elements and attributes of the single file; the published one has 580,000
_MAX_STROKES = 1_000_000  # of all glyphs; the published ones have 140,000
# Box units; squares of larger numbers, and what relative ones add up to, need not be finite.
_FAR = 1e5
_TOGETHER = 1000  # glyphs; published ones have 400,000 points then
_MAX_ATTRIBUTE = 64
_NAMESPACE = "{http://kanjivg.tagaini.net}"
_STEM = re.compile(r"([0-9a-f]{5,6})(?:-([A-Za-z0-9]+))?", re.ASCII)


@dataclass(frozen=True)
class Stroke:
    path: str  # SVG path data
    type: str  # kvg:type, e.g. "㇐a"; "" where none is given


@dataclass(frozen=True)
class Component:
    """A group of a glyph: https://kanjivg.tagaini.net/svg-format.html. A field is "" if the group
    does not state it."""

    element: str  # the character that it looks like, "" for a mere grouping
    original: str  # the character that it comes from, where it looks different
    position: str  # left, right, top, bottom, tare, tarec, kamae, kamaec, nyo, nyoc
    radical: str  # general (in all dictionaries), tradit, nelson or jis; "" where it is no radical
    phon: str  # the part that tells the reading
    part: int  # of an element in several pieces the number of this piece, else 0
    variant: bool  # a variant of the element
    partial: bool  # strokes of the element are missing
    parent: int  # index of the group around it, -1 for the outermost
    first: int  # its strokes are first to last - 1 in writing order
    last: int


@dataclass(frozen=True)
class Glyph:
    code_point: int
    variant: str  # "" for the standard form, else e.g. "Kaisho"
    id: str  # "kvg:04e00" or "kvg:04e00-Kaisho"
    strokes: tuple[Stroke, ...]
    components: tuple[Component, ...] = ()  # outer groups before inner ones


HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわゐゑをんゝ"
"""The 48 hiragana without voicing marks and their iteration mark: the classes of Kuzushiji-49."""


def is_kanji(code_point: int) -> bool:
    """Whether it is a CJK ideograph (unified, extension or compatibility, and 々 〇 〻), not kana,
    Latin or punctuation."""
    return (
        0x4E00 <= code_point <= 0x9FFF
        or 0x3400 <= code_point <= 0x4DBF
        or 0xF900 <= code_point <= 0xFAFF
        or 0x20000 <= code_point <= 0x323AF
        or code_point in (0x3005, 0x3007, 0x303B)
    )


def polylines(glyph: Glyph, epsilon: float = 0.25, where: str = "") -> list[np.ndarray]:
    """The glyph's strokes as a list of (n, 2) float32, n >= 2, in box units, simplified with
    `epsilon`."""
    points, bounds = polylines_many([glyph], epsilon, where)
    return np.split(points, bounds[1:-1])


def polylines_many(
    glyphs: list[Glyph], epsilon: float = 0.25, where: str = "", tolerance: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """The strokes of all glyphs, one after another: points (P, 2) float32 and their bounds (S + 1,)
    int64.

    This is four times as fast as glyph by glyph. epsilon: as in `strokes.simplify`; tolerance: as
    in `flatten`. Raises DataError, which names file, glyph and stroke.
    """
    pieces, lengths = [np.zeros((0, 2), np.float32)], [np.zeros(1, np.int64)]
    for at in range(0, len(glyphs), _TOGETHER):
        some, before = glyphs[at : at + _TOGETHER], f"{where}: " if where else ""
        places = [
            (glyph.id, i, stroke.path)
            for glyph in some
            for i, stroke in enumerate(glyph.strokes, 1)
        ]
        curves = [parse_path(path, f"{before}{key} stroke {i}") for key, i, path in places]
        together, count = np.concatenate(curves), np.array([len(c) for c in curves])
        if not (near := np.abs(together) < _FAR).all():  # NaN included
            key, i, _ = places[
                np.searchsorted(np.cumsum(count), np.argmin(near.all((1, 2))), side="right")
            ]
            raise DataError(
                f"{before}{key} stroke {i} leads far outside the {BOX:g}x{BOX:g} box; fix the path"
            )
        points, bounds = flatten_many(together, count, tolerance, f"{before}{some[0].id} and after")
        keep = simplify_many(points, bounds, epsilon)
        pieces.append(points[keep].astype(np.float32))
        lengths.append(np.diff(np.concatenate([[0], np.cumsum(keep)])[bounds]))
    return np.concatenate(pieces), np.cumsum(np.concatenate(lengths))


def read(path, progress: Callable[[int, int], None] | None = None) -> list[Glyph]:
    """Read KanjiVG from .xml.gz, .xml, .zip or a folder of SVGs. Glyphs are sorted by code point,
    the standard form first.

    `progress(done, total)` is called now and then. Raises DataError if a file is missing, cut
    short, not XML, unsafe (entities are never expanded) or without strokes. `parse_path` parses the
    paths themselves.
    """
    path = Path(path)
    progress = progress or (lambda done, total: None)
    try:
        if path.is_dir():
            glyphs = _read_svgs(path, *_folder_members(path), progress)
        elif begins(path, ZIP) or path.suffix == ".zip" and not is_web_page(beginning(path)):
            with opened_zip(path, _MAX_XML, "this is not a KanjiVG release") as archive:
                glyphs = _read_svgs(path, *_zip_members(path, archive), progress)
        else:
            glyphs = _read_single(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; download it from https://github.com/KanjiVG/kanjivg/releases"
        ) from None
    except PermissionError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except BROKEN as error:
        raise DataError(
            f"{path}: cut short or damaged ({markup.one_line(error)}); download it again from "
            "https://github.com/KanjiVG/kanjivg/releases"
        ) from None
    if not glyphs:
        raise DataError(f"{path}: holds no KanjiVG characters; download it again")
    glyphs.sort(key=lambda g: (g.code_point, g.variant))
    for a, b in zip(glyphs, glyphs[1:]):
        if a.id == b.id:
            raise DataError(f"{path}: {a.id} appears twice; keep one")
    return glyphs


def _attribute(element, name: str, where) -> str:
    # where nobody declares the prefix, it stays part of the name
    value = element.get(_NAMESPACE + name) or element.get("kvg:" + name) or ""
    if len(value) > _MAX_ATTRIBUTE:
        raise DataError(
            f"{where}: kvg:{name} has {len(value)} characters; no more than {_MAX_ATTRIBUTE} are"
            " expected"
        )
    return value


def _contents(group, where) -> tuple[tuple[Stroke, ...], tuple[Component, ...]]:
    """The strokes in a group, and the groups inside it with the strokes that they span."""
    strokes, components, around = [], [], []
    for event, element in etree.iterwalk(group, events=("start", "end"), tag=("{*}g", "{*}path")):
        if element is group:
            continue
        if element.tag.endswith("path"):
            if event == "end":
                continue
            if element.get("d") is None:
                raise DataError(
                    f"{where}: stroke {len(strokes) + 1} has no path data (d); fix or remove it"
                )
            strokes.append(Stroke(element.get("d"), _attribute(element, "type", where)))
        elif event == "start":
            get = lambda name: _attribute(element, name, where)
            part = get("part")
            components.append(
                dict(
                    element=get("element"),
                    original=get("original"),
                    position=get("position"),
                    radical=get("radical"),
                    phon=get("phon"),
                    part=int(part) if part.isdecimal() and len(part) < 4 else 0,
                    variant=get("variant") == "true",
                    partial=get("partial") == "true",
                    parent=around[-1] if around else -1,
                    first=len(strokes),
                )
            )
            around.append(len(components) - 1)
        else:
            components[around.pop()]["last"] = len(strokes)
    if not strokes:
        raise DataError(f"{where}: has no strokes (no <path>); fix or remove it")
    return tuple(strokes), tuple(Component(**c) for c in components)


def _glyph(stem: str, group, where) -> Glyph:
    match = _STEM.fullmatch(stem)
    if not match or int(match[1], 16) > 0x10FFFF:
        raise DataError(
            f"{where}: not named by a code point such as 04e00 or 04e00-Kaisho; rename or remove it"
        )
    return Glyph(int(match[1], 16), match[2] or "", f"kvg:{stem}", *_contents(group, where))


def _read_single(path: Path) -> list[Glyph]:
    with unpacked(path) as file:
        content = bytearray()
        while chunk := file.read(_MAX_SVG):
            content += chunk
            if len(content) > _MAX_XML:
                raise DataError(
                    f"{path}: more than {_MAX_XML >> 20} MB of XML; this is not a KanjiVG release"
                )
    # An element of four bytes takes a hundred in memory.
    if content.count(b"<") + content.count(b"=") > _MAX_MARKUP:
        raise DataError(
            f"{path}: more than {_MAX_MARKUP:,} elements and attributes; this is not a KanjiVG"
            " release"
        )
    glyphs = []
    for kanji in markup.parse(bytes(content), path).iter("kanji"):
        name = kanji.get("id", "")
        glyphs.append(
            _glyph(
                name.removeprefix("kvg:kanji_"), kanji, f"{path}: {name or 'a <kanji> without id'}"
            )
        )
    return glyphs


def _folder_members(path: Path):
    files = sorted(p for p in path.iterdir() if p.suffix == ".svg" and not is_leftover(p))
    for file in files:
        if file.stat().st_size > _MAX_SVG:
            raise DataError(f"{file}: larger than {_MAX_SVG >> 20} MB; this is not a KanjiVG file")
    return [(f.name, f) for f in files], lambda f: f.read_bytes()


def _zip_members(path: Path, archive):
    members = [
        m for m in archive.infolist() if m.filename.endswith(".svg") and not is_leftover(m.filename)
    ]
    for member in members:
        if member.file_size > _MAX_SVG:
            raise DataError(
                f"{path}: {member.filename} is larger than {_MAX_SVG >> 20} MB; not a KanjiVG file"
            )
    return [(m.filename, m) for m in members], archive.read


def _read_svgs(path: Path, members, get, progress) -> list[Glyph]:
    glyphs, strokes = [], 0
    for done, (name, member) in enumerate(members):
        where = f"{path}: {name}"
        root = markup.parse(get(member), where)
        group = next(
            (g for g in root.iter("{*}g") if g.get("id", "").startswith("kvg:StrokePaths_")), root
        )
        glyphs.append(_glyph(Path(name).stem, group, where))
        strokes += len(glyphs[-1].strokes)
        if strokes > _MAX_STROKES:
            raise DataError(
                f"{where}: more than {_MAX_STROKES:,} strokes up to here; this is not a KanjiVG"
                " release"
            )
        progress(done + 1, len(members))
    return glyphs
