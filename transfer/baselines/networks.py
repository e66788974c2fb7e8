"""The paper's classifiers: images (B, H, W) float32 in [0, 1], ink 1, become logits (B, classes).

- ``logistic``: multinomial logistic regression on the pixels; ``mlp``: one hidden layer of
  rectified units.
- ``cnn``: Keras' example for MNIST (two 3x3 convolutions, max-pooling, dropout, a dense layer).
- ``preact_resnet18``, ``-34``: pre-activation residual networks (He et al. 2016, arXiv 1603.05027)
  in the form that the programs of mixup and manifold mixup train on CIFAR: a 3x3 stem without
  pooling, four stages of 1, 2, 4 and 8 times `width` channels, the mean over the map.

A network is called as ``model(images, train, key, mix)``. `mix` mixes the activations at one depth
with another image's: depth 0 is the input, 1 and 2 follow the first and second stage. In training,
batch normalisation uses the batch and leaves the batch's statistics in the model's `nnx.BatchStat`;
otherwise it uses the statistics stored there.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.convolution import halved

BLOCKS = {"preact_resnet18": (2, 2, 2, 2), "preact_resnet34": (3, 4, 6, 3)}
TORCH_INIT = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for convolutions and linear layers."""


class Mix(NamedTuple):
    """Which depth to mix, () int32; an image's own share, () float32; and every image's partner,
    (B,) int32."""

    depth: jax.Array
    share: jax.Array
    partner: jax.Array


def mixed(x: jax.Array, mix: Mix | None, depth: int) -> jax.Array:
    """`share` of x (B, ...) plus the rest of its partners, if `mix` is for this depth; otherwise
    x."""
    if mix is None:
        return x
    share = jnp.where(mix.depth == depth, mix.share, 1.0)
    return share * x + (1.0 - share) * x[mix.partner]


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Set each number to zero with probability `rate`, else scale it up to keep the mean. Without a
    key this returns x itself."""
    if key is None or not rate:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)


class MLP(nnx.Module):
    """Pixels, `hidden` rectified units if there are any, logits."""

    def __init__(self, pixels: int, hidden: int, classes: int, rngs: nnx.Rngs):
        self.dense = nnx.Linear(pixels, hidden, rngs=rngs) if hidden else None
        kernel = (
            nnx.initializers.lecun_normal() if hidden else nnx.initializers.zeros
        )  # a convex problem needs no luck
        self.out = nnx.Linear(hidden or pixels, classes, kernel_init=kernel, rngs=rngs)

    def features(self, images, train=False, key=None, mix=None):
        x = mixed(images.reshape(len(images), -1), mix, 0)
        return x if self.dense is None else mixed(nnx.relu(self.dense(x)), mix, 1)

    def __call__(self, images, train=False, key=None, mix=None):
        return self.out(self.features(images, train, key, mix))


class CNN(nnx.Module):
    """Keras' mnist_cnn.py; `width` 32 gives its 32 and 64 channels and 128 units."""

    def __init__(
        self, size: int, width: int, classes: int, rates: tuple[float, float], rngs: nnx.Rngs
    ):
        init = {"kernel_init": nnx.initializers.glorot_uniform(), "rngs": rngs}
        self.rates = rates
        self.first = nnx.Conv(1, width, (3, 3), padding="VALID", **init)
        self.second = nnx.Conv(width, 2 * width, (3, 3), padding="VALID", **init)
        self.dense = nnx.Linear(((size - 4) // 2) ** 2 * 2 * width, 4 * width, **init)
        self.out = nnx.Linear(4 * width, classes, **init)

    def features(self, images, train=False, key=None, mix=None):
        keys = jax.random.split(key) if train else (None, None)
        x = nnx.relu(self.second(nnx.relu(self.first(mixed(images, mix, 0)[..., None]))))
        b, h, w, c = x.shape
        # Windows do not overlap: a reshape is all of pooling.
        x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
        x = mixed(dropout(x, self.rates[0], keys[0]), mix, 1).reshape(b, -1)
        return mixed(dropout(nnx.relu(self.dense(x)), self.rates[1], keys[1]), mix, 2)

    def __call__(self, images, train=False, key=None, mix=None):
        return self.out(self.features(images, train, key, mix))


class PreActBlock(nnx.Module):
    """(B, H, W, before) -> (B, H / stride, W / stride, channels): norm, ReLU, 3x3, norm, ReLU, 3x3,
    plus the input or a 1x1 of it."""

    def __init__(self, before: int, channels: int, stride: int, rngs: nnx.Rngs):
        conv = lambda a, size: nnx.Conv(
            a, channels, (size, size), use_bias=False, kernel_init=TORCH_INIT, rngs=rngs
        )
        # Momentum 0: what a step leaves in the statistics is the batch's own.
        norm = lambda width: nnx.BatchNorm(width, momentum=0.0, rngs=rngs)
        self.stride = stride
        self.norms = nnx.List([norm(before), norm(channels)])
        self.convs = nnx.List([conv(before, 3), conv(channels, 3)])
        self.shortcut = conv(before, 1) if stride > 1 or before != channels else None

    def __call__(self, x, train):
        y = nnx.relu(self.norms[0](x, use_running_average=not train))
        if self.shortcut is not None:
            x = self.shortcut(y[:, :: self.stride, :: self.stride])
        y = halved(y, self.convs[0].kernel[...]) if self.stride == 2 else self.convs[0](y)
        return x + self.convs[1](nnx.relu(self.norms[1](y, use_running_average=not train)))


class PreActResNet(nnx.Module):
    def __init__(
        self, blocks: tuple[int, ...], width: int, stride: int, classes: int, rngs: nnx.Rngs
    ):
        """stride: of the stem; 1 for images of about 32x32 pixels, 2 for 64x64."""
        self.stride = stride
        self.stem = nnx.Conv(1, width, (3, 3), use_bias=False, kernel_init=TORCH_INIT, rngs=rngs)
        widths = [width] + [width * 2**stage for stage in range(len(blocks))]
        self.stages = nnx.List(
            [
                nnx.List(
                    [
                        PreActBlock(
                            before if first == 0 else after,
                            after,
                            2 if stage and first == 0 else 1,
                            rngs,
                        )
                        for first in range(count)
                    ]
                )
                for stage, (before, after, count) in enumerate(zip(widths, widths[1:], blocks))
            ]
        )
        self.out = nnx.Linear(widths[-1], classes, kernel_init=TORCH_INIT, rngs=rngs)

    def features(self, images, train=False, key=None, mix=None):
        x = mixed(images, mix, 0)[..., None]
        x = halved(x, self.stem.kernel[...]) if self.stride == 2 else self.stem(x)
        for depth, blocks in enumerate(self.stages, 1):
            for block in blocks:
                x = block(x, train)
            x = mixed(x, mix if depth < 3 else None, depth)
        return x.mean((1, 2))

    def __call__(self, images, train=False, key=None, mix=None):
        return self.out(self.features(images, train, key, mix))


def build(config, size: int, classes: int, rngs: nnx.Rngs) -> nnx.Module:
    """The network that a `BaselineConfig` names, for images of size x size pixels."""
    if config.model in BLOCKS:
        return PreActResNet(BLOCKS[config.model], config.width, config.stem_stride, classes, rngs)
    if config.model == "cnn":
        return CNN(size, config.width, classes, config.dropout, rngs)
    return MLP(size * size, config.width if config.model == "mlp" else 0, classes, rngs)


def flop(config, size: int, classes: int) -> int:
    """Floating-point operations of one image's forward pass, by the layers' matrix products (a
    multiplication and an addition are two)."""
    if config.model == "logistic":
        return 2 * size * size * classes
    if config.model == "mlp":
        return 2 * config.width * (size * size + classes)
    if config.model == "cnn":
        w, a, b = config.width, size - 2, size - 4
        return 2 * (
            a * a * 9 * w + b * b * 9 * w * 2 * w + (b // 2) ** 2 * 2 * w * 4 * w + 4 * w * classes
        )
    side, total, before = -(-size // config.stem_stride), 0, config.width
    total += side * side * 9 * before
    for stage, count in enumerate(BLOCKS[config.model]):
        after = config.width * 2**stage
        side = -(-side // 2) if stage else side
        total += (
            side
            * side
            * (
                9 * before * after
                + (before * after if stage else 0)
                + (2 * count - 1) * 9 * after * after
            )
        )
        before = after
    return 2 * (total + before * classes)
