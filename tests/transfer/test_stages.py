"""transfer.stages: which examples a batch holds, how latents and kanji are paired, and the numbers that val is judged by."""
import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from data.corpus import Corpus, New, Old
from data.splits import SPLITS
from data.strokes import from_stroke3
from transfer import stages, weights
from transfer.mdn import MDNConfig
from transfer.sketch_rnn import SketchRNNConfig
from transfer.training import TrainingError
from transfer.vae import VAEConfig

COUNTS = np.array([1, 2, 5, 30, 12])


# Drawing batches ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_classes_are_drawn_by_their_size_to_the_power_of_one_less_balance(balance):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
    table = {k: jnp.asarray(v) for k, v in stages.class_table(labels, balance).items()}
    index, label = (np.asarray(a) for a in jax.jit(stages.draw, static_argnums=1)(table, 20_000, jax.random.key(0)))
    np.testing.assert_array_equal(labels[index], label)
    weight = COUNTS ** (1 - balance)
    assert stats.chisquare(np.bincount(label, minlength=5), 20_000 * weight / weight.sum()).pvalue > 1e-3
    # Within a class every example is as likely as another.
    expected = (20_000 * weight / weight.sum() / COUNTS)[labels]
    assert stats.chisquare(np.bincount(index, minlength=50), expected).pvalue > 1e-3


def test_draw_reaches_first_and_last_of_thousands_of_classes():
    table = {k: jnp.asarray(v) for k, v in stages.class_table(np.arange(3800), 0.5).items()}
    index, label = stages.draw(table, 200_000, jax.random.key(0))
    assert set(np.asarray(label)) == set(range(3800))
    np.testing.assert_array_equal(index, label)


def test_a_share_of_the_batch_comes_from_fonts():
    fonts = SimpleNamespace(images=np.full((6, 64, 64), 9, np.uint8), code_points=np.array([20, 30, 30, 50, 50, 50]))
    old = SimpleNamespace(images=np.arange(8, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8))
    corpus = SimpleNamespace(old=old, fonts=fonts)
    chosen, points = np.array([1, 2, 5, 7]), np.array([10, 10, 20, 40])
    images, classes, tables = stages.with_fonts(corpus, chosen, points, 0.25, 0.0)
    assert classes.tolist() == [10, 20, 30, 40, 50] and images[:, 0, 0].tolist() == [1, 2, 5, 7] + [9] * 6
    tables = jax.tree.map(jnp.asarray, tables)
    index, label = (np.asarray(a) for a in jax.jit(stages.mix, static_argnums=(1, 2))(tables, 0.25, 12_000, jax.random.key(0)))
    np.testing.assert_array_equal(np.concatenate([points, fonts.code_points])[index], classes[label])
    count = np.bincount(index, minlength=10)
    # Real images all alike (balance 0), of fonts every kanji alike.
    expected = 12_000 * np.concatenate([np.full(4, 0.75 / 4), 0.25 / 3 / np.array([1, 2, 2, 3, 3, 3])])
    assert stats.chisquare(count, expected).pvalue > 1e-3
    # Without fonts, or with a share of 0, real images alone.
    for corpus, share in ((SimpleNamespace(old=old, fonts=None), 0.25), (corpus, 0.0)):
        images, classes, tables = stages.with_fonts(corpus, chosen, points, share, 0.0)
        assert len(images) == 4 and classes.tolist() == [10, 20, 40] and list(tables) == ["real"]
        index, _ = stages.mix(jax.tree.map(jnp.asarray, tables), share, 50, jax.random.key(0))
        assert int(index.max()) < 4


def test_real_images_say_nothing_about_classes_of_fonts_alone():
    photographed = jnp.array([True, False, True])
    taking_part = stages.taking_part(photographed, jnp.array([0, 4, 5, 9]), 5)
    assert taking_part.tolist() == [[True, False, True]] * 2 + [[True] * 3] * 2


# Figures --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.6])
def test_calibrate_finds_the_exponent_that_made_the_labels(exponent):
    random = np.random.default_rng(0)
    scores = special.log_softmax(random.normal(0, 2, (4000, 20)), 1)
    label = (exponent * scores + random.gumbel(size=scores.shape)).argmax(1)  # draws of softmax(exponent * scores)
    got = stages.calibrate(scores, label)
    assert got.shape == (1,) and got.dtype == np.float32
    assert got[0] == pytest.approx(exponent, abs=0.101)


def test_gaussian_nll_is_scipys_full_covariance_normal():
    random = np.random.default_rng(0)
    mix = random.normal(0, 1, (5, 5))
    fitted, held = (random.normal(0, 1, (n, 5)) @ mix + 3 for n in (400, 50))
    normal = stats.multivariate_normal(fitted.mean(0), np.cov(fitted.T) + 1e-6 * np.eye(5))
    assert stages.gaussian_nll(fitted, held) == pytest.approx(-normal.logpdf(held).mean() / 5, rel=1e-6)


# Pairing old and new --------------------------------------------------------------------------------------------------

def corpus() -> Corpus:
    """Three kanji, one of them with a variant form that stands before it, and a kana; images of one grey each."""
    points = np.array([0x4E00, 0x4E8C, 0x4E8C, 0x3042, 0x4E09], np.int32)
    variants = np.array(["", "Kaisho", "", "", ""])
    lines = [np.float32([(10, 10 * k), (90, 10 * k)]) for k in range(1, 7)]
    bounds = np.arange(len(lines) + 1) * 2
    new = New(grey(10, 21, 20, 99, 30), points, variants, np.array([f"kvg:{p:05x}" for p in points]), np.concatenate(lines), bounds,
              np.array([0, 1, 2, 4, 5, 6]), np.full(6, "㇐"), np.empty(0, []), np.zeros(6, np.int64))
    old_points = np.array([0x4E09, 0x4E00, 0x4E8C, 0x3042, 0x4E00, 0x4E09, 0x56DB], np.int32)
    split = np.array([SPLITS.index(s) for s in ("train", "train", "val", "train", "train", "val", "train")], np.uint8)
    old = Old(grey(1, 2, 3, 4, 5, 6, 7), old_points, np.array([str(i) for i in range(7)]), split)
    return Corpus(None, True, {"sources": {"a.tar": {"sha256": "ab", "bytes": 3}}}, old, new)


def grey(*values) -> np.ndarray:
    return np.tile(np.array(values, np.uint8)[:, None, None], (1, 64, 64))


@pytest.fixture
def encoder(monkeypatch):
    """In place of a trained VAE: the latent of a picture is its grey, and 100 more for an augmented one."""
    monkeypatch.setattr(stages, "encode_images", lambda folder, domain, images, key=None, progress="": (
        images[:, :1, 0].astype(np.float32) + (0 if key is None else 100), -images[:, :1, 0].astype(np.float32)))


def test_examples_of_both_domains():
    given = corpus()
    chosen, points = stages.old_examples(given, "train")
    assert chosen.tolist() == [0, 1, 3, 4, 6] and points[0] == 0x4E09
    assert stages.new_examples(given, False).tolist() == [0, 4, 2]  # by code point: 4E00, 4E09, 4E8C
    assert stages.new_examples(given, True).tolist() == [0, 1, 2, 4]  # never kana
    assert stages.corpus_provenance(given) == {"data": {"sample": True, "sources": {"a.tar": "ab"}}}


def test_forms_stand_in_gallery_order_the_standard_form_first(encoder):
    plain = stages.modern_forms(None, corpus(), False)
    assert plain.code_points.tolist() == [0x4E00, 0x4E09, 0x4E8C]
    assert plain.mean[:, 0].tolist() == [10, 30, 20] and plain.log_variance[:, 0].tolist() == [-10, -30, -20]
    assert plain.start.tolist() == [0, 1, 2] and plain.count.tolist() == [1, 1, 1]
    forms = stages.modern_forms(None, corpus(), True)
    assert forms.mean[:, 0].tolist() == [10, 30, 20, 21]
    assert forms.start.tolist() == [0, 1, 2] and forms.count.tolist() == [1, 1, 2]


def test_old_latents_carry_the_kanji_of_their_image(encoder):
    points = np.array([0x4E00, 0x4E09, 0x4E8C])
    mean, log_variance, label = stages.old_latents(None, corpus(), "train", points)
    assert mean[:, 0].tolist() == [1, 2, 5] and label.tolist() == [1, 0, 0]  # what is not in the gallery is left out
    assert log_variance[:, 0].tolist() == [-1, -2, -5]
    mean, _, label = stages.old_latents(None, corpus(), "train", points, views=2)
    assert mean[:, 0].tolist() == [101, 102, 105] * 2 and label.tolist() == [1, 0, 0] * 2


def test_predicted_views_are_of_an_image_of_the_kanji_or_of_its_own_glyph(encoder, monkeypatch):
    given = corpus()
    forms = stages.modern_forms(None, given, False)
    # A density that is sure: z_new = 1000 + z_old.
    monkeypatch.setattr(stages.mdn, "sample", lambda model, z, *_: 1000 + z)
    monkeypatch.setattr(stages.nnx, "merge", lambda graph, params: SimpleNamespace(config=SimpleNamespace(temperature=1.0)))
    z = stages.predicted_views(None, given, forms, (None, {}, None, None, None), jax.random.split(jax.random.key(0), 8))
    assert z.shape == (3, 8, 1)
    assert set(z[0, :, 0]) == {1102.0, 1105.0}  # 4E00 has two training images
    assert set(z[1, :, 0]) == {1101.0}
    np.testing.assert_allclose(z[2, :, 0], 20, atol=0.1)  # 4E8C has a val image only: its glyph's posterior


def test_stroke_arrays_are_padded_stroke_3():
    given = corpus()
    fit = lambda longest: stages.stroke_arrays(given, np.array([0, 2]), SketchRNNConfig(longest=longest))
    rows, count = fit(7)
    assert rows.shape == (2, 6, 3) and rows.dtype == np.float32 and count.tolist() == [2, 4]
    for i, glyph in enumerate((0, 2)):
        assert (rows[i, count[i]:] == 0).all()
        for got, wanted in zip(from_stroke3(rows[i, :count[i]]), given.new.strokes(glyph), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-4)
    with pytest.raises(TrainingError) as error:
        fit(4)
    assert "kvg:04e8c: 4 points" in str(error.value) and "\n" not in str(error.value)
    assert fit(5)[0].shape == (2, 4, 3)


def test_strokes_are_simplified_as_the_decoder_asks():
    bent = np.float32([(0, 0), (10, 0.5), (20, 0), (20, 30)])
    given = corpus()
    new = dataclasses.replace(given.new, points=np.concatenate([bent, bent]), stroke_bounds=np.array([0, 4, 8]), glyph_bounds=np.array([0, 1, 2]))
    given = dataclasses.replace(given, new=new)
    for epsilon, points in ((0.25, 4), (0.6, 3)):
        rows, count = stages.stroke_arrays(given, np.array([0, 1]), SketchRNNConfig(longest=9, simplify=epsilon))
        assert count.tolist() == [points] * 2
        np.testing.assert_allclose(from_stroke3(rows[0, :points])[0], bent if points == 4 else bent[[0, 2, 3]], atol=1e-4)


# A pretrained encoder -------------------------------------------------------------------------------------------------

def test_a_pretrained_encoder_gives_a_latent_that_tells_characters_apart_from_the_start(tmp_path, monkeypatch):
    """Before the first step of the VAE, from a classifier of 150 steps; and a classifier of another shape is refused in one line."""
    from data import corpus
    from transfer import training
    from transfer.classifier import ClassifierConfig
    from transfer.evaluation import judges

    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    sample = corpus.load(quiet=True)
    shape = {"encoder": (8, 16, 32), "encoder_blocks": (0, 1, 0), "rectified_stem": True, "hidden": 48}
    config = VAEConfig(**shape, latent=16, decoder=(8, 8, 8), standardise=True, pretrained=True, balance=1.0)
    with pytest.raises(weights.WeightsError, match="baseline"):
        stages.vae_task(config, sample, "old", tmp_path)
    classifier = ClassifierConfig(**shape, steps=150, batch=64, warmup=10, warp=0.3, ema=0.9)
    training.train(judges.baseline_task(classifier, sample), tmp_path / "baseline")
    task = stages.vae_task(config, sample, "old", tmp_path)
    start = task.settle(jax.jit(task.init)(jax.random.key(0)))
    assert task.evaluate(start)["accuracy"] > 0.1  # of 120 kanji and more
    assert "baseline" in task.provenance["upstream"]
    with pytest.raises(TrainingError, match="hidden is 48, the VAE's 64"):
        stages.vae_task(dataclasses.replace(config, hidden=64), sample, "old", tmp_path)


# The classifier's say ---------------------------------------------------------------------------------------------------

def test_classifier_rows_stand_at_their_kanji_and_say_which_are_missing():
    old = {"classifier": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.array([0.1, 0.2, 0.3])}}
    rows = stages.classifier_rows(old, np.array([10, 30, 50]), np.array([10, 20, 30]))
    assert rows["told"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(rows["direct"]["kernel"], [[0, 0, 1], [3, 0, 4]])
    np.testing.assert_allclose(rows["direct"]["bias"][[0, 2]], [0.1, 0.2])
    with pytest.raises(TrainingError, match="--recognition"):
        stages.classifier_rows({}, np.array([10]), np.array([10]))


def test_exponents_trust_the_one_that_is_right():
    random = np.random.default_rng(0)
    label = random.integers(0, 50, 400)
    right = random.normal(size=(400, 50)) + 6 * np.eye(50)[label]
    noise = random.normal(size=(400, 50)) * 3
    logs = [np.float32(x - np.logaddexp.reduce(x, 1, keepdims=True)) for x in (right, noise)]
    similar, direct = stages.fit_exponents(*logs, np.ones(50), np.zeros(50), label)
    assert similar > 0.5 and direct < 0.1
    similar, direct = stages.fit_exponents(*logs[::-1], np.ones(50), np.zeros(50), label)
    assert similar < 0.1 and direct > 0.5


# Classes that only fonts have ----------------------------------------------------------------------------------------

SMALLEST = VAEConfig(latent=4, encoder=(4, 4, 4), encoder_blocks=(0, 0, 0), decoder=(4, 4, 4), decoder_blocks=(0, 0, 0), hidden=8, batch=32,
                     recognition=1.0, label_smoothing=0.1, augment="none", balance=0.0)
NONE, ALL = 1e-9, 1.0
"""Shares of fonts in a batch, where there are fonts."""


def with_brush_fonts() -> Corpus:
    """The three kanji again, and fonts for the two of them that have training images and for 4E8C, which has none."""
    fonts = SimpleNamespace(images=grey(40, 80, 120, 160), code_points=np.array([0x4E8C, 0x4E00, 0x4E8C, 0x4E09]),
                            sources={"a.ttf": {"sha256": "cd", "bytes": 1}})
    return dataclasses.replace(corpus(), fonts=fonts)


def gradient_of(task) -> dict:
    params = jax.jit(task.init)(jax.random.key(0))
    return jax.jit(jax.grad(lambda params, data: task.loss(params, data, jax.random.key(1), 0)[0]))(params, task.data)


@pytest.mark.parametrize("share, learns", [(NONE, False), (ALL, True)])
def test_real_images_do_not_push_down_a_class_of_the_vae_that_only_fonts_have(share, learns):
    task = stages.vae_task(dataclasses.replace(SMALLEST, fonts=share), with_brush_fonts(), "old")
    slope = np.asarray(gradient_of(task)["classifier"]["bias"])
    classes = task.export({})["classes"]
    assert (slope[classes == 0x4E8C] != 0).all() == learns
    assert (slope[classes == 0x4E00] != 0).all()


@pytest.fixture(scope="module")
def smallest_vaes(tmp_path_factory):
    """Both VAEs, not trained; the old one's classifier is sure that val's images show what they show."""
    folder = tmp_path_factory.mktemp("vaes")
    for domain in ("old", "new"):
        task = stages.vae_task(dataclasses.replace(SMALLEST, fonts=NONE), with_brush_fonts(), domain)
        params = jax.jit(task.init)(jax.random.key(2))
        if domain == "old":
            favoured = np.isin(task.export({})["classes"], [0x4E8C, 0x4E09])
            params["classifier"] = {"kernel": 0 * params["classifier"]["kernel"], "bias": np.where(favoured, 9.0, -9.0).astype(np.float32)}
        weights.save(folder / f"{task.name}.safetensors", params, task.export(params), {"config": dataclasses.asdict(task.config)})
    return folder


SMALLEST_DENSITY = MDNConfig(latent=4, hidden=8, layers=1, key=4, key_dropout=0.0, batch=32, label_smoothing=0.1, balance=0.0)


@pytest.mark.parametrize("share, learns", [(NONE, False), (ALL, True)])
def test_real_images_do_not_push_down_an_anchor_that_only_fonts_have(smallest_vaes, share, learns):
    task = stages.mdn_task(dataclasses.replace(SMALLEST_DENSITY, fonts=share), with_brush_fonts(), smallest_vaes)
    slope = np.asarray(gradient_of(task)["mdn"]["offset"])  # of 4E00, 4E09, 4E8C
    assert (slope[2] != 0).any() == learns
    assert (slope[0] != 0).any()


def test_the_classifiers_exponent_is_the_one_that_grows_where_the_classifier_is_right(smallest_vaes):
    """Against similarities of a network that has learned nothing."""
    task = stages.mdn_task(dataclasses.replace(SMALLEST_DENSITY, fonts=NONE, direct=True), with_brush_fonts(), smallest_vaes)
    settled = task.settle(jax.jit(task.init)(jax.random.key(3)))
    similar, direct = settled["mdn"]["exponents"]
    assert direct > 0.5 > similar
