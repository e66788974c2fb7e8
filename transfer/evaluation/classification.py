"""Evaluator of classifiers: how often are they right, also of rare classes?"""

from __future__ import annotations

import dataclasses

import numpy as np

from transfer.evaluation.calibration import balanced_accuracy, bootstrap, expected_calibration_error
from transfer.evaluation.cases import Measures
from transfer.evaluation.report import FREQUENCY
from transfer.stages.encoding import places


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a classifier says of held-out images.

    log_probabilities: (N, C), natural logarithms.
    labels: (N,) int, the true classes.
    train_count: (C,) int, how many training images each class has.
    seed: of the bootstrap.
    """

    log_probabilities: np.ndarray
    labels: np.ndarray
    train_count: np.ndarray
    seed: int = 0

    @property
    def chosen(self) -> np.ndarray:
        """The class that is answered, (N,) int; of equally probable ones the first."""
        return self.log_probabilities.argmax(1)


def measure(cases: Answers) -> Measures:
    """Measures of each image, and of all.

    Of each image: accuracy, top-5 and top-10 (1 or 0), and cross-entropy in nats. Of all: balanced
    accuracy; "accuracy as classes occur", where a class's weight is its number of training images,
    as it would be in a text; and the expected calibration error.
    """
    labels, chosen, log = cases.labels, cases.chosen, cases.log_probabilities
    right, own = (chosen == labels).astype(np.float64), log[np.arange(len(labels)), labels]
    ranks = places(log, labels)  # of nearest neighbours most classes have no vote at all
    found = {"accuracy": right} | {
        f"top-{k}": (ranks < k).astype(np.float64) for k in (5, 10) if k < log.shape[1]
    }
    found["cross-entropy"] = -own.astype(np.float64)
    rows = np.stack([labels, chosen], 1)
    weight = (
        cases.train_count[labels] / np.bincount(labels, minlength=len(cases.train_count))[labels]
    )
    weighted = lambda r: (
        float(np.average(r[:, 0], weights=r[:, 1])) if r[:, 1].sum() else float("nan")
    )
    return Measures(
        found,
        {
            "balanced accuracy": bootstrap(
                rows, lambda r: balanced_accuracy(r[:, 0], r[:, 1]), draws=200, seed=cases.seed
            ),
            "accuracy as classes occur": bootstrap(
                np.stack([right, weight], 1), weighted, draws=200, seed=cases.seed
            ),
            "expected calibration error": expected_calibration_error(
                np.exp(log.max(1)).clip(0, 1), right
            ),
        },
    )


def by_frequency(cases: Answers) -> dict[str, dict]:
    """Accuracy by how many training images a class has.

    Returns band ("5–9") -> number of images and classes, accuracy, balanced accuracy. Bands without
    images are left out.
    """
    count, out = cases.train_count[cases.labels], {}
    for low, high in FREQUENCY:
        inside = (count >= low) & (count <= (high if high is not None else count.max(initial=0)))
        if inside.any():
            labels, chosen = cases.labels[inside], cases.chosen[inside]
            out[f"{low}+" if high is None else f"{low}–{high}"] = {
                "images": int(inside.sum()),
                "classes": len(np.unique(labels)),
                "accuracy": float((labels == chosen).mean()),
                "balanced accuracy": balanced_accuracy(labels, chosen),
            }
    return out


def confused(cases: Answers) -> list[tuple[int, int, np.ndarray]]:
    """The kinds of mistakes, the most frequent first.

    Returns tuples of the true class, the answered class and the images' indices (n,) int.
    """
    wrong = np.flatnonzero(cases.chosen != cases.labels)
    pairs = np.stack([cases.labels[wrong], cases.chosen[wrong]], 1).reshape(-1, 2)
    kinds, which, count = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return [
        (int(kinds[k, 0]), int(kinds[k, 1]), wrong[which.ravel() == k])
        for k in np.argsort(-count, kind="stable")
    ]
