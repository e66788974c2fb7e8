"""Simplifies polylines, and converts them to and from the stroke-3 and stroke-5 arrays of
Sketch-RNN.

Polylines are lists of (n, 2) float32 arrays in any unit, x right, y down, in writing order, n >= 2.
Formats: Ha and Eck, "A Neural Representation of Sketch Drawings" (2017), section 3.1.
"""

import numpy as np

from transfer.system.errors import DataError

BOX = 109.0
"""Side of the square in which KanjiVG draws, and of every drawing here."""
# Distances that `simplify_many` measures: for a point, and beside that. KanjiVG takes 3 a point.
_EFFORT = 16, 2_000_000


def _points(polyline, what="polyline") -> np.ndarray:
    try:
        points = np.asarray(polyline, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what}: not an array of numbers; give (n, 2) coordinates") from None
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        raise DataError(f"{what}: shape {points.shape}; give (n, 2) coordinates with n >= 2")
    if not np.isfinite(points).all():
        raise DataError(f"{what}: holds NaN or infinite coordinates; give finite numbers")
    return points


def distance_to_segment(points, a, b) -> np.ndarray:
    """Distances (n,) of `points` (n, 2) to the segment from `a` to `b`, (2,) or (n, 2) each; not to
    its infinite line."""
    chord = b - a
    length2 = (chord**2).sum(-1)
    offset = points - a
    along = np.clip((offset * chord).sum(-1) / np.where(length2 > 0, length2, 1.0), 0, 1)
    offset -= along[..., None] * chord
    return np.hypot(offset[:, 0], offset[:, 1])


def simplify(polyline, epsilon: float) -> np.ndarray:
    """Ramer–Douglas–Peucker: the fewest recursive splits that leave no point further than `epsilon`
    away.

    (n, 2) -> (m, 2) float32 with 2 <= m <= n, a subset of the points with both ends. Distances are
    measured to the chord as a segment, so that the bound also holds for strokes that are closed or
    double back. Raises DataError.

    >>> simplify([(0, 0), (5, 0.1), (10, 0), (10, 10)], epsilon=0.25).tolist()
    [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]
    """
    points = _points(polyline)
    return points[simplify_many(points, np.array([0, len(points)]), epsilon)].astype(np.float32)


def simplify_many(points: np.ndarray, bounds: np.ndarray, epsilon: float) -> np.ndarray:
    """The same for many polylines at once, level by level: which points stay, (P,) bool.

    points: (P, 2) finite float64. bounds: (S + 1,), where polylines begin and end; each has 2
    points or more. A polyline in which every split removes a single point would take time with the
    square of its length, so the rest of such a polyline is kept whole. Raises DataError.
    """
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise DataError(f"epsilon {epsilon}: give a finite number >= 0")
    first, last = bounds[:-1], bounds[1:] - 1
    keep = np.zeros(len(points), bool)
    keep[first] = keep[last] = True
    effort = _EFFORT[0] * len(points) + _EFFORT[1]
    while len(inner := last - first - 1) and inner.max() > 0:
        first, last, inner = first[inner > 0], last[inner > 0], inner[inner > 0]
        effort -= inner.sum()
        if effort < 0:
            for a, b in zip(first, last):
                keep[a:b] = True
            break
        begin = np.cumsum(inner) - inner
        chord = np.repeat(np.arange(len(inner)), inner)
        at = np.arange(inner.sum()) + (first + 1 - begin)[chord]
        distance = distance_to_segment(points[at], points[first][chord], points[last][chord])
        furthest = np.maximum.reduceat(distance, begin)
        reached = np.flatnonzero(distance == furthest[chord])
        _, earliest = np.unique(chord[reached], return_index=True)
        split = furthest > epsilon
        middle = at[reached[earliest]][split]
        keep[middle] = True
        first, last = np.concatenate([first[split], middle]), np.concatenate([middle, last[split]])
    return keep


def resample(polyline, points: int, turning: float = 0.15) -> np.ndarray:
    """A polyline of `points` points, which are closer together where it turns: (n, 2) -> (points,
    2) float32. Both ends are kept.

    The points are evenly spaced in (length so far / whole length) + turning * (radians turned so
    far). So a corner gets points of its own, and a small change of the line moves them only a
    little. Raises DataError.

    >>> resample([(0, 0), (10, 0)], 3).tolist()
    [[0.0, 0.0], [5.0, 0.0], [10.0, 0.0]]
    """
    line = _points(polyline)
    step = np.diff(line, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    moving = length > 1e-9
    if points < 2:
        raise DataError(f"points is {points}; give 2 or more")
    if not moving.any():
        return np.repeat(line[:1], points, 0).astype(np.float32)
    line, step, length = np.concatenate([line[:1], line[1:][moving]]), step[moving], length[moving]
    heading = np.arctan2(step[:, 1], step[:, 0])
    turn = np.append(abs((np.diff(heading) + np.pi) % (2 * np.pi) - np.pi), 0.0)
    # Every vertex has two places on the scale: where the line reaches it, and where it has turned
    # there.
    reached = np.cumsum(length / length.sum()) + turning * (np.cumsum(turn) - turn)
    scale = np.concatenate([[0.0], np.stack([reached, reached + turning * turn], 1).ravel()])
    corners = np.concatenate([line[:1], np.repeat(line[1:], 2, 0)])
    at = np.linspace(0.0, scale[-1], points)
    return np.stack(
        [np.interp(at, scale, corners[:, 0]), np.interp(at, scale, corners[:, 1])], 1
    ).astype(np.float32)


def to_stroke3(polylines) -> np.ndarray:
    """Turn polylines into (n, 3) float32 rows (dx, dy, lift).

    The first row is the offset from the origin to the first point; lift is 1 on the last point of
    each stroke. An empty drawing gives (0, 3). Raises DataError for wrong shapes and non-finite
    numbers.

    >>> to_stroke3([[(1, 1), (5, 1)], [(3, 2), (3, 4)]]).tolist()
    [[1.0, 1.0, 0.0], [4.0, 0.0, 1.0], [-2.0, 1.0, 0.0], [0.0, 2.0, 1.0]]
    """
    strokes = [_points(p, f"stroke {i + 1}") for i, p in enumerate(polylines)]
    if not strokes:
        return np.zeros((0, 3), np.float32)
    points = np.concatenate(strokes)
    rows = np.zeros((len(points), 3), np.float32)
    rows[:, :2] = np.diff(points, axis=0, prepend=0.0)
    rows[np.cumsum([len(s) for s in strokes]) - 1, 2] = 1
    return rows


def _rows(rows, columns: int, what: str) -> np.ndarray:
    try:
        rows = np.asarray(rows, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what}: not an array of numbers; give (n, {columns}) rows") from None
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise DataError(f"{what}: shape {rows.shape}; give (n, {columns}) rows")
    if not np.isfinite(rows).all():
        raise DataError(
            f"{what}: row {int(np.argmin(np.isfinite(rows).all(1)))} holds NaN or infinity; "
            "give finite numbers"
        )
    return rows


def from_stroke3(rows) -> list[np.ndarray]:
    """Turn (n, 3) rows (dx, dy, lift) into polylines, a list of (k, 2) float32; the inverse of
    `to_stroke3`.

    Points after the last lift make a last stroke of their own; a stroke of one point becomes a dot
    of two equal points. Raises DataError for wrong shapes, non-finite numbers and lifts other than
    0 and 1.

    >>> [stroke.tolist() for stroke in from_stroke3([[1, 1, 0], [4, 0, 1]])]
    [[[1.0, 1.0], [5.0, 1.0]]]
    """
    rows = _rows(rows, 3, "stroke-3")
    if not np.isin(rows[:, 2], (0, 1)).all():
        raise DataError(
            "stroke-3: a lift is neither 0 nor 1; give 1 on the last point of each stroke, else 0"
        )
    points = np.cumsum(rows[:, :2], axis=0).astype(np.float32)
    pieces = np.split(points, np.flatnonzero(rows[:, 2]) + 1)
    return [np.repeat(p, 2, axis=0) if len(p) == 1 else p for p in pieces if len(p)]


def to_stroke5(rows, length: int) -> np.ndarray:
    """Turn (n, 3) stroke-3 rows into (length, 5) float32 rows (dx, dy, down, up, end), padded with
    (0, 0, 0, 0, 1).

    Raises DataError if the drawing has more than `length` points.

    >>> to_stroke5([[1, 1, 0], [4, 0, 1]], 3).tolist()
    [[1.0, 1.0, 1.0, 0.0, 0.0], [4.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    rows = _rows(rows, 3, "stroke-3")
    if len(rows) > length:
        raise DataError(
            f"stroke-3: {len(rows)} points do not fit a stroke-5 of length {length}; raise the"
            " length"
        )
    if not np.isin(rows[:, 2], (0, 1)).all():
        raise DataError(
            "stroke-3: a lift is neither 0 nor 1; give 1 on the last point of each stroke, else 0"
        )
    out = np.zeros((length, 5), np.float32)
    out[: len(rows), :2] = rows[:, :2]
    out[: len(rows), 2] = 1 - rows[:, 2]
    out[: len(rows), 3] = rows[:, 2]
    out[len(rows) :, 4] = 1
    return out


def from_stroke5(rows) -> np.ndarray:
    """Turn (length, 5) rows into (n, 3) float32 stroke-3 rows, up to the first row whose pen state
    is *end*.

    Raises DataError for wrong shapes, non-finite numbers and pen states that are not one-hot.

    >>> from_stroke5([[1, 1, 1, 0, 0], [4, 0, 0, 1, 0], [0, 0, 0, 0, 1]]).tolist()
    [[1.0, 1.0, 0.0], [4.0, 0.0, 1.0]]
    """
    rows = _rows(rows, 5, "stroke-5")
    pen = rows[:, 2:]
    if not (np.isin(pen, (0, 1)).all() and (pen.sum(1) == 1).all()):
        raise DataError(
            "stroke-5: a pen state is not one-hot; exactly one of down, up, end is 1 in each row"
        )
    ends = np.flatnonzero(pen[:, 2])
    rows = rows[: ends[0]] if len(ends) else rows
    return rows[:, [0, 1, 3]].astype(np.float32)
