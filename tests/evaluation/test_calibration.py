import math

import numpy as np
import pytest
from scipy import stats

from transfer.evaluation.calibration import (
    auroc,
    bootstrap,
    expected_calibration_error,
    reliability,
)


def answers(count=500, seed=0):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(size=count).round(2)  # with 0, 1 and bin edges among them
    return confidence, rng.uniform(size=count) < confidence**2


def test_calibration_error_by_hand():
    confidence, hit = [0.9, 0.9, 0.9, 0.9, 0.6], [True, True, True, False, False]
    assert expected_calibration_error(confidence, hit, bins=10) == pytest.approx(
        (4 * 0.15 + 0.6) / 5
    )
    assert expected_calibration_error(confidence, hit, bins=1) == pytest.approx(abs(4.2 - 3) / 5)
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0
    assert expected_calibration_error([0.0, 1.0], [True, False]) == 1
    assert math.isnan(expected_calibration_error([], []))


@pytest.mark.parametrize("bins", [4, 10, 15])
def test_calibration_error_is_the_papers_sum(bins):
    confidence, hit = answers()
    total = 0
    for m in range(bins):
        inside = (confidence > np.linspace(0, 1, bins + 1)[m]) & (
            confidence <= np.linspace(0, 1, bins + 1)[m + 1]
        )
        inside |= (m == 0) & (confidence == 0)
        if inside.any():
            total += inside.sum() / len(hit) * abs(hit[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, hit, bins) == pytest.approx(total)


def test_reliability_of_each_bin():
    found = reliability([0, 0.25, 0.3, 0.5, 0.9], [True, False, True, False, True], bins=4)
    assert found.count.tolist() == [2, 2, 0, 1]
    assert found.confidence == pytest.approx([0.125, 0.4, math.nan, 0.9], nan_ok=True)
    assert found.hit_rate == pytest.approx([0.5, 0.5, math.nan, 1], nan_ok=True)


def test_adaptive_bins_hold_equal_counts():
    confidence = np.linspace(0.9, 0.99, 12) ** 2
    hit = np.arange(12) % 3 == 0
    assert reliability(confidence, hit, 4).count.tolist() == [0, 0, 0, 12]
    found = reliability(confidence, hit, 4, adaptive=True)
    assert found.count.tolist() == [3, 3, 3, 3]
    assert found.confidence == pytest.approx(confidence.reshape(4, 3).mean(1))
    assert expected_calibration_error(confidence, hit, 4, adaptive=True) == pytest.approx(
        confidence.mean() - 1 / 3
    )


def test_adaptive_bins_keep_equal_confidences_together():
    confidence, hit = np.array([0.2, 1, 1, 1, 1, 1]), np.array([1, 1, 1, 1, 0, 0], bool)
    found = reliability(confidence, hit, 3, adaptive=True)
    assert sorted(found.count.tolist()) == [0, 0, 6] or sorted(found.count.tolist()) == [0, 1, 5]
    order = np.random.default_rng(0).permutation(500)
    confidence, hit = answers()
    assert expected_calibration_error(
        confidence[order], hit[order], adaptive=True
    ) == pytest.approx(expected_calibration_error(confidence, hit, adaptive=True))


@pytest.mark.parametrize(
    "confidence, hit",
    [([0.5], [True, False]), ([1.1], [True]), ([math.nan], [True]), ([[0.5]], [[True]])],
)
def test_confidences_are_checked(confidence, hit):
    with pytest.raises(ValueError):
        expected_calibration_error(confidence, hit)


def test_auroc_by_hand():
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auroc([1, 2, 3, 4], [True, True, False, False]) == 0
    assert auroc([1, 2, 3, 4], [False, True, False, True]) == 0.75
    assert auroc([5, 5, 5], [True, False, True]) == 0.5
    assert math.isnan(auroc([1, 2], [True, True])) and math.isnan(auroc([], []))
    with pytest.raises(ValueError, match="NaN"):
        auroc([1, math.nan], [True, False])
    with pytest.raises(ValueError, match="shape"):
        auroc([1, 2, 3], [True, False])


def test_auroc_is_scipys_mann_whitney_with_ties():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(20, size=(30, 10)), rng.uniform(size=(30, 10)) < 0.3
    u = stats.mannwhitneyu(score[positive], score[~positive]).statistic
    assert auroc(score, positive) == pytest.approx(u / (positive.sum() * (~positive).sum()))


def test_bootstrap_is_scipys_percentile_interval():
    values = np.random.default_rng(1).exponential(size=200)
    ours = bootstrap(values, draws=4000, level=0.9)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=4000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.01) and ours.high == pytest.approx(
        theirs.high, abs=0.01
    )


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
def test_bootstrap_of_the_mean_is_the_plain_loop(shape, monkeypatch):
    monkeypatch.setattr(
        "transfer.evaluation.calibration._CHUNK", 1000
    )  # several chunks, the last not full
    values = np.random.default_rng(0).normal(size=shape)
    values[::7] = np.nan
    seen = []
    fast, slow = (
        bootstrap(values, draws=77, seed=3),
        bootstrap(values, lambda rows: seen.append(np.nanmean(rows)) or seen[-1], draws=77, seed=3),
    )
    assert fast == pytest.approx(slow) and len(set(seen)) == 78
    assert fast == bootstrap(values, draws=77, seed=3)
    assert fast != bootstrap(values, draws=77, seed=4)


def test_bootstrap_resamples_images_not_drawings():
    values = np.random.default_rng(0).normal(size=100)
    assert bootstrap(np.repeat(values[:, None], 10, axis=1)) == pytest.approx(bootstrap(values))


def test_bootstrap_of_a_statistic_of_columns():
    confidence, hit = answers(200)
    found = bootstrap(
        np.stack([confidence, hit], 1),
        lambda rows: expected_calibration_error(rows[:, 0], rows[:, 1]),
        draws=200,
    )
    assert found.estimate == pytest.approx(expected_calibration_error(confidence, hit))
    assert found.low < found.high < 1 and found.low > 0


def test_bootstrap_of_few_values():
    nan = math.nan
    assert bootstrap([]) == pytest.approx((nan, nan, nan), nan_ok=True)
    assert bootstrap(np.zeros((0, 3))) == pytest.approx((nan, nan, nan), nan_ok=True)
    assert bootstrap([nan, nan]) == pytest.approx((nan, nan, nan), nan_ok=True)
    assert bootstrap([0.5]) == pytest.approx((0.5, nan, nan), nan_ok=True)
    assert bootstrap([0.5, nan]) == pytest.approx((0.5, nan, nan), nan_ok=True)
    assert bootstrap([0, 1]) == (0.5, 0, 1)
    assert bootstrap([0.5, 0.5, nan]) == pytest.approx((0.5, 0.5, 0.5))
