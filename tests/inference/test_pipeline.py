"""The shipped weights through the public API."""

import copy
import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from lxml import etree

from transfer import KuzushijiTransfer
from transfer.inference.images import load_image
from transfer.models import sketch_rnn
from transfer.models.stroke_forms import likeness
from transfer.stages import decoders
from transfer.stages.point_decoder import same_points
from transfer.training import weights
from transfer.training.weights import WeightsError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


@pytest.fixture(scope="module")
def images():
    return np.stack([load_image(p) for p in EXAMPLES])


@pytest.fixture(scope="module")
def results(model, images):
    return model.transfer(images, samples=3, seed=0)


def test_result_has_the_promised_shapes_and_types(results, images):
    assert len(results) == len(images)
    for result, image in zip(results, images):
        np.testing.assert_array_equal(result.image, image)
        assert len(result.strokes) == len(result.written) == len(result.scores) == 3
        for drawing in result.strokes:
            assert len(drawing) >= 1
            for stroke in drawing:
                assert (
                    stroke.dtype == np.float32
                    and stroke.ndim == 2
                    and stroke.shape[1] == 2
                    and np.isfinite(stroke).all()
                )
        assert (np.diff(result.scores) <= 0).all()
        for picture in (result.pixels, result.old_reconstruction, result.new_reconstruction):
            assert (
                picture.shape == (64, 64)
                and picture.dtype == np.float32
                and 0 <= picture.min()
                and picture.max() <= 1
            )
        probabilities = [p for _, p in result.candidates]
        assert len(probabilities) == 10 and sorted(probabilities, reverse=True) == probabilities
        assert 0 < sum(probabilities) <= 1 + 1e-5
        assert result.z_old.shape == result.z_new.shape == (64,)
        assert (
            result.uncertainty.shape == (64, 64)
            and 0 <= result.uncertainty.min()
            and result.uncertainty.max() <= 0.5
        )
        assert sorted(result.order.tolist()) == [0, 1, 2]


def test_sample_zero_is_what_one_sample_draws(model, images, results):
    for one, three in zip(model.transfer(images, samples=1, seed=0), results):
        same = three.strokes[int(np.argmin(three.order))]
        assert len(same) == len(one.strokes[0]) and all(
            np.abs(a - b).max() < 0.1 for a, b in zip(same, one.strokes[0])
        )
        np.testing.assert_allclose(one.uncertainty, three.uncertainty, atol=1e-5)


def test_numbers_of_samples_share_what_is_compiled(model, images):
    """A program for each would take some 45 MB and seconds each, and a server's memory would grow
    for hours."""
    model.transfer(images[:1], samples=2)
    compiled = len(model.reader)
    for samples in (3, 7, 10):
        [result] = model.transfer(images[:1], samples=samples)
        assert len(result.strokes) == len(result.written) == samples
    assert len(model.reader) == compiled


def test_uncertainty_is_where_the_likely_kanji_differ(results):
    """Nearly none where one candidate has all the probability, and more, the more candidates share
    it."""
    best = np.array([r.candidates[0][1] for r in results])
    spread = np.array([r.uncertainty.mean() for r in results])
    assert all(r.uncertainty.max() > 0 for r in results)
    order = np.argsort(best)
    assert spread[order[: len(order) // 2]].mean() > spread[order[len(order) // 2 :]].mean()


def test_read_gives_what_transfer_gives_without_the_drawings(model, images, results):
    for read, drawn in zip(model.read(images), results):
        assert [c for c, _ in read.candidates] == [c for c, _ in drawn.candidates]
        np.testing.assert_allclose(
            [p for _, p in read.candidates], [p for _, p in drawn.candidates], rtol=1e-4
        )
        np.testing.assert_allclose(read.pixels, drawn.pixels, atol=1e-5)
        assert read.verdict == drawn.verdict and read.note == drawn.note == ""
        assert read.strokes == read.written == [] and len(read.scores) == len(read.order) == 0


def test_verdict_goes_by_the_level_that_is_asked_for(model, images):
    plain = model.read(images)
    assert {r.verdict for r in plain} <= {"sure", "not sure", "not a kanji"}
    for at_least in (1e-9, 1.0):
        for before, after in zip(plain, model.read(images, sure=at_least)):
            assert (after.verdict == "not a kanji") == (before.verdict == "not a kanji")
            if after.verdict != "not a kanji":
                assert after.verdict == (
                    "sure" if after.candidates[0][1] >= at_least else "not sure"
                )


def test_blank_and_full_images_are_no_kanji(model):
    speck = np.zeros((64, 64), np.uint8)
    speck[30:33, 30:33] = 255
    images = np.stack([np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8), speck])
    assert [r.verdict for r in model.read(images)] == ["not a kanji"] * 3


def test_drawings_stay_in_and_fill_the_box(results):
    for result in results:
        points = np.concatenate(result.strokes[0])
        assert points.min() > -15 and points.max() < 124
        assert np.ptp(points, axis=0).max() > 50


def test_drawing_looks_like_the_predicted_picture(results):
    strokes, pictures = (
        same_points([r.strokes[0] for r in results]),
        np.stack([r.pixels for r in results]),
    )
    own, others = (
        np.mean(likeness(strokes[a], pictures[b]))
        for a, b in ((np.s_[:], np.s_[:]), (np.s_[:-1], np.s_[1:]))
    )
    assert own > others + 0.15


def test_answers_are_the_same_whatever_jax_calculates_with(model, images, results):
    """JAX_ENABLE_X64 draws other random numbers, and with them the forms that an image is read
    through would be others."""
    with jax.enable_x64(True):
        again = model.transfer(images, samples=3, seed=0)
    for a, b in zip(results, again):
        assert a.candidates == b.candidates and a.z_old.dtype == b.z_old.dtype == np.float32
        for one, other in zip(a.strokes, b.strokes):
            np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))


def test_a_paper_decoder_of_an_earlier_version_draws(model, images, tmp_path):
    """Its file still holds the settings of what the point decoder had besides, turned off."""
    config = dataclasses.replace(
        sketch_rnn.SketchRNNConfig.paper(), units=8, layers=2, mixtures=2, longest=12
    )
    off = {
        "glimpse": False,
        "plan": False,
        "plan_batch": 1024,
        "particles": 1,
        "joint_pen": False,
        "embed": 0,
        "head": 0,
        "noise": 0.0,
    }
    params = nnx.to_pure_dict(nnx.split(sketch_rnn.SketchRNN(config, nnx.Rngs(0)))[1])
    weights.save(
        tmp_path / "sketch_rnn.safetensors",
        params,
        {},
        {"config": dataclasses.asdict(config) | off},
    )
    other = copy.copy(model)
    other.decoder = decoders.load_decoder(tmp_path)
    for result in other.transfer(images[:2], samples=3):
        assert (
            len(result.strokes) == 3
            and np.isfinite(result.scores).all()
            and (np.diff(result.scores) <= 0).all()
        )
        assert all(
            stroke.ndim == 2 and len(stroke) > 1 for drawing in result.strokes for stroke in drawing
        )


def test_svg_has_one_path_a_stroke_in_kanjivg_structure(results):
    result = results[0]
    root = etree.fromstring(result.svg().encode())
    paths = root.findall(".//{http://www.w3.org/2000/svg}path")
    assert len(paths) == len(result.strokes[0])
    assert root.get("viewBox") == "0 0 109 109"
    group = paths[0].getparent().get("id")
    assert re.fullmatch(rf"kvg:{ord(result.written[0]):05x}-Drawn[0-9a-f]{{10}}", group)
    assert [p.get("id") for p in paths] == [f"{group}-s{n}" for n in range(1, len(paths) + 1)]


def test_same_seed_same_drawings_other_seed_others(model, images, results):
    again = model.transfer(images, samples=3, seed=0)
    for a, b in zip(results, again):
        assert all(np.array_equal(s, t) for d, e in zip(a.strokes, b.strokes) for s, t in zip(d, e))
    other = model.transfer(images, samples=3, seed=1)
    assert any(
        len(s) != len(t) or not np.array_equal(s, t)
        for a, b in zip(results, other)
        for d, e in zip(a.strokes, b.strokes)
        for s, t in zip(d, e)
    )


def test_an_image_alone_gives_what_it_gives_among_others(model, images, results):
    [alone] = model.transfer(images[3], samples=3, seed=0)
    assert [c for c, _ in alone.candidates] == [c for c, _ in results[3].candidates]
    for a, b in zip(alone.strokes[0], results[3].strokes[0]):
        np.testing.assert_allclose(a, b, atol=0.05)


def test_extreme_images_stay_finite(model):
    one_pixel = np.zeros((64, 64), np.uint8)
    one_pixel[30, 30] = 255
    images = np.stack([np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8), one_pixel])
    for result in model.transfer(images, samples=1):
        assert (
            np.isfinite(result.pixels).all()
            and np.isfinite([p for _, p in result.candidates]).all()
        )
        assert all(np.isfinite(s).all() for s in result.strokes[0])


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 32, 64), np.uint8), np.zeros((64, 64), np.float32), np.zeros((64,), np.uint8)],
)
def test_wrong_arrays_are_refused(model, bad):
    with pytest.raises(ValueError, match="give"):
        model.transfer(bad)


@pytest.mark.parametrize(
    "argument",
    [{"samples": 0}, {"temperature": 0.0}, {"temperature": 2.0}, {"sure": 0.0}, {"sure": 1.5}],
)
def test_wrong_numbers_are_refused(model, argument):
    with pytest.raises(ValueError, match="give"):
        model.transfer(np.zeros((64, 64), np.uint8), **argument)


def test_folder_without_weights_is_one_clear_line(tmp_path):
    with pytest.raises(WeightsError, match="vae_old"):
        KuzushijiTransfer.load(tmp_path)


def test_write_draws_a_latent_as_transfer_does_and_what_lies_between_two(model, images):
    results = model.transfer(images, samples=1, seed=0)
    written = model.write(np.stack([r.z_new for r in results]), seed=0)
    assert [len(w) for w in written] == [1] * len(results)
    # The picture comes from another compiled function: a rounding may turn one of its drawings
    # another way.
    same = [
        len(w[0]) == len(r.strokes[0])
        and all(
            a.shape == b.shape and np.abs(a - b).max() < 0.1 for a, b in zip(w[0], r.strokes[0])
        )
        for w, r in zip(written, results)
    ]
    assert np.mean(same) > 0.8, same
    [three] = model.write((results[0].z_new + results[1].z_new) / 2, samples=3)
    assert len(three) == 3 and all(
        s.dtype == np.float32 and s.shape[1] == 2 and np.isfinite(s).all() for d in three for s in d
    )
    assert model.write(np.zeros((0, 64))) == []


@pytest.mark.parametrize(
    "z_new, arguments",
    [
        (np.zeros(32), {}),
        (np.zeros((1, 1, 64)), {}),
        (np.full(64, np.nan), {}),
        (np.zeros(64), {"samples": 0}),
        (np.zeros(64), {"temperature": 2.0}),
    ],
)
def test_write_refuses_other_arrays_and_numbers(model, z_new, arguments):
    with pytest.raises(ValueError, match="give"):
        model.write(z_new, **arguments)
