"""transfer.stages: which examples a batch holds, how latents and kanji are paired, and the numbers
that judge val."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import special, stats

from transfer.data.corpus import Corpus, New, Old
from transfer.data.splits import SPLITS
from transfer.data.strokes import from_stroke3
from transfer.data.writing.fonts import Fonts
from transfer.models import mdn, vae
from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.vae import VAEConfig
from transfer.stages import (
    autoencoders,
    density,
    drawings,
    encoding,
    latent_pairs,
    point_decoder,
)
from transfer.training import loop, weights
from transfer.training.errors import TrainingError

# Figures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.6])
def test_calibrate_finds_the_exponent_that_made_the_labels(exponent):
    random = np.random.default_rng(0)
    scores = special.log_softmax(random.normal(0, 2, (4000, 20)), 1)
    label = (exponent * scores + random.gumbel(size=scores.shape)).argmax(
        1
    )  # draws of softmax(exponent * scores)
    got = density.calibrate(scores, label)
    assert got.shape == (1,) and got.dtype == np.float32
    assert got[0] == pytest.approx(exponent, abs=0.101)


def test_gaussian_nll_is_scipys_full_covariance_normal():
    random = np.random.default_rng(0)
    mix = random.normal(0, 1, (5, 5))
    fitted, held = (random.normal(0, 1, (n, 5)) @ mix + 3 for n in (400, 50))
    normal = stats.multivariate_normal(fitted.mean(0), np.cov(fitted.T) + 1e-6 * np.eye(5))
    assert density.gaussian_nll(fitted, held) == pytest.approx(
        -normal.logpdf(held).mean() / 5, rel=1e-6
    )


# Pairing old and new ------------------------------------------------------------------------------


def corpus() -> Corpus:
    """Three kanji, one of them with a variant form that stands before it, and a kana; images of one
    grey each."""
    points = np.array([0x4E00, 0x4E8C, 0x4E8C, 0x3042, 0x4E09], np.int32)
    variants = np.array(["", "Kaisho", "", "", ""])
    lines = [np.float32([(10, 10 * k), (90, 10 * k)]) for k in range(1, 7)]
    bounds = np.arange(len(lines) + 1) * 2
    new = New(
        grey(10, 21, 20, 99, 30),
        points,
        variants,
        np.array([f"kvg:{p:05x}" for p in points]),
        np.concatenate(lines),
        bounds,
        np.array([0, 1, 2, 4, 5, 6]),
        np.full(6, "㇐"),
        np.empty(0, []),
        np.zeros(6, np.int64),
    )
    old_points = np.array([0x4E09, 0x4E00, 0x4E8C, 0x3042, 0x4E00, 0x4E09, 0x56DB], np.int32)
    split = np.array(
        [SPLITS.index(s) for s in ("train", "train", "val", "train", "train", "val", "train")],
        np.uint8,
    )
    old = Old(grey(1, 2, 3, 4, 5, 6, 7), old_points, np.array([str(i) for i in range(7)]), split)
    return Corpus(None, True, {"sources": {"a.tar": {"sha256": "ab", "bytes": 3}}}, old, new)


def grey(*values) -> np.ndarray:
    return np.tile(np.array(values, np.uint8)[:, None, None], (1, 64, 64))


@pytest.fixture
def encoder(monkeypatch):
    """In place of a trained VAE: the latent of a picture is its grey, and 100 more for an augmented
    one."""
    monkeypatch.setattr(
        encoding,
        "encode_images",
        lambda folder, domain, images, key=None, progress="": (
            images[:, :1, 0].astype(np.float32) + (0 if key is None else 100),
            -images[:, :1, 0].astype(np.float32),
        ),
    )
    monkeypatch.setattr(
        encoding,
        "encode_kept",
        lambda folder, images, progress: encoding.encode_images(folder, "old", images),
    )


def test_examples_of_both_domains():
    given = corpus()
    chosen, points = encoding.old_examples(given, "train")
    assert chosen.tolist() == [0, 1, 3, 4, 6] and points[0] == 0x4E09
    assert encoding.new_examples(given, False).tolist() == [
        0,
        4,
        2,
    ]  # by code point: 4E00, 4E09, 4E8C
    assert encoding.new_examples(given, True).tolist() == [0, 1, 2, 4]  # never kana
    assert encoding.corpus_provenance(given) == {
        "data": {"sample": True, "sources": {"a.tar": "ab"}}
    }


def test_forms_stand_in_gallery_order_the_standard_form_first(encoder):
    plain = encoding.modern_forms(None, corpus(), False)
    assert plain.code_points.tolist() == [0x4E00, 0x4E09, 0x4E8C]
    assert plain.mean[:, 0].tolist() == [10, 30, 20] and plain.log_variance[:, 0].tolist() == [
        -10,
        -30,
        -20,
    ]
    assert plain.start.tolist() == [0, 1, 2] and plain.count.tolist() == [1, 1, 1]
    forms = encoding.modern_forms(None, corpus(), True)
    assert forms.mean[:, 0].tolist() == [10, 30, 20, 21]
    assert forms.start.tolist() == [0, 1, 2] and forms.count.tolist() == [1, 1, 2]


def test_old_latents_carry_the_kanji_of_their_image(encoder):
    points = np.array([0x4E00, 0x4E09, 0x4E8C])
    mean, log_variance, label = encoding.old_latents(None, corpus(), "train", points)
    assert mean[:, 0].tolist() == [1, 2, 5] and label.tolist() == [
        1,
        0,
        0,
    ]  # what is not in the gallery is left out
    assert log_variance[:, 0].tolist() == [-1, -2, -5]
    mean, _, label = encoding.old_latents(None, corpus(), "train", points, views=2)
    assert mean[:, 0].tolist() == [101, 102, 105] * 2 and label.tolist() == [1, 0, 0] * 2


def test_predicted_views_are_of_an_image_of_the_kanji_or_of_its_own_glyph(encoder, monkeypatch):
    given = corpus()
    forms = encoding.modern_forms(None, given, False)
    # A density that is sure: z_new = 1000 + z_old.
    monkeypatch.setattr(point_decoder.mdn, "sample", lambda model, z, *_: 1000 + z)
    monkeypatch.setattr(
        point_decoder.nnx,
        "merge",
        lambda graph, params: SimpleNamespace(config=SimpleNamespace(temperature=1.0)),
    )
    z = point_decoder.predicted_views(
        None, given, forms, (None, {}, None, None, None), jax.random.split(jax.random.key(0), 8)
    )
    assert z.shape == (3, 8, 1)
    assert set(z[0, :, 0]) == {1102.0, 1105.0}  # 4E00 has two training images
    assert set(z[1, :, 0]) == {1101.0}
    np.testing.assert_allclose(
        z[2, :, 0], 20, atol=0.1
    )  # 4E8C has a val image only: its glyph's posterior


def test_stroke_arrays_are_padded_stroke_3():
    given = corpus()
    fit = lambda longest: point_decoder.stroke_arrays(
        given, np.array([0, 2]), SketchRNNConfig(longest=longest)
    )
    rows, count = fit(7)
    assert rows.shape == (2, 6, 3) and rows.dtype == np.float32 and count.tolist() == [2, 4]
    for i, glyph in enumerate((0, 2)):
        assert (rows[i, count[i] :] == 0).all()
        for got, wanted in zip(
            from_stroke3(rows[i, : count[i]]), given.new.strokes(glyph), strict=True
        ):
            np.testing.assert_allclose(got, wanted, atol=1e-4)
    with pytest.raises(TrainingError) as error:
        fit(4)
    assert "kvg:04e8c: 4 points" in str(error.value) and "\n" not in str(error.value)
    assert fit(5)[0].shape == (2, 4, 3)


def test_strokes_are_simplified_as_the_decoder_asks():
    bent = np.float32([(0, 0), (10, 0.5), (20, 0), (20, 30)])
    given = corpus()
    new = dataclasses.replace(
        given.new,
        points=np.concatenate([bent, bent]),
        stroke_bounds=np.array([0, 4, 8]),
        glyph_bounds=np.array([0, 1, 2]),
    )
    given = dataclasses.replace(given, new=new)
    for epsilon, points in ((0.25, 4), (0.6, 3)):
        rows, count = point_decoder.stroke_arrays(
            given, np.array([0, 1]), SketchRNNConfig(longest=9, simplify=epsilon)
        )
        assert count.tolist() == [points] * 2
        np.testing.assert_allclose(
            from_stroke3(rows[0, :points])[0], bent if points == 4 else bent[[0, 2, 3]], atol=1e-4
        )


# The classifier's say -----------------------------------------------------------------------------


def test_classifier_rows_stand_at_their_kanji_and_say_which_are_missing():
    old = {
        "classifier": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.array([0.1, 0.2, 0.3])}
    }
    rows = density.classifier_rows(old, np.array([10, 30, 50]), np.array([10, 20, 30]))
    assert rows["known"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(rows["direct"]["kernel"], [[0, 0, 1], [3, 0, 4]])
    np.testing.assert_allclose(rows["direct"]["bias"][[0, 2]], [0.1, 0.2])
    with pytest.raises(TrainingError, match="--recognition"):
        density.classifier_rows({}, np.array([10]), np.array([10]))


def test_a_generating_density_asks_the_classifier_and_leaves_it_as_it_is(folder):
    place, given = folder
    config = mdn.suited(SMALL, "joint", None)
    task = density.mdn_task(dataclasses.replace(config, views=1, mixtures=2), given, place)
    params = task.init(jax.random.key(0))
    trained, points = autoencoders.earlier(place, "old")
    finalized = task.finalize(params)["mdn"]["direct"]
    np.testing.assert_array_equal(finalized["kernel"], trained["classifier"]["kernel"])
    assert points.tolist() == given.new.code_points.tolist()
    other = jax.tree.map(lambda p: p, params)
    other["mdn"]["direct"] = jax.tree.map(lambda p: p + 1, params["mdn"]["direct"])
    loss = lambda params: task.loss(params, task.data, jax.random.key(1), 0)[0]
    value, gradient = jax.value_and_grad(loss)(params)
    assert value == loss(other)
    assert not any(np.abs(g).max() for g in jax.tree.leaves(gradient["mdn"]["direct"]))
    assert np.abs(gradient["mdn"]["meaning"]["kernel"]).max() > 0
    assert np.isfinite(task.evaluate(task.finalize(params))["nll_per_dimension"])


def test_a_generating_density_from_before_it_asked_the_classifier_is_read(tmp_path):
    config = mdn.MDNConfig(density="joint", hidden=4, mixtures=2)
    params = nnx.to_pure_dict(nnx.split(mdn.build(config, 3, nnx.Rngs(0)))[1])
    weights.save(
        tmp_path / "mdn.safetensors",
        {"mdn": params},
        {"code_points": np.arange(3)},
        {"config": dataclasses.asdict(config) | {"direct": True}},
    )
    found = encoding.density_network(tmp_path)
    assert not found.config.direct and nnx.merge(found.graph, found.params).direct is None


def test_exponents_trust_the_one_that_is_right():
    random = np.random.default_rng(0)
    label = random.integers(0, 50, 400)
    right = random.normal(size=(400, 50)) + 6 * np.eye(50)[label]
    noise = random.normal(size=(400, 50)) * 3
    logs = [np.float32(x - np.logaddexp.reduce(x, 1, keepdims=True)) for x in (right, noise)]
    similar, direct = density.fit_exponents(*logs, np.ones(50), np.zeros(50), label)
    assert similar > 0.5 and direct < 0.1
    similar, direct = density.fit_exponents(*logs[::-1], np.ones(50), np.zeros(50), label)
    assert similar < 0.1 and direct > 0.5


# On weights in a folder ---------------------------------------------------------------------------

OLD = VAEConfig(
    encoder=(4, 4, 4),
    encoder_blocks=(0, 0, 0),
    decoder=(4, 4, 4),
    decoder_blocks=(0, 0, 0),
    hidden=8,
    latent=64,
)


@pytest.fixture
def folder(tmp_path):
    """Both VAEs of 12 kanji, untrained, and a corpus of four images of each, two of them val."""
    points = np.arange(0x4E00, 0x4E0C, dtype=np.int32)
    random = np.random.default_rng(0)
    for name in ("vae_old", "vae_new"):
        params = nnx.to_pure_dict(nnx.split(vae.VAE(OLD, 12, nnx.Rngs(0)))[1])
        weights.save(
            tmp_path / f"{name}.safetensors",
            params,
            {"classes": points},
            {"config": dataclasses.asdict(OLD)},
        )
    lines = [np.float32([(10, 5 * k), (90, 5 * k)]) for k in range(1, 13)]
    new = New(
        random.integers(0, 256, (12, 64, 64), np.uint8),
        points,
        np.full(12, ""),
        np.array([f"kvg:{p:05x}" for p in points]),
        np.concatenate(lines),
        np.arange(13) * 2,
        np.arange(13),
        np.full(12, "㇐"),
        np.empty(0, []),
        np.zeros(13, np.int64),
    )
    split = np.tile(
        np.array([SPLITS.index(s) for s in ("train", "train", "val", "val")], np.uint8), 12
    )
    old = Old(
        random.integers(0, 256, (48, 64, 64), np.uint8),
        np.repeat(points, 4),
        np.array([str(i) for i in range(48)]),
        split,
    )
    return tmp_path, Corpus(
        None, True, {"sources": {"a.tar": {"sha256": "ab", "bytes": 3}}}, old, new
    )


SMALL = mdn.MDNConfig(hidden=8, key=4, direct=True, averaged=0, batch=8, steps=3)


def test_weights_are_read_and_compiled_once_until_they_are_replaced(folder, monkeypatch):
    place, given = folder
    loads, load = [], weights.load
    monkeypatch.setattr(weights, "load", lambda path: loads.append(path) or load(path))
    first = encoding.encode_images(place, "old", given.old.images[:3])
    again = encoding.encode_images(place, "old", given.old.images[:3])
    assert len(loads) == 1
    np.testing.assert_array_equal(first[0], again[0])
    params = nnx.to_pure_dict(nnx.split(vae.VAE(OLD, 12, nnx.Rngs(1)))[1])
    weights.save(
        place / "vae_old.safetensors",
        params,
        {"classes": np.arange(12)},
        {"config": dataclasses.asdict(OLD)},
    )
    other = encoding.encode_images(place, "old", given.old.images[:3])
    assert len(loads) == 2 and not np.array_equal(first[0], other[0])
    none = encoding.encode_images(place, "old", given.old.images[:0])
    assert none[0].shape == none[1].shape == (0, 64)


def test_what_is_measured_on_val_was_fitted_on_its_other_half(folder, monkeypatch):
    """Exponents that copy the labels they were fitted on would be noticed: each half is scored with
    the other's."""
    place, given = folder
    task, fits = density.mdn_task(SMALL, given, place), []

    def fit(similar, direct, known, prior, label):
        fits.append(label)
        return np.float32([1.0, 0.0] if len(fits) % 2 else [0.0, 1.0])

    monkeypatch.setattr(density, "fit_exponents", fit)
    params = task.init(jax.random.key(0))
    finalized = task.finalize(params)
    assert (
        len(fits) == 1
        and len(fits[0]) == 24
        and np.asarray(finalized["mdn"]["exponents"]).tolist() == [1.0, 0.0]
    )
    measured = task.evaluate(finalized)
    halves = encoding.two_halves(24)
    assert sorted(np.concatenate(halves)) == list(range(24)) and len(halves[0]) == 12
    assert [label.tolist() for label in fits[1:]] == [
        fits[0][half].tolist() for half in halves[::-1]
    ]
    # By similarity alone for the second half, by the classifier alone for the first.
    monkeypatch.setattr(density, "fit_exponents", lambda *_: np.float32([1.0, 0.0]))
    similar = task.evaluate(finalized)
    monkeypatch.setattr(density, "fit_exponents", lambda *_: np.float32([0.0, 1.0]))
    direct = task.evaluate(finalized)
    low, high = sorted((similar["nll_per_dimension"], direct["nll_per_dimension"]))
    assert low < measured["nll_per_dimension"] < high


def test_a_corpus_without_val_images_trains_all_the_same(folder, tmp_path):
    place, given = folder
    given = dataclasses.replace(
        given, old=dataclasses.replace(given.old, split=np.zeros_like(given.old.split))
    )
    task = density.mdn_task(SMALL, given, place)
    params = task.finalize(task.init(jax.random.key(0)))
    assert np.asarray(params["mdn"]["exponents"]).tolist() == pytest.approx(density.EXPONENTS)
    assert task.evaluate(params) == {} and task.export(params)["calibration"].tolist() == [1.0]
    loop.train(
        dataclasses.replace(task, config=dataclasses.replace(SMALL, steps=1)), tmp_path / "mdn"
    )
    forms = encoding.modern_forms(place, given, False)
    held = drawings.held_out_drawings(
        given, place, forms, encoding.load_mdn(tmp_path), None, lambda glyphs: (glyphs, glyphs)
    )
    assert list(held) == ["gallery"]


def test_places_count_ties_against_the_label():
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    assert encoding.places(scores, np.array([0, 1, 2])).tolist() == [0, 1, 2]


# Classes that only fonts have ---------------------------------------------------------------------

SMALLEST = VAEConfig(
    latent=4,
    encoder=(4, 4, 4),
    encoder_blocks=(0, 0, 0),
    decoder=(4, 4, 4),
    decoder_blocks=(0, 0, 0),
    hidden=8,
    batch=32,
    recognition=1.0,
    label_smoothing=0.1,
    augment="none",
    balance=0.0,
)
NONE, ALL = 1e-9, 1.0
"""Shares of fonts in a batch, where there are fonts."""


def with_brush_fonts() -> Corpus:
    """The three kanji again, and fonts for the two of them that have training images and for 4E8C,
    which has none."""
    record = {"name": "a.ttf", "sha256": "cd", "bytes": 1, "role": "train"}
    fonts = Fonts(
        grey(40, 80, 120, 160),
        np.array([0x4E8C, 0x4E00, 0x4E8C, 0x4E09]),
        np.zeros(4, np.uint8),
        ["a.ttf"],
        [record],
    )
    return dataclasses.replace(corpus(), fonts=fonts)


def gradient_of(task) -> dict:
    params = jax.jit(task.init)(jax.random.key(0))
    return jax.jit(jax.grad(lambda params, data: task.loss(params, data, jax.random.key(1), 0)[0]))(
        params, task.data
    )


@pytest.mark.parametrize("share, learns", [(NONE, False), (ALL, True)])
def test_real_images_do_not_push_down_a_class_of_the_vae_that_only_fonts_have(share, learns):
    task = autoencoders.vae_task(
        dataclasses.replace(SMALLEST, fonts=share), with_brush_fonts(), "old"
    )
    slope = np.asarray(gradient_of(task)["classifier"]["bias"])
    classes = task.export({})["classes"]
    assert (slope[classes == 0x4E8C] != 0).all() == learns
    assert (slope[classes == 0x4E00] != 0).all()


@pytest.mark.parametrize("share, known", [(0.0, 2), (ALL, 3)])
def test_a_hand_that_is_kept_for_choosing_is_measured_whatever_is_learned_from(share, known):
    """The classifier says 4E00 of everything; books alone do not know 4E8C."""
    given = with_brush_fonts()
    kept = Fonts(
        np.concatenate([given.fonts.images, grey(40, 80, 160)]),
        np.append(given.fonts.code_points, [0x4E8C, 0x4E00, 0x4E09]),
        np.append(given.fonts.font, [1, 1, 1]).astype(np.uint8),
        ["a.ttf", "b.ttf"],
        [*given.fonts.records, {"name": "b.ttf", "sha256": "ef", "bytes": 1, "role": "choose"}],
    )
    task = autoencoders.vae_task(
        dataclasses.replace(SMALLEST, fonts=share), dataclasses.replace(given, fonts=kept), "old"
    )
    params = jax.jit(task.init)(jax.random.key(2))
    says = task.export({})["classes"] == 0x4E00
    params["classifier"] = {
        "kernel": 0 * params["classifier"]["kernel"],
        "bias": says.astype(np.float32),
    }
    assert task.evaluate(params)["hands_accuracy"] == pytest.approx(1 / known)


@pytest.fixture(scope="module")
def smallest_vaes(tmp_path_factory):
    """Both VAEs, not trained; the old one's classifier is sure that val's images show what they
    show."""
    folder = tmp_path_factory.mktemp("vaes")
    for domain in ("old", "new"):
        task = autoencoders.vae_task(
            dataclasses.replace(SMALLEST, fonts=NONE), with_brush_fonts(), domain
        )
        params = jax.jit(task.init)(jax.random.key(2))
        if domain == "old":
            favoured = np.isin(task.export({})["classes"], [0x4E8C, 0x4E09])
            params["classifier"] = {
                "kernel": 0 * params["classifier"]["kernel"],
                "bias": np.where(favoured, 9.0, -9.0).astype(np.float32),
            }
        weights.save(
            folder / f"{task.name}.safetensors",
            params,
            task.export(params),
            {"config": dataclasses.asdict(task.config)},
        )
    return folder


SMALLEST_DENSITY = MDNConfig(
    latent=4, hidden=8, layers=1, key=4, key_dropout=0.0, batch=32, label_smoothing=0.1, balance=0.0
)


@pytest.mark.parametrize("share, learns", [(NONE, False), (ALL, True)])
def test_real_images_do_not_push_down_an_anchor_that_only_fonts_have(smallest_vaes, share, learns):
    task = density.mdn_task(
        dataclasses.replace(SMALLEST_DENSITY, fonts=share), with_brush_fonts(), smallest_vaes
    )
    slope = np.asarray(gradient_of(task)["mdn"]["offset"])  # of 4E00, 4E09, 4E8C
    assert (slope[2] != 0).any() == learns
    assert (slope[0] != 0).any()


def test_the_classifiers_exponent_is_the_one_that_grows_where_the_classifier_is_right(
    smallest_vaes,
):
    """Against similarities of a network that has learned nothing."""
    task = density.mdn_task(
        dataclasses.replace(SMALLEST_DENSITY, fonts=NONE, direct=True),
        with_brush_fonts(),
        smallest_vaes,
    )
    finalized = task.finalize(jax.jit(task.init)(jax.random.key(3)))
    similar, direct = finalized["mdn"]["exponents"]
    assert direct > 0.5 > similar


# Latents drawn anew -------------------------------------------------------------------------------


def test_pairs_are_of_one_kanji_and_of_pictures_augmented_anew(folder):
    place, given = folder
    config = dataclasses.replace(SMALL, fresh=True, views=0)
    pairs = latent_pairs.latent_pairs(config, given, place)
    assert "mean" not in pairs.data and pairs.seen.all() and pairs.trained.all()
    draw = jax.jit(pairs.draw)
    keys = list(jax.random.split(jax.random.key(0), 5))
    index, label, z_old, z_new = draw(pairs.data, keys)
    train, points = encoding.old_examples(given, "train")
    np.testing.assert_array_equal(pairs.forms.code_points[label], points[index])
    np.testing.assert_array_equal(pairs.source.images[index], given.old.images[train[index]])
    again = draw(pairs.data, [*keys[:4], jax.random.key(7)])
    np.testing.assert_array_equal(again[0], index)  # the same images, augmented in another way
    for one, other in ((z_old, again[2]), (z_new, again[3])):
        assert one.shape == (8, 64) and (np.abs(one - other).max(1) > 1e-4).all()
    task = density.mdn_task(config, given, place)
    value, _ = task.loss(task.init(jax.random.key(0)), task.data, jax.random.key(1), 0)
    assert np.isfinite(value)


def test_latents_of_all_images_are_encoded_once_for_all_densities(folder, monkeypatch):
    place, given = folder
    calls, encode = [], encoding.encode_images
    monkeypatch.setattr(encoding, "encode_images", lambda *given: calls.append(1) or encode(*given))
    images = given.old.images[:4]
    first = latent_pairs.old_views(place, images, 2, 0)  # a folder of weights: nothing is kept
    assert first["mean"].shape == (2, 4, 64) and len(calls) == 2
    assert not list(place.rglob("latents_*"))
    (place / "vae_old" / "weights").mkdir(parents=True)
    run = (place / "vae_old.safetensors").rename(place / "vae_old/weights/vae_old.safetensors")
    calls.clear()
    first = latent_pairs.old_views(place, images, 2, 0)
    again = latent_pairs.old_views(place, images, 2, 0)
    assert len(calls) == 2
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
    # Another seed, number of views or image is another encoding. A broken file is made anew.
    one = latent_pairs.old_views(place, images, 1, 0)["mean"]
    assert len(calls) == 2
    np.testing.assert_array_equal(one[0], first["mean"][0])
    latent_pairs.old_views(place, images, 2, 1)
    assert len(calls) == 4
    plain = latent_pairs.old_views(place, images, 0, 1)["mean"]
    assert len(calls) == 5 and not np.array_equal(plain[0], first["mean"][0])
    other = latent_pairs.old_views(place, given.old.images[1:5], 1, 1)
    assert len(calls) == 6
    run.with_name(encoding.KEPT.format(0)).write_bytes(b"PK broken")
    made = latent_pairs.old_views(place, given.old.images[1:5], 1, 1)
    assert len(calls) == 7
    np.testing.assert_array_equal(made["mean"], other["mean"])
    # Images as they are have a file of their own, which evaluations read too.
    for split in ("train", "val", "train"):
        mean, _, label = encoding.old_latents(place, given, split, given.new.code_points)
    assert len(calls) == 9 and label.tolist() == np.repeat(np.arange(12), 2).tolist()
    latent_pairs.old_views(place, given.old.images[1:5], 1, 1)
    assert len(calls) == 9


def test_a_density_back_is_a_stage_of_its_own(folder):
    place, given = folder
    config = mdn.suited(dataclasses.replace(SMALL, direct=False), None, "back")
    config = dataclasses.replace(config, views=1, mixtures=2, couplings=2, width=8)
    task = density.mdn_task(config, given, place)
    assert task.name == "mdn_back"
    params = task.init(jax.random.key(0))
    measured = task.evaluate(params)
    assert 0 <= measured["top1"] <= measured["top10"] <= 1
    assert np.isfinite(measured["nll_per_dimension"])
    assert task.export(params)["gallery_mean"].shape == (12, 64)
    with pytest.raises(TrainingError, match="--direction back: an anchored density"):
        density.mdn_task(dataclasses.replace(SMALL, direction="back"), given, place)


def test_fresh_conditions_are_of_the_density_or_of_the_own_glyph(folder, monkeypatch):
    place, given = folder
    split = np.where(given.old.code_points == 0x4E02, SPLITS.index("val"), given.old.split)
    given = dataclasses.replace(given, old=dataclasses.replace(given.old, split=split))
    forms = encoding.modern_forms(place, given, False)
    monkeypatch.setattr(point_decoder.mdn, "sample", lambda model, z, *_: 1000 + z)
    model = mdn.build(mdn.MDNConfig(density="joint", hidden=4, mixtures=2), 12, nnx.Rngs(0))
    graph, state = nnx.split(model)
    trained = graph, nnx.to_pure_dict(state), None, None, None
    for from_density in (True, False):
        config = SketchRNNConfig(from_density=from_density, fresh=True)
        data, condition = point_decoder.fresh_conditions(config, place, given, forms, trained)
        condition, kanji = jax.jit(condition), np.array([0, 1, 2, 2, 11])
        z = np.asarray(condition(data, kanji, jax.random.key(0)))
        assert z.shape == (5, 64)
        # 4E02 has no training image; the others have z_new = 1000 + z_old, where it is asked for.
        wanted = [from_density, from_density, False, False, from_density]
        assert (z.mean(1) > 500).tolist() == wanted
        other = np.asarray(condition(data, kanji, jax.random.key(1)))
        assert (np.abs(z - other).max(1) > 1e-5).all()
