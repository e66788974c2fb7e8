"""Mixture density networks P(z_new | z_old): an old latent becomes a density over modern ones.

Three forms stand behind the same four functions (`log_prob`, `sample`, `candidate_scores`, `loss`):

- ``factorised`` (the paper's program): every latent dimension has its own 1-d mixture, so a sample
  may mix two kanji.
- ``joint`` (the paper's text; Bishop 1994): one set of mixture weights over the whole vector, so a
  sample is one of the modes.
- ``anchored``: a joint mixture whose components are the posteriors q(z_new | glyph) that the new
  VAE gives the kanji of the gallery. z_new given a character *is* a draw of that posterior, so only
  the mixture weights are unknown; they are a softmax over the similarity of a query made from z_old
  and a key made from each anchor. A kanji that has no Kuzushiji image has a key like any other, and
  can be chosen.

All log densities are in nats, over the whole z_new unless said otherwise.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.losses import cross_entropy
from transfer.system import settings
from transfer.system.settings import (
    Amount,
    BelowOne,
    Count,
    Finite,
    Natural,
    Positive,
    Share,
    WarmUp,
)

LOG_2PI = 1.8378770664093453


@dataclasses.dataclass(frozen=True)
class MDNConfig:
    """Model, loss and training settings of the mixture density network. Use a preset and override
    fields."""

    density: Literal["factorised", "joint", "anchored"] = "anchored"
    latent: Count = 64
    hidden: Count = 512
    layers: Count = 2
    mixtures: Count = 20
    """Components (`factorised`, `joint`)."""
    key: Count = 128
    """Width of queries and keys (`anchored`)."""
    key_dropout: Share = 0.5
    """Share of anchors whose learned offset is left out of their key in a step: the key then comes
    from the glyph alone."""
    unseen: Finite = -2.0
    """Added to the logit of an anchor whose class has no training image: the prior odds of meeting
    one."""
    views: Natural = 1
    """Augmented views of each training image whose z_old is kept; 0 keeps the image as it is."""
    averaged: Natural = 0
    """Warped forms of an image that is read whose z_old are averaged with its own
    (`vae.averaged_z`)."""
    balance: Share = 0.5
    fonts: Share = 0.0
    """Share of a batch drawn from brush fonts, where the data folder has them."""
    hands: Share = 0.0
    """Share of a batch drawn from made hands, where the data folder has them."""
    variants: bool = False
    """Pair an image with a random modern variant of its kanji instead of its standard form."""
    direct: bool = False
    """Let the old VAE's own classifier of z_old have a say beside the similarities (`anchored`): a
    product of both, each raised to an exponent that is fitted on val."""
    label_smoothing: BelowOne = 0.0
    """Share of an anchored density's target that all anchors with an image share."""
    temperature: Positive = 1.0
    """Divides the mixture logits when candidates are drawn; 0.25 in the paper."""
    steps: Count = 2_000
    batch: Count = 1024
    learning_rate: Positive = 1e-3
    warmup: WarmUp = 100
    weight_decay: Amount = 1e-3
    ema: BelowOne = 0.995

    def __post_init__(self):
        """Raise ValueError for settings that cannot be meant."""
        settings.check(self)
        settings.check_sum(self, "fonts", "hands")

    @classmethod
    def paper(cls) -> MDNConfig:
        """The authors' program: 3 layers of 1024, 100 mixtures a dimension, Adam 1e-3, batch 3,000,
        30,000 steps."""
        return cls(
            density="factorised",
            hidden=1024,
            layers=3,
            mixtures=100,
            views=1,
            balance=1.0,
            variants=True,
            temperature=0.25,
            steps=30_000,
            batch=3000,
            learning_rate=1e-3,
            warmup=-1,
            weight_decay=0.0,
            ema=0.0,
        )

    @classmethod
    def small(cls) -> MDNConfig:
        """About 4 minutes on two CPU cores, most of them for encoding the images."""
        return cls(
            direct=True,
            label_smoothing=0.1,
            averaged=4,
            balance=0.6,
            fonts=0.15,
            unseen=0.0,
            steps=800,
            weight_decay=1e-2,
        )

    @classmethod
    def long(cls) -> MDNConfig:
        """For the latents of the old VAE's `long`: about 20 minutes on two CPU cores."""
        return dataclasses.replace(cls.small(), fonts=0.25, hands=0.2, steps=2_000)

    @classmethod
    def base(cls) -> MDNConfig:
        """For one H100."""
        return dataclasses.replace(cls.long(), key=256, views=4, steps=4_000)

    @classmethod
    def tiny(cls) -> MDNConfig:
        """For the sample corpus: a minute."""
        return dataclasses.replace(
            cls.small(), hidden=128, key=64, steps=400, batch=64, warmup=20, ema=0.98
        )


def unused(config: MDNConfig) -> frozenset[str]:
    """Settings that play no part with the others."""
    return frozenset(
        {"mixtures"}
        if config.density == "anchored"
        else {"key", "key_dropout", "unseen", "direct", "label_smoothing"}
    )


class Trunk(nnx.Module):
    """Dense layers with leaky ReLU: (B, latent) -> (B, outputs)."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, rngs: nnx.Rngs):
        widths = [inputs] + [hidden] * layers
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in zip(widths, widths[1:])])
        self.out = nnx.Linear(widths[-1], outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = nnx.leaky_relu(layer(x))
        return self.out(x)


class FreeMixture(nnx.Module):
    """Mixture whose weights, means and scales all come from the network (`factorised` and
    `joint`)."""

    def __init__(self, config: MDNConfig, rngs: nnx.Rngs):
        self.config = config
        k, d = config.mixtures, config.latent
        outputs = 3 * k * d if config.density == "factorised" else k + 2 * k * d
        self.trunk = Trunk(d, config.hidden, config.layers, outputs, rngs)

    def __call__(self, z_old: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mixture logits (B, K, 64) or (B, K, 1), means (B, K, 64) and log_scales (B, K, 64)."""
        k, d = self.config.mixtures, self.config.latent
        out = self.trunk(z_old)
        if self.config.density == "factorised":
            logits, means, log_scales = jnp.split(out.reshape(-1, 3, k, d), 3, axis=1)
            return logits[:, 0], means[:, 0], jnp.clip(log_scales[:, 0], -7.0, 7.0)
        logits, rest = out[:, :k, None], out[:, k:].reshape(-1, 2, k, d)
        return logits, rest[:, 0], jnp.clip(rest[:, 1], -7.0, 7.0)


class AnchoredMixture(nnx.Module):
    """Mixture of the gallery's posteriors; the network gives their weights (`anchored`)."""

    def __init__(self, config: MDNConfig, anchors: int, rngs: nnx.Rngs):
        self.config = config
        self.query = Trunk(config.latent, config.hidden, config.layers, config.key, rngs)
        self.key = Trunk(config.latent, config.hidden, 1, config.key, rngs)
        self.offset = nnx.Param(jnp.zeros((anchors, config.key)))
        self.log_sharpness = nnx.Param(jnp.log(jnp.float32(16.0)))
        if config.direct:
            # Not trained here: the classifier's rows, for which anchors it has them, and both
            # exponents.
            self.direct = nnx.Linear(config.latent, anchors, rngs=rngs)
            self.known = nnx.Param(jnp.zeros(anchors))
            self.exponents = nnx.Param(jnp.array([1.0, 0.0]))

    def keys(self, anchor_mean: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """Unit keys of the anchors, (G, key). keep (G,): which of them use their learned offset."""
        offset = self.offset[...] if keep is None else self.offset[...] * keep[:, None]
        return unit(unit(self.key(anchor_mean)) + offset)

    def __call__(self, z_old: jax.Array, keys: jax.Array) -> jax.Array:
        """Mixture logits (B, G)."""
        return jnp.exp(self.log_sharpness[...]) * (unit(self.query(z_old)) @ keys.T)


def unit(x: jax.Array) -> jax.Array:
    """Vectors (…, D) scaled to length 1."""
    return x * jax.lax.rsqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def build(config: MDNConfig, anchors: int, rngs: nnx.Rngs) -> FreeMixture | AnchoredMixture:
    """The network of a configuration, for a gallery of `anchors` kanji."""
    return (
        AnchoredMixture(config, anchors, rngs)
        if config.density == "anchored"
        else FreeMixture(config, rngs)
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gallery:
    """The kanji that can be written.

    mean, log_variance: (G, 64), the new VAE's posterior of each glyph.
    seen: (G,) bool, which of them have Kuzushiji images in training.
    """

    mean: jax.Array
    log_variance: jax.Array
    seen: jax.Array


def normal_log_density(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """log N(x; mean, exp(log_scale)²), elementwise."""
    return -0.5 * ((x - mean) * jnp.exp(-log_scale)) ** 2 - log_scale - 0.5 * LOG_2PI


def mixture_log_prob(
    logits: jax.Array, means: jax.Array, log_scales: jax.Array, x: jax.Array
) -> jax.Array:
    """Log density of x (B, D) under mixtures over axis 1, (B,).

    logits: (B, K, D) for one mixture a dimension, whose log densities add up, or (B, K, 1) for one
    mixture over the vector.
    means, log_scales: (B, K, D).
    """
    component = normal_log_density(x[:, None], means, log_scales)
    if logits.shape[-1] == 1:
        return jax.nn.logsumexp(jax.nn.log_softmax(logits[..., 0], 1) + component.sum(-1), 1)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits, 1) + component, 1).sum(-1)


def gallery_log_density(x: jax.Array, gallery: Gallery) -> jax.Array:
    """log density of x (B, D) under every anchor's Gaussian, (B, G); three matrix products."""
    precision = jnp.exp(-gallery.log_variance)
    square = (
        (x**2) @ precision.T
        - 2 * x @ (precision * gallery.mean).T
        + (precision * gallery.mean**2).sum(-1)
    )
    return -0.5 * (square + gallery.log_variance.sum(-1) + gallery.mean.shape[-1] * LOG_2PI)


def anchored_logits(model: AnchoredMixture, z_old: jax.Array, gallery: Gallery) -> jax.Array:
    """Mixture logits with the prior odds of classes without training images, (B, G)."""
    if model.config.direct:
        logits = product(*opinions(model, z_old, gallery), model.known[...], model.exponents[...])
    else:
        logits = model(z_old, model.keys(gallery.mean))
    return logits + jnp.where(gallery.seen, 0.0, model.config.unseen)


def opinions(
    model: AnchoredMixture, z_old: jax.Array, gallery: Gallery
) -> tuple[jax.Array, jax.Array]:
    """Log probabilities (B, G) by similarity, and by the old VAE's classifier (`direct`)."""
    return jax.nn.log_softmax(model(z_old, model.keys(gallery.mean))), jax.nn.log_softmax(
        model.direct(z_old)
    )


def product(
    similar: jax.Array, direct: jax.Array, known: jax.Array, exponents: jax.Array
) -> jax.Array:
    """Logarithm of similar^a * direct^b, (B, G), where (a, b) are the exponents.

    For anchors that the classifier does not know it is that of similar^(a + b).

    similar, direct: (B, G), log probabilities.
    known: (G,), 1 for anchors that the classifier knows, else 0.
    """
    return exponents[0] * similar + exponents[1] * jnp.where(known > 0, direct, similar)


def log_prob(model, z_old: jax.Array, z_new: jax.Array, gallery: Gallery) -> jax.Array:
    """log P(z_new | z_old), (B,)."""
    if model.config.density == "anchored":
        weights = jax.nn.log_softmax(anchored_logits(model, z_old, gallery))
        return jax.nn.logsumexp(weights + gallery_log_density(z_new, gallery), -1)
    return mixture_log_prob(*model(z_old), z_new)


def candidate_scores(model, z_old: jax.Array, gallery: Gallery) -> jax.Array:
    """log probability of every kanji of the gallery, (B, G), summing to one.

    Anchored: the mixture weights. Otherwise Bayes' rule with the gallery's means: how likely the
    density makes each.
    """
    if model.config.density == "anchored":
        return jax.nn.log_softmax(anchored_logits(model, z_old, gallery))
    logits, means, log_scales = model(z_old)

    def one(logits, means, log_scales):
        density = lambda g: mixture_log_prob(logits[None], means[None], log_scales[None], g[None])
        return jax.vmap(density)(gallery.mean)[:, 0]

    return jax.nn.log_softmax(jax.lax.map(lambda a: one(*a), (logits, means, log_scales)))


def sample(
    model, z_old: jax.Array, gallery: Gallery, key: jax.Array, temperature: float = 1.0
) -> jax.Array:
    """One z_new for each z_old, (B, 64): a component drawn with its logits divided by
    `temperature`, and that component's mean."""
    if model.config.density == "anchored":
        return gallery.mean[
            jax.random.categorical(key, anchored_logits(model, z_old, gallery) / temperature)
        ]
    logits, means, _ = model(z_old)
    chosen = jax.random.categorical(key, logits / temperature, axis=1)  # (B, 64) or (B, 1)
    return jnp.take_along_axis(means, chosen[:, None, :], axis=1)[:, 0]


def loss(
    model,
    z_old: jax.Array,
    z_new: jax.Array,
    label: jax.Array,
    gallery: Gallery,
    key: jax.Array,
    allowed: jax.Array | None = None,
):
    """The loss of a batch, a scalar in nats, and its parts by name.

    It is the mean negative log-likelihood a dimension. Of the anchored density, log P is the log
    weight of the pair's own anchor + log q(z_new | glyph), as the posteriors hardly overlap; only
    the first depends on the parameters, so it is the loss. Anchors never seen with an image take no
    part: they must not learn to be unlikely.

    z_old, z_new: (B, 64), pairs of latents.
    label: (B,) int32, each pair's kanji in the gallery.
    key: of the dropout of keys.
    allowed: (B, G) bool, the anchors that compete for each image [gallery.seen].
    """
    if model.config.density != "anchored":
        nll = -log_prob(model, z_old, z_new, gallery).mean() / z_new.shape[-1]
        return nll, {"nll": nll}
    keep = jax.random.bernoulli(key, 1.0 - model.config.key_dropout, gallery.seen.shape)
    allowed = gallery.seen if allowed is None else allowed
    logits = jnp.where(allowed, model(z_old, model.keys(gallery.mean, keep)), -jnp.inf)
    value = cross_entropy(logits, label, model.config.label_smoothing).mean()
    return value, {
        "weight_nll": cross_entropy(logits, label).mean(),
        "accuracy": (logits.argmax(-1) == label).mean(),
    }
