"""Pairs of latents (z_old, z_new) of one kanji, from which the densities of stage 2 learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.models import augment, mdn, vae
from transfer.stages import encoding
from transfer.stages.encoding import (
    Forms,
    in_gallery,
    load_vae,
    modern_forms,
    old_examples,
    old_pool,
    shares,
)
from transfer.training.examples import Pool, mix


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The training data of a density.

    forms: posteriors of the modern glyphs, by kanji of the gallery.
    source: the images of the old domain.
    seen: (G,) bool, which kanji of the gallery have training images from books.
    trained: (G,) bool, which have any training images: from books, fonts or made hands.
    label: (R,) int32, the kanji of the books' images.
    data: arrays for a device, which `draw` needs.
    draw: (data, keys) -> indices into `source`, labels into the gallery, and the pairs' z_old and
    z_new, (B, 64) each. keys: five random keys.
    """

    forms: Forms
    source: Pool
    seen: np.ndarray
    trained: np.ndarray
    label: np.ndarray
    data: dict
    draw: Callable

    def gallery(self, seen: np.ndarray) -> mdn.Gallery:
        """The gallery by its standard forms; seen: (G,) bool, as in `mdn.Gallery`."""
        return mdn.Gallery(
            self.forms.mean[self.forms.start], self.forms.log_variance[self.forms.start], seen
        )


def latent_pairs(config: mdn.MDNConfig, corpus: Corpus, folder: Path, seed: int = 0) -> Pairs:
    """The pairs of a configuration, over the latents of the two VAEs trained in `folder`.

    The old image of a pair is drawn as `balance`, `fonts` and `hands` say; its modern form is a
    random one of its kanji. Their latents are draws from both posteriors: of kept views, or, if
    `fresh`, of both pictures, newly augmented as in each VAE's training.
    """
    forms = modern_forms(folder, corpus, config.variants)
    graph, params, _, old_config = load_vae(folder, "old")
    chosen, label = in_gallery(*old_examples(corpus, "train"), forms.code_points)
    source = old_pool(corpus, config, chosen, forms.code_points[label], old_config.aside, False)
    classes = np.searchsorted(forms.code_points, source.classes).astype(np.int32)
    data = {
        "tables": source.tables,
        "classes": classes,
        "start": forms.start,
        "count": forms.count,
        "new_mean": forms.mean,
        "new_log_variance": forms.log_variance,
    }
    if config.fresh:
        new_graph, new_params, _, new_config = load_vae(folder, "new")
        data |= {
            "old_images": source.images,
            "new_images": np.asarray(corpus.new.images[forms.glyphs]),
            "vae_old": params,
            "vae_new": new_params,
        }
    else:
        data |= old_views(folder, source.images, config.views, seed)

    def draw(data, keys):
        index, dense = mix(data["tables"], shares(config), config.batch, keys[0])
        label = data["classes"][dense]
        form = data["start"][label] + jnp.floor(
            jax.random.uniform(keys[2], label.shape) * data["count"][label]
        ).astype(jnp.int32)
        if config.fresh:
            old, new = (jax.random.fold_in(keys[4], number) for number in range(2))
            z_old = anew(graph, data["vae_old"], old_config, data["old_images"][index], old)
            z_new = anew(new_graph, data["vae_new"], new_config, data["new_images"][form], new)
        else:
            view = jax.random.randint(keys[4], index.shape, 0, len(data["mean"]))
            z_old = data["mean"][view, index], data["log_variance"][view, index]
            z_new = data["new_mean"][form], data["new_log_variance"][form]
        return (
            index,
            label,
            vae.sample_z(*z_old, keys[1]),
            vae.sample_z(*z_new, keys[3]),
        )

    return Pairs(
        forms,
        source,
        np.isin(forms.code_points, source.classes[source.photographed]),
        np.isin(np.arange(len(forms.code_points)), classes),
        label,
        data,
        draw,
    )


def old_views(folder: Path, images: np.ndarray, views: int, seed: int) -> dict[str, np.ndarray]:
    """The old VAE's posteriors for images (N, 64, 64) uint8 in `views` augmented views. folder: of
    the VAE.

    Without views the images are encoded as they are. A run keeps the results
    (`encoding.encode_kept`).

    Returns "mean" and "log_variance", each (max(views, 1), N, 64) float32.
    """
    found = []
    for view in range(views) if views else [None]:
        bar = f"z_old, view {(view or 0) + 1}/{max(views, 1)}"
        found.append(encoding.encode_kept(folder, images, view, seed, bar))
    return {name: np.stack([f[i] for f in found]) for i, name in enumerate(encoding.KEPT_NAMES)}


def anew(graph, params: dict, config: vae.VAEConfig, images: jax.Array, key: jax.Array):
    """Posterior (mean, log-variance), (B, 64) each, of images that are augmented as in a VAE's
    training.

    graph, params, config: of the VAE. images: (B, 64, 64) uint8.
    """
    seen = augment.augment(images, key, config.augment, config.warp)
    return nnx.merge(graph, params).encode(seen)
