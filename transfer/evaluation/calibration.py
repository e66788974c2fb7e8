"""Stated probabilities and scores against what came true: calibration error, reliability, AUROC,
bootstrap intervals."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_CHUNK = 1 << 20  # resampled indices at a time


class Reliability(NamedTuple):
    """Per bin, (bins,) each: mean confidence and hit rate, NaN where the bin is empty, and the
    number of answers."""

    confidence: np.ndarray
    hit_rate: np.ndarray
    count: np.ndarray


class Interval(NamedTuple):
    estimate: float
    low: float
    high: float


def reliability(confidence, hit, bins: int = 15, adaptive: bool = False) -> Reliability:
    """Answers binned by confidence, for a reliability plot.

    confidence: (N,) in [0, 1]. hit: (N,) bool, whether the answer was right. Bins are (a, b], of
    equal width, the first one with 0; with `adaptive` of equal count, except that equal confidences
    stay together. Raises ValueError on wrong shapes and on confidences outside [0, 1].
    """
    confidence, hit = np.asarray(confidence, np.float64), np.asarray(hit, np.float64)
    if confidence.ndim != 1 or confidence.shape != hit.shape:
        raise ValueError(f"confidence {confidence.shape} and hit {hit.shape}: give two arrays (N,)")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence is NaN or outside [0, 1]; give probabilities")
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    if adaptive and len(confidence):
        edges = np.quantile(confidence, edges)
    which = np.searchsorted(edges, confidence)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, rate = (np.bincount(which, values, bins) / count for values in (confidence, hit))
    return Reliability(mean, rate, count)


def expected_calibration_error(confidence, hit, bins: int = 15, adaptive: bool = False) -> float:
    """Mean over answers of |hit rate - mean confidence| of their bin, in [0, 1]; NaN without
    answers.

    Guo et al., "On Calibration of Modern Neural Networks" (2017), equation 3; arguments and errors
    as in `reliability`. With `adaptive`, bins of equal count, which do not lump nearly all answers
    of a sure model together.
    """
    mean, rate, count = reliability(confidence, hit, bins, adaptive)
    full = count > 0
    return (
        float(np.average(np.abs(rate - mean)[full], weights=count[full]))
        if full.any()
        else float("nan")
    )


def balanced_accuracy(labels, answers) -> float:
    """Mean over the classes that occur of the share of their examples answered right, in [0, 1];
    NaN without examples. (N,) int each."""
    labels, answers = np.asarray(labels), np.asarray(answers)
    _, which, count = np.unique(labels, return_inverse=True, return_counts=True)
    return (
        float((np.bincount(which, answers == labels) / count).mean())
        if len(labels)
        else float("nan")
    )


def auroc(score, positive) -> float:
    """Chance that a positive scores higher than a negative, ties counting half; NaN where either is
    missing.

    score: numbers, positive: bool, of one shape. The Mann–Whitney U over the number of pairs.
    Raises ValueError on different shapes and on NaN.
    """
    score, positive = np.asarray(score), np.asarray(positive, bool)
    if score.shape != positive.shape:
        raise ValueError(
            f"score {score.shape} and positive {positive.shape}: give arrays of one shape"
        )
    if np.isnan(score).any():
        raise ValueError("a score is NaN; leave out what has none")
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not (positives and negatives):
        return float("nan")
    _, which, count = np.unique(score.ravel(), return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # from 1, the mean of those tied
    pairs_won = rank[which][positive.ravel()].sum() - positives * (positives + 1) / 2
    return float(pairs_won / (positives * negatives))


def bootstrap(
    values,
    statistic: Callable[[np.ndarray], float] = np.nanmean,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A statistic of the values and its percentile bootstrap interval, resampling rows (Efron,
    1979).

    values: (N,) or (N, k), a row an image, so that the k drawings of an image stay together.
    statistic: of an array (n,) or (n, k); `np.nanmean` runs vectorised, all others once a draw. NaN
    rows are resampled like others and left to the statistic; draws that come out NaN are left out.
    The interval is NaN where fewer than two rows hold a number, the estimate where none does. The
    same seed gives the same interval.
    """
    values = np.asarray(values, np.float64)
    rows = values.reshape(len(values), int(np.prod(values.shape[1:])))
    filled = ~np.isnan(rows)
    known = int(filled.any(1).sum())
    estimate = float(statistic(values)) if known else float("nan")
    if known < 2:
        return Interval(estimate, float("nan"), float("nan"))
    total, number = np.where(filled, rows, 0).sum(1), filled.sum(1)
    rng = np.random.default_rng(seed)
    drawn = []
    while len(drawn) < draws:
        index = rng.integers(
            len(rows), size=(min(draws - len(drawn), max(1, _CHUNK // len(rows))), len(rows))
        )
        if statistic is np.nanmean:
            with np.errstate(invalid="ignore"):
                drawn.extend(total[index].sum(1) / number[index].sum(1))
        else:
            drawn.extend(float(statistic(values[i])) for i in index)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))
