"""transfer.baselines.run: what a row of the table says of itself."""

import dataclasses
import json

import numpy as np
import pytest

from transfer.baselines import figures, run
from transfer.baselines.task import BaselineConfig


@pytest.fixture
def data(blobs):
    return blobs(train=60, test=30, classes=3, noise=4.0)


@pytest.fixture
def read(data, tmp_path, monkeypatch):
    """read(config, folder, …) -> (evaluation.json of a run, what its embedding was drawn of)."""
    shown = []
    for name in ("sheet", "matrix", "saliency", "curves"):
        monkeypatch.setattr(figures, name, lambda *given: None)
    monkeypatch.setattr(figures, "embedding", lambda *given: shown.append(given[:2]))

    def read(config, folder, **settings):
        run.run(config, data, tmp_path / folder, "val", **settings)
        [found] = (tmp_path / folder).glob("kmnist/*/evaluation/val/evaluation.json")
        return json.loads(found.read_text("utf-8")), shown.pop()

    return read


def test_intervals_come_again_with_the_seed(read):
    config = BaselineConfig.published("knn", "none", 28)
    (one, _), (again, _) = (read(config, folder, seed=3) for folder in ("one", "again"))
    other, _ = read(config, "other", seed=4)
    assert one["metrics"] == again["metrics"] != other["metrics"]
    assert one["about"]["seed"] == 3 and one["about"]["epochs"] == 0


def test_logistic_regression_has_no_epochs_and_is_shown_by_its_pixels(read, data):
    config = BaselineConfig.published("logistic", "none", 28)
    summary, (train, test) = read(dataclasses.replace(config, steps=4), "one")
    about = summary["about"]
    assert about["epochs_published"] == 0 and about["parameters"] == 3 * (28 * 28 + 1)
    pixels = {image.tobytes() for image in np.float32(data.test_images.reshape(30, -1) / 255)}
    assert len(test) and {np.float32(row).tobytes() for row in test} <= pixels
    assert train.shape[1] == 28 * 28
