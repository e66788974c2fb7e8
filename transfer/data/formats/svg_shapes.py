"""Turns the shapes of SVG, with the lengths and numbers of their attributes, into cubic Béziers."""

import math
import re

import numpy as np
from lxml import etree

from transfer.data.curves import parse_path as parse_plain_path
from transfer.system import markup
from transfer.system.errors import DataError

_MAX_PARTS = 50_000  # numbers and letters of path data that takes the library to read: a second
# Possessive: what fits nowhere must not be tried in all ways.
_NUMBER = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?", re.ASCII)
_LENGTH = re.compile(rf"\s*+({_NUMBER.pattern})\s*+(px|pt|pc|mm|cm|in|%)?+\s*+", re.ASCII)
_UNITS = {None: 1, "px": 1, "pt": 96 / 72, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96}


class Shapes:
    """What the shapes of one file draw. There is a method for each kind of shape: it takes an
    element and the viewport (width, height) and returns a list of (n, 4, 2) cubics in the element's
    own units."""

    def __init__(self, where):
        self.where = where
        self.parts = 0  # of path data that the library read, in the whole file

    def fail(self, text: str):
        raise DataError(f"{self.where}: {text}")

    def length(
        self, element, name: str, side: float = math.nan, missing: float | None = 0.0
    ) -> float | None:
        """An attribute in user units. Percentages are of `side`, a side of the page."""
        text = element.get(name)
        if text is None or text.strip() in ("", "auto"):
            return missing
        match = _LENGTH.fullmatch(text)
        value = math.nan
        if match:
            value = float(match[1]) * (side / 100 if match[2] == "%" else _UNITS[match[2]])
        if not math.isfinite(value):
            self.fail(
                f"{name}={text[:40]!r} of <{etree.QName(element).localname}> is not a finite "
                "length; fix the file"
            )
        return value

    def numbers(self, text: str, what: str) -> list[float]:
        values = [float(n) for n in _NUMBER.findall(text)]
        if re.sub(r"[\s,]+", "", _NUMBER.sub("", text)) or not all(map(math.isfinite, values)):
            self.fail(
                f"{what} {text[:40]!r} holds something that is not a finite number; fix the file"
            )
        return values

    def path(self, element, viewport) -> list[np.ndarray]:
        return self.subpaths(element.get("d") or "")

    def subpaths(self, d: str) -> list[np.ndarray]:
        try:
            return [parse_plain_path(d)]  # most strokes; strict, and many times quicker
        except DataError:
            pass
        left, numbers = _NUMBER.subn("", d)
        self.parts += numbers + len(re.sub(r"[\s,]+", "", left))
        if self.parts > _MAX_PARTS:
            self.fail(
                f"more than {_MAX_PARTS:,} numbers and letters of path data besides plain M, C and"
                " S; simplify the drawing"
            )
        if odd := re.search(r"[^\s,MmZzLlHhVvCcSsQqTtAa]", left):
            self.fail(
                f"path data holds {odd[0]!r}, which is neither a path command nor a number; "
                "fix the file"
            )
        d = re.sub(r"(\d)\.(?!\d)", r"\1", d.strip())  # the library does not know "1.e3"
        if d and d[0] not in "Mm":
            self.fail(f"path data starts with {d[:10]!r}; it must start with M")
        from svgpathtools import parse_path

        strokes, position, start = [], 0j, 0j
        for piece in re.split(
            r"(?=[Mm])|(?<=[Zz])", d
        ):  # the library itself joins subpaths that touch
            if not piece.strip(" \t\r\n\f,"):
                continue
            if moved := re.match(
                rf"([Mm])[\s,]*({_NUMBER.pattern})[\s,]*({_NUMBER.pattern})", piece
            ):
                start = complex(float(moved[2]), float(moved[3])) + (
                    position if moved[1] == "m" else 0
                )
            elif piece.lstrip()[0] in "Mm":
                self.fail(f"path data {piece[:20]!r}: M takes two numbers; fix the file")
            else:
                piece = f"M{start.real!r},{start.imag!r}{piece}"
            try:
                segments = list(parse_path(piece, position))
                curves = [c for segment in segments for c in _cubics(segment)]
            except (ValueError, IndexError, TypeError, AssertionError, ArithmeticError) as error:
                self.fail(
                    f"path data {piece[:20]!r}… cannot be read ({markup.one_line(error)[:80]});"
                    " fix the file"
                )
            position = segments[-1].end if segments else start
            if piece.rstrip()[-1] in "Zz":
                position = start
            if curves:
                strokes.append(np.stack([np.real(curves), np.imag(curves)], -1).astype(np.float64))
        return strokes

    def line(self, element, viewport) -> list[np.ndarray]:
        x1, x2 = (self.length(element, n, viewport[0]) for n in ("x1", "x2"))
        y1, y2 = (self.length(element, n, viewport[1]) for n in ("y1", "y2"))
        return [_lines([(x1, y1), (x2, y2)])]

    def polyline(self, element, viewport, closed=False) -> list[np.ndarray]:
        values = self.numbers(element.get("points") or "", "points")
        if len(values) % 2:
            self.fail("points of a polyline or polygon are not pairs; fix the file")
        points = list(zip(values[::2], values[1::2]))
        return [_lines(points + points[:closed])] if len(points) > 1 else []

    def polygon(self, element, viewport) -> list[np.ndarray]:
        return self.polyline(element, viewport, closed=True)

    def rect(self, element, viewport) -> list[np.ndarray]:
        x, y = self.length(element, "x", viewport[0]), self.length(element, "y", viewport[1])
        w, h = (
            self.length(element, "width", viewport[0]),
            self.length(element, "height", viewport[1]),
        )
        rx, ry = (
            self.length(element, n, side, None)
            for n, side in (("rx", viewport[0]), ("ry", viewport[1]))
        )
        rx, ry = (rx if rx is not None else ry or 0.0), (ry if ry is not None else rx or 0.0)
        if w <= 0 or h <= 0:
            return []  # as the standard has it
        rx, ry = min(rx, w / 2), min(ry, h / 2)
        if rx <= 0 or ry <= 0:
            return [_lines([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)])]
        arc = f"A{rx!r},{ry!r} 0 0 1 "
        d = (
            f"M{x + rx!r},{y!r}L{x + w - rx!r},{y!r}{arc}{x + w!r},{y + ry!r}"
            f"L{x + w!r},{y + h - ry!r}{arc}{x + w - rx!r},{y + h!r}"
            f"L{x + rx!r},{y + h!r}{arc}{x!r},{y + h - ry!r}L{x!r},{y + ry!r}"
            f"{arc}{x + rx!r},{y!r}"
        )
        return self.subpaths(d)

    def ellipse(self, element, viewport) -> list[np.ndarray]:
        cx, cy = self.length(element, "cx", viewport[0]), self.length(element, "cy", viewport[1])
        if etree.QName(element).localname == "circle":
            rx = ry = self.length(element, "r", math.hypot(*viewport) / math.sqrt(2))
        else:
            rx, ry = (
                self.length(element, "rx", viewport[0]),
                self.length(element, "ry", viewport[1]),
            )
        if rx <= 0 or ry <= 0:
            return []
        turn = np.arange(0, 2 * np.pi, np.pi / 4)
        quarters = [_arc(complex(rx, ry), 0.0, t, np.pi / 4) + complex(cx, cy) for t in turn]
        return [np.stack([np.real(quarters), np.imag(quarters)], -1)]


SHAPES = {
    "path": Shapes.path,
    "line": Shapes.line,
    "polyline": Shapes.polyline,
    "polygon": Shapes.polygon,
    "rect": Shapes.rect,
    "circle": Shapes.ellipse,
    "ellipse": Shapes.ellipse,
}


def _lines(points) -> np.ndarray:
    """Straight cubics (n, 4, 2) through points."""
    points = np.asarray(points, np.float64)
    a, b = points[:-1, None], points[1:, None]
    return a + (b - a) * np.array([0, 1 / 3, 2 / 3, 1])[:, None]


def _arc(radius: complex, rotation: float, start: float, turn: float) -> np.ndarray:
    """An arc of an ellipse around 0, at most an eighth of it, as one cubic (4,) complex; angles in
    radians."""
    kappa = 4 / 3 * math.tan(turn / 4)
    angles = np.array([start, start + turn])
    on = radius.real * np.cos(angles) + 1j * radius.imag * np.sin(angles)
    along = -radius.real * np.sin(angles) + 1j * radius.imag * np.cos(angles)
    cubic = np.array([on[0], on[0] + kappa * along[0], on[1] - kappa * along[1], on[1]])
    return cubic * complex(math.cos(rotation), math.sin(rotation))


def _cubics(segment) -> list[np.ndarray]:
    """A svgpathtools segment as cubics, each (4,) complex."""
    kind = type(segment).__name__
    if kind == "Arc":
        pieces = max(1, math.ceil(abs(segment.delta) / 45))
        turn = math.radians(segment.delta) / pieces
        start, rotation = math.radians(segment.theta), math.radians(segment.rotation)
        return [
            segment.center + _arc(segment.radius, rotation, start + i * turn, turn)
            for i in range(pieces)
        ]
    points = np.array(segment.bpoints(), complex)
    if kind == "Line":
        points = points[0] + (points[1] - points[0]) * np.array([0, 1 / 3, 2 / 3, 1])
    elif kind == "QuadraticBezier":
        a, b, c = points
        points = np.array([a, a + (b - a) * 2 / 3, c + (b - c) * 2 / 3, c])
    return [points]
