"""Data that the classifiers' tests share."""

import numpy as np
import pytest

from transfer.baselines.datasets import Labelled


@pytest.fixture(scope="session")
def blobs():
    def blobs(train=400, test=150, classes=5, size=28, noise=0.6, seed=0) -> Labelled:
        """Classes that overlap: a coarse pattern each, and noise."""
        random = np.random.default_rng(seed)
        patterns = np.kron(random.random((classes, 7, 7)), np.ones((size // 7, size // 7)))
        labels = random.integers(0, classes, train + test).astype(np.int32)
        images = np.uint8(
            255
            * (patterns[labels] + random.normal(0, noise, (train + test, size, size))).clip(0, 1)
        )
        return Labelled(
            "kmnist",
            images[:train],
            labels[:train],
            images[train:],
            labels[train:],
            list("abcdefghij"[:classes]),
            "synthetic",
            {"data": {"sample": True}},
        )

    return blobs
