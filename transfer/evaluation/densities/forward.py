"""P(z_new | z_old): its likelihood, its candidates, what its samples show, and whether their spread
is right."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.evaluation.densities.held import Held, held, hits
from transfer.evaluation.judges import fit_image, strokes_image
from transfer.models import mdn, vae
from transfer.stages.decoders import load_decoder
from transfer.stages.drawings import write_drawings
from transfer.stages.encoding import load_mdn, painter, places
from transfer.system.batches import in_batches
from transfer.training import weights

SPREADS = (0.5, 0.9)
DRAWS = 19
"""Draws with which a region of highest density is estimated: of the truth's twenty possible places
among them, ten and eighteen are in the regions of 50 and 90 %."""


def measure(
    folder: Path,
    corpus: Corpus,
    judge,
    split: str = "val",
    limit: int | None = None,
    samples: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """The figures of the density of a runs or weights folder on a split, by name.

    judge: reads pictures of modern kanji (`judges.Judge`, `hog.HogJudge`).
    samples: how many are drawn for each image, as `KuzushijiTransfer.transfer` draws them: at the
    density's own temperature and noise, decoded as they are.

    NLL: nats per dimension of a draw of the true glyph's posterior. candidates: by Bayes' rule with
    the gallery (`anchored`: its weights, whose exponents were fitted on val: `kuzushiji-transfer
    evaluate` has the cross-fitted figure). picture, drawing: whether the judge reads the first
    sample's right; NaN for the drawing if the folder has no decoder. different kanji: among the
    pictures of the samples. inside 50 %, 90 %: share of true z_new inside the density's highest
    region of that probability, estimated by draws at temperature 1; a calibrated spread has .50 and
    .90.

    Raises WeightsError, and DataError if the split has no images.
    """
    density = Density(folder)
    asked = held(folder, corpus, split, density.code_points, density.config.averaged, limit, seed)
    gallery, label = density.gallery, asked.label
    posterior = gallery.mean[label], gallery.log_variance[label]
    truth = np.asarray(vae.sample_z(*posterior, jax.random.key(1)))
    log_prob = density.log_prob(asked.read, truth)
    found = {"NLL a dimension, nats": float(-log_prob.mean() / truth.shape[1])}
    ranks = places(density.candidates(asked.read), label)
    found |= hits("candidates", ranks, (1, 10))
    drawn = density.samples(asked.read, samples, seed)
    return (
        found
        | readings(folder, density, drawn, label, judge, seed)
        | {
            f"inside {100 * share:.0f} %": float(inside.mean())
            for share, inside in spread(density, asked, log_prob, seed).items()
        }
    )


class Density:
    """A trained density P(z_new | z_old) of a folder, compiled. Raises WeightsError."""

    def __init__(self, folder: Path):
        self.graph, self.params, self.gallery, self.code_points, sharp = load_mdn(folder)
        self.config = nnx.merge(self.graph, self.params).config
        # As `KuzushijiTransfer` has it.
        sharp = sharp if self.config.density == "anchored" else 1.0
        self.temperature = self.config.temperature / sharp
        merged = lambda params: nnx.merge(self.graph, params)
        self._log_prob = jax.jit(lambda p, g, z, x: mdn.log_prob(merged(p), z, x, g))
        self._scores = jax.jit(lambda p, g, z: mdn.candidate_scores(merged(p), z, g))

        def draw(p, g, z, keys, temperature, noise):
            density = merged(p)
            one = lambda z, key: mdn.sample(density, z[None], g, key, temperature, noise)[0]
            return jax.vmap(one)(z, jax.random.wrap_key_data(keys))

        self._draw = jax.jit(draw, static_argnums=(4, 5))

    def log_prob(self, z_old: np.ndarray, z_new: np.ndarray) -> np.ndarray:
        """Log densities (n,) of z_new (n, 64) given z_old (n, 64)."""
        ask = lambda part: self._log_prob(self.params, self.gallery, *part)
        return in_batches(ask, (z_old, z_new), (256,))

    def candidates(self, z_old: np.ndarray) -> np.ndarray:
        """Log probabilities (n, G) of the gallery's kanji."""
        return in_batches(lambda z: self._scores(self.params, self.gallery, z), z_old, (32,))

    def samples(
        self,
        z_old: np.ndarray,
        number: int,
        seed: int,
        temperature: float | None = None,
        noise: float | None = None,
    ) -> np.ndarray:
        """`number` samples of z_new for each z_old, (n, number, 64). temperature, noise: [the
        density's]."""
        temperature = self.temperature if temperature is None else temperature
        z = np.repeat(z_old, number, 0)
        keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), len(z))))
        draw = lambda part: self._draw(self.params, self.gallery, *part, temperature, noise)
        return in_batches(draw, (z, keys), (256,)).reshape(len(z_old), number, -1)

    def draws(self, z_old: np.ndarray, number: int, seed: int) -> np.ndarray:
        """Draws from the density itself, (n, number, 64): at temperature 1, with all its noise."""
        z = self.samples(z_old, number, seed, 1.0, 1.0)
        if self.config.density != "anchored":
            return z
        # A sample is an anchor's mean; a draw is one of the anchor's posterior.
        nearest = lambda part: mdn.gallery_log_density(part, self.gallery).argmax(-1)
        place = in_batches(jax.jit(nearest), z.reshape(-1, z.shape[-1]), (256,))
        posterior = self.gallery.mean[place], self.gallery.log_variance[place]
        return np.asarray(vae.sample_z(*posterior, jax.random.key(seed + 1))).reshape(z.shape)


def readings(
    folder: Path,
    density: Density,
    drawn: np.ndarray,
    label: np.ndarray,
    judge,
    seed: int,
) -> dict[str, float]:
    """How the judge reads pictures and drawings of samples (n, S, 64)."""
    flat = drawn.reshape(-1, drawn.shape[-1])
    pictures = painter(folder)(flat)
    answers, right = read(judge, [fit_image(p) for p in pictures], density.code_points, label)
    different = [len(set(row)) for row in answers.reshape(drawn.shape[:2]).tolist()]
    found = {
        "picture": float(right.reshape(drawn.shape[:2])[:, 0].mean()),
        "drawing": float("nan"),
        f"different kanji of {drawn.shape[1]}": float(np.mean(different)),
    }
    if weights.exists(folder, "sketch_rnn"):
        decoder, first = load_decoder(folder), pictures.reshape(*drawn.shape[:2], 64, 64)[:, 0]
        keys = jax.random.split(jax.random.key(seed + 2), len(first))
        keys = np.asarray(jax.random.key_data(keys))
        temperature = decoder.config.temperature
        strokes, _ = write_drawings(decoder, drawn[:, 0], first, keys, temperature)
        images = [strokes_image(s) for s in strokes]
        found["drawing"] = float(read(judge, images, density.code_points, label)[1].mean())
    return found


def read(judge, images: list[np.ndarray], code_points: np.ndarray, label: np.ndarray):
    """The judge's answers (n,), code points or -1 for a blank, and which are right, (n,) bool.

    label: (N,), places in code_points. Several images of one label follow one another.
    """
    images = np.stack(images)
    answers = judge.classes[judge.log_probabilities(images).argmax(1)]
    answers = np.where(images.any((1, 2)), answers, -1)
    return answers, answers == np.repeat(code_points[label], len(images) // len(label))


def spread(
    density: Density, asked: Held, log_prob: np.ndarray, seed: int
) -> dict[float, np.ndarray]:
    """Share -> (N,) bool, whether the true z_new lies in the region of highest density that holds
    this share of the density's own draws.

    log_prob: (N,), of the true z_new.
    """
    z = density.draws(asked.read, DRAWS, seed + 3)
    given = np.repeat(asked.read, DRAWS, 0)
    own = density.log_prob(given, z.reshape(-1, z.shape[-1])).reshape(len(z), DRAWS)
    above = (own > log_prob[:, None]).sum(1)
    return {share: above < share * (DRAWS + 1) for share in SPREADS}
