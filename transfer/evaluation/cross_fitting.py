"""Keeps numbers that were chosen on val from being reported on the same images of val.

These numbers are the density's exponents and the confidence. For each half of val they are fitted
on the other half; the rest of the model stays as shipped.
"""

from __future__ import annotations

import copy

import jax
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.inference import confidence
from transfer.inference.networks.reading import IMAGES
from transfer.inference.pipeline import KuzushijiTransfer
from transfer.models import mdn, vae
from transfer.reading_aids import forms_of
from transfer.stages import autoencoders, encoding
from transfer.stages.density import calibrate, fit_exponents, ranked
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
    model: KuzushijiTransfer, corpus: Corpus, images: np.ndarray, code_points: np.ndarray
) -> KuzushijiTransfer:
    """A copy of the model whose exponents and confidence are fitted on these images.

    The confidence is also fitted on what training left out of the corpus.

    images: (N, 64, 64) uint8, ink 255 on paper 0.
    code_points: (N,) int, the kanji that each shows; all are in the model's gallery.
    """
    density = nnx.merge(model.mdn_graph, model.mdn_params)
    label = np.searchsorted([ord(c) for c in model.characters], code_points)

    @jax.jit
    def read(params, images):
        old = nnx.merge(model.old_graph, params)
        return vae.averaged_z(old, images, density.config.averaged)

    z_old = in_batches(lambda part: read(model.old_params, part), images, IMAGES[-1:])
    new = copy.copy(model)
    if density.config.density == "anchored" and density.config.direct:
        both = in_parts(model, mdn.opinions, z_old)
        prior = np.where(model.gallery.seen, 0.0, density.config.unseen)
        exponents = fit_exponents(*both, np.asarray(density.known[...]), prior, label)
        new.mdn_params = model.mdn_params | {"exponents": exponents}
    if model.acceptance.confidence:
        new.confidence = fit_confidence(
            new, [(images, code_points), *left_out(model, corpus).values()]
        )
    else:
        chosen = ranked(density.config, len(z_old))
        [scores] = in_parts(new, lambda *given: (mdn.candidate_scores(*given),), z_old[chosen])
        new.confidence = confidence.plain(float(calibrate(scores, label[chosen])[0]))
    return new


def left_out(model: KuzushijiTransfer, corpus: Corpus) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images (N, 64, 64) uint8 and code points (N,) of the "hands", and of the characters
    ("aside"), that the training of the model's old VAE left out so that something can be fitted to
    them."""
    _, _, arrays, config = encoding.load_vae(model.folder, "old")
    found = autoencoders.hard_examples(corpus, config.aside, arrays["classes"])
    return {k: (images, arrays["classes"][labels]) for k, (images, labels) in found.items()}


def fit_confidence(
    model: KuzushijiTransfer, parts: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Parameters of `confidence.confident`, fitted to images (N, 64, 64) uint8 and code points (N,)
    of several sources, each of which weighs alike."""
    place = {c: n for n, c in enumerate(model.characters)}
    forms = lambda c: [place[f] for f in forms_of(c) if f in place]
    most = 1 + model.mates.shape[1]
    evidence, right, weight = [], [], []
    for images, points in parts:
        rows = [forms(chr(c)) for c in points]
        known = np.flatnonzero([bool(row) for row in rows])
        if len(known):
            evidence.append(model.evidence(np.asarray(images)[known]))
            right += [rows[i] + [-1] * (most - len(rows[i])) for i in known]
            weight.append(np.full(len(known), 1 / len(known)))
    plain, given = (np.concatenate([e[name] for e in evidence]) for name in ("plain", "given"))
    return confidence.fit(
        plain,
        given,
        np.array(right, np.int32),
        np.asarray(model.gallery.seen),
        np.concatenate(weight),
    )


def in_parts(model: KuzushijiTransfer, function, z_old: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the model's density says of any number of images, batch by batch.

    function: (density, z_old (n, 64), gallery) -> a tuple of arrays (n, …).
    z_old: (N, 64) float32.

    Returns the same arrays for all of z_old, (N, …).
    """

    # Parameters are arguments: as constants XLA would spend minutes on folding them.
    @jax.jit
    def compiled(params, gallery, z):
        return function(nnx.merge(model.mdn_graph, params), z, gallery)

    return in_batches(lambda part: compiled(model.mdn_params, model.gallery, part), z_old, (256,))
