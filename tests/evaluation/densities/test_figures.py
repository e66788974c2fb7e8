"""transfer.evaluation.densities: each figure on data that has a known one."""

from types import SimpleNamespace

import numpy as np
import pytest

from transfer.evaluation.densities import back, forward, tables
from transfer.evaluation.densities.held import Held, hits
from transfer.stages.drawings import write_drawings

POINTS = np.array([0x4E00, 0x4E8C, 0x4E09], np.int32)


def held(mean, label) -> Held:
    mean, label = np.asarray(mean, np.float32), np.asarray(label)
    images = np.zeros((len(label), 64, 64), np.uint8)
    return Held(images, label, mean, mean, np.full_like(mean, -30.0))


class Reader:
    """Names an image by the grey of its first pixel, an index into the classes."""

    classes = POINTS[:2]

    def log_probabilities(self, images):
        return np.log(np.eye(2)[images[:, 0, 0] % 2] * 0.8 + 0.1)


def test_hits_are_shares_of_ranks():
    assert hits("x", np.array([0, 0, 9, 30]), (1, 10)) == {"x, top-1": 0.5, "x, top-10": 0.75}
    assert np.isnan(hits("x", np.zeros(0, int), (1,))["x, top-1"])


def test_a_draw_of_the_posterior_has_its_mean_and_deviation():
    asked = held(np.full((4000, 2), 3.0), np.zeros(4000, int))
    np.testing.assert_allclose(asked.drawn(), 3.0, atol=1e-5)
    wide = Held(asked.images[:1], asked.label, asked.read, asked.mean, np.full((4000, 2), 1.0))
    assert wide.drawn().std() == pytest.approx(np.exp(0.5), rel=0.05)


def test_coverage_asks_for_a_sample_as_near_as_the_nearest_training_image(monkeypatch):
    trained = np.array([[0.0, 0.0], [10.0, 0.0], [50.0, 50.0]])
    monkeypatch.setattr(
        back, "old_latents", lambda *_: (trained, None, np.array([0, 0, 1], np.int32))
    )
    asked = held([[1.0, 0.0], [9.0, 0.0], [50.0, 49.0], [7.0, 7.0]], [0, 0, 1, 2])
    samples = np.array([[[1.0, 0.5], [0.0, 9.0]], [[40.0, 40.0], [9.0, 0.1]], [[0.0, 0.0]] * 2])
    found = back.coverage(None, None, asked, POINTS, samples.reshape(-1, 2))
    # The first has one, the second and third have not, the last has no training image.
    assert found["covered"] == pytest.approx(1 / 3)
    # Kanji 1's samples cover kanji 0's second image.
    assert found["covered by another kanji's"] == pytest.approx(1 / 3)


def test_nearest_is_the_least_distance_to_any_sample():
    random = np.random.default_rng(0)
    z, samples = random.normal(0, 1, (70, 3)), random.normal(0, 1, (5, 4, 3))
    wanted = ((z[:, None, None] - samples) ** 2).sum(-1).min(-1)
    np.testing.assert_allclose(back.nearest(z, samples), wanted, rtol=1e-4, atol=1e-5)


def test_both_opinions_are_weighed_on_the_other_half():
    random = np.random.default_rng(0)
    label = random.integers(0, 20, 400)
    good = random.normal(0, 1, (400, 20)) + 5 * np.eye(20)[label]
    noise = random.normal(0, 3, (400, 20))
    log = lambda x: x - np.logaddexp.reduce(x, 1, keepdims=True)
    _, share = back.combined(log(noise), log(good), label, None)
    assert share > 0.8
    scores, share = back.combined(log(good), log(noise), label, None)
    assert share < 0.2
    given, same = back.combined(log(good), log(noise), label, share)
    assert same == share and given.shape == scores.shape
    np.testing.assert_allclose(given, (1 - share) * log(good) + share * log(noise), rtol=1e-6)


def test_the_classifier_reads_only_what_it_knows():
    asked = held(np.zeros((3, 2)), [0, 1, 2])
    asked.images[:, 0, 0] = [0, 0, 1]  # the second is read wrongly
    pictures = np.zeros((6, 64, 64), np.uint8)
    pictures[:, 0, 0] = [0, 1, 1, 1, 0, 0]  # two of each kanji
    found = back.read(Reader(), asked, POINTS, pictures)
    assert found["painted, top-1"] == 0.75 and found["images, top-1"] == 0.5
    only = back.read(Reader(), held(np.zeros((1, 2)), [2]), POINTS, pictures)
    assert all(np.isnan(value) for value in only.values())


def test_pictures_are_read_and_blanks_are_nobody_s():
    images = np.zeros((4, 64, 64), np.uint8)
    images[:, 0, 0] = [0, 1, 1, 1]
    images[1:, 5, 5] = 9
    images[0, 0, 0] = 0
    answers, right = forward.read(Reader(), list(images), POINTS, np.array([0, 1]))
    assert answers.tolist() == [-1, 0x4E8C, 0x4E8C, 0x4E8C]
    assert right.tolist() == [False, False, True, True]


class Normal:
    """A density of z_new that is normal with a deviation, whatever is given."""

    def __init__(self, deviation: float):
        self.deviation = deviation

    def log_prob(self, z_old, z_new):
        return -((z_new / self.deviation) ** 2).sum(-1) / 2

    def draws(self, z_old, number, seed):
        random = np.random.default_rng(seed)
        return random.normal(0, self.deviation, (len(z_old), number, 2))


def test_a_calibrated_spread_holds_what_it_says():
    asked, truth = held(np.zeros((1500, 2)), np.zeros(1500, int)), np.random.default_rng(9)
    truth = truth.normal(0, 1, (1500, 2))
    for deviation, wanted in ((1.0, {0.5: 0.5, 0.9: 0.9}), (3.0, {0.5: 1.0, 0.9: 1.0})):
        density = Normal(deviation)
        log_prob = density.log_prob(None, truth)
        found = forward.spread(density, asked, log_prob, 0)
        for share, expected in wanted.items():
            assert found[share].mean() == pytest.approx(expected, abs=0.05)
    narrow = forward.spread(Normal(0.2), asked, Normal(0.2).log_prob(None, truth), 0)
    assert narrow[0.9].mean() < 0.2


def test_drawings_come_back_in_their_order():
    decoder = SimpleNamespace(
        config=SimpleNamespace(temperature=0.1),
        draw=lambda z, pictures, keys, temperature, lengths: (
            [float(x[0]) for x in z],
            [10 * float(x[0]) for x in z],
        ),
        lengths=lambda z, pictures: np.arange(10)[::-1],
    )
    z, keys = np.arange(10.0)[:, None], np.zeros((10, 2), np.uint32)
    made, alike = write_drawings(decoder, z, z, keys, 0.1, (4,))
    assert made == list(range(10)) and alike.tolist() == [10.0 * n for n in range(10)]


def test_the_table_has_a_column_a_run_and_a_dash_for_what_is_not_there():
    text = tables.markdown({"a": {"x": 0.5, "y": float("nan")}, "b": {"z": 2.0, "x": 1.0}})
    assert text.splitlines() == [
        "|  | a | b |",
        "| --- | --- | --- |",
        "| x | 0.500 | 1.000 |",
        "| y | – | – |",
        "| z | – | 2.000 |",
    ]
