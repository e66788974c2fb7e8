"""Turns a drawing (polylines in the 109x109 box) into an SVG in KanjiVG's structure, with one
smooth path for each stroke."""

from collections.abc import Sequence
from xml.etree import ElementTree as etree

import numpy as np
from svgwrite import container
from svgwrite.path import Path
from svgwrite.text import Text, TSpan

from transfer.data.formats.variants import variant
from transfer.output import animation
from transfer.output.bezier import fit_curves

SVG = "http://www.w3.org/2000/svg"
KVG = "http://kanjivg.tagaini.net"
STYLE = "fill:none;stroke:#000000;stroke-width:3;stroke-linecap:round;stroke-linejoin:round;"
NUMBER_STYLE = "font-size:8;fill:#808080"
ORDER = (
    "xmlns",
    "xmlns:kvg",
    "width",
    "height",
    "viewBox",
    "id",
    "kvg:element",
    "d",
    "transform",
    "stroke-opacity",
    "class",
    "pathLength",
    "style",
)
"""Order of attributes in the file."""


def drawing_to_svg(
    polylines: list[np.ndarray],
    code_point: int | None = None,
    character: str | None = None,
    *,
    numbers: bool = True,
    animate: bool = False,
    opacity: Sequence[float] | np.ndarray | None = None,
) -> str:
    """SVG text with KanjiVG's viewBox, groups, ids and order
    (https://kanjivg.tagaini.net/svg-format.html).

    polylines: strokes in writing order, each (n, 2), n >= 1, box units, x right, y down.
    code_point: of the kanji that the drawing stands for.
    character: that kanji itself. If both are missing, the ids have 00000, and there is no
    kvg:element.
    numbers: whether stroke numbers are written, in a group of their own.
    animate: whether strokes appear in writing order, by CSS alone (`transfer.output.animation`).
    opacity: one number in [0, 1] for each stroke.

    Strokes become cubic Béziers (path commands M and C only, two decimals) at most 0.5 units from
    the polyline. The ids name the drawing as a variant of its kanji
    ("kvg:05f71-Drawn0f3a9c25d1-s1"), so that on one page only equal drawings have the same ids.
    Nothing in the file is active: it has no script and no link, and loads nothing.

    Raises ValueError, which names the stroke, for coordinates that are not finite and strokes that
    are not (n, 2).
    """
    if code_point is None and character is not None:
        code_point = ord(character)
    data = [path_data(polyline, f"stroke {number}") for number, polyline in enumerate(polylines, 1)]
    name = f"{code_point or 0:05x}-{variant(data)}"
    times = animation.schedule(polylines) if animate else []
    page = container.SVG(debug=False)
    page.elements.clear()  # svgwrite's empty <defs>
    page.attribs |= {
        "xmlns": SVG,
        "xmlns:kvg": KVG,
        "width": "109",
        "height": "109",
        "viewBox": "0 0 109 109",
    }
    if animate:
        page.add(_Style(animation.STYLE_SHEET, debug=False))
    outer = page.add(container.Group(debug=False, id=f"kvg:StrokePaths_{name}", style=STYLE))
    group = outer.add(container.Group(debug=False, id=f"kvg:{name}"))
    if code_point:
        group["kvg:element"] = chr(code_point)
    for index, d in enumerate(data):
        path = group.add(Path(d, debug=False, id=f"kvg:{name}-s{index + 1}"))
        if opacity is not None:
            path["stroke-opacity"] = f"{opacity[index]:.2f}"
        if animate:
            path.attribs |= animation.stroke_attributes(*times[index])
    if numbers:
        labels = page.add(
            container.Group(debug=False, id=f"kvg:StrokeNumbers_{name}", style=NUMBER_STYLE)
        )
        for index, (x, y) in enumerate(number_places(polylines)):
            label = labels.add(
                Text(str(index + 1), debug=False, transform=f"matrix(1 0 0 1 {x:.2f} {y:.2f})")
            )
            if animate:
                label.attribs |= animation.number_attributes(times[index][0])
    root = page.get_xml()
    for element in root.iter():
        # svgwrite sorts attributes by name; KanjiVG's begin with the id.
        element.attrib = dict(sorted(element.attrib.items(), key=lambda item: ORDER.index(item[0])))
    etree.indent(root, " ")
    # No XML declaration: a file without one is UTF-8.
    return etree.tostring(root, encoding="unicode").replace(" />", "/>") + "\n"


class _Style(TSpan):
    """A style sheet as text: svgwrite's own is CDATA, which browsers do not know inside HTML."""

    elementname = "style"


def path_data(polyline: np.ndarray, where: str = "stroke") -> str:
    """The `d` of one stroke: M, then C with absolute coordinates of two decimals. Raises ValueError
    as above."""
    curves = curves_of(polyline, where)
    return f"M{_pair(curves[0, 0])}" + "".join(
        "C" + " ".join(_pair(p) for p in curve[1:]) for curve in curves
    )


def curves_of(polyline: np.ndarray, where: str = "stroke") -> np.ndarray:
    """One stroke as (m, 4, 2) float64 cubic Béziers, m >= 1. Raises ValueError as above."""
    points = np.asarray(polyline, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(
            f"{where}: an array of shape {points.shape} is not a stroke; give (n, 2) coordinates,"
            " n >= 1"
        )
    if not np.isfinite(points).all():
        raise ValueError(
            f"{where}: coordinates must be finite, but some are NaN or infinite; drop this drawing"
        )
    return fit_curves(points)


def number_places(polylines: list[np.ndarray]) -> list[tuple[float, float]]:
    """Places of the stroke numbers beside the strokes' starts, as in KanjiVG: the left end of each
    baseline, in box units.

    Of 16 places around the start each number takes the one with the fewest strokes and earlier
    numbers nearby.
    """
    ink = np.concatenate([_dense(p) for p in polylines]) if polylines else np.zeros((0, 2))
    angles = np.arange(16) * np.pi / 8
    # Where nothing is in the way, up and left of the start: the middle of KanjiVG's own places.
    liking = 0.8 * np.cos(angles + 0.8 * np.pi)
    places, centres = [], np.zeros((0, 2))
    for number, polyline in enumerate(polylines, 1):
        half = np.array(
            [2.3 * len(str(number)), 3.0]
        )  # half of the digits' width and height at font size 8
        around = np.asarray(polyline[0], np.float64) + np.stack(
            [np.cos(angles), np.sin(angles)], 1
        ) * (half + 3.0)
        around = np.clip(around, half + 0.5, 108.5 - half)
        room = (
            np.minimum(_nearest(around, ink), 5.0)
            + np.minimum(_nearest(around, centres), 8.0)
            + liking
        )
        centre = around[room.argmax()]
        centres = np.concatenate([centres, centre[None]])
        places.append((float(centre[0] - half[0]), float(centre[1] + half[1])))
    return places


def _dense(polyline: np.ndarray) -> np.ndarray:
    """Points at most 2 units apart along a polyline (fewer on one that is far longer than the
    box)."""
    points = np.asarray(polyline, np.float64)
    along = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    at = np.linspace(0, along[-1], int(min(along[-1] / 2, 1000)) + 2)
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=1)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    if not len(others):
        return np.full(len(points), np.inf)
    return np.hypot(*np.moveaxis(points[:, None] - others[None], -1, 0)).min(1)


def _pair(point: np.ndarray) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return ",".join(f"{round(float(v), 2) + 0.0:.2f}" for v in point)
