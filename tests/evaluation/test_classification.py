import numpy as np
import pytest

from transfer.evaluation.calibration import balanced_accuracy
from transfer.evaluation.classification import Answers, by_frequency, confused, measure

# Three classes learned from 100, 10 and 2 images; class 0 asked four times (one wrong), 1 twice
# (one wrong), 2 once (wrong).
LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
CHOSEN = np.array([0, 0, 0, 1, 1, 0, 1])


@pytest.fixture
def cases():
    probabilities = np.full((7, 3), 0.1)
    probabilities[np.arange(7), CHOSEN] = 0.8
    return Answers(np.log(probabilities), LABELS, np.array([100, 10, 2]))


def test_balanced_accuracy_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    for _ in range(5):
        labels, answers = random.integers(0, 9, (2, 50))
        assert balanced_accuracy(labels, answers) == pytest.approx(
            metrics.recall_score(labels, answers, average="macro", labels=np.unique(labels))
        )
    assert np.isnan(balanced_accuracy([], []))


def test_measures(cases):
    found = measure(cases)
    assert found.per_image["accuracy"].mean() == pytest.approx(4 / 7)
    assert found.per_image["cross-entropy"].mean() == pytest.approx(
        -(4 * np.log(0.8) + 3 * np.log(0.1)) / 7
    )
    assert found.overall["balanced accuracy"].estimate == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert found.overall["accuracy as classes occur"].estimate == pytest.approx(
        (100 * 3 / 4 + 10 / 2) / 112
    )
    assert found.overall["expected calibration error"] == pytest.approx(0.8 - 4 / 7)
    interval = found.overall["balanced accuracy"]
    assert interval.low <= interval.estimate <= interval.high


def test_classes_without_a_vote_are_no_hit_in_the_first_five():
    shares = np.full((2, 20), 1e-12)
    shares[:, 3], shares[:, 7] = 0.75, 0.25
    found = measure(Answers(np.log(shares), np.array([7, 9]), np.full(20, 5)))
    assert found.per_image["top-5"].tolist() == [1, 0] and found.per_image["top-10"].tolist() == [
        1,
        0,
    ]


def test_bands_and_confusions(cases):
    bands = by_frequency(cases)
    assert list(bands) == ["1–4", "10–49", "50–199"]
    assert (
        bands["50–199"] == {"images": 4, "classes": 1, "accuracy": 0.75, "balanced accuracy": 0.75}
        and bands["1–4"]["accuracy"] == 0
    )
    kinds = confused(cases)
    assert [(a, b, index.tolist()) for a, b, index in kinds] == [
        (0, 1, [3]),
        (1, 0, [5]),
        (2, 1, [6]),
    ]
    assert confused(Answers(cases.log_probabilities, CHOSEN, cases.train_count)) == []
