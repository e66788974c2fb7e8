"""The models as JAX functions that become ONNX: what goes in, and what comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.inference import acceptance
from transfer.inference.networks.reading import weighed
from transfer.models import augment, mdn, stroke_fitting, stroke_forms, stroke_rnn, vae
from transfer.models.layers.recurrent import gates
from transfer.stages.stroke_decoder import StrokeDecoder


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that becomes one file.

    function: takes arrays (n, …), and gives a tuple of them.
    takes: name of each input -> its type and its shape after n.
    gives: names of the outputs.
    """

    name: str
    function: Callable
    takes: dict[str, tuple]
    gives: tuple[str, ...]


def programs(model) -> list[Program]:
    """All programs of a `KuzushijiTransfer`: encoder, old painter, reader, acceptance (if one was
    fitted), painter, and the stroke decoder (if it writes stroke by stroke)."""
    found = [encoder(model), old_painter(model), reader(model)]
    if model.acceptance.arrays:
        found.append(judge(model))
    found.append(painter(model))
    if isinstance(model.decoder, StrokeDecoder):
        found += [stroke_plan(model), stroke_step(model)]
    return found


def density_config(model) -> mdn.MDNConfig:
    """The settings of a `KuzushijiTransfer`'s density."""
    return nnx.merge(model.mdn_graph, model.mdn_params).config


def encoder(model) -> Program:
    """Images -> what the old VAE sees in them, as they are and in the warped forms that the density
    asks for."""
    old = nnx.merge(model.old_graph, model.old_params)
    # What the warps do is known beforehand: ONNX has none of JAX's random numbers.
    views = density_config(model).averaged
    warps = [
        augment.warping(1, 64, key, vae.VIEW, 0.5)
        for key in (vae.view_keys(views) if views else ())
    ]

    def encode(images):
        plain = augment.to_float(images)
        forms = plain[:, None]
        if warps:
            forms = jnp.concatenate([forms, warped(plain, warps)], axis=1)
        # All at once, one below the other: else the weights would be in the file each time.
        features = old.encoder(forms.reshape(-1, 64, 64))
        own = lambda x: x.reshape(-1, 1 + len(warps), x.shape[-1])
        all_z = own(old.mean(features))
        log_variance = jnp.clip(own(old.log_variance(features))[:, 0], -12.0, 6.0)
        return all_z.mean(1), all_z, log_variance, own(features)[:, 0]

    gives = ("z_old", "views", "log_variance", "features")
    return Program("encoder", encode, {"images": (jnp.uint8, 64, 64)}, gives)


def old_painter(model) -> Program:
    """z_old -> pictures as old hands wrote them."""
    old = nnx.merge(model.old_graph, model.old_params)
    return Program(
        "old_painter",
        lambda z: (jax.nn.sigmoid(old.decode(z)),),
        {"z_old": (jnp.float32, density_config(model).latent)},
        ("pictures",),
    )


def reader(model) -> Program:
    """Images, what the old VAE sees in them, and its pictures of that -> candidates."""
    density = nnx.merge(model.mdn_graph, model.mdn_params)
    gallery, latent = model.gallery, density.config.latent
    if density.config.density == "anchored":
        # Ready made: they are smaller than what they are made of.
        keys = np.asarray(density.keys(gallery.mean))
        density.keys = lambda mean: keys

    def read(images, picture, views, log_variance):
        seen = {"old": picture, "z_old": views[:, 0], "log_variance": log_variance}
        given = (seen, views.transpose(1, 0, 2), model.kana_params, model.confidence)
        said = weighed(density, gallery, augment.to_float(images), *given)
        return (said["forms"], *([said["kana"]] if model.kana else []))

    takes = {
        "images": (jnp.uint8, 64, 64),
        "picture": (jnp.float32, 64, 64),
        "views": (jnp.float32, 1 + density.config.averaged, latent),
        "log_variance": (jnp.float32, latent),
    }
    gives = ("log_probabilities",) + (("kana",) if model.kana else ())
    return Program("reader", read, takes, gives)


def judge(model) -> Program:
    """Numbers of the images' ink, and what the old VAE sees in them -> familiarity."""
    arrays = {k: np.asarray(v, np.float32) for k, v in model.acceptance.arrays.items()}
    config, features = density_config(model), len(arrays["feature_mean"])

    def judged(ink, images, picture, views, log_variance, features):
        seen = {
            "old": picture,
            "features": features,
            "z_old": views[:, 0],
            "log_variance": log_variance,
        }
        numbers = acceptance.known(arrays, augment.to_float(images), seen, jnp)
        numbers = jnp.concatenate([ink, *numbers], 1)
        return (jax.nn.sigmoid(jnp.clip(acceptance.score(arrays, numbers, jnp), -30.0, 30.0)),)

    takes = {
        "ink": (jnp.float32, acceptance.INK_NUMBERS),
        "images": (jnp.uint8, 64, 64),
        "picture": (jnp.float32, 64, 64),
        "views": (jnp.float32, 1 + config.averaged, config.latent),
        "log_variance": (jnp.float32, config.latent),
        "features": (jnp.float32, features),
    }
    return Program("acceptance", judged, takes, ("familiarity",))


def painter(model) -> Program:
    """z_new -> pictures of the modern kanji."""
    new = nnx.merge(model.new_graph, model.new_params)
    latent = int(np.shape(model.gallery.mean)[1])
    return Program(
        "painter",
        lambda z: (jax.nn.sigmoid(new.decode(z)),),
        {"z_new": (jnp.float32, latent)},
        ("pictures",),
    )


def stroke_plan(model) -> Program:
    """What the stroke decoder knows before its first stroke."""
    decoder = model.decoder
    network, config = nnx.merge(decoder.graph, decoder.params), decoder.config

    def plan(z_new, pictures):
        condition = {"z": z_new, "picture": pictures}
        seen = network.see(condition)
        count = jnp.clip(network.plan(condition).argmax(-1), 1, config.most).astype(jnp.int32)
        return (count, *(seen[name] for name in ("coarse", "context", "features", "h", "c")))

    takes = {"z_new": (jnp.float32, config.latent), "pictures": (jnp.float32, 64, 64)}
    return Program("stroke_plan", plan, takes, ("count", "coarse", "context", "features", "h", "c"))


def stroke_step(model) -> Program:
    """One step of the stroke decoder."""
    decoder = model.decoder
    network, config, axes = nnx.merge(decoder.graph, decoder.params), decoder.config, decoder.axes
    codes, cells = 2 * config.stroke_points, stroke_forms.GRID**2

    def step(code, end, first, count_left, ink_left, h, c, context, features):
        seen = {
            "context": context,
            "features": features,
            "turned": features.transpose(0, 2, 1),
            "looks": [look.folded() for look in network.looks],
        }
        # The network takes several steps of a drawing; here it is one.
        one = lambda x: x[:, None]
        ink_left = one(ink_left)
        embedded = network.embedded(
            one(code), one(end), one(first), one(count_left), ink_left, seen
        )
        i, f, g, o = gates(network.inputs(embedded), one(h), network.kernel[...])
        c = f * one(c) + i * g
        h = o * jnp.tanh(c)
        out = network.read(h, embedded, ink_left, seen)
        return tuple(x[:, 0] for x in (h, c, *stroke_rnn.mixture(config, axes, out)))

    takes = {
        "code": (jnp.float32, codes),
        "end": (jnp.float32, 2),
        "first": (jnp.float32,),
        "count_left": (jnp.int32,),
        "ink_left": (jnp.float32, cells),
        "h": (jnp.float32, config.units),
        "c": (jnp.float32, config.units),
        "context": (jnp.float32, 256),
        "features": (jnp.float32, cells, config.channels),
    }
    gives = ("h_next", "c_next", "log_weights", "means", "log_scales")
    return Program("stroke_step", step, takes, gives)


def stroke_settings(model) -> dict:
    """What a program needs besides the graphs to draw, as numbers and lists."""
    decoder = model.decoder
    config, axes = decoder.config, decoder.axes
    return {
        "points": config.stroke_points,
        "most": config.most,
        "attempts": config.attempts,
        "enough": config.enough,
        "temperature": config.temperature,
        "fit_steps": config.fit_steps,
        "fit_rate": config.fit_rate,
        "samples": stroke_fitting.SAMPLES,
        "stay": stroke_fitting.STAY,
        "momentum": stroke_fitting.MOMENTUM,
        "box": stroke_forms.BOX,
        "grid": stroke_forms.GRID,
        "canvas": stroke_forms.CANVAS,
        "ink_width": stroke_forms.INK_WIDTH,
        "mean": np.asarray(axes.mean).tolist(),
        "axes": np.asarray(axes.axes).tolist(),
        "deviation": np.asarray(axes.deviation).tolist(),
    }


def warped(images, warps):
    """`transfer.models.augment.warp` of images (n, 64, 64) float32 in [0, 1] by each of V known
    warps, (n, V, 64, 64), in operations that jax2onnx has for any n: no padding, and fixed places
    to take pixels from.

    warps: V times what `augment.warping` gives for one image. They go through the graph together,
    since a browser takes long to prepare a graph of many nodes.
    """
    size, number = images.shape[1], len(warps)
    flat, out = images.reshape(-1, size * size), 0.0
    y, x, amount = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*warps))
    # Places and shares are worked out in the graph: the file holds two numbers a pixel, not twelve.
    y, x = (jnp.asarray(np.clip(v + 1.0, 0.0, size + 0.999)).ravel() for v in (y, x))
    for down in (0, 1):
        for right in (0, 1):
            row, column = jnp.floor(y) + down, jnp.floor(x) + right
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            inside = (row >= 1) & (row <= size) & (column >= 1) & (column <= size)  # else paper
            place = jnp.clip(row - 1, 0, size - 1) * size + jnp.clip(column - 1, 0, size - 1)
            out = out + jnp.take(flat, place.astype(jnp.int32), axis=1) * jnp.where(
                inside, share, 0.0
            )
    # Ink becomes heavier (the neighbourhood's maximum) or, turned over, lighter (its minimum).
    sign = np.sign(amount)
    out = out.reshape(-1, number, size, size) * sign
    rows = jnp.concatenate([out[:, :, :1], out, out[:, :, -1:]], 2)
    rows = jnp.maximum(jnp.maximum(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
    both = jnp.concatenate([rows[..., :1], rows, rows[..., -1:]], 3)
    heavy = jnp.maximum(jnp.maximum(both[..., :-2], both[..., 1:-1]), both[..., 2:])
    return (out + abs(amount) * (heavy - out)) * sign
