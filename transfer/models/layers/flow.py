"""A conditional normalising flow over latents with a mixture as its base: affine couplings (Dinh et
al. 2017, arXiv 1605.08803) bend the mixture of a mixture density network.

The mixture of Gaussians over the base says which modes there are; the couplings give them their
shape. Without a coupling it is the joint mixture. Flow matching would be slower here: Bayes' rule
needs the exact density of one latent under each of thousands of conditions. As both directions of a
coupling take one pass, that costs thousands of passes, rather than thousands times steps times
dimensions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

REACH = 2.0
"""Largest logarithm of the factor by which one coupling stretches a dimension."""


def halves(layer: int, latent: int) -> tuple[np.ndarray, np.ndarray]:
    """The dimensions that a coupling keeps, and those that it moves.

    The second of two couplings in a row keeps what the first moves. Each pair halves the dimensions
    in a different way.
    """
    order = np.random.default_rng(layer // 2).permutation(latent)
    first, second = order[: latent // 2], order[latent // 2 :]
    return (first, second) if layer % 2 == 0 else (second, first)


class Coupling(nnx.Module):
    """Some dimensions stretch and shift the others: both ways in one pass.

    It begins as the identity. number: its place among the couplings.
    """

    def __init__(self, number: int, latent: int, context: int, width: int, rngs: nnx.Rngs):
        self.number, self.latent = number, latent
        kept, moved = (len(half) for half in halves(number, latent))
        self.inputs = nnx.Linear(kept, width, rngs=rngs)
        self.condition = nnx.Linear(context, width, use_bias=False, rngs=rngs)
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        zeros = nnx.initializers.zeros_init()
        self.out = nnx.Linear(width, 2 * moved, kernel_init=zeros, rngs=rngs)

    def stretch_and_shift(self, kept: jax.Array, condition: jax.Array):
        """Log scales and shifts of the moved dimensions, (…, moved) each.

        condition: (…, width), the result of `condition` for the context.
        """
        x = nnx.gelu(self.inputs(kept) + condition)
        x = nnx.gelu(self.hidden(x)) + x
        stretch, shift = jnp.split(self.out(x), 2, axis=-1)
        return REACH * jnp.tanh(stretch / REACH), shift

    def to_base(self, x: jax.Array, condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (…, D) one coupling nearer to the base, and the log determinant of the step, (…)."""
        kept, moved = halves(self.number, self.latent)
        stretch, shift = self.stretch_and_shift(x[..., kept], condition)
        return x.at[..., moved].set((x[..., moved] - shift) * jnp.exp(-stretch)), -stretch.sum(-1)

    def from_base(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """The inverse of `to_base`."""
        kept, moved = halves(self.number, self.latent)
        stretch, shift = self.stretch_and_shift(x[..., kept], condition)
        return x.at[..., moved].set(x[..., moved] * jnp.exp(stretch) + shift)


class Couplings(nnx.Module):
    """Couplings in a row, between data and base."""

    def __init__(self, number: int, latent: int, context: int, width: int, rngs: nnx.Rngs):
        self.layers = nnx.List([Coupling(n, latent, context, width, rngs) for n in range(number)])

    def conditions(self, context: jax.Array) -> list[jax.Array]:
        """What each coupling takes from the context (B, C), (B, width) each."""
        return [layer.condition(context) for layer in self.layers]

    def to_base(self, x: jax.Array, conditions: list) -> tuple[jax.Array, jax.Array]:
        """The base's point for x (…, D), and the log determinant of the path to it, (…)."""
        x = jnp.asarray(x)
        total = jnp.zeros(x.shape[:-1])
        for layer, condition in zip(self.layers, conditions):
            x, log_determinant = layer.to_base(x, condition)
            total += log_determinant
        return x, total

    def from_base(self, u: jax.Array, conditions: list) -> jax.Array:
        """The inverse of `to_base`: the data for the base's points (…, D)."""
        for layer, condition in list(zip(self.layers, conditions))[::-1]:
            u = layer.from_base(u, condition)
        return u
