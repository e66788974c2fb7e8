"""Sketch-RNN whose step is a whole stroke: a modern latent z_new becomes the strokes of a kanji,
one after another.

The paper's decoder (`transfer.sketch_rnn`) moves the pen point by point, some fifty steps a kanji,
and errors add up on the way. Here a stroke is a fixed number of points in the page's own
coordinates (as BézierSketch has a curve for a step, arXiv 2007.02190), some twelve steps a kanji,
each drawn from a mixture of Gaussians over the whole stroke. The LSTM remembers what has been
written and how many strokes are left of a number that is read off z; after it, two layers of
attention look at the picture that the new VAE paints of z and at the ink of it that is still to be
written.

Strokes are *codes*: a stroke's points along the principal axes of all strokes, each divided by its
standard deviation (`Axes`). `condition` is a dict: "z" (B, latent) and "picture" (B, 64, 64)
float32 in [0, 1], ink 1. Lengths are in KanjiVG's box units (109).
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.models.layers.recurrent import gates, lstm

BOX, GRID = 109.0, 16
"""Box units a side of the page, and cells a side of the coarse page that the decoder sees."""
INK_WIDTH = 3.0
"""Stroke width of the rasters in box units: turns pen travel into ink."""
LOG_2PI = 1.8378770664093453
MOST_STROKES = 40
"""Of one drawing, as far as plans go; KanjiVG's kanji have up to 34."""


@dataclasses.dataclass(frozen=True)
class StrokeRNNConfig:
    """Model, loss and training settings of the decoder. Use a preset and override fields."""

    stroke_points: int = 12
    """Points of a stroke, closer where it turns (`data.strokes.resample`)."""
    latent: int = 64
    units: int = 512
    """Of the LSTM."""
    embed: int = 256
    """Width of the layer between a step's inputs and the LSTM."""
    width: int = 384
    """Of the layers after the LSTM."""
    blocks: int = 2
    """Layers of attention to the picture, each followed by a dense layer."""
    heads: int = 6
    channels: int = 64
    """Of the picture's 16x16 feature map."""
    mixtures: int = 8
    finest: float = 0.3
    """Smallest standard deviation of a mixture component along any axis, box units: finer detail is
    not worth learning."""
    noise: float = 0.8
    """Standard deviation, box units, of the error added while training to where the strokes before
    lie."""
    plan_hidden: int = 512
    plan_batch: int = 1024
    """Glyphs that a training step learns to count the strokes of: it costs next to nothing, and
    takes hundreds of passes."""
    most: int = 36
    """Strokes that a drawing can have."""
    buckets: int = 5
    """Numbers of strokes that are compiled for; an example goes to the smallest that holds it."""
    views: int = 4
    """Draws of every glyph's posterior that training goes through, its mean the first."""
    ways: int = 4
    """Times that every drawing is written; the one that is most like the picture is kept."""
    fit_steps: int = 60
    """Steps by which it is then fitted to the picture's ink (`fit`); 0 leaves it as it was
    written."""
    fit_rate: float = 0.05
    """Length of the longest of these steps, in standard deviations of all strokes."""
    temperature: float = 0.3
    """Of drawing: divides the mixture's logits and scales the variances."""
    steps: int = 6_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Gradient clipping by global norm."""
    ema: float = 0.998

    @classmethod
    def small(cls) -> StrokeRNNConfig:
        """About 20 minutes on two CPU cores."""
        return cls(steps=8_000)

    @classmethod
    def long(cls) -> StrokeRNNConfig:
        """As `small`: more hands of the old domain change nothing here."""
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


# Strokes as codes ---------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Axes:
    """Principal axes of strokes (n, P, 2): mean (2P,), axes (2P, 2P) orthonormal columns, deviation
    (2P,) along each, box units."""

    mean: jax.Array
    axes: jax.Array
    deviation: jax.Array

    @classmethod
    def of(cls, strokes: np.ndarray) -> Axes:
        """Those of the strokes (n, P, 2)."""
        x = strokes.reshape(len(strokes), -1).astype(np.float64)
        mean = x.mean(0)
        values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
        # Few strokes leave axes without any spread.
        deviation = np.sqrt(np.maximum(values[::-1], 1e-4))
        return cls(*(np.float32(a) for a in (mean, vectors[:, ::-1], deviation)))

    def encode(self, strokes: jax.Array) -> jax.Array:
        """(…, P, 2) in box units -> (…, 2P) codes."""
        return (strokes.reshape(*strokes.shape[:-2], -1) - self.mean) @ self.axes / self.deviation

    def decode(self, codes: jax.Array) -> jax.Array:
        """(…, 2P) codes -> (…, P, 2) in box units."""
        return ((codes * self.deviation) @ self.axes.T + self.mean).reshape(
            *codes.shape[:-1], -1, 2
        )


def ink_of(strokes: jax.Array, samples: int = 4, grid: int = GRID) -> jax.Array:
    """Ink that strokes (…, P, 2), box units, leave on a grid x grid page: (…, grid * grid) mean
    ink."""
    start, end = strokes[..., :-1, :], strokes[..., 1:, :]
    t = ((jnp.arange(samples) + 0.5) / samples)[:, None]
    points = start[..., None, :] + t * (end - start)[..., None, :]  # (…, P - 1, samples, 2)
    length = jnp.sqrt(((end - start) ** 2).sum(-1) + 1e-12)[..., None] / samples
    place = points.reshape(*strokes.shape[:-2], -1, 2) * (grid / BOX) - 0.5
    near = jnp.maximum(
        0.0, 1.0 - jnp.abs(place[..., None] - jnp.arange(grid))
    )  # (…, points, 2, grid)
    amount = jnp.broadcast_to(length, points.shape[:-1]).reshape(*strokes.shape[:-2], -1) * (
        INK_WIDTH * (grid / BOX) ** 2
    )
    return jnp.einsum(
        "...si,...sj->...ij", near[..., 1, :] * amount[..., None], near[..., 0, :]
    ).reshape(*strokes.shape[:-2], -1)


def coarse_picture(picture: jax.Array, grid: int = GRID) -> jax.Array:
    """(B, 64, 64) -> (B, grid, grid): mean ink of each block of pixels."""
    block = picture.shape[-1] // grid
    return picture.reshape(-1, grid, block, grid, block).mean((2, 4))


def fourier(position: jax.Array) -> jax.Array:
    """Position (…, 2) as sines and cosines of four frequencies, (…, 16): the pen's place on the
    page."""
    angle = position[..., None] * (jnp.pi / BOX) * jnp.array([1.0, 2.0, 4.0, 8.0])
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*position.shape[:-1], 16)


def strokes_left(left: jax.Array) -> jax.Array:
    """Strokes not yet finished (…), int32, as inputs of a step (…, 5): how many, and which of 0 to
    3 if so few."""
    few = jax.nn.one_hot(left, 4)  # zeros above 3
    return jnp.concatenate([left[..., None] / 10.0, few], -1)


# Model --------------------------------------------------------------------------------------------


class Look(nnx.Module):
    """Attention of steps (B, T, width) to the picture's features, drawn to ink that is still to be
    written as each head likes."""

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
        """The products of the query's kernel with the key's and of the value's with the one after
        it, for each head: attention is then to the features themselves, which are read from memory
        instead of keys and values of each layer, six times as large.

        A key's bias adds the same to all positions' scores, and the values' reaches the output
        whole, as weights sum to 1.
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
            "back_bias": self.back(self.value.bias[...]),
        }

    def __call__(
        self, x: jax.Array, left: jax.Array, features: jax.Array, turned: jax.Array, folded: dict
    ) -> jax.Array:
        """x (B, T, width), left (B, T, 256), features (B, 256, channels) and turned (B, channels,
        256) -> (B, T, width)."""
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
    """The decoder. A step's inputs are the stroke before, where it ended, the strokes and the ink
    that are left, and z."""

    def __init__(self, config: StrokeRNNConfig, rngs: nnx.Rngs):
        self.config = config
        units, codes, positions = config.units, 2 * config.stroke_points, GRID**2
        self.plan_hidden = nnx.Linear(config.latent, config.plan_hidden, rngs=rngs)
        self.plan_out = nnx.Linear(config.plan_hidden, MOST_STROKES + 1, rngs=rngs)
        self.first_layer = nnx.Conv(16, config.channels, (3, 3), rngs=rngs)
        self.second_layer = nnx.Conv(config.channels, config.channels, (3, 3), rngs=rngs)
        # Where a feature lies is told in numbers that a stroke's points can be made of: attention
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
        """What every step is told: context (B, 256), coarse picture (B, 256), initial h and c (B,
        units), the picture's features (B, 256, channels), also turned, and what the layers of
        attention make of their weights."""
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
        """Codes of the stroke before (B, T, 2P), its last point (B, T, 2), whether there is none
        (B, T), strokes left (B, T) and ink left (B, T, 256) -> (B, T, embed)."""
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
        """LSTM output (B, T, units) and the step's inputs -> mixture parameters (B, T, M * (1 +
        4P))."""
        x = self.enter(jnp.concatenate([hidden, embedded], -1))
        for look, folded in zip(self.looks, seen["looks"]):
            x = look(x, 2.0 * ink_left, seen["features"], seen["turned"], folded)
        return self.out(self.norm(x))


def mixture(
    config: StrokeRNNConfig, axes: Axes, out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(…, M * (1 + 4P)) -> log weights (…, M), means (…, M, 2P) and log standard deviations (…, M,
    2P) of codes."""
    codes = 2 * config.stroke_points
    out = out.reshape(*out.shape[:-1], config.mixtures, 1 + 2 * codes)
    # Never finer than `finest`, never wider than all strokes' spread (times 1.6); smooth in
    # between.
    finest = jnp.minimum(jnp.log(config.finest / axes.deviation), -0.5)
    log_scales = finest + (0.5 - finest) * jax.nn.sigmoid(out[..., 1 + codes :] + 1.0)
    return jax.nn.log_softmax(out[..., 0]), out[..., 1 : 1 + codes], log_scales


def log_prob(parameters: tuple, codes: jax.Array) -> jax.Array:
    """log density of codes (…, 2P) under `mixture` parameters, (…), in nats."""
    weights, means, log_scales = parameters
    z = (codes[..., None, :] - means) * jnp.exp(-log_scales)
    return jax.nn.logsumexp(
        weights - 0.5 * (z**2).sum(-1) - log_scales.sum(-1) - 0.5 * LOG_2PI * codes.shape[-1], -1
    )


def sample(parameters: tuple, key: jax.Array, temperature: jax.Array) -> jax.Array:
    """Codes (2P,) drawn from one stroke's `mixture` parameters (M,), (M, 2P), (M, 2P), its logits
    divided by the temperature and its variances multiplied with it."""
    weights, means, log_scales = parameters
    mixture_key, normal_key = jax.random.split(key)
    chosen = jax.random.categorical(mixture_key, weights / temperature)
    return means[chosen] + jnp.sqrt(temperature) * jnp.exp(log_scales[chosen]) * jax.random.normal(
        normal_key, means.shape[1:]
    )


# Loss ---------------------------------------------------------------------------------------------


def negative_log_likelihood(
    model: StrokeRNN, axes: Axes, strokes: jax.Array, count: jax.Array, condition: dict, key=None
) -> jax.Array:
    """NLL of drawings, (B,), in nats summed over their strokes' codes.

    strokes (B, T, P, 2) in box units, of which count (B,) are there. With a key, where the strokes
    before lie is not quite right, as it will be in drawing.
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
    told = jnp.where(first[..., None], 0.0, axes.encode(before))
    done = jnp.cumsum(jnp.where(first[..., None], 0.0, ink_of(before)), 1)
    seen = model.see(condition)
    left = seen["coarse"][:, None] - done
    embedded = model.embedded(
        told,
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
    """Mean NLL a stroke, in nats, and its parts."""
    value = negative_log_likelihood(model, axes, strokes, count, condition, key).sum() / count.sum()
    return value, {"nll_per_stroke": value}


def plan_loss(model: StrokeRNN, z: jax.Array, strokes: jax.Array):
    """Mean NLL of the numbers of strokes (B,) int32 of z (B, latent), in nats, and its parts."""
    logits = jax.nn.log_softmax(model.plan({"z": z}))
    value = -jnp.take_along_axis(logits, strokes[:, None], 1).mean()
    return value, {"plan": value, "plan_right": (logits.argmax(-1) == strokes).mean()}


@partial(jax.jit, static_argnums=0)
def planned(graph, params, z: jax.Array) -> jax.Array:
    """The number of strokes that is read off z (B, latent), (B,)."""
    return nnx.merge(graph, params).plan({"z": z}).argmax(-1)


# Drawing ------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0,), static_argnames="most")
def draw(
    graph,
    params,
    axes: Axes,
    condition: dict,
    keys: jax.Array,
    temperature: jax.Array,
    most: int | None = None,
):
    """Write one drawing for each condition.

    condition: dict of (B, …); keys (B,) one random key a drawing, so that no drawing depends on its
    neighbours; temperature (): divides logits and scales variances; most: strokes that are compiled
    for [config.most], no drawing has more. Returns strokes (B, most, P, 2) float32 in box units,
    how many of them there are (B,) int32, the log-likelihoods of the drawings as they were written,
    at temperature 1, (B,), and their `likeness` to the pictures, (B,). Stops when the longest
    drawing is done. Every drawing is the best of `ways`, by likeness, fitted to its picture
    (`fit`).
    """
    model = nnx.merge(graph, params)
    config, batch, ways = model.config, keys.shape[0], model.config.ways
    most = most or config.most
    keys = jax.vmap(
        lambda key: jax.vmap(lambda way: jax.random.fold_in(key, way))(jnp.arange(ways))
    )(keys)
    # The ways of a drawing are the steps of one row to the attention: its features are read from
    # memory once for all of them.
    seen = model.see(condition)
    wanted = jnp.clip(model.plan(condition).argmax(-1), 1, most).astype(jnp.int32)
    again = lambda a: jnp.repeat(a[:, None], ways, 1)
    start = {
        "strokes": jnp.zeros((most, batch, ways, config.stroke_points, 2)),
        "score": jnp.zeros((batch, ways)),
        "h": again(seen["h"]),
        "c": again(seen["c"]),
        "code": jnp.zeros((batch, ways, 2 * config.stroke_points)),
        "end": jnp.zeros((batch, ways, 2)),
        "done": jnp.zeros((batch, ways, GRID**2)),
    }

    def step(carry):
        number, s = carry
        left = seen["coarse"][:, None] - s["done"]
        first = jnp.full((batch, ways), number == 0, jnp.float32)
        embedded = model.embedded(
            s["code"], s["end"], first, again(jnp.maximum(wanted - number, 0)), left, seen
        )
        i, f, g, o = gates(model.inputs(embedded), s["h"], model.kernel[...])
        c = f * s["c"] + i * g
        h = o * jnp.tanh(c)
        parameters = mixture(config, axes, model.read(h, embedded, left, seen))
        code = jax.vmap(
            jax.vmap(lambda key, *of: sample(of, jax.random.fold_in(key, number), temperature))
        )(keys, *parameters)
        stroke = axes.decode(code)
        writing = (number < wanted)[:, None]
        return number + 1, {
            "strokes": s["strokes"].at[number].set(stroke * writing[..., None, None]),
            "score": s["score"] + jnp.where(writing, log_prob(parameters, code), 0.0),
            "h": h,
            "c": c,
            "code": code,
            "end": stroke[..., -1, :],
            "done": s["done"] + ink_of(stroke),
        }

    _, end = jax.lax.while_loop(lambda carry: carry[0] < wanted.max(), step, (jnp.int32(0), start))
    strokes = end["strokes"].transpose(1, 2, 0, 3, 4)  # (B, ways, most, P, 2)
    flat = strokes.reshape(batch * ways, *strokes.shape[2:])
    alike = likeness(flat, jnp.repeat(condition["picture"], ways, 0)).reshape(batch, ways)
    best = alike.argmax(-1)[:, None]
    chosen = jnp.take_along_axis(strokes, best[..., None, None, None], 1)[:, 0]
    alike = alike.max(-1)
    if config.fit_steps:
        chosen = fit(axes, chosen, wanted, condition["picture"], config.fit_steps, config.fit_rate)
        alike = likeness(chosen, condition["picture"])
    return chosen, wanted, jnp.take_along_axis(end["score"], best, 1)[:, 0], alike


# Fitting ------------------------------------------------------------------------------------------

PAGE = 32
"""Cells a side of the page on which drawings are compared with pictures."""
SAMPLES, STAY, MOMENTUM = 2, 1e-3, 0.85
"""Of `fit`: samples of each segment, weight of the squared way from where the strokes were written,
and of the steps before."""


def fit(
    axes: Axes, strokes: jax.Array, count: jax.Array, pictures: jax.Array, steps: int, rate: float
) -> jax.Array:
    """Move strokes (B, T, P, 2), of which count (B,) are there, so that their ink is that of the
    pictures (B, 64, 64): (B, T, P, 2).

    Gradient descent on `misfit` through the differentiable raster, in codes: a stroke rather moves
    and bends as a whole than point by point. Number, order and direction of the strokes stay.
    """
    codes, there = axes.encode(strokes), (jnp.arange(strokes.shape[1]) < count[:, None])[..., None]
    page = page_of(pictures)

    def step(number, carry):
        moved, momentum, longest = carry
        momentum = (
            MOMENTUM * momentum
            + misfit_gradient(axes, codes + moved, there, page)
            + 2 * STAY * moved
        )
        # By the steepest place met so far: steps as long as each other would end in swinging, which
        # makes much of a rounding.
        longest = jnp.maximum(
            longest,
            jnp.sqrt((momentum**2).sum((1, 2), keepdims=True) / count[:, None, None] + 1e-12),
        )
        return moved - rate * (1 - number / steps) * momentum / longest, momentum, longest

    start = jnp.zeros_like(codes), jnp.zeros_like(codes), jnp.zeros((len(codes), 1, 1))
    moved, _, _ = jax.lax.fori_loop(0, steps, step, start)
    return axes.decode(codes + moved) * there[..., None]


def page_of(pictures: jax.Array) -> jax.Array:
    """Pictures (B, 64, 64) as `misfit` looks at them: blurred on a coarser page (B, 32, 32)."""
    return blurred(coarse_picture(pictures, PAGE))


def blurred(pages: jax.Array) -> jax.Array:
    """(B, S, S) weighted by 1, 2, 1 along both sides: ink then feels ink that is a cell away. It is
    its own adjoint."""
    for axis in (1, 2):
        near = [(0, 0)] * 3
        near[axis] = (1, 1)
        padded = jnp.pad(pages, near)
        before, after = (
            jax.lax.slice_in_dim(padded, at, at + pages.shape[axis], axis=axis) for at in (0, 2)
        )
        pages = (before + 2 * pages + after) / 4
    return pages


def misfit(axes: Axes, codes: jax.Array, there: jax.Array, page: jax.Array) -> jax.Array:
    """Squared difference between the ink of strokes, codes (B, T, 2P) where there (B, T, 1), and
    `page_of` a picture, as a share of its square, (B,)."""
    ink = (ink_of(axes.decode(codes), SAMPLES, PAGE) * there).sum(1).reshape(page.shape)
    return ((blurred(ink) - page) ** 2).sum((1, 2)) / jnp.maximum((page**2).sum((1, 2)), 1e-6)


def misfit_gradient(axes: Axes, codes: jax.Array, there: jax.Array, page: jax.Array) -> jax.Array:
    """Gradient of the sum of `misfit` in the codes, (B, T, 2P), 0 where no stroke is, in a fraction
    of the time of XLA's own: ink touches four cells only.

    What leaves the page is held at its border.
    """
    batch, number = codes.shape[:2]
    points = axes.decode(codes)
    segments = points[:, :, 1:] - points[:, :, :-1]
    length = jnp.sqrt((segments**2).sum(-1, keepdims=True) + 1e-12)
    t = (jnp.arange(SAMPLES) + 0.5) / SAMPLES
    weight = (
        INK_WIDTH * (PAGE / BOX) ** 2 / SAMPLES * there[..., None]
    )  # ink of a sample, a unit of length
    place = (
        points[:, :, :-1, None] + t[:, None] * segments[:, :, :, None]
    )  # (B, T, P - 1, samples, 2)
    place = jnp.clip(place * (PAGE / BOX) - 0.5, 0.0, PAGE - 1.001).reshape(batch, -1, 2)
    amount = jnp.broadcast_to(length * weight, (*length.shape[:3], SAMPLES)).reshape(batch, -1)
    near = jnp.maximum(
        0.0, 1.0 - jnp.abs(place[..., None] - jnp.arange(PAGE))
    )  # (B, samples of all, 2, 32)
    ink = jnp.einsum("bsi,bsj->bij", near[:, :, 1] * amount[..., None], near[:, :, 0])
    error = (
        2 * blurred(blurred(ink) - page) / jnp.maximum((page**2).sum((1, 2), keepdims=True), 1e-6)
    )
    # How the error's bilinear value at a sample changes with its place, and, by the length of its
    # segment, with its amount of ink.
    corner = jnp.floor(place)
    x, y = jnp.moveaxis(place - corner, -1, 0)
    index = (corner[..., 1] * PAGE + corner[..., 0]).astype(jnp.int32)
    at = lambda offset: jnp.take_along_axis(
        error.reshape(batch, -1), index + offset, 1, mode="promise_in_bounds"
    )
    here, right, below, across = at(0), at(1), at(PAGE), at(PAGE + 1)
    value = (1 - y) * ((1 - x) * here + x * right) + y * ((1 - x) * below + x * across)
    slope = jnp.stack(
        [
            (1 - y) * (right - here) + y * (across - below),
            (1 - x) * (below - here) + x * (across - right),
        ],
        -1,
    )
    pull = (slope * amount[..., None]).reshape(batch, number, -1, SAMPLES, 2) * (PAGE / BOX)
    stretch = (
        (value.reshape(batch, number, -1, SAMPLES).sum(-1, keepdims=True) * weight)
        * segments
        / length
    )
    starts, ends = (
        (pull * (1 - t)[:, None]).sum(-2) - stretch,
        (pull * t[:, None]).sum(-2) + stretch,
    )
    gradient = jnp.pad(starts, ((0, 0), (0, 0), (0, 1), (0, 0))) + jnp.pad(
        ends, ((0, 0), (0, 0), (1, 0), (0, 0))
    )
    return (gradient.reshape(batch, number, -1) @ axes.axes) * axes.deviation


# Likeness -----------------------------------------------------------------------------------------


def likeness(strokes: jax.Array, pictures: jax.Array) -> jax.Array:
    """Cosine between the ink of drawings (B, T, P, 2), strokes that are not there being 0, and
    pictures (B, 64, 64), both on a 32x32
    page: (B,), 1 where they are alike, 0 without common ink."""
    batch = len(pictures)
    page = coarse_picture(pictures, PAGE).reshape(batch, -1)
    samples = -(
        -22 // (strokes.shape[-2] - 1)
    )  # of a segment: about one a cell, for strokes of usual length
    written = jnp.minimum(
        jax.lax.map(lambda s: ink_of(s, samples, PAGE).sum(0), strokes, batch_size=16), 1.0
    )
    return (written * page).sum(-1) * jax.lax.rsqrt((written**2).sum(-1) * (page**2).sum(-1) + 1e-6)
