"""Sketch-RNN whose step is a whole stroke: a modern latent z_new becomes the strokes of a kanji.

The paper's decoder (`models/sketch_rnn.py`; Ha and Eck 2017, arXiv 1704.03477) moves the pen point
by point, in some fifty steps per kanji, and errors add up on the way. Here a stroke is a fixed
number of points in the page's own coordinates (in BézierSketch, arXiv 2007.02190, a step is a
curve). A kanji takes some twelve steps, and each is drawn from a mixture of Gaussians over the
whole stroke. The LSTM remembers what has been written, and how many strokes are left of a number
that is read from z. After it, two layers of attention look at the picture that the new VAE paints
of z, and at its ink that is still to be written.

Strokes are *codes*: a stroke's points along the principal axes of all strokes, each divided by its
standard deviation (`Axes`). `condition` is a dict: "z" (B, latent) and "picture" (B, 64, 64)
float32 in [0, 1], ink 1. Lengths are in KanjiVG's box units (109).

This module holds the configuration, the network and the loss. `stroke_sampling` draws, and
`stroke_fitting` fits the drawing to the picture.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.recurrent import lstm
from transfer.models.stroke_forms import BOX, GRID, Axes, coarse_picture, ink_of
from transfer.system import settings
from transfer.system.settings import Amount, BelowOne, Count, Natural, Part, Positive, Range, WarmUp

LOG_2PI = 1.8378770664093453
MOST_STROKES = 40
"""The most strokes of one drawing that a plan allows; KanjiVG's kanji have up to 34."""
PLACE = 18
"""How many numbers state the place of a feature of the picture: its coordinates, and their
`fourier`."""


@dataclasses.dataclass(frozen=True)
class StrokeRNNConfig:
    """Model, loss and training settings of the decoder. Use a preset and override fields."""

    stroke_points: Annotated[int, Range(2)] = 12
    """Points of a stroke, closer together where it turns (`transfer.data.strokes.resample`)."""
    latent: Count = 64
    units: Count = 512
    """Units of the LSTM."""
    embed: Count = 256
    """Width of the layer between a step's inputs and the LSTM."""
    width: Count = 384
    """Of the layers after the LSTM."""
    blocks: Count = 2
    """Layers of attention to the picture, each followed by a dense layer."""
    heads: Count = 6
    channels: Annotated[int, Range(PLACE)] = 64
    """Channels of the picture's 16x16 feature map."""
    mixtures: Count = 8
    finest: Positive = 0.3
    """Smallest standard deviation of a mixture component along any axis, in box units; finer detail
    is not worth learning."""
    noise: Amount = 0.8
    """Standard deviation, in box units, of the error that training adds to the places of earlier
    strokes."""
    plan_hidden: Count = 512
    plan_batch: Count = 1024
    """Glyphs whose strokes a training step learns to count. It costs next to nothing, and takes
    hundreds of passes."""
    most: Annotated[int, Range(1, MOST_STROKES)] = 36
    """Strokes that a drawing can have."""
    buckets: Count = 5
    """How many numbers of strokes programs are compiled for; an example goes to the smallest that
    holds it."""
    views: Count = 4
    """Number of draws from every glyph's posterior that training uses; the first is its mean."""
    attempts: Count = 4
    """How often a drawing is written at most; the one most like the picture is kept."""
    enough: Part = 0.88
    """Likeness to the picture from which on the first attempt is kept and no other is made."""
    fit_steps: Natural = 30
    """Steps that then fit it to the picture's ink (`stroke_fitting.fit`); 0 leaves it as it was
    written."""
    fit_rate: Positive = 0.12
    """Length of the longest of these steps, in standard deviations of all strokes."""
    temperature: Part = 0.3
    """Temperature of drawing: it divides the mixture's logits and scales the variances."""
    steps: Count = 6_000
    batch: Count = 64
    learning_rate: Positive = 1e-3
    warmup: WarmUp = 200
    weight_decay: Amount = 1e-4
    clip: Positive = 1.0
    """Gradient clipping by global norm."""
    ema: BelowOne = 0.998
    products: Literal["float32", "bfloat16"] = "float32"
    """Of matrices while training: operands may be rounded to bfloat16, sums are float32."""

    def __post_init__(self):
        """Raise ValueError for settings that are not allowed."""
        settings.check(self)

    @classmethod
    def small(cls) -> StrokeRNNConfig:
        """About 20 minutes on two CPU cores."""
        return cls(steps=8_000)

    @classmethod
    def long(cls) -> StrokeRNNConfig:
        """The same as `small`: more hands of the old domain change nothing here."""
        return cls.small()

    @classmethod
    def base(cls) -> StrokeRNNConfig:
        """For one H100."""
        return cls(
            units=1024,
            embed=512,
            width=768,
            heads=12,
            channels=128,
            views=8,
            steps=60_000,
            batch=256,
            ema=0.9995,
        )

    @classmethod
    def tiny(cls) -> StrokeRNNConfig:
        """For the sample corpus: a minute."""
        return cls(
            units=128,
            embed=64,
            width=96,
            heads=3,
            channels=32,
            mixtures=4,
            plan_hidden=128,
            plan_batch=256,
            buckets=2,
            steps=800,
            batch=32,
            warmup=50,
            ema=0.98,
        )


# Inputs of a step ---------------------------------------------------------------------------------


def fourier(position: jax.Array) -> jax.Array:
    """The pen's position on the page (…, 2) as sines and cosines of four frequencies, (…, 16)."""
    angle = position[..., None] * (jnp.pi / BOX) * jnp.array([1.0, 2.0, 4.0, 8.0])
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*position.shape[:-1], 16)


def strokes_left(left: jax.Array) -> jax.Array:
    """The number of unfinished strokes (…) int32 as inputs of a step, (…, 5).

    The inputs are their number, and which number from 0 to 3 it is, if it is so small.
    """
    few = jax.nn.one_hot(left, 4)  # zeros above 3
    return jnp.concatenate([left[..., None] / 10.0, few], -1)


# Model --------------------------------------------------------------------------------------------


class Look(nnx.Module):
    """Attention of steps to the picture's features, followed by a dense layer.

    Each head learns how much it attends to ink that is still to be written.
    """

    def __init__(self, config: StrokeRNNConfig, rngs: nnx.Rngs):
        self.heads = config.heads
        width, inner = config.width, config.heads * 32
        self.norm, self.norm_dense = (
            nnx.LayerNorm(width, rngs=rngs),
            nnx.LayerNorm(width, rngs=rngs),
        )
        self.query, self.pull = (
            nnx.Linear(width, inner, rngs=rngs),
            nnx.Linear(width, config.heads, rngs=rngs),
        )
        self.key, self.value = (
            nnx.Linear(config.channels, inner, rngs=rngs),
            nnx.Linear(config.channels, inner, rngs=rngs),
        )
        self.back = nnx.Linear(inner, width, rngs=rngs)
        self.first, self.second = (
            nnx.Linear(width, 2 * width, rngs=rngs),
            nnx.Linear(2 * width, width, rngs=rngs),
        )

    def folded(self) -> dict:
        """The layer's kernels multiplied with each other, for each head.

        The query's kernel is multiplied with the key's, and the value's with the one after it.
        Attention then applies to the features themselves. They are read from memory instead of each
        layer's keys and values, which are six times as large. A key's bias adds the same to the
        scores of all positions, and the values' bias reaches the output unchanged, since weights
        sum to 1.
        """
        width, channels = self.norm.num_features, self.key.in_features
        key, value = (
            layer.kernel[...].reshape(channels, self.heads, 32) for layer in (self.key, self.value)
        )
        query, bias = (
            self.query.kernel[...].reshape(width, self.heads, 32),
            self.query.bias[...].reshape(self.heads, 32),
        )
        back = self.back.kernel[...].reshape(self.heads, 32, width)
        return {
            "query": jnp.einsum("whd,chd->whc", query, key).reshape(width, -1) / 32**0.5,
            "query_bias": jnp.einsum("hd,chd->hc", bias, key).reshape(-1) / 32**0.5,
            "back": jnp.einsum("chd,hdw->hcw", value, back).reshape(-1, width),
            "back_bias": self.back(self.value.bias[...][None])[0],
        }

    def __call__(
        self, x: jax.Array, left: jax.Array, features: jax.Array, turned: jax.Array, folded: dict
    ) -> jax.Array:
        """The steps (B, T, width) after attention to the picture.

        x: (B, T, width), the steps.
        left: (B, T, 256), ink that is still to be written.
        features: (B, 256, channels), of the picture.
        turned: (B, channels, 256), the same transposed.
        folded: the result of `folded`.
        """
        inner, (batch, steps, _) = self.norm(x), x.shape
        query = inner @ folded["query"] + folded["query_bias"]
        score = (query.reshape(batch, steps * self.heads, -1) @ turned).reshape(
            batch, steps, self.heads, -1
        )
        share = jax.nn.softmax(score + self.pull(inner)[..., None] * left[:, :, None])
        seen = share.reshape(batch, steps * self.heads, -1) @ features
        x = x + seen.reshape(batch, steps, -1) @ folded["back"] + folded["back_bias"]
        return x + self.second(nnx.relu(self.first(self.norm_dense(x))))


class StrokeRNN(nnx.Module):
    """The decoder: an LSTM over strokes, and attention to the picture after it.

    A step's inputs are the previous stroke, where it ended, the strokes and the ink that are left,
    and z.
    """

    def __init__(self, config: StrokeRNNConfig, rngs: nnx.Rngs):
        self.config = config
        units, codes, positions = config.units, 2 * config.stroke_points, GRID**2
        self.plan_hidden = nnx.Linear(config.latent, config.plan_hidden, rngs=rngs)
        self.plan_out = nnx.Linear(config.plan_hidden, MOST_STROKES + 1, rngs=rngs)
        self.first_layer = nnx.Conv(16, config.channels, (3, 3), rngs=rngs)
        self.second_layer = nnx.Conv(config.channels, config.channels, (3, 3), rngs=rngs)
        # Where a feature lies is given in numbers that a stroke's points can be made of: attention
        # then averages positions.
        centre = jnp.stack(
            jnp.meshgrid(*2 * [(jnp.arange(GRID) + 0.5) * (BOX / GRID)], indexing="xy"), -1
        ).reshape(positions, 2)
        place = jnp.concatenate([centre * (2 / BOX) - 1, fourier(centre)], -1)
        rest = 0.1 * jax.random.normal(
            rngs.params(), (positions, config.channels - place.shape[-1])
        )
        self.place = nnx.Param(jnp.concatenate([place, rest], -1))
        self.context = nnx.Linear(config.latent + positions, 256, rngs=rngs)
        self.start = nnx.Linear(256, 2 * units, rngs=rngs)
        self.embed = nnx.Linear(codes + 16 + 1 + 5 + positions + 256, config.embed, rngs=rngs)
        orthogonal = nnx.initializers.orthogonal()
        self.kernel = nnx.Param(
            jnp.concatenate([orthogonal(rngs.params(), (units, units)) for _ in range(4)], 1)
        )
        self.inputs = nnx.Linear(config.embed, 4 * units, rngs=rngs)
        self.enter = nnx.Linear(units + config.embed, config.width, rngs=rngs)
        self.looks = nnx.List([Look(config, rngs) for _ in range(config.blocks)])
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.out = nnx.Linear(config.width, config.mixtures * (1 + 2 * codes), rngs=rngs)

    def plan(self, condition: dict) -> jax.Array:
        """Logits of the number of strokes, (B, MOST_STROKES + 1)."""
        return self.plan_out(nnx.relu(self.plan_hidden(condition["z"])))

    def see(self, condition: dict) -> dict:
        """The conditioning of every step, computed once.

        context: (B, 256), of z and the picture.
        coarse: (B, 256), the coarse picture.
        h, c: (B, units), the LSTM's initial state.
        features: (B, 256, channels), of the picture.
        turned: (B, channels, 256), the same transposed.
        looks: the folded weights of the layers of attention (`Look.folded`).
        """
        picture = condition["picture"]
        batch = picture.shape[0]
        blocks = (
            picture.reshape(batch, GRID, 4, GRID, 4)
            .transpose(0, 1, 3, 2, 4)
            .reshape(batch, GRID, GRID, 16)
        )
        features = (
            nnx.relu(self.second_layer(nnx.relu(self.first_layer(blocks)))).reshape(
                batch, GRID**2, -1
            )
            + self.place[...]
        )
        coarse = coarse_picture(picture).reshape(batch, -1)
        context = jnp.tanh(self.context(jnp.concatenate([condition["z"], 3.0 * coarse], -1)))
        h, c = jnp.split(jnp.tanh(self.start(context)), 2, -1)
        return {
            "context": context,
            "coarse": coarse,
            "h": h,
            "c": c,
            "features": features,
            "turned": features.transpose(0, 2, 1),
            "looks": [look.folded() for look in self.looks],
        }

    def embedded(
        self,
        before: jax.Array,
        end: jax.Array,
        first: jax.Array,
        count_left: jax.Array,
        ink_left: jax.Array,
        seen: dict,
    ) -> jax.Array:
        """The inputs of steps as one vector each, (B, T, embed).

        before: (B, T, 2P), codes of the previous stroke.
        end: (B, T, 2), its last point.
        first: (B, T), 1 where there is no previous stroke.
        count_left: (B, T) int32, strokes left.
        ink_left: (B, T, 256), ink left.
        seen: the result of `see`.
        """
        context = jnp.broadcast_to(
            seen["context"][:, None], (*before.shape[:2], seen["context"].shape[-1])
        )
        inputs = [
            before,
            fourier(end),
            first[..., None],
            strokes_left(count_left),
            2.0 * ink_left,
            context,
        ]
        return nnx.relu(self.embed(jnp.concatenate(inputs, -1)))

    def read(
        self, hidden: jax.Array, embedded: jax.Array, ink_left: jax.Array, seen: dict
    ) -> jax.Array:
        """Mixture parameters (B, T, M * (1 + 4P)) of steps.

        hidden: (B, T, units), the LSTM's output.
        embedded, ink_left, seen: as in `embedded`, whose result comes first.
        """
        x = self.enter(jnp.concatenate([hidden, embedded], -1))
        for look, folded in zip(self.looks, seen["looks"]):
            x = look(x, 2.0 * ink_left, seen["features"], seen["turned"], folded)
        return self.out(self.norm(x))


def mixture(
    config: StrokeRNNConfig, axes: Axes, out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The mixture of codes that the network's output (…, M * (1 + 4P)) describes.

    Returns log weights (…, M), means (…, M, 2P) and log standard deviations (…, M, 2P).
    """
    codes = 2 * config.stroke_points
    out = out.reshape(*out.shape[:-1], config.mixtures, 1 + 2 * codes)
    # Never finer than `finest`, never wider than all strokes' deviation (times 1.6); smooth in
    # between.
    finest = jnp.minimum(jnp.log(config.finest / axes.deviation), -0.5)
    log_scales = finest + (0.5 - finest) * jax.nn.sigmoid(out[..., 1 + codes :] + 1.0)
    return jax.nn.log_softmax(out[..., 0]), out[..., 1 : 1 + codes], log_scales


def log_prob(parameters: tuple, codes: jax.Array) -> jax.Array:
    """Log density of codes (…, 2P) under the parameters of `mixture`, (…), in nats."""
    weights, means, log_scales = parameters
    z = (codes[..., None, :] - means) * jnp.exp(-log_scales)
    return jax.nn.logsumexp(
        weights - 0.5 * (z**2).sum(-1) - log_scales.sum(-1) - 0.5 * LOG_2PI * codes.shape[-1], -1
    )


# Loss ---------------------------------------------------------------------------------------------


def negative_log_likelihood(
    model: StrokeRNN, axes: Axes, strokes: jax.Array, count: jax.Array, condition: dict, key=None
) -> jax.Array:
    """NLL of drawings, (B,), in nats summed over their strokes' codes.

    strokes: (B, T, P, 2) in box units.
    count: (B,) int32, how many strokes each drawing has.
    condition: dict of "z" (B, latent) and "picture" (B, 64, 64).
    key: of the noise in training, which moves earlier strokes a little, as errors will in drawing.
    None for no noise.
    """
    config = model.config
    number = jnp.arange(strokes.shape[1])
    valid = number < count[:, None]
    written = strokes
    if key is not None:
        shift_key, shape_key = jax.random.split(key)
        written = written + config.noise * jax.random.normal(shift_key, (*strokes.shape[:2], 1, 2))
        written = written + 0.3 * config.noise * jax.random.normal(shape_key, strokes.shape)
    before = jnp.pad(written[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    first = jnp.broadcast_to(number == 0, valid.shape)
    conditioning = jnp.where(first[..., None], 0.0, axes.encode(before))
    done = jnp.cumsum(jnp.where(first[..., None], 0.0, ink_of(before)), 1)
    seen = model.see(condition)
    left = seen["coarse"][:, None] - done
    embedded = model.embedded(
        conditioning,
        before[:, :, -1],
        first.astype(jnp.float32),
        jnp.maximum(count[:, None] - number, 0),
        left,
        seen,
    )
    gate_inputs = model.inputs(embedded).transpose(1, 0, 2)
    hidden = lstm(
        gate_inputs, jnp.ones((1, 1, 1)), model.kernel[...], seen["h"], seen["c"]
    ).transpose(1, 0, 2)
    parameters = mixture(config, axes, model.read(hidden, embedded, left, seen))
    return -(log_prob(parameters, axes.encode(strokes)) * valid).sum(1)


def loss(model: StrokeRNN, axes: Axes, strokes, count, condition, key):
    """The mean NLL per stroke, in nats, and its parts. Arguments are as in
    `negative_log_likelihood`."""
    value = negative_log_likelihood(model, axes, strokes, count, condition, key).sum() / count.sum()
    return value, {"nll_per_stroke": value}


def plan_loss(model: StrokeRNN, z: jax.Array, strokes: jax.Array):
    """The mean NLL of the numbers of strokes (B,) int32 given z (B, latent), in nats, and its
    parts."""
    logits = jax.nn.log_softmax(model.plan({"z": z}))
    value = -jnp.take_along_axis(logits, strokes[:, None], 1).mean()
    return value, {"plan": value, "plan_right": (logits.argmax(-1) == strokes).mean()}
