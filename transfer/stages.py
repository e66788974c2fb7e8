"""The three stages as training tasks: prepared data and a model's configuration become a `Task` for `training.train`.

Batches are drawn inside the compiled step from arrays that stay on the device. Later stages read the weights that earlier
ones left in the same runs folder.
"""
from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.corpus import Corpus
from transfer import augment, vae, weights
from transfer.pictures import image_grid
from transfer.training import Task

VAE_NAMES = {"old": "vae_old", "new": "vae_new"}


# Drawing batches ------------------------------------------------------------------------------------------------------

def class_table(labels: np.ndarray, balance: float) -> dict[str, np.ndarray]:
    """Arrays with which `draw` picks examples: a class of n examples with weight n**(1 - balance), then one of its examples.

    labels (N,) int, 0..classes-1, every class present.
    """
    order = np.argsort(labels, kind="stable").astype(np.int32)
    count = np.bincount(labels)
    weight = count.astype(np.float64) ** (1.0 - balance)
    return {"order": order, "start": (np.cumsum(count) - count).astype(np.int32), "count": count.astype(np.int32),
            "cumulative": (np.cumsum(weight) / weight.sum()).astype(np.float32)}


def draw(table: dict[str, jax.Array], batch: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(indices, labels), each (batch,) int32, drawn with replacement as `class_table` says."""
    class_key, example_key = jax.random.split(key)
    label = jnp.searchsorted(table["cumulative"], jax.random.uniform(class_key, (batch,)), side="right")
    label = jnp.minimum(label, len(table["count"]) - 1)
    within = jnp.floor(jax.random.uniform(example_key, (batch,)) * table["count"][label]).astype(jnp.int32)
    return table["order"][table["start"][label] + jnp.minimum(within, table["count"][label] - 1)], label


# Stage 1: the two VAEs ------------------------------------------------------------------------------------------------

def old_examples(corpus: Corpus, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the split's images and their code points, (n,) each."""
    chosen = corpus.old.indices(split)
    return chosen, np.asarray(corpus.old.code_points)[chosen]


def new_examples(corpus: Corpus, variants: bool) -> np.ndarray:
    """Indices of the modern glyphs that are trained on: every kanji's standard form, or every kanji form there is."""
    gallery = corpus.new.gallery()
    if not variants:
        return gallery
    return np.flatnonzero(np.isin(corpus.new.code_points, corpus.new.code_points[gallery]))


def vae_task(config: vae.VAEConfig, corpus: Corpus, domain: str) -> Task:
    """The VAE of one domain ("old" or "new").

    Held out: of the old domain the val split; of the new, where every kanji must be in the gallery, KanjiVG's variant forms
    (Kaisho and others), which `residual` never trains on. The paper's preset trains on variants too, and is evaluated on the gallery.
    """
    if domain == "old":
        chosen, code_points = old_examples(corpus, "train")
        images, held_out = corpus.old.images[chosen], old_examples(corpus, "val")
        held_images = corpus.old.images[held_out[0]]
        held_points = held_out[1]
    else:
        variants = config.architecture == "paper"
        chosen = new_examples(corpus, variants)
        code_points, images = corpus.new.code_points[chosen], corpus.new.images[chosen]
        others = np.setdiff1d(new_examples(corpus, True), chosen)
        others = others if len(others) else corpus.new.gallery()
        others = np.random.default_rng(0).permutation(others)[:2000]
        held_images, held_points = corpus.new.images[others], corpus.new.code_points[others]
    classes, labels = np.unique(code_points, return_inverse=True)
    held_labels = np.searchsorted(classes, held_points).clip(0, len(classes) - 1)
    held_labels = np.where(classes[held_labels] == held_points, held_labels, -1)
    data = {"images": images, "table": class_table(labels, config.balance)}

    def build(key):
        return vae.VAE(config, len(classes), nnx.Rngs(params=key))

    graph, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def loss(params, data, key, variant):
        draw_key, augment_key, model_key = jax.random.split(key, 3)
        index, label = draw(data["table"], config.batch, draw_key)
        batch = augment.augment(data["images"][index], augment_key, config.augment, config.warp)
        return vae.loss(nnx.merge(graph, params), config, batch, label, model_key)

    @jax.jit
    def measure(params, images, labels):
        model = nnx.merge(graph, params)
        x = augment.to_float(images)
        # The posterior mean, no noise: what every later stage and user gets.
        logits, (mean, log_variance) = vae.decode_mean(model, x)
        values = {"reconstruction": vae.reconstruction_loss(logits, x), "kl": vae.kl_divergence(mean, log_variance).sum(-1)}
        if config.recognition:
            values["accuracy"] = (model.classifier(mean).argmax(-1) == labels).astype(jnp.float32)
        return values

    def evaluate(params):
        parts = [measure(params, jnp.asarray(held_images[i:i + 256]), jnp.asarray(held_labels[i:i + 256]))
                 for i in range(0, len(held_images), 256)]
        return {k: float(np.concatenate([np.asarray(p[k]) for p in parts]).mean()) for k in parts[0]}

    @jax.jit
    def reconstruct(params, images):
        return jax.nn.sigmoid(vae.decode_mean(nnx.merge(graph, params), augment.to_float(images))[0])

    def picture(params, path):
        shown = held_images[:: max(1, len(held_images) // 64)][:64]
        image_grid([shown / 255.0, np.asarray(reconstruct(params, jnp.asarray(shown)))], path)

    return Task(VAE_NAMES[domain], config, lambda key: nnx.to_pure_dict(nnx.split(build(key))[1]), loss, data, evaluate, picture,
                export=lambda params: {"classes": classes.astype(np.int32)}, provenance=corpus_provenance(corpus))


def corpus_provenance(corpus: Corpus) -> dict:
    """What the run's config.json says of the data: the sources' checksums and the counts."""
    return {"data": {"sample": corpus.is_sample, "sources": {k: v["sha256"] for k, v in corpus.manifest["sources"].items()}}}


def load_vae(folder: Path, domain: str):
    """(model graph, params, arrays, configuration) of a trained VAE in a runs or weights folder. Raises WeightsError."""
    path = weights.find(folder, VAE_NAMES[domain])
    params, arrays, described = weights.load(path)
    config = weights.config(vae.VAEConfig, described)
    graph, _ = nnx.split(nnx.eval_shape(lambda: vae.VAE(config, len(arrays["classes"]), nnx.Rngs(0))))
    return graph, params, arrays, config
