"""Training steps of every model, ours and PyTorch's: loss, gradients and Adam on one batch that
stays where it is."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
from workers import Worker, alternate, ask, ratio

CLASSES = 6432
"""Kanji of the gallery."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A row for one framework. loss: (params, key) -> scalar of ours with `params`, or of a module
    of theirs (`params`) alone.
    augment: the same loss with the batch augmented first, where that is part of the training
    step."""

    params: object
    loss: Callable
    augment: Callable | None = None


def _random(*shape) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def _normal(*shape) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def _split(model):
    from flax import nnx

    graph, state = nnx.split(model)
    return (lambda p: nnx.merge(graph, p)), nnx.to_pure_dict(state)


def _tensors(*arrays):
    import torch

    return [torch.from_numpy(np.array(a)) for a in arrays]


# Rows: name -> problem of a framework ("jax" or "torch") ------------------------------------------


def paper_vae(framework: str) -> Problem:
    from transfer.models import vae

    return _vae(framework, vae.VAEConfig.paper(), 100)


def small_vae(domain: str, framework: str) -> Problem:
    from transfer.models import vae

    config = vae.VAEConfig.small(domain)
    return _vae(framework, config, config.batch)


def _vae(framework: str, config, batch: int) -> Problem:
    classes = CLASSES if config.recognition else 1
    images, labels = _random(batch, 64, 64), np.arange(batch) % classes
    if framework == "torch":
        import torch
        import twins

        images, labels = _tensors(images, labels)
        if config.architecture == "paper":
            return Problem(twins.PaperVAE(), lambda m: m.loss(images, torch.randn(batch, 64)))
        return Problem(
            twins.VAE(config, classes), lambda m: m.loss(images, labels, torch.randn(batch, 64))
        )
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from transfer.models import augment, vae

    model, params = _split(vae.VAE(config, classes, nnx.Rngs(0)))
    loss = lambda p, images, key: vae.loss(model(p), config, images, jnp.asarray(labels), key)[0]
    pixels = np.uint8(255 * images)

    def augmented(p, key):
        which, key = jax.random.split(key)
        return loss(
            p, augment.augment(jnp.asarray(pixels), which, config.augment, config.warp), key
        )

    return Problem(params, lambda p, key: loss(p, jnp.asarray(images), key), augmented)


def classifier(preset: str, framework: str) -> Problem:
    from transfer.models import classifier

    config = getattr(classifier.ClassifierConfig, preset)()
    images, labels = _random(config.batch, 64, 64), np.arange(config.batch) % CLASSES
    if framework == "torch":
        import twins

        images, labels = _tensors(images, labels)
        return Problem(twins.Classifier(config, CLASSES), lambda m: m.loss(images, labels))
    import jax.numpy as jnp
    from flax import nnx

    from transfer.models import augment

    model, params = _split(classifier.Classifier(config, CLASSES, nnx.Rngs(0)))
    loss = lambda p, images: classifier.loss(model(p), config, images, jnp.asarray(labels))[0]
    pixels = np.uint8(255 * images)
    return Problem(
        params,
        lambda p, key: loss(p, jnp.asarray(images)),
        lambda p, key: loss(p, augment.augment(jnp.asarray(pixels), key, "warp", config.warp)),
    )


def paper_mdn(framework: str) -> Problem:
    z_old, z_new = _normal(2, 3000, 64)
    if framework == "torch":
        import twins

        z_old, z_new = _tensors(z_old, z_new)
        return Problem(twins.MDN(), lambda m: m.loss(z_old, z_new))
    import jax.numpy as jnp
    from flax import nnx

    from transfer.models import mdn

    model, params = _split(mdn.build(mdn.MDNConfig.paper(), CLASSES, nnx.Rngs(0)))
    return Problem(
        params,
        lambda p, key: (
            -mdn.log_prob(model(p), jnp.asarray(z_old), jnp.asarray(z_new), None).mean() / 64
        ),
    )


def anchored_mdn(framework: str) -> Problem:
    from transfer.models import mdn

    config, batch = mdn.MDNConfig.small(), 1024  # of kept latents, as `alone` trains it
    z_old, means, labels = _normal(batch, 64), _normal(CLASSES, 64), 2 * np.arange(batch)
    seen = np.arange(CLASSES) % 2 == 0
    if framework == "torch":
        import torch
        import twins

        z_old, means, labels, seen = _tensors(z_old, means, labels, seen)
        return Problem(
            twins.AnchoredMDN(config, CLASSES),
            lambda m: m.loss(z_old, labels, means, seen, torch.rand(CLASSES).round()),
        )
    import jax.numpy as jnp
    from flax import nnx

    model, params = _split(mdn.build(config, CLASSES, nnx.Rngs(0)))

    def loss(p, key):
        gallery = mdn.Gallery(jnp.asarray(means), jnp.zeros_like(means), jnp.asarray(seen))
        return mdn.loss(
            model(p), jnp.asarray(z_old), jnp.asarray(z_old), jnp.asarray(labels), gallery, key
        )[0]  # z_new plays no part

    return Problem(params, loss)


def lstm_decoder(units: str, framework: str) -> Problem:
    import jax.numpy as jnp

    from transfer.models import sketch_rnn

    config = sketch_rnn.SketchRNNConfig(units=int(units))
    rows = np.concatenate(
        [_random(64, 133, 2) * 20 - 10, (_random(64, 133, 1) < 0.2).astype(np.float32)], -1
    )
    count, z = np.full(64, 133, np.int32), _random(64, 64)
    if framework == "torch":
        import twins_strokes

        movement, target, valid, z = _tensors(
            *sketch_rnn.teacher(config, jnp.asarray(rows), count), z
        )
        return Problem(
            twins_strokes.Decoder(int(units)), lambda m: m.loss(movement, target, valid, z)
        )
    from flax import nnx

    model, params = _split(sketch_rnn.SketchRNN(config, nnx.Rngs(0)))
    return Problem(
        params,
        lambda p, key: sketch_rnn.loss(
            model(p), jnp.asarray(rows), count, {"z": jnp.asarray(z)}, key
        )[0],
    )


STROKES = 12
"""Of an example: KanjiVG's mean, and what the middle bucket is compiled for."""


def stroke_decoder(framework: str) -> Problem:
    from transfer.models import stroke_rnn

    config = stroke_rnn.StrokeRNNConfig.small()
    batch, many = config.batch, config.plan_batch
    strokes = _random(batch, STROKES, config.stroke_points, 2) * 100
    axes = stroke_rnn.Axes.of(strokes.reshape(-1, config.stroke_points, 2))
    count, z, picture = (
        np.full(batch, STROKES, np.int32),
        _normal(batch, config.latent),
        _random(batch, 64, 64),
    )
    plan_z, plan_count = _normal(many, config.latent), np.arange(many) % 30
    if framework == "torch":
        import torch
        import twins_strokes

        strokes, count, z, picture, plan_z, plan_count = _tensors(
            strokes, count, z, picture, plan_z, plan_count
        )

        def loss(m):
            noise = config.noise * (
                torch.randn(batch, STROKES, 1, 2) + 0.3 * torch.randn(strokes.shape)
            )
            return m.loss(strokes, count, z, picture, noise, plan_z, plan_count)

        return Problem(twins_strokes.StrokeRNN(config, axes), loss)
    import jax.numpy as jnp
    from flax import nnx

    model, params = _split(stroke_rnn.StrokeRNN(config, nnx.Rngs(0)))

    def loss(p, key):
        m, condition = model(p), {"z": jnp.asarray(z), "picture": jnp.asarray(picture)}
        value = stroke_rnn.loss(m, axes, jnp.asarray(strokes), jnp.asarray(count), condition, key)[
            0
        ]
        return value + stroke_rnn.plan_loss(m, jnp.asarray(plan_z), jnp.asarray(plan_count))[0]

    return Problem(params, loss)


ROWS = {
    "paper_vae": (paper_vae, 100, "the paper's VAE, batch 100, images/s"),
    "vae_old": (partial(small_vae, "old"), 128, "old VAE of `small`, batch 128, images/s"),
    "vae_new": (partial(small_vae, "new"), 64, "new VAE of `small`, batch 64, images/s"),
    "mdn_paper": (paper_mdn, 3000, "the paper's MDN, batch 3,000, pairs/s"),
    "mdn": (anchored_mdn, 1024, "anchored MDN of `small`, batch 1,024, pairs/s"),
    "decoder_512": (
        partial(lstm_decoder, "512"),
        64,
        "LSTM-512 decoder, 133 steps, batch 64, sequences/s",
    ),
    "decoder_1024": (partial(lstm_decoder, "1024"), 64, "LSTM-1024 decoder, the same"),
    "stroke_decoder": (
        stroke_decoder,
        64,
        f"stroke decoder of `small`, {STROKES} strokes, batch 64, drawings/s",
    ),
    "baseline": (
        partial(classifier, "baseline"),
        128,
        "classifier of Kuzushiji, batch 128, images/s",
    ),
    "recogniser": (
        partial(classifier, "recogniser"),
        128,
        "recogniser of drawings, the same network",
    ),
}
AUGMENTED = ("paper_vae", "vae_old", "vae_new", "baseline", "recogniser")
PRODUCTS = ("mdn_paper", "mdn", "decoder_512", "decoder_1024", "stroke_decoder")
"""Those whose work is matrix products, which are measured in bfloat16 too."""


# Steps --------------------------------------------------------------------------------------------


def step(row: str, framework: str) -> Callable:
    """A training step of a row: number -> loss. framework: "jax"; "torch"; the same with
    "_bfloat16", ours with products of bfloat16 and theirs under autocast; "xla", ours with XLA's
    own convolutions; "augmented", ours with the augmentation in it."""
    framework, _, bfloat16 = framework.partition("_")
    if framework == "torch":
        return _theirs(ROWS[row][0]("torch"), bool(bfloat16))
    if framework == "xla":
        from transfer.models.layers import convolution

        convolution.on_cpu = lambda: False
    problem = ROWS[row][0]("jax")
    loss = problem.augment if framework == "augmented" else problem.loss
    return _ours(problem, loss, bool(bfloat16))


def _ours(problem: Problem, loss: Callable, bfloat16: bool) -> Callable:
    import jax
    import optax

    from transfer.system import devices
    from transfer.training.bfloat16 import with_bfloat16_products

    optimizer, value_and_grad = optax.adam(1e-3), jax.value_and_grad(loss)
    if bfloat16:
        value_and_grad = with_bfloat16_products(value_and_grad)

    def step(state, key):
        value, grads = value_and_grad(state[0], key)
        updates, moments = optimizer.update(grads, state[1])
        return (optax.apply_updates(state[0], updates), moments), value

    options = devices.compiler_options(bfloat16)
    compiled = jax.jit(step, donate_argnums=0, compiler_options=options)
    state = [(problem.params, optimizer.init(problem.params))]

    def run(number: int) -> float:
        state[0], value = compiled(state[0], jax.random.key(number))
        return float(value)

    return run


def _theirs(problem: Problem, bfloat16: bool) -> Callable:
    import torch

    optimizer = torch.optim.Adam(problem.params.parameters(), 1e-3)

    def run(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = problem.loss(problem.params)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return run


def count_flop(row: str) -> int:
    """FLOP of the products and convolutions of a row's loss and gradients, by PyTorch's own
    counter."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    problem = ROWS[row][0]("torch")
    # The counter does not know oneDNN's LSTM, but the products that it is made of.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        problem.loss(problem.params).backward()
    return counter.get_total_flops()


# Table --------------------------------------------------------------------------------------------

HEAD = """\
| training | ours | PyTorch | ours / PyTorch (range) | ours of the matrix product \
| augmentation, of a step | peak MB ours / PyTorch | ours / the earlier checkout (range) |
|---|---|---|---|---|---|---|---|"""


def line(row: str, peak: float, chosen) -> str:
    """Measure a row; its line of the table, or three for a row of `PRODUCTS`: float32 in both,
    bfloat16 in both, and ours against their float32. chosen: arguments of `run`."""
    _, batch, title = ROWS[row]
    flop = ask("training", "count_flop", row)
    frameworks = (
        ["jax", "torch"]
        + (["augmented"] if row in AUGMENTED else [])
        + (["jax_bfloat16", "torch_bfloat16"] if row in PRODUCTS else [])
        + (["xla"] if chosen.xla and row == "paper_vae" else [])
    )
    workers = {f: Worker(chosen.seconds, "training", "step", row, f) for f in frameworks}
    if chosen.beside:
        given = ("training", "step", row, "jax")
        workers["earlier"] = Worker(chosen.seconds, *given, here=chosen.beside)
    rates, memory = alternate(workers, chosen.repeats)
    middle = {f: batch * statistics.median(r) for f, r in rates.items()}
    augmentation = "–"
    if "augmented" in rates:
        left = statistics.median(a / b for a, b in zip(rates["augmented"], rates["jax"]))
        augmentation = f"{100 * (1 - left):.0f} %"

    def compared(title: str, ours: str, theirs: str) -> str:
        earlier = ratio(rates[ours], rates["earlier"]) if chosen.beside else "–"
        return (
            f"| {title} | {middle[ours]:,.0f} | {middle[theirs]:,.0f} |"
            f" {ratio(rates[ours], rates[theirs])} |"
            f" {100 * middle[ours] / batch * flop / peak:.0f} % | {augmentation} |"
            f" {memory[ours]:,.0f} / {memory[theirs]:,.0f} | {earlier} |"
        )

    title += f" (XLA's own convolutions: {middle['xla']:,.0f})" if "xla" in middle else ""
    lines = [compared(title, "jax", "torch")]
    if row in PRODUCTS:
        lines += [
            compared("– bfloat16 in both", "jax_bfloat16", "torch_bfloat16"),
            compared("– bfloat16, PyTorch in float32", "jax_bfloat16", "torch"),
        ]
    return "\n".join(lines)
