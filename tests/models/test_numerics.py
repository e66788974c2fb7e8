"""Losses against closed forms and, in float64, against finite differences of themselves. (Those of
the VAE, the density and the stroke decoder are with their own tests.)"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from transfer.data.strokes import to_stroke3
from transfer.models import classifier, mdn, sketch_rnn, stroke_rnn, vae
from transfer.models.classifier import ClassifierConfig
from transfer.models.layers.mixture import mixture_log_prob
from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.models.vae import VAEConfig

BIVARIATE = SketchRNNConfig(latent=3, units=7, mixtures=2, scale=16.0, longest=12, ema=0.0)
CONFIGS = {
    "bivariate": BIVARIATE,
    "diagonal, of two layers": dataclasses.replace(BIVARIATE, layers=2, bivariate=False),
    "with dropout": dataclasses.replace(BIVARIATE, keep=0.7),
}
LINES = [np.array([[20, 30], [60, 35], [61, 70]], float), np.array([[40, 90], [80, 20]], float)]


def random_params(make, seed: int = 0):
    """(graph, float64 params) of a module, drawn so that no part of it is silent."""
    graph, state = nnx.split(nnx.eval_shape(make))
    random = np.random.default_rng(seed)
    start = lambda p: jnp.asarray(
        random.normal(0, max(1, np.prod(p.shape[:-1])) ** -0.5, p.shape), jnp.float64
    )
    return graph, jax.tree.map(start, nnx.to_pure_dict(state))


def slopes(value, params, directions: int = 3, step: float = 1e-6):
    """(by finite differences, by the gradient) of value(params) along random directions."""
    value = jax.jit(jax.value_and_grad(value))
    _, gradient = value(params)
    random = np.random.default_rng(1)
    for _ in range(directions):
        direction = jax.tree.map(lambda p: jnp.asarray(random.standard_normal(p.shape)), params)
        at = lambda by: float(value(jax.tree.map(lambda p, d: p + by * d, params, direction))[0])
        along = sum(
            float((g * d).sum())
            for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))
        )
        yield (at(step) - at(-step)) / (2 * step), along


@pytest.mark.parametrize("name", CONFIGS)
def test_gradient_of_the_drawing_loss(name):
    config = CONFIGS[name]
    with jax.enable_x64(True):
        graph, params = random_params(lambda: sketch_rnn.SketchRNN(config, nnx.Rngs(0)))
        random = np.random.default_rng(2)
        rows = np.zeros((2, 8, 3))
        for row, lines in zip(rows, (LINES, LINES[1:])):
            stroke3 = to_stroke3(lines)
            row[: len(stroke3)] = stroke3
        condition = {"z": jnp.asarray(random.normal(0, 1, (2, 3)))}
        loss = lambda p: sketch_rnn.loss(
            nnx.merge(graph, p), jnp.asarray(rows), jnp.array([5, 2]), condition, jax.random.key(0)
        )[0]
        for slope, along in slopes(loss, params):
            np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-8)


def test_gradient_of_the_plan_and_its_value():
    config = dataclasses.replace(
        StrokeRNNConfig.tiny(),
        latent=3,
        units=4,
        embed=4,
        width=4,
        heads=1,
        channels=18,
        plan_hidden=5,
    )
    with jax.enable_x64(True):
        graph, params = random_params(lambda: stroke_rnn.StrokeRNN(config, nnx.Rngs(0)))
        z, strokes = (
            jnp.asarray(np.random.default_rng(3).normal(0, 1, (4, 3))),
            jnp.array([1, 2, 5, 9]),
        )
        loss = lambda p: stroke_rnn.plan_loss(nnx.merge(graph, p), z, strokes)[0]
        for slope, along in slopes(loss, params):
            np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-8)
        scores = special.log_softmax(np.asarray(nnx.merge(graph, params).plan({"z": z})), -1)
        np.testing.assert_allclose(loss(params), -scores[np.arange(4), strokes].mean(), rtol=1e-10)


def test_gradient_of_the_classifiers_loss():
    config = ClassifierConfig(
        encoder=(4, 5, 6), encoder_blocks=(0, 1, 1), hidden=7, label_smoothing=0.1
    )
    with jax.enable_x64(True):
        graph, params = random_params(lambda: classifier.Classifier(config, 5, nnx.Rngs(0)))
        images, labels = (
            jnp.asarray(np.random.default_rng(4).random((3, 64, 64))),
            jnp.array([0, 3, 4]),
        )
        for slope, along in slopes(
            lambda p: classifier.loss(nnx.merge(graph, p), config, images, labels)[0], params
        ):
            np.testing.assert_allclose(along, slope, rtol=1e-4, atol=1e-8)


class Known:
    """In the place of a VAE: a given posterior, and pictures of no opinion."""

    def __init__(self, mean, log_variance):
        self.posterior = mean, log_variance

    def encode(self, images, statistics="kept"):
        return self.posterior

    def decode(self, z):
        return jnp.zeros((len(z), 64, 64)) + 0.0 * z.sum()


@pytest.mark.parametrize("floor", [0.0, 3.0, 1e6])
def test_the_papers_kl_floor_in_value_and_gradient(floor):
    """BCE of a half-and-half picture is ln 2 a pixel whatever is shown; max(KL, floor) an example;
    below the floor nothing pulls at the posterior."""
    random = np.random.default_rng(5)
    mean, log_variance = (
        random.normal(0, 1, (6, 4)) * np.arange(6)[:, None] / 2,
        random.normal(0, 0.5, (6, 4)) * np.arange(6)[:, None] / 2,
    )
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1)
    assert kl[0] == 0 and (floor in (0.0, 1e6) or (kl < floor).any() and (kl > floor).any())
    config, images = dataclasses.replace(VAEConfig.paper(), kl_floor=floor), jnp.zeros((6, 64, 64))
    with jax.enable_x64(True):
        value = lambda m, v: vae.elbo(Known(m, v), config, images, jax.random.key(0))[0]
        found, (by_mean, by_log_variance) = jax.value_and_grad(value, (0, 1))(
            jnp.asarray(mean), jnp.asarray(log_variance)
        )
    np.testing.assert_allclose(found, 64 * 64 * np.log(2) + np.maximum(kl, floor).mean(), rtol=1e-6)
    pulled = (kl > floor)[:, None]
    np.testing.assert_allclose(by_mean, np.where(pulled, mean, 0) / 6, atol=1e-7)
    np.testing.assert_allclose(
        by_log_variance, np.where(pulled, 0.5 * (np.exp(log_variance) - 1), 0) / 6, atol=1e-7
    )


@pytest.mark.parametrize("density", ["factorised", "joint"])
def test_a_mixture_of_one_is_a_normal_in_value_and_gradient(density):
    """-log N(z; m, s) a dimension; its gradient by m is (m - z) / s², by log s it is 1 - ((z - m) /
    s)²."""
    random = np.random.default_rng(6)
    z, mean, log_scale = (random.normal(0, 1, (5, 64)) for _ in range(3))
    logits = jnp.zeros((5, 1, 64 if density == "factorised" else 1))
    with jax.enable_x64(True):
        value = lambda m, s: -mixture_log_prob(logits, m[:, None], s[:, None], jnp.asarray(z)).sum()
        found, (by_mean, by_scale) = jax.value_and_grad(value, (0, 1))(
            jnp.asarray(mean), jnp.asarray(log_scale)
        )
    unit = (z - mean) / np.exp(log_scale)
    np.testing.assert_allclose(
        found, (0.5 * unit**2 + log_scale + 0.5 * np.log(2 * np.pi)).sum(), rtol=1e-8
    )
    np.testing.assert_allclose(by_mean, -unit / np.exp(log_scale), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(by_scale, 1 - unit**2, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("picture", ["black", "white", "one pixel"])
@pytest.mark.parametrize("density", ["factorised", "joint"])
def test_extreme_pictures_give_finite_losses_and_gradients_all_the_way(picture, density):
    """Through a fresh VAE of the paper into a fresh density of the paper's network."""
    image = np.full((1, 64, 64), picture == "white", np.float32)
    image[0, 30, 30] = picture != "black"
    coder = vae.VAE(dataclasses.replace(VAEConfig.paper(), latent=64), 3, nnx.Rngs(0))
    config = MDNConfig(density=density, hidden=32, mixtures=3)
    gallery = mdn.Gallery(jnp.zeros((2, 64)), jnp.zeros((2, 64)), jnp.ones(2, bool))

    def value(z_old):
        return mdn.loss(
            mdn.build(config, 2, nnx.Rngs(1)),
            z_old,
            1e3 * jnp.ones((1, 64)),
            jnp.array([0]),
            gallery,
            jax.random.key(0),
        )[0]

    mean, log_variance = coder.encode(jnp.asarray(image))
    loss, slope = jax.value_and_grad(value)(mean * 1e3)
    assert (
        np.isfinite(loss)
        and np.isfinite(slope).all()
        and np.isfinite(mean).all()
        and np.isfinite(log_variance).all()
    )
