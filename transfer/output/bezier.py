"""Turns a polyline into smooth cubic Béziers that stay within a given distance of it.

Least-squares fitting after P. J. Schneider, "An Algorithm for Automatically Fitting Digitized
Curves" (Graphics Gems, 1990), on a densely resampled polyline, because strokes here have few
points, far apart. It needs only numpy.
"""

import numpy as np

STEP = 0.75  # box units between the resampled points that a curve is fitted to
ARM = 3.0  # box units on each side over which a direction is measured
CORNER = np.cos(np.radians(55))  # a sharper turn than this, between the two arms, stays a corner
LEAN = np.cos(np.radians(35))  # an end may lean this far from its first chord
PASSES = 6  # fits of one span, each with better parameters, before it is split


def fit_curves(polyline: np.ndarray, tolerance: float = 0.45) -> np.ndarray:
    """(n, 2) polyline, n >= 1 -> (m, 4, 2) float64 cubic Béziers. Each begins where the last one
    ended.

    The curve begins and ends at the polyline's ends. No point of either line is further than
    `tolerance` from the other, up to the sampling (0.02 units). A polyline of no length becomes one
    curve of four equal points.
    """
    points = np.asarray(polyline, np.float64)
    points = points[np.r_[True, np.any(np.diff(points, axis=0) != 0, axis=1)]]
    if len(points) == 1:
        return np.repeat(points[None], 4, axis=1)
    dense, vertex = _resample(points)
    corners = np.searchsorted(vertex, _corners(dense, vertex))
    curves = []
    for first, last in zip(corners[:-1], corners[1:]):
        section = points[first : last + 1]
        tangents = _tangents(section)
        at = vertex[first : last + 1] - vertex[first]
        knots = dict(zip(at[1:-1].tolist(), tangents[1:-1]))
        run = dense[vertex[first] : vertex[last] + 1]
        curves += _fit_span(run, 0, len(run) - 1, tangents[0], -tangents[-1], knots, tolerance)
    return np.array(curves)


def evaluate(curves: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(..., 4, 2) control points at parameters (k,) -> (..., k, 2)."""
    return _basis(t) @ curves


def _basis(t: np.ndarray) -> np.ndarray:
    s = 1 - t
    return np.stack([s**3, 3 * s * s * t, 3 * s * t * t, t**3], axis=-1)


def _resample(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points at most STEP apart, including all of the polyline's own, and the indices of those."""
    lengths = np.hypot(*np.diff(points, axis=0).T)
    # A drawing far larger than the box would otherwise ask for unbounded memory.
    step = max(STEP, lengths.sum() / 2000)
    parts = np.maximum(2, np.ceil(lengths / step).astype(int))
    vertex = np.r_[0, np.cumsum(parts)]
    return np.stack(
        [np.interp(np.arange(vertex[-1] + 1), vertex, points[:, a]) for a in (0, 1)], axis=1
    ), vertex


def _direction(points: np.ndarray, at: int, way: int, limit: int) -> np.ndarray:
    """Unit vector from points[at] towards its neighbours up to ARM away, not past index limit."""
    stop = at + way
    while stop != limit and np.hypot(*(points[stop] - points[at])) < ARM:
        stop += way
    chord = points[stop] - points[at]
    if not chord.any():  # the stroke came straight back within the arm
        chord = points[at + way] - points[at]
    return chord / np.hypot(*chord)


def _corners(dense: np.ndarray, vertex: np.ndarray) -> list[int]:
    """Indices where the curve may change direction abruptly: both ends, and the sharpest vertex of
    every sharp turn."""
    last = len(dense) - 1
    along = np.r_[0, np.cumsum(np.hypot(*np.diff(dense, axis=0).T))]
    turns = []
    for v in vertex[1:-1]:
        cosine = -_direction(dense, v, 1, last) @ _direction(dense, v, -1, 0)
        if cosine < CORNER:
            turns.append((cosine, v))
    chosen = [0, last]
    for _, v in sorted(turns):
        # Neighbours of a corner see the same turn through their arms; only the sharpest counts.
        if all(abs(along[v] - along[c]) >= ARM / 2 or c in (0, last) for c in chosen):
            chosen.append(v)
    return sorted(chosen)


def _tangents(points: np.ndarray) -> np.ndarray:
    """Unit directions of travel (n, 2) at the points of a section without corners."""
    last = len(points) - 1
    chords = np.zeros(
        (2, last + 1, 2)
    )  # to the nearest point at least ARM away, backwards and onwards
    to = np.zeros((2, last + 1), int)
    for i in range(last + 1):
        for side, way, limit in ((0, -1, 0), (1, 1, last)):
            j = i
            while j != limit and np.hypot(*(points[j] - points[i])) < ARM:
                j += way
            if not (points[j] - points[i]).any() and i != limit:
                j = i + way
            chords[side, i], to[side, i] = way * (points[j] - points[i]), j
    length = np.hypot(chords[..., 0], chords[..., 1])
    unit = chords / np.maximum(length, 1e-300)[..., None]
    # Weighted by length: a long chord is nearly straight (simplification saw to that), a short one
    # bends more.
    tangents = chords[0] + chords[1]
    size = np.hypot(*tangents.T)
    tangents = np.where(
        size[:, None] > 1e-9 * length.max(), tangents / np.maximum(size, 1e-300)[:, None], unit[1]
    )
    for end, side, limit in ((0, 1, last), (last, 0, 0)):
        chord, next_point = unit[side, end], to[side, end]
        tangents[end] = chord
        if next_point != limit:
            # A circle leaves a chord at one end as it comes in at the other: mirror that tangent in
            # the chord.
            mirrored = 2 * (chord @ tangents[next_point]) * chord - tangents[next_point]
            if mirrored @ chord > LEAN:
                tangents[end] = mirrored
    return tangents


def _fit_span(
    dense: np.ndarray,
    first: int,
    last: int,
    start: np.ndarray,
    end: np.ndarray,
    knots: dict,
    tolerance: float,
) -> list[np.ndarray]:
    """Curves along dense[first:last + 1] that leave it in direction start and come in against end
    (unit vectors).

    knots: direction of travel at the indices of the polyline's points, where spans are preferably
    split.
    """
    span = dense[first : last + 1]
    if len(span) <= 2:
        return [_line(span[0], span[-1])]
    lengths = np.hypot(*np.diff(span, axis=0).T)
    t = np.r_[0, np.cumsum(lengths)] / lengths.sum()
    for _ in range(PASSES):
        curve = _least_squares(span, t, start, end)
        off = np.hypot(*(evaluate(curve, t) - span).T)
        if off.max() <= tolerance and _stray(curve, span) <= tolerance:
            return [curve]
        if off.max() > 6 * tolerance:
            break
        t = _reparametrise(curve, span, t)
    middle = first + int(np.clip(off.argmax(), 1, len(span) - 2))
    inside = [k for k in knots if first < k < last]
    if inside:
        middle = min(inside, key=lambda k: (abs(k - middle), k))
        travel = knots[middle]
    else:
        travel = dense[middle + 1] - dense[middle]
        travel = travel / np.hypot(*travel)
    return _fit_span(dense, first, middle, start, -travel, knots, tolerance) + _fit_span(
        dense, middle, last, travel, end, knots, tolerance
    )


def _line(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a + np.linspace(0, 1, 4)[:, None] * (b - a)


def _least_squares(
    span: np.ndarray, t: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """The cubic from span[0] along start to span[-1] against end whose two handle lengths fit span
    at t best."""
    basis = _basis(t)
    a, b = basis[:, 1, None] * start, basis[:, 2, None] * end
    rest = span - (basis[:, :2].sum(1)[:, None] * span[0] + basis[:, 2:].sum(1)[:, None] * span[-1])
    aa, ab, bb = (a * a).sum(), (a * b).sum(), (b * b).sum()
    ra, rb = (a * rest).sum(), (b * rest).sum()
    determinant = aa * bb - ab * ab
    chord = np.hypot(*(span[-1] - span[0]))
    length = np.hypot(*np.diff(span, axis=0).T).sum()
    handles = np.full(2, max(chord, length / 3) / 3)
    if determinant > 1e-12 * aa * bb:
        solved = np.array([ra * bb - rb * ab, rb * aa - ra * ab]) / determinant
        # Negative or overlong handles make loops: Wu and Barsky's rule of a third is safe.
        if (solved > 1e-3 * length).all() and (solved < 1.5 * length).all():
            handles = solved
    return np.array([span[0], span[0] + handles[0] * start, span[-1] + handles[1] * end, span[-1]])


def _reparametrise(curve: np.ndarray, span: np.ndarray, t: np.ndarray) -> np.ndarray:
    """One Newton step of every t towards the curve's point nearest to its sample."""
    first, second = 3 * np.diff(curve, axis=0), 6 * np.diff(curve, 2, axis=0)
    s = (1 - t)[:, None]
    u = t[:, None]
    speed = s * s * first[0] + 2 * s * u * first[1] + u * u * first[2]
    bend = s * second[0] + u * second[1]
    away = evaluate(curve, t) - span
    slope = (speed * speed + away * bend).sum(1)
    step = np.where(slope > 1e-9, (away * speed).sum(1) / np.maximum(slope, 1e-9), 0)
    return np.maximum.accumulate(np.clip(t - step, 0, 1))


def _stray(curve: np.ndarray, span: np.ndarray) -> float:
    """Greatest distance of the curve's points from the polyline span."""
    at = evaluate(curve, np.linspace(0, 1, 4 * min(len(span), 16)))
    side = np.diff(span, axis=0)
    offset = at[:, None] - span[None, :-1]
    along = np.clip((offset * side).sum(-1) / (side * side).sum(-1), 0, 1)
    return float(np.hypot(*np.moveaxis(offset - along[..., None] * side, -1, 0)).min(1).max())
