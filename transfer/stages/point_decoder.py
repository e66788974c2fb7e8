"""Stage 3 of the preset `paper`: the decoder that moves the pen point by point (`sketch_rnn`)."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.data.raster import rasterise
from transfer.data.strokes import from_stroke3, resample, simplify_many, to_stroke3
from transfer.models import mdn, sketch_rnn, stroke_forms, vae
from transfer.output.pictures import image_grid
from transfer.stages.drawings import MEASURED, bucketed, held_out_drawings, likelihoods
from transfer.stages.encoding import (
    corpus_provenance,
    in_gallery,
    load_mdn,
    load_vae,
    modern_forms,
    old_examples,
    old_latents,
    upstream,
)
from transfer.stages.latent_pairs import anew
from transfer.system.batches import in_batches
from transfer.system.devices import shard
from transfer.training import weights
from transfer.training.errors import TrainingError
from transfer.training.loop import Task
from transfer.training.optimizers import adamw

# Trained ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PointDecoder:
    """A trained decoder that writes point by point; its methods are those of `decoders.Decoder`."""

    config: sketch_rnn.SketchRNNConfig
    graph: nnx.GraphDef
    params: dict
    unit = "point"

    @classmethod
    def of(cls, params: dict, arrays: dict, described: dict) -> PointDecoder:
        """The decoder of a weights file, from what `weights.load` reads. Raises WeightsError."""
        config = weights.config(sketch_rnn.SketchRNNConfig, described)
        graph, _ = nnx.split(nnx.eval_shape(lambda: sketch_rnn.SketchRNN(config, nnx.Rngs(0))))
        return cls(config, graph, params)

    def lengths(self, z: np.ndarray, pictures: np.ndarray) -> np.ndarray:
        """The pictures' ink, on which the number of points depends."""
        return pictures.reshape(len(pictures), -1).sum(1)

    def draw(self, z, pictures, keys, temperature, lengths):
        keys = jax.random.wrap_key_data(jnp.asarray(keys))
        rows, counts, _ = jax.device_get(
            sketch_rnn.draw(self.graph, self.params, {"z": z}, keys, jnp.float32(temperature))
        )
        drawings = [from_stroke3(r[:n]) for r, n in zip(rows, counts)]
        return drawings, np.asarray(stroke_forms.likeness(same_points(drawings), pictures))

    def targets(self, corpus: Corpus, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return stroke_arrays(corpus, glyphs, self.config)

    def negative_log_likelihood(self, targets, count, z, pictures) -> np.ndarray:
        return in_batches(
            lambda part: point_nll(self.graph, self.params, *part),
            (targets, count, {"z": z}),
            (MEASURED,),
        )


@partial(jax.jit, static_argnums=0)
def point_nll(graph, params, rows, count, condition) -> jax.Array:
    """NLL of drawings (B,), in nats: movements and pen states together."""
    move, pen = sketch_rnn.negative_log_likelihood(nnx.merge(graph, params), rows, count, condition)
    return move + pen


def same_points(drawings: list[list[np.ndarray]], points: int = 24) -> np.ndarray:
    """Drawings as one array (N, most strokes, points, 2), as `stroke_forms.likeness` takes them.

    It is 0 where there is no stroke.
    """
    strokes = np.zeros((len(drawings), max(map(len, drawings)), points, 2), np.float32)
    for row, drawing in zip(strokes, drawings):
        row[: len(drawing)] = [resample(stroke, points) for stroke in drawing]
    return strokes


# Training -----------------------------------------------------------------------------------------


def stroke_arrays(
    corpus: Corpus, glyphs: np.ndarray, config: sketch_rnn.SketchRNNConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Padded stroke-3 rows of glyphs, simplified as `config` says, and how many there are.

    Returns (n, longest - 1, 3) float32 in box units, and (n,) int32. Raises TrainingError for a
    glyph with more points than fit.
    """
    longest = config.longest
    drawings = [corpus.new.strokes(int(i)) for i in glyphs]
    lines = [line for strokes in drawings for line in strokes]
    bounds = np.cumsum([0] + [len(line) for line in lines])
    keep = simplify_many(np.concatenate(lines).astype(np.float64), bounds, config.simplify)
    simpler = iter([line[keep[a:b]] for line, a, b in zip(lines, bounds, bounds[1:])])
    rows = [to_stroke3([next(simpler) for _ in strokes]) for strokes in drawings]
    count = np.array([len(r) for r in rows], np.int32)
    if count.max() >= longest:
        worst = glyphs[count.argmax()]
        raise TrainingError(
            f"{corpus.new.ids[worst]}: {count.max()} points are more than --longest {longest} "
            "holds; raise it"
        )
    padded = np.zeros((len(rows), longest - 1, 3), np.float32)
    for i, r in enumerate(rows):
        padded[i, : len(r)] = r
    return padded, count


def sketch_rnn_task(
    config: sketch_rnn.SketchRNNConfig, corpus: Corpus, folder: Path, seed: int = 0
) -> Task:
    """The decoder that writes point by point, on latents of the models trained in `folder`.

    It trains on every kanji of the gallery. Held out are KanjiVG's variant forms, on their own
    latents, and the val images, on the latents that the density predicts for them, with the strokes
    of the kanji that they show.
    """
    gallery = corpus.new.gallery()
    stroke3, count = stroke_arrays(corpus, gallery, config)
    forms = modern_forms(folder, corpus, False)
    # Only the paper's condition needs the density to train on; else it serves the measurement on
    # val images, where it is there.
    density = load_mdn(folder) if config.from_density or weights.exists(folder, "mdn") else None
    data = {"stroke3": stroke3, "count": count}
    if config.fresh:
        more, condition = fresh_conditions(config, folder, corpus, forms, density)
        data |= more
    else:
        keys = jax.random.split(jax.random.key(seed), config.views)
        if config.from_density:
            data["z"] = predicted_views(folder, corpus, forms, density, keys)
        else:
            own = [vae.sample_z(forms.mean, forms.log_variance, k) for k in keys]
            data["z"] = np.stack([np.asarray(z) for z in own], 1)  # (G, views, 64)

        def condition(data, index, key):
            return data["z"][index, jax.random.randint(key, index.shape, 0, config.views)]

    longest = config.longest - 1
    data["buckets"], lengths, bucket = bucketed(count, config.buckets, longest, seed)
    if config.padded:  # what stands after the end counts too: all of it is there
        lengths = [longest] * config.buckets
    build = lambda key: sketch_rnn.SketchRNN(config, nnx.Rngs(params=key))
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def loss(params, data, key, variant):
        draw_key, view_key, change_key, model_key = jax.random.split(key, 4)
        members = data["buckets"][variant]
        index = shard(members[jax.random.randint(draw_key, (config.batch,), 0, len(members))])
        rows, points = data["stroke3"][index, : lengths[variant]], data["count"][index]
        if config.drop or config.stretch:
            rows, points = sketch_rnn.vary(
                rows, points, change_key, config.drop, config.stretch, config.whole
            )
        z = condition(data, index, view_key)
        return sketch_rnn.loss(nnx.merge(graph, params), rows, points, {"z": z}, model_key)

    held = held_out_drawings(
        corpus, folder, forms, density, None, lambda glyphs: stroke_arrays(corpus, glyphs, config)
    )

    def evaluate(params):
        return likelihoods(partial(point_nll, graph, params), held, "point")

    def picture(params, path):
        drawings, points_of, conditions = held["val" if "val" in held else "gallery"]
        condition = {k: jnp.asarray(v[:48]) for k, v in conditions.items()}
        rows, points, _ = sketch_rnn.draw(
            graph,
            params,
            condition,
            jax.random.split(jax.random.key(0), len(condition["z"])),
            jnp.float32(config.temperature),
        )
        drawn = [
            rasterise(from_stroke3(np.asarray(r[:n]))) / 255.0 if n > 1 else np.zeros((64, 64))
            for r, n in zip(rows, points)
        ]
        truth = [rasterise(from_stroke3(r[:n])) / 255.0 for r, n in zip(drawings[:48], points_of)]
        image_grid([np.stack(truth), np.stack(drawn)], path)

    made_from = ("vae_old", "vae_new", "mdn") if config.from_density else ("vae_new",)
    provenance = corpus_provenance(corpus) | {"upstream": upstream(folder, *made_from)}
    if config.warmup < 0:
        # (1e-3 - 1e-5) * 0.99999**step + 1e-5, as the program has it.
        schedule = lambda step: (config.learning_rate - 1e-5) * 0.99999**step + 1e-5
        optimizer = optax.chain(optax.clip(config.clip), optax.adam(schedule))
    else:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adamw(config))
    return Task(
        "sketch_rnn",
        config,
        lambda key: nnx.to_pure_dict(nnx.split(build(key))[1]),
        loss,
        data,
        evaluate,
        picture,
        provenance=provenance,
        variant=bucket,
        optimizer=optimizer,
    )


def fresh_conditions(
    config: sketch_rnn.SketchRNNConfig, folder: Path, corpus: Corpus, forms, density
):
    """Conditions each example on a z_new of its own: arrays for a device, and a function.

    The function is (data, kanji (B,), key) -> z_new (B, 64). With `from_density`, it is drawn from
    the density at a random image of the kanji. For a kanji without training images, and without
    `from_density` for all, it is a draw from the glyph's own posterior. Image and glyph are newly
    augmented, as in their VAE's training.
    """
    new_graph, new_params, _, new_config = load_vae(folder, "new")
    data = {"glyphs": np.asarray(corpus.new.images[forms.glyphs]), "vae_new": new_params}

    def own(data, index, key):
        image_key, z_key = jax.random.split(key)
        glyphs = data["glyphs"][index]
        return vae.sample_z(*anew(new_graph, data["vae_new"], new_config, glyphs, image_key), z_key)

    if not config.from_density:
        return data, own
    old_graph, old_params, _, old_config = load_vae(folder, "old")
    chosen, label = in_gallery(*old_examples(corpus, "train"), forms.code_points)
    graph, params, gallery, _, _ = density
    count = np.bincount(label, minlength=len(forms.code_points)).astype(np.int32)
    data |= {
        "images": np.asarray(corpus.old.images[chosen[np.argsort(label, kind="stable")]]),
        "first": (np.cumsum(count) - count).astype(np.int32),
        "images_of": count,
        "vae_old": old_params,
        "mdn": params,
        "gallery": gallery,
    }

    def predicted(data, index, key):
        pick_key, image_key, z_key, own_key = jax.random.split(key, 4)
        count = data["images_of"][index]
        pick = jnp.floor(jax.random.uniform(pick_key, index.shape) * count).astype(jnp.int32)
        image = jnp.minimum(data["first"][index] + pick, len(data["images"]) - 1)
        images = data["images"][image]
        z_old, _ = anew(old_graph, data["vae_old"], old_config, images, image_key)
        model = nnx.merge(graph, data["mdn"])
        z_new = mdn.sample(model, z_old, data["gallery"], z_key, model.config.temperature)
        return jnp.where((count > 0)[:, None], z_new, own(data, index, own_key))

    return data, predicted


def predicted_views(folder, corpus, forms, density, keys) -> np.ndarray:
    """z_new for every kanji and view, (G, views, 64), drawn from the density.

    It is drawn at a random augmented image of the kanji. A kanji without training images gets draws
    from its own glyph's posterior (the paper's rule).
    """
    mean, _, label = old_latents(folder, corpus, "train", forms.code_points, 1)
    order = np.argsort(label, kind="stable")
    count = np.bincount(label, minlength=len(forms.code_points))
    start = np.cumsum(count) - count
    graph, params, gallery, _, _ = density
    drawn = jax.jit(
        lambda params, z, key: mdn.sample(
            model := nnx.merge(graph, params), z, gallery, key, model.config.temperature
        )
    )
    views = []
    for key in keys:
        own = np.asarray(vae.sample_z(forms.mean, forms.log_variance, key))
        pick = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1))).random(
            len(count)
        )
        image = order[np.minimum(start + (pick * count).astype(int), len(order) - 1)]
        at = itertools.count(0, 256)
        z_new = in_batches(
            lambda part: drawn(params, part, jax.random.fold_in(key, next(at))),
            mean[image],
            (256,),
        )
        views.append(np.where((count > 0)[:, None], z_new, own))
    return np.stack(views, 1).astype(np.float32)
