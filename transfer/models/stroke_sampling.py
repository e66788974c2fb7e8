"""Samples drawings from `stroke_rnn`, one stroke at a time.

Every drawing is attempted once. If its ink is unlike the picture that the new VAE paints, it is
attempted several times more. The attempt most like the picture is kept, and fitted to it.
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

AGAIN = 4
"""A batch's share, one of so many, that is attempted again at a time."""


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

    A drawing is the first attempt if its likeness to the picture is `enough`, or else the best of
    `attempts`. It is then fitted to the picture (`stroke_fitting.fit`).

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
    config, batch, picture = model.config, keys.shape[0], condition["picture"]
    most = most or config.most
    seen = model.see(condition)
    looks = seen.pop("looks")
    wanted = jnp.clip(model.plan(condition).argmax(-1), 1, most).astype(jnp.int32)

    def write(rows, numbers):
        """The attempts of these numbers at the drawings of some rows, (R, attempts, …) each."""
        own = jax.tree.map(lambda a: a[rows], seen) | {"looks": looks}
        each = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys[rows], numbers)
        strokes, score = written(model, axes, own, wanted[rows], each, temperature, most)
        flat = strokes.reshape(-1, *strokes.shape[2:])
        alike = likeness(flat, jnp.repeat(picture[rows], len(numbers), 0))
        return {"strokes": strokes, "score": score, "alike": alike.reshape(score.shape)}

    every = jnp.arange(batch)
    kept = jax.tree.map(lambda a: a[:, 0], write(every, jnp.arange(1)))
    if config.attempts > 1:
        # Those that need more come first, and are taken so many at a time.
        unlike = kept["alike"] < config.enough
        together = -(-batch // AGAIN)
        order = jnp.argsort(~unlike, stable=True)
        order = jnp.concatenate([order, jnp.repeat(order[-1:], together - 1)])

        def again(carry):
            at, kept = carry
            rows = jax.lax.dynamic_slice_in_dim(order, at, together)
            new = write(rows, jnp.arange(1, config.attempts))
            best = new["alike"].argmax(-1)
            new = jax.tree.map(lambda a: a[jnp.arange(together), best], new)
            better = unlike[rows] & (new["alike"] > kept["alike"][rows])
            # Rows that stay as they are go nowhere.
            place = jnp.where(better, rows, batch)
            change = lambda a, b: a.at[place].set(b, mode="drop")
            return at + together, jax.tree.map(change, kept, new)

        more = lambda carry: carry[0] < unlike.sum()
        _, kept = jax.lax.while_loop(more, again, (jnp.int32(0), kept))
    strokes, alike = kept["strokes"], kept["alike"]
    if config.fit_steps:
        strokes = fit(axes, strokes, wanted, picture, config.fit_steps, config.fit_rate)
        alike = likeness(strokes, picture)
    return strokes, wanted, kept["score"], alike


def written(
    model, axes: Axes, seen: dict, wanted: jax.Array, keys: jax.Array, temperature: jax.Array, most
) -> tuple[jax.Array, jax.Array]:
    """Attempts at drawings, (B, attempts, most, P, 2), and their log-likelihoods, (B, attempts).

    seen: what `StrokeRNN.see` gives. wanted: (B,), strokes of each drawing. keys: (B, attempts).
    """
    config, (batch, attempts) = model.config, keys.shape
    # The attempts at a drawing are the steps of one row to the attention: its features are read
    # from memory once for all of them.
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
    return end["strokes"].transpose(1, 2, 0, 3, 4), end["score"]
