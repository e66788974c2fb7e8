"""Stage 3 of the shipped presets: the decoder that writes a whole stroke in each step
(`stroke_rnn`).
"""

from __future__ import annotations

import dataclasses
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.data.raster import rasterise
from transfer.data.strokes import resample
from transfer.models import stroke_rnn, stroke_sampling, vae
from transfer.models.stroke_forms import Axes
from transfer.output.pictures import image_grid
from transfer.stages.drawings import (
    DRAWINGS,
    MEASURED,
    bucketed,
    held_out_drawings,
    likelihoods,
)
from transfer.stages.encoding import (
    Network,
    corpus_provenance,
    load_mdn,
    modern_forms,
    painter,
    upstream,
)
from transfer.system.batches import in_batches
from transfer.system.devices import shard
from transfer.system.programs import Program
from transfer.training import weights
from transfer.training.errors import TrainingError
from transfer.training.loop import Task
from transfer.training.optimizers import adamw

STROKES = (12, 20)
"""Numbers of strokes for which programs are compiled, besides the largest possible number."""
AXES = ("mean", "axes", "deviation")
"""Arrays of a weights file that hold the strokes' axes, under "stroke_" and these names."""

# Trained ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StrokeDecoder:
    """A trained decoder that writes stroke by stroke; its methods are those of `decoders.Decoder`.

    network: the trained network. axes: those of the strokes that it was trained on.
    """

    network: Network
    axes: Axes
    unit = "stroke"

    @classmethod
    def of(cls, params: dict, arrays: dict, described: dict) -> StrokeDecoder:
        """The decoder of a weights file, from what `weights.load` reads. Raises WeightsError."""
        config = weights.config(stroke_rnn.StrokeRNNConfig, described)
        axes = jax.device_put(Axes(*(arrays[f"stroke_{k}"] for k in AXES)))
        build = lambda: stroke_rnn.StrokeRNN(config, nnx.Rngs(0))
        return cls(Network(config, params, arrays, build, repr(config)).on_device(), axes)

    @property
    def config(self) -> stroke_rnn.StrokeRNNConfig:
        return self.network.config

    @property
    def graph(self) -> nnx.GraphDef:
        return self.network.graph

    @property
    def params(self) -> dict:
        return self.network.params

    @cached_property
    def _plan(self) -> Program:
        build = lambda: partial(stroke_sampling.planned.__wrapped__, self.graph)
        return Program("plan", build, self.network.about)

    @cached_property
    def _writers(self) -> dict[int | None, Program]:
        """The programs that write, by the most strokes that they are compiled for."""

        def build(most):
            def draw(params, axes, condition, keys, temperature):
                strokes, count, _, alike = stroke_sampling.draw.__wrapped__(
                    self.graph,
                    params,
                    axes,
                    condition,
                    jax.random.wrap_key_data(keys),
                    temperature,
                    most,
                )
                return strokes, count, alike

            return draw

        return {
            most: Program(f"draw {most}", partial(build, most), self.network.about)
            for most in (*STROKES, None)
        }

    def prepare(self) -> None:
        """Compile, or take from the cache, what a few drawings of few strokes need."""
        given = lambda dtype, *shape: jax.ShapeDtypeStruct((DRAWINGS[0], *shape), dtype)
        z, pictures = given(np.float32, self.config.latent), given(np.float32, 64, 64)
        self._plan.ready(self.params, z)
        self._writers[STROKES[0]].ready(
            self.params,
            self.axes,
            {"z": z, "picture": pictures},
            given(np.uint32, 2),
            jax.ShapeDtypeStruct((), np.float32),
        )

    def lengths(self, z: np.ndarray, pictures: np.ndarray) -> np.ndarray:
        """The number of strokes, which is read from z."""
        return in_batches(lambda part: self._plan(self.params, part), z, DRAWINGS)

    def draw(self, z, pictures, keys, temperature, lengths):
        most = next((n for n in STROKES if n >= lengths.max()), None)
        condition = {"z": z, "picture": pictures}
        strokes, counts, alike = jax.device_get(
            self._writers[most](
                self.params, self.axes, condition, keys, np.array(temperature, np.float32)
            )
        )
        return [list(s[:n]) for s, n in zip(strokes, counts)], alike

    def targets(self, corpus: Corpus, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return stroke_codes(corpus, glyphs, self.config)

    def negative_log_likelihood(self, targets, count, z, pictures) -> np.ndarray:
        return in_batches(
            lambda part: stroke_nll(self.graph, self.params, self.axes, *part),
            (targets, count, {"z": z, "picture": pictures}),
            (MEASURED,),
        )


@partial(jax.jit, static_argnums=0)
def stroke_nll(graph, params, axes: Axes, strokes, count, condition) -> jax.Array:
    """NLL of drawings (B,), in nats."""
    return stroke_rnn.negative_log_likelihood(
        nnx.merge(graph, params), axes, strokes, count, condition
    )


# Training -----------------------------------------------------------------------------------------


def stroke_codes(
    corpus: Corpus, glyphs: np.ndarray, config: stroke_rnn.StrokeRNNConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The glyphs' strokes and how many there are.

    Returns (n, most strokes of one, stroke_points, 2) float32 in box units, and (n,) int32. Raises
    TrainingError for a glyph with more strokes than fit.
    """
    drawings = [corpus.new.strokes(int(i)) for i in glyphs]
    count = np.array([len(d) for d in drawings], np.int32)
    if count.max() > config.most:
        raise TrainingError(
            f"{corpus.new.ids[glyphs[count.argmax()]]}: {count.max()} strokes are more than "
            f"--most {config.most} holds; raise it"
        )
    strokes = np.zeros((len(drawings), count.max(), config.stroke_points, 2), np.float32)
    for row, drawing in zip(strokes, drawings):
        row[: len(drawing)] = [resample(line, config.stroke_points) for line in drawing]
    return strokes, count


def stroke_rnn_task(
    config: stroke_rnn.StrokeRNNConfig, corpus: Corpus, folder: Path, seed: int = 0
) -> Task:
    """The decoder that writes stroke by stroke, on latents of the models trained in `folder`.

    It trains on every kanji of the gallery; `held_out_drawings` says what is held out.
    """
    gallery = corpus.new.gallery()
    strokes, count = stroke_codes(corpus, gallery, config)
    axes = Axes.of(np.concatenate([s[:n] for s, n in zip(strokes, count)]))
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
        index = shard(members[jax.random.randint(draw_key, (config.batch,), 0, len(members))])
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
        pick = shard(
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

    def evaluate(params):
        values = likelihoods(partial(stroke_nll, graph, params, axes), held, "stroke")
        for name, (_, count, condition) in held.items():
            planned = in_batches(
                lambda part: stroke_sampling.planned(graph, params, part),
                condition["z"],
                (MEASURED,),
            )
            values[f"{name}_count_right"] = float((planned == count).mean())
        return values

    def picture(params, path):
        drawings, of, conditions = held["val" if "val" in held else "gallery"]
        condition = {k: jnp.asarray(v[:48]) for k, v in conditions.items()}
        drawn, many, *_ = stroke_sampling.draw(
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
        export=lambda params: {f"stroke_{k}": getattr(axes, k) for k in AXES},
        provenance=provenance,
        variant=bucket,
        optimizer=optimizer,
    )
