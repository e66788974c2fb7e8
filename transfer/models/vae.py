"""Convolutional variational autoencoder: a 64x64 image becomes a 64-d Gaussian z and, from z, an
image again.

Trained twice, on Kuzushiji images (`z_old`) and on rasterised KanjiVG (`z_new`). Two architectures
behind one class:

- ``paper``: the network of Clanuwat et al. 2018 (arXiv 1812.01718, section 4.2) and of World
  Models, with strided convolutions.
- ``residual``: space-to-depth steps and stride-1 residual blocks, which XLA runs near the speed of
  its matrix product on CPU
  and GPU alike, and a linear classifier on z (`recognition`): z must then tell characters apart,
  not only look like them.

Images enter as (B, 64, 64) float32 in [0, 1], ink 1. Reconstructions leave as logits of the same
shape.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from transfer.models import augment
from transfer.models.convolution import depth_to_space, space_to_depth, strided, transposed

SIZE = 64
EPSILON = 1e-5
"""Added to variances that are divided by."""


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Model, loss and training settings of one VAE. Use a preset and override fields."""

    architecture: Literal["paper", "residual"] = "residual"
    latent: int = 64
    encoder: tuple[int, ...] = (40, 112, 256)
    """Channels at 16x16, 8x8 and 4x4, or at 32x32 and these (`residual`)."""
    encoder_blocks: tuple[int, ...] = (1, 1, 1)
    """Residual blocks at each of them (`residual`)."""
    norm: Literal["layer", "batch"] = "layer"
    """Of the encoder (`residual`). "batch" normalises by the batch's statistics while training, its
    last layer too, as a young encoder's features are nearly one and the same vector; `settle`
    measures the statistics once afterwards."""
    rectified_stem: bool = False
    """ReLU after the encoder's first convolution, which without blocks at 16x16 would be linear up
    to 8x8."""
    decoder: tuple[int, int, int] = (96, 48, 32)
    """Channels at 4x4, 8x8 and 16x16 (`residual`)."""
    decoder_blocks: tuple[int, int, int] = (1, 1, 0)
    hidden: int = 512
    """Width of the dense layer between feature map and z (`residual`)."""
    kl_floor: float = 32.0
    """Free bits: the loss takes max(KL, kl_floor) per example, in nats."""
    recognition: float = 500.0
    """Weight of the classifier's cross-entropy beside the ELBO; 0 leaves it out."""
    label_smoothing: float = 0.0
    decode_every: int = 1
    """Every how many-th image of a batch is reconstructed: an estimate of the mean over all, and
    the decoder's time is saved."""
    augment: Literal["paper", "photo", "warp", "none"] = "warp"
    """"photo" is "warp" and then what photographs and crops do to an image, without which the
    decoder is to paint it."""
    warp: float = 1.0
    """Strength of the `warp` augmentation; 1 moves a pixel by about 3, 0 leaves the image as it
    is."""
    balance: float = 0.5
    """A class of n images is drawn with weight n**(1 - balance): 0 as published, 1 all classes
    alike."""
    fonts: float = 0.0
    """Share of a batch of the old domain drawn from brush fonts, where the data folder has them
    (`python -m transfer.data fonts`)."""
    hands: float = 0.0
    """Share of a batch of the old domain drawn from made hands, where the data folder has them
    (`python -m transfer.data hands`)."""
    kana: bool = False
    """Learn the old domain's hiragana too, from fonts, made hands and the images of Kuzushiji-MNIST
    and -49 that the data folder has."""
    aside: int = 0
    """So many of the books' rarest classes of the old domain are left out, so that probabilities
    can be fitted on characters never met."""
    components: float = 0.0
    """Weight of the cross-entropy of the old domain's components and stroke counts, read off z
    linearly, beside the ELBO; 0 leaves it out."""
    cooldown: float = 1.0
    """Share of the steps, the last ones, in which the learning rate falls. Below 1 it is constant
    before, and a run may still be given other `steps` as long as it is."""
    steps: int = 3_600
    batch: int = 128
    learning_rate: float = 1.5e-3
    warmup: int = 300
    """Steps of linear warm-up before the cosine decay; -1 keeps the learning rate constant."""
    weight_decay: float = 1e-4
    ema: float = 0.998
    """Decay of the averaged weights that are evaluated and exported; 0 uses the raw ones."""

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
        """A day on two CPU cores, half an hour on a GPU: more hands, disturbed as photographs are,
        and ten times the images of `small`.

        The new domain's settings are those of `small`.
        """
        if domain == "old":
            return cls(
                encoder=(32, 64, 128, 256),
                encoder_blocks=(0, 1, 2, 1),
                norm="batch",
                hidden=512,
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
    """Settings that play no part with the others, in the VAE of a domain ("old" or "new")."""
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


class Block(nnx.Module):
    """Pre-activation residual block of two 3x3 convolutions; starts as the identity."""

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.first = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.second = nnx.Conv(
            channels, channels, (3, 3), kernel_init=nnx.initializers.zeros, rngs=rngs
        )

    def __call__(self, x: jax.Array, statistics: str = "kept") -> jax.Array:
        return x + self.second(nnx.relu(self.first(nnx.relu(self.norm(x)))))


class Statistic(nnx.Variable):
    """What is measured and not trained."""


class BatchNorm(nnx.Module):
    """Batch normalisation (arXiv 1502.03167). Its statistics are not followed while training but
    measured once afterwards, of the weights that are kept, averaged ones too.

    statistics: "kept" ones, the "batch"'s own, or "measure": the batch's, which are kept from then
    on.
    """

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.scale, self.bias = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
        self.mean, self.variance = Statistic(jnp.zeros(channels)), Statistic(jnp.ones(channels))

    def __call__(self, x: jax.Array, statistics: str = "kept") -> jax.Array:
        mean, variance = self.mean[...], self.variance[...]
        if statistics != "kept":
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
        if statistics == "measure":
            self.mean[...], self.variance[...] = mean, variance
        scale = self.scale[...] * jax.lax.rsqrt(variance + EPSILON)
        return x * scale + (self.bias[...] - mean * scale)


class BatchBlock(nnx.Module):
    """`Block` with batch normalisation before each convolution."""

    def __init__(self, channels: int, rngs: nnx.Rngs):
        self.norms = nnx.List([BatchNorm(channels, rngs) for _ in range(2)])
        self.first = nnx.Conv(channels, channels, (3, 3), use_bias=False, rngs=rngs)
        self.second = nnx.Conv(
            channels,
            channels,
            (3, 3),
            use_bias=False,
            kernel_init=nnx.initializers.zeros,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, statistics: str = "kept") -> jax.Array:
        inner = self.first(nnx.relu(self.norms[0](x, statistics)))
        return x + self.second(nnx.relu(self.norms[1](inner, statistics)))


class ResidualEncoder(nnx.Module):
    """(B, 64, 64) -> (B, hidden). Three widths begin at 16x16, four at 32x32."""

    def __init__(self, config: VAEConfig, rngs: nnx.Rngs):
        widths, self.batch = config.encoder, getattr(config, "norm", "layer") == "batch"
        self.patch = 2 ** (5 - len(widths))
        # On 4x4 blocks of pixels a 3x3 convolution is a 12x12 one of stride 4, at a third of the
        # time.
        self.stem, self.rectified = (
            nnx.Conv(self.patch**2, widths[0], (3, 3), rngs=rngs),
            config.rectified_stem,
        )
        self.down = nnx.List(
            [nnx.Linear(4 * before, width, rngs=rngs) for before, width in zip(widths, widths[1:])]
        )
        self.enter = (
            nnx.List([BatchNorm(width, rngs) for width in widths[:-1]]) if self.batch else None
        )
        block = BatchBlock if self.batch else Block
        self.blocks = nnx.List(
            [
                nnx.List([block(width, rngs) for _ in range(count)])
                for width, count in zip(widths, config.encoder_blocks)
            ]
        )
        self.norm = (
            BatchNorm(widths[-1], rngs) if self.batch else nnx.LayerNorm(widths[-1], rngs=rngs)
        )
        self.dense = nnx.Linear(16 * widths[-1], config.hidden, rngs=rngs)

    def trunk(self, images: jax.Array, statistics: str = "kept") -> jax.Array:
        """(B, 64, 64) -> (B, 16 * the last width), before the dense layer. statistics: see
        `BatchNorm`."""
        x = self.stem(space_to_depth(images[..., None], self.patch))
        x = nnx.relu(x) if self.rectified else x
        for level, blocks in enumerate(self.blocks):
            if level:
                x = nnx.relu(self.enter[level - 1](x, statistics)) if self.batch else x
                x = self.down[level - 1](space_to_depth(x, 2))
            for block in blocks:
                x = block(x, statistics)
        x = self.norm(x, statistics) if self.batch else self.norm(x)
        return nnx.relu(x).reshape(x.shape[0], -1)

    def __call__(self, images: jax.Array, statistics: str = "kept") -> jax.Array:
        """statistics: see `BatchNorm`; the batch's own standardise the last layer too."""
        x = self.dense(self.trunk(images, statistics))
        if statistics == "batch":
            x = (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + EPSILON)
        return nnx.relu(x)


class ResidualDecoder(nnx.Module):
    """(B, latent) -> (B, 64, 64) logits; every upsampling is a matrix product followed by
    depth-to-space."""

    def __init__(self, config: VAEConfig, rngs: nnx.Rngs):
        widths = config.decoder
        self.width = widths[0]
        self.dense = nnx.Linear(config.latent, 16 * widths[0], rngs=rngs)
        self.blocks = nnx.List(
            [
                nnx.List([Block(width, rngs) for _ in range(count)])
                for width, count in zip(widths, config.decoder_blocks)
            ]
        )
        self.up = nnx.List(
            [nnx.Linear(before, 4 * width, rngs=rngs) for before, width in zip(widths, widths[1:])]
        )
        self.norm = nnx.LayerNorm(widths[-1], rngs=rngs)
        # A 3x3 convolution into 4x4 pixels a position sees beyond the patch it paints: no visible
        # seams.
        self.pixels = nnx.Conv(widths[-1], 16, (3, 3), rngs=rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.dense(z).reshape(-1, 4, 4, self.width)
        for level, blocks in enumerate(self.blocks):
            if level:
                x = depth_to_space(self.up[level - 1](x), 2)
            for block in blocks:
                x = block(x)
        return depth_to_space(self.pixels(nnx.relu(self.norm(x))), 4)[..., 0]


class PaperEncoder(nnx.Module):
    """(B, 64, 64) -> (B, 1024): four convolutions of kernel 4 and stride 2 without padding (World
    Models, appendix A.1)."""

    def __init__(self, rngs: nnx.Rngs):
        channels = (1, 32, 64, 128, 256)
        self.convs = nnx.List(
            [
                nnx.Conv(a, b, (4, 4), strides=2, padding="VALID", rngs=rngs)
                for a, b in zip(channels, channels[1:])
            ]
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images[..., None]
        for conv in self.convs:
            x = nnx.relu(strided(x, conv.kernel[...], conv.bias[...]))
        return x.reshape(x.shape[0], -1)


class PaperDecoder(nnx.Module):
    """(B, latent) -> (B, 64, 64) logits: a linear layer and four transposed convolutions of stride
    2."""

    def __init__(self, latent: int, rngs: nnx.Rngs):
        channels, kernels = (1024, 128, 64, 32, 1), (5, 5, 6, 6)
        self.dense = nnx.Linear(latent, 1024, rngs=rngs)
        self.convs = nnx.List(
            [
                nnx.ConvTranspose(a, b, (k, k), strides=(2, 2), padding="VALID", rngs=rngs)
                for a, b, k in zip(channels, channels[1:], kernels)
            ]
        )

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.dense(z).reshape(-1, 1, 1, 1024)
        for layer, conv in enumerate(self.convs):
            x = transposed(x, conv.kernel[...], conv.bias[...])
            x = x if layer == len(self.convs) - 1 else nnx.relu(x)
        return x[..., 0]


class VAE(nnx.Module):
    """Encoder, decoder and, where the loss asks for them, linear classifiers on z: of `classes`
    characters, and of `attributes`, which are the components and stroke counts that a character may
    have."""

    def __init__(self, config: VAEConfig, classes: int, rngs: nnx.Rngs, attributes: int = 0):
        paper = config.architecture == "paper"
        self.encoder = PaperEncoder(rngs) if paper else ResidualEncoder(config, rngs)
        features = 1024 if paper else config.hidden
        self.mean = nnx.Linear(features, config.latent, rngs=rngs)
        self.log_variance = nnx.Linear(features, config.latent, rngs=rngs)
        self.decoder = PaperDecoder(config.latent, rngs) if paper else ResidualDecoder(config, rngs)
        self.classifier = (
            nnx.Linear(config.latent, classes, rngs=rngs) if config.recognition else None
        )
        self.attributes = (
            nnx.Linear(config.latent, attributes, rngs=rngs)
            if config.components and attributes
            else None
        )

    def encode(self, images: jax.Array, statistics: str = "kept") -> tuple[jax.Array, jax.Array]:
        """(B, 64, 64) in [0, 1] -> mean and log-variance of q(z | image), each (B, latent).
        statistics: see `BatchNorm`."""
        features = (
            self.encoder(images) if statistics == "kept" else self.encoder(images, statistics)
        )
        # Bounds that training never meets; an extreme input must stay finite.
        return self.mean(features), jnp.clip(self.log_variance(features), -12.0, 6.0)

    def decode(self, z: jax.Array) -> jax.Array:
        """(B, latent) -> (B, 64, 64) logits; `jax.nn.sigmoid` of them is the picture."""
        return self.decoder(z)


def sample_z(mean: jax.Array, log_variance: jax.Array, key: jax.Array) -> jax.Array:
    """One draw of N(mean, exp(log_variance)) by the reparameterisation trick."""
    return mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)


VIEW = 0.5
"""Strength of the warps that `averaged_z` looks through."""


def averaged_z(
    model: VAE, images: jax.Array, views: int, own: jax.Array | None = None
) -> jax.Array:
    """The posterior's mean, averaged over the images (B, 64, 64) uint8 and so many warped forms of
    them, the same for every image: (B, latent).

    own (B, latent): that of the images as they are, where it is known already.
    """
    own = model.encode(augment.to_float(images))[0] if own is None else own
    if not views:
        return own
    # Each image is warped as if it were alone: what is read of it does not depend on its
    # neighbours.
    form = lambda key: jax.vmap(lambda image: augment.warp(image[None], key, VIEW)[0])(images)
    z, _ = model.encode(jnp.concatenate([form(key) for key in view_keys(views)]))
    return (own + z.reshape(views, *own.shape).sum(0)) / (views + 1)


def view_keys(views: int) -> jax.Array:
    """The keys of the warps of `averaged_z`."""
    return jax.random.split(jax.random.key(0), views)


def kl_divergence(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(q(z | x) || N(0, 1)) of every dimension, in nats: the shape of `mean`."""
    return 0.5 * (jnp.exp(log_variance) + mean**2 - 1.0 - log_variance)


def elbo(
    model: VAE,
    config: VAEConfig,
    images: jax.Array,
    key: jax.Array,
    statistics: str = "kept",
    clean: jax.Array | None = None,
):
    """The negative ELBO with its KL floor, mean over the batch in nats; the sampled z (B, latent);
    and the parts.

    images (B, 64, 64) float32 in [0, 1]; clean: what the decoder is to paint of them [images]
    (denoising, Im et al. 2017, arXiv 1511.06406). BCE summed over pixels + max(KL, kl_floor), the
    maximum taken per example.
    """
    mean, log_variance = model.encode(images, statistics)
    z = sample_z(mean, log_variance, key)
    shown = slice(None, None, config.decode_every)
    reconstruction = reconstruction_loss(
        model.decode(z[shown]), (images if clean is None else clean)[shown]
    ).mean()
    kl = kl_divergence(mean, log_variance).sum(-1)
    return (
        reconstruction + jnp.maximum(kl, config.kl_floor).mean(),
        z,
        {"reconstruction": reconstruction, "kl": kl.mean()},
    )


def settle(model: VAE, images: jax.Array) -> VAE:
    """The model with the statistics of training images (B, 64, 64) in its encoder, in place of each
    batch's own.

    The last layer's go into its weights."""
    dense = model.encoder.dense
    x = dense(model.encoder.trunk(images, "measure"))
    scale = jax.lax.rsqrt(x.var(0) + EPSILON)
    dense.kernel[...] = dense.kernel[...] * scale
    dense.bias[...] = (dense.bias[...] - x.mean(0)) * scale
    return model


def cross_entropy(scores: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of softmax(scores), (B,) in nats: scores (B, C), labels (B,) of which a share
    `smoothing` is spread over all classes.

    Classes whose score is -inf take no part: they neither gain nor lose.
    """
    log_weights, part = jax.nn.log_softmax(scores), scores > -jnp.inf
    chosen = jnp.take_along_axis(log_weights, labels[:, None], 1)[:, 0]
    spread = jnp.where(part, log_weights, 0.0).sum(-1) / part.sum(-1)
    return -((1 - smoothing) * chosen + smoothing * spread)


def loss(
    model: VAE,
    config: VAEConfig,
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    allowed: jax.Array | None = None,
    clean: jax.Array | None = None,
    attributes: jax.Array | None = None,
):
    """`elbo` + recognition * cross-entropy of the classifier on the sampled z + components * that
    of its attributes.

    labels (B,) int32; allowed (B, C) bool: the classes that take part for each image [all]; clean:
    see `elbo`; attributes (B, A) of 0 and 1: what the image's character has. The scalar and its
    parts.
    """
    total, z, parts = elbo(
        model, config, images, key, "batch" if config.norm == "batch" else "kept", clean
    )
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


def reconstruction_loss(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Binary cross-entropy summed over the pixels, in nats: (B,)."""
    return optax.sigmoid_binary_cross_entropy(logits, images).sum((1, 2))


def decode_mean(model: VAE, images: jax.Array):
    """Reconstruction logits of the posterior's mean, and (mean, log_variance)."""
    posterior = model.encode(images)
    return model.decode(posterior[0]), posterior
