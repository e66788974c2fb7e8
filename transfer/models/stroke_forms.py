"""The two forms of a stroke with which the stroke decoder works: codes, and ink on a coarse page.

A stroke's code is its position along the principal axes of all strokes. Its ink is at sample points
of its segments, each shared bilinearly by four cells, and is differentiable in the stroke's points.
Lengths are in KanjiVG's box units (109); pictures are (B, 64, 64) float32 in [0, 1], ink 1.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

BOX = 109.0
"""Side of the page in box units."""
GRID = 16
"""Cells along a side of the coarse page that the decoder sees while it writes."""
CANVAS = 32
"""Cells along a side of the finer page on which drawings are compared with pictures."""
INK_WIDTH = 3.0
"""Stroke width of the rasters in box units. It turns the pen's path length into ink."""


# Codes --------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Axes:
    """Principal axes of strokes (n, P, 2), in box units.

    mean: (2P,).
    axes: (2P, 2P), orthonormal columns.
    deviation: (2P,), the standard deviation along each axis.
    """

    mean: jax.Array
    axes: jax.Array
    deviation: jax.Array

    @classmethod
    def of(cls, strokes: np.ndarray) -> Axes:
        """The axes of strokes (n, P, 2)."""
        x = strokes.reshape(len(strokes), -1).astype(np.float64)
        mean = x.mean(0)
        values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
        # Few strokes leave axes along which nothing varies.
        deviation = np.sqrt(np.maximum(values[::-1], 1e-4))
        return cls(*(np.float32(a) for a in (mean, vectors[:, ::-1], deviation)))

    def encode(self, strokes: jax.Array) -> jax.Array:
        """Codes (…, 2P) of strokes (…, P, 2) in box units."""
        return (strokes.reshape(*strokes.shape[:-2], -1) - self.mean) @ self.axes / self.deviation

    def decode(self, codes: jax.Array) -> jax.Array:
        """Strokes (…, P, 2) in box units of codes (…, 2P)."""
        return ((codes * self.deviation) @ self.axes.T + self.mean).reshape(
            *codes.shape[:-1], -1, 2
        )


# Ink ----------------------------------------------------------------------------------------------


def ink_of(strokes: jax.Array, samples: int = 4, grid: int = GRID) -> jax.Array:
    """Mean ink that strokes leave in every cell of a coarse page, (…, grid * grid).

    strokes: (…, P, 2) in box units.
    samples: sample points of each segment that carry its ink.
    """
    start, end = strokes[..., :-1, :], strokes[..., 1:, :]
    t = ((jnp.arange(samples) + 0.5) / samples)[:, None]
    points = start[..., None, :] + t * (end - start)[..., None, :]  # (…, P - 1, samples, 2)
    length = jnp.sqrt(((end - start) ** 2).sum(-1) + 1e-12)[..., None] / samples
    place = points.reshape(*strokes.shape[:-2], -1, 2) * (grid / BOX) - 0.5
    near = jnp.maximum(
        0.0, 1.0 - jnp.abs(place[..., None] - jnp.arange(grid))
    )  # (…, points, 2, grid)
    amount = jnp.broadcast_to(length, points.shape[:-1]).reshape(*strokes.shape[:-2], -1) * (
        INK_WIDTH * (grid / BOX) ** 2
    )
    return jnp.einsum(
        "...si,...sj->...ij", near[..., 1, :] * amount[..., None], near[..., 0, :]
    ).reshape(*strokes.shape[:-2], -1)


def coarse_picture(picture: jax.Array, grid: int = GRID) -> jax.Array:
    """Mean ink of each block of pixels of pictures (B, 64, 64): (B, grid, grid)."""
    block = picture.shape[-1] // grid
    return picture.reshape(-1, grid, block, grid, block).mean((2, 4))


def blurred(pages: jax.Array) -> jax.Array:
    """Pages (B, S, S) weighted by 1, 2, 1 along both sides.

    Then ink also responds to ink one cell away. The blur is its own adjoint.
    """
    for axis in (1, 2):
        near = [(0, 0)] * 3
        near[axis] = (1, 1)
        padded = jnp.pad(pages, near)
        before, after = (
            jax.lax.slice_in_dim(padded, at, at + pages.shape[axis], axis=axis) for at in (0, 2)
        )
        pages = (before + 2 * pages + after) / 4
    return pages


def likeness(strokes: jax.Array, pictures: jax.Array) -> jax.Array:
    """Cosine between the ink of drawings and of pictures on a coarse page, (B,).

    It is 1 for equal ink, and 0 without common ink.

    strokes: (B, T, P, 2) in box units; missing strokes are 0.
    pictures: (B, 64, 64) float32 in [0, 1], ink 1.
    """
    batch = len(pictures)
    page = coarse_picture(pictures, CANVAS).reshape(batch, -1)
    samples = -(
        -22 // (strokes.shape[-2] - 1)
    )  # of a segment: about one a cell, for strokes of usual length
    written = jnp.minimum(
        jax.lax.map(lambda s: ink_of(s, samples, CANVAS).sum(0), strokes, batch_size=16), 1.0
    )
    return (written * page).sum(-1) * jax.lax.rsqrt((written**2).sum(-1) * (page**2).sum(-1) + 1e-6)
