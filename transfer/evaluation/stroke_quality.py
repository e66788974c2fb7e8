"""Evaluator: are the strokes the right ones, in the right order and place?

Stroke count, order and direction, LDTW, AIoU and Chamfer distance of a drawing against its
reference, and beside them the same for a wrong kanji. A drawing is a list of (n, 2) polylines,
n >= 2, finite, in any unit, x right, y down, in writing order. Everything but the count is measured
after `to_unit_box`, so that size and place do not matter; distances are in sides of the box. An
empty drawing or reference gets the worst finite value of a distance or overlap, and NaN where there
is nothing to measure.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from tqdm import tqdm

from transfer.evaluation.cases import Cases, Measures

WORST = float(np.sqrt(2))
"""The diagonal of the unit box: no distance between two fitted drawings is larger."""
MATCH_BOUND = 0.15
"""Mean distance, sides of the box, from which on two strokes are no match. Measured on KanjiVG: 99
% of the strokes of a glyph distorted by 6 % and 3 units a stroke lie within it, and 40 % of those
of another glyph of as many strokes."""
_PENS = 2.0 ** np.linspace(-1, 1, 9)


def to_unit_box(strokes) -> list[np.ndarray]:
    """The strokes, float64, centred on the origin, the larger side of their bounding box 1 (a
    single point stays one)."""
    if not len(strokes):
        return []
    points = np.concatenate(strokes).astype(np.float64)
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / ((high - low).max() or 1.0)
    return np.split(points, np.cumsum([len(s) for s in strokes])[:-1])


def _arc(strokes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All points (P, 2), the way (P,) to them, pen lifts included, and where each stroke starts and
    ends on it, (S,) each."""
    points = np.concatenate(strokes)
    ends = np.cumsum([len(s) for s in strokes])
    at = np.cumsum(np.hypot(*np.diff(points, axis=0, prepend=points[:1]).T))
    return points, at, at[np.r_[0, ends[:-1]]], at[ends - 1]


def _at(points, position, where) -> np.ndarray:
    return np.stack(
        [np.interp(where, position, points[:, 0]), np.interp(where, position, points[:, 1])], -1
    )


def resample_each(strokes, count: int = 16) -> np.ndarray:
    """`count` points along each stroke, evenly by arc length with both ends: (strokes, count,
    2)."""
    points, position, start, end = _arc(strokes)
    return _at(points, position, np.linspace(start, end, count, axis=1))


def resample(strokes, count: int = 128) -> np.ndarray:
    """`count` points along the ink of all strokes in order, evenly by arc length: (count, 2). Pen
    lifts have no length."""
    points, position, start, end = _arc(strokes)
    inked = np.cumsum(end - start)
    where = np.linspace(0, inked[-1], count)
    stroke = np.minimum(np.searchsorted(inked, where), len(strokes) - 1)
    return _at(points, position, where + (end - inked)[stroke])


class Match(NamedTuple):
    """Strokes matched one to one, `drawn[i]` with `reference[i]`, in the drawing's order; `cost` is
    their mean distance."""

    drawn: np.ndarray
    reference: np.ndarray
    cost: np.ndarray
    forward: np.ndarray  # whether the stroke runs the reference's way


def match(drawing, reference, either_way: bool = False, bound: float = MATCH_BOUND) -> Match:
    """The assignment of strokes of least total cost, less the pairs that lie `bound` or more apart.

    A cost is the mean distance of 16 points, evenly along each stroke, in the order of writing;
    with `either_way` the less of that and of the same with one stroke reversed. Costs saturate at
    the bound in the assignment, so that junk does not pull good pairs apart.
    """
    if not (len(drawing) and len(reference)):
        return Match(*np.zeros((2, 0), int), np.zeros(0), np.zeros(0, bool))
    ours, theirs = resample_each(to_unit_box(drawing)), resample_each(to_unit_box(reference))
    forward, backward = (
        np.hypot(*np.moveaxis(ours[:, None] - other[None], -1, 0)).mean(-1)
        for other in (theirs, theirs[:, ::-1])
    )
    cost = np.minimum(forward, backward) if either_way else forward
    rows, columns = linear_sum_assignment(np.minimum(cost, bound))
    near = cost[rows, columns] < bound
    rows, columns = rows[near], columns[near]
    return Match(rows, columns, cost[rows, columns], (forward <= backward)[rows, columns])


def count_error(drawing, reference) -> int:
    """Strokes drawn minus strokes of the reference."""
    return len(drawing) - len(reference)


def order(drawing, reference) -> float:
    """Share of the pairs of matched strokes that come in the reference's order; 1 for one match,
    NaN for none.

    (Kendall's tau + 1) / 2 of the matched strokes: 0.5 for a shuffled order, yet more than 0.8 for
    a wrong kanji, since all are written from the top left. A stroke run backwards is rarely a match
    here.
    """
    found = match(drawing, reference).reference
    if len(found) < 2:
        return 1.0 if len(found) else float("nan")
    first, second = np.triu_indices(len(found), 1)
    return float((found[first] < found[second]).mean())


def direction(drawing, reference) -> float:
    """Share of the strokes, matched either way round, that run the reference's way; NaN where none
    is matched."""
    forward = match(drawing, reference, either_way=True).forward
    return float(forward.mean()) if len(forward) else float("nan")


def coverage(drawing, reference) -> float:
    """Share of the reference's strokes that are matched, either way round, 0 to 1: what order and
    direction speak of."""
    return (
        len(match(drawing, reference, either_way=True).drawn) / len(reference)
        if len(reference)
        else float("nan")
    )


def _warp(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Sum of distances along the cheapest warping path from both first to both last points, and the
    path's pairs.

    a (n, 2), b (m, 2), n, m >= 2. Steps are (1, 1), (1, 0) and (0, 1), each of weight 1; ties go to
    the earlier named.
    """
    n, m = len(a), len(b)
    cost = cdist(a, b).ravel()
    # total[k + 2, i + 1] is the cheapest sum up to pair (i, k - i): a row an anti-diagonal, each
    # from the two before.
    total = np.full((n + m + 1, n + 1), np.inf)
    total[0, 0] = 0
    for k in range(n + m - 1):
        low, high = max(0, k - m + 1), min(k, n - 1)
        here = total[k + 2, low + 1 : high + 2]
        np.minimum(total[k + 1, low + 1 : high + 2], total[k + 1, low : high + 1], out=here)
        np.minimum(here, total[k, low : high + 1], out=here)
        here += cost[k + low * (m - 1) : k + high * (m - 1) + 1 : m - 1]
    k, i, pairs = n + m - 2, n - 1, 1
    while k:
        both, ours, theirs = total[k, i], total[k + 1, i], total[k + 1, i + 1]
        if both <= ours and both <= theirs:
            k, i = k - 2, i - 1
        elif ours <= theirs:
            k, i = k - 1, i - 1
        else:
            k -= 1
        pairs += 1
    return float(total[n + m, n]), pairs


def ldtw(drawing, reference) -> float:
    """Length-independent dynamic time warping: mean distance along the warping path; 0 is perfect,
    sqrt(2) the worst.

    After PEN-Net (Chen et al., "Complex Handwriting Trajectory Recovery", 2022, arXiv 2210.15879):
    the DTW of the whole character's points in writing order, divided by a length so that long
    characters do not score worse for being long. Chosen here: the length is the number of pairs on
    the path (Sakoe and Chiba, 1978), not of the reference's points; each drawing is 128 points
    evenly along its ink, as ours have no sampling rate; units are box sides instead of pixels.
    """
    if not (len(drawing) and len(reference)):
        return WORST
    total, pairs = _warp(resample(to_unit_box(drawing)), resample(to_unit_box(reference)))
    return total / pairs


def _nearest_ink(strokes, size: int, reach: float) -> np.ndarray:
    """Distance, pixels, of each pixel's centre to the line of fitted strokes: (size * size,), inf
    beyond `reach`.

    The unit box takes 7/8 of the picture. 1024 points stand for the lines: a dense kanji has one
    every pixel.
    """
    points = resample(strokes, 1024) * (size * 7 / 8) + size / 2
    centre = np.arange(size) + 0.5
    pixels = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
    return cKDTree(points).query(pixels, distance_upper_bound=reach)[0]


def _ink(distance: np.ndarray, width: float) -> np.ndarray:
    """Grey in [0, 1] of a round pen, `width` pixels, as `transfer.data.raster.rasterise` draws
    it."""
    return np.clip(
        np.minimum(distance + 0.5, width / 2) - np.maximum(distance - 0.5, -width / 2), 0, 1
    )


def aiou(drawing, reference, size: int = 64, width: float = 3.0) -> float:
    """Adaptive intersection over union of the two pictures, the largest over the drawing's pen; 1
    is perfect, 0 the worst.

    size: of the square pictures, pixels. width: of the reference's pen, pixels. After PEN-Net
    (arXiv 2210.15879): IoU with the drawing's stroke width adapted, so that width does not count.
    Chosen here: the pens are half to twice the reference's in nine steps, round ones instead of a
    mask dilated pixel by pixel; both drawings are fitted, as ours need not share a frame; pictures
    are grey, the overlap a sum of minima over one of maxima, so that it is continuous.
    """
    if not (len(drawing) and len(reference)):
        return 0.0
    ours, theirs = (
        _nearest_ink(to_unit_box(strokes), size, width + 0.5) for strokes in (drawing, reference)
    )
    theirs = _ink(theirs, width)
    return max(
        float(np.minimum(inked, theirs).sum() / np.maximum(inked, theirs).sum())
        for inked in (_ink(ours, width * pen) for pen in _PENS)
    )


def chamfer(drawing, reference, count: int = 512) -> float:
    """Mean distance of `count` points evenly along the ink to the other's nearest, averaged over
    both ways.

    0 is perfect, sqrt(2) the worst. Blind to order and direction, and little larger for a wrong
    kanji than for a poor one.
    """
    if not (len(drawing) and len(reference)):
        return WORST
    a, b = resample(to_unit_box(drawing), count), resample(to_unit_box(reference), count)
    return float(cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2


METRICS = {
    "count_error": count_error,
    "order": order,
    "direction": direction,
    "coverage": coverage,
    "ldtw": ldtw,
    "aiou": aiou,
    "chamfer": chamfer,
}


def compare(drawing, reference) -> dict[str, float]:
    """Every metric of a drawing against its reference, under the names of `METRICS`."""
    return {name: float(metric(drawing, reference)) for name, metric in METRICS.items()}


def named(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """What `compare` found of N drawings, under the names that reports have: (N,) float each."""
    column = lambda key: np.array([row[key] for row in rows], float)
    return {
        "stroke count exact": (column("count_error") == 0).astype(float),
        "stroke count within 1": (abs(column("count_error")) <= 1).astype(float),
        "stroke count error": abs(column("count_error")),
        "strokes matched": column("coverage"),
        "stroke order agreement": column("order"),
        "stroke direction agreement": column("direction"),
        "length-independent DTW": column("ldtw"),
        "AIoU": column("aiou"),
        "Chamfer distance": column("chamfer"),
    }


def measure(cases: Cases) -> Measures:
    """The best-ranked drawing against KanjiVG's strokes of the true kanji, and of another image's
    kanji chosen at random ("wrong kanji"): a measure is worth what lies between the two. "right"
    ones are those of drawings that the recogniser reads right. Last, how far the two best drawings
    of one image lie apart."""
    drawn = [r.strokes[0] for r in cases.results]
    other = derangement(cases.code_points, cases.seed)
    bar = tqdm(total=len(drawn), desc="comparing strokes", unit="image", disable=None)
    true, wrong, apart = [], [], []
    for drawing, i, result in zip(drawn, other, cases.results):
        true.append(compare(drawing, cases.truth[len(true)]))
        wrong.append(compare(drawing, cases.truth[i]))
        apart.append(
            compare(result.strokes[1], result.strokes[0])["chamfer"]
            if cases.samples > 1 and all(result.strokes[:2])
            else np.nan
        )
        bar.update()
    bar.close()
    right, found = cases.readings.answers[:, 0] == cases.code_points, {}
    wrong_kanji = named(wrong)
    for name, values in named(true).items():
        found[name] = values
        found[f"{name}, right ones"] = np.where(right, values, np.nan)
        found[f"{name}, wrong kanji"] = wrong_kanji[name]
    found["Chamfer distance between two drawings"] = np.array(apart, float)
    return Measures(found)


def derangement(classes: np.ndarray, seed: int) -> np.ndarray:
    """For each of (N,) classes the index of an entry of another class, at random; its own where
    there is no other."""
    random, out = np.random.default_rng(seed), np.arange(len(classes))
    for i, own in enumerate(classes):
        for j in random.integers(0, len(classes), 100):
            if classes[j] != own:
                out[i] = j
                break
    return out
