"""Held-out images as the densities of a runs folder see them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.evaluation.cases import top_hits
from transfer.models import vae
from transfer.stages.encoding import encode_images, in_gallery, load_vae, old_examples
from transfer.system.batches import in_batches
from transfer.system.errors import DataError

RANKS = (1, 10, 50)


@dataclasses.dataclass(frozen=True)
class Held:
    """N images of a split whose kanji are in the gallery.

    images: (N, 64, 64) uint8. label: (N,) places in the gallery.
    read: (N, 64), z_old as the density's configuration reads it. mean, log_variance: (N, 64) of the
    old VAE's posterior.
    """

    images: np.ndarray
    label: np.ndarray
    read: np.ndarray
    mean: np.ndarray
    log_variance: np.ndarray

    def drawn(self, seed: int = 3) -> np.ndarray:
        """A draw from each posterior, (N, 64), by which a density of z_old is judged."""
        posterior = self.mean, self.log_variance
        return np.asarray(vae.sample_z(*posterior, jax.random.key(seed)))


def held(
    folder: Path,
    corpus: Corpus,
    split: str,
    gallery_points: np.ndarray,
    averaged: int,
    limit: int | None,
    seed: int = 0,
) -> Held:
    """Images of a split: all, or `limit` of them, chosen by seed. Raises DataError if there are
    none.

    averaged: warped forms whose z_old are averaged with the image's own.
    """
    chosen, label = in_gallery(*old_examples(corpus, split), gallery_points)
    if not len(label):
        raise DataError(
            f"{corpus.folder}: holds no images of the split {split!r} whose kanji have a glyph; "
            "choose another, or get the files that are missing"
        )
    order = np.random.default_rng(seed).permutation(len(label))[: limit or len(label)]
    chosen, label = chosen[np.sort(order)], label[np.sort(order)]
    images = np.asarray(corpus.old.images[chosen])
    graph, params, _, _ = load_vae(folder, "old")
    read = jax.jit(lambda p, part: vae.averaged_z(nnx.merge(graph, p), part, averaged))
    z = in_batches(lambda part: read(params, part), images, (64,))
    return Held(images, label, z, *encode_images(folder, "old", images))


def hits(name: str, rank: np.ndarray, ranks: tuple[int, ...] = RANKS) -> dict[str, float]:
    """Shares of ranks (N,) below 1, 10 and 50, where 0 is best; NaN if there are none."""
    share = lambda right: float(right.mean()) if len(right) else float("nan")
    return {metric: share(right) for metric, right in top_hits(name, rank, ranks).items()}
