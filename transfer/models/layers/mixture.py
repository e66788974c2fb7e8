"""The parts of densities of latents: dense layers, Gaussians and their mixtures."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

LOG_2PI = 1.8378770664093453
KERNELS = {
    "lecun": nnx.initializers.lecun_normal(),
    "glorot": nnx.initializers.glorot_uniform(),
}
"""Distributions of the first weights: flax's own, and TensorFlow's."""


class Trunk(nnx.Module):
    """Dense layers with leaky ReLU: (B, inputs) -> (B, outputs).

    slope: of the leaky ReLU below 0.
    init: how the weights begin, one of `KERNELS`.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int,
        outputs: int,
        rngs: nnx.Rngs,
        slope: float = 0.01,
        init: Literal["lecun", "glorot"] = "lecun",
    ):
        widths, self.slope = [inputs] + [hidden] * layers, slope
        linear = lambda a, b: nnx.Linear(a, b, kernel_init=KERNELS[init], rngs=rngs)
        self.layers = nnx.List([linear(a, b) for a, b in zip(widths, widths[1:])])
        self.out = linear(widths[-1], outputs)

    def __call__(self, x: jax.Array, beside: jax.Array | float = 0.0) -> jax.Array:
        """beside: (B, hidden), a second input, which is added to the sums of the first layer."""
        for layer in self.layers:
            x, beside = nnx.leaky_relu(layer(x) + beside, self.slope), 0.0
        return self.out(x)


def unit(x: jax.Array) -> jax.Array:
    """Vectors (…, D) scaled to length 1."""
    return x * jax.lax.rsqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def normal_log_density(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """log N(x; mean, exp(log_scale)²), elementwise."""
    return -0.5 * ((x - mean) * jnp.exp(-log_scale)) ** 2 - log_scale - 0.5 * LOG_2PI


def mixture_log_prob(
    logits: jax.Array, means: jax.Array, log_scales: jax.Array, x: jax.Array
) -> jax.Array:
    """Log density of x (B, D) under mixtures over axis 1, (B,).

    logits: (B, K, D) for one mixture per dimension, whose log densities add up, or (B, K, 1) for
    one mixture over the vector.
    means, log_scales: (B, K, D).
    """
    component = normal_log_density(x[:, None], means, log_scales)
    if logits.shape[-1] == 1:
        return jax.nn.logsumexp(jax.nn.log_softmax(logits[..., 0], 1) + component.sum(-1), 1)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits, 1) + component, 1).sum(-1)
