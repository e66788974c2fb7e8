"""One training step of the paper's classifiers is PyTorch's: loss, weights and running statistics,
with and without both mixups."""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from transfer.baselines import task
from transfer.baselines.networks import BLOCKS, Mix
from transfer.baselines.task import BaselineConfig

torch = pytest.importorskip("torch", reason="the twins need PyTorch: pip install '.[benchmark]'")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import twins_baselines as twins

BATCH, CLASSES = 12, 7


def problem(size):
    random = np.random.default_rng(0)
    return (
        random.random((BATCH, size, size), np.float32),
        random.integers(0, CLASSES, BATCH).astype(np.int32),
        random.permutation(BATCH),
    )


@functools.cache
def compiled(model, width, size, stem_stride, smoothing, objective="cross_entropy"):
    """The configuration, the network and one training step of it: whichever way a batch is mixed,
    it is compiled once."""
    config = dataclasses.replace(
        BaselineConfig.published(model),
        width=width,
        stem_stride=stem_stride,
        steps=100,
        label_smoothing=smoothing,
        objective=objective,
    )
    network, rule = task.Network(config, size, CLASSES), task.optimizer(config)

    @jax.jit
    def step(params, images, labels, key, mix):
        of = lambda p: task.loss(config, network, p, images, labels, key, mix)
        (value, _), grads = jax.value_and_grad(of, has_aux=True)(params)
        updates, _ = rule.update(grads, rule.init(params), params)
        return optax.apply_updates(params, updates), value

    return config, network, step


def both(mix, partner):
    """A mix for ours and for theirs."""
    if mix is None:
        return None, None
    return Mix(jnp.int32(mix[0]), jnp.float32(mix[1]), jnp.asarray(partner)), (
        *mix,
        torch.from_numpy(partner),
    )


def same(ours, theirs, before, name=""):
    """To 1e-4, and the step itself to 1e-3 of its largest component."""
    ours, theirs, before = (np.asarray(a) for a in (ours, theirs, before))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=name)
    moved = np.abs(theirs - before).max()
    np.testing.assert_allclose(
        ours - before, theirs - before, rtol=0, atol=1e-3 * moved + 1e-6, err_msg=name
    )


# The residual network without mixing has 33x33 pixels and a stem of stride 2, so that odd sides are
# met too. All of its blocks are compiled once, which takes most of this file's time; with one block
# a stage the rest, mixing among it, is the same.
WHOLE, SHORT = BLOCKS["preact_resnet18"], (1, 1, 1, 1)


@pytest.mark.parametrize(
    "blocks, size, stride, mix, objective",
    [
        (SHORT, 33, 2, None, "cross_entropy"),
        pytest.param(WHOLE, 28, 1, (0, 0.7), "cross_entropy", marks=pytest.mark.long),
        (SHORT, 28, 1, (0, 0.7), "binary"),
        (SHORT, 28, 1, (1, 0.3), "binary"),
        (SHORT, 28, 1, (2, 0.55), "binary"),
    ],
)
def test_preact_resnet18(blocks, size, stride, mix, objective, monkeypatch):
    monkeypatch.setitem(BLOCKS, "preact_resnet18", blocks)
    images, labels, partner = problem(size)
    config, network, step = compiled("preact_resnet18", 8, size, stride, 0.1, objective)
    params = jax.jit(network.init)(jax.random.key(1))
    ours, theirs = both(mix, partner)
    after, value = step(params, images, labels, jax.random.key(2), ours)

    twin = twins.PreActResNet(blocks, 8, stride, CLASSES)
    twin.from_flax(params["weights"])
    rule = torch.optim.SGD(
        twin.parameters(),
        config.learning_rate,
        config.momentum,
        weight_decay=config.weight_decay,
        nesterov=True,
    )
    measure = twins.mixed_binary if objective == "binary" else twins.mixed_cross_entropy
    loss = measure(
        twin(torch.from_numpy(images), mix=theirs), torch.from_numpy(labels).long(), theirs, 0.1
    )
    loss.backward()
    rule.step()
    np.testing.assert_allclose(float(value), loss.item(), rtol=1e-4)
    expected, before = (twins.PreActResNet(blocks, 8, stride, CLASSES) for _ in range(2))
    expected.from_flax(after["weights"])
    before.from_flax(params["weights"])
    for (name, a), (_, b), (_, c) in zip(
        expected.named_parameters(), twin.named_parameters(), before.named_parameters()
    ):
        same(a.detach(), b.detach(), c.detach(), name)
    for i, stage in enumerate(twin.stages):
        for j, block in enumerate(stage):
            for k, norm in enumerate(block.norms):
                running = after["statistics"]["stages"][i][j]["norms"][k]
                same(running["mean"], norm.running_mean, np.zeros(norm.num_features))
                # PyTorch's variance of the batch is divided by n - 1, Flax's by n.
                side = norm_side(size, stride, i, j, k)
                n = BATCH * side * side
                same(
                    (np.asarray(running["var"]) - 0.9) * n / (n - 1) + 0.9,
                    norm.running_var,
                    np.ones(norm.num_features),
                )


def norm_side(size, stride, stage, block, norm):
    """Side of the map that a norm sees: the first norm of a stage sees the map of the stage
    before."""
    side = -(-size // stride)
    for _ in range(stage - (stage > 0 and block == 0 and norm == 0)):
        side = -(-side // 2)
    return side


@pytest.mark.parametrize("mix", [None, (0, 0.7), (1, 0.3), (2, 0.55)])
def test_cnn(mix):
    images, labels, partner = problem(28)
    config, network, step = compiled("cnn", 32, 28, 1, 0.0)
    params, key = jax.jit(network.init)(jax.random.key(3)), jax.random.key(4)
    ours, theirs = both(mix, partner)
    after, value = step(params, images, labels, key, ours)

    twin = twins.KerasCNN(CLASSES)
    twin.from_flax(params["weights"])
    masks = [
        torch.from_numpy(np.array(jax.random.bernoulli(k, 1 - rate, (BATCH, *shape)) / (1 - rate)))
        for k, rate, shape in zip(jax.random.split(key), config.dropout, ((12, 12, 64), (128,)))
    ]
    rule = torch.optim.Adadelta(twin.parameters(), 1.0, 0.95, 1e-7)
    loss = twins.mixed_cross_entropy(
        twin(torch.from_numpy(images), masks, theirs), torch.from_numpy(labels).long(), theirs
    )
    loss.backward()
    rule.step()
    np.testing.assert_allclose(float(value), loss.item(), rtol=1e-4)
    expected = twins.KerasCNN(CLASSES)
    expected.from_flax(after["weights"])
    for (name, a), (_, b) in zip(expected.named_parameters(), twin.named_parameters()):
        # Adadelta's first step is nearly the gradient's sign: where that is about 0, rounding
        # decides, up to 0.0014.
        np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-4, atol=1e-4, err_msg=name)
