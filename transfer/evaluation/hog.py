"""The judge that is not trained: it names the glyph that an image is most like.

Images are compared by histograms of oriented gradients (Dalal and Triggs 2005).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from transfer.system.batches import in_batches

CELLS, BINS = 8, 9
"""8x8 cells of 8 pixels, nine directions without sign."""
_AT_ONCE = (256,)


def features(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients, (n, 576) float32 of length 1; zeros for a blank image.

    Images are blurred. Each pixel's gradient is shared between the two nearest directions, and
    square roots are taken of each cell's sums.

    images: (n, 64, 64) uint8.
    """
    return in_batches(_features, images, _AT_ONCE)


@jax.jit
def _features(images: jax.Array) -> jax.Array:
    pixels = images.astype(jnp.float32) / 255.0
    kernel = np.array([1, 4, 6, 4, 1], np.float32) / 16
    for axis in (1, 2):
        padded = jnp.pad(pixels, [(0, 0)] + [(2, 2) if a == axis else (0, 0) for a in (1, 2)])
        pixels = sum(
            k * jax.lax.slice_in_dim(padded, i, i + 64, axis=axis) for i, k in enumerate(kernel)
        )
    down, right = jnp.gradient(pixels, axis=(1, 2))
    size, turn = jnp.hypot(right, down), (jnp.arctan2(down, right) % jnp.pi) / jnp.pi * BINS
    lower, share = jnp.floor(turn), turn - jnp.floor(turn)
    cells = []
    for direction in range(BINS):
        own = size * (
            (1 - share) * (lower % BINS == direction) + share * ((lower + 1) % BINS == direction)
        )
        cells.append(own.reshape(-1, CELLS, 64 // CELLS, CELLS, 64 // CELLS).sum((2, 4)))
    flat = jnp.sqrt(jnp.stack(cells, -1).reshape(len(images), -1))
    return flat / jnp.maximum(jnp.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


class HogJudge:
    """Cosine similarity with every glyph of a gallery.

    images: (C, 64, 64) uint8, the gallery.
    classes: (C,) int, the code point of each.
    """

    name, sample = "HOG", False

    def __init__(self, images: np.ndarray, classes: np.ndarray):
        self.classes, self._gallery = classes, features(images)

    def similarities(self, images: np.ndarray) -> np.ndarray:
        """Cosine similarities, (n, C) float32, of images (n, 64, 64) uint8."""
        return features(images) @ self._gallery.T

    def log_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Logarithms of a softmax of the similarities, (n, C) float32.

        With them HOG can stand in for a recogniser. How sharp the softmax is, is a convention;
        ranks do not depend on it.

        images: (n, 64, 64) uint8.
        """
        scores = 30.0 * self.similarities(images)
        return scores - np.logaddexp.reduce(scores, 1, keepdims=True)
