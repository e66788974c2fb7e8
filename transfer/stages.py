"""The three stages as training tasks: prepared data and a model's configuration become a `Task` for
`training.train`.

Batches are drawn inside the compiled step from arrays that stay on the device. Later stages read
the weights that earlier ones left in the same runs folder.
"""

from __future__ import annotations

import dataclasses
from functools import cache, lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

from data.corpus import Corpus
from data.raster import rasterise
from data.strokes import from_stroke3, resample, simplify_many, to_stroke3
from transfer import augment, mdn, sketch_rnn, stroke_rnn, vae, weights
from transfer.devices import float32, spread
from transfer.examples import (
    Pool,
    attributes,
    class_table,
    form_groups,
    mix,
    pool,
    set_aside,
    taking_part,
)
from transfer.pictures import image_grid
from transfer.training import Task, TrainingError, adamw

SETTLED = 2048
"""Training images whose statistics a network that normalises by batches is left with."""
VAE_NAMES = {"old": "vae_old", "new": "vae_new"}


# Stage 1: the two VAEs ----------------------------------------------------------------------------


def old_examples(corpus: Corpus, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the split's images and their code points, (n,) each."""
    chosen = corpus.old.indices(split)
    return chosen, np.asarray(corpus.old.code_points)[chosen]


def new_examples(corpus: Corpus, variants: bool) -> np.ndarray:
    """Indices of the modern glyphs that are trained on: every kanji's standard form, or every kanji
    form there is."""
    gallery = corpus.new.gallery()
    if not variants:
        return gallery
    return np.flatnonzero(np.isin(corpus.new.code_points, corpus.new.code_points[gallery]))


def old_pool(
    corpus: Corpus, config, chosen: np.ndarray, code_points: np.ndarray, aside: int, kana_too: bool
) -> Pool:
    """The pool for a configuration with `fonts`, `hands` and `balance`, without the classes that
    are `set_aside`."""
    keep = (
        ~np.isin(code_points, set_aside(old_examples(corpus, "train")[1], aside))
        if aside
        else np.ones(len(chosen), bool)
    )
    return pool(
        corpus,
        chosen[keep],
        code_points[keep],
        config.balance,
        config.fonts,
        config.hands,
        kana_too,
    )


def shares(config) -> dict[str, float]:
    """What `mix` takes of fonts and made hands."""
    return {"fonts": config.fonts, "hands": config.hands}


def vae_task(config: vae.VAEConfig, corpus: Corpus, domain: str) -> Task:
    """The VAE of one domain ("old" or "new").

    Held out: of the old domain the val split; of the new, where every kanji must be in the gallery,
    KanjiVG's variant forms (Kaisho and others), which `residual` never trains on. The paper's
    preset trains on variants too, and is evaluated on the gallery.
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
    others = (
        hard_examples(corpus, config.aside, classes)
        if domain == "old" and len(source.tables) > 1
        else {}
    )

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

    def init(key):
        return nnx.to_pure_dict(nnx.split(build(key), nnx.Param, ...)[1])

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
    def settle(params, images):
        return nnx.to_pure_dict(
            nnx.split(vae.settle(nnx.merge(graph, params, statistics), images))[1]
        )

    def settled(params):
        """With the statistics of what is trained on, as it is met."""
        return settle(params, known()) if config.norm == "batch" else params

    @cache
    def known():
        """So many training images as make a good mean, drawn and augmented as in training."""
        images = [
            met({**data, "images": source.images}, jax.random.key(n))[2][0]
            for n in range(-(-SETTLED // config.batch))
        ]
        return jnp.concatenate(images)[:SETTLED]

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
        parts = [
            measure(
                params, jnp.asarray(held_images[i : i + 256]), jnp.asarray(held_labels[i : i + 256])
            )
            for i in range(0, len(held_images), 256)
        ]
        values = {
            k: float(np.concatenate([np.asarray(p[k]) for p in parts]).mean())
            for k in (parts[0] if parts else ())
        }  # none held out: nothing
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

    provenance = corpus_provenance(corpus, config) if domain == "old" else corpus_provenance(corpus)
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
        settle=settled,
    )


def augmented(
    config: vae.VAEConfig, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(B, 64, 64) uint8 -> what the encoder is given, and what the decoder is to paint of it: (B,
    64, 64) float32 each."""
    if config.augment != "photo":
        return (x := augment.augment(images, key, config.augment, config.warp)), x
    warp_key, disturb_key = jax.random.split(key)
    clean = augment.warp(images, warp_key, config.warp)
    return augment.disturb(clean, disturb_key), clean


def labels_of(points: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(N,) places of code points in ascending classes (C,), -1 for those that are not there."""
    place = np.searchsorted(classes, points).clip(0, len(classes) - 1)
    return np.where(classes[place] == points, place, -1)


def hard_examples(
    corpus: Corpus, aside: int, classes: np.ndarray, most: int = 1000
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images that training leaves out so that something may be chosen by them: name -> images (n,
    64, 64), labels (n,) into classes.

    "hands": a sample of the fonts whose role it is; "aside": the books' images of the characters
    that are `set_aside`.
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


def corpus_provenance(corpus: Corpus, config=None) -> dict:
    """What the run's config.json says of the data: the sources' checksums, with those of fonts,
    made hands and kana where a configuration takes them."""
    sources = {k: v["sha256"] for k, v in corpus.manifest["sources"].items()}
    found = {"sample": corpus.is_sample}
    if corpus.fonts and getattr(config, "fonts", 0.0):
        sources |= {r["name"]: r["sha256"] for r in corpus.fonts.records if r["role"] == "train"}
    if corpus.hands and getattr(config, "hands", 0.0):
        found["made hands"] = corpus.hands.source
    return {"data": {**found, "sources": sources}}


def load_vae(folder: Path, domain: str):
    """(model graph, params, arrays, configuration) of a trained VAE in a runs or weights folder.
    Raises WeightsError."""
    params, arrays, described = weights.load(weights.find(folder, VAE_NAMES[domain]))
    config = weights.config(vae.VAEConfig, described)
    if "classifier" not in params:  # shipped without: it serves training alone
        config = dataclasses.replace(config, recognition=0.0)
    names = params["attributes"]["bias"].shape[0] if "attributes" in params else 0
    graph, _ = nnx.split(
        nnx.eval_shape(lambda: vae.VAE(config, len(arrays["classes"]), nnx.Rngs(0), names))
    )
    return graph, params, arrays, config


# Stage 2: the density -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Forms:
    """Posteriors of modern glyphs, gallery order: mean, log_variance (F, 64); start, count (G,) the
    forms of each kanji."""

    code_points: np.ndarray
    mean: np.ndarray
    log_variance: np.ndarray
    start: np.ndarray
    count: np.ndarray


@lru_cache(maxsize=4)
def _encoder(folder: Path, domain: str, stamp: tuple):
    """A trained VAE's encoder, compiled as it is needed, and its parameters. stamp: tells apart
    weights that have been replaced."""
    graph, params, _, config = load_vae(folder, domain)

    @jax.jit
    def encode(params, batch, key):
        x = (
            augment.to_float(batch)
            if key is None
            else augment.augment(batch, key, config.augment, config.warp)
        )
        return nnx.merge(graph, params).encode(x)

    return encode, jax.tree.map(jnp.asarray, params), config.latent


@float32
def encode_images(folder: Path, domain: str, images: np.ndarray, key=None, progress: str = ""):
    """Mean and log-variance of a trained VAE for (N, 64, 64) uint8, each (N, 64) float32; augmented
    where a key is given."""
    there = weights.find(folder, VAE_NAMES[domain]).stat()
    encode, params, latent = _encoder(
        Path(folder), domain, (there.st_mtime_ns, there.st_size, there.st_ino)
    )
    means, log_variances = [np.zeros((0, latent), np.float32)], [np.zeros((0, latent), np.float32)]
    for number, at in enumerate(
        tqdm(
            range(0, len(images), 512),
            desc=progress,
            unit="batch",
            disable=None if progress else True,
        )
    ):
        batch = np.asarray(images[at : at + 512])
        filled = np.concatenate(
            [batch, np.zeros((512 - len(batch), *batch.shape[1:]), batch.dtype)]
        )
        mean, log_variance = encode(
            params, filled, None if key is None else jax.random.fold_in(key, number)
        )
        means.append(np.asarray(mean)[: len(batch)])
        log_variances.append(np.asarray(log_variance)[: len(batch)])
    return np.concatenate(means), np.concatenate(log_variances)


def modern_forms(folder: Path, corpus: Corpus, variants: bool) -> Forms:
    """The new VAE's posterior of every kanji's standard form, and with `variants` of its other
    forms after it."""
    gallery = corpus.new.gallery()
    points = np.asarray(corpus.new.code_points[gallery])
    chosen = new_examples(corpus, variants)
    label = np.searchsorted(points, corpus.new.code_points[chosen])
    chosen = chosen[
        np.lexsort((chosen != gallery[label], label))
    ]  # of each kanji the standard form first
    label = np.searchsorted(points, corpus.new.code_points[chosen])
    count = np.bincount(label, minlength=len(points)).astype(np.int32)
    mean, log_variance = encode_images(folder, "new", corpus.new.images[chosen])
    return Forms(
        points.astype(np.int32),
        mean,
        log_variance,
        (np.cumsum(count) - count).astype(np.int32),
        count,
    )


def in_gallery(
    chosen: np.ndarray, points: np.ndarray, gallery_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Those of the images (n,) whose kanji is in the gallery, and their labels into it, int32."""
    known = np.isin(points, gallery_points)
    return chosen[known], np.searchsorted(gallery_points, points[known]).astype(np.int32)


def old_latents(
    folder: Path,
    corpus: Corpus,
    split: str,
    gallery_points: np.ndarray,
    views: int = 0,
    seed: int = 0,
):
    """z_old of the split's images whose kanji is in the gallery: mean, log_variance (N, 64) and
    label (N,) into the gallery.

    views: how many augmented versions of each image are encoded; 0 takes the images as they are.
    """
    chosen, label = in_gallery(*old_examples(corpus, split), gallery_points)
    images = corpus.old.images[chosen]
    keys = (
        [None] if not views else [jax.random.fold_in(jax.random.key(seed), v) for v in range(views)]
    )
    parts = [
        encode_images(
            folder,
            "old",
            images,
            key,
            f"z_old of {split}, view {v + 1}/{len(keys)}" if key is not None else "",
        )
        for v, key in enumerate(keys)
    ]
    return (
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.tile(label, len(keys)),
    )


def mdn_task(config: mdn.MDNConfig, corpus: Corpus, folder: Path, seed: int = 0) -> Task:
    """The density of z_new given z_old, over the latents of the two VAEs trained in `folder`.
    Parameters are {"mdn": …}.

    Held out is val. Its images choose the exponents of `direct` and the calibration; what is
    measured on an image is measured with exponents that were fitted on the half of val that it is
    not in.
    """
    forms = modern_forms(folder, corpus, config.variants)
    gallery_size = len(forms.code_points)
    old_graph, old_params, old_arrays, old_config = load_vae(folder, "old")
    chosen, label = in_gallery(*old_examples(corpus, "train"), forms.code_points)
    source = old_pool(corpus, config, chosen, forms.code_points[label], old_config.aside, False)
    images, classes = source.images, source.classes
    # Views are augmented with keys of the seed, so that a resumed run sees the same ones.
    keys = [jax.random.fold_in(jax.random.key(seed), v) for v in range(config.views)] or [None]
    parts = [
        encode_images(folder, "old", images, key, f"z_old, view {v + 1}/{len(keys)}")
        for v, key in enumerate(keys)
    ]
    data = {
        "tables": source.tables,
        "classes": np.searchsorted(forms.code_points, classes).astype(np.int32),
        "mean": np.stack([p[0] for p in parts]),
        "log_variance": np.stack([p[1] for p in parts]),
    }
    seen = np.isin(forms.code_points, classes[source.photographed])
    gallery = mdn.Gallery(forms.mean[forms.start], forms.log_variance[forms.start], seen)
    trained = np.isin(np.arange(gallery_size), data["classes"])  # by real images or fonts'
    data |= {
        "gallery": dataclasses.replace(gallery, seen=trained),
        "photographed": seen,
        "group": form_groups(forms.code_points),
        "new_mean": forms.mean,
        "new_log_variance": forms.log_variance,
        "start": forms.start,
        "count": forms.count,
    }
    build = lambda key: mdn.build(config, gallery_size, nnx.Rngs(params=key))
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key):
        return {"mdn": nnx.to_pure_dict(nnx.split(build(key))[1])}

    def loss(params, data, key, variant):
        keys = jax.random.split(key, 6)
        index, dense = mix(data["tables"], shares(config), config.batch, keys[0])
        label = data["classes"][dense]
        view = jax.random.randint(keys[5], index.shape, 0, len(data["mean"]))
        z_old = vae.sample_z(data["mean"][view, index], data["log_variance"][view, index], keys[1])
        form = data["start"][label] + jnp.floor(
            jax.random.uniform(keys[2], label.shape) * data["count"][label]
        ).astype(jnp.int32)
        z_new = vae.sample_z(data["new_mean"][form], data["new_log_variance"][form], keys[3])
        return mdn.loss(
            nnx.merge(graph, params["mdn"]),
            z_old,
            z_new,
            label,
            data["gallery"],
            keys[4],
            data["gallery"].seen & taking_part(data, source.real, index, label),
        )

    held, held_label = in_gallery(*old_examples(corpus, "val"), forms.code_points)
    # A factorised density over thousands of kanji takes long to rank: fewer of them say enough.
    limit = len(held) if config.density == "anchored" else min(200, len(held))
    spread = np.sort(np.random.default_rng(0).permutation(len(held))[:limit])
    held_images, held_label = corpus.old.images[held[spread]], held_label[spread]
    truth = np.asarray(
        vae.sample_z(gallery.mean[held_label], gallery.log_variance[held_label], jax.random.key(1))
    )
    gaussian = float("nan")
    if len(truth):
        drawn = vae.sample_z(gallery.mean[label], gallery.log_variance[label], jax.random.key(2))
        gaussian = gaussian_nll(np.asarray(drawn), truth)

    read = jax.jit(
        lambda params, images: vae.averaged_z(nnx.merge(old_graph, params), images, config.averaged)
    )
    held_z = cache(
        lambda: jnp.concatenate(
            [
                read(old_params, jnp.asarray(held_images[i : i + 64]))
                for i in range(0, len(truth), 64)
            ]
        )
    )

    @jax.jit
    def measure(params, z_old, z_new):
        model = nnx.merge(graph, params["mdn"])
        return mdn.log_prob(model, z_old, z_new, gallery), mdn.candidate_scores(
            model, z_old, gallery
        )

    def scores(params):
        z_old = held_z()
        parts = [
            measure(params, z_old[i : i + 256], truth[i : i + 256])
            for i in range(0, len(truth), 256)
        ]
        return tuple(np.concatenate([np.asarray(p[k]) for p in parts]) for k in (0, 1))

    def cross_fitted(params):
        """`scores`, those of each half of val with the exponents that are fitted on the other
        half."""
        if rows is None:
            return scores(params)
        found = [np.empty(len(truth)), np.empty((len(truth), gallery_size), np.float32)]
        both, halves = [np.asarray(a) for a in opinions(params, held_z())], two_halves(len(truth))
        for mine, other in zip(halves, halves[::-1]):
            exponents = fit_exponents(
                *(a[other] for a in both), rows["told"], prior, held_label[other]
            )
            refitted = scores({"mdn": params["mdn"] | {"exponents": jnp.asarray(exponents)}})
            for whole, part in zip(found, refitted):
                whole[mine] = part[mine]
        return found

    def evaluate(params):
        if not len(truth):
            return {}
        log_prob, candidates = cross_fitted(params)
        rank = places(candidates, held_label)
        return {
            "nll_per_dimension": float(-log_prob.mean() / truth.shape[1]),
            "gaussian_nll_per_dimension": gaussian,
            **{f"top{k}": float((rank < k).mean()) for k in (1, 5, 10)},
        }

    def export(params):
        return {
            "code_points": forms.code_points,
            "gallery_mean": gallery.mean,
            "gallery_log_variance": gallery.log_variance,
            "seen": seen,
            "calibration": calibrate(scores(params)[1], held_label)
            if len(truth)
            else np.ones(1, np.float32),
        }

    provenance = corpus_provenance(corpus, config) | {
        "upstream": upstream(folder, "vae_old", "vae_new")
    }
    direct = config.direct and config.density == "anchored"
    rows = classifier_rows(old_params, old_arrays["classes"], forms.code_points) if direct else None

    @jax.jit
    def opinions(params, z_old):
        return mdn.opinions(nnx.merge(graph, params["mdn"]), z_old, gallery)

    prior = np.where(seen, 0.0, config.unseen)

    def settle(params):
        if rows is None:
            return params
        params = params | {"mdn": params["mdn"] | rows}
        exponents = EXPONENTS
        if len(truth):
            both = [np.asarray(a) for a in opinions(params, held_z())]
            exponents = fit_exponents(*both, rows["told"], prior, held_label)
        return params | {"mdn": params["mdn"] | {"exponents": jnp.asarray(exponents, jnp.float32)}}

    return Task(
        "mdn",
        config,
        init,
        loss,
        data,
        evaluate,
        export=export,
        provenance=provenance,
        settle=settle,
    )


def classifier_rows(old_params: dict, classes: np.ndarray, code_points: np.ndarray) -> dict:
    """The old VAE's classifier of z_old as `AnchoredMixture` holds it: a row for every anchor that
    it knows. Raises TrainingError where the VAE has none."""
    if "classifier" not in old_params:
        raise TrainingError(
            "the old VAE has no classifier that --direct could use: train it with --recognition above 0, or give --no-direct"
        )
    kernel, bias = (np.asarray(old_params["classifier"][k]) for k in ("kernel", "bias"))
    known = np.isin(code_points, classes)
    place = np.searchsorted(classes, code_points[known])
    rows, offsets = (
        np.zeros((len(kernel), len(code_points)), np.float32),
        np.full(len(code_points), -1e4, np.float32),
    )
    rows[:, known], offsets[known] = kernel[:, place], bias[place]
    return {"direct": {"kernel": rows, "bias": offsets}, "told": known.astype(np.float32)}


EXPONENTS = (0.4, 0.6)
"""Where the fit of the exponents begins, and what is taken where there is no image to fit them
on."""


def two_halves(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves of so many held-out images, always the same: what is fitted on one is
    measured on the other."""
    order = np.random.default_rng(0).permutation(number)
    return np.sort(order[: number // 2]), np.sort(order[number // 2 :])


def places(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How many other classes score as high as the label's or higher, (N,): scores (N, C), label
    (N,). Ties count against it."""
    return (scores >= scores[np.arange(len(label)), label][:, None]).sum(1) - 1


def fit_exponents(
    similar: np.ndarray, direct: np.ndarray, told: np.ndarray, prior: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Exponents (2,) float32 of `mdn.product` that make the labels likeliest: log probabilities (N,
    G) of both, prior log odds (G,)."""
    if not len(label):
        return np.asarray(EXPONENTS, np.float32)

    def loss(exponents):
        logits = mdn.product(similar, direct, told, exponents) + prior
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], 1).mean()

    gradient, exponents = jax.jit(jax.value_and_grad(loss)), jnp.array(EXPONENTS)
    best = optax.adam(0.05)
    state = best.init(exponents)
    for _ in range(60):
        updates, state = best.update(gradient(exponents)[1], state)
        exponents = jnp.clip(optax.apply_updates(exponents, updates), 0.0, 3.0)
    return np.asarray(exponents, np.float32)


def upstream(folder: Path, *names: str) -> dict[str, str]:
    """Checksums of the earlier stages' weights: a run on other ones is another run."""
    return {name: weights.checksum(weights.find(folder, name)) for name in names}


def gaussian_nll(fitted: np.ndarray, held: np.ndarray) -> float:
    """NLL per dimension, in nats, of `held` (n, D) under one full-covariance Gaussian fitted to
    `fitted` (N, D)."""
    mean, covariance = fitted.mean(0), np.cov(fitted.T) + 1e-6 * np.eye(fitted.shape[1])
    difference = held - mean
    quadratic = (difference * np.linalg.solve(covariance, difference.T).T).sum(1)
    return float(
        0.5
        * (quadratic + np.linalg.slogdet(covariance)[1] + held.shape[1] * np.log(2 * np.pi)).mean()
        / held.shape[1]
    )


def calibrate(log_probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Exponent a, (1,) float32, that makes softmax(a * log_probability) likeliest for the labels:
    temperature scaling on val."""
    best = min(
        np.linspace(0.3, 2.0, 35),
        key=lambda a: (
            -np.mean(
                a * log_probability[np.arange(len(label)), label]
                - np.logaddexp.reduce(a * log_probability, 1)
            )
        ),
    )
    return np.array([best], np.float32)


def load_mdn(folder: Path):
    """(model graph, params, Gallery, code_points (G,), calibration) of a trained density. Raises
    WeightsError."""
    params, arrays, described = weights.load(weights.find(folder, "mdn"))
    params, config = params["mdn"], weights.config(mdn.MDNConfig, described)
    graph, _ = nnx.split(
        nnx.eval_shape(lambda: mdn.build(config, len(arrays["code_points"]), nnx.Rngs(0)))
    )
    gallery = mdn.Gallery(
        *(jnp.asarray(arrays[k]) for k in ("gallery_mean", "gallery_log_variance", "seen"))
    )
    return graph, params, gallery, arrays["code_points"], float(arrays["calibration"][0])


# Stage 3: the strokes -----------------------------------------------------------------------------


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
        index = spread(members[jax.random.randint(draw_key, (config.batch,), 0, len(members))])
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
        index = spread(members[jax.random.randint(draw_key, (config.batch,), 0, len(members))])
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
        pick = spread(
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


def painter(folder: Path):
    """A function from z_new (n, 64) to the new VAE's pictures (n, 64, 64) float32 in [0, 1]."""
    graph, params, _, _ = load_vae(folder, "new")
    paint = jax.jit(lambda params, z: jax.nn.sigmoid(nnx.merge(graph, params).decode(z)))

    return lambda z: in_batches(lambda part: paint(params, part), z, (256,))


def in_batches(function, rows: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """function of rows (n, …), put together from batches of a size that is compiled for, filled
    with zeros: (n, …).

    sizes: ascending; the first that holds all rows, or batches of the last.
    """
    size = next((s for s in sizes if s >= len(rows)), sizes[-1])
    padded = np.concatenate([rows, np.zeros((-len(rows) % size, *rows.shape[1:]), rows.dtype)])
    return np.concatenate(
        [np.asarray(function(padded[at : at + size])) for at in range(0, len(padded), size)]
    )[: len(rows)]


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
