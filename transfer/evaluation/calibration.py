"""How well stated probabilities and scores agree with the truth.

Here are reliability and calibration error, balanced accuracy, AUROC and bootstrap intervals.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_CHUNK = 1 << 20  # resampled indices at a time


class Reliability(NamedTuple):
    """Answers in bins; each array is (bins,).

    confidence: the mean of each bin, NaN if it is empty.
    hit_rate: the share of right answers, NaN if the bin is empty.
    count: the number of answers.
    """

    confidence: np.ndarray
    hit_rate: np.ndarray
    count: np.ndarray


class Interval(NamedTuple):
    """A number and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def reliability(confidence, hit, bins: int = 15, adaptive: bool = False) -> Reliability:
    """Answers binned by confidence, for a reliability plot.

    confidence: (N,) in [0, 1].
    hit: (N,) bool, whether the answer was right.
    bins: their number. A bin is (a, b]; the first one holds 0 too.
    adaptive: whether bins hold equally many answers, where equal confidences stay together;
    otherwise they are equally wide.

    Raises ValueError if the shapes differ or a confidence lies outside [0, 1].
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
    """Mean over answers of |hit rate - mean confidence| of their bin, in [0, 1].

    This is equation 3 of Guo et al., "On Calibration of Modern Neural Networks" (2017). It is NaN
    without answers. Arguments and errors are those of `reliability`. Bins of equal width lump
    nearly all answers of a sure model together; `adaptive` ones do not.
    """
    mean, rate, count = reliability(confidence, hit, bins, adaptive)
    full = count > 0
    return (
        float(np.average(np.abs(rate - mean)[full], weights=count[full]))
        if full.any()
        else float("nan")
    )


def balanced_accuracy(labels, answers) -> float:
    """The share of each class's examples that are answered right, averaged over classes.

    labels, answers: (N,) int. Classes that do not occur among the labels do not count.

    Returns a number in [0, 1], NaN without examples.
    """
    labels, answers = np.asarray(labels), np.asarray(answers)
    _, which, count = np.unique(labels, return_inverse=True, return_counts=True)
    return (
        float((np.bincount(which, answers == labels) / count).mean())
        if len(labels)
        else float("nan")
    )


def auroc(score, positive) -> float:
    """The chance that a positive scores higher than a negative, where ties count half.

    It is the Mann–Whitney U over the number of pairs, and NaN without positives or negatives.

    score: numbers of any shape.
    positive: bool of the same shape.

    Raises ValueError if the shapes differ or a score is NaN.
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
    """A statistic and its percentile bootstrap interval over resampled rows (Efron, 1979).

    values: (N,) or (N, k). A row is an image, so that its k drawings stay together.
    statistic: a function of an array (n,) or (n, k). `np.nanmean` is vectorised; any other runs
    once a draw.
    draws: how often rows are resampled.
    seed: the same one gives the same interval.
    level: the share of draws inside the interval.

    Rows of NaN are resampled like others, and the statistic deals with them. Draws whose statistic
    is NaN are left out. The interval is NaN if fewer than two rows hold a number, and the estimate
    if none does.
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
