"""Turns path data, as KanjiVG has it, into cubic Béziers, and these into polylines.

The whole of KanjiVG uses the path commands M m C c S s only; anything else is an error here (and is
read by svgpathtools in `formats.svg_shapes`). Format: SVG 1.1, section 8.3.
"""

import math
import re
from collections.abc import Iterator

import numpy as np

from transfer.system.errors import DataError

_MAX_POINTS = 2_000_000  # of what is flattened at once, before it is simplified
_NUMBER_TEXT = r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?"
_NUMBER = re.compile(_NUMBER_TEXT, re.ASCII)
# Possessive: a path that fits nowhere must not be tried in all ways.
_RUN = re.compile(rf"[ \t\r\n\f]*+((?:{_NUMBER_TEXT}[ \t\r\n\f]*+,?+[ \t\r\n\f]*+)*+)", re.ASCII)
_WHITE = " \t\r\n\f"
_ARGUMENTS = {"M": 2, "C": 6, "S": 4}


def _commands(d: str, where: str) -> Iterator[tuple[str, list[float]]]:
    """Split path data into (letter, numbers); raises DataError at the first thing that is neither
    of them."""
    at = len(d) - len(d.lstrip(_WHITE))
    while at < len(d):
        letter = d[at]
        if letter.upper() not in _ARGUMENTS:
            raise DataError(
                f"{where}: path command {letter!r} at character {at + 1} is not one of M m C c S s;"
                " KanjiVG uses no other"
            )
        run = _RUN.match(d, at + 1)
        at = run.end()
        if run[1].rstrip(_WHITE).endswith(",") and (at == len(d) or d[at].isalpha()):
            raise DataError(
                f"{where}: path command {letter!r} ends in a comma at character {at}; fix the path"
            )
        numbers = [float(number) for number in _NUMBER.findall(run[1])]
        if not all(map(math.isfinite, numbers)):
            raise DataError(
                f"{where}: path command {letter!r} holds an infinite number; fix the path"
            )
        yield letter, numbers


def parse_path(d: str, where: str = "path") -> np.ndarray:
    """Turn the path data of one continuous stroke into its cubic Béziers, (n, 4, 2) float64, n >=
    1, with absolute points.

    `where` names file and glyph in errors. Raises DataError for commands other than M m C c S s,
    wrong argument counts, numbers that are not finite, a missing or second M and a path that draws
    nothing. Source: SVG 1.1, 8.3.
    """
    curves = []
    current = control = None
    for letter, numbers in _commands(d, where):
        count = _ARGUMENTS[letter.upper()]
        if letter in "Mm":
            if current is not None:
                raise DataError(
                    f"{where}: a second path command {letter!r}; a stroke is one continuous line"
                )
            if len(numbers) != 2:
                raise DataError(
                    f"{where}: path command {letter!r} has {len(numbers)} numbers; it takes 2"
                )
            current = control = (numbers[0], numbers[1])  # a leading m is absolute too
            continue
        if current is None:
            raise DataError(
                f"{where}: the path starts with command {letter!r}; it must start with M"
            )
        if not numbers or len(numbers) % count:
            raise DataError(
                f"{where}: path command {letter!r} has {len(numbers)} numbers; it takes groups of"
                f" {count}"
            )
        for i in range(0, len(numbers), count):
            x0, y0 = current if letter.islower() else (0.0, 0.0)
            group = [(numbers[j] + x0, numbers[j + 1] + y0) for j in range(i, i + count, 2)]
            if count == 4:  # S: the first control point mirrors the last one of the curve before
                group.insert(0, (2 * current[0] - control[0], 2 * current[1] - control[1]))
            curves.append((current, *group))
            control, current = group[1], group[2]
    if not curves:
        raise DataError(
            f"{where}: the path draws nothing (no C, c, S or s command); fix or remove it"
        )
    return np.array(curves, np.float64)


def flatten(d: str | np.ndarray, tolerance: float = 0.02, where: str = "path") -> np.ndarray:
    """Turn path data (or its (n, 4, 2) curves) into a polyline (k, 2) float64, k >= 2, which is
    nowhere further off than `tolerance`.

    Each cubic is cut into equal parameter steps, as many as the bound |B''| <= 6 max|second
    difference| requires. Raises DataError if that makes millions of points.
    """
    curves = parse_path(d, where) if isinstance(d, str) else d
    return flatten_many(curves, np.array([len(curves)]), tolerance, where)[0]


def flatten_many(
    curves: np.ndarray, count: np.ndarray, tolerance: float, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """`flatten` for many strokes: curves (N, 4, 2), of which each stroke has `count` (S,) -> points
    (P, 2) and bounds (S + 1,)."""
    bend = curves[:, :-2] - 2 * curves[:, 1:-1] + curves[:, 2:]
    steps = np.sqrt(0.75 * np.hypot(bend[..., 0], bend[..., 1]).max(axis=1) / tolerance)
    steps = np.clip(np.ceil(steps), 1, 1000).astype(int)
    if steps.sum() > _MAX_POINTS:
        raise DataError(f"{where}: more than {_MAX_POINTS:,} points; simplify the drawing")
    curve = np.repeat(np.arange(len(curves)), steps)
    t = ((np.arange(len(curve)) - (np.cumsum(steps) - steps)[curve] + 1) / steps[curve])[:, None]
    s, control = 1 - t, curves[curve]
    bounds = np.concatenate([[0], np.cumsum(np.add.reduceat(steps, np.cumsum(count) - count) + 1)])
    points = np.empty((bounds[-1], 2))
    begin = np.zeros(len(points), bool)
    begin[bounds[:-1]] = True
    points[begin] = curves[np.cumsum(count) - count, 0]
    points[~begin] = (
        s**3 * control[:, 0]
        + 3 * s * s * t * control[:, 1]
        + 3 * s * t * t * control[:, 2]
        + t**3 * control[:, 3]
    )
    return points, bounds
