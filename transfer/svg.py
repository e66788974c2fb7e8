"""A drawing (polylines in the 109x109 box) -> an SVG in KanjiVG's structure, one smooth path a stroke."""

import numpy as np
import svgwrite
from svgwrite.utils import pretty_xml

from transfer.bezier import fit

KVG = "http://kanjivg.tagaini.net"
STYLE = "fill:none;stroke:#000000;stroke-width:3;stroke-linecap:round;stroke-linejoin:round;"


def drawing_to_svg(polylines: list[np.ndarray], code_point: int | None = None, character: str | None = None) -> str:
    """SVG text with KanjiVG's viewBox, ids and order (https://kanjivg.tagaini.net/svg-format.html).

    polylines: strokes in writing order, each (n, 2), n >= 1, box units, x right, y down. code_point: the kanji that the
    drawing stands for, or `character` itself; neither gives the id 00000 and no kvg:element. Strokes become cubic
    Béziers (path commands M and C only, two decimals) at most 0.5 units from the polyline.

    Raises ValueError on coordinates that are not finite and on strokes that are not (n, 2), naming the stroke.
    """
    if code_point is None and character is not None:
        code_point = ord(character)
    kanji = f"{code_point or 0:05x}"
    # debug=False: svgwrite knows SVG's own attributes only and would refuse kvg:element.
    drawing = svgwrite.Drawing(size=(109, 109), viewBox="0 0 109 109", debug=False)
    drawing.attribs["xmlns:kvg"] = KVG
    paths = drawing.g(id=f"kvg:StrokePaths_{kanji}", style=STYLE)
    group = drawing.g(id=f"kvg:{kanji}")
    if code_point:
        group.attribs["kvg:element"] = chr(code_point)
    for number, polyline in enumerate(polylines, 1):
        group.add(drawing.path(d=path_data(polyline, f"stroke {number}"), id=f"kvg:{kanji}-s{number}"))
    paths.add(group)
    drawing.add(paths)
    # No XML declaration: lxml refuses one in a str, and a file without one is UTF-8.
    return pretty_xml(drawing.tostring(), indent=1)


def path_data(polyline: np.ndarray, where: str = "stroke") -> str:
    """The `d` of one stroke: M, then C with absolute coordinates of two decimals. Raises ValueError as above."""
    points = np.asarray(polyline, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"{where}: an array of shape {points.shape} is no stroke; give (n, 2) coordinates, n >= 1")
    if not np.isfinite(points).all():
        raise ValueError(f"{where}: coordinates must be finite, but some are NaN or infinite; drop this drawing")
    curves = fit(points)
    return f"M{_pair(curves[0, 0])}" + "".join("C" + " ".join(_pair(p) for p in curve[1:]) for curve in curves)


def _pair(point: np.ndarray) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return ",".join(f"{round(float(v), 2) + 0.0:.2f}" for v in point)
