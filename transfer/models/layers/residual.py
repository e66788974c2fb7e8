"""Residual convolutional encoder and decoder of 64x64 images.

All presets but `paper` use this architecture for the VAEs, and so do the classifiers.
Space-to-depth steps replace strided convolutions, and every 3x3 convolution has stride 1: XLA runs
these near the speed of its matrix product on CPU and GPU alike. Residual blocks are those of He et
al. 2016 (arXiv 1603.05027), normalised by layer (arXiv 1607.06450) or by batch (arXiv 1502.03167).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.convolution import depth_to_space, space_to_depth

EPSILON = 1e-5
"""Added to variances before division."""


def check_levels(encoder: Sequence[int], encoder_blocks: Sequence[int]) -> None:
    """Raise ValueError if widths and blocks do not fit the levels of a `ResidualEncoder`."""
    if len(encoder) not in (3, 4) or len(encoder) != len(encoder_blocks):
        raise ValueError(
            f"--encoder {' '.join(map(str, encoder))[:80]}, --encoder-blocks "
            f"{' '.join(map(str, encoder_blocks))[:80]}: give 3 or 4 numbers, and as many of each"
        )


class Block(nnx.Module):
    """Residual block of two 3x3 convolutions with layer normalisation before them.

    It starts as the identity. `statistics` has no effect; it is there so that `BatchBlock` can take
    its place.
    """

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.first = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.second = nnx.Conv(
            channels, channels, (3, 3), kernel_init=nnx.initializers.zeros, rngs=rngs
        )

    def __call__(self, x: jax.Array, statistics: str = "kept") -> jax.Array:
        return x + self.second(nnx.relu(self.first(nnx.relu(self.norm(x)))))


class Statistic(nnx.Variable):
    """A variable that is measured rather than trained."""


class BatchNorm(nnx.Module):
    """Batch normalisation (arXiv 1502.03167).

    It keeps no running statistics in training. They are measured once afterwards, for the weights
    that are kept, which may be averaged ones.

    The argument `statistics` of a call says which mean and variance are used:

    - "kept": the measured ones.
    - "batch": the batch's own.
    - "measure": the batch's own, which are then kept.
    """

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.scale, self.bias = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
        self.mean, self.variance = Statistic(jnp.zeros(channels)), Statistic(jnp.ones(channels))

    def __call__(self, x: jax.Array, statistics: str = "kept") -> jax.Array:
        mean, variance = self.mean[...], self.variance[...]
        if statistics != "kept":
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
        if statistics == "measure":
            self.mean[...], self.variance[...] = mean, variance
        scale = self.scale[...] * jax.lax.rsqrt(variance + EPSILON)
        return x * scale + (self.bias[...] - mean * scale)


class BatchBlock(nnx.Module):
    """`Block` with batch normalisation before each convolution (`statistics`: see `BatchNorm`)."""

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.norms = nnx.List([BatchNorm(channels, rngs) for _ in range(2)])
        self.first = nnx.Conv(channels, channels, (3, 3), use_bias=False, rngs=rngs)
        self.second = nnx.Conv(
            channels,
            channels,
            (3, 3),
            use_bias=False,
            kernel_init=nnx.initializers.zeros,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, statistics: str = "kept") -> jax.Array:
        inner = self.first(nnx.relu(self.norms[0](x, statistics)))
        return x + self.second(nnx.relu(self.norms[1](inner, statistics)))


class ResidualEncoder(nnx.Module):
    """Images (B, 64, 64) float32 in [0, 1] become features (B, hidden).

    widths: channels of each level, three for 16x16, 8x8 and 4x4, or four that begin at 32x32.
    blocks: residual blocks of each level.
    hidden: width of the dense layer after the last level.
    norm: the normalisation, "layer" or "batch".
    rectified_stem: whether a ReLU follows the first convolution.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        hidden: int,
        rngs: nnx.Rngs,
        norm: Literal["layer", "batch"] = "layer",
        rectified_stem: bool = False,
    ):
        self.batch, self.rectified = norm == "batch", rectified_stem
        self.patch = 2 ** (5 - len(widths))
        # On 4x4 blocks of pixels a 3x3 convolution is a 12x12 one of stride 4, at a third of the
        # time.
        self.stem = nnx.Conv(self.patch**2, widths[0], (3, 3), rngs=rngs)
        self.down = nnx.List(
            [nnx.Linear(4 * before, width, rngs=rngs) for before, width in zip(widths, widths[1:])]
        )
        self.enter = (
            nnx.List([BatchNorm(width, rngs) for width in widths[:-1]]) if self.batch else None
        )
        block = BatchBlock if self.batch else Block
        self.blocks = nnx.List(
            [
                nnx.List([block(width, rngs) for _ in range(count)])
                for width, count in zip(widths, blocks)
            ]
        )
        self.norm = (
            BatchNorm(widths[-1], rngs) if self.batch else nnx.LayerNorm(widths[-1], rngs=rngs)
        )
        self.dense = nnx.Linear(16 * widths[-1], hidden, rngs=rngs)

    def trunk(self, images: jax.Array, statistics: str = "kept") -> jax.Array:
        """Features (B, 16 * the last width) of images (B, 64, 64), before the dense layer.

        statistics: see `BatchNorm`.
        """
        x = self.stem(space_to_depth(images[..., None], self.patch))
        x = nnx.relu(x) if self.rectified else x
        for level, blocks in enumerate(self.blocks):
            if level:
                x = nnx.relu(self.enter[level - 1](x, statistics)) if self.batch else x
                x = self.down[level - 1](space_to_depth(x, 2))
            for block in blocks:
                x = block(x, statistics)
        x = self.norm(x, statistics) if self.batch else self.norm(x)
        return nnx.relu(x).reshape(x.shape[0], -1)

    def __call__(self, images: jax.Array, statistics: str = "kept") -> jax.Array:
        """Features (B, hidden) of images (B, 64, 64).

        statistics: see `BatchNorm`. The batch's own also standardise the dense layer's output,
        because at first an encoder's features are all nearly the same vector.
        """
        x = self.dense(self.trunk(images, statistics))
        if statistics == "batch":
            x = (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + EPSILON)
        return nnx.relu(x)


class ResidualDecoder(nnx.Module):
    """Latents (B, latent) become logits of images (B, 64, 64).

    Every upsampling is a matrix product followed by depth-to-space.

    widths: channels at 4x4, 8x8 and 16x16.
    blocks: residual blocks of each level.
    """

    def __init__(self, latent: int, widths: Sequence[int], blocks: Sequence[int], rngs: nnx.Rngs):
        self.width = widths[0]
        self.dense = nnx.Linear(latent, 16 * widths[0], rngs=rngs)
        self.blocks = nnx.List(
            [
                nnx.List([Block(width, rngs) for _ in range(count)])
                for width, count in zip(widths, blocks)
            ]
        )
        self.up = nnx.List(
            [nnx.Linear(before, 4 * width, rngs=rngs) for before, width in zip(widths, widths[1:])]
        )
        self.norm = nnx.LayerNorm(widths[-1], rngs=rngs)
        # A 3x3 convolution into 4x4 pixels a position sees beyond the patch it paints: no visible
        # seams.
        self.pixels = nnx.Conv(widths[-1], 16, (3, 3), rngs=rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.dense(z).reshape(-1, 4, 4, self.width)
        for level, blocks in enumerate(self.blocks):
            if level:
                x = depth_to_space(self.up[level - 1](x), 2)
            for block in blocks:
                x = block(x)
        return depth_to_space(self.pixels(nnx.relu(self.norm(x))), 4)[..., 0]
