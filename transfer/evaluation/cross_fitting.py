"""What weights choose on val (the density's exponents and its calibration) is not reported on the
same images of val.

For images of each half of val the model is the shipped one but for these numbers, which are fitted
on the other half.
"""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.inference.pipeline import IMAGES, KuzushijiTransfer
from transfer.models import mdn, vae
from transfer.stages.density import calibrate, fit_exponents
from transfer.system.batches import in_batches
from transfer.training import weights


def chosen_on(model: KuzushijiTransfer, corpus: Corpus, split: str) -> bool:
    """Whether the model's exponents and calibration were fitted on this split of this corpus."""
    _, _, described = weights.load(weights.find(model.folder, "mdn"))
    theirs = described.get("data", {}).get("sources", {})
    old = {
        name: source["sha256"]
        for name, source in corpus.manifest["sources"].items()
        if name.startswith("kkanji")
    }
    if corpus.is_sample:
        old = {name: source["sha256"] for name, source in corpus.manifest["sources"].items()}
    return (
        split == "val"
        and bool(old)
        and all(theirs.get(name) == checksum for name, checksum in old.items())
    )


def refitted(
    model: KuzushijiTransfer, images: np.ndarray, code_points: np.ndarray
) -> KuzushijiTransfer:
    """The model with exponents and calibration fitted on images (N, 64, 64) uint8 of these kanji
    (N,), all of its gallery."""
    density = nnx.merge(model.mdn_graph, model.mdn_params)
    label = np.searchsorted([ord(c) for c in model.characters], code_points)

    @jax.jit
    def read(params, images):
        old = nnx.merge(model.old_graph, params)
        return vae.averaged_z(old, images, density.config.averaged)

    z_old = in_batches(lambda part: read(model.old_params, part), images, IMAGES[-1:])
    new = copy.copy(model)
    new.__dict__.pop("_read", None)  # compiled with the calibration in it
    if density.config.density == "anchored" and density.config.direct:
        both = in_parts(model, mdn.opinions, z_old)
        prior = np.where(model.gallery.seen, 0.0, density.config.unseen)
        exponents = fit_exponents(*both, np.asarray(density.known[...]), prior, label)
        new.mdn_params = model.mdn_params | {"exponents": exponents}
    [scores] = in_parts(new, lambda *given: (mdn.candidate_scores(*given),), z_old)
    new.calibration = float(calibrate(scores, label)[0])
    return new


def in_parts(model: KuzushijiTransfer, function, z_old: np.ndarray) -> list[np.ndarray]:
    """Each of the arrays that a function of (density, z_old (n, 64), gallery) gives, from parts."""

    # Parameters are arguments: as constants XLA would spend minutes on folding them.
    @jax.jit
    def compiled(params, gallery, z):
        return function(nnx.merge(model.mdn_graph, params), z, gallery)

    parts = [
        compiled(model.mdn_params, model.gallery, jnp.asarray(z_old[at : at + 256]))
        for at in range(0, len(z_old), 256)
    ]
    return [np.concatenate([np.asarray(p[k]) for p in parts]) for k in range(len(parts[0]))]
