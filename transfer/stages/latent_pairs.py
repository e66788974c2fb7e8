"""Pairs of latents (z_old, z_new) of one kanji, from which the densities of stage 2 learn."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.models import augment, mdn, vae
from transfer.stages.encoding import (
    VAE_NAMES,
    Forms,
    encode_images,
    in_gallery,
    load_vae,
    modern_forms,
    old_examples,
    old_pool,
    shares,
)
from transfer.system.files import atomic_write
from transfer.training import weights
from transfer.training.examples import Pool, mix

KEPT = "latents_{}.npz"
"""Files beside the weights in a run of the old VAE, which keep its latents of all images, one view
in each file. The next density on these weights, or the same one after a kill, reads them."""
NAMES = "mean", "log_variance"


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

    Without views the images are encoded as they are. The results are kept in a run (`KEPT`), though
    not in a weights folder, and read again if images, weights, views and seed are the same.

    Returns "mean" and "log_variance", each (max(views, 1), N, 64) float32.
    """
    place, found = weights.find(folder, VAE_NAMES["old"]), []
    of = None  # a run alone keeps them
    if place.parent != Path(folder):
        of = f"{weights.checksum(place)} {hashlib.sha256(np.ascontiguousarray(images)).hexdigest()}"
    # Views are augmented with keys of the seed, so that a resumed run sees the same ones.
    for number, key in enumerate(
        [jax.random.fold_in(jax.random.key(seed), v) for v in range(views)] or [None]
    ):
        bar = f"z_old, view {number + 1}/{max(views, 1)}"
        make = partial(encode_images, folder, "old", images, key, bar)
        same = f"{of} {key is None} {number} {seed}"
        found.append(_kept(place.with_name(KEPT.format(number)), same, make) if of else make())
    return {name: np.stack([f[i] for f in found]) for i, name in enumerate(NAMES)}


def _kept(path: Path, same: str, make: Callable) -> list[np.ndarray]:
    """Two arrays: those in the file `path`, if they belong to `same`; otherwise those that `make`
    returns, which are then kept there."""
    try:
        with np.load(path) as found:
            if str(found["of"]) == same:
                return [found[name] for name in NAMES]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or not of ours: it is made anew
    made = list(make())
    try:
        with atomic_write(path) as part, open(part, "wb") as file:
            np.savez(file, of=np.array(same), **dict(zip(NAMES, made)))
    except OSError:
        pass  # read-only or full: the training can do without
    return made


def anew(graph, params: dict, config: vae.VAEConfig, images: jax.Array, key: jax.Array):
    """Posterior (mean, log-variance), (B, 64) each, of images that are augmented as in a VAE's
    training.

    graph, params, config: of the VAE. images: (B, 64, 64) uint8.
    """
    seen = augment.augment(images, key, config.augment, config.warp)
    return nnx.merge(graph, params).encode(seen)
