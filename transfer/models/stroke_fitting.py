"""Fits drawings to pictures: strokes move until their ink is where the picture's ink is.

It is gradient descent on the codes of the strokes, through the differentiable ink of
`stroke_forms`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from transfer.models.stroke_forms import (
    BOX,
    CANVAS,
    INK_WIDTH,
    Axes,
    blurred,
    coarse_picture,
    ink_of,
)

SAMPLES = 2
"""Sample points of each segment that carry its ink."""
STAY = 1e-3
"""Weight of the squared distance from where the strokes were written."""
MOMENTUM = 0.85
"""Weight of the earlier steps."""


def fit(
    axes: Axes, strokes: jax.Array, count: jax.Array, pictures: jax.Array, steps: int, rate: float
) -> jax.Array:
    """Move strokes so that their ink fits the pictures: (B, T, P, 2).

    This is gradient descent on `misfit` with momentum, in codes: a stroke moves and bends as a
    whole rather than point by point. Number, order and direction of the strokes stay the same.

    strokes: (B, T, P, 2) in box units.
    count: (B,), how many of them are there.
    pictures: (B, 64, 64) float32 in [0, 1], ink 1.
    steps: steps of the descent.
    rate: length of the longest of them, in standard deviations of all strokes.
    """
    codes, there = axes.encode(strokes), (jnp.arange(strokes.shape[1]) < count[:, None])[..., None]
    page = page_of(pictures)

    def step(number, carry):
        moved, momentum, longest = carry
        momentum = (
            MOMENTUM * momentum
            + misfit_gradient(axes, codes + moved, there, page)
            + 2 * STAY * moved
        )
        # By the steepest place met so far: steps as long as each other would end in swinging, which
        # makes much of a rounding.
        longest = jnp.maximum(
            longest,
            jnp.sqrt((momentum**2).sum((1, 2), keepdims=True) / count[:, None, None] + 1e-12),
        )
        return moved - rate * (1 - number / steps) * momentum / longest, momentum, longest

    start = jnp.zeros_like(codes), jnp.zeros_like(codes), jnp.zeros((len(codes), 1, 1))
    moved, _, _ = jax.lax.fori_loop(0, steps, step, start)
    return axes.decode(codes + moved) * there[..., None]


def page_of(pictures: jax.Array) -> jax.Array:
    """Pictures (B, 64, 64) as `misfit` sees them: blurred on the canvas, (B, 32, 32)."""
    return blurred(coarse_picture(pictures, CANVAS))


def misfit(axes: Axes, codes: jax.Array, there: jax.Array, page: jax.Array) -> jax.Array:
    """Squared difference between the ink of strokes and of a page, as a share of its square, (B,).

    codes: (B, T, 2P), of the strokes.
    there: (B, T, 1) bool, which strokes exist.
    page: (B, 32, 32), from `page_of` the pictures.
    """
    ink = (ink_of(axes.decode(codes), SAMPLES, CANVAS) * there).sum(1).reshape(page.shape)
    return ((blurred(ink) - page) ** 2).sum((1, 2)) / jnp.maximum((page**2).sum((1, 2)), 1e-6)


def misfit_gradient(axes: Axes, codes: jax.Array, there: jax.Array, page: jax.Array) -> jax.Array:
    """Gradient of the sum of `misfit` with respect to the codes, (B, T, 2P), 0 where there is no
    stroke.

    It takes a fraction of the time of XLA's own, since a point's ink touches only four cells.
    Points that leave the page are held at its border.
    """
    batch, number = codes.shape[:2]
    points = axes.decode(codes)
    segments = points[:, :, 1:] - points[:, :, :-1]
    length = jnp.sqrt((segments**2).sum(-1, keepdims=True) + 1e-12)
    t = (jnp.arange(SAMPLES) + 0.5) / SAMPLES
    weight = (
        INK_WIDTH * (CANVAS / BOX) ** 2 / SAMPLES * there[..., None]
    )  # ink of a sample, a unit of length
    place = (
        points[:, :, :-1, None] + t[:, None] * segments[:, :, :, None]
    )  # (B, T, P - 1, samples, 2)
    place = jnp.clip(place * (CANVAS / BOX) - 0.5, 0.0, CANVAS - 1.001).reshape(batch, -1, 2)
    amount = jnp.broadcast_to(length * weight, (*length.shape[:3], SAMPLES)).reshape(batch, -1)
    near = jnp.maximum(
        0.0, 1.0 - jnp.abs(place[..., None] - jnp.arange(CANVAS))
    )  # (B, samples of all, 2, 32)
    ink = jnp.einsum("bsi,bsj->bij", near[:, :, 1] * amount[..., None], near[:, :, 0])
    error = (
        2 * blurred(blurred(ink) - page) / jnp.maximum((page**2).sum((1, 2), keepdims=True), 1e-6)
    )
    # How the error's bilinear value at a sample changes with its place, and, by the length of its
    # segment, with its amount of ink.
    corner = jnp.floor(place)
    x, y = jnp.moveaxis(place - corner, -1, 0)
    index = (corner[..., 1] * CANVAS + corner[..., 0]).astype(jnp.int32)
    at = lambda offset: jnp.take_along_axis(
        error.reshape(batch, -1), index + offset, 1, mode="promise_in_bounds"
    )
    here, right, below, across = at(0), at(1), at(CANVAS), at(CANVAS + 1)
    value = (1 - y) * ((1 - x) * here + x * right) + y * ((1 - x) * below + x * across)
    slope = jnp.stack(
        [
            (1 - y) * (right - here) + y * (across - below),
            (1 - x) * (below - here) + x * (across - right),
        ],
        -1,
    )
    pull = (slope * amount[..., None]).reshape(batch, number, -1, SAMPLES, 2) * (CANVAS / BOX)
    stretch = (
        (value.reshape(batch, number, -1, SAMPLES).sum(-1, keepdims=True) * weight)
        * segments
        / length
    )
    starts, ends = (
        (pull * (1 - t)[:, None]).sum(-2) - stretch,
        (pull * t[:, None]).sum(-2) + stretch,
    )
    gradient = jnp.pad(starts, ((0, 0), (0, 0), (0, 1), (0, 0))) + jnp.pad(
        ends, ((0, 0), (0, 0), (1, 0), (0, 0))
    )
    return (gradient.reshape(batch, number, -1) @ axes.axes) * axes.deviation
