"""Convolutions of stride 2 and their transposes, in the form that each backend runs fastest, with
the same results.

XLA's CPU backend is slow at strided and transposed convolutions and slower at their gradients, but
its matrix product is fast. So a convolution there is one matrix product, with copies before it that
gather what the product needs, or with sums after it. Both move more memory than they compute. There
are three forms, and `form` picks one by the layer's shape:

- "gather": all pixels under the kernel are gathered, and the product gives the output (im2col;
  `strided` only);
- "half": pixels are gathered along a row and summed from row to row, with a fraction of the copies;
- "sum": nothing is gathered, and the products of all taps are summed where they belong
  (`transposed` only).

Stride 2 is written as blocks: two pixels of a row are one position's channels, which costs nothing,
and a transposed convolution gives the four pixels of a block at once (sub-pixel form, Shi et al.
2016, arXiv 1609.05158). Elsewhere XLA's own convolutions are used.

Images are (B, H, W, C); kernels and biases are those of flax's `nnx.Conv` and `nnx.ConvTranspose`,
padding VALID.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from transfer.system.devices import on_cpu

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def form(channels: int, out: int, wasted: float) -> Literal["gather", "half", "sum"]:
    """The fastest form on CPU, forward and gradients, of a convolution from `channels` to `out`
    channels.

    wasted: how many products of "half" are useless for each useful one. Measured on the paper's VAE
    with batch 100 on two cores (`benchmarks/convolutions.py`).
    """
    if out < channels // 8:
        return (
            "sum"  # far less comes out than goes in: copies of the input would be the larger part
        )
    return (
        "gather" if channels < 8 or wasted > 0.25 else "half"
    )  # a channel or two are gathered in no time


def strided(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Convolution of stride 2: (B, H, W, C), kernel (K, K, C, O) with even K -> (B, (H - K) // 2 +
    1, (W - K) // 2 + 1, O)."""
    if not on_cpu():
        return (
            jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)
            + bias
        )
    size, _, channels, out = kernel.shape
    reach = size // 2
    rows, columns = ((n - size) // 2 + 1 for n in x.shape[1:3])
    x = x[
        :, : 2 * (rows + reach - 1), : 2 * (columns + reach - 1)
    ]  # what lies beyond no window reaches
    pairs = x.reshape(-1, rows + reach - 1, 2, columns + reach - 1, 2 * channels)
    # The rows above and below the output's are multiplied by a part of the kernel only.
    if form(channels, out, (reach - 1) / rows) == "gather":
        gathered = jnp.concatenate(
            [
                pairs[:, i // 2 : i // 2 + rows, i % 2, j : j + columns]
                for i in range(size)
                for j in range(reach)
            ],
            -1,
        )
        return (gathered.reshape(-1, size**2 * channels) @ kernel.reshape(-1, out)).reshape(
            -1, rows, columns, out
        ) + bias
    gathered = jnp.concatenate(
        [pairs[:, :, i, j : j + columns] for i in range(2) for j in range(reach)], -1
    )
    taps = kernel.reshape(reach, 2 * size * channels, out).transpose(
        1, 0, 2
    )  # two rows of the kernel, then which two
    products = gathered.reshape(-1, len(taps)) @ taps.reshape(len(taps), -1)
    products = products.reshape(-1, rows + reach - 1, columns, reach, out)
    return sum(products[:, i : i + rows, :, i] for i in range(reach)) + bias


def halved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of stride 2 with a border of one zero pixel, like PyTorch's padding=1: (B, H,
    W, C) -> (B, ceil(H/2), ceil(W/2), O)."""
    if not on_cpu():
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT
        )
    # As a 4x4 kernel whose last row and column are zero, which reaches a pixel further.
    border = [(1, 1 + n % 2) for n in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), *border, (0, 0)))
    return strided(
        padded,
        jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))),
        jnp.zeros(kernel.shape[-1], x.dtype),
    )


def transposed(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2: (B, H, W, C), kernel (K, K, C, O) -> (B, 2 H + K - 2, 2 W
    + K - 2, O)."""
    if not on_cpu():
        return jax.lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT) + bias
    size, _, channels, out = kernel.shape
    height, width = x.shape[1:3]
    turned = kernel[::-1, ::-1]
    if height == width == 1:
        # Each pixel of the output meets one tap only: a plain matrix product.
        return (
            x.reshape(-1, channels) @ turned.transpose(2, 0, 1, 3).reshape(channels, -1)
        ).reshape(-1, size, size, out) + bias
    # Pixel 2 m + phase of the output is the sum over i of x[m - i] times tap 2 i + phase, in both
    # directions.
    reach = (size + 1) // 2
    rows, columns, odd = height + reach - 1, width + reach - 1, (0, 2 * reach - size)
    taps = jnp.pad(turned, (odd, odd, (0, 0), (0, 0))).reshape(reach, 2, reach, 2, channels, out)
    below = lambda i: (i, reach - 1 - i)
    if form(channels, out, 0.0) == "sum":
        products = x.reshape(-1, channels) @ taps.transpose(4, 0, 2, 1, 3, 5).reshape(channels, -1)
        products = products.reshape(-1, height, width, reach, reach, 2, 2 * out)
        blocks = sum(
            jnp.pad(products[:, :, :, i, j], ((0, 0), below(i), below(j), (0, 0), (0, 0)))
            for i in range(reach)
            for j in range(reach)
        )
    else:
        padded = jnp.pad(x, ((0, 0), (0, 0), (reach - 1, reach - 1), (0, 0)))
        gathered = jnp.concatenate(
            [padded[:, :, reach - 1 - j : reach - 1 - j + columns] for j in range(reach)], -1
        )
        products = gathered.reshape(-1, reach * channels) @ taps.transpose(
            2, 4, 0, 1, 3, 5
        ).reshape(reach * channels, -1)
        products = products.reshape(-1, height, columns, reach, 2, 2 * out)
        blocks = sum(
            jnp.pad(products[:, :, :, i], ((0, 0), below(i), (0, 0), (0, 0), (0, 0)))
            for i in range(reach)
        )
    picture = blocks.transpose(0, 1, 3, 2, 4).reshape(-1, 2 * rows, 2 * columns, out)
    return picture[:, : 2 * height + size - 2, : 2 * width + size - 2] + bias


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """(B, H, W, C) -> (B, H/block, W/block, block*block*C): each block of pixels becomes one
    position's channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // block, w // block, block * block * c)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """The inverse of `space_to_depth`: (B, H, W, block*block*C) -> (B, H*block, W*block, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * block, w * block, c // block**2)
