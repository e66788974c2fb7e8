"""Evaluator: are the strokes the right ones, in the right order and place?

A drawing is compared with its reference by stroke count, order, direction, LDTW, AIoU and Chamfer
distance. The same measures against a wrong kanji are given beside these.

A drawing is a list of (n, 2) polylines, n >= 2, finite, in any unit, x right, y down, in writing
order. All but the count is measured after `to_unit_box`, so that size and place do not matter.
Distances are in sides of that box. An empty drawing or reference gets the worst finite value of a
distance or an overlap, and NaN where nothing can be measured.
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
"""Two strokes match if their mean distance, in sides of the box, is less.

Measured on KanjiVG: if a glyph is distorted by 6 %, and each stroke by 3 units, 99 % of its strokes
lie within the bound; so do 40 % of the strokes of another glyph with as many."""
_PENS = 2.0 ** np.linspace(-1, 1, 9)


def to_unit_box(strokes) -> list[np.ndarray]:
    """The strokes, float64, with their bounding box centred on the origin and its larger side 1.

    A single point stays a point.
    """
    if not len(strokes):
        return []
    points = np.concatenate(strokes).astype(np.float64)
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / ((high - low).max() or 1.0)
    return np.split(points, np.cumsum([len(s) for s in strokes])[:-1])


def _arc(strokes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pen's path, with its lifts.

    Returns all points (P, 2), the length of the path up to each (P,), and the length at which each
    stroke starts and ends, (S,) each.
    """
    points = np.concatenate(strokes)
    ends = np.cumsum([len(s) for s in strokes])
    at = np.cumsum(np.hypot(*np.diff(points, axis=0, prepend=points[:1]).T))
    return points, at, at[np.r_[0, ends[:-1]]], at[ends - 1]


def _at(points, position, where) -> np.ndarray:
    return np.stack(
        [np.interp(where, position, points[:, 0]), np.interp(where, position, points[:, 1])], -1
    )


def resample_each(strokes, count: int = 16) -> np.ndarray:
    """Points along each stroke, evenly by arc length with both ends, (strokes, count, 2)."""
    points, position, start, end = _arc(strokes)
    return _at(points, position, np.linspace(start, end, count, axis=1))


def resample(strokes, count: int = 128) -> np.ndarray:
    """Points along the ink of all strokes in order, evenly by arc length, (count, 2).

    Pen lifts have no length.
    """
    points, position, start, end = _arc(strokes)
    inked = np.cumsum(end - start)
    where = np.linspace(0, inked[-1], count)
    stroke = np.minimum(np.searchsorted(inked, where), len(strokes) - 1)
    return _at(points, position, where + (end - inked)[stroke])


class Match(NamedTuple):
    """Strokes that are matched one to one, in the drawing's order; each array is (n,).

    drawn: int, index of the stroke in the drawing.
    reference: int, index of the one in the reference.
    cost: their mean distance in sides of the box.
    forward: bool, whether the stroke runs the reference's way.
    """

    drawn: np.ndarray
    reference: np.ndarray
    cost: np.ndarray
    forward: np.ndarray


def match(drawing, reference, either_way: bool = False, bound: float = MATCH_BOUND) -> Match:
    """The assignment of strokes with the least total cost.

    The cost of a pair is the mean distance of 16 points, evenly along each stroke, in the order of
    writing. In the assignment costs saturate at `bound`, so that junk does not pull good pairs
    apart.

    either_way: whether a stroke may match a reversed one; the cost is the lesser of both.
    bound: pairs that lie as far apart or further are no match.
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
    """Share of the pairs of matched strokes that come in the reference's order.

    This is (Kendall's tau + 1) / 2: 0.5 for a shuffled order, yet more than 0.8 for a wrong kanji,
    since all are written from the top left. It is 1 for one match, and NaN for none. A stroke that
    is run backwards is rarely a match here.
    """
    found = match(drawing, reference).reference
    if len(found) < 2:
        return 1.0 if len(found) else float("nan")
    first, second = np.triu_indices(len(found), 1)
    return float((found[first] < found[second]).mean())


def direction(drawing, reference) -> float:
    """Share of the strokes matched either way round that run the reference's way.

    It is NaN if none is matched.
    """
    forward = match(drawing, reference, either_way=True).forward
    return float(forward.mean()) if len(forward) else float("nan")


def coverage(drawing, reference) -> float:
    """Share of the reference's strokes that are matched either way round, in [0, 1].

    Order and direction are measured on these strokes only.
    """
    return (
        len(match(drawing, reference, either_way=True).drawn) / len(reference)
        if len(reference)
        else float("nan")
    )


def _warp(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """The cheapest warping path: the sum of its distances, and its number of pairs.

    It leads from both first to both last points. Steps are (1, 1), (1, 0) and (0, 1), each of
    weight 1; ties go to the one named first.

    a, b: (n, 2) and (m, 2), n, m >= 2.
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
    """Length-independent dynamic time warping: the mean distance along the warping path.

    0 is perfect, sqrt(2) the worst. It follows PEN-Net (Chen et al., "Complex Handwriting
    Trajectory Recovery", 2022, arXiv 2210.15879): the DTW of the whole character's points in
    writing order is divided by a length, so that long characters do not score worse for being long.

    Three things are chosen here. The length is the number of pairs on the path (Sakoe and Chiba,
    1978), not of the reference's points. Each drawing is 128 points evenly along its ink, as ours
    have no sampling rate. Units are sides of the box instead of pixels.
    """
    if not (len(drawing) and len(reference)):
        return WORST
    total, pairs = _warp(resample(to_unit_box(drawing)), resample(to_unit_box(reference)))
    return total / pairs


def _nearest_ink(strokes, size: int, reach: float) -> np.ndarray:
    """Distance of each pixel's centre to the lines of fitted strokes, (size * size,) in pixels.

    The unit box takes 7/8 of the picture. 1024 points stand for the lines: a dense kanji has one
    every pixel.

    reach: pixels; distances beyond are inf.
    """
    points = resample(strokes, 1024) * (size * 7 / 8) + size / 2
    centre = np.arange(size) + 0.5
    pixels = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
    return cKDTree(points).query(pixels, distance_upper_bound=reach)[0]


def _ink(distance: np.ndarray, width: float) -> np.ndarray:
    """The grey of a round pen, in [0, 1], as `transfer.data.raster.rasterise` draws it.

    distance: of each pixel's centre to the line, in pixels.
    width: of the pen, in pixels.
    """
    return np.clip(
        np.minimum(distance + 0.5, width / 2) - np.maximum(distance - 0.5, -width / 2), 0, 1
    )


def aiou(drawing, reference, size: int = 64, width: float = 3.0) -> float:
    """Adaptive intersection over union of the two pictures; 1 is perfect, 0 the worst.

    It follows PEN-Net (arXiv 2210.15879): the drawing's pen is the one with the largest
    intersection over union, so that the width of strokes does not count.

    Three things are chosen here. Pens are half to twice the reference's, in nine steps, and round,
    where PEN-Net dilates a mask pixel by pixel. Both drawings are fitted, as ours need not share a
    frame. Pictures are grey, and the overlap is a sum of minima over one of maxima, so that it is
    continuous.

    size: side of the pictures, in pixels.
    width: of the reference's pen, in pixels.
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
    """Mean distance of each drawing's points to the other's nearest, averaged over both ways.

    0 is perfect, sqrt(2) the worst. It is blind to order and direction, and little larger for a
    wrong kanji than for a poor one.

    count: points of each, evenly along the ink.
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
    """Measures of each image's best drawing against KanjiVG's strokes.

    - Against those of the true kanji.
    - "right ones": the same, of drawings that the recogniser reads right; NaN for others.
    - "wrong kanji": against those of another image's kanji, chosen at random. The gap between the
      two shows what a measure is worth.

    Last comes the Chamfer distance between the two best drawings of an image.
    """
    drawn = [r.strokes[0] for r in cases.results]
    other = derangement(cases.code_points, cases.seed)
    bar = tqdm(total=len(drawn), desc="comparing strokes", unit="image", disable=None)
    true, wrong, apart = [], [], []
    for drawing, i, result in zip(drawn, other, cases.results):
        true.append(compare(drawing, cases.truth[len(true)]))
        wrong.append(compare(drawing, cases.truth[i]))
        apart.append(
            chamfer(result.strokes[1], result.strokes[0])
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
    """For each entry the index of a random entry of another class, (N,) int; its own index if there
    is none.

    classes: (N,) int.
    """
    random, out = np.random.default_rng(seed), np.arange(len(classes))
    for i, own in enumerate(classes):
        for j in random.integers(0, len(classes), 100):
            if classes[j] != own:
                out[i] = j
                break
    return out
