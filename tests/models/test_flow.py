"""transfer.models.layers.flow and the density `flow`: exact both ways, a density, and samples that
follow it; and densities turned round."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import special, stats

from transfer.models import mdn
from transfer.models.layers.flow import Couplings, halves
from transfer.models.layers.mixture import mixture_log_prob

TINY = mdn.MDNConfig(
    density="flow", latent=2, hidden=8, layers=1, mixtures=2, couplings=4, width=8, noise=1.0
)


def randomised(model, seed: int = 0, scale: float = 0.5):
    """A model whose every parameter is random: couplings begin as the identity."""
    graph, state = nnx.split(model)
    random = np.random.default_rng(seed)
    draw = lambda p: jnp.asarray(random.normal(0, scale, p.shape), jnp.float32)
    return nnx.merge(graph, jax.tree.map(draw, state))


def build(seed: int = 0, scale: float = 0.5, **fields):
    return randomised(mdn.build(dataclasses.replace(TINY, **fields), 5, nnx.Rngs(0)), seed, scale)


def gallery(latent: int = 2) -> mdn.Gallery:
    random = np.random.default_rng(7)
    mean = jnp.asarray(random.normal(0, 1, (5, latent)), jnp.float32)
    return mdn.Gallery(mean, jnp.zeros_like(mean), jnp.ones(5, bool))


def test_couplings_are_exact_both_ways_and_move_every_dimension():
    couplings = randomised(Couplings(4, 5, 3, 8, nnx.Rngs(0)))
    random = np.random.default_rng(1)
    x, context = (jnp.asarray(random.normal(0, 1, (6, n)), jnp.float32) for n in (5, 3))
    conditions = couplings.conditions(context)
    u, log_determinant = couplings.to_base(x, conditions)
    assert (np.abs(u - x) > 1e-4).all()
    np.testing.assert_allclose(couplings.from_base(u, conditions), x, atol=1e-4)
    one = lambda x, context: couplings.to_base(x[None], couplings.conditions(context[None]))[0][0]
    jacobian = jax.vmap(jax.jacfwd(one))(x, context)
    np.testing.assert_allclose(
        log_determinant, np.linalg.slogdet(np.asarray(jacobian, np.float64))[1], rtol=1e-3
    )
    for number in range(4):
        kept, moved = halves(number, 5)
        assert sorted([*kept, *moved]) == list(range(5))
    assert set(halves(0, 5)[0]) == set(halves(1, 5)[1])
    assert set(halves(0, 5)[0]) != set(halves(2, 5)[0])


def test_the_flow_is_a_density():
    model, grid = build(scale=0.25), np.linspace(-12, 12, 401)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2), jnp.float32)
    given = jnp.array([[0.3, -0.8]])
    parts = jax.tree.map(lambda a: jnp.repeat(a, len(points), 0), model(given))
    found = np.asarray(model.log_density(parts, points), np.float64)
    assert np.exp(found).sum() * (grid[1] - grid[0]) ** 2 == pytest.approx(1, abs=0.01)


def test_without_training_the_couplings_leave_the_joint_mixture():
    model = mdn.build(TINY, 5, nnx.Rngs(0))
    random = np.random.default_rng(0)
    z, x = (jnp.asarray(random.normal(0, 1, (4, 2)), jnp.float32) for _ in range(2))
    np.testing.assert_allclose(
        mdn.log_prob(model, z, x, gallery()), mixture_log_prob(*model(z)[:3], x), rtol=1e-5
    )


def test_samples_are_draws_of_the_density():
    """Taken back to the base, standardised, they are normal; and temperature narrows them."""
    model = build(mixtures=1)
    given = jnp.tile(jnp.array([[0.3, -0.8]]), (2000, 1))
    parts = model(given)
    for temperature, noise in ((1.0, None), (0.25, None), (1.0, 0.5)):
        z = mdn.sample(model, given, gallery(), jax.random.key(0), temperature, noise)
        assert np.isfinite(mdn.log_prob(model, given, z, gallery())).all()
        u, _ = model.couplings.to_base(z, parts[3])
        standard = (u - parts[1][:, 0]) * jnp.exp(-parts[2][:, 0])
        expected = stats.norm(0, temperature**0.5 * (noise or 1.0))
        for axis in range(2):
            assert stats.kstest(np.asarray(standard[:, axis]), expected.cdf).pvalue > 1e-3
    still = mdn.sample(model, given, gallery(), jax.random.key(0), 1.0, 0.0)
    np.testing.assert_allclose(still, jnp.tile(still[:1], (2000, 1)), atol=1e-5)


def test_a_mixture_s_samples_have_its_deviation_only_where_noise_is_asked_for():
    model = build(density="joint", mixtures=1)
    given = jnp.zeros((2000, 2))
    _, means, log_scales = model(given)
    draw = lambda noise: np.asarray(
        mdn.sample(model, given, gallery(), jax.random.key(0), 1.0, noise)
    )
    np.testing.assert_array_equal(draw(0.0), means[:, 0])
    found = (draw(1.0) - means[:, 0]) * np.exp(-log_scales[:, 0])
    assert stats.kstest(np.asarray(found).ravel(), "norm").pvalue > 1e-3
    assert np.array_equal(draw(None), draw(1.0))  # the configuration's own


def test_a_trained_flow_draws_the_rings_it_has_seen():
    """Points on a circle whose radius is what is given: no Gaussian, nor two, has that shape."""
    config = dataclasses.replace(TINY, hidden=32, mixtures=4, width=32, couplings=6)
    graph, state = nnx.split(mdn.build(config, 5, nnx.Rngs(0)))

    def batch(key, number=256):
        radius_key, angle_key, noise_key = jax.random.split(key, 3)
        radius = jax.random.uniform(radius_key, (number, 1), minval=1.0, maxval=2.0)
        angle = jax.random.uniform(angle_key, (number,)) * 2 * jnp.pi
        ring = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        noise = 0.1 * jax.random.normal(noise_key, ring.shape)
        return jnp.concatenate([radius, radius], 1), ring + noise

    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 600))

    @jax.jit
    def fit(state):
        def step(carry, key):
            params, at = carry
            given, x = batch(key)
            value, gradient = jax.value_and_grad(
                lambda p: mdn.loss(nnx.merge(graph, p), given, x, None, None, key)[0]
            )(params)
            updates, at = optimizer.update(gradient, at)
            return (optax.apply_updates(params, updates), at), value

        keys = jax.random.split(jax.random.key(1), 600)
        (params, _), values = jax.lax.scan(step, (state, optimizer.init(state)), keys)
        return params, values

    params, values = fit(state)
    assert np.isfinite(values).all()
    model = nnx.merge(graph, params)
    for radius in (1.2, 1.8):
        given = jnp.full((1000, 2), radius)
        z = np.asarray(mdn.sample(model, given, gallery(), jax.random.key(2)))
        away = np.hypot(*z.T)
        assert np.median(away) == pytest.approx(radius, abs=0.08)
        assert np.quantile(np.abs(away - radius), 0.8) < 0.35
        quarter = np.histogram(np.arctan2(z[:, 1], z[:, 0]), 4, (-np.pi, np.pi))[0] / 1000
        assert (quarter > 0.12).all()  # all the way round


@pytest.mark.parametrize("density", ["joint", "flow"])
@pytest.mark.parametrize("direction", ["forward", "back"])
def test_candidates_are_ranked_by_bayes_rule(density, direction):
    model, g = build(density=density, direction=direction), gallery()
    z = jnp.asarray(np.random.default_rng(3).normal(0, 1, (4, 2)), jnp.float32)
    each = [
        mdn.log_prob(model, z, jnp.tile(g.mean[k], (4, 1)), g) for k in range(5)
    ]  # of a density back: of z_old, given the kanji
    wanted = special.log_softmax(np.stack(each, 1).astype(np.float64), 1)
    np.testing.assert_allclose(mdn.candidate_scores(model, z, g), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("density", ["factorised", "joint", "flow"])
def test_the_classifiers_probabilities_are_a_second_input(density):
    """A classifier that is sure of its second kanji adds what that kanji means to the first
    layer's sums; one that cannot decide adds the mean of all."""
    asked, plain = build(density=density, direct=True), build(density=density)
    z = jnp.asarray(np.random.default_rng(6).normal(0, 1, (4, 2)), jnp.float32)
    plain.trunk = asked.trunk
    if asked.couplings is not None:
        plain.couplings = asked.couplings
    first = plain.trunk.layers[0]
    bias, meaning = first.bias[...], asked.meaning.kernel[...]
    asked.direct.kernel[...] = jnp.zeros_like(asked.direct.kernel[...])
    for opinion, said in (
        ([0.0, 90.0, 0.0, 0.0, 0.0], meaning[1]),
        ([0.0] * 5, meaning.mean(0)),
    ):
        asked.direct.bias[...] = jnp.array(opinion)
        first.bias[...] = bias
        found = mdn.log_prob(asked, z, z[::-1], gallery())
        first.bias[...] = bias + said
        wanted = mdn.log_prob(plain, z, z[::-1], gallery())
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    back = mdn.build(dataclasses.replace(TINY, direct=True, direction="back"), 5, nnx.Rngs(0))
    assert back.direct is None


def test_the_way_back_exchanges_what_is_given_and_what_is_asked():
    forward = build(density="joint")
    back = build(density="joint", direction="back")
    random = np.random.default_rng(5)
    z, x = (jnp.asarray(random.normal(0, 1, (4, 2)), jnp.float32) for _ in range(2))
    found = mdn.log_prob(back, x, z, gallery())
    np.testing.assert_allclose(found, mdn.log_prob(forward, z, x, gallery()), rtol=1e-6)


def test_settings_that_suit_a_density():
    small = mdn.MDNConfig.small()
    assert mdn.suited(small, None, None) == small == mdn.suited(small, "anchored", None)
    flow, joint = (mdn.suited(small, name, None) for name in ("flow", "joint"))
    assert (flow.noise, joint.noise) == (1.0, 0.0) and flow.steps == joint.steps == 5 * small.steps
    back = mdn.suited(small, None, "back")
    assert (back.density, back.direction, back.noise) == ("flow", "back", 1.0)
    assert mdn.suited(small, "joint", "back").noise == 1.0
    assert (flow.temperature, back.temperature) == (mdn.MDNConfig.paper().temperature, 1.0)
    paper = mdn.MDNConfig.paper()
    assert mdn.suited(paper, "joint", None) == dataclasses.replace(paper, density="joint")
    assert mdn.unused(flow) == {"key", "key_dropout", "unseen", "label_smoothing"}
    assert "direct" in mdn.unused(back)  # a classifier of old images says nothing of a glyph
    assert {"views", "key"} < mdn.unused(paper)  # which draws its latents anew at each step
    assert {"couplings", "width"} < mdn.unused(joint) and "noise" in mdn.unused(small)
