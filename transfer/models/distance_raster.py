"""Turns strokes, as padded points, into grey images, on the device and differentiably in the
points.

The picture is the one that `transfer.data.raster.rasterise` draws: a pixel's ink is the overlap of
the round pen with an interval of one pixel, taken across the nearest segment.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

BOX = 109.0
FAR = 1e4
"""In pixels; squares of larger distances would overflow."""


@partial(jax.jit, static_argnames=("size",))
def rasterise(points: jax.Array, mask: jax.Array, size: int = 64, width: float = 3.0) -> jax.Array:
    """Ink of drawings, (…, size, size) float32 in [0, 1], ink 1; it equals
    `transfer.data.raster.rasterise` to 1/255.

    points: (…, P, 2), box units (109), x right, y down.
    mask: (…, P - 1) bool, True where the pen is down between a point and the next. A segment of no
    length is a dot; masked points may hold anything; a drawing without segments is blank.
    size: pixels a side.
    width: of the pen, box units.

    Memory is a few images for each drawing, whatever P is. The gradient with respect to the points
    is finite everywhere. For each pixel that an edge runs through, it is that of the nearest
    segment; for all others it is zero.
    """
    shape = jnp.broadcast_shapes(points.shape[:-2], mask.shape[:-1])
    batch, count = math.prod(shape), mask.shape[-1]
    points = (
        jnp.broadcast_to(points, (*shape, count + 1, 2))
        .reshape(batch, count + 1, 2)
        .astype(jnp.float32)
    )
    mask = jnp.broadcast_to(mask, (*shape, count)).reshape(batch, count).astype(bool)
    scale = size / BOX
    if batch * count == 0:
        return jnp.zeros((*shape, size, size), jnp.float32)
    segments = (
        jnp.concatenate([points[:, :-1], points[:, 1:]], -1) * scale
    )  # (B, P - 1, 4): x0, y0, x1, y1 in pixels
    segments = jnp.clip(jnp.where(mask[..., None], segments, 0.0), -FAR, FAR)
    found, which = _nearest(jax.lax.stop_gradient(segments), mask, size)
    chosen = jnp.take_along_axis(segments, which.reshape(batch, -1, 1), 1).reshape(*which.shape, 4)
    squared = _squared_distance(chosen, size)
    # The square root has no slope at 0, where a pixel's centre lies on the line; its ink does not
    # change there.
    distance = jnp.sqrt(jnp.where(squared > 1e-6, squared, 1e-6))
    radius = width * scale / 2
    cover = jnp.minimum(distance + 0.5, radius) - jnp.maximum(distance - 0.5, -radius)
    return jnp.where(found, jnp.clip(cover, 0.0, 1.0), 0.0).reshape(*shape, size, size)


def _squared_distance(segments: jax.Array, size: int) -> jax.Array:
    """Squared distances (B, size, size), pixels², of pixels' centres to segments.

    segments: (B, size, size, 4), each pixel's own, or (B, 1, 1, 4), one for all.
    """
    centre = jnp.arange(size) + 0.5
    x0, y0, x1, y1 = (segments[..., i] for i in range(4))
    ux, uy = x1 - x0, y1 - y0
    dx, dy = centre - x0, centre[:, None] - y0
    # A thousandth of a pixel counts as no length, so that its slope stays within float32.
    along = jnp.clip((dx * ux + dy * uy) / jnp.maximum(ux * ux + uy * uy, 1e-6), 0.0, 1.0)
    across_x, across_y = dx - along * ux, dy - along * uy
    return across_x * across_x + across_y * across_y


def _nearest(segments: jax.Array, mask: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Whether a drawing has segments, (B, 1, 1) bool, and each pixel's nearest, (B, size, size)."""
    batch, count = mask.shape

    def step(best, item):
        number, segment, valid = item
        squared = jnp.where(
            valid[:, None, None], _squared_distance(segment[:, None, None], size), jnp.inf
        )
        nearer = squared < best[0]
        return (jnp.where(nearer, squared, best[0]), jnp.where(nearer, number, best[1])), None

    start = (jnp.full((batch, size, size), jnp.inf), jnp.zeros((batch, size, size), jnp.int32))
    items = (jnp.arange(count, dtype=jnp.int32), segments.swapaxes(0, 1), mask.T)
    (_, which), _ = jax.lax.scan(step, start, items, unroll=4)
    return mask.any(1)[:, None, None], which


def from_stroke3(rows: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Points and mask, as `rasterise` takes them, of padded stroke-3 rows.

    rows: (…, P, 3), box units.
    count: (…), how many of them are valid.
    """
    points = jnp.cumsum(rows[..., :2], -2)
    number = jnp.arange(1, rows.shape[-2])
    return points, (number < jnp.asarray(count)[..., None]) & (rows[..., :-1, 2] == 0)


def pad(
    drawings: list[list[np.ndarray]], length: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Points (B, P, 2) float32 and mask (B, P - 1) bool of drawings, as `rasterise` takes them.

    drawings: lists of polylines (n, 2), n >= 1.
    length: P [what the longest drawing needs].

    Raises ValueError if a drawing does not fit.
    """
    drawings = [
        [np.repeat(s, 2, axis=0) if len(s) == 1 else np.asarray(s) for s in strokes]
        for strokes in drawings
    ]
    counts = [sum(map(len, strokes)) for strokes in drawings]
    longest = max([2, *counts])
    if length is not None and length < longest:
        raise ValueError(
            f"a drawing has {longest} points and does not fit {length}; raise the length"
        )
    points = np.zeros((len(drawings), length or longest, 2), np.float32)
    mask = np.zeros((len(drawings), (length or longest) - 1), bool)
    for i, strokes in enumerate(drawings):
        at = 0
        for stroke in strokes:
            points[i, at : at + len(stroke)] = stroke
            mask[i, at : at + len(stroke) - 1] = True
            at += len(stroke)
    return points, mask
