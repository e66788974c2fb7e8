"""Stage 1: turns prepared data and a VAE's configuration into a `Task` for
`training.loop.train`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.models import augment, vae
from transfer.output.pictures import image_grid
from transfer.stages.encoding import (
    UNKNOWN,
    VAE_NAMES,
    corpus_provenance,
    labels_of,
    new_examples,
    old_examples,
    old_pool,
    shares,
    upstream,
)
from transfer.system.batches import in_batches
from transfer.training import weights
from transfer.training.errors import TrainingError
from transfer.training.examples import (
    Pool,
    attributes,
    class_table,
    mix,
    set_aside,
    taking_part,
)
from transfer.training.loop import Task
from transfer.training.optimizers import adamw

MEASURED = 2048
"""How many training images give the final statistics of a network that normalises by batches."""


def vae_task(config: vae.VAEConfig, corpus: Corpus, domain: str, start: Path | None = None) -> Task:
    """The VAE of one domain ("old" or "new").

    start: a weights or runs folder with a VAE of the domain from which training starts (`earlier`).

    The held-out images of the old domain are the val split. In the new domain every kanji must be
    in the gallery, so KanjiVG's variant forms (Kaisho and others), on which `residual` never
    trains, are held out. The paper's preset trains on variants too, and is evaluated on the
    gallery.
    """
    if domain == "old":
        source = old_pool(corpus, config, *old_examples(corpus, "train"), config.aside, config.kana)
        held, held_points = old_examples(corpus, "val")
        held_images = corpus.old.images[held]
    else:
        variants = config.architecture == "paper"
        chosen = new_examples(corpus, variants)
        code_points, images = corpus.new.code_points[chosen], corpus.new.images[chosen]
        others = np.setdiff1d(new_examples(corpus, True), chosen)
        others = others if len(others) else corpus.new.gallery()
        others = np.random.default_rng(0).permutation(others)[:2000]
        held_images, held_points = corpus.new.images[others], corpus.new.code_points[others]
        classes, labels = np.unique(code_points, return_inverse=True)
        source = Pool(
            images,
            classes,
            {"real": class_table(labels, config.balance)},
            np.ones(len(classes), bool),
            np.arange(len(classes), dtype=np.int32),
            len(images),
        )
    classes, photographed = source.classes, source.photographed
    data, held_labels = source.data(), labels_of(held_points, classes)
    if config.components:
        data["attributes"] = attributes(corpus.new, classes)
    others = hard_examples(corpus, config.aside, classes) if domain == "old" else {}

    def build(key):
        return vae.VAE(
            config,
            len(classes),
            nnx.Rngs(params=key),
            data["attributes"].shape[1] if config.components else 0,
        )

    whole = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))[0]
    graph, _, statistics = nnx.split(build(jax.random.key(0)), nnx.Param, ...)
    statistics = nnx.to_pure_dict(statistics)

    begin_with = earlier(start, domain) if start else None

    def init(key):
        params = nnx.to_pure_dict(nnx.split(build(key), nnx.Param, ...)[1])
        return begun(params, classes, *begin_with) if begin_with else params

    def met(data, key):
        draw_key, augment_key = jax.random.split(key)
        index, label = mix(data["tables"], shares(config), config.batch, draw_key)
        return index, label, augmented(config, data["images"][index], augment_key)

    def loss(params, data, key, variant):
        met_key, model_key = jax.random.split(key)
        index, label, (images, clean) = met(data, met_key)
        return vae.loss(
            nnx.merge(graph, params, statistics),
            config,
            images,
            label,
            model_key,
            taking_part(data, source.real, index, label),
            clean,
            data["attributes"][label].astype(jnp.float32) if config.components else None,
        )

    @jax.jit
    def with_statistics(params, images):
        return nnx.to_pure_dict(
            nnx.split(vae.finalize(nnx.merge(graph, params, statistics), images))[1]
        )

    def finalize(params):
        """The VAE with the statistics of its training images, augmented as in training."""
        return with_statistics(params, sample()) if config.norm == "batch" else params

    @cache
    def sample():
        """Enough training images for a good mean, drawn and augmented as in training."""
        images = [
            met({**data, "images": source.images}, jax.random.key(n))[2][0]
            for n in range(-(-MEASURED // config.batch))
        ]
        return jnp.concatenate(images)[:MEASURED]

    @jax.jit
    def measure(params, images, labels):
        model = nnx.merge(whole, params)
        x = augment.to_float(images)
        # The posterior mean, no noise: what every later stage and user gets.
        logits, (mean, log_variance) = vae.decode_mean(model, x)
        values = {
            "reconstruction": vae.reconstruction_loss(logits, x),
            "kl": vae.kl_divergence(mean, log_variance).sum(-1),
        }
        if config.recognition:
            scores = jnp.where(photographed, model.classifier(mean), -jnp.inf)
            values["accuracy"] = (scores.argmax(-1) == labels).astype(jnp.float32)
        return values

    @jax.jit
    def recognise(params, images):
        model = nnx.merge(whole, params)
        return model.classifier(model.encode(augment.to_float(images))[0]).argmax(-1)

    def evaluate(params):
        values = {}
        if len(held_images):
            held = in_batches(
                lambda part: measure(params, *part), (held_images, held_labels), (256,)
            )
            values = {name: float(value.mean()) for name, value in held.items()}
        if config.recognition:
            for name, (images, labels) in others.items():
                found = in_batches(lambda part: recognise(params, part), images, (256,))
                values[f"{name}_accuracy"] = float(
                    (source.group[found] == source.group[labels]).mean()
                )
        return values

    @jax.jit
    def reconstruct(params, images):
        return jax.nn.sigmoid(
            vae.decode_mean(nnx.merge(whole, params), augment.to_float(images))[0]
        )

    def picture(params, path):
        shown = held_images[:: max(1, len(held_images) // 64)][:64]
        image_grid([shown / 255.0, np.asarray(reconstruct(params, jnp.asarray(shown)))], path)

    provenance = corpus_provenance(corpus, shares(config) if domain == "old" else None)
    if start:
        provenance["start"] = upstream(start, VAE_NAMES[domain])
    return Task(
        VAE_NAMES[domain],
        config,
        init,
        loss,
        data,
        evaluate,
        picture if len(held_images) else None,
        export=lambda params: {"classes": classes.astype(np.int32)},
        provenance=provenance,
        optimizer=adamw(config, config.cooldown),
        finalize=finalize,
    )


def earlier(folder: Path, domain: str) -> tuple[dict, np.ndarray]:
    """Parameters of a trained VAE, and the code points (C,) of its classifier's columns.

    Shipped weights leave out the old VAE's classifier, because the density keeps its columns.
    Raises WeightsError.
    """
    params, arrays, _ = weights.load(weights.find(folder, VAE_NAMES[domain]))
    if "classifier" in params or domain == "new" or not weights.exists(folder, "mdn"):
        return params, arrays["classes"]
    density, arrays, _ = weights.load(weights.find(folder, "mdn"))
    density, points = density["mdn"], arrays["code_points"]
    if "direct" not in density:
        return params, points
    known = density["direct"]["bias"] > UNKNOWN
    points, columns = points[known], {k: v[..., known] for k, v in density["direct"].items()}
    if "kana_code_points" in arrays:
        points = np.concatenate([points, arrays["kana_code_points"]])
        columns = {k: np.concatenate([v, arrays[f"kana_{k}"]], -1) for k, v in columns.items()}
    order = np.argsort(points)
    return params | {"classifier": {k: v[..., order] for k, v in columns.items()}}, points[order]


def begun(params: dict, classes: np.ndarray, trained: dict, points: np.ndarray) -> dict:
    """The parameters, with those replaced that a trained VAE has in the same shape.

    The classifier's are taken character by character; a new character keeps its own.

    classes: (C,) code points of the classifier's columns.
    trained, points: from `earlier`.

    Raises TrainingError if its encoder has another shape.
    """
    found = weights.flatten(trained, "params")
    place = labels_of(classes, points)

    def begin(path, leaf):
        name = weights.name_of(path)
        value = found.get(name)
        if value is not None and name.startswith("params/classifier/"):
            return jnp.where(place >= 0, value[..., place], leaf)
        if value is not None and value.shape == leaf.shape:
            return jnp.asarray(value, leaf.dtype)
        if name.startswith("params/encoder/"):
            raise TrainingError(
                "--start: that VAE's encoder has another shape than the one to be trained; "
                "give the settings that it was trained with, or leave out --start"
            )
        return leaf

    return jax.tree_util.tree_map_with_path(begin, params)


def augmented(
    config: vae.VAEConfig, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the encoder sees of images, and what the decoder must paint, both float32.

    images: (B, 64, 64) uint8; the results have the same shape, in [0, 1].
    """
    if config.augment != "photo":
        return (x := augment.augment(images, key, config.augment, config.warp)), x
    warp_key, disturb_key = jax.random.split(key)
    clean = augment.warp(images, warp_key, config.warp)
    return augment.disturb(clean, disturb_key), clean


def hard_examples(
    corpus: Corpus, aside: int, classes: np.ndarray, most: int = 1000
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images that training leaves out so that they can serve to choose settings, by name.

    hands: a sample of the fonts with the role "choose".
    aside: the books' images of the characters that are `set_aside`.

    Returns name -> images (n, 64, 64) uint8 and labels (n,) into classes.
    """
    found = {}
    if corpus.fonts is not None and len(rows := corpus.fonts.of("choose")):
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
        found["hands"] = corpus.fonts.images[rows], corpus.fonts.code_points[rows]
    chosen, points = old_examples(corpus, "train")
    if aside and (rows := np.flatnonzero(np.isin(points, set_aside(points, aside)))).size:
        found["aside"] = corpus.old.images[chosen[rows]], points[rows]
    return {
        name: (np.asarray(images)[known], labels[known])
        for name, (images, points) in found.items()
        if (known := (labels := labels_of(points, classes)) >= 0).any()
    }
