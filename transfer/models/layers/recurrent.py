"""The LSTM in both stroke decoders, with its own backward pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gates(inputs: jax.Array, h: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
    """The gates i, f, g and o of a step, (…, U) each; the forget gate has a bias of 1.

    inputs: (…, 4U), the input product.
    h: (…, U), the previous state.
    kernel: (U, 4U).
    """
    i, f, g, o = jnp.split(inputs + h @ kernel, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f + 1.0), jnp.tanh(g), jax.nn.sigmoid(o)


@jax.custom_vjp
def lstm(
    inputs: jax.Array, mask: jax.Array, kernel: jax.Array, h: jax.Array, c: jax.Array
) -> jax.Array:
    """The states h of every step of an LSTM, (T, B, U), with the input product already taken.

    The gradient of the kernel is one matrix product over all steps instead of one for each step.
    This is why the backward pass is written by hand.

    inputs: (T, B, 4U), x @ W + b for the gates i, f, g and o.
    mask: (T, B, U) or (1, 1, 1), which scales the update g (recurrent dropout, arXiv 1603.05118).
    kernel: (U, 4U).
    h, c: (B, U), the initial state.
    """
    return _lstm_forward(inputs, mask, kernel, h, c)[0]


def _lstm_forward(inputs, mask, kernel, h, c):
    mask_all = jnp.broadcast_to(mask, (inputs.shape[0], *mask.shape[1:]))

    def step(carry, x):
        h, c = carry
        i, f, g, o = opened = gates(x[0], h, kernel)
        new_c = f * c + i * g * x[1]
        new_h = o * jnp.tanh(new_c)
        return (new_h, new_c), (new_h, (opened, c, new_c, h))

    _, (out, saved) = jax.lax.scan(step, (h, c), (inputs, mask_all))
    return out, (saved, mask, kernel)


def _lstm_backward(residual, grads):
    ((i, f, g, o), c_before, c_after, h_before), mask, kernel = residual
    mask_all = jnp.broadcast_to(mask, (grads.shape[0], *mask.shape[1:]))
    tanh_c = jnp.tanh(c_after)

    def step(carry, x):
        dh_next, dc = carry
        grad, i, f, g, o, c, t, m = x
        dh = grad + dh_next
        dc = dc + dh * o * (1 - t * t)
        d = jnp.concatenate(
            [
                dc * g * m * i * (1 - i),
                dc * c * f * (1 - f),
                dc * i * m * (1 - g * g),
                dh * t * o * (1 - o),
            ],
            -1,
        )
        return (d @ kernel.T, dc * f), d

    zeros = jnp.zeros_like(c_before[0])
    (dh, dc), d = jax.lax.scan(
        step, (zeros, zeros), (grads, i, f, g, o, c_before, tanh_c, mask_all), reverse=True
    )
    units = h_before.shape[-1]
    d_kernel = h_before.reshape(-1, units).T @ d.reshape(-1, 4 * units)
    return d, jnp.zeros_like(mask), d_kernel, dh, dc


lstm.defvjp(_lstm_forward, _lstm_backward)
