"""The PyTorch twins compute our losses and gradients: what the benchmark compares is the same
work."""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transfer.models import (
    classifier,
    mdn,
    sketch_rnn,
    stroke_fitting,
    stroke_rnn,
    stroke_sampling,
    vae,
)

torch = pytest.importorskip("torch", reason="the twins need PyTorch: pip install '.[benchmark]'")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import twins
import twins_strokes

tensor = lambda a: torch.from_numpy(np.array(a))


def shaken(state):
    """Parameters away from their start, where many are 0."""
    leaves, tree = jax.tree.flatten(nnx.to_pure_dict(state))
    random = np.random.default_rng(3)
    return jax.tree.unflatten(
        tree, [leaf + 0.01 * random.standard_normal(leaf.shape, np.float32) for leaf in leaves]
    )


def agree(twin, ours, params, theirs, same: str, of=lambda p: p):
    """Loss to 1e-4, and one gradient of theirs against ours."""
    value, grads = jax.jit(jax.value_and_grad(ours))(params)
    twin.from_flax(params)
    loss = theirs(twin)
    loss.backward()
    np.testing.assert_allclose(float(loss.detach()), float(value), rtol=1e-4)
    got = dict(twin.named_parameters())[same].grad.numpy()
    wanted = np.asarray(of(grads))
    np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-4 * abs(wanted).max())


def test_paper_vae():
    config = vae.VAEConfig.paper()
    graph, state = nnx.split(vae.VAE(config, 1, nnx.Rngs(0)))
    images, key = jax.random.uniform(jax.random.key(0), (4, 64, 64)), jax.random.key(1)
    noise = torch.from_numpy(np.array(jax.random.normal(key, (4, 64))))
    twin, params = twins.PaperVAE(), nnx.to_pure_dict(state)
    batch = torch.from_numpy(np.array(images))
    agree(
        twin,
        lambda p: vae.elbo(nnx.merge(graph, p), config, images, key)[0],
        params,
        lambda m: m.loss(batch, noise),
        "down.0.weight",
        lambda g: np.asarray(g["encoder"]["convs"][0]["kernel"]).transpose(3, 2, 0, 1),
    )


def test_decoder():
    config = sketch_rnn.SketchRNNConfig(units=32, mixtures=3)
    graph, state = nnx.split(sketch_rnn.SketchRNN(config, nnx.Rngs(0)))
    random = np.random.default_rng(0)
    rows = np.concatenate(
        [random.normal(0, 9, (5, 20, 2)), random.random((5, 20, 1)) < 0.2], -1
    ).astype(np.float32)
    count, z = (
        np.array([20, 3, 11, 20, 7], np.int32),
        random.normal(0, 1, (5, 64)).astype(np.float32),
    )
    movement, target, valid = (
        torch.from_numpy(np.array(a)) for a in sketch_rnn.teacher(config, jnp.asarray(rows), count)
    )
    twin = twins_strokes.Decoder(32, 3)
    agree(
        twin,
        lambda p: sketch_rnn.loss(
            nnx.merge(graph, p), jnp.asarray(rows), count, {"z": z}, jax.random.key(0)
        )[0],
        nnx.to_pure_dict(state),
        lambda m: m.loss(movement, target, valid, torch.from_numpy(z)),
        "lstm.weight_hh_l0",
        lambda g: np.asarray(g["kernels"][0]).T,
    )


def test_mdn():
    config = mdn.MDNConfig(density="factorised", hidden=32, layers=3, mixtures=5, slope=0.2)
    graph, state = nnx.split(mdn.build(config, 10, nnx.Rngs(0)))
    z_old, z_new = np.random.default_rng(0).standard_normal((2, 30, 64), np.float32)
    agree(
        twins.MDN(32, 3, 5),
        lambda p: -mdn.log_prob(nnx.merge(graph, p), z_old, z_new, None).mean() / 64,
        nnx.to_pure_dict(state),
        lambda m: m.loss(torch.from_numpy(z_old), torch.from_numpy(z_new)),
        "layers.0.weight",
        lambda g: np.asarray(g["trunk"]["layers"][0]["kernel"]).T,
    )


def test_anchored_mdn():
    config = mdn.MDNConfig(hidden=32, layers=2, key=16, label_smoothing=0.1)
    graph, state = nnx.split(mdn.build(config, 40, nnx.Rngs(0)))
    random, key = np.random.default_rng(0), jax.random.key(1)
    z_old, means = (
        random.standard_normal((30, 64), np.float32),
        random.standard_normal((40, 64), np.float32),
    )
    seen, labels = np.arange(40) % 5 > 0, 1 + 5 * (np.arange(30) % 8)
    gallery = mdn.Gallery(jnp.asarray(means), jnp.zeros((40, 64)), jnp.asarray(seen))
    keep = jax.random.bernoulli(key, 1 - config.key_dropout, seen.shape)
    params, twin = shaken(state), twins.AnchoredMDN(config, 40)
    agree(
        twin,
        lambda p: mdn.loss(nnx.merge(graph, p), z_old, means[:30], labels, gallery, key)[0],
        params,
        lambda m: m.loss(
            tensor(z_old), tensor(labels), tensor(means), tensor(seen), tensor(keep).float()
        ),
        "query.layers.0.weight",
        lambda g: np.asarray(g["query"]["layers"][0]["kernel"]).T,
    )
    np.testing.assert_allclose(
        twin.logits(tensor(z_old), tensor(means)).detach(),
        nnx.merge(graph, params)(z_old, nnx.merge(graph, params).keys(means)),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("domain", ["old", "new"])
def test_small_vae(domain):
    """Batch and layer normalisation: loss and gradient in training, latents and pictures
    afterwards."""
    full = vae.VAEConfig.small(domain)
    config = dataclasses.replace(
        full, encoder=(4, 8, 8, 16)[-len(full.encoder) :], decoder=(16, 8, 8), hidden=24
    )
    graph, state = nnx.split(vae.VAE(config, 20, nnx.Rngs(0)))
    params, twin = shaken(state), twins.VAE(config, 20)
    images, labels, key = (
        jax.random.uniform(jax.random.key(0), (16, 64, 64)),
        np.arange(16),
        jax.random.key(1),
    )
    noise = tensor(jax.random.normal(key, (16, 64)))
    agree(
        twin,
        lambda p: vae.loss(nnx.merge(graph, p), config, images, labels, key)[0],
        params,
        lambda m: m.loss(tensor(images), tensor(labels), noise),
        "encoder.stem.weight",
        lambda g: np.asarray(g["encoder"]["stem"]["kernel"]).transpose(3, 2, 0, 1),
    )
    logits, posterior = jax.jit(lambda p: vae.decode_mean(nnx.merge(graph, p), images))(params)
    with torch.no_grad():
        theirs = twin.encode(tensor(images))
        for ours, got in zip((*posterior, logits), (*theirs, twin.decoder(theirs[0]))):
            np.testing.assert_allclose(got, ours, rtol=1e-3, atol=1e-3 * float(jnp.abs(ours).max()))


def test_stroke_rnn():
    config = stroke_rnn.StrokeRNNConfig(
        stroke_points=4,
        latent=6,
        units=12,
        embed=10,
        width=16,
        blocks=2,
        heads=2,
        channels=24,
        mixtures=3,
        plan_hidden=8,
        most=5,
        fit_steps=0,
    )
    graph, state = nnx.split(stroke_rnn.StrokeRNN(config, nnx.Rngs(0)))
    random = np.random.default_rng(0)
    strokes, count = (
        np.float32(random.uniform(5, 100, (4, 5, 4, 2))),
        np.array([5, 3, 1, 4], np.int32),
    )
    axes = stroke_rnn.Axes.of(strokes.reshape(-1, 4, 2))
    condition = {
        "z": np.float32(random.normal(size=(4, 6))),
        "picture": np.float32(random.random((4, 64, 64))),
    }
    z, picture = tensor(condition["z"]), tensor(condition["picture"])
    key = jax.random.key(1)
    shift_key, shape_key = jax.random.split(key)
    noise = config.noise * (
        jax.random.normal(shift_key, (4, 5, 1, 2))
        + 0.3 * jax.random.normal(shape_key, strokes.shape)
    )

    def ours(p):
        model = nnx.merge(graph, p)
        return (
            stroke_rnn.loss(model, axes, strokes, count, condition, key)[0]
            + stroke_rnn.plan_loss(model, condition["z"], count)[0]
        )

    params, twin = shaken(state), twins_strokes.StrokeRNN(config, axes)
    agree(
        twin,
        ours,
        params,
        lambda m: m.loss(
            tensor(strokes), tensor(count), z, picture, tensor(noise), z, tensor(count).long()
        ),
        "looks.0.pull.weight",
        lambda g: np.asarray(g["looks"][0]["pull"]["kernel"]).T,
    )
    # Nearly without temperature both write the means of the likeliest components.
    wanted, counts, _, _ = stroke_sampling.draw(
        graph, params, axes, condition, jax.random.split(key, 4), jnp.float32(1e-9)
    )
    drawings = twin.draw(z, picture, 1e-9)
    assert [len(d) for d in drawings] == counts.tolist()
    for got, strokes, n in zip(drawings, wanted, counts):
        np.testing.assert_allclose(got, strokes[:n], atol=0.05)
    # From the same strokes both fit alike.
    twin.config = dataclasses.replace(config, fit_steps=20)
    with torch.no_grad():
        fitted = twin.fit(tensor(wanted), tensor(counts), picture)
    ours = stroke_fitting.fit(axes, wanted, counts, condition["picture"], 20, config.fit_rate)
    assert float(abs(ours - wanted).max()) > 1
    np.testing.assert_allclose(fitted, ours, atol=0.05)


def test_classifier():
    config = classifier.ClassifierConfig.recogniser()
    graph, state = nnx.split(classifier.Classifier(config, 50, nnx.Rngs(0)))
    params = shaken(state)
    images, labels = (
        jax.random.uniform(jax.random.key(0), (6, 64, 64)),
        np.array([0, 4, 9, 49, 30, 4]),
    )
    agree(
        twins.Classifier(config, 50),
        lambda p: classifier.loss(nnx.merge(graph, p), config, images, labels)[0],
        params,
        lambda m: m.loss(torch.from_numpy(np.array(images)), torch.from_numpy(labels)),
        "encoder.stem.weight",
        lambda g: np.asarray(g["encoder"]["stem"]["kernel"]).transpose(3, 2, 0, 1),
    )
