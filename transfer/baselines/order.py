"""Every example once an epoch, in an order that is a function of (seed, position) and needs no
memory and no sorting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_ROUNDS = 8


def shuffled(position: jax.Array, count: int, seed: int) -> jax.Array:
    """Indices (B,) int32 in 0..count-1 of the examples at positions (B,) int32 of an endless row of
    shuffled epochs.

    A Feistel network permutes the least power of two that holds `count`; what falls beyond is
    permuted again until it does not (cycle walking, Black and Rogaway 2002). Each epoch has round
    keys of its own.
    """
    epoch, place = (position // count).astype(jnp.uint32), (position % count).astype(jnp.uint32)
    bits = max(2, (count - 1).bit_length())
    left, right = bits // 2, bits - bits // 2
    keys = np.random.default_rng(seed).integers(0, 2**32, _ROUNDS, np.uint32)

    def permute(x):
        a, b, width = x >> right, x & (2**right - 1), (left, right)
        for key in keys:
            a, b = b, a ^ (_scramble(b ^ _scramble(epoch + key)) & (2 ** width[0] - 1))
            width = width[::-1]
        return a << right | b

    walk = lambda x: jnp.where(x >= count, permute(x), x)
    return jax.lax.while_loop(lambda x: (x >= count).any(), walk, permute(place)).astype(jnp.int32)


def _scramble(x: jax.Array) -> jax.Array:
    """uint32 -> uint32, every bit of the one depends on every bit of the other (the finaliser of
    MurmurHash3)."""
    x = (x ^ x >> 16) * jnp.uint32(0x85EBCA6B)
    x = (x ^ x >> 13) * jnp.uint32(0xC2B2AE35)
    return x ^ x >> 16
