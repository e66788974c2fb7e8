"""Convolutions of stride 2 and their transposes, as each backend runs them fastest; the numbers are the same.

XLA's CPU backend is slow at strided and transposed convolutions and slower at their gradients. There, an image's 2x2 blocks first
become channels (stride 2 turns into stride 1), a transposed convolution becomes one of stride 1 whose channels are the four pixels of
a block (sub-pixel form, Shi et al. 2016, arXiv 1609.05158), and a convolution of stride 1 becomes one matrix product of its patches.
Elsewhere XLA's own convolutions are used.

Images are (B, H, W, C); kernels and biases are those of flax's `nnx.Conv` and `nnx.ConvTranspose`, padding VALID.
"""
from __future__ import annotations

import jax
import jax.numpy as jnp

from transfer.devices import on_cpu

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def strided(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Convolution of stride 2: (B, H, W, C), kernel (K, K, C, O) with even K -> (B, (H - K) // 2 + 1, (W - K) // 2 + 1, O)."""
    if not on_cpu():
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT) + bias
    size, _, channels, out = kernel.shape
    height, width = ((n - size) // 2 * 2 + size for n in x.shape[1:3])  # what lies beyond no window reaches
    blocks = kernel.reshape(size // 2, 2, size // 2, 2, channels, out).transpose(0, 2, 1, 3, 4, 5)
    return patches(space_to_depth(x[:, :height, :width], 2), blocks.reshape(size // 2, size // 2, 4 * channels, out)) + bias


def halved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of stride 2 with a border of one zero pixel, as PyTorch's padding=1: (B, H, W, C) -> (B, ceil(H/2), ceil(W/2), O)."""
    if not on_cpu():
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)
    # As a 4x4 kernel whose last row and column are zero, which reaches a pixel further.
    border = [(1, 1 + n % 2) for n in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), *border, (0, 0)))
    return strided(padded, jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))), jnp.zeros(kernel.shape[-1], x.dtype))


def transposed(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2: (B, H, W, C), kernel (K, K, C, O) -> (B, 2 H + K - 2, 2 W + K - 2, O)."""
    if not on_cpu():
        return jax.lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT) + bias
    size, _, channels, out = kernel.shape
    height, width = x.shape[1:3]
    if height == width == 1:
        # Each pixel of the output meets one tap only: a plain matrix product, the kernel turned by 180 degrees.
        turned = kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(channels, -1)
        return (x.reshape(-1, channels) @ turned).reshape(-1, size, size, out) + bias
    # Pixel 2 m + phase of the output is the sum over d of x[m + d] times tap 2 d + K - 1 - phase.
    reach = (size - 1) // 2
    taps = jnp.pad(kernel, ((2, 2), (2, 2), (0, 0), (0, 0)))
    phase = lambda p: slice(2 * -reach + size - 1 - p + 2, size - 1 - p + 3, 2)
    phases = jnp.stack([jnp.stack([taps[phase(py), phase(px)] for px in (0, 1)], 3) for py in (0, 1)], 3)  # (a, a, C, 2, 2, O)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    blocks = patches(padded, phases.reshape(reach + 1, reach + 1, channels, 4 * out))
    return depth_to_space(blocks, 2)[:, :2 * height + size - 2, :2 * width + size - 2] + bias


def patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 1, padding VALID, as one matrix product: (B, H, W, C), kernel (K, L, C, O) -> (B, H - K + 1, W - L + 1, O)."""
    rows, columns, channels, out = kernel.shape
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    gathered = jnp.concatenate([x[:, i:i + height, j:j + width] for i in range(rows) for j in range(columns)], -1)
    return (gathered.reshape(-1, rows * columns * channels) @ kernel.reshape(-1, out)).reshape(-1, height, width, out)


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """(B, H, W, C) -> (B, H/block, W/block, block*block*C): each block of pixels becomes one position's channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // block, w // block, block * block * c)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """The inverse of `space_to_depth`: (B, H, W, block*block*C) -> (B, H*block, W*block, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * block, w * block, c // block**2)
