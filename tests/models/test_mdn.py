"""transfer.models.mdn: three densities that are densities, the samples they give and the candidates
they rank."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special, stats

from transfer.models import mdn

# Compiled as wholes: one operation at a time takes several times as long.
log_prob, candidate_scores, sample, loss = map(
    nnx.jit, (mdn.log_prob, mdn.candidate_scores, mdn.sample, mdn.loss)
)
TINY = mdn.MDNConfig(latent=2, hidden=8, layers=2, mixtures=3, key=4)
DENSITIES = ("factorised", "joint", "anchored")
SEEN = np.array([True, True, False, True, False])


def gallery(latent: int = 2) -> mdn.Gallery:
    random = np.random.default_rng(7)
    return mdn.Gallery(
        jnp.asarray(random.normal(0, 1.5, (5, latent)), jnp.float32),
        jnp.asarray(random.uniform(-2, 0.3, (5, latent)), jnp.float32),
        jnp.asarray(SEEN),
    )


def build(density: str, seed: int = 0, **fields):
    """A model whose components differ: larger last layers, and offsets away from their start at
    zero."""
    config = dataclasses.replace(TINY, density=density, **fields)
    model = mdn.build(config, 5, nnx.Rngs(seed))
    random = np.random.default_rng(seed)
    if density == "anchored":
        model.offset[...] = jnp.asarray(random.normal(0, 0.4, model.offset.shape), jnp.float32)
        model.log_sharpness[...] = jnp.log(jnp.float32(3.0))
    else:
        model.trunk.out.bias[...] = jnp.asarray(
            random.normal(0, 0.7, model.trunk.out.bias.shape), jnp.float32
        )
    return model


@pytest.fixture(scope="module")
def z():
    random = np.random.default_rng(2)
    return jnp.asarray(random.normal(0, 1.5, (6, 2)), jnp.float32), jnp.asarray(
        random.normal(0, 1.5, (6, 2)), jnp.float32
    )


def doubles(layer) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64)


def dense(trunk, x) -> np.ndarray:
    """A trunk's output in NumPy's doubles: dense layers with a leaky ReLU between them."""
    x = np.asarray(x, np.float64)
    for kernel, bias in map(doubles, trunk.layers):
        x = x @ kernel + bias
        x = np.where(x > 0, x, 0.01 * x)
    kernel, bias = doubles(trunk.out)
    return x @ kernel + bias


def anchored_by_hand(model, z_old, seen=SEEN) -> np.ndarray:
    """Mixture logits (B, 5): the sharpness times the cosine of query and key, with its product with
    the classifier, and the prior odds."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    keys = unit(unit(dense(model.key, gallery().mean)) + np.asarray(model.offset[...], np.float64))
    logits = np.exp(float(model.log_sharpness[...])) * unit(dense(model.query, z_old)) @ keys.T
    if model.config.direct:
        kernel, bias = doubles(model.direct)
        similar = special.log_softmax(logits, 1)
        classified = special.log_softmax(np.asarray(z_old, np.float64) @ kernel + bias, 1)
        a, b = np.asarray(model.exponents[...], np.float64)
        known = np.asarray(model.known[...]) > 0
        logits = np.where(known, a * similar + b * classified, (a + b) * similar)
    return logits + np.where(seen, 0, model.config.unseen)


def by_hand(model, z_old, z_new) -> np.ndarray:
    """log P(z_new | z_old) from scipy's normal densities, one example at a time."""
    if model.config.density == "anchored":
        g = gallery()
        weights = special.log_softmax(anchored_by_hand(model, z_old), 1)
        each = [
            [
                stats.multivariate_normal(m, np.diag(np.exp(v))).logpdf(x)
                for m, v in zip(g.mean, g.log_variance)
            ]
            for x in z_new
        ]
        return special.logsumexp(weights + np.array(each), axis=1)
    logits, means, log_scales = (np.asarray(a, np.float64) for a in model(z_old))
    out = []
    for n, x in enumerate(np.asarray(z_new)):
        component = stats.norm(means[n], np.exp(log_scales[n])).logpdf(x)  # (K, D)
        if model.config.density == "joint":
            out.append(special.logsumexp(special.log_softmax(logits[n, :, 0]) + component.sum(1)))
        else:
            out.append(
                sum(
                    special.logsumexp(special.log_softmax(logits[n, :, d]) + component[:, d])
                    for d in range(x.size)
                )
            )
    return np.array(out)


@pytest.mark.parametrize("density", DENSITIES)
def test_log_prob_is_the_mixture_of_scipys_normals(density, z):
    model = build(density)
    np.testing.assert_allclose(
        log_prob(model, *z, gallery()), by_hand(model, *z), rtol=1e-4, atol=1e-5
    )


def test_the_forms_have_the_mixture_weights_that_name_them(z):
    assert [a.shape for a in build("factorised")(z[0])] == [(6, 3, 2)] * 3
    assert [a.shape for a in build("joint")(z[0])] == [(6, 3, 1), (6, 3, 2), (6, 3, 2)]
    assert mdn.anchored_logits(build("anchored"), z[0], gallery()).shape == (6, 5)


def test_gallery_log_density_is_scipys_at_64_dimensions():
    random = np.random.default_rng(0)
    g = mdn.Gallery(
        *(
            jnp.asarray(a, jnp.float32)
            for a in (random.normal(0, 1, (4, 64)), random.uniform(-6, 0, (4, 64)))
        ),
        jnp.ones(4, bool),
    )
    x = jnp.asarray(np.asarray(g.mean)[[0, 1, 1]] + random.normal(0, 0.1, (3, 64)), jnp.float32)
    wanted = [
        [
            stats.multivariate_normal(m, np.diag(np.exp(v))).logpdf(row)
            for m, v in zip(np.asarray(g.mean, float), np.asarray(g.log_variance, float))
        ]
        for row in np.asarray(x, float)
    ]
    np.testing.assert_allclose(mdn.gallery_log_density(x, g), wanted, rtol=1e-4)


@pytest.mark.parametrize("density", DENSITIES)
def test_density_integrates_to_one(density):
    model, axis = build(density), np.linspace(-14, 14, 281)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), jnp.float32)
    one = jax.jit(
        lambda z_old: jnp.exp(
            mdn.log_prob(model, jnp.broadcast_to(z_old, grid.shape), grid, gallery())
        ).sum()
    )
    np.testing.assert_allclose(
        float(one(jnp.array([0.3, -0.8]))) * (axis[1] - axis[0]) ** 2, 1, rtol=5e-3
    )


@pytest.mark.parametrize("density", DENSITIES)
def test_candidate_scores_are_a_distribution_and_rank_as_brute_force(density, z):
    model, g = build(density), gallery()
    scores = np.asarray(candidate_scores(model, z[0], g))
    np.testing.assert_allclose(np.exp(scores).sum(1), 1, rtol=1e-5)
    if density == "anchored":
        brute = anchored_by_hand(model, z[0])
    else:
        brute = np.stack(
            [by_hand(model, z[0], np.tile(mean, (6, 1))) for mean in np.asarray(g.mean)], 1
        )
    np.testing.assert_allclose(scores, special.log_softmax(brute, 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("density", DENSITIES)
def test_cold_samples_are_the_likeliest_components(density, z):
    model, g = build(density), gallery()
    got = np.asarray(sample(model, z[0], g, jax.random.key(0), 1e-4))
    if density == "anchored":
        wanted = np.asarray(g.mean)[anchored_by_hand(model, z[0]).argmax(1)]
    else:
        logits, means, _ = (np.asarray(a) for a in model(z[0]))
        wanted = np.take_along_axis(means, logits.argmax(1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("density", ["joint", "anchored"])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_coherent_samples_are_component_means_as_often_as_their_weight(density, temperature, z):
    model, g, count = build(density), gallery(), 4000
    z_old = jnp.tile(z[0][:1], (count, 1))
    got = np.asarray(sample(model, z_old, g, jax.random.key(1), temperature))
    if density == "anchored":
        logits, means = anchored_by_hand(model, z[0][:1])[0], np.asarray(g.mean)
    else:
        logits, means = (np.asarray(a)[0] for a in model(z_old)[:2])
    same = (got[:, None] == means[None]).all(-1)
    assert same.any(1).all()
    expected = count * special.softmax(logits.reshape(-1).astype(float) / temperature)
    assert stats.chisquare(same.sum(0), expected).pvalue > 1e-3


def test_factorised_samples_choose_each_dimension_for_itself(z):
    model = build("factorised")
    z_old = jnp.tile(z[0][:1], (2000, 1))
    got = np.asarray(sample(model, z_old, gallery(), jax.random.key(1), 3.0))
    means = np.asarray(model(z_old)[1])[0]
    pick = (got[:, None] == means[None]).argmax(1)  # (2000, 2)
    assert len({tuple(p) for p in pick}) == 9
    assert np.isin(got[:, 0], means[:, 0]).all() and np.isin(got[:, 1], means[:, 1]).all()


@pytest.mark.parametrize("density", DENSITIES)
def test_loss_gradient_is_the_finite_difference(density, z):
    graph, state = nnx.split(build(density))
    random, label = np.random.default_rng(3), jnp.array([0, 1, 3, 3, 0, 1])
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda p: jnp.asarray(np.asarray(p), jnp.float64), tree)
        params, g = double(nnx.to_pure_dict(state)), gallery()
        g = mdn.Gallery(*double((g.mean, g.log_variance)), g.seen)
        z_old, z_new = double(z)
        value = jax.jit(
            lambda p: mdn.loss(nnx.merge(graph, p), z_old, z_new, label, g, jax.random.key(4))[0]
        )
        loss, grads = jax.jit(jax.value_and_grad(value))(params)
        for _ in range(3):
            direction = jax.tree.map(lambda p: random.standard_normal(p.shape), params)
            at = lambda step: float(
                value(jax.tree.map(lambda p, d: np.asarray(p) + step * d, params, direction))
            )
            along = sum(
                float((np.asarray(a) * b).sum())
                for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(direction))
            )
            np.testing.assert_allclose((at(1e-6) - at(-1e-6)) / 2e-6, along, rtol=1e-5, atol=1e-8)
    if density != "anchored":
        np.testing.assert_allclose(
            float(loss), -by_hand(nnx.merge(graph, state), *z).mean() / 2, rtol=1e-5
        )


def test_anchored_loss_is_the_weight_of_the_pairs_own_anchor(z):
    model, label = build("anchored", key_dropout=0.0), np.array([0, 1, 3, 3, 0, 1])
    value, parts = loss(model, *z, jnp.asarray(label), gallery(), jax.random.key(0))
    logits = np.asarray(model(z[0], model.keys(gallery().mean)), float)[:, SEEN]
    column = np.searchsorted(np.flatnonzero(SEEN), label)
    np.testing.assert_allclose(
        value, -special.log_softmax(logits, 1)[np.arange(6), column].mean(), rtol=1e-5
    )
    assert float(parts["accuracy"]) == pytest.approx(np.mean(logits.argmax(1) == column))


def test_a_kanji_without_images_is_never_trained_on(z):
    graph, state = nnx.split(build("anchored", key_dropout=0.0))
    label, g = jnp.array([0, 1, 3, 3, 0, 1]), gallery()
    moved = mdn.Gallery(g.mean + 5.0 * (~SEEN)[:, None], g.log_variance, g.seen)
    value = jax.jit(
        jax.value_and_grad(
            lambda p, g: mdn.loss(nnx.merge(graph, p), *z, label, g, jax.random.key(0))[0]
        )
    )
    (first, grads), (second, _) = (
        value(nnx.to_pure_dict(state), g),
        value(nnx.to_pure_dict(state), moved),
    )
    assert float(first) == float(second)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    learned = np.abs(np.asarray(grads["offset"])).sum(1)
    assert (learned[~SEEN] == 0).all() and (learned[SEEN] > 0).all()


def test_a_kanji_without_images_can_be_a_candidate_at_its_prior_odds():
    z_old = jnp.asarray(np.random.default_rng(0).normal(0, 2, (64, 2)), jnp.float32)
    even, less = (
        np.asarray(candidate_scores(build("anchored", unseen=u), z_old, gallery()))
        for u in (0.0, -2.0)
    )
    assert not SEEN[even.argmax(1)].all()
    odds = lambda scores: scores[:, ~SEEN] - scores[:, :1]
    np.testing.assert_allclose(odds(less), odds(even) - 2.0, atol=1e-4)


def test_key_dropout_leaves_the_learned_offset_out(z):
    model = build("anchored")
    plain = build("anchored")
    plain.offset[...] = jnp.zeros_like(plain.offset[...])
    mean = gallery().mean
    np.testing.assert_allclose(model.keys(mean, jnp.zeros(5)), plain.keys(mean), atol=1e-6)
    np.testing.assert_allclose(model.keys(mean, jnp.ones(5)), model.keys(mean), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.keys(mean), axis=1), 1, rtol=1e-4)
    label = jnp.array([0, 1, 3, 3, 0, 1])
    values = [
        float(loss(m, *z, label, gallery(), jax.random.key(0))[0])
        for m in (build("anchored", key_dropout=1.0), plain, build("anchored", key_dropout=0.0))
    ]
    assert values[0] == pytest.approx(values[1]) and values[0] != pytest.approx(values[2])


def test_far_latents_stay_finite():
    far = jnp.tile(jnp.array([[1e3, -1e3], [0.0, 0.0]]), (3, 1))
    for density in DENSITIES:
        model = build(density)
        assert np.isfinite(log_prob(model, far, far, gallery())).all()
        assert np.isfinite(candidate_scores(model, far, gallery())).all()


def test_paper_network_has_three_layers_of_1024_and_a_mixture_of_100_a_dimension():
    config = mdn.MDNConfig.paper()
    model = nnx.eval_shape(lambda: mdn.build(config, 10, nnx.Rngs(0)))
    assert [layer.kernel.shape for layer in model.trunk.layers] == [
        (64, 1024),
        (1024, 1024),
        (1024, 1024),
    ]
    assert model.trunk.out.kernel.shape == (1024, 64 * 100 * 3)
    assert (config.batch, config.steps, config.learning_rate, config.temperature) == (
        3000,
        30_000,
        1e-3,
        0.25,
    )


def test_the_product_leaves_anchors_without_a_row_to_the_similarities():
    similar, direct = jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.log(jnp.array([[0.1, 0.8, 0.1]]))
    found = mdn.product(similar, direct, jnp.array([1.0, 1.0, 0.0]), jnp.array([0.25, 0.75]))
    np.testing.assert_allclose(
        found,
        [
            [
                0.25 * similar[0, 0] + 0.75 * direct[0, 0],
                0.25 * similar[0, 1] + 0.75 * direct[0, 1],
                similar[0, 2],
            ]
        ],
        rtol=1e-6,
    )


def with_classifier():
    """The density in the form that is shipped: with the old VAE's classifier, which knows three of
    the five anchors."""
    model, random = build("anchored", direct=True), np.random.default_rng(11)
    model.direct.kernel[...] = jnp.asarray(random.normal(0, 1, (2, 5)), jnp.float32)
    model.direct.bias[...] = jnp.asarray(random.normal(0, 1, 5), jnp.float32)
    model.known[...], model.exponents[...] = (
        jnp.array([1.0, 0.0, 1.0, 1.0, 0.0]),
        jnp.array([0.3, 0.9]),
    )
    return model


def test_the_shipped_form_is_the_product_of_similarity_and_classifier_each_to_its_own_exponent(z):
    model, g = with_classifier(), gallery()
    wanted = special.log_softmax(anchored_by_hand(model, z[0]), 1)
    np.testing.assert_allclose(candidate_scores(model, z[0], g), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_prob(model, *z, g), by_hand(model, *z), rtol=1e-4, atol=1e-4)
    got = np.asarray(sample(model, z[0], g, jax.random.key(0), 1e-4))
    np.testing.assert_array_equal(got, np.asarray(g.mean)[wanted.argmax(1)])
    model.exponents[...] = model.exponents[...][::-1]
    assert np.abs(special.log_softmax(anchored_by_hand(model, z[0]), 1) - wanted).max() > 0.1


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_only_anchors_that_are_allowed_for_an_image_take_part_in_its_loss(z, smoothing):
    model, label = (
        build("anchored", key_dropout=0.0, label_smoothing=smoothing),
        np.array([0, 1, 3, 3, 0, 4]),
    )
    allowed = np.array(
        [
            [1, 1, 0, 1, 0],
            [1, 1, 1, 1, 1],
            [0, 0, 0, 1, 1],
            [1, 1, 1, 1, 0],
            [1, 0, 1, 0, 1],
            [1, 0, 0, 0, 1],
        ],
        bool,
    )
    value, parts = loss(
        model, *z, jnp.asarray(label), gallery(), jax.random.key(0), jnp.asarray(allowed)
    )
    logits = anchored_by_hand(model, z[0], np.ones(5, bool))
    cross, own, right = [], [], []
    for row, mask, truth in zip(logits, allowed, label):
        log_p = special.log_softmax(row[mask])
        place = mask[:truth].sum()
        own.append(-log_p[place])
        cross.append(-(1 - smoothing) * log_p[place] - smoothing * log_p.mean())
        right.append(log_p.argmax() == place)
    assert float(value) == pytest.approx(np.mean(cross), rel=1e-4)
    assert float(parts["weight_nll"]) == pytest.approx(np.mean(own), rel=1e-4)
    assert float(parts["accuracy"]) == pytest.approx(np.mean(right))
    everywhere = loss(
        model, *z, jnp.asarray(label), gallery(), jax.random.key(0), jnp.ones((6, 5), bool)
    )[0]
    assert abs(float(everywhere) - float(value)) > 0.05
