"""Residual classifier: a 64x64 image of one character becomes a probability for every character.

It is not part of the transfer. The evaluation trains two of them: the *recogniser*, which names
modern drawings, and the *baseline*, which names Kuzushiji images so that its answer can be looked
up in KanjiVG.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from transfer.models.layers.residual import EPSILON, ResidualEncoder, check_levels
from transfer.system import settings
from transfer.system.settings import Amount, BelowOne, Count, Natural, Positive, Share, WarmUp


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """Model, loss and training settings. Use a preset and override fields."""

    encoder: tuple[Count, ...] = (32, 128, 256)
    """Channels at 16x16, 8x8 and 4x4."""
    encoder_blocks: tuple[Natural, ...] = (0, 2, 1)
    rectified_stem: bool = True
    hidden: Count = 256
    label_smoothing: BelowOne = 0.1
    warp: Amount = 1.0
    """Strength of the image augmentation (`augment.warp`)."""
    balance: Share = 0.5
    """A class of n images is drawn with weight n**(1 - balance)."""
    views: Count = 12
    """Renderings of every glyph, with varied strokes and widths, for the recogniser's training."""
    steps: Count = 4_000
    batch: Count = 128
    learning_rate: Positive = 3e-3
    warmup: WarmUp = 100
    weight_decay: Amount = 1e-2
    ema: BelowOne = 0.998

    def __post_init__(self):
        """Raise ValueError for settings that are not allowed."""
        settings.check(self)
        check_levels(self.encoder, self.encoder_blocks)

    @classmethod
    def recogniser(cls) -> ClassifierConfig:
        """For modern glyphs; about 25 minutes on two CPU cores."""
        return cls(steps=3_200, warp=0.5, label_smoothing=0.02)

    @classmethod
    def baseline(cls) -> ClassifierConfig:
        """For Kuzushiji images; about 20 minutes on two CPU cores."""
        return cls(steps=1_800)

    @classmethod
    def tiny(cls) -> ClassifierConfig:
        """For the sample corpus: seconds."""
        return cls(
            encoder=(16, 32, 64),
            encoder_blocks=(0, 1, 1),
            hidden=96,
            views=4,
            steps=300,
            batch=64,
            warmup=30,
            ema=0.98,
            label_smoothing=0.02,
        )


class Classifier(nnx.Module):
    """Images (B, 64, 64) float32 in [0, 1], ink 1, become features (B, hidden), and these logits
    (B, classes).

    Features are standardised before they are read, as in batch normalisation (arXiv 1502.03167).
    Without it a network with thousands of classes stays at chance for a thousand steps, because at
    first all its features are nearly the same vector.
    """

    def __init__(self, config: ClassifierConfig, classes: int, rngs: nnx.Rngs):
        self.encoder = ResidualEncoder(
            config.encoder,
            config.encoder_blocks,
            config.hidden,
            rngs,
            rectified_stem=config.rectified_stem,
        )
        self.scale = nnx.Param(jnp.ones(config.hidden))
        self.out = nnx.Linear(
            config.hidden, classes, kernel_init=nnx.initializers.normal(0.02), rngs=rngs
        )

    def features(self, images: jax.Array) -> jax.Array:
        """Features (B, hidden) of images (B, 64, 64)."""
        return self.encoder.dense(self.encoder.trunk(images))

    def read(self, features: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Logits (B, classes) of features (B, hidden).

        mean, variance: (hidden,) each, with which the features are standardised.
        """
        return self.out((features - mean) * jax.lax.rsqrt(variance + EPSILON) * self.scale[...])


def statistics(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance (hidden,) of features (B, hidden).

    In training they are the batch's own; later they are those of a large batch of training images.
    """
    return features.mean(0), features.var(0)


def loss(model: Classifier, config: ClassifierConfig, images: jax.Array, labels: jax.Array):
    """The cross-entropy with smoothed labels, mean over the batch in nats, and its parts.

    images: (B, 64, 64) float32 in [0, 1], ink 1.
    labels: (B,) int32.
    """
    features = model.features(images)
    logits = model.read(features, *statistics(features))
    target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), config.label_smoothing)
    value = optax.softmax_cross_entropy(logits, target).mean()
    return value, {"cross_entropy": value, "accuracy": (logits.argmax(-1) == labels).mean()}
