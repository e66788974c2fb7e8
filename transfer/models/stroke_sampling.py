"""Samples drawings from `stroke_rnn`, one stroke at a time.

Every drawing is attempted several times. The attempt whose ink is most like the new VAE's picture
is kept, and fitted to the picture.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.recurrent import gates
from transfer.models.stroke_fitting import fit
from transfer.models.stroke_forms import GRID, Axes, ink_of, likeness
from transfer.models.stroke_rnn import log_prob, mixture


@partial(jax.jit, static_argnums=0)
def planned(graph, params, z: jax.Array) -> jax.Array:
    """The number of strokes, which is read from z (B, latent): (B,) int32."""
    return nnx.merge(graph, params).plan({"z": z}).argmax(-1)


def sample(parameters: tuple, key: jax.Array, temperature: jax.Array) -> jax.Array:
    """Codes (2P,) drawn from the mixture of one stroke.

    parameters: from `stroke_rnn.mixture`, (M,), (M, 2P) and (M, 2P).
    temperature: divides the mixture's logits and multiplies the variances.
    """
    weights, means, log_scales = parameters
    mixture_key, normal_key = jax.random.split(key)
    chosen = jax.random.categorical(mixture_key, weights / temperature)
    return means[chosen] + jnp.sqrt(temperature) * jnp.exp(log_scales[chosen]) * jax.random.normal(
        normal_key, means.shape[1:]
    )


@partial(jax.jit, static_argnums=(0,), static_argnames="most")
def draw(
    graph,
    params,
    axes: Axes,
    condition: dict,
    keys: jax.Array,
    temperature: jax.Array,
    most: int | None = None,
):
    """Write one drawing for each condition, and stop when the longest is done.

    Every drawing is the best of `attempts` by its likeness to the picture, and is then fitted to
    the picture (`stroke_fitting.fit`).

    graph, params: of a `StrokeRNN`.
    condition: dict of "z" (B, latent) and "picture" (B, 64, 64).
    keys: (B,), one random key for each drawing, so that no drawing depends on its neighbours.
    temperature: (), divides the logits and scales the variances.
    most: the number of strokes for which the program is compiled [config.most]; no drawing has
    more.

    Returns the strokes (B, most, P, 2) float32 in box units; their number, (B,) int32; the
    log-likelihoods of the drawings as they were written, at temperature 1, (B,); and their
    `likeness` to the pictures, (B,).
    """
    model = nnx.merge(graph, params)
    config, batch, attempts = model.config, keys.shape[0], model.config.attempts
    most = most or config.most
    keys = jax.vmap(
        lambda key: jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(attempts))
    )(keys)
    # The attempts at a drawing are the steps of one row to the attention: its features are read
    # from memory once for all of them.
    seen = model.see(condition)
    wanted = jnp.clip(model.plan(condition).argmax(-1), 1, most).astype(jnp.int32)
    again = lambda a: jnp.repeat(a[:, None], attempts, 1)
    start = {
        "strokes": jnp.zeros((most, batch, attempts, config.stroke_points, 2)),
        "score": jnp.zeros((batch, attempts)),
        "h": again(seen["h"]),
        "c": again(seen["c"]),
        "code": jnp.zeros((batch, attempts, 2 * config.stroke_points)),
        "end": jnp.zeros((batch, attempts, 2)),
        "done": jnp.zeros((batch, attempts, GRID**2)),
    }

    def step(carry):
        number, s = carry
        left = seen["coarse"][:, None] - s["done"]
        first = jnp.full((batch, attempts), number == 0, jnp.float32)
        embedded = model.embedded(
            s["code"], s["end"], first, again(jnp.maximum(wanted - number, 0)), left, seen
        )
        i, f, g, o = gates(model.inputs(embedded), s["h"], model.kernel[...])
        c = f * s["c"] + i * g
        h = o * jnp.tanh(c)
        parameters = mixture(config, axes, model.read(h, embedded, left, seen))
        code = jax.vmap(
            jax.vmap(lambda key, *of: sample(of, jax.random.fold_in(key, number), temperature))
        )(keys, *parameters)
        stroke = axes.decode(code)
        writing = (number < wanted)[:, None]
        return number + 1, {
            "strokes": s["strokes"].at[number].set(stroke * writing[..., None, None]),
            "score": s["score"] + jnp.where(writing, log_prob(parameters, code), 0.0),
            "h": h,
            "c": c,
            "code": code,
            "end": stroke[..., -1, :],
            "done": s["done"] + ink_of(stroke),
        }

    _, end = jax.lax.while_loop(lambda carry: carry[0] < wanted.max(), step, (jnp.int32(0), start))
    strokes = end["strokes"].transpose(1, 2, 0, 3, 4)  # (B, attempts, most, P, 2)
    flat = strokes.reshape(batch * attempts, *strokes.shape[2:])
    alike = likeness(flat, jnp.repeat(condition["picture"], attempts, 0)).reshape(batch, attempts)
    best = alike.argmax(-1)[:, None]
    chosen = jnp.take_along_axis(strokes, best[..., None, None, None], 1)[:, 0]
    alike = alike.max(-1)
    if config.fit_steps:
        chosen = fit(axes, chosen, wanted, condition["picture"], config.fit_steps, config.fit_rate)
        alike = likeness(chosen, condition["picture"])
    return chosen, wanted, jnp.take_along_axis(end["score"], best, 1)[:, 0], alike
