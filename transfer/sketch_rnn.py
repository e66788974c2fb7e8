"""Conditional Sketch-RNN decoder: a modern latent z_new becomes a sequence of pen movements (Ha & Eck 2017, arXiv 1704.03477).

- ``paper`` settings: z enters at every input and, through tanh(dense), as initial state; dx and dy have mixtures of their own.
- `glimpse`: the decoder also *sees* the picture that the new VAE paints of z: a fine and a coarse window around the pen, and what
  ink of the picture is still unwritten. Writing becomes tracing, which holds for kanji never seen as well; z says in which order.

Sequences are stroke-3 rows (dx, dy, lift) in box units (109), the first from the origin; the model works with offsets divided by
`scale`. `condition` is a dict: "z" (B, latent) and, for `glimpse`, "picture" (B, 64, 64) float32 in [0, 1], ink 1.
"""
from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

BOX, SIZE = 109.0, 64
INK_WIDTH = 3.0
"""Stroke width of the rasters in box units: turns pen travel into ink."""
LOG_2PI = 1.8378770664093453
DOWN, UP, END = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class SketchRNNConfig:
    """Model, loss and training settings of the decoder. Use a preset and override fields."""

    latent: int = 64
    layers: int = 1
    units: int = 512
    mixtures: int = 20
    bivariate: bool = True
    """One mixture of correlated Gaussians over (dx, dy), or a mixture for each axis as the paper has it."""
    joint_pen: bool = False
    """Every component of the bivariate mixture has pen states of its own: whether a stroke ends depends on where the pen goes.
    Else the two are drawn apart, as published, and a stroke may go on past its end or be cut short."""
    simplify: float = 0.25
    """Epsilon, box units, of the strokes that are learned. The prepared ones have 0.25; more leaves fewer points to get wrong."""
    glimpse: bool = True
    plan: bool = False
    """Read off z how many strokes there will be, and tell every step how many of them are left."""
    plan_batch: int = 1024
    """Glyphs that a training step learns to count the strokes of: it costs next to nothing, and takes hundreds of passes."""
    particles: int = 1
    """Ways of going on that are followed for every drawing; every few steps those that agree best with the picture go on."""
    embed: int = 192
    """Width of the layer between the step's inputs and the LSTM; 0 feeds them as they are."""
    head: int = 384
    """Width of the layer between LSTM and mixture; 0 for none."""
    keep: float = 1.0
    """Recurrent dropout (arXiv 1603.05118): share of cell updates kept while training."""
    scale: float = 16.0
    """Box units that count as 1 for the model."""
    noise: float = 0.7
    """Standard deviation, in box units, of the error added to the pen's position while training; the target corrects it."""
    drop: float = 0.0
    """Share of inner points of a stroke left out in an example."""
    stretch: float = 0.0
    """Random scale of 1 - stretch to 1 an axis, with a random offset (paper: 0.3)."""
    longest: int = 134
    """Longest sequence, the end row counted."""
    buckets: int = 4
    """Lengths that are compiled for; an example goes to the shortest that holds it."""
    from_density: bool = False
    """Condition kanji that have Kuzushiji images on z_new drawn from the MDN instead of on their glyph's own posterior."""
    views: int = 4
    """Draws of every glyph's posterior (or of the MDN) that training goes through."""
    temperature: float = 0.1
    """Of drawing: divides the mixture's and the pen's logits, and scales the variances."""
    steps: int = 2_600
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Gradient clipping: by global norm, or by value in the paper's schedule."""
    ema: float = 0.998

    @classmethod
    def paper(cls) -> "SketchRNNConfig":
        """The authors' program: 3 layers of 1024, recurrent dropout keep 0.3, 50 mixtures an axis, batch 50, 1,000,000 steps."""
        return cls(layers=3, units=1024, mixtures=50, bivariate=False, glimpse=False, embed=0, head=0, keep=0.3, scale=109 * 0.168,
                   noise=0.0, drop=0.2, stretch=0.3, buckets=1, from_density=True, temperature=0.15, steps=1_000_000, batch=50,
                   learning_rate=1e-3, warmup=-1, weight_decay=0.0, ema=0.0)

    @classmethod
    def small(cls) -> "SketchRNNConfig":
        """About 20 minutes on two CPU cores."""
        return cls(joint_pen=True, plan=True, particles=8, temperature=0.4, simplify=0.6, embed=256, steps=2_500)

    @classmethod
    def base(cls) -> "SketchRNNConfig":
        """For one H100."""
        return cls(joint_pen=True, plan=True, particles=4, simplify=0.6, layers=2, units=768, embed=384, head=768, views=8, steps=60_000,
                   batch=256, learning_rate=1.5e-3, ema=0.9995)

    @classmethod
    def tiny(cls) -> "SketchRNNConfig":
        """For the sample corpus: a minute."""
        return cls(joint_pen=True, plan=True, particles=4, simplify=0.6, units=128, embed=64, head=128, mixtures=8, steps=600, batch=32, warmup=50, buckets=2,
                   ema=0.98)


# LSTM -----------------------------------------------------------------------------------------------------------------

def gates(inputs, h, kernel):
    i, f, g, o = jnp.split(inputs + h @ kernel, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f + 1.0), jnp.tanh(g), jax.nn.sigmoid(o)


@jax.custom_vjp
def lstm(inputs: jax.Array, mask: jax.Array, kernel: jax.Array, h: jax.Array, c: jax.Array) -> jax.Array:
    """LSTM over time with the input product already taken.

    inputs (T, B, 4U): x @ W + b for the gates i, f, g, o; mask (T, B, U) or (1, 1, 1): scales the update g (recurrent dropout);
    kernel (U, 4U); h, c (B, U) the initial state. Returns h of every step (T, B, U). The gradient of the kernel is one matrix
    product over all steps instead of one a step, which is what the hand-written backward pass is for.
    """
    return _lstm_forward(inputs, mask, kernel, h, c)[0]


def _lstm_forward(inputs, mask, kernel, h, c):
    mask_all = jnp.broadcast_to(mask, (inputs.shape[0], *mask.shape[1:]))

    def step(carry, x):
        h, c = carry
        i, f, g, o = opened = gates(x[0], h, kernel)
        new_c = f * c + i * g * x[1]
        new_h = o * jnp.tanh(new_c)
        return (new_h, new_c), (new_h, (opened, c, new_c, h))

    _, (out, saved) = jax.lax.scan(step, (h, c), (inputs, mask_all))
    return out, (saved, mask, kernel)


def _lstm_backward(residual, grads):
    ((i, f, g, o), c_before, c_after, h_before), mask, kernel = residual
    mask_all = jnp.broadcast_to(mask, (grads.shape[0], *mask.shape[1:]))
    tanh_c = jnp.tanh(c_after)

    def step(carry, x):
        dh_next, dc = carry
        grad, i, f, g, o, c, t, m = x
        dh = grad + dh_next
        dc = dc + dh * o * (1 - t * t)
        d = jnp.concatenate([dc * g * m * i * (1 - i), dc * c * f * (1 - f), dc * i * m * (1 - g * g), dh * t * o * (1 - o)], -1)
        return (d @ kernel.T, dc * f), d

    zeros = jnp.zeros_like(c_before[0])
    (dh, dc), d = jax.lax.scan(step, (zeros, zeros), (grads, i, f, g, o, c_before, tanh_c, mask_all), reverse=True)
    units = h_before.shape[-1]
    d_kernel = h_before.reshape(-1, units).T @ d.reshape(-1, 4 * units)
    return d, jnp.zeros_like(mask), d_kernel, dh, dc


lstm.defvjp(_lstm_forward, _lstm_backward)


# What the pen sees ----------------------------------------------------------------------------------------------------

FINE, COARSE, GRID = 11, 7, 16


def coarse_picture(picture: jax.Array, grid: int = GRID) -> jax.Array:
    """(B, 64, 64) -> (B, grid, grid): mean ink of each block of pixels."""
    return picture.reshape(-1, grid, SIZE // grid, grid, SIZE // grid).mean((2, 4))


def window(picture: jax.Array, position: jax.Array, size: int) -> jax.Array:
    """Bilinear window of size x size samples, one pixel apart, centred on the pen.

    picture (B, P, P); position (B, T, 2) in box units (x, y); returns (B, T, size * size).
    """
    pixels = picture.shape[-1]
    centre = jnp.clip(position * (pixels / BOX) - 0.5, -1.0, float(pixels))
    start = jnp.floor(centre - size // 2)
    frac = centre - size // 2 - start
    pad = size // 2 + 3
    padded = jnp.pad(picture, ((0, 0), (pad, pad), (pad, pad)))
    index = start.astype(jnp.int32) + pad
    take = lambda image, at: jax.lax.dynamic_slice(image, (at[1], at[0]), (size + 1, size + 1))
    patch = jax.vmap(jax.vmap(take, (None, 0)))(padded, index)
    fx, fy = frac[..., 0, None, None], frac[..., 1, None, None]
    rows = patch[..., :-1, :] * (1 - fy) + patch[..., 1:, :] * fy
    out = rows[..., :-1] * (1 - fx) + rows[..., 1:] * fx
    return out.reshape(*position.shape[:2], size * size)


def ink(start: jax.Array, end: jax.Array, samples: int = 8) -> jax.Array:
    """Ink that a pen going straight from start to end (…, 2), box units, leaves on the 16x16 grid: (…, 256) mean ink."""
    t = (jnp.arange(samples) + 0.5) / samples
    points = (start[..., None, :] + t[:, None] * (end - start)[..., None, :]) * (GRID / BOX) - 0.5
    near = jnp.maximum(0.0, 1.0 - jnp.abs(points[..., None] - jnp.arange(GRID)[None, :]))  # (…, samples, 2, 16)
    spread = jnp.einsum("...si,...sj->...ij", near[..., 1, :], near[..., 0, :])
    length = jnp.sqrt(((end - start) ** 2).sum(-1) + 1e-12)[..., None]
    cell = (BOX / GRID) ** 2
    return spread.reshape(*start.shape[:-1], GRID * GRID) * (length * INK_WIDTH / cell / samples)


def fourier(position: jax.Array) -> jax.Array:
    """Position (…, 2) as sines and cosines of four frequencies, (…, 16): the pen's place on the page."""
    angle = position[..., None] * (jnp.pi / BOX) * jnp.array([1.0, 2.0, 4.0, 8.0])
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*position.shape[:-1], 16)


# What it plans --------------------------------------------------------------------------------------------------------

MOST_STROKES = 40
"""Of one drawing, as far as plans go; KanjiVG's kanji have up to 34."""


def strokes_left(left: jax.Array) -> jax.Array:
    """Strokes not yet finished (…), int32, as inputs of a step (…, 5): how many, and which of 0 to 3 if so few."""
    few = jax.nn.one_hot(left, 4)  # zeros above 3
    return jnp.concatenate([left[..., None] / 10.0, few], -1)


# Model ----------------------------------------------------------------------------------------------------------------

class SketchRNN(nnx.Module):
    """The decoder. Its inputs at a step are the last movement and pen state, and with `glimpse` what the pen sees."""

    def __init__(self, config: SketchRNNConfig, rngs: nnx.Rngs):
        self.config = config
        units, inputs = config.units, 5
        if config.plan:
            inputs += 5
            self.plan_hidden = nnx.Linear(config.latent, 256, rngs=rngs)
            self.plan_out = nnx.Linear(256, MOST_STROKES + 1, rngs=rngs)
        if config.glimpse:
            inputs += 16 + FINE**2 + COARSE**2 + GRID**2
            self.context = nnx.Linear(config.latent + GRID**2, 256, rngs=rngs)
        conditioning = 256 if config.glimpse else config.latent
        self.start = nnx.Linear(conditioning, 2 * config.layers * units, rngs=rngs)
        self.embed = nnx.Linear(inputs, config.embed, rngs=rngs) if config.embed else None
        inputs = config.embed or inputs
        orthogonal = nnx.initializers.orthogonal()
        recurrent = [jnp.concatenate([orthogonal(rngs.params(), (units, units)) for _ in range(4)], 1) for _ in range(config.layers)]
        self.kernels = nnx.List([nnx.Param(k) for k in recurrent])
        self.inputs = nnx.List([nnx.Linear(inputs if layer == 0 else units, 4 * units, rngs=rngs) for layer in range(config.layers)])
        self.conditions = nnx.List([nnx.Linear(conditioning, 4 * units, use_bias=False, rngs=rngs) for _ in range(config.layers)])
        self.head = nnx.Linear(units + inputs, config.head, rngs=rngs) if config.head else None
        self.out = nnx.Linear(config.head or units, outputs(config), rngs=rngs)

    def conditioning(self, condition: dict) -> jax.Array:
        """What every step is told of the condition, (B, C)."""
        if not self.config.glimpse:
            return condition["z"]
        coarse = coarse_picture(condition["picture"]).reshape(-1, GRID**2)
        return jnp.tanh(self.context(jnp.concatenate([condition["z"], 3.0 * coarse], -1)))

    def plan(self, condition: dict) -> jax.Array:
        """Logits of the number of strokes, (B, MOST_STROKES + 1)."""
        return self.plan_out(nnx.relu(self.plan_hidden(condition["z"])))

    def initial(self, conditioning: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Initial h and c, each (layers, B, units)."""
        state = jnp.tanh(self.start(conditioning)).reshape(-1, 2, self.config.layers, self.config.units)
        return state[:, 0].transpose(1, 0, 2), state[:, 1].transpose(1, 0, 2)

    def features(self, movement, position, written, condition) -> jax.Array:
        """Inputs of steps: movement (B, T, 5, or 10 with `plan`), position (B, T, 2), written ink (B, T, 256) -> (B, T, inputs)."""
        if not self.config.glimpse:
            return movement
        picture = condition["picture"]
        coarse = coarse_picture(picture)
        left = coarse.reshape(-1, 1, GRID**2) - written
        seen = [movement, fourier(position), window(picture, position, FINE), 2.0 * window(coarse, position, COARSE), 2.0 * left]
        return jnp.concatenate(seen, -1)

    def read(self, hidden: jax.Array, embedded: jax.Array) -> jax.Array:
        """LSTM output (…, units) and the step's embedded inputs to mixture and pen parameters (…, `outputs`)."""
        if self.head is None:
            return self.out(hidden)
        return self.out(nnx.relu(self.head(jnp.concatenate([hidden, embedded], -1))))

    def embedded(self, features: jax.Array) -> jax.Array:
        return features if self.embed is None else nnx.relu(self.embed(features))

    def __call__(self, movement, position, written, condition, key=None) -> jax.Array:
        """Teacher-forced pass: (B, T, …) inputs to (B, T, `outputs`). key: for recurrent dropout; None for none."""
        config = self.config
        told = self.conditioning(condition)
        h, c = self.initial(told)
        embedded = self.embedded(self.features(movement, position, written, condition)).transpose(1, 0, 2)
        x = embedded
        for layer in range(config.layers):
            mask = jnp.ones((1, 1, 1))
            if key is not None and config.keep < 1:
                key, mask_key = jax.random.split(key)
                mask = jax.random.bernoulli(mask_key, config.keep, (*x.shape[:2], config.units)) / config.keep
            x = lstm(self.inputs[layer](x) + self.conditions[layer](told), mask, self.kernels[layer][...], h[layer], c[layer])
        return self.read(x, embedded).transpose(1, 0, 2)

    def step(self, movement, position, written, condition, told, h, c):
        """One step of writing: (B, …) inputs and states (layers, B, units) -> parameters (B, …) and new states."""
        one = lambda a: a[:, None]
        embedded = self.embedded(self.features(one(movement), one(position), one(written), condition))[:, 0]
        x, hs, cs = embedded, [], []
        for layer in range(self.config.layers):
            i, f, g, o = gates(self.inputs[layer](x) + self.conditions[layer](told), h[layer], self.kernels[layer][...])
            cs.append(f * c[layer] + i * g)
            x = o * jnp.tanh(cs[-1])
            hs.append(x)
        return self.read(x, embedded), jnp.stack(hs), jnp.stack(cs)


def outputs(config: SketchRNNConfig) -> int:
    """How many numbers the model gives for a step."""
    return config.mixtures * 9 if config.joint_pen else 3 + config.mixtures * 6


def split_parameters(config: SketchRNNConfig, out: jax.Array):
    """(…, `outputs`) -> pen logits (…, 3), or (…, M, 3) with `joint_pen`; mixture logits (…, M, 1 or 2), means (…, M, 2),
    log_scales (…, M, 2), correlation (…, M)."""
    if config.joint_pen:
        rest = out.reshape(*out.shape[:-1], config.mixtures, 9)
        pen, rest = rest[..., 6:], rest[..., :6]
    else:
        pen, rest = out[..., :3], out[..., 3:].reshape(*out.shape[:-1], config.mixtures, 6)
    logits = rest[..., :1] if config.bivariate else rest[..., :2]
    correlation = 0.95 * jnp.tanh(rest[..., 1]) if config.bivariate else jnp.zeros(rest.shape[:-1])
    return pen, logits, rest[..., 2:4], jnp.clip(rest[..., 4:6], -6.0, 4.0), correlation


def component_log_prob(means, log_scales, correlation, target: jax.Array) -> jax.Array:
    """log density of scaled offsets target (…, 2) under each correlated Gaussian: (…, M)."""
    z = (target[..., None, :] - means) * jnp.exp(-log_scales)
    rest = 1 - correlation**2
    quadratic = (z[..., 0] ** 2 + z[..., 1] ** 2 - 2 * correlation * z[..., 0] * z[..., 1]) / rest
    return -0.5 * quadratic - log_scales.sum(-1) - 0.5 * jnp.log(rest) - LOG_2PI


def point_log_prob(config: SketchRNNConfig, parameters: tuple, target: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log density of scaled offsets target (…, 2), given the pen state where `joint_pen` ties them, and log probability of the
    pen states (…) int32: (…) each. parameters: as `split_parameters` gives them."""
    pen, logits, means, log_scales, correlation = parameters
    if config.joint_pen:
        states = jnp.broadcast_to(state[..., None, None], (*pen.shape[:-1], 1))
        weights = jax.nn.log_softmax(logits[..., 0]) + jnp.take_along_axis(jax.nn.log_softmax(pen), states, -1)[..., 0]
        log_pen = jax.nn.logsumexp(weights, -1)
        return jax.nn.logsumexp(weights + component_log_prob(means, log_scales, correlation, target), -1) - log_pen, log_pen
    log_pen = jnp.take_along_axis(jax.nn.log_softmax(pen), state[..., None], -1)[..., 0]
    if config.bivariate:
        component = component_log_prob(means, log_scales, correlation, target)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits[..., 0]) + component, -1), log_pen
    component = -0.5 * ((target[..., None, :] - means) * jnp.exp(-log_scales)) ** 2 - log_scales - 0.5 * LOG_2PI
    return jax.nn.logsumexp(jax.nn.log_softmax(logits, -2) + component, -2).sum(-1), log_pen


# Loss -----------------------------------------------------------------------------------------------------------------

def teacher(config: SketchRNNConfig, stroke3: jax.Array, count: jax.Array, key: jax.Array | None = None):
    """Inputs and targets of teacher forcing from padded stroke-3.

    stroke3 (B, T, 3) in box units; count (B,) valid rows. Returns movement (B, T+1, 5, or 10 with `plan`), position (B, T+1, 2), written (B, T+1, 256 or 0),
    target (B, T+1, 3) = scaled offset from the (noisy) position and pen class, and valid (B, T+1): `count` movements and the end.
    With a key, positions carry noise and the target leads back onto the true line, as a hand corrects itself.
    """
    batch, length, _ = stroke3.shape
    row = jnp.arange(length + 1)
    stroke3 = jnp.where((row[:length] < count[:, None])[..., None], stroke3, 0.0)
    true = jnp.pad(jnp.cumsum(stroke3[..., :2], 1), ((0, 0), (1, 0), (0, 0)))  # the pen before each step
    lifted = jnp.pad(stroke3[..., 2], ((0, 0), (1, 0)), constant_values=1.0)
    position = true
    if key is not None and config.noise:
        error = config.noise * jax.random.normal(key, true.shape) * (row > 0)[None, :, None]
        position = true + error
    step = (position[:, 1:] - position[:, :-1]) / config.scale
    step = jnp.pad(step, ((0, 0), (1, 0), (0, 0)))
    pen = jax.nn.one_hot(lifted.astype(jnp.int32), 3).at[:, 0].set(jnp.array([1.0, 0.0, 0.0]))
    movement = jnp.concatenate([step, pen], -1)
    if config.plan:
        finished = jnp.pad(jnp.cumsum(stroke3[..., 2], 1), ((0, 0), (1, 0)))
        movement = jnp.concatenate([movement, strokes_left((finished[:, -1:] - finished).astype(jnp.int32))], -1)
    written = jnp.zeros((batch, length + 1, 0))
    if config.glimpse:
        drawn = (1.0 - lifted[:, :-1]) * (row[1:] <= count[:, None])  # a movement that starts with the pen down leaves ink
        strokes = ink(position[:, :-1], position[:, 1:]) * drawn[..., None]
        written = jnp.pad(jnp.cumsum(strokes, 1), ((0, 0), (1, 0), (0, 0)))
    following = jnp.pad(true[:, 1:], ((0, 0), (0, 1), (0, 0)))
    pen_class = jnp.pad(stroke3[..., 2], ((0, 0), (0, 1))).astype(jnp.int32)
    pen_class = jnp.where(row == count[:, None], END, pen_class)
    target = jnp.concatenate([(following - position) / config.scale, pen_class[..., None]], -1)
    return movement, position, written, target, row <= count[:, None]


def vary(stroke3: jax.Array, count: jax.Array, key: jax.Array, drop: float, stretch: float):
    """The authors' augmentation of padded stroke-3 (B, T, 3): inner points left out, each axis shrunk, the drawing moved.

    A point that is dropped adds its offset to the next one; first and last points of a stroke stay. Returns new rows and counts.
    """
    batch, length, _ = stroke3.shape
    drop_key, scale_key, place_key = jax.random.split(key, 3)
    valid = jnp.arange(length) < count[:, None]
    first = jnp.pad(stroke3[:, :-1, 2], ((0, 0), (1, 0)), constant_values=1.0) > 0
    inner = valid & ~first & (stroke3[..., 2] == 0)
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


def negative_log_likelihood(model: SketchRNN, stroke3, count, condition, key=None):
    """NLL of the movements and of the pen states, each (B,), in nats summed over a drawing; offsets in units of `scale`."""
    config = model.config
    noise_key, dropout_key = (None, None) if key is None else jax.random.split(key)
    movement, position, written, target, valid = teacher(config, stroke3, count, noise_key)
    out = model(movement, position, written, condition, dropout_key)
    moving = valid & (target[..., 2] != END)
    move, pen = point_log_prob(config, split_parameters(config, out), target[..., :2], target[..., 2].astype(jnp.int32))
    return -(move * moving).sum(1), -(pen * valid).sum(1)


def loss(model: SketchRNN, stroke3, count, condition, key):
    """Mean NLL per point, in nats, and its parts."""
    move, pen = negative_log_likelihood(model, stroke3, count, condition, key)
    points = count.sum()
    return (move.sum() + pen.sum()) / points, {"movement": move.sum() / points, "pen": pen.sum() / points}


def plan_loss(model, z: jax.Array, strokes: jax.Array):
    """Mean NLL of the numbers of strokes (B,) int32 of z (B, latent), in nats, and its parts."""
    logits = jax.nn.log_softmax(model.plan({"z": z}))
    value = -jnp.take_along_axis(logits, strokes[:, None], 1).mean()
    return value, {"plan": value, "plan_right": (logits.argmax(-1) == strokes).mean()}


# Drawing --------------------------------------------------------------------------------------------------------------

RESAMPLE = 6
"""Steps between two choices among the particles of a drawing."""


def agreement(written: jax.Array, coarse: jax.Array) -> jax.Array:
    """How well ink (B, 256) agrees with the picture's (B, 256): the share of the picture that is covered, less the share too much."""
    total = coarse.sum(-1) + 1e-3
    return (jnp.minimum(written, coarse).sum(-1) - jnp.maximum(written - coarse, 0.0).sum(-1)) / total


@partial(jax.jit, static_argnums=(0,))
def draw(graph, params, condition: dict, keys: jax.Array, temperature: jax.Array):
    """Write one drawing for each condition.

    condition: dict of (B, …); keys (B,) one random key a drawing, so that no drawing depends on its neighbours; temperature ():
    divides logits and scales variances. Returns stroke-3 rows (B, longest, 3) in box units, counts (B,) and the log-likelihood of each
    drawing at temperature 1, (B,). Stops when every pen has ended.

    With `particles` P a drawing is written P times at once. Every RESAMPLE steps, and at the end, ways that have left the picture are
    given up for copies of those that agree with it (a particle filter; without `glimpse` likelihood alone decides).
    """
    model = nnx.merge(graph, params)
    config = model.config
    wanted, many, limit = keys.shape[0], config.particles, config.longest - 1
    group_keys, batch = keys, wanted * many
    if many > 1:
        condition = {k: jnp.repeat(v, many, 0) for k, v in condition.items()}
        keys = jax.vmap(lambda k: jax.vmap(lambda p: jax.random.fold_in(k, p))(jnp.arange(many)))(keys).reshape(-1)
    told = model.conditioning(condition)
    h, c = model.initial(told)
    written = jnp.zeros((batch, GRID**2 if config.glimpse else 0))
    left = model.plan(condition).argmax(-1).astype(jnp.int32) if config.plan else jnp.zeros(batch, jnp.int32)
    coarse = coarse_picture(condition["picture"]).reshape(-1, GRID**2) if config.glimpse else None
    movement = jnp.concatenate([jnp.zeros((batch, 2)), jnp.ones((batch, 1)), jnp.zeros((batch, 2))], -1)
    start = {"rows": jnp.zeros((batch, limit, 3)), "count": jnp.zeros(batch, jnp.int32), "done": jnp.zeros(batch, bool),
             "score": jnp.zeros(batch), "movement": movement, "position": jnp.zeros((batch, 2)), "lifted": jnp.ones(batch),
             "written": written, "left": left, "h": h.transpose(1, 0, 2), "c": c.transpose(1, 0, 2)}

    def going(carry):
        return (carry[0] < limit) & ~carry[1]["done"].all()

    def fitness(state):
        """(wanted, particles): log weights."""
        value = state["score"] / 8.0
        if config.glimpse:
            value = value / 2.0 + 30.0 * agreement(state["written"], coarse)
        return value.reshape(wanted, many)

    def resample(number, state):
        choose = lambda key, log_weight: jax.random.categorical(jax.random.fold_in(key, limit + number), log_weight, shape=(many,))
        chosen = jax.vmap(choose)(group_keys, fitness(state)) + jnp.arange(wanted)[:, None] * many
        return jax.tree.map(lambda a: a[chosen.reshape(-1)], state)

    def step(carry):
        number, s = carry
        inputs = jnp.concatenate([s["movement"], strokes_left(s["left"])], -1) if config.plan else s["movement"]
        out, h, c = model.step(inputs, s["position"], s["written"], condition, told, s["h"].transpose(1, 0, 2), s["c"].transpose(1, 0, 2))
        pen, logits, means, log_scales, correlation = split_parameters(config, out)
        # Nothing has been drawn yet: no end before the first stroke.
        beginning = number == 0
        if config.joint_pen:
            ending = jax.nn.softmax(pen)[..., END:]
            logits = logits + jnp.where(beginning, jnp.log1p(-jnp.minimum(ending, 1 - 1e-6)), 0.0)
        pen = pen.at[..., END].add(jnp.where(beginning, -jnp.inf, 0.0))

        def one(key, pen, logits, means, log_scales, correlation):
            pen_key, mixture_key, normal_key = jax.random.split(jax.random.fold_in(key, number), 3)
            chosen = jax.random.categorical(mixture_key, logits / temperature, axis=0)  # (1,) or (2,)
            state = jax.random.categorical(pen_key, (pen[chosen[0]] if config.joint_pen else pen) / temperature)
            axis = jnp.arange(2) % chosen.shape[0]
            picked = jnp.broadcast_to(chosen[axis], (2,))
            mean, scale = means[picked, jnp.arange(2)], jnp.exp(log_scales[picked, jnp.arange(2)]) * jnp.sqrt(temperature)
            a, b = jax.random.normal(normal_key, (2,))
            rho = correlation[picked[0]]
            return state, mean + scale * jnp.stack([a, rho * a + jnp.sqrt(1 - rho**2) * b])

        state, offset = jax.vmap(one)(keys, pen, logits, means, log_scales, correlation)
        log_offset, log_pen = point_log_prob(config, (pen, logits, means, log_scales, correlation), offset, state)
        ended = state == END
        moved = ~(s["done"] | ended)
        offset = jnp.where(moved[:, None], offset, 0.0)
        lift = jnp.where(moved, (state == UP).astype(jnp.float32), s["lifted"])
        position = s["position"] + offset * config.scale
        written = s["written"]
        if config.glimpse:
            written = written + ink(s["position"], position) * (moved * (1 - s["lifted"]))[:, None]
        new = {"rows": s["rows"].at[:, number].set(jnp.concatenate([offset * config.scale, lift[:, None]], -1) * moved[:, None]),
               "count": s["count"] + moved, "done": s["done"] | ended,
               "score": s["score"] + jnp.where(s["done"], 0.0, log_pen + jnp.where(ended, 0.0, log_offset)),
               "movement": jnp.concatenate([offset, (lift == 0)[:, None], (lift == 1)[:, None], jnp.zeros((batch, 1))], -1),
               "position": position, "lifted": lift, "written": written,
               "left": jnp.maximum(s["left"] - (moved & (lift == 1)), 0), "h": h.transpose(1, 0, 2), "c": c.transpose(1, 0, 2)}
        if many > 1:
            new = jax.lax.cond((number + 1) % RESAMPLE == 0, lambda n: resample(number, n), lambda n: n, new)
        return number + 1, new

    _, end = jax.lax.while_loop(going, step, (jnp.int32(0), start))
    best = fitness(end).argmax(-1) + jnp.arange(wanted) * many if many > 1 else jnp.arange(wanted)
    return end["rows"][best], end["count"][best], end["score"][best]
