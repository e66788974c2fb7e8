"""Turns an SVG file, KanjiVG's or anybody's, into strokes (polylines in the 109x109 box), and
strokes into an SVG.

It reads path (all commands), line, polyline, polygon, rect, circle and ellipse, under g, a, switch,
use, symbol and nested svg with their transforms and view boxes, in document order. Every subpath is
a stroke, and a filled shape gives its outline. It ignores text, images, clipping, style sheets and
whatever has display none. svgpathtools parses path data, arcs and transforms. Formats: SVG 1.1
(second edition), sections 5, 7, 8 and 9.
"""

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from lxml import etree

from transfer.data.curves import flatten
from transfer.data.formats.svg_shapes import SHAPES, Shapes
from transfer.data.formats.variants import variant
from transfer.data.strokes import BOX
from transfer.system import markup
from transfer.system.errors import DataError

TOLERANCE = 0.01  # box units, of flattened curves
MARGIN = 3.0  # box units round a drawing that says nothing of its page
MAX_BYTES = 4 << 20
_MAX_DEPTH, _MAX_ELEMENTS, _MAX_CURVES, _MAX_POINTS, _FAR = 250, 50_000, 200_000, 2_000_000, 1e5
_HREF = "{http://www.w3.org/1999/xlink}href"
_CLIP = re.compile(r"url\(\s*['\"]?#([^'\")\s]+)")
_GROUPS = ("g", "a", "switch")
_STEM = re.compile(r"kvg:StrokePaths_([0-9a-f]{5,6})(?:-\w+)?", re.ASCII)


@dataclass(frozen=True)
class Picture:
    strokes: list[
        np.ndarray
    ]  # (n, 2) float64, n >= 2, box units, within TOLERANCE of the curves, writing order
    curved: list[bool]  # whether a stroke has curves; False: its points are the file's own
    word: str  # the character of a KanjiVG file, else its <title>, else ""


def read(content: bytes, where="SVG") -> Picture:
    """The strokes of one SVG file. Its page (view box, else width and height) is scaled into the
    box with its aspect ratio kept.

    A file with KanjiVG's structure gives only its StrokePaths, with unchanged coordinates (its page
    is 109x109). Some files draw each stroke as an outline that clips the stroke's middle line
    (animCJK, Make Me a Hanzi); they give the middle lines. A file without a page size is scaled by
    its own extent, with MARGIN around it. `where` names the file in errors. Raises DataError if the
    file is not SVG, declares entities, refers to other files, is too large or nested too deeply,
    has an unknown command or a malformed or infinite number, or draws nothing.
    """
    if len(content) > MAX_BYTES:
        raise DataError(f"{where}: larger than {MAX_BYTES >> 20} MB; simplify the drawing")
    root = parse(content, where)
    drawing = _Drawing(root, where)
    drawing.medians()
    group = next(
        (g for g in root.iter("{*}g") if g.get("id", "").startswith("kvg:StrokePaths_")), None
    )
    viewport, page = drawing.page(group is not None)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arcs without radius are lines, as the standard has them
        for outer in reversed([] if group is None else list(group.iterancestors())[:-1]):
            page = drawing.transformed(outer, page)
        drawing.children(root if group is None else group, page, viewport, 1)
    if not drawing.curves:
        raise DataError(
            f"{where}: draws nothing; lines and shapes have strokes, text and images do not"
        )
    if viewport is None:
        drawing.curves = fit_to_box(drawing.curves)
    strokes, points = [], 0
    for curves in drawing.curves:
        if not (np.abs(curves) < _FAR).all():  # NaN included
            raise DataError(
                f"{where}: a coordinate is not finite or lies far outside the page; fix the file"
            )
        strokes.append(flatten(curves, TOLERANCE, where))
        points += len(strokes[-1])
        if points > _MAX_POINTS:
            raise DataError(f"{where}: more than {_MAX_POINTS:,} points; simplify the drawing")
    curved = [len(s) != len(c) + 1 for s, c in zip(strokes, drawing.curves)]
    return Picture(strokes, curved, _word(root, group))


def fit_to_box(arrays: list[np.ndarray], margin: float = MARGIN) -> list[np.ndarray]:
    """Arrays (…, 2) of points, float64, scaled together with their aspect ratio kept and centred in
    the box with `margin` around them."""
    if not arrays:
        return []
    points = np.concatenate([np.asarray(a, np.float64).reshape(-1, 2) for a in arrays])
    low, high = points.min(0), points.max(0)
    extent = (high - low).max()
    scale = (BOX - 2 * margin) / extent if extent > 0 else 1.0
    return [(np.asarray(a, np.float64) - (low + high) / 2) * scale + BOX / 2 for a in arrays]


def to_svg(strokes, word: str = "", key: str = "") -> str:
    """SVG text with KanjiVG's structure, one path for each stroke. strokes: a list of (n, 2), n >=
    2, in box units.

    A `word` of one character becomes kvg:element and the ids; any other becomes a <title>. `key`
    gives the ids of a glyph of KanjiVG ("04e00", "04e00-Kaisho"); if there is none for this
    character, `variant` tells drawings apart. Coordinates have three decimals. Lines are written as
    M and C, because readers of KanjiVG do not know L.
    """
    paths = [_path_data(np.asarray(stroke, np.float64)) for stroke in strokes]
    stem = f"{ord(word):05x}" if len(word) == 1 else ""
    if not stem:
        key = ""
    elif not re.fullmatch(rf"{stem}(-\w+)?", key, re.ASCII):
        key = f"{stem}-{variant(paths)}"
    word = "".join(c for c in word if c.isprintable())
    kvg = "http://kanjivg.tagaini.net"
    root = etree.Element(
        "svg",
        nsmap={None: "http://www.w3.org/2000/svg", "kvg": kvg},
        width="109",
        height="109",
        viewBox="0 0 109 109",
    )
    if word and not key:
        etree.SubElement(root, "title").text = word
    style = "fill:none;stroke:#000000;stroke-width:3;stroke-linecap:round;stroke-linejoin:round;"
    outer = etree.SubElement(root, "g", style=style)
    group = etree.SubElement(outer, "g") if key else outer
    if key:
        outer.set("id", f"kvg:StrokePaths_{key}")
        group.set("id", f"kvg:{key}")
        if word:
            group.set(f"{{{kvg}}}element", word)
    for number, data in enumerate(paths, 1):
        path = etree.SubElement(group, "path", d=data)
        if key:
            path.set("id", f"kvg:{key}-s{number}")
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def parse(content: bytes, where) -> etree._Element:
    """The root <svg> of a file. Nothing is fetched and no entity is expanded. Raises DataError as
    `read` does."""
    root = markup.parse(content, where, "save it again as plain SVG", encoding=None)
    if etree.QName(root).localname != "svg":
        raise DataError(
            f"{where}: its root is <{etree.QName(root).localname}>, not <svg>; give an SVG file"
        )
    return root


def _word(root, group) -> str:
    if (
        group is not None
        and (match := _STEM.fullmatch(group.get("id")))
        and 0 < int(match[1], 16) <= 0x10FFFF
    ):
        return chr(int(match[1], 16))
    title = next((e for e in root if e.tag in ("title", "{http://www.w3.org/2000/svg}title")), None)
    return "" if title is None else " ".join("".join(title.itertext()).split())


def _path_data(points) -> str:
    text = [f"M{points[0, 0] + 0:.3f},{points[0, 1] + 0:.3f}"]
    for a, b in zip(points, points[1:]):
        text.append(
            "C" + " ".join(f"{x:.3f},{y:.3f}" for x, y in (a + (b - a) / 3, b - (b - a) / 3, b))
        )
    return "".join(text)


class _Drawing(Shapes):
    """A walk through the elements of one file that gathers `curves`: a (n, 4, 2) array of cubics
    for each stroke."""

    def __init__(self, root, where):
        super().__init__(where)
        self.root, self.curves = root, []
        self.elements = self.count = self.characters = 0
        self.ids = {e.get("id"): e for e in root.iter(etree.Element) if e.get("id")}
        self.only: set | None = None  # elements that are strokes, where not all shapes are

    def medians(self) -> None:
        """If shapes are clipped by outlines that are drawn too, only the clipped shapes are
        strokes."""
        drawn = {
            e: "".join((e.get("d") or "").split())
            for e in self.root.iter("{*}path")
            if not any(etree.QName(a).localname == "clipPath" for a in e.iterancestors())
        }
        clipped = {
            e: self.ids.get(match[1])
            for e in drawn
            if (match := _CLIP.search(f"{e.get('clip-path') or ''};{e.get('style') or ''}"))
        }
        outlines = {d for e, d in drawn.items() if d and e not in clipped}
        found = {
            e
            for e, clip in clipped.items()
            if clip is not None and any(d in outlines for d in self.clips(clip))
        }
        if found and len(found) == len(clipped):
            self.only = found

    def clips(self, clip) -> Iterator[str]:
        """Path data of a clipPath's paths, its own or those that it uses."""
        for child in clip.iterchildren(etree.Element):
            if etree.QName(child).localname == "use":
                child = self.ids.get(
                    (child.get("href") or child.get(_HREF) or "").strip().removeprefix("#")
                )
            if child is not None and child.get("d"):
                yield "".join(child.get("d").split())

    def view_box(self, element) -> list[float] | None:
        text = element.get("viewBox")
        if text is None:
            return None
        values = self.numbers(text, "viewBox")
        if len(values) != 4 or min(values[2:]) <= 0:
            self.fail(
                f"viewBox {text[:40]!r} is not four numbers with a width and height above 0; fix"
                " the file"
            )
        return values

    def page(self, is_kanjivg: bool) -> tuple[tuple[float, float] | None, np.ndarray]:
        """The root's viewport in its own units (None if it states no size), and the matrix into the
        box."""
        box = self.view_box(self.root)
        width, height = (
            (
                None
                if (self.root.get(n) or "").strip().endswith("%")
                else self.length(self.root, n, missing=None)
            )
            for n in ("width", "height")
        )
        if box:
            width = (
                width
                if width is not None
                else box[2]
                if height is None
                else height * box[2] / box[3]
            )
            height = height if height is not None else width * box[3] / box[2]
        elif width is None or height is None:
            return ((BOX, BOX) if is_kanjivg else None), np.eye(3)
        if width <= 0 or height <= 0:
            self.fail("its width or height is not above 0; fix the file")
        outer = _place([0, 0, width, height], 0, 0, BOX, BOX)
        if not box:
            return (width, height), outer
        return tuple(box[2:]), outer @ _place(
            box, 0, 0, width, height, self.root.get("preserveAspectRatio", "")
        )

    def children(self, element, matrix, viewport, depth: int) -> None:
        if depth > _MAX_DEPTH:
            self.fail(
                f"elements nested deeper than {_MAX_DEPTH}, or a <use> that uses itself; flatten"
                " the groups"
            )
        if element is not self.root:
            matrix = self.transformed(element, matrix)
        for child in element.iterchildren(etree.Element):
            self.draw(child, matrix, viewport, depth + 1)

    def transformed(self, element, matrix):
        text = element.get("transform")
        if not text:
            return matrix
        from svgpathtools.parser import (
            parse_transform,
        )  # with scipy behind it: only those who need it wait

        try:
            return matrix @ parse_transform(text, strict=True)
        except (ValueError, TypeError) as error:
            self.fail(
                f"transform {text[:40]!r} cannot be read ({markup.one_line(error)}); fix the file"
            )

    def draw(self, element, matrix, viewport, depth: int) -> None:
        self.elements += 1
        if self.elements > _MAX_ELEMENTS:
            self.fail(
                f"more than {_MAX_ELEMENTS:,} elements, each <use> counted; simplify the drawing"
            )
        self.characters += sum(map(len, element.values()))
        if self.characters > MAX_BYTES:
            self.fail(
                f"more than {MAX_BYTES >> 20} MB of attributes, each <use> counted; simplify the"
                " drawing"
            )
        style = (element.get("style") or "").replace(" ", "")
        if element.get("display") == "none" or "display:none" in style:
            return
        if element.get("visibility") == "hidden" or "visibility:hidden" in style:
            return
        name = etree.QName(element).localname
        if name in _GROUPS:
            self.children(element, matrix, viewport, depth)
        elif name == "svg":
            self.nested(element, element, self.transformed(element, matrix), viewport, depth)
        elif name == "use":
            self.use(element, self.transformed(element, matrix), viewport, depth)
        elif name in SHAPES and (self.only is None or element in self.only):
            for curves in SHAPES[name](self, element, viewport or (math.nan, math.nan)):
                self.count += len(curves)
                if self.count > _MAX_CURVES:
                    self.fail(f"more than {_MAX_CURVES:,} curves; simplify the drawing")
                full = self.transformed(element, matrix)
                self.curves.append(curves @ full[:2, :2].T + full[:2, 2])

    def nested(self, element, sizes, matrix, viewport, depth: int) -> None:
        """An inner <svg> or <symbol>. `sizes` gives its place and size: it is the element itself,
        or the <use> that shows it."""
        across, down = viewport or (math.nan, math.nan)
        x, y = self.length(element, "x", across), self.length(element, "y", down)
        width = self.length(sizes, "width", across, self.length(element, "width", across, across))
        height = self.length(sizes, "height", down, self.length(element, "height", down, down))
        if box := self.view_box(element):
            if viewport is None and not (math.isfinite(width) and math.isfinite(height)):
                width, height = box[2:]
            if width <= 0 or height <= 0:
                return
            matrix = matrix @ _place(
                box, x, y, width, height, element.get("preserveAspectRatio", "")
            )
            viewport = tuple(box[2:])
        else:
            matrix = matrix @ _move(x, y)
            viewport = (width, height) if math.isfinite(width) and math.isfinite(height) else None
        for child in element.iterchildren(etree.Element):
            self.draw(child, matrix, viewport, depth + 1)

    def use(self, element, matrix, viewport, depth: int) -> None:
        link = (element.get("href") or element.get(_HREF) or "").strip()
        if not link.startswith("#"):
            self.fail(
                f"<use> refers to {link[:60]!r}; only elements of the same file (#id) can be used"
            )
        target = self.ids.get(link[1:])
        if target is None:
            self.fail(f"<use> refers to {link[:60]!r}, which is not in the file; fix the file")
        if depth > _MAX_DEPTH:
            self.fail(
                f"elements nested deeper than {_MAX_DEPTH}, or a <use> that uses itself; flatten"
                " the groups"
            )
        across, down = viewport or (math.nan, math.nan)
        matrix = matrix @ _move(self.length(element, "x", across), self.length(element, "y", down))
        if etree.QName(target).localname in ("symbol", "svg"):
            self.nested(target, element, self.transformed(target, matrix), viewport, depth + 1)
        else:
            self.draw(target, matrix, viewport, depth + 1)


def _move(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _place(box, x: float, y: float, width: float, height: float, aspect: str = "") -> np.ndarray:
    """The matrix that fits a view box (x, y, width, height) into a rectangle; aspect:
    preserveAspectRatio (SVG 7.8)."""
    sx, sy = width / box[2], height / box[3]
    words = aspect.split()
    align = words[0] if words else "xMidYMid"
    if align != "none":
        sx = sy = max(sx, sy) if "slice" in words[1:] else min(sx, sy)
    share = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
    right, below = share.get(align[1:4], 0.5), share.get(align[5:8], 0.5)
    tx = x - box[0] * sx + (right * (width - box[2] * sx) if align != "none" else 0)
    ty = y - box[1] * sy + (below * (height - box[3] * sy) if align != "none" else 0)
    return np.array([[sx, 0, tx], [0, sy, ty], [0, 0, 1]])
