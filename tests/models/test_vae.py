"""transfer.models.vae: the loss is its formula, the paper's network has the published shapes,
gradients are the true ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import integrate, special, stats

from transfer.models import augment, losses, paper_vae, vae
from transfer.models.layers import convolution

TINY = vae.VAEConfig(
    latent=6,
    encoder=(4, 6, 8),
    encoder_blocks=(0, 1, 0),
    decoder=(8, 6, 4),
    decoder_blocks=(0, 1, 0),
    hidden=12,
    recognition=3.0,
    kl_floor=2.0,
)
CLASSES = 5


def build(config: vae.VAEConfig, seed: int = 0):
    """(graph, params) with random parameters: residual blocks begin as the identity and biases at
    zero, which hides mistakes."""
    graph, state = nnx.split(nnx.eval_shape(lambda: vae.VAE(config, CLASSES, nnx.Rngs(0))))
    random = np.random.default_rng(seed)

    def start(shape):
        return random.standard_normal(shape, np.float32) / np.float32(
            np.sqrt(max(1, np.prod(shape[:-1])))
        )

    return graph, jax.tree.map(lambda p: jnp.asarray(start(p.shape)), nnx.to_pure_dict(state))


@pytest.fixture(scope="module")
def tiny():
    return build(TINY)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(1)
    shades = np.linspace(0.05, 0.95, 7)[:, None, None]
    return jnp.asarray(
        (random.random((7, 64, 64)) < shades) * random.random((7, 64, 64)), jnp.float32
    )


@pytest.mark.parametrize("mean, log_variance", [(0.0, 0.0), (1.5, -2.0), (-3.0, 1.0), (0.2, 3.0)])
def test_kl_is_the_integral_of_q_log_q_over_p(mean, log_variance):
    q, p = stats.norm(mean, np.exp(log_variance / 2)), stats.norm()
    wanted, _ = integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *q.interval(1 - 1e-12)
    )
    got = vae.kl_divergence(jnp.full((2, 3), mean), jnp.full((2, 3), log_variance))
    assert got.shape == (2, 3)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_samples_have_the_posteriors_mean_and_deviation():
    mean, log_variance = jnp.array([2.0, -1.0]), jnp.array([-2.0, 1.0])
    z = np.asarray(
        vae.sample_z(
            jnp.tile(mean, (20_000, 1)), jnp.tile(log_variance, (20_000, 1)), jax.random.key(0)
        )
    )
    for d in range(2):
        assert (
            stats.kstest(z[:, d], stats.norm(mean[d], np.exp(log_variance[d] / 2)).cdf).pvalue
            > 1e-3
        )


def test_loss_is_its_formula_on_the_models_own_outputs(tiny, images):
    graph, params = tiny
    # Latents so far out that their KL divergences lie tens of nats apart: else a floor of the
    # batch's mean looks like one of each example.
    params = params | {"mean": jax.tree.map(lambda p: 10 * p, params["mean"])}
    labels, key = jnp.array([0, 1, 2, 3, 4, 0, 1]), jax.random.key(5)
    model = nnx.merge(graph, params)
    with_floor = jax.jit(
        lambda p, floor, smoothing: vae.loss(
            nnx.merge(graph, p),
            dataclasses.replace(TINY, kl_floor=floor, label_smoothing=smoothing),
            images,
            labels,
            key,
        ),
        static_argnums=(1, 2),
    )
    mean, log_variance = model.encode(images)
    z = vae.sample_z(mean, log_variance, key)
    logits, z, mean, log_variance = (
        np.asarray(a, np.float64) for a in (model.decode(z), z, mean, log_variance)
    )
    x = np.asarray(images, np.float64)
    cross_entropy = -(x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits)).sum(
        (1, 2)
    )
    np.testing.assert_allclose(
        vae.reconstruction_loss(jnp.float32(logits), images), cross_entropy, rtol=1e-5
    )
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1)
    scores = z @ np.asarray(model.classifier.kernel[...], np.float64) + np.asarray(
        model.classifier.bias[...], np.float64
    )
    log_p = special.log_softmax(scores, 1)
    between = float(np.sort(kl)[3:5].mean())
    assert (kl > between).any() and (kl < between).any()
    # All above, all below, and both in one batch: the maximum is each example's own.
    for floor, smoothing in ((0.0, 0.0), (1e3, 0.0), (between, 0.0), (between, 0.1)):
        target = np.eye(CLASSES)[np.asarray(labels)] * (1 - smoothing) + smoothing / CLASSES
        wanted = (cross_entropy + np.maximum(kl, floor) + 3.0 * -(target * log_p).sum(1)).mean()
        got, parts = with_floor(params, floor, smoothing)
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
        np.testing.assert_allclose(parts["kl"], kl.mean(), rtol=1e-4)
    assert max(kl.mean(), between) < np.maximum(kl, between).mean() - 100 * 1e-5 * wanted
    assert float(parts["accuracy"]) == pytest.approx(
        np.mean(scores.argmax(1) == np.asarray(labels))
    )
    plain = dataclasses.replace(TINY, recognition=0.0, kl_floor=0.0)
    without, parts = jax.jit(lambda p: vae.loss(nnx.merge(graph, p), plain, images, labels, key))(
        params
    )
    np.testing.assert_allclose(without, (cross_entropy + kl).mean(), rtol=1e-5)
    assert set(parts) == {"reconstruction", "kl"}


def test_averaged_z_is_the_mean_over_warps_that_are_the_same_for_every_image(tiny):
    model = nnx.merge(*tiny)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8))
    # Compiled: one operation at a time takes several times as long.
    averaged = nnx.jit(vae.averaged_z, static_argnums=2)
    mean = nnx.jit(lambda model, form: model.encode(form)[0])
    warped = jax.jit(lambda image, key: augment.warp(image[None], key, vae.VIEW))
    got = averaged(model, images, 2)
    forms = [
        images / 255.0,
        *(jnp.concatenate([warped(image, key) for image in images]) for key in vae.view_keys(2)),
    ]
    np.testing.assert_allclose(got, np.mean([mean(model, form) for form in forms], 0), atol=1e-5)
    np.testing.assert_allclose(averaged(model, images[::-1], 2)[::-1], got, atol=1e-5)
    np.testing.assert_allclose(averaged(model, images, 0), mean(model, images / 255.0), atol=1e-6)


def test_only_classes_that_are_allowed_for_an_image_take_part_in_its_loss(tiny, images):
    graph, params = tiny
    labels, key, model = (
        np.array([0, 1, 2, 3, 4, 0, 1]),
        jax.random.key(5),
        nnx.merge(graph, params),
    )
    allowed = np.random.default_rng(0).random((7, CLASSES)) < 0.5
    allowed[np.arange(7), labels] = True
    config = dataclasses.replace(TINY, label_smoothing=0.1)
    _, parts = vae.loss(model, config, images, jnp.asarray(labels), key, jnp.asarray(allowed))
    scores = np.asarray(model.classifier(vae.sample_z(*model.encode(images), key)), np.float64)
    wanted, right = [], []
    for row, mask, label in zip(scores, allowed, labels):
        log_p = special.log_softmax(row[mask])
        place = mask[:label].sum()
        wanted.append(-0.9 * log_p[place] - 0.1 * log_p.mean())
        right.append(log_p.argmax() == place)
    assert float(parts["recognition"]) == pytest.approx(np.mean(wanted), rel=1e-4)
    assert float(parts["accuracy"]) == pytest.approx(np.mean(right))
    everywhere = vae.loss(model, config, images, jnp.asarray(labels), key)[1]["recognition"]
    assert abs(float(everywhere) - np.mean(wanted)) > 0.05


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_among_the_classes_that_take_part(smoothing):
    random = np.random.default_rng(0)
    scores, labels = random.normal(0, 3, (4, 6)).astype(np.float32), np.array([1, 0, 5, 1])
    allowed = random.random((4, 6)) < 0.6
    allowed[np.arange(4), labels] = True
    value, gradient = jax.value_and_grad(
        lambda s: losses.cross_entropy(jnp.where(allowed, s, -jnp.inf), labels, smoothing).sum()
    )(jnp.asarray(scores))
    wanted = 0.0
    for row, label, mask in zip(scores, labels, allowed):
        log_p = special.log_softmax(row[mask].astype(float))
        target = np.full(mask.sum(), smoothing / mask.sum())
        target[mask[:label].sum()] += 1 - smoothing
        wanted -= (target * log_p).sum()
    assert float(value) == pytest.approx(wanted, rel=1e-5)
    assert (
        np.isfinite(gradient).all()
        and (np.asarray(gradient)[~allowed] == 0).all()
        and (np.asarray(gradient) != 0).any()
    )


def test_decode_mean_takes_the_posteriors_mean(tiny, images):
    graph, params = tiny
    model = lambda p: nnx.merge(graph, p)
    got, posterior, decoded = jax.jit(
        lambda p: (
            vae.decode_mean(model(p), images),
            model(p).encode(images),
            model(p).decode(model(p).encode(images)[0]),
        )
    )(params)
    logits, (mean, log_variance) = got
    np.testing.assert_allclose(mean, posterior[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_variance, posterior[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, decoded, rtol=1e-4, atol=1e-4)
    assert logits.shape == (7, 64, 64) and mean.shape == log_variance.shape == (7, 6)


def test_paper_network_has_the_published_layers_and_nothing_else():
    model = nnx.eval_shape(lambda: vae.VAE(vae.VAEConfig.paper(), 3000, nnx.Rngs(0)))
    state = nnx.state(model)
    shapes = {".".join(map(str, path)): value.shape for path, value in nnx.to_flat_state(state)}
    wanted = {}
    for layer, (a, b) in enumerate([(1, 32), (32, 64), (64, 128), (128, 256)]):
        wanted |= {
            f"encoder.convs.{layer}.kernel": (4, 4, a, b),
            f"encoder.convs.{layer}.bias": (b,),
        }
    for layer, (k, a, b) in enumerate([(5, 1024, 128), (5, 128, 64), (6, 64, 32), (6, 32, 1)]):
        wanted |= {
            f"decoder.convs.{layer}.kernel": (k, k, a, b),
            f"decoder.convs.{layer}.bias": (b,),
        }
    for name, shape in (
        ("mean", (1024, 64)),
        ("log_variance", (1024, 64)),
        ("decoder.dense", (64, 1024)),
    ):
        wanted |= {f"{name}.kernel": shape, f"{name}.bias": shape[1:]}
    assert shapes == wanted
    # World Models (appendix A.1) counts 4,348,547 for 3 colours and 32 latents.
    colours = 2 * 4 * 4 * 32 + 2 * 6 * 6 * 32 + 2
    latents = 32 * (2 * 1025 + 1024)
    assert sum(np.prod(s) for s in shapes.values()) == 4_348_547 - colours + latents
    image = jax.ShapeDtypeStruct((2, 64, 64), jnp.float32)
    graph, _ = nnx.split(model)
    outputs = jax.eval_shape(
        lambda s, x: ((m := nnx.merge(graph, s)).decode(m.encode(x)[0]), *m.encode(x)), state, image
    )
    assert [o.shape for o in outputs] == [(2, 64, 64), (2, 64), (2, 64)]
    features = jax.eval_shape(lambda s, x: nnx.merge(graph, s).encoder(x), state, image)
    assert features.shape == (2, 1024)  # 64 -> 31 -> 14 -> 6 -> 2 without padding, 256 channels


def test_paper_decoders_dense_layer_is_linear_and_its_convolutions_rectified():
    graph, state = nnx.split(nnx.eval_shape(lambda: paper_vae.PaperDecoder(2, nnx.Rngs(0))))
    run = jax.jit(lambda params: nnx.merge(graph, params)(jnp.zeros((1, 2))))

    def decoded(kernels, last_bias):
        params = jax.tree.map(lambda p: jnp.zeros(p.shape), nnx.to_pure_dict(state))
        params["dense"]["bias"] -= 1.0
        params["convs"][3]["bias"] += last_bias
        for layer, value in enumerate(kernels):
            params["convs"][layer]["kernel"] += value
        return np.asarray(run(params))

    assert decoded((-1e-3, 1e-2, 1e-2, 1e-2), 0.0).min() > 0  # a rectified -1 would leave nothing
    for rectified in range(
        3
    ):  # a negative layer stops everything, but for the last, which gives logits of either sign
        kernels = [-1e-3 if layer == 0 else 1e-2 for layer in range(4)]
        kernels[rectified] *= -1
        assert np.unique(decoded(kernels, -3.0)).tolist() == [-3]


def test_presets_follow_the_papers_program_where_they_say_so():
    for domain in ("old", "new"):
        paper = vae.VAEConfig.paper(domain)
        assert (paper.latent, paper.kl_floor, paper.steps, paper.batch, paper.learning_rate) == (
            64,
            32.0,
            20_000,
            50,
            1e-3,
        )
        assert (paper.recognition, paper.balance, paper.augment, paper.warmup, paper.ema) == (
            0.0,
            1.0,
            "paper",
            -1,
            0.0,
        )
        for preset in (vae.VAEConfig.small, vae.VAEConfig.base, vae.VAEConfig.tiny):
            config = preset(domain)
            model = nnx.eval_shape(lambda: vae.VAE(config, CLASSES, nnx.Rngs(0)))
            out = jax.eval_shape(
                lambda m, x: m.decode(m.encode(x)[0]),
                model,
                jax.ShapeDtypeStruct((1, 64, 64), jnp.float32),
            )
            assert out.shape == (1, 64, 64)


@pytest.fixture(scope="module")
def value_and_grad(tiny):
    graph, _ = tiny
    labels = jnp.arange(3)
    return jax.jit(
        jax.value_and_grad(
            lambda p, x: vae.loss(nnx.merge(graph, p), TINY, x, labels, jax.random.key(0))[0]
        )
    )


def test_extreme_images_and_weights_stay_finite(tiny, value_and_grad):
    images = np.zeros((3, 64, 64), np.float32)
    images[1] = 1
    images[2, 63, 0] = 1
    huge = jax.tree.map(lambda p: p, tiny[1])
    huge["log_variance"] = {
        "kernel": huge["log_variance"]["kernel"],
        "bias": jnp.array([1e4, -1e4] * 3),
    }
    for params in (tiny[1], huge):
        value, grads = value_and_grad(params, images)
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_every_parameter_learns(tiny, value_and_grad, images):
    _, grads = value_and_grad(tiny[1], images[3:6])
    still = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(g).max() > 0
    ]
    assert not still


def test_gradients_are_finite_differences(tiny, images):
    graph, params = tiny
    random = np.random.default_rng(3)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), jnp.float64), params)
        x, labels, key = (
            jnp.asarray(np.asarray(images[2:4]), jnp.float64),
            jnp.array([1, 4]),
            jax.random.key(0),
        )
        value = jax.jit(
            jax.value_and_grad(lambda p: vae.loss(nnx.merge(graph, p), TINY, x, labels, key)[0])
        )
        _, grads = value(params)
        for _ in range(3):
            direction = jax.tree.map(lambda p: random.standard_normal(p.shape), params)
            at = lambda step: float(
                value(jax.tree.map(lambda p, d: np.asarray(p) + step * d, params, direction))[0]
            )
            slope = (at(1e-6) - at(-1e-6)) / 2e-6
            along = sum(
                float((np.asarray(g) * d).sum())
                for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction))
            )
            np.testing.assert_allclose(slope, along, rtol=1e-5)


# Standardised features ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_finalized_weights_say_what_the_batch_statistics_said(tiny, images, norm):
    model = nnx.merge(*tiny) if norm == "layer" else batch_normalised()
    by_batch = model.encode(images, "batch")
    plain = model.encode(images)
    model = vae.finalize(model, images)
    finalized = model.encode(images)
    for got, wanted, other in zip(finalized, by_batch, plain):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)
        assert np.abs(np.asarray(wanted) - np.asarray(other)).max() > 0.1
    # What was measured is kept: an image alone gives what it gave among the others.
    for got, wanted in zip(model.encode(images[2:3]), by_batch):
        np.testing.assert_allclose(got, wanted[2:3], rtol=1e-4, atol=1e-3)


def batch_normalised() -> vae.VAE:
    """The form that is shipped: batch normalisation in the encoder. Kernels are random, scales and
    biases away from 1 and 0."""
    config = dataclasses.replace(TINY, norm="batch")
    model = nnx.jit(lambda: vae.VAE(config, CLASSES, nnx.Rngs(0)))()
    random = np.random.default_rng(0)

    def filled(path, value):
        # Statistics stay what they are before any is measured: mean 0 and variance 1.
        if path[-1] in ("mean", "variance"):
            return value
        drawn = random.standard_normal(value.shape) / np.sqrt(max(1, np.prod(value.shape[:-1])))
        return jnp.asarray(drawn + (path[-1] == "scale"), jnp.float32)

    graph, *state = nnx.split(model)
    state = [nnx.to_pure_dict(part) for part in state]
    flat = [
        {path: filled(path, value) for path, value in nnx.traversals.flatten_mapping(part).items()}
        for part in state
    ]
    return nnx.merge(graph, *(nnx.traversals.unflatten_mapping(part) for part in flat))


def test_batch_normalisation_in_the_encoder_is_its_formula(images):
    """Each channel over batch and page, by hand through the first layers; with kept statistics the
    kept numbers instead."""
    encoder = batch_normalised().encoder
    x = np.asarray(
        encoder.stem(convolution.space_to_depth(images[..., None], encoder.patch)), np.float64
    )
    for statistics, mean, variance in (
        ("batch", x.mean((0, 1, 2)), x.var((0, 1, 2))),
        ("kept", 0.0, 1.0),
    ):
        wanted = (x - mean) / np.sqrt(variance + 1e-5) * np.asarray(
            encoder.enter[0].scale[...]
        ) + np.asarray(encoder.enter[0].bias[...])
        np.testing.assert_allclose(
            encoder.enter[0](jnp.asarray(x, jnp.float32), statistics), wanted, rtol=1e-3, atol=1e-4
        )


def test_standardised_features_have_mean_0_and_variance_1_before_the_relu(tiny, images):
    graph, params = tiny
    encoder = nnx.merge(graph, params).encoder
    raw = np.asarray(encoder.dense(encoder.trunk(images)), np.float64)
    wanted = np.maximum((raw - raw.mean(0)) / np.sqrt(raw.var(0) + 1e-5), 0)
    np.testing.assert_allclose(encoder(images, "batch"), wanted, rtol=1e-3, atol=1e-4)


def test_every_third_image_is_an_estimate_of_the_reconstruction(tiny, images):
    graph, params = tiny
    model, key = nnx.merge(graph, params), jax.random.key(2)
    value, z, parts = vae.elbo(model, dataclasses.replace(TINY, decode_every=3), images, key)
    whole, z_whole, parts_whole = vae.elbo(model, TINY, images, key)
    np.testing.assert_array_equal(z, z_whole)
    each = vae.reconstruction_loss(model.decode(z), images)
    assert float(parts["reconstruction"]) == pytest.approx(
        float(each[np.array([0, 3, 6])].mean()), rel=1e-5
    )
    assert float(value - whole) == pytest.approx(
        float(parts["reconstruction"] - parts_whole["reconstruction"]), rel=1e-3, abs=1e-2
    )
