"""A loss that several models share."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_entropy(scores: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of softmax(scores) with smoothed labels, (B,) in nats.

    scores: (B, C). Classes whose score is -inf take no part: they neither gain nor lose.
    labels: (B,) int32.
    smoothing: share of each label's weight that goes to all classes that take part, evenly
    (Szegedy et al. 2016, arXiv 1512.00567, section 7).
    """
    log_weights, part = jax.nn.log_softmax(scores), scores > -jnp.inf
    chosen = jnp.take_along_axis(log_weights, labels[:, None], 1)[:, 0]
    uniform = jnp.where(part, log_weights, 0.0).sum(-1) / part.sum(-1)
    return -((1 - smoothing) * chosen + smoothing * uniform)
