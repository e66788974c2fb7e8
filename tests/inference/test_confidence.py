"""transfer.inference.confidence: probabilities that hold."""

import jax
import jax.numpy as jnp
import numpy as np

from transfer.inference import confidence


def problem(count, seed):
    """Readings of 20 kanji: some images say by their third number that they are unfamiliar, and
    their scores are worth little; kanji from the 15th on have no images, and are right as often."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 20, count)
    strange = rng.random(count) < 0.5
    noise = rng.normal(size=(count, 20)) * 2
    scores = noise + np.where(strange, 1.0, 6.0)[:, None] * (np.arange(20) == label[:, None])
    scores -= 2.0 * (np.arange(20) >= 15)
    scores = jax.nn.log_softmax(2.5 * jnp.asarray(scores, jnp.float32))
    given = rng.normal(size=(count, len(confidence.NUMBERS))).astype(np.float32)
    given[:, 3] = strange + 0.1 * given[:, 3]
    return np.asarray(scores), given, label, strange


PHOTOGRAPHED = np.arange(20) < 15


def gap(log_probability, label):
    """Stated less true share of right first candidates."""
    return float(
        np.exp(log_probability.max(1)).mean() - (log_probability.argmax(1) == label).mean()
    )


def test_fitted_probabilities_hold_on_other_images_of_either_kind():
    scores, given, label, _ = problem(3000, 0)
    right = np.stack([label, np.full(len(label), -1)], 1).astype(np.int32)
    found = confidence.fit(scores, given, right, PHOTOGRAPHED, np.ones(len(label)))
    scores, given, label, strange = problem(3000, 1)
    for kind in (strange, ~strange):
        before = gap(scores[kind], label[kind])
        now = np.asarray(confidence.confident(found, scores[kind], given[kind], PHOTOGRAPHED))
        np.testing.assert_allclose(np.exp(now).sum(1), 1, rtol=1e-4)
        assert abs(gap(now, label[kind])) < 0.05
        assert abs(gap(now, label[kind])) < 0.5 * abs(before) + 0.02
    assert found["unseen"] > 0.3


def test_either_form_of_a_kanji_is_right():
    scores, given, label, _ = problem(500, 2)
    both = np.stack([label, (label + 1) % 20], 1).astype(np.int32)
    one = confidence.fit(scores, given, both, PHOTOGRAPHED, np.ones(len(label)), steps=50)
    other = confidence.fit(
        scores, given, both[:, ::-1], PHOTOGRAPHED, np.ones(len(label)), steps=50
    )
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=2e-2)


def test_a_source_of_more_weight_decides():
    scores, given, label, strange = problem(2000, 3)
    right, bias = label[:, None].astype(np.int32), []
    for weight in (np.where(strange, 1.0, 1e-6), np.where(strange, 1e-6, 1.0)):
        flat = np.zeros_like(given)
        bias.append(confidence.fit(scores, flat, right, PHOTOGRAPHED, weight)["bias"])
    assert bias[0] < bias[1] - 0.5


def test_plain_confidence_is_one_exponent_for_all():
    scores, given, _, _ = problem(50, 4)
    got = confidence.confident(confidence.plain(0.7), scores, given, PHOTOGRAPHED)
    np.testing.assert_allclose(got, jax.nn.log_softmax(0.7 * jnp.asarray(scores)), atol=1e-5)


def test_numbers_are_finite_and_tell_what_they_are_named_for():
    images = np.zeros((2, 64, 64), np.float32)
    images[1, 20:40, 30:34] = 1
    seen = {
        "old": jnp.stack([jnp.full((64, 64), 0.5), jnp.asarray(images[1])]),
        "z_old": jnp.zeros((2, 64)),
        "log_variance": jnp.zeros((2, 64)),
    }
    views = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2, 64)) * [[[3.0], [0.1]]])
    scores = jnp.log(jnp.asarray([[0.5, 0.4, 0.1], [1.0, 1e-30, 1e-30]]))
    got = confidence.numbers(
        jnp.asarray(images), seen, views, scores, jnp.asarray([False, True, True]), jnp.zeros(2)
    )
    got = [dict(zip(confidence.NUMBERS, row)) for row in np.asarray(got)]
    assert np.isfinite([list(row.values()) for row in got]).all()
    assert np.isclose(got[0]["its lead over the second"], np.log(0.5 / 0.4), atol=1e-4)
    for name in ("entropy", "spread of the views", "lost in the old VAE's picture"):
        assert got[0][name] > got[1][name], name
    assert got[0]["first has images"] == 0 and np.isclose(got[0]["KL"], 0, atol=1e-6)
