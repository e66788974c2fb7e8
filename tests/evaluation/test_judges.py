import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from transfer.data.raster import rasterise
from transfer.evaluation import judges
from transfer.evaluation.judges import MARGIN, fit_image, fit_strokes, render_views, strokes_image
from transfer.models import classifier
from transfer.models.classifier import ClassifierConfig
from transfer.training import loop, weights


def test_fitting_ignores_place_and_size(sample_corpus):
    strokes = sample_corpus.new.strokes(int(sample_corpus.new.gallery()[30]))
    moved = [s * 0.4 + np.float32([50, 7]) for s in strokes]
    for a, b in zip(fit_strokes(strokes), fit_strokes(moved)):
        np.testing.assert_allclose(a, b, atol=1e-4)
    points = np.concatenate(fit_strokes(strokes))
    assert max(np.ptp(points, axis=0)) == pytest.approx(109 - 2 * MARGIN, abs=1e-3)
    np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, 54.5, atol=1e-3)


def test_fitted_picture_looks_like_the_fitted_strokes(sample_corpus):
    for glyph in sample_corpus.new.gallery()[[5, 60, 150]]:
        strokes = sample_corpus.new.strokes(int(glyph))
        target = strokes_image(strokes) / 255.0
        picture = rasterise([s * 0.8 + np.float32([15, 6]) for s in strokes], width=2.6) / 255.0
        fitted = fit_image(picture) / 255.0
        cosine = (fitted * target).sum() / np.sqrt((fitted**2).sum() * (target**2).sum())
        plain = (picture * target).sum() / np.sqrt((picture**2).sum() * (target**2).sum())
        assert cosine > 0.9 > plain


def test_blank_dot_and_empty_stay_what_they_are():
    assert not fit_image(np.zeros((64, 64))).any() and not strokes_image([]).any()
    dot = strokes_image([np.float32([[50, 50], [50.5, 50]])])
    assert 0 < (dot > 0).sum() < 200  # not blown up to a page
    assert np.isfinite(fit_image(np.full((64, 64), np.nan))).all()


def test_views_are_by_another_hand_each_and_the_same_for_a_seed(sample_corpus):
    glyphs = sample_corpus.new.gallery()[:5]
    views = render_views(sample_corpus, glyphs, 3, seed=1)
    assert views.shape == (5, 3, 64, 64) and views.dtype == np.uint8
    assert (views == render_views(sample_corpus, glyphs, 3, seed=1)).all()
    assert len({v.tobytes() for v in views.reshape(-1, 64, 64)}) == 15
    for view in views.reshape(
        -1, 64, 64
    ):  # fitted: the larger side reaches the margin, nothing passes it by more than the pen
        rows, columns = np.flatnonzero((view > 99).any(1)), np.flatnonzero((view > 99).any(0))
        assert 52 <= max(np.ptp(rows), np.ptp(columns)) <= 61


def test_loss_is_the_smoothed_cross_entropy_of_features_standardised_over_the_batch():
    config = dataclasses.replace(
        ClassifierConfig.tiny(), encoder=(8, 8, 8), hidden=8, label_smoothing=0.1
    )
    model = classifier.Classifier(config, 7, nnx.Rngs(0))
    images, labels = jax.random.uniform(jax.random.key(0), (4, 64, 64)), np.array([0, 3, 3, 6])
    features = np.asarray(nnx.jit(lambda m: m.features(images))(model), np.float64)
    normal = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
    logits = normal @ np.asarray(model.out.kernel[...], np.float64)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -np.mean([0.9 * log[i, c] + 0.1 * log[i].mean() for i, c in enumerate(labels)])
    # As one program: compiled operation by operation it takes a minute.
    value, parts = nnx.jit(lambda m: classifier.loss(m, config, images, labels))(model)
    assert float(value) == float(parts["cross_entropy"]) == pytest.approx(expected, rel=1e-4)
    assert float(parts["accuracy"]) == np.mean(logits.argmax(1) == labels)


@pytest.mark.parametrize("name", ["recogniser", pytest.param("baseline", marks=pytest.mark.long)])
def test_a_few_steps_learn_and_the_weights_answer(sample_corpus, tmp_path, name):
    config = dataclasses.replace(
        ClassifierConfig.tiny(),
        encoder=(8, 16, 32),
        hidden=48,
        views=2,
        warp=0.3,
        steps=250,
        warmup=10,
        learning_rate=4e-3,
        ema=0.95,
    )
    task = getattr(judges, f"{name}_task")(config, sample_corpus)
    before = task.evaluate(jax.jit(task.init)(jax.random.key(0)))
    loop.train(task, tmp_path / name)
    judge = judges.Judge(tmp_path, name)
    after = task.evaluate(judge.params)
    assert all(after[k] > before[k] + 0.1 for k in after), (before, after)
    images = np.asarray(sample_corpus.new.images[:70])
    log = judge.log_probabilities(images)
    assert log.shape == (70, len(judge.classes)) and np.allclose(np.exp(log).sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(
        judge.log_probabilities(images[66:]), log[66:], atol=1e-5
    )  # whatever stands beside
    assert judge.sample and set(judge.classes) <= set(sample_corpus.new.code_points.tolist())


def test_missing_judge_is_one_line(tmp_path):
    with pytest.raises(weights.WeightsError, match="recogniser"):
        judges.Judge(tmp_path, "recogniser")
