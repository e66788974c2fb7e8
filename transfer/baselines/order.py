"""Every example once an epoch, in an order that is a function of (seed, position) and needs neither
memory nor sorting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_ROUNDS = 8


def shuffled(position: jax.Array, count: int, seed: int) -> jax.Array:
    """Indices (B,) int32 in 0..count-1 of the examples at positions (B,) int32 in an endless series
    of shuffled epochs.

    A Feistel network permutes the numbers below the least power of two that is not less than
    `count`. A number beyond `count` is permuted again until it falls below (cycle walking, Black
    and Rogaway 2002). Each epoch has its own round keys.
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
    """uint32 -> uint32, where every bit of the result depends on every bit of the argument (the
    finaliser of MurmurHash3)."""
    x = (x ^ x >> 16) * jnp.uint32(0x85EBCA6B)
    x = (x ^ x >> 13) * jnp.uint32(0xC2B2AE35)
    return x ^ x >> 16
