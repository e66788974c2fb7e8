"""Is it a Kuzushiji kanji at all, and is the reading sure? An image's own ink and the old VAE's
view of it lead to one verdict.

`familiarity` is a small network on about a hundred numbers. They describe the ink (how much, how
thick, how many pieces, …) and how well the old VAE knows it (what its picture loses, how far its
latent and features are from those of the training images, and in which direction). Neither the
candidates nor their probabilities enter, so that a rare kanji is not mistaken for something
foreign. `experiments/fit_acceptance.py` fits it to one set of weights and leaves it beside them as
`acceptance.safetensors`. Without it the verdict depends on the probability alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from pathlib import Path

import jax
import numpy as np
from scipy import ndimage

from transfer.inference import confidence
from transfer.models import vae
from transfer.training import weights

SURE = 0.6
"""Probability of the best candidate from which a reading is "sure", if no level was fitted."""
FAMILIAR = 0.5
"""Familiarity below which an image is "not a kanji". The fitted network is shifted so that this is
its border."""
KANA = 0.5
"""Probability of a hiragana from which an image is "kana"."""
INK, FEWEST, MOST = 77, 16, 0.9
"""An image with fewer than FEWEST pixels of at least INK, or with more than the share MOST of them,
shows no character, whatever the models say."""
FILE = "acceptance"
INK_NUMBERS = 24
"""Numbers of `ink_numbers`."""


def signals(old: vae.VAE, images: jax.Array) -> dict[str, jax.Array]:
    """What the old VAE says of images (B, 64, 64) float32 in [0, 1], by name.

    old: (B, 64, 64), its pictures.
    features: (B, F), before the posterior.
    z_old, log_variance: (B, 64), the posterior.
    """
    logits, (mean, log_variance) = vae.decode_mean(old, images)
    # XLA runs the encoder once for both.
    return {
        "old": jax.nn.sigmoid(logits),
        "features": old.encoder(images),
        "z_old": mean,
        "log_variance": log_variance,
    }


def ink_numbers(images: np.ndarray) -> np.ndarray:
    """(N, 64, 64) uint8 -> (N, 24) float32, which describe the ink of each image."""
    return np.array(
        [_ink_numbers(image.astype(np.float32) / 255) for image in images], np.float32
    ).reshape(-1, INK_NUMBERS)


def _ink_numbers(ink: np.ndarray) -> list[float]:
    mask = ink > 0.5
    area = max(int(mask.sum()), 1)
    labels, blobs = ndimage.label(mask, np.ones((3, 3)))
    largest = np.bincount(labels.ravel())[1:].max(initial=0)
    outline = max(int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()), 1)
    grey = (ink > 0.1) & (ink < 0.9)
    y, x = np.nonzero(mask) if mask.any() else (np.zeros(1), np.zeros(1))
    depth = ndimage.distance_transform_edt(mask)
    ridge = (
        depth[(depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))]
        if mask.any()
        else np.zeros(1)
    )
    down, right = np.gradient(ndimage.gaussian_filter(ink, 1.0))
    slope = np.hypot(down, right)
    total = float(slope.sum()) + 1e-6
    doubled = 2 * np.arctan2(down, right)  # the direction of an edge, whichever side is dark
    share = (
        np.bincount(
            (doubled % (2 * np.pi) / (2 * np.pi) * 8).astype(int).ravel() % 8, slope.ravel(), 8
        )
        / total
    )
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return [
        ink.mean(),
        mask.mean(),
        grey.mean(),
        grey.sum() / outline,
        np.log1p(blobs),
        np.log1p(ndimage.label(~mask)[1]),
        largest / area,
        2 * area / outline,
        np.log(outline),
        ridge.mean(),
        ridge.std(),
        ridge.max(),
        np.ptp(y) / 63,
        np.ptp(x) / 63,
        (slope * np.cos(doubled)).sum() / total,
        (slope * np.sin(doubled)).sum() / total,
        share.max(),
        -(share * np.log(share + 1e-9)).sum(),
        border.mean(),
        x.std() / 16,
        y.std() / 16,
        (x.mean() - 31.5) / 16,
        (y.mean() - 31.5) / 16,
        depth.sum() / area,
    ]


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """The fitted rule.

    arrays: see `describe` and `score`; empty if nothing was fitted.
    sure: probability of the best candidate from which a reading is "sure".
    confidence: parameters of `confidence.confident`; empty if nothing was fitted.
    """

    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sure: float = SURE
    confidence: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, *params) -> Acceptance:
        """The rule in a weights or runs folder, if there is one that was fitted to these
        parameters; otherwise the plain one.

        Warns if the file belongs to other weights. Raises WeightsError if it is damaged.
        """
        if not weights.exists(folder, FILE):
            return cls()
        path = weights.find(folder, FILE)
        _, arrays, described = weights.load(path)
        if described["config"].get("weights") != digest(*params):
            warnings.warn(
                f"{path}: was fitted to other weights, so it is not used; "
                f"run experiments/fit_acceptance.py --weights {folder}",
                stacklevel=3,
            )
            return cls()
        own = {k: v for k, v in arrays.items() if not k.startswith(confidence.PREFIX)}
        theirs = {k.removeprefix(confidence.PREFIX): v for k, v in arrays.items() if k not in own}
        return cls(own, float(described["config"]["sure"]), theirs)

    def save(self, path: Path, report: dict, *params) -> None:
        """Write the file, whole or not at all.

        report: what was measured, which is kept in the file's metadata.
        params: those that the rule was fitted to.
        """
        described = {"config": {"sure": self.sure, "weights": digest(*params)}, "report": report}
        theirs = {confidence.PREFIX + name: value for name, value in self.confidence.items()}
        weights.save(path, {}, self.arrays | theirs, described, np.float16)

    def describe(self, images: np.ndarray, seen: dict[str, np.ndarray]) -> np.ndarray:
        """(N, 34 + axes) float32: `ink_numbers` of images (N, 64, 64) uint8, ten numbers on how
        well the old VAE knows them (`seen`: `signals`), and its features along their main axes.

        Arrays: z_mean (64,), z_whiten (64, 64), feature_mean (F,), feature_axes (F, axes),
        feature_scale (axes,), of training images.
        """
        knows, inside = known(self.arrays, images.astype(np.float32) / 255, seen)
        return np.concatenate([ink_numbers(images), knows, inside], 1).astype(np.float32)

    def familiarity(self, images: np.ndarray, seen: dict[str, np.ndarray]) -> np.ndarray:
        """(N,) float32 in [0, 1], how much images are like Kuzushiji kanji; NaN if nothing was
        fitted. Arguments are as in `describe`."""
        if not self.arrays:
            return np.full(len(images), np.nan, np.float32)
        return 1 / (1 + np.exp(-np.clip(score(self.arrays, self.describe(images, seen)), -30, 30)))

    def verdict(
        self,
        image: np.ndarray,
        familiarity: float,
        probability: float,
        sure: float | None = None,
        kana: float = 0.0,
    ) -> str:
        """One of "not a kanji", "kana", "not sure" and "sure".

        image: (64, 64) uint8.
        probability: the best candidate's.
        sure: the level from which a reading is sure; None takes the fitted one.
        kana: the probability of a hiragana.
        """
        dark = int((image >= INK).sum())
        if dark < FEWEST or dark > MOST * image.size:
            return "not a kanji"
        if kana >= KANA:
            return "kana"
        if familiarity < FAMILIAR:
            return "not a kanji"
        return "sure" if probability >= (self.sure if sure is None else sure) else "not sure"


def known(arrays: dict, images, seen: dict, numpy=np) -> tuple:
    """How well the old VAE knows images (N, 64, 64) float32 in [0, 1], and its features along their
    main axes: (N, 10) and (N, axes).

    arrays, seen: see `Acceptance.describe`. numpy: numpy, or jax.numpy for a graph.
    """
    painted = numpy.clip(seen["old"], 1e-6, 1 - 1e-6)
    lost, edges = confidence.lost_and_edges(images, painted, numpy)
    alike = (images * painted).sum((1, 2)) / numpy.sqrt(
        (images**2).sum((1, 2)) * (painted**2).sum((1, 2)) + 1e-9
    )
    z, log_variance, features = seen["z_old"], seen["log_variance"], seen["features"]
    from_z = (((z - arrays["z_mean"]) @ arrays["z_whiten"]) ** 2).sum(1)
    centred = features - arrays["feature_mean"]
    inside = centred @ arrays["feature_axes"]
    outside = numpy.sqrt(numpy.maximum((centred**2).sum(1) - (inside**2).sum(1), 0.0))
    from_features = ((inside / arrays["feature_scale"]) ** 2).sum(1)
    kl = 0.5 * (numpy.exp(log_variance) + z**2 - 1 - log_variance).sum(1)
    knows = [
        numpy.log1p(lost),
        lost / edges,
        alike,
        numpy.log1p(from_z),
        numpy.log1p(from_features),
        numpy.log1p(outside),
        numpy.linalg.norm(features, axis=1) / 30,
        kl / 100,
        log_variance.mean(1),
        numpy.linalg.norm(z, axis=1) / 10,
    ]
    return numpy.stack(knows, 1), inside / arrays["feature_scale"]


def score(network: dict, numbers, numpy=np):
    """The network: numbers (N, D) of `describe` -> (N,) log-odds of a kanji.

    Arrays centre, scale (D,), in1 (D, H), bias1 (H,), out (H,), bias2 (). numpy: as in `known`.
    """
    hidden = (numbers - network["centre"]) / network["scale"] @ network["in1"] + network["bias1"]
    return numpy.maximum(hidden, 0.0) @ network["out"] + network["bias2"]


def digest(*params) -> str:
    """Short checksum of parameter trees.

    It covers the beginning of every array, which is quick and enough to tell two trainings apart.
    """
    found = hashlib.sha256()
    # Arrays go by the order of their names, those that they had when the first rules were fitted.
    earlier = {now: old for old, now in weights.RENAMED_PARAMETERS.items()}
    for leaf in jax.tree.leaves(weights.renamed(params, earlier)):
        found.update(np.asarray(leaf, np.float32).ravel()[:256].tobytes())
    return found.hexdigest()[:16]
