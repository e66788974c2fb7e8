"""The PyTorch twins compute our losses and gradients: what the benchmark compares is the same work."""
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transfer import classifier, mdn, sketch_rnn, vae

torch = pytest.importorskip("torch", reason="the twins need PyTorch: pip install '.[benchmark]'")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import twins  # noqa: E402


def agree(twin, ours, params, theirs, same: str, of=lambda p: p):
    """Loss to 1e-4, and one gradient of theirs against ours."""
    value, grads = jax.value_and_grad(ours)(params)
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
    agree(twin, lambda p: vae.elbo(nnx.merge(graph, p), config, images, key)[0], params, lambda m: m.loss(batch, noise),
          "down.0.weight", lambda g: np.asarray(g["encoder"]["convs"][0]["kernel"]).transpose(3, 2, 0, 1))


def test_decoder():
    config = sketch_rnn.SketchRNNConfig(units=32, mixtures=3, glimpse=False, embed=0, head=0, noise=0.0)
    graph, state = nnx.split(sketch_rnn.SketchRNN(config, nnx.Rngs(0)))
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(0, 9, (5, 20, 2)), random.random((5, 20, 1)) < 0.2], -1).astype(np.float32)
    count, z = np.array([20, 3, 11, 20, 7], np.int32), random.normal(0, 1, (5, 64)).astype(np.float32)
    movement, _, _, target, valid = (torch.from_numpy(np.array(a)) for a in sketch_rnn.teacher(config, jnp.asarray(rows), count))
    twin = twins.Decoder(32, 3)
    agree(twin, lambda p: sketch_rnn.loss(nnx.merge(graph, p), jnp.asarray(rows), count, {"z": z}, jax.random.key(0))[0],
          nnx.to_pure_dict(state), lambda m: m.loss(movement, target, valid, torch.from_numpy(z)), "lstm.weight_hh_l0",
          lambda g: np.asarray(g["kernels"][0]).T)


def test_mdn():
    config = mdn.MDNConfig(density="factorised", hidden=32, layers=3, mixtures=5)
    graph, state = nnx.split(mdn.build(config, 10, nnx.Rngs(0)))
    z_old, z_new = np.random.default_rng(0).standard_normal((2, 30, 64), np.float32)
    agree(twins.MDN(32, 3, 5), lambda p: -mdn.log_prob(nnx.merge(graph, p), z_old, z_new, None).mean() / 64, nnx.to_pure_dict(state),
          lambda m: m.loss(torch.from_numpy(z_old), torch.from_numpy(z_new)), "layers.0.weight",
          lambda g: np.asarray(g["trunk"]["layers"][0]["kernel"]).T)


def test_classifier():
    config = classifier.ClassifierConfig.recogniser()
    graph, state = nnx.split(classifier.Classifier(config, 50, nnx.Rngs(0)))
    params = jax.tree.map(lambda p: p + 0.01 * jax.random.normal(jax.random.key(2), p.shape), nnx.to_pure_dict(state))
    images, labels = jax.random.uniform(jax.random.key(0), (6, 64, 64)), np.array([0, 4, 9, 49, 30, 4])
    agree(twins.Classifier(50), lambda p: classifier.loss(nnx.merge(graph, p), config, images, labels)[0], params,
          lambda m: m.loss(torch.from_numpy(np.array(images)), torch.from_numpy(labels)), "stem.weight",
          lambda g: np.asarray(g["encoder"]["stem"]["kernel"]).transpose(3, 2, 0, 1))
