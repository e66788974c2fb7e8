"""Convolutional variational autoencoder, from a 64x64 image to a 64-d Gaussian z and back.

The model is Kingma and Welling 2014 (arXiv 1312.6114). It is trained twice, on Kuzushiji images
(`z_old`) and on rasterised KanjiVG (`z_new`). One class has two architectures:

- ``paper`` (`models/paper_vae.py`) is the network of Clanuwat et al. 2018 (arXiv 1812.01718,
  section 4.2) and of World Models, with strided convolutions.
- ``residual`` (`models/layers/residual.py`) is faster, and a linear classifier reads z
  (`recognition`). So z must tell characters apart, and not only describe what they look like.

Images enter as (B, 64, 64) float32 in [0, 1], ink 1. Reconstructions leave as logits of the same
shape. Training minimises `loss`: the negative ELBO with free bits, plus the classifiers' losses.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from transfer.models import augment
from transfer.models.layers.residual import EPSILON, ResidualDecoder, ResidualEncoder, check_levels
from transfer.models.losses import cross_entropy
from transfer.models.paper_vae import GLOROT, PaperDecoder, PaperEncoder
from transfer.system import settings
from transfer.system.settings import Amount, BelowOne, Count, Natural, Part, Positive, Share, WarmUp


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Model, loss and training settings of one VAE. Use a preset and override fields."""

    architecture: Literal["paper", "residual"] = "residual"
    latent: Count = 64
    encoder: tuple[Count, ...] = (40, 112, 256)
    """Channels at 16x16, 8x8 and 4x4, or at 32x32 and these (`residual`)."""
    encoder_blocks: tuple[Natural, ...] = (1, 1, 1)
    """Residual blocks at each of them (`residual`)."""
    norm: Literal["layer", "batch"] = "layer"
    """Normalisation of the encoder (`residual`). "batch" normalises by the batch's statistics in
    training, also after the last layer; `finalize` measures the statistics once afterwards."""
    rectified_stem: bool = False
    """Whether a ReLU follows the encoder's first convolution. Without it, and without blocks at
    16x16, the encoder is linear up to 8x8."""
    decoder: tuple[Count, Count, Count] = (96, 48, 32)
    """Channels at 4x4, 8x8 and 16x16 (`residual`)."""
    decoder_blocks: tuple[Natural, Natural, Natural] = (1, 1, 0)
    hidden: Count = 512
    """Width of the dense layer between feature map and z (`residual`)."""
    kl_floor: Amount = 32.0
    """Free bits: the loss uses max(KL, kl_floor) per example, in nats."""
    recognition: Amount = 500.0
    """Weight of the classifier's cross-entropy besides the ELBO; 0 leaves it out."""
    label_smoothing: BelowOne = 0.0
    decode_every: Count = 1
    """N reconstructs only every N-th image of a batch. This estimates the mean over all, and saves
    the decoder's time."""
    augment: Literal["paper", "photo", "warp", "none"] = "warp"
    """"photo" is "warp", followed by what photographs and crops do to an image. The decoder learns
    to paint the image without these disturbances."""
    warp: Amount = 1.0
    """Strength of the `warp` augmentation; 1 moves ink by about 3 pixels, 0 does not move it."""
    balance: Share = 0.5
    """A class of n images is drawn with weight n**(1 - balance): 0 keeps the published frequencies,
    1 draws all classes alike."""
    fonts: Share = 0.0
    """Share of the old domain's batches from brush fonts (`python -m transfer.data fonts`)."""
    hands: Share = 0.0
    """Share of a batch of the old domain drawn from made hands, if the data folder has them
    (`python -m transfer.data hands`)."""
    kana: bool = False
    """Also learn hiragana, from fonts, made hands, and Kuzushiji-MNIST and -49 if present."""
    aside: Natural = 0
    """Number of the books' rarest classes that are left out, so that probabilities can be fitted on
    unknown characters."""
    components: Amount = 0.0
    """Weight of the cross-entropy of the old domain's components and stroke counts, read linearly
    from z; 0 leaves it out."""
    cooldown: Part = 1.0
    """Share of the steps, at the end, in which the learning rate falls. Below 1 it is constant
    before them, and until then a run may continue with other `steps`."""
    steps: Count = 3_600
    batch: Count = 128
    learning_rate: Positive = 1.5e-3
    warmup: WarmUp = 300
    """Steps of linear warm-up before the cosine decay; -1 keeps the learning rate constant."""
    weight_decay: Amount = 1e-4
    ema: BelowOne = 0.998
    """Decay of the averaged weights that are evaluated and exported; 0 uses the raw ones."""

    def __post_init__(self):
        """Raise ValueError for settings that are not allowed."""
        settings.check(self)
        settings.check_sum(self, "fonts", "hands")
        check_levels(self.encoder, self.encoder_blocks)

    @classmethod
    def paper(cls, domain: str = "old") -> VAEConfig:
        """The authors' program: Adam 1e-3, batch 50, 20,000 steps, classes drawn uniformly, random
        resize and placement."""
        return cls(
            architecture="paper",
            kl_floor=32.0,
            recognition=0.0,
            augment="paper",
            balance=1.0,
            steps=20_000,
            batch=50,
            learning_rate=1e-3,
            warmup=-1,
            weight_decay=0.0,
            ema=0.0,
        )

    @classmethod
    def small(cls, domain: str = "old") -> VAEConfig:
        """About 40 minutes (old) and 11 minutes (new) on two CPU cores."""
        if domain == "old":
            return cls(
                encoder=(32, 64, 128, 256),
                encoder_blocks=(0, 1, 2, 1),
                norm="batch",
                hidden=384,
                decode_every=8,
                recognition=1500.0,
                label_smoothing=0.1,
                balance=0.6,
                fonts=0.15,
                learning_rate=3e-3,
                weight_decay=1e-2,
                steps=5_000,
            )
        return cls(
            encoder=(32, 64, 96),
            encoder_blocks=(0, 1, 1),
            decoder=(256, 96, 48),
            decoder_blocks=(1, 1, 0),
            recognition=3.0,
            warp=0.35,
            balance=1.0,
            batch=64,
            learning_rate=2e-3,
        )

    @classmethod
    def long(cls, domain: str = "old") -> VAEConfig:
        """A day on two CPU cores, half an hour on a GPU: more hands, disturbed like photographs,
        and ten times the images of `small`.

        The new domain's settings are those of `small`.
        """
        if domain == "old":
            return cls(
                encoder=(32, 64, 128, 256),
                encoder_blocks=(0, 1, 2, 1),
                norm="batch",
                hidden=384,
                decoder=(160, 96, 48),
                decoder_blocks=(1, 1, 0),
                decode_every=2,
                recognition=600.0,
                components=20.0,
                label_smoothing=0.1,
                augment="photo",
                warp=1.2,
                balance=0.6,
                fonts=0.25,
                hands=0.2,
                kana=True,
                aside=200,
                learning_rate=3e-3,
                weight_decay=1e-2,
                steps=50_000,
                cooldown=0.3,
                warmup=500,
                ema=0.9995,
            )
        return cls.small(domain)

    @classmethod
    def base(cls, domain: str = "old") -> VAEConfig:
        """For one H100: wider and deeper, about ten minutes for each domain."""
        if domain == "old":
            return dataclasses.replace(
                cls.long(domain),
                encoder=(64, 128, 256, 512),
                encoder_blocks=(0, 2, 3, 2),
                decoder=(256, 128, 64),
                decoder_blocks=(1, 1, 1),
                hidden=1024,
                decode_every=1,
                steps=40_000,
                batch=512,
                warmup=1000,
            )
        return cls(
            encoder=(64, 128, 256),
            encoder_blocks=(1, 2, 2),
            decoder=(512, 256, 128),
            decoder_blocks=(2, 2, 2),
            recognition=3.0,
            warp=0.35,
            balance=1.0,
            steps=30_000,
            batch=512,
            learning_rate=2e-3,
            warmup=1000,
            ema=0.9995,
        )

    @classmethod
    def tiny(cls, domain: str = "old") -> VAEConfig:
        """For the sample corpus: a minute on two CPU cores."""
        return dataclasses.replace(
            cls.small(domain),
            encoder=(32, 64, 64),
            encoder_blocks=(0, 1, 1),
            decoder=(64, 32, 16),
            hidden=128,
            recognition=500.0 if domain == "old" else 3.0,
            decode_every=1,
            learning_rate=1.5e-3,
            steps=600,
            batch=64,
            warmup=50,
            ema=0.98,
        )


def unused(config: VAEConfig, domain: str) -> frozenset[str]:
    """Settings without effect beside the others, in the VAE of a domain ("old" or "new")."""
    names = set()
    if config.architecture == "paper":
        names |= {
            "encoder",
            "encoder_blocks",
            "norm",
            "rectified_stem",
            "decoder",
            "decoder_blocks",
            "hidden",
        }
    if config.augment not in ("warp", "photo"):
        names.add("warp")
    if not config.recognition:
        names.add("label_smoothing")
    if domain == "new":
        names |= {"fonts", "hands", "kana", "aside"}
    return frozenset(names)


# Model --------------------------------------------------------------------------------------------


class VAE(nnx.Module):
    """Encoder, decoder and, if the loss needs them, linear classifiers on z.

    classes: characters that `classifier` tells apart.
    attributes: number of components and stroke counts, which `attributes` reads.
    """

    def __init__(self, config: VAEConfig, classes: int, rngs: nnx.Rngs, attributes: int = 0):
        paper = config.architecture == "paper"
        if paper:
            self.encoder, features = PaperEncoder(rngs), 1024
        else:
            self.encoder, features = (
                ResidualEncoder(
                    config.encoder,
                    config.encoder_blocks,
                    config.hidden,
                    rngs,
                    config.norm,
                    config.rectified_stem,
                ),
                config.hidden,
            )
        init = {"kernel_init": GLOROT} if paper else {}
        self.mean = nnx.Linear(features, config.latent, rngs=rngs, **init)
        self.log_variance = nnx.Linear(features, config.latent, rngs=rngs, **init)
        self.decoder = (
            PaperDecoder(config.latent, rngs)
            if paper
            else ResidualDecoder(config.latent, config.decoder, config.decoder_blocks, rngs)
        )
        self.classifier = (
            nnx.Linear(config.latent, classes, rngs=rngs) if config.recognition else None
        )
        self.attributes = (
            nnx.Linear(config.latent, attributes, rngs=rngs)
            if config.components and attributes
            else None
        )

    def encode(self, images: jax.Array, statistics: str = "kept") -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of q(z | image), (B, latent) each, of images (B, 64, 64).

        statistics: see `layers.residual.BatchNorm`.
        """
        features = (
            self.encoder(images) if statistics == "kept" else self.encoder(images, statistics)
        )
        # Bounds that training never meets; an extreme input must stay finite.
        return self.mean(features), jnp.clip(self.log_variance(features), -12.0, 6.0)

    def decode(self, z: jax.Array) -> jax.Array:
        """Logits (B, 64, 64) of the pictures of z (B, latent); `jax.nn.sigmoid` gives pixels."""
        return self.decoder(z)


def sample_z(mean: jax.Array, log_variance: jax.Array, key: jax.Array) -> jax.Array:
    """One draw from N(mean, exp(log_variance)) by the reparameterisation trick."""
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)


# Loss ---------------------------------------------------------------------------------------------


def loss(
    model: VAE,
    config: VAEConfig,
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    allowed: jax.Array | None = None,
    clean: jax.Array | None = None,
    attributes: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch, a scalar in nats, and its parts by name.

    It is `elbo` + recognition * cross-entropy of the classifier on the sampled z + components *
    cross-entropy of the attributes on it.

    images: (B, 64, 64) float32 in [0, 1], ink 1.
    labels: (B,) int32, each image's class.
    key: of the draw of z.
    allowed: (B, C) bool, the classes that compete for each image [all].
    clean: see `elbo`.
    attributes: (B, A) of 0 and 1, which attributes each image's character has.
    """
    statistics = "batch" if config.norm == "batch" else "kept"
    total, z, parts = elbo(model, config, images, key, statistics, clean)
    if config.recognition:
        scores = model.classifier(z)
        scores = scores if allowed is None else jnp.where(allowed, scores, -jnp.inf)
        recognition = cross_entropy(scores, labels, config.label_smoothing).mean()
        total += config.recognition * recognition
        parts |= {"recognition": recognition, "accuracy": (scores.argmax(-1) == labels).mean()}
    if model.attributes is not None:
        components = (
            optax.sigmoid_binary_cross_entropy(model.attributes(z), attributes).sum(-1).mean()
        )
        total += config.components * components
        parts["components"] = components
    return total, parts


def elbo(
    model: VAE,
    config: VAEConfig,
    images: jax.Array,
    key: jax.Array,
    statistics: str = "kept",
    clean: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """The negative ELBO with free bits, a scalar in nats; the sampled z (B, latent); and the parts.

    It is the mean over the batch of BCE, summed over the pixels, + max(KL, kl_floor), the maximum
    taken for each example.

    images: (B, 64, 64) float32 in [0, 1], ink 1.
    clean: what the decoder must paint for them [images], as in the denoising VAE of Im et al. 2017
    (arXiv 1511.06406).
    """
    mean, log_variance = model.encode(images, statistics)
    z = sample_z(mean, log_variance, key)
    shown = slice(None, None, config.decode_every)
    target = (images if clean is None else clean)[shown]
    reconstruction = reconstruction_loss(model.decode(z[shown]), target).mean()
    kl = kl_divergence(mean, log_variance).sum(-1)
    total = reconstruction + jnp.maximum(kl, config.kl_floor).mean()
    return total, z, {"reconstruction": reconstruction, "kl": kl.mean()}


def reconstruction_loss(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Binary cross-entropy summed over the pixels, in nats: (B,)."""
    return optax.sigmoid_binary_cross_entropy(logits, images).sum((1, 2))


def kl_divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(q(z | x) || N(0, 1)) of every dimension, in nats: the shape of `mean`."""
    return 0.5 * (jnp.exp(log_variance) + mean**2 - 1.0 - log_variance)


# After training -----------------------------------------------------------------------------------


def finalize(model: VAE, images: jax.Array) -> VAE:
    """The model whose encoder uses the statistics of images (B, 64, 64) in place of each batch's.

    The dense layer has no statistics of its own, so those of its batch go into its weights.
    """
    dense = model.encoder.dense
    x = dense(model.encoder.trunk(images, "measure"))
    scale = jax.lax.rsqrt(x.var(0) + EPSILON)
    dense.kernel[...] = dense.kernel[...] * scale
    dense.bias[...] = (dense.bias[...] - x.mean(0)) * scale
    return model


def decode_mean(model: VAE, images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Reconstruction logits (B, 64, 64) from the posterior's mean, and (mean, log_variance)."""
    posterior = model.encode(images)
    return model.decode(posterior[0]), posterior


VIEW = 0.5
"""Strength of the warps in `averaged_z`."""


def averaged_z(
    model: VAE, images: jax.Array, views: int, own: jax.Array | None = None
) -> jax.Array:
    """The mean of `viewed_z`: (B, latent)."""
    return viewed_z(model, images, views, own).mean(0)


def viewed_z(model: VAE, images: jax.Array, views: int, own: jax.Array | None = None) -> jax.Array:
    """The posterior's mean of images and of warped forms of them: (1 + views, B, latent).

    images: (B, 64, 64) uint8.
    views: number of warped forms, which are the same for every image.
    own: (B, latent), the mean for the images as they are, if it is already known.
    """
    own = model.encode(augment.to_float(images))[0] if own is None else own
    if not views:
        return own[None]
    # Each image is warped as if it were alone: its neighbours change nothing.
    form = lambda key: jax.vmap(lambda image: augment.warp(image[None], key, VIEW)[0])(images)
    z, _ = model.encode(jnp.concatenate([form(key) for key in view_keys(views)]))
    return jnp.concatenate([own[None], z.reshape(views, *own.shape)])


def view_keys(views: int) -> jax.Array:
    """The random keys of the warps."""
    return jax.random.split(jax.random.key(0), views)
