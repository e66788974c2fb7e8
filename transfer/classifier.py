"""Residual classifier: a 64x64 image of one character becomes a probability for every character.

Not a part of the transfer. The evaluation trains two of them: the *recogniser*, which names modern drawings, and the *baseline*,
which names Kuzushiji images so that its answer can be looked up in KanjiVG.
"""
from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from transfer.mdn import unit
from transfer.vae import ResidualEncoder


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """Model, loss and training settings. Use a preset and override fields."""

    encoder: tuple[int, int, int] = (40, 112, 256)
    """Channels at 16x16, 8x8 and 4x4."""
    encoder_blocks: tuple[int, int, int] = (1, 1, 1)
    hidden: int = 256
    label_smoothing: float = 0.1
    uniformity: float = 5.0
    """Weight of the squared length of the batch's mean feature."""
    warp: float = 1.0
    """Strength of the image augmentation (`transfer.augment.warp`)."""
    balance: float = 0.5
    """A class of n images is drawn with weight n**(1 - balance)."""
    views: int = 8
    """Renderings of every glyph with other strokes and widths that the recogniser learns from."""
    steps: int = 4_000
    batch: int = 128
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-2
    ema: float = 0.998

    @classmethod
    def recogniser(cls) -> "ClassifierConfig":
        """Of modern glyphs; about a quarter of an hour on two CPU cores."""
        return cls(encoder=(32, 96, 192), steps=3_000, label_smoothing=0.02)

    @classmethod
    def baseline(cls) -> "ClassifierConfig":
        """Of Kuzushiji images; about a quarter of an hour on two CPU cores."""
        return cls(steps=2_600)

    @classmethod
    def tiny(cls) -> "ClassifierConfig":
        """For the sample corpus: seconds."""
        return cls(encoder=(32, 48, 64), hidden=96, views=4, steps=300, batch=64, warmup=30, ema=0.98, label_smoothing=0.02)


class Classifier(nnx.Module):
    """Images (B, 64, 64) float32 in [0, 1], ink 1 -> logits (B, classes)."""

    def __init__(self, config: ClassifierConfig, classes: int, rngs: nnx.Rngs):
        self.encoder = ResidualEncoder(config, rngs)
        self.prototypes = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (classes, config.hidden)))
        self.log_sharpness = nnx.Param(jnp.log(jnp.float32(20.0)))

    def features(self, images: jax.Array) -> jax.Array:
        """(B, 64, 64) -> (B, hidden) of length 1."""
        return unit(self.encoder.dense(self.encoder.trunk(images)))

    def read(self, features: jax.Array) -> jax.Array:
        """(B, hidden) -> (B, classes): cosines with the prototypes, sharpened."""
        return jnp.exp(self.log_sharpness[...]) * (features @ unit(self.prototypes[...]).T)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.read(self.features(images))


def loss(model: Classifier, config: ClassifierConfig, images: jax.Array, labels: jax.Array):
    """Cross-entropy with smoothed labels, mean over the batch in nats, + `uniformity` * |mean feature|²; and its parts.

    Features of a young network are nearly one and the same vector, and with thousands of classes it stays so for a thousand steps;
    the second term drives them apart. images (B, 64, 64) float32 in [0, 1]; labels (B,) int32.
    """
    features = model.features(images)
    logits = model.read(features)
    target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), config.label_smoothing)
    value = optax.softmax_cross_entropy(logits, target).mean()
    together = (features.mean(0) ** 2).sum()
    return value + config.uniformity * together, {"cross_entropy": value, "together": together,
                                                  "accuracy": (logits.argmax(-1) == labels).mean()}
