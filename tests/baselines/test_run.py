"""transfer.baselines.run: what a row of the table says of itself."""

import dataclasses
import json

import numpy as np
import pytest

from transfer.baselines import figures, run
from transfer.baselines.datasets import Labelled
from transfer.baselines.task import BaselineConfig


def coarse_digits() -> Labelled:
    """Three classes that overlap, 60 images to learn from and 30 to ask about."""
    random = np.random.default_rng(0)
    patterns = np.kron(random.random((3, 7, 7)), np.ones((4, 4)))
    labels = random.integers(0, 3, 90).astype(np.int32)
    images = 255 * (patterns[labels] + random.normal(0, 4.0, (90, 28, 28))).clip(0, 1)
    images = images.astype(np.uint8)
    parts = images[:60], labels[:60], images[60:], labels[60:]
    return Labelled("kmnist", *parts, list("abc"), "synthetic", {"data": {"sample": True}})


@pytest.fixture
def read(tmp_path, monkeypatch):
    """read(model, folder, …) -> (evaluation.json of a run, what its embedding was drawn of)."""
    shown = []
    for name in ("sheet", "matrix", "saliency", "curves"):
        monkeypatch.setattr(figures, name, lambda *given: None)
    monkeypatch.setattr(figures, "embedding", lambda *given: shown.append(given[:2]))

    def read(config, folder, **settings):
        run.run(config, coarse_digits(), tmp_path / folder, "val", **settings)
        [found] = (tmp_path / folder).glob("kmnist/*/evaluation/val/evaluation.json")
        return json.loads(found.read_text("utf-8")), shown.pop()

    return read


def test_intervals_come_again_with_the_seed(read):
    config = BaselineConfig.published("knn", "none", 28)
    (one, _), (again, _) = (read(config, folder, seed=3) for folder in ("one", "again"))
    other, _ = read(config, "other", seed=4)
    assert one["metrics"] == again["metrics"] != other["metrics"]
    assert one["about"]["seed"] == 3 and one["about"]["epochs"] == 0


def test_logistic_regression_has_no_epochs_and_is_shown_by_its_pixels(read):
    config = BaselineConfig.published("logistic", "none", 28)
    summary, (train, test) = read(dataclasses.replace(config, steps=4), "one")
    about, data = summary["about"], coarse_digits()
    assert about["epochs_published"] == 0 and about["parameters"] == 3 * (28 * 28 + 1)
    pixels = {image.tobytes() for image in np.float32(data.test_images.reshape(30, -1) / 255)}
    assert len(test) and {np.float32(row).tobytes() for row in test} <= pixels
    assert train.shape[1] == 28 * 28
