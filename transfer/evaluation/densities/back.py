"""P(z_old | z_new): whether it covers the several forms of a class, whether a classifier can read
what it paints, and how well it reads by Bayes' rule."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.evaluation.densities.forward import Density
from transfer.evaluation.densities.held import Held, held, hits
from transfer.inference.brush import Brush
from transfer.models import mdn
from transfer.stages.encoding import load_vae, old_latents, places, two_halves
from transfer.system.batches import in_batches

SHARES = np.linspace(0.0, 1.0, 21)


def measure(
    folder: Path,
    corpus: Corpus,
    classifier=None,
    split: str = "val",
    limit: int | None = None,
    samples: int = 12,
    seed: int = 0,
    share: float | None = None,
) -> dict[str, float]:
    """The figures of the density back of a runs or weights folder on a split, by name.

    classifier: reads Kuzushiji images (`judges.Judge`); trained on real ones only, or its figures
    say little. None leaves these figures out. They leave out characters that it does not know.
    samples: how many are drawn for each kanji at the density's temperature.
    share: the weight of the density back in the product of both. None fits it on the half of the
    split that does not contain the image.

    NLL: nats a dimension of a draw of the image's posterior, given its kanji's z_new. covered: see
    `coverage`. painted: how often the classifier reads the paintings right; images: the same for
    the held-out images themselves.
    back: candidates by Bayes' rule; look-up: by the nearest sample of any kanji; both: by the
    product with the folder's density P(z_new | z_old).

    Raises WeightsError, and DataError if the split has no images.
    """
    graph, params, _, _ = load_vae(folder, "old")
    brush, forward = Brush(folder, graph, params), Density(folder)
    points = brush.characters
    asked = held(folder, corpus, split, points, forward.config.averaged, limit, seed)
    label, ask = asked.label, compiled(brush)
    given = brush.z_new[label]
    log_prob = in_batches(
        lambda part: ask["log_prob"](brush.params, brush.gallery, *part),
        (asked.drawn(), given),
        (256,),
    )
    found = {"NLL a dimension, nats": float(-log_prob.mean() / given.shape[1])}
    painted = painted_of(brush, np.arange(len(points)), samples, seed)
    found |= coverage(folder, corpus, asked, points, painted.z_old)
    if classifier is not None:
        found |= read(classifier, asked, points, painted.pictures)
    back = in_batches(lambda z: ask["scores"](brush.params, brush.gallery, z), asked.mean, (32,))
    found |= hits("back", places(back, label))
    forms = painted.z_old.reshape(len(points), samples, -1)
    found |= hits("look-up", places(-nearest(asked.mean, forms), label))
    both, share = combined(forward.candidates(asked.read), back, label, share)
    return found | hits("both", places(both, label)) | {"share of the way back": share}


def compiled(brush: Brush) -> dict:
    """Its log densities and candidates as compiled functions of (params, gallery, …)."""
    merged = lambda params: nnx.merge(brush.graph, params)
    return {
        "log_prob": jax.jit(lambda p, g, z, x: mdn.log_prob(merged(p), z, x, g)),
        "scores": jax.jit(lambda p, g, z: mdn.candidate_scores(merged(p), z, g)),
    }


def painted_of(brush: Brush, kanji: np.ndarray, samples: int, seed: int):
    """`samples` paintings of each kanji (k,) by the brush, one after another."""
    keys = jax.random.split(jax.random.key(seed), len(kanji) * samples)
    return brush.paint(np.repeat(brush.z_new[kanji], samples, 0), keys)


def coverage(
    folder: Path, corpus: Corpus, asked: Held, points: np.ndarray, samples: np.ndarray
) -> dict[str, float]:
    """Share of held-out images that have a sample of their kanji as near as their nearest training
    image, by the distance of z_old (posterior means, 64 dimensions).

    samples: (G * S, 64) z_old, S of each kanji of points (G,). Beside it is the same share with the
    samples of the next kanji in the gallery, which shows what any samples would cover. NaN if no
    held-out image's kanji has training images.
    """
    trained, _, of = old_latents(folder, corpus, "train", points)
    order = np.argsort(of, kind="stable")
    start = np.searchsorted(of[order], np.arange(len(points) + 1))
    own = samples.reshape(len(points), -1, samples.shape[-1])
    covered, chance = [], []
    for z, kanji in zip(asked.mean, asked.label):
        mates = trained[order[start[kanji] : start[kanji + 1]]]
        if not len(mates):
            continue
        limit = np.linalg.norm(mates - z, axis=1).min()
        near = lambda k: np.linalg.norm(own[k] - z, axis=1).min() <= limit
        covered.append(near(kanji))
        chance.append(near((kanji + 1) % len(points)))
    mean = lambda values: float(np.mean(values)) if values else float("nan")
    return {"covered": mean(covered), "covered by another kanji's": mean(chance)}


def read(classifier, asked: Held, points: np.ndarray, pictures: np.ndarray) -> dict[str, float]:
    """How a classifier reads the paintings of the held-out images' kanji, and these images.

    pictures: (G * S, 64, 64) uint8, S of each kanji of points (G,).
    """
    known = np.isin(points[asked.label], classifier.classes)
    kanji = np.unique(asked.label[known])
    own = pictures.reshape(len(points), -1, 64, 64)[kanji]
    where = lambda kanji: np.searchsorted(classifier.classes, points[kanji])
    none = np.zeros(0, int)

    def ranks(images, label):
        return places(classifier.log_probabilities(images), label) if len(images) else none

    painted = ranks(own.reshape(-1, 64, 64), np.repeat(where(kanji), own.shape[1]))
    images = ranks(asked.images[known], where(asked.label[known]))
    return hits("painted", painted, (1, 10)) | hits("images", images, (1, 10))


def nearest(z: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Squared distance (N, G) of each z (N, 64) to the nearest of a kanji's samples (G, S, 64)."""
    flat = samples.reshape(-1, samples.shape[-1])
    square, out = (flat**2).sum(1), np.empty((len(z), len(samples)), np.float32)
    for at in range(0, len(z), 64):
        part = z[at : at + 64]
        away = (part**2).sum(1)[:, None] + square - 2 * part @ flat.T
        out[at : at + 64] = away.reshape(len(part), *samples.shape[:2]).min(-1)
    return out


def combined(
    forward: np.ndarray, back: np.ndarray, label: np.ndarray, share: float | None
) -> tuple[np.ndarray, float]:
    """Log probabilities (N, G) of forward^(1 - share) * back^share, not normalised, and the share.

    share: None fits it: each half of the images gets the one that suits the other half best, and
    the mean of both is returned.
    """
    mixed = lambda rows, a: (1 - a) * forward[rows] + a * back[rows]
    if share is not None:
        return mixed(slice(None), share), share

    def cost(rows, a):
        scores = mixed(rows, a)
        own = scores[np.arange(len(rows)), label[rows]]
        return -float(np.mean(own - np.logaddexp.reduce(scores, 1)))

    out, chosen = np.empty_like(forward), []
    halves = two_halves(len(label))
    for mine, other in zip(halves, halves[::-1]):
        best = min(SHARES, key=lambda a: cost(other, a)) if len(other) else 0.5
        out[mine] = mixed(mine, best)
        chosen.append(best)
    return out, float(np.mean(chosen))
