"""Mixture density networks P(z_new | z_old): an old latent becomes a density over modern ones.

The same functions (`log_prob`, `sample`, `candidate_scores`, `loss`) serve four forms:

- ``factorised`` (the paper's program): every latent dimension has its own 1-d mixture, so a sample
  may mix two kanji.
- ``joint`` (the paper's text; Bishop 1994): one set of mixture weights over the whole vector, so a
  sample is one of the modes.
- ``flow``: a joint mixture that couplings bend (`models/layers/flow.py`): the modes need not be
  Gaussians.
- ``anchored``: a joint mixture whose components are the posteriors q(z_new | glyph) that the new
  VAE gives the kanji of the gallery. z_new given a character *is* a draw of that posterior, so only
  the mixture weights are unknown; they are a softmax over the similarity of a query made from z_old
  and a key made from each anchor. A kanji without any Kuzushiji image has a key like any other, and
  can be chosen.

The first three generate z_new; the last chooses among the gallery's. They can also be reversed
(`direction`): P(z_old | z_new) says how old hands may write a kanji.

All log densities are in nats, over the whole z_new unless said otherwise.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.free_mixture import FreeMixture
from transfer.models.layers.mixture import LOG_2PI, Trunk, unit
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


@dataclasses.dataclass(frozen=True)
class MDNConfig:
    """Model, loss and training settings of the mixture density network. Use a preset and override
    fields."""

    density: Literal["factorised", "joint", "flow", "anchored"] = "anchored"
    direction: Literal["forward", "back"] = "forward"
    """forward: P(z_new | z_old). back: P(z_old | z_new), for which there are no anchors."""
    latent: Count = 64
    hidden: Count = 512
    layers: Count = 2
    slope: Amount = 0.01
    """Slope of the leaky ReLU below 0: this is flax's; TensorFlow's is 0.2."""
    init: Literal["lecun", "glorot"] = "lecun"
    """Distribution of the first weights: flax's, or TensorFlow's."""
    mixtures: Count = 20
    """Components (all but `anchored`)."""
    couplings: Count = 8
    """Couplings between base and data (`flow`)."""
    width: Count = 256
    """Of a coupling's dense layers (`flow`)."""
    noise: Amount = 0.0
    """How many of the drawn component's deviations a sample adds to its mean (all but `anchored`):
    1 makes it a draw from the density; 0 is what the authors' program does."""
    key: Count = 128
    """Width of queries and keys (`anchored`)."""
    key_dropout: Share = 0.5
    """Share of anchors whose key lacks its learned offset in a step, so that it comes from the
    glyph alone."""
    unseen: Finite = -2.0
    """Added to the logit of an anchor whose class has no training image: the prior odds of meeting
    one."""
    views: Natural = 1
    """Number of augmented views of each training image whose z_old are kept; 0 keeps the image as
    it is."""
    fresh: bool = False
    """Augment and encode images and glyphs anew in each step, instead of keeping views; many times
    slower on a CPU."""
    averaged: Natural = 0
    """Number of warped forms of an image whose z_old are averaged with its own when it is read
    (`vae.averaged_z`)."""
    balance: Share = 0.5
    fonts: Share = 0.0
    """Share of a batch drawn from brush fonts, if the data folder has them."""
    hands: Share = 0.0
    """Share of a batch drawn from made hands, if the data folder has them."""
    variants: bool = False
    """Pair an image with a random modern variant of its kanji instead of its standard form."""
    direct: bool = False
    """Ask the old VAE's own classifier of z_old too. `anchored`: a product of the similarities and
    its probabilities, each raised to an exponent that is fitted on val. All others: its
    probabilities are a second input of the network. Not for the direction back."""
    label_smoothing: BelowOne = 0.0
    """Part of an anchored density's target that is spread over all anchors with an image."""
    temperature: Positive = 1.0
    """Divides the mixture logits when candidates are drawn, and scales the variance of `noise`;
    0.25 in the paper."""
    steps: Count = 2_000
    batch: Count = 1024
    learning_rate: Positive = 1e-3
    warmup: WarmUp = 100
    weight_decay: Amount = 1e-3
    ema: BelowOne = 0.995
    products: Literal["float32", "bfloat16"] = "float32"
    """Of matrices while training: operands may be rounded to bfloat16, sums are float32."""

    def __post_init__(self):
        """Raise ValueError for settings that are not allowed."""
        settings.check(self)
        settings.check_sum(self, "fonts", "hands")

    @classmethod
    def paper(cls) -> MDNConfig:
        """The authors' program: 3 layers of 1024, 100 mixtures per dimension, Adam 1e-3, batch
        3,000, 30,000 steps."""
        return cls(
            density="factorised",
            hidden=1024,
            layers=3,
            slope=0.2,
            init="glorot",
            mixtures=100,
            fresh=True,
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
        """About 4 minutes on two CPU cores, mostly for encoding the images."""
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


def suited(config: MDNConfig, density: str | None, direction: str | None) -> MDNConfig:
    """A preset's settings for another form of density, or for the direction back.

    density: the form. None is the preset's own, or "flow" for the direction back, where there are
    no anchors.
    direction: None is the preset's own.

    A density that generates takes longer to learn than one that chooses: it gets more steps and
    views, and as many layers as the authors'. Forward, its samples have the authors' temperature.
    """
    direction = direction or config.direction
    if density is None:
        density = "flow" if (direction, config.density) == ("back", "anchored") else config.density
    config = dataclasses.replace(config, direction=direction)
    if density == config.density or config.density != "anchored":
        noise = 1.0 if density == "flow" else config.noise
        return dataclasses.replace(config, density=density, noise=noise)
    return dataclasses.replace(
        config,
        density=density,
        layers=3,
        width=config.hidden // 2,
        views=max(2, config.views),
        noise=1.0 if density == "flow" or direction == "back" else 0.0,
        temperature=0.25 if direction == "forward" else config.temperature,
        steps=5 * config.steps,
    )


def unused(config: MDNConfig) -> frozenset[str]:
    """Settings that have no effect together with the others."""
    names = {"views"} if config.fresh else set()
    if config.density == "anchored":
        names |= {"mixtures", "noise"}
    else:
        names |= {"key", "key_dropout", "unseen", "label_smoothing"}
    if config.direction == "back":
        names |= {"direct"}
    if config.density != "flow":
        names |= {"couplings", "width"}
    return frozenset(names)


class AnchoredMixture(nnx.Module):
    """A mixture of the gallery's posteriors; the network gives their weights (`anchored`)."""

    def __init__(self, config: MDNConfig, anchors: int, rngs: nnx.Rngs):
        self.config = config
        trunk = lambda layers: Trunk(
            config.latent, config.hidden, layers, config.key, rngs, config.slope, config.init
        )
        self.query, self.key = trunk(config.layers), trunk(1)
        self.offset = nnx.Param(jnp.zeros((anchors, config.key)))
        self.log_sharpness = nnx.Param(jnp.log(jnp.float32(16.0)))
        if config.direct:
            # Not trained here: the classifier's rows, which anchors have them, both exponents.
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


def build(config: MDNConfig, anchors: int, rngs: nnx.Rngs) -> FreeMixture | AnchoredMixture:
    """The network of a configuration, for a gallery of `anchors` kanji."""
    return (
        AnchoredMixture(config, anchors, rngs)
        if config.density == "anchored"
        else FreeMixture(config, anchors, rngs)
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

    For anchors that the classifier does not know, it is the logarithm of similar^(a + b).

    similar, direct: (B, G), log probabilities.
    known: (G,), 1 for anchors that the classifier knows, else 0.
    """
    return exponents[0] * similar + exponents[1] * jnp.where(known > 0, direct, similar)


def log_prob(model, z_old: jax.Array, z_new: jax.Array, gallery: Gallery) -> jax.Array:
    """log P(z_new | z_old), (B,); for a density `back`, log P(z_old | z_new)."""
    if model.config.density == "anchored":
        weights = jax.nn.log_softmax(anchored_logits(model, z_old, gallery))
        return jax.nn.logsumexp(weights + gallery_log_density(z_new, gallery), -1)
    if model.config.direction == "back":
        z_old, z_new = z_new, z_old
    return model.log_density(model(z_old), z_new)


def candidate_scores(model, z_old: jax.Array, gallery: Gallery) -> jax.Array:
    """log probability of every kanji of the gallery, (B, G). The probabilities sum to one.

    For an anchored density these are the mixture weights. Otherwise they come from Bayes' rule with
    the gallery's means and a uniform prior: how likely the density makes each kanji, or, for a
    density `back`, how likely each kanji makes z_old.
    """
    if model.config.density == "anchored":
        return jax.nn.log_softmax(anchored_logits(model, z_old, gallery))
    row = lambda parts, x: model.log_density(jax.tree.map(lambda a: a[None], parts), x[None])[0]
    if model.config.direction == "back":
        parts = model(gallery.mean)
        scores = jax.lax.map(lambda z: jax.vmap(lambda each: row(each, z))(parts), z_old)
    else:
        each = lambda parts: jax.vmap(lambda mean: row(parts, mean))(gallery.mean)
        scores = jax.lax.map(each, model(z_old))
    return jax.nn.log_softmax(scores)


def sample(
    model,
    given: jax.Array,
    gallery: Gallery,
    key: jax.Array,
    temperature: float = 1.0,
    noise: float | None = None,
) -> jax.Array:
    """One z_new for each z_old (B, 64), or for a density `back` one z_old for each z_new: (B, 64).

    A component is drawn with logits divided by `temperature`, and its mean is taken. `noise` [the
    configuration's] adds that many of the component's deviations, times the root of the
    temperature; 1 at temperature 1 makes the sample a draw from the density.
    """
    if model.config.density == "anchored":
        logits = anchored_logits(model, given, gallery) / temperature
        return gallery.mean[jax.random.categorical(key, logits)]
    noise = model.config.noise if noise is None else noise
    return model.draw(model(given), key, temperature, noise)


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

    It is the mean negative log-likelihood per dimension. For the anchored density, log P is the log
    weight of the pair's own anchor + log q(z_new | glyph), because the posteriors hardly overlap.
    Only the first term depends on the parameters, so it is the loss. Anchors never seen with an
    image take no part, or they would learn to be unlikely.

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
