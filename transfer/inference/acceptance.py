"""Is it a Kuzushiji kanji at all, and is the reading sure? An image's own ink and what the old VAE
makes of it become one verdict.

`familiarity` is a small network on about a hundred numbers: how the ink lies (how much, how thick,
how many pieces, …) and how well the old VAE knows it (what is lost in its picture, how far its
latent and features are from those of the training images, and where). Neither the candidates nor
their probabilities enter, so that a rare kanji is not taken for a foreign thing.
`experiments/fit_acceptance.py` fits it to one set of weights and leaves it beside them as
`acceptance.safetensors`; without it the verdict goes by the probability alone.
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
"""Probability of the best candidate from which a reading is "sure", where no fitted level is
there."""
FAMILIAR = 0.5
"""Familiarity below which an image is "not a kanji"; the fitted network is shifted so that this is
its border."""
KANA = 0.5
"""Probability of a hiragana from which an image is "kana"."""
INK, FEWEST, MOST = 77, 16, 0.9
"""Less than FEWEST pixels of at least INK, or more than the share MOST of them, are no character
whatever the models say."""
FILE = "acceptance"


def signals(old: vae.VAE, images: jax.Array) -> dict[str, jax.Array]:
    """What the old VAE makes of images (B, 64, 64) float32 in [0, 1], by name.

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
    """(N, 64, 64) uint8 -> (N, 24) float32: how the ink of each image lies."""
    return np.array(
        [_ink_numbers(image.astype(np.float32) / 255) for image in images], np.float32
    ).reshape(-1, 24)


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

    arrays: see `describe` and `score`; empty where nothing was fitted.
    sure: probability of the best candidate from which a reading is "sure".
    confidence: parameters of `confidence.confident`; empty where nothing was fitted.
    """

    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sure: float = SURE
    confidence: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, *params) -> Acceptance:
        """The rule in a weights or runs folder, if there is one that was fitted to these
        parameters; otherwise the plain one.

        Warns where the file belongs to other weights. Raises WeightsError where it is damaged.
        """
        if not weights.exists(folder, FILE):
            return cls()
        path = weights.find(folder, FILE)
        _, arrays, described = weights.load(path)
        if described["config"].get("weights") != digest(*params):
            warnings.warn(
                f"{path}: was fitted to other weights and is not used; "
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
        """(N, 34 + axes) float32: `ink_numbers` of images (N, 64, 64) uint8, ten of how well the
        old VAE knows them (`seen`: `signals`), and its features along their main axes.

        Arrays: z_mean (64,), z_whiten (64, 64), feature_mean (F,), feature_axes (F, axes),
        feature_scale (axes,), of training images.
        """
        ink = images.astype(np.float32) / 255
        painted = np.clip(seen["old"].astype(np.float32), 1e-6, 1 - 1e-6)
        known = np.clip(ink, 1e-6, 1 - 1e-6)
        # Cross-entropy less the image's own entropy: 0 for a perfect picture, however grey.
        lost = (
            (ink * np.log(known / painted) + (1 - ink) * np.log((1 - known) / (1 - painted)))
            .sum((1, 2))
            .clip(0)
        )
        edges = np.abs(np.diff(ink, axis=1)).sum((1, 2)) + np.abs(np.diff(ink, axis=2)).sum((1, 2))
        alike = (ink * painted).sum((1, 2)) / np.sqrt(
            (ink**2).sum((1, 2)) * (painted**2).sum((1, 2)) + 1e-9
        )
        z, log_variance, features = seen["z_old"], seen["log_variance"], seen["features"]
        from_z = (((z - self.arrays["z_mean"]) @ self.arrays["z_whiten"]) ** 2).sum(1)
        centred = features - self.arrays["feature_mean"]
        inside = centred @ self.arrays["feature_axes"]
        outside = np.sqrt(np.maximum((centred**2).sum(1) - (inside**2).sum(1), 0))
        from_features = ((inside / self.arrays["feature_scale"]) ** 2).sum(1)
        kl = 0.5 * (np.exp(log_variance) + z**2 - 1 - log_variance).sum(1)
        knows = [
            np.log1p(lost),
            lost / np.maximum(edges, 20),
            alike,
            np.log1p(from_z),
            np.log1p(from_features),
            np.log1p(outside),
            np.linalg.norm(features, axis=1) / 30,
            kl / 100,
            log_variance.mean(1),
            np.linalg.norm(z, axis=1) / 10,
        ]
        return np.concatenate(
            [ink_numbers(images), np.stack(knows, 1), inside / self.arrays["feature_scale"]], 1
        ).astype(np.float32)

    def familiarity(self, images: np.ndarray, seen: dict[str, np.ndarray]) -> np.ndarray:
        """(N,) float32 in [0, 1], how much images are like Kuzushiji kanji; NaN where nothing was
        fitted. Arguments as in `describe`."""
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


def score(network: dict, numbers: np.ndarray) -> np.ndarray:
    """The network: numbers (N, D) of `describe` -> (N,) log-odds of a kanji.

    Arrays centre, scale (D,), in1 (D, H), bias1 (H,), out (H,), bias2 ().
    """
    hidden = (numbers - network["centre"]) / network["scale"] @ network["in1"] + network["bias1"]
    return np.maximum(hidden, 0) @ network["out"] + network["bias2"]


def digest(*params) -> str:
    """Short checksum of parameter trees.

    It is of the beginning of every array: enough to tell two trainings apart, and quick.
    """
    found = hashlib.sha256()
    # Arrays go by the order of their names, those that they had when the first rules were fitted.
    earlier = {now: old for old, now in weights.RENAMED_PARAMETERS.items()}
    for leaf in jax.tree.leaves(weights.renamed(params, earlier)):
        found.update(np.asarray(leaf, np.float32).ravel()[:256].tobytes())
    return found.hexdigest()[:16]
