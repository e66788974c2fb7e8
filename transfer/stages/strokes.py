"""Stage 3: the decoders of z_new into strokes as training tasks, and a trained one of either
kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.data.raster import rasterise
from transfer.data.strokes import from_stroke3, resample, simplify_many, to_stroke3
from transfer.models import mdn, sketch_rnn, stroke_rnn, vae
from transfer.output.pictures import image_grid
from transfer.stages.encoding import (
    corpus_provenance,
    encode_images,
    in_batches,
    load_mdn,
    modern_forms,
    new_examples,
    old_latents,
    painter,
    upstream,
)
from transfer.system.devices import sharded
from transfer.training import weights
from transfer.training.errors import TrainingError
from transfer.training.loop import Task
from transfer.training.optimizers import adamw


def stroke_arrays(
    corpus: Corpus, glyphs: np.ndarray, config: sketch_rnn.SketchRNNConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Padded stroke-3 (n, longest - 1, 3) float32 in box units and the number of rows (n,) int32,
    simplified as `config` asks.

    Raises TrainingError for a glyph with more points than fit.
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
            f"{corpus.new.ids[worst]}: {count.max()} points are more than --longest {longest} holds; raise it"
        )
    padded = np.zeros((len(rows), longest - 1, 3), np.float32)
    for i, r in enumerate(rows):
        padded[i, : len(r)] = r
    return padded, count


def decoder_preset(preset: str) -> sketch_rnn.SketchRNNConfig | stroke_rnn.StrokeRNNConfig:
    """The decoder's settings of a preset: `paper` writes point by point, the others stroke by
    stroke."""
    return getattr(
        sketch_rnn.SketchRNNConfig if preset == "paper" else stroke_rnn.StrokeRNNConfig, preset
    )()


def decoder_task(
    config: sketch_rnn.SketchRNNConfig | stroke_rnn.StrokeRNNConfig,
    corpus: Corpus,
    folder: Path,
    seed: int = 0,
) -> Task:
    """Stage 3 of either kind: `sketch_rnn_task` (point by point) or `stroke_rnn_task` (stroke by
    stroke)."""
    kind = stroke_rnn_task if isinstance(config, stroke_rnn.StrokeRNNConfig) else sketch_rnn_task
    return kind(config, corpus, folder, seed)


def bucketed(count: np.ndarray, buckets: int, most: int, seed: int):
    """Examples by length: their indices, a list of (n,) int32; the length each bucket is compiled
    for; step group -> bucket."""
    order = np.argsort(count, kind="stable")
    ends = [len(order) * (b + 1) // buckets for b in range(buckets)]
    members = [order[a:b].astype(np.int32) for a, b in zip([0, *ends], ends)]
    share = np.array([len(b) for b in members]) / len(order)
    lengths = [min(int(-(-count[b].max() // 2) * 2), most) for b in members]
    return (
        members,
        lengths,
        lambda group: int(np.random.default_rng([seed, group]).choice(buckets, p=share)),
    )


def sketch_rnn_task(
    config: sketch_rnn.SketchRNNConfig, corpus: Corpus, folder: Path, seed: int = 0
) -> Task:
    """The decoder of z_new into strokes, on the latents of the VAEs and the density trained in
    `folder`.

    Every kanji of the gallery is trained on. Held out: KanjiVG's variant forms, on their own
    latents; and the val images, on the latents that the density predicts for them, with the strokes
    of the kanji they show.
    """
    gallery = corpus.new.gallery()
    stroke3, count = stroke_arrays(corpus, gallery, config)
    forms = modern_forms(folder, corpus, False)
    # Only the paper's condition needs the density to train on; else it serves the measurement on
    # val images, where it is there.
    density = load_mdn(folder) if config.from_density or weights.exists(folder, "mdn") else None
    keys = jax.random.split(jax.random.key(seed), config.views)
    if config.from_density:
        z = predicted_views(folder, corpus, forms, density, keys)
    else:
        z = np.stack(
            [np.asarray(vae.sample_z(forms.mean, forms.log_variance, k)) for k in keys], 1
        )  # (G, views, 64)
    data = {"stroke3": stroke3, "count": count, "z": z}
    data["buckets"], lengths, bucket = bucketed(count, config.buckets, config.longest - 1, seed)
    build = lambda key: sketch_rnn.SketchRNN(config, nnx.Rngs(params=key))
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def loss(params, data, key, variant):
        draw_key, view_key, change_key, model_key = jax.random.split(key, 4)
        members = data["buckets"][variant]
        index = sharded(members[jax.random.randint(draw_key, (config.batch,), 0, len(members))])
        view = jax.random.randint(view_key, (config.batch,), 0, config.views)
        rows, points = data["stroke3"][index, : lengths[variant]], data["count"][index]
        if config.drop or config.stretch:
            rows, points = sketch_rnn.vary(rows, points, change_key, config.drop, config.stretch)
        return sketch_rnn.loss(
            nnx.merge(graph, params), rows, points, {"z": data["z"][index, view]}, model_key
        )

    held = held_out_drawings(
        corpus, folder, forms, density, None, lambda glyphs: stroke_arrays(corpus, glyphs, config)
    )

    @jax.jit
    def measure(params, rows, points, condition):
        move, pen = sketch_rnn.negative_log_likelihood(
            nnx.merge(graph, params), rows, points, condition
        )
        return (move + pen).sum(), points.sum()

    def evaluate(params):
        values = {}
        for name, (rows, points, condition) in held.items():
            for suffix, shift in (("", 0), ("_wrong_z", 1)):
                total = np.zeros(2)
                for at in range(0, len(rows), 64):
                    shifted = {k: np.roll(v, shift, 0)[at : at + 64] for k, v in condition.items()}
                    total += np.array(
                        [
                            float(v)
                            for v in measure(
                                params, rows[at : at + 64], points[at : at + 64], shifted
                            )
                        ]
                    )
                values[f"{name}_nll_per_point{suffix}"] = total[0] / total[1]
        return values

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


def stroke_codes(
    corpus: Corpus, glyphs: np.ndarray, config: stroke_rnn.StrokeRNNConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The glyphs' strokes (n, most strokes of one, stroke_points, 2) float32 in box units and their
    number (n,) int32.

    Raises TrainingError for a glyph with more strokes than fit.
    """
    drawings = [corpus.new.strokes(int(i)) for i in glyphs]
    count = np.array([len(d) for d in drawings], np.int32)
    if count.max() > config.most:
        raise TrainingError(
            f"{corpus.new.ids[glyphs[count.argmax()]]}: {count.max()} strokes are more than --most {config.most} holds; raise it"
        )
    strokes = np.zeros((len(drawings), count.max(), config.stroke_points, 2), np.float32)
    for row, drawing in zip(strokes, drawings):
        row[: len(drawing)] = [resample(line, config.stroke_points) for line in drawing]
    return strokes, count


def stroke_rnn_task(
    config: stroke_rnn.StrokeRNNConfig, corpus: Corpus, folder: Path, seed: int = 0
) -> Task:
    """The decoder of z_new into strokes, a stroke a step, on the latents of the VAEs trained in
    `folder`.

    Every kanji of the gallery is trained on, held out is what `held_out_drawings` says.
    """
    gallery = corpus.new.gallery()
    strokes, count = stroke_codes(corpus, gallery, config)
    axes = stroke_rnn.Axes.of(np.concatenate([s[:n] for s, n in zip(strokes, count)]))
    forms, picture_of = modern_forms(folder, corpus, False), painter(folder)
    density = load_mdn(folder) if weights.exists(folder, "mdn") else None
    keys = jax.random.split(jax.random.key(seed), config.views - 1)
    z = np.stack(
        [forms.mean, *(np.asarray(vae.sample_z(forms.mean, forms.log_variance, k)) for k in keys)],
        1,
    )  # (G, views, 64)
    members, lengths, bucket = bucketed(count, config.buckets, strokes.shape[1], seed)
    data = {
        "strokes": strokes,
        "count": count,
        "z": z,
        "buckets": members,
        "axes": axes,
        "picture": np.stack(
            [np.uint8(np.round(255 * picture_of(z[:, v]))) for v in range(config.views)], 1
        ),
    }
    build = lambda key: stroke_rnn.StrokeRNN(config, nnx.Rngs(params=key))
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def loss(params, data, key, variant):
        draw_key, view_key, plan_key, model_key = jax.random.split(key, 4)
        members, model = data["buckets"][variant], nnx.merge(graph, params)
        index = sharded(members[jax.random.randint(draw_key, (config.batch,), 0, len(members))])
        view = jax.random.randint(view_key, (config.batch,), 0, config.views)
        condition = {
            "z": data["z"][index, view],
            "picture": data["picture"][index, view].astype(jnp.float32) / 255.0,
        }
        value, parts = stroke_rnn.loss(
            model,
            data["axes"],
            data["strokes"][index, : lengths[variant]],
            data["count"][index],
            condition,
            model_key,
        )
        pick = sharded(
            jax.random.randint(plan_key, (config.plan_batch,), 0, len(data["z"]) * config.views)
        )
        glyph, view = pick // config.views, pick % config.views
        planned, more = stroke_rnn.plan_loss(model, data["z"][glyph, view], data["count"][glyph])
        return value + planned, parts | more

    held = held_out_drawings(
        corpus,
        folder,
        forms,
        density,
        picture_of,
        lambda glyphs: stroke_codes(corpus, glyphs, config),
    )

    @jax.jit
    def measure(params, strokes, count, condition):
        model = nnx.merge(graph, params)
        planned = model.plan(condition).argmax(-1)
        return stroke_rnn.negative_log_likelihood(
            model, axes, strokes, count, condition
        ), planned == count

    def evaluate(params):
        values = {}
        for name, (strokes, count, condition) in held.items():
            for suffix, shift in (("", 0), ("_wrong_z", 1)):
                shifted = {k: np.roll(v, shift, 0) for k, v in condition.items()}
                parts = [
                    measure(
                        params,
                        strokes[at : at + 64],
                        count[at : at + 64],
                        {k: v[at : at + 64] for k, v in shifted.items()},
                    )
                    for at in range(0, len(strokes), 64)
                ]
                values[f"{name}_nll_per_stroke{suffix}"] = float(
                    sum(float(p[0].sum()) for p in parts) / count.sum()
                )
                if not suffix:
                    values[f"{name}_count_right"] = float(
                        np.concatenate([np.asarray(p[1]) for p in parts]).mean()
                    )
        return values

    def picture(params, path):
        drawings, of, conditions = held["val" if "val" in held else "gallery"]
        condition = {k: jnp.asarray(v[:48]) for k, v in conditions.items()}
        drawn, many, *_ = stroke_rnn.draw(
            graph,
            params,
            axes,
            condition,
            jax.random.split(jax.random.key(0), len(condition["z"])),
            jnp.float32(config.temperature),
        )
        raster = lambda strokes, count: np.stack(
            [rasterise(list(s[:n])) / 255.0 for s, n in zip(np.asarray(strokes), count)]
        )
        image_grid(
            [raster(drawings[:48], of[:48]), np.asarray(condition["picture"]), raster(drawn, many)],
            path,
        )

    provenance = corpus_provenance(corpus) | {"upstream": upstream(folder, "vae_new")}
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adamw(config))
    return Task(
        "sketch_rnn",
        config,
        lambda key: nnx.to_pure_dict(nnx.split(build(key))[1]),
        loss,
        data,
        evaluate,
        picture,
        export=lambda params: {
            f"stroke_{k}": getattr(axes, k) for k in ("mean", "axes", "deviation")
        },
        provenance=provenance,
        variant=bucket,
        optimizer=optimizer,
    )


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A trained decoder of strokes: configuration, model graph, parameters and, of the kind that
    writes whole strokes, their axes."""

    config: sketch_rnn.SketchRNNConfig | stroke_rnn.StrokeRNNConfig
    graph: nnx.GraphDef
    params: dict
    axes: stroke_rnn.Axes | None

    def lengths(self, z: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
        """How many strokes are planned for z_new (n, 64), (n,), by the decoder that writes whole
        strokes. sizes: see `in_batches`."""
        return in_batches(lambda part: stroke_rnn.planned(self.graph, self.params, part), z, sizes)


def load_decoder(folder: Path) -> Decoder:
    """The decoder of a runs or weights folder. Raises WeightsError."""
    params, arrays, described = weights.load(weights.find(folder, "sketch_rnn"))
    if "stroke_points" in described["config"]:
        config = weights.config(stroke_rnn.StrokeRNNConfig, described)
        build, axes = (
            stroke_rnn.StrokeRNN,
            stroke_rnn.Axes(
                *(jnp.asarray(arrays[f"stroke_{k}"]) for k in ("mean", "axes", "deviation"))
            ),
        )
    else:
        config = weights.config(sketch_rnn.SketchRNNConfig, described)
        build, axes = sketch_rnn.SketchRNN, None
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(config, nnx.Rngs(0))))
    return Decoder(config, graph, params, axes)


def predicted_views(folder, corpus, forms, density, keys) -> np.ndarray:
    """z_new for every kanji and view, (G, views, 64): drawn from the MDN at a random augmented
    image where there is one.

    A kanji without training images gets draws of its own glyph's posterior (the paper's rule).
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
        parts = [
            np.asarray(drawn(params, mean[image[at : at + 256]], jax.random.fold_in(key, at)))
            for at in range(0, len(image), 256)
        ]
        views.append(np.where((count > 0)[:, None], np.concatenate(parts), own))
    return np.stack(views, 1).astype(np.float32)


def held_out_drawings(
    corpus, folder, forms, density, picture_of, strokes_of, limit: int = 256
) -> dict:
    """name -> (strokes, counts, condition), strokes and counts as `strokes_of` gives them for
    glyphs: variant glyphs on their own z_new, the gallery on its own (trained on), and, where a
    density is there, val images on their predicted z_new."""

    def conditions(z):
        return {"z": z} | ({"picture": picture_of(z)} if picture_of else {})

    random = np.random.default_rng(0)
    gallery, held = corpus.new.gallery(), {}
    others = np.setdiff1d(new_examples(corpus, True), gallery)
    others = random.permutation(others)[:limit]
    if len(others):
        mean, _ = encode_images(folder, "new", corpus.new.images[others])
        held["variants"] = (*strokes_of(others), conditions(mean))
    known = np.sort(random.permutation(len(gallery))[:limit])
    held["gallery"] = (*strokes_of(gallery[known]), conditions(forms.mean[known]))
    z_old, label = np.zeros((0, 0)), ()
    if density:
        graph, params, anchors, _, _ = density
        z_old, _, label = old_latents(folder, corpus, "val", forms.code_points)
    if len(label):
        chosen = random.permutation(len(label))[:limit]
        model = nnx.merge(graph, params)
        z_new = np.asarray(
            mdn.sample(
                model,
                z_old[chosen],
                anchors,
                jax.random.key(0),
                min(0.25, model.config.temperature),
            )
        )
        held["val"] = (*strokes_of(gallery[label[chosen]]), conditions(z_new))
    return held
