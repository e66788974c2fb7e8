"""Conditional Sketch-RNN decoder: a modern latent z_new becomes a sequence of pen movements.

This is the paper's decoder (preset `paper`), after Ha and Eck 2017 (arXiv 1704.03477, section 3.2):
z enters at every input and, through tanh(dense), as the initial state; each step gives a mixture of
Gaussians over the next movement (equation 3) and probabilities of the pen's states. The shipped
presets write a whole stroke in each step (`models/stroke_rnn.py`).

Sequences are stroke-3 rows (dx, dy, lift) in box units (109), of which the first starts at the
origin. The model works with offsets divided by `scale`. `condition` is a dict: "z" (B, latent).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.mixture import KERNELS, LOG_2PI
from transfer.models.layers.recurrent import gates, lstm
from transfer.system import settings
from transfer.system.settings import Amount, BelowOne, Count, Natural, Part, Positive, Range, WarmUp

BOX = 109.0
DOWN, UP, END = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class SketchRNNConfig:
    """Model, loss and training settings of the decoder. Use a preset and override fields."""

    latent: Count = 64
    layers: Count = 1
    units: Count = 512
    mixtures: Count = 20
    bivariate: bool = True
    """Whether there is one mixture of correlated Gaussians over (dx, dy), or a mixture for each
    axis, as in the paper."""
    simplify: Amount = 0.25
    """Epsilon, in box units, with which training strokes are simplified. The prepared ones have
    0.25; more leaves fewer points to get wrong."""
    z_at: Literal["all", "first"] = "all"
    """The layers whose gates receive z."""
    start: Literal["down", "up"] = "down"
    """The pen's state before the first movement."""
    init: Literal["lecun", "glorot"] = "lecun"
    """Initial weights: flax's, with orthogonal recurrent ones, or TensorFlow's."""
    keep: Part = 1.0
    """Recurrent dropout (arXiv 1603.05118): share of cell updates kept in training."""
    scale: Positive = 16.0
    """Box units that count as 1 for the model."""
    drop: BelowOne = 0.0
    """Share of inner points of a stroke left out in an example."""
    whole: Natural = 1
    """The number of first points of a stroke that are never left out."""
    stretch: BelowOne = 0.0
    """Each axis is scaled at random by 1 - stretch to 1, with a random offset (paper: 0.3)."""
    longest: Annotated[int, Range(2)] = 134
    """Longest sequence, including the end row."""
    buckets: Count = 4
    """Number of compiled lengths; an example goes to the shortest that holds it."""
    from_density: bool = False
    """Condition kanji with Kuzushiji images on draws of the MDN, not of their own posterior."""
    views: Count = 4
    """Number of draws from every glyph's posterior (or from the MDN) that training uses."""
    fresh: bool = False
    """Condition each example on a z_new of a newly augmented image instead of the views."""
    padded: bool = False
    """Let the pen's loss continue after the end, and divide it by `longest`, not by points."""
    temperature: Part = 0.1
    """For drawing: it divides the logits of mixture and pen, and scales the variances."""
    steps: Count = 2_600
    batch: Count = 64
    learning_rate: Positive = 2e-3
    warmup: WarmUp = 200
    weight_decay: Amount = 1e-4
    clip: Positive = 1.0
    """Gradient clipping: by global norm, or by value in the paper's schedule."""
    ema: BelowOne = 0.998
    products: Literal["float32", "bfloat16"] = "float32"
    """Of matrices while training: operands may be rounded to bfloat16, sums are float32."""

    def __post_init__(self):
        """Raise ValueError for settings that are not allowed."""
        settings.check(self)

    @classmethod
    def paper(cls) -> SketchRNNConfig:
        """The authors' program: 3 layers of 1024, recurrent dropout keep 0.3, 50 mixtures per axis,
        batch 50, 1,000,000 steps (docs/paper.md)."""
        return cls(
            layers=3,
            units=1024,
            mixtures=50,
            bivariate=False,
            z_at="first",
            start="up",
            init="glorot",
            keep=0.3,
            scale=109 * 0.16808838,
            drop=0.2,
            whole=3,
            stretch=0.3,
            buckets=1,
            from_density=True,
            fresh=True,
            padded=True,
            temperature=0.15,
            steps=1_000_000,
            batch=50,
            learning_rate=1e-3,
            warmup=-1,
            weight_decay=0.0,
            ema=0.0,
        )


# Model --------------------------------------------------------------------------------------------


def uniform(limit: float):
    """An initialiser that draws weights uniformly between -limit and limit."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -limit, limit
    )


def first_pen(config: SketchRNNConfig) -> jax.Array:
    """The pen's state before the first movement, (3,), one-hot."""
    return jax.nn.one_hot(DOWN if config.start == "down" else UP, 3)


class SketchRNN(nnx.Module):
    """The decoder: an LSTM whose inputs are the last movement, the last pen state, and z."""

    def __init__(self, config: SketchRNNConfig, rngs: nnx.Rngs):
        self.config = config
        units, layers, init = config.units, range(config.layers), KERNELS[config.init]
        conditioned = [layer for layer in layers if config.z_at == "all" or layer == 0]
        self.start = nnx.Linear(
            config.latent, 2 * config.layers * units, kernel_init=init, rngs=rngs
        )
        if config.init == "glorot":  # of what TensorFlow has as one kernel for input, z and state
            width = lambda layer: (
                units + (units if layer else 5) + config.latent * (layer in conditioned)
            )
            gate = lambda layer: uniform((6 / (width(layer) + 4 * units)) ** 0.5)
            recurrent = [gate(layer)(rngs.params(), (units, 4 * units)) for layer in layers]
        else:
            gate, orthogonal = lambda layer: init, nnx.initializers.orthogonal()
            recurrent = [
                jnp.concatenate([orthogonal(rngs.params(), (units, units)) for _ in range(4)], 1)
                for _ in layers
            ]
        self.kernels = nnx.List([nnx.Param(k) for k in recurrent])
        self.inputs = nnx.List(
            [
                nnx.Linear(units if layer else 5, 4 * units, kernel_init=gate(layer), rngs=rngs)
                for layer in layers
            ]
        )
        self.conditions = nnx.List(
            [
                nnx.Linear(
                    config.latent, 4 * units, use_bias=False, kernel_init=gate(layer), rngs=rngs
                )
                for layer in conditioned
            ]
        )
        self.out = nnx.Linear(units, 3 + 6 * config.mixtures, kernel_init=init, rngs=rngs)

    def initial(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Initial h and c, each (layers, B, units)."""
        state = jnp.tanh(self.start(z)).reshape(-1, 2, self.config.layers, self.config.units)
        return state[:, 0].transpose(1, 0, 2), state[:, 1].transpose(1, 0, 2)

    def gate_inputs(self, layer: int, x: jax.Array, z: jax.Array) -> jax.Array:
        """The input to a layer's gates from below, x (…, B, inputs), and from z (B, latent)."""
        inputs = self.inputs[layer](x)
        return inputs + self.conditions[layer](z) if layer < len(self.conditions) else inputs

    def __call__(self, movement: jax.Array, z: jax.Array, key=None) -> jax.Array:
        """The output (B, T, 3 + 6M) of every step of a teacher-forced pass.

        movement: (B, T, 5), from `teacher`.
        z: (B, latent).
        key: of the recurrent dropout; None for none.
        """
        h, c = self.initial(z)
        x = movement.transpose(1, 0, 2)
        for layer in range(self.config.layers):
            mask = jnp.ones((1, 1, 1))
            if key is not None and self.config.keep < 1:
                key, mask_key = jax.random.split(key)
                kept = jax.random.bernoulli(
                    mask_key, self.config.keep, (*x.shape[:2], self.config.units)
                )
                mask = kept / self.config.keep
            gate_inputs = self.gate_inputs(layer, x, z)
            x = lstm(gate_inputs, mask, self.kernels[layer][...], h[layer], c[layer])
        return self.out(x).transpose(1, 0, 2)

    def step(self, movement: jax.Array, z: jax.Array, h: jax.Array, c: jax.Array):
        """One step of writing: the output (B, 3 + 6M) and the new states.

        movement: (B, 5), the last one.
        z: (B, latent).
        h, c: (layers, B, units), the states.
        """
        x, hs, cs = movement, [], []
        for layer in range(self.config.layers):
            i, f, g, o = gates(self.gate_inputs(layer, x, z), h[layer], self.kernels[layer][...])
            cs.append(f * c[layer] + i * g)
            x = o * jnp.tanh(cs[-1])
            hs.append(x)
        return self.out(x), jnp.stack(hs), jnp.stack(cs)


def split_parameters(config: SketchRNNConfig, out: jax.Array):
    """The parameters that the network's output (…, 3 + 6M) stands for.

    Returns pen logits (…, 3), mixture logits (…, M, 1 or 2), means (…, M, 2), log scales (…, M, 2)
    and correlations (…, M).
    """
    pen, rest = out[..., :3], out[..., 3:].reshape(*out.shape[:-1], config.mixtures, 6)
    logits = rest[..., :1] if config.bivariate else rest[..., :2]
    correlation = 0.95 * jnp.tanh(rest[..., 1]) if config.bivariate else jnp.zeros(rest.shape[:-1])
    return pen, logits, rest[..., 2:4], jnp.clip(rest[..., 4:6], -6.0, 4.0), correlation


def component_log_prob(means, log_scales, correlation, target: jax.Array) -> jax.Array:
    """Log density of scaled offsets (…, 2) under each correlated Gaussian, (…, M): equation 24 of
    Graves 2013 (arXiv 1308.0850)."""
    z = (target[..., None, :] - means) * jnp.exp(-log_scales)
    rest = 1 - correlation**2
    quadratic = (z[..., 0] ** 2 + z[..., 1] ** 2 - 2 * correlation * z[..., 0] * z[..., 1]) / rest
    return -0.5 * quadratic - log_scales.sum(-1) - 0.5 * jnp.log(rest) - LOG_2PI


def point_log_prob(
    config: SketchRNNConfig, parameters: tuple, target: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log density of the next movement and log probability of the pen's state, (…) each.

    parameters: as `split_parameters` gives them.
    target: (…, 2), scaled offsets.
    state: (…) int32, one of DOWN, UP and END.
    """
    pen, logits, means, log_scales, correlation = parameters
    log_pen = jnp.take_along_axis(jax.nn.log_softmax(pen), state[..., None], -1)[..., 0]
    if config.bivariate:
        component = component_log_prob(means, log_scales, correlation, target)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits[..., 0]) + component, -1), log_pen
    component = (
        -0.5 * ((target[..., None, :] - means) * jnp.exp(-log_scales)) ** 2
        - log_scales
        - 0.5 * LOG_2PI
    )
    return jax.nn.logsumexp(jax.nn.log_softmax(logits, -2) + component, -2).sum(-1), log_pen


# Loss ---------------------------------------------------------------------------------------------


def teacher(config: SketchRNNConfig, stroke3: jax.Array, count: jax.Array):
    """Inputs and targets for teacher forcing, from padded stroke-3.

    stroke3: (B, T, 3) in box units.
    count: (B,) int32, valid rows.

    Returns the input movements (B, T + 1, 5); the targets (B, T + 1, 3), which are scaled offset
    and pen state; and which rows are valid, (B, T + 1): `count` movements and the end.
    """
    length = stroke3.shape[1]
    row = jnp.arange(length + 1)
    stroke3 = jnp.where((row[:length] < count[:, None])[..., None], stroke3, 0.0)
    # The pen before each step.
    position = jnp.pad(jnp.cumsum(stroke3[..., :2], 1), ((0, 0), (1, 0), (0, 0)))
    lifted = jnp.pad(stroke3[..., 2], ((0, 0), (1, 0)), constant_values=1.0)
    step = (position[:, 1:] - position[:, :-1]) / config.scale
    step = jnp.pad(step, ((0, 0), (1, 0), (0, 0)))
    before = jnp.where(row > count[:, None], END, lifted.astype(jnp.int32))
    pen = jax.nn.one_hot(before, 3).at[:, 0].set(first_pen(config))
    movement = jnp.concatenate([step, pen], -1)
    following = jnp.pad(position[:, 1:], ((0, 0), (0, 1), (0, 0)))
    pen_class = jnp.pad(stroke3[..., 2], ((0, 0), (0, 1))).astype(jnp.int32)
    pen_class = jnp.where(row >= count[:, None], END, pen_class)
    target = jnp.concatenate([(following - position) / config.scale, pen_class[..., None]], -1)
    return movement, target, row <= count[:, None]


def vary(
    stroke3: jax.Array,
    count: jax.Array,
    key: jax.Array,
    drop: float,
    stretch: float,
    whole: int = 1,
):
    """The authors' augmentation: leave out inner points, shrink each axis, and move the drawing.

    A dropped point adds its offset to the next one. The first and last points of a stroke stay.

    stroke3: (B, T, 3) in box units.
    count: (B,) int32, valid rows.
    drop: share of inner points that are left out.
    stretch: an axis is scaled by 1 - stretch to 1.
    whole: how many first points of a stroke are never dropped; 1 or more.

    Returns new rows and counts.
    """
    batch, length, _ = stroke3.shape
    drop_key, scale_key, place_key = jax.random.split(key, 3)
    valid = jnp.arange(length) < count[:, None]
    first = jnp.pad(stroke3[:, :-1, 2], ((0, 0), (1, 0)), constant_values=1.0) > 0
    row = jnp.arange(length)
    begun = jax.lax.cummax(jnp.where(first, row, 0), axis=1)  # where each point's stroke begins
    inner = valid & (row - begun >= whole) & (stroke3[..., 2] == 0)
    gone = inner & (jax.random.uniform(drop_key, inner.shape) < drop)
    kept = valid & ~gone
    scale = 1.0 - stretch * jax.random.uniform(scale_key, (batch, 1, 2))
    offset = BOX * (1.0 - scale) * jax.random.uniform(place_key, (batch, 1, 2)) if stretch else 0.0
    position = jnp.cumsum(stroke3[..., :2], 1) * scale + offset
    order = jnp.argsort(~kept, axis=1, stable=True)  # kept points first, in order
    position = jnp.take_along_axis(position, order[..., None], 1)
    lift = jnp.take_along_axis(stroke3[..., 2], order, 1)
    moved = position - jnp.pad(position[:, :-1], ((0, 0), (1, 0), (0, 0)))
    new_count = kept.sum(1).astype(count.dtype)
    rows = jnp.concatenate([moved, lift[..., None]], -1)
    return jnp.where((jnp.arange(length) < new_count[:, None])[..., None], rows, 0.0), new_count


def negative_log_likelihood(
    model: SketchRNN, stroke3, count, condition, key=None, padded: bool = False
):
    """NLL of the movements and of the pen states, (B,) each, in nats summed over a drawing.

    stroke3: (B, T, 3) in box units; densities are of offsets in units of `scale`.
    count: (B,) int32, valid rows.
    condition: dict of "z" (B, latent).
    key: of the recurrent dropout; None for none.
    padded: whether the pen's states after the end count too.
    """
    config = model.config
    movement, target, valid = teacher(config, stroke3, count)
    # Of two keys the second: those that go on with an older run need the numbers that it had.
    out = model(movement, condition["z"], None if key is None else jax.random.split(key)[1])
    moving = valid & (target[..., 2] != END)
    move, pen = point_log_prob(
        config, split_parameters(config, out), target[..., :2], target[..., 2].astype(jnp.int32)
    )
    return -(move * moving).sum(1), -(pen * (valid | padded)).sum(1)


def loss(model: SketchRNN, stroke3, count, condition, key):
    """The mean NLL per point, in nats, and its parts (see `negative_log_likelihood`).

    If the configuration is `padded`, a drawing counts as `longest` points.
    """
    padded = model.config.padded
    move, pen = negative_log_likelihood(model, stroke3, count, condition, key, padded)
    points = len(count) * model.config.longest if padded else count.sum()
    return (move.sum() + pen.sum()) / points, {
        "movement": move.sum() / points,
        "pen": pen.sum() / points,
    }


# Drawing ------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0,))
def draw(graph, params, condition: dict, keys: jax.Array, temperature: jax.Array):
    """Write one drawing for each condition, and stop when every pen has ended.

    graph, params: of a `SketchRNN`.
    condition: dict of "z" (B, latent).
    keys: (B,), one random key for each drawing, so that no drawing depends on its neighbours.
    temperature: (), divides the logits and scales the variances.

    Returns stroke-3 rows (B, longest, 3) in box units, counts (B,), and the log-likelihood of each
    drawing at temperature 1, (B,).
    """
    model = nnx.merge(graph, params)
    config, z = model.config, condition["z"]
    batch, limit = keys.shape[0], config.longest - 1
    h, c = model.initial(z)
    movement = jnp.tile(jnp.concatenate([jnp.zeros(2), first_pen(config)]), (batch, 1))
    start = {
        "rows": jnp.zeros((batch, limit, 3)),
        "count": jnp.zeros(batch, jnp.int32),
        "done": jnp.zeros(batch, bool),
        "score": jnp.zeros(batch),
        "movement": movement,
        "lifted": jnp.ones(batch),
        "h": h,
        "c": c,
    }

    def going(carry):
        return (carry[0] < limit) & ~carry[1]["done"].all()

    def step(carry):
        number, s = carry
        out, h, c = model.step(s["movement"], z, s["h"], s["c"])
        pen, logits, means, log_scales, correlation = split_parameters(config, out)
        # Nothing has been drawn yet: no end before the first stroke.
        pen = pen.at[..., END].add(jnp.where(number == 0, -jnp.inf, 0.0))

        def one(key, pen, logits, means, log_scales, correlation):
            pen_key, mixture_key, normal_key = jax.random.split(jax.random.fold_in(key, number), 3)
            chosen = jax.random.categorical(
                mixture_key, logits / temperature, axis=0
            )  # (1,) or (2,)
            state = jax.random.categorical(pen_key, pen / temperature)
            axis = jnp.arange(2) % chosen.shape[0]
            picked = jnp.broadcast_to(chosen[axis], (2,))
            mean = means[picked, jnp.arange(2)]
            scale = jnp.exp(log_scales[picked, jnp.arange(2)]) * jnp.sqrt(temperature)
            a, b = jax.random.normal(normal_key, (2,))
            rho = correlation[picked[0]]
            return state, mean + scale * jnp.stack([a, rho * a + jnp.sqrt(1 - rho**2) * b])

        state, offset = jax.vmap(one)(keys, pen, logits, means, log_scales, correlation)
        log_offset, log_pen = point_log_prob(
            config, (pen, logits, means, log_scales, correlation), offset, state
        )
        ended = state == END
        moved = ~(s["done"] | ended)
        offset = jnp.where(moved[:, None], offset, 0.0)
        lift = jnp.where(moved, (state == UP).astype(jnp.float32), s["lifted"])
        row = jnp.concatenate([offset * config.scale, lift[:, None]], -1) * moved[:, None]
        pen_state = jnp.stack([lift == 0, lift == 1, jnp.zeros_like(moved)], -1)
        return number + 1, {
            "rows": s["rows"].at[:, number].set(row),
            "count": s["count"] + moved,
            "done": s["done"] | ended,
            "score": s["score"]
            + jnp.where(s["done"], 0.0, log_pen + jnp.where(ended, 0.0, log_offset)),
            "movement": jnp.concatenate([offset, pen_state], -1),
            "lifted": lift,
            "h": h,
            "c": c,
        }

    _, end = jax.lax.while_loop(going, step, (jnp.int32(0), start))
    return end["rows"], end["count"], end["score"]
