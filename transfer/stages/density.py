"""Stage 2: the density of z_new given z_old as a training task, on the latents of the two VAEs of
stage 1, with exponents and calibration fitted on val. It also trains the density back: z_old given
z_new.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.data.published.kanjivg import HIRAGANA
from transfer.models import mdn, vae
from transfer.stages.autoencoders import earlier
from transfer.stages.encoding import (
    MDN_NAMES,
    UNKNOWN,
    corpus_provenance,
    encode_images,
    in_gallery,
    load_vae,
    old_examples,
    places,
    shares,
    two_halves,
    upstream,
)
from transfer.stages.latent_pairs import latent_pairs
from transfer.system.batches import in_batches
from transfer.training.errors import TrainingError
from transfer.training.examples import form_groups, taking_part
from transfer.training.loop import Task


def mdn_task(config: mdn.MDNConfig, corpus: Corpus, folder: Path, seed: int = 0) -> Task:
    """The density of z_new given z_old, over the latents of the two VAEs trained in `folder`.
    Parameters are {"mdn": …}. With `direction` back it is the density of z_old given z_new, which
    is a stage of its own.

    val is held out. Its images determine the exponents of `direct` and the calibration. Each image
    is measured with exponents that were fitted on the half of val that does not contain it.
    """
    back = config.direction == "back"
    if back and config.density == "anchored":
        raise TrainingError(
            "--direction back: an anchored density chooses among modern glyphs, and there is no "
            "such list of old ones; give --density flow or joint"
        )
    pairs = latent_pairs(config, corpus, folder, seed)
    forms, source, seen = pairs.forms, pairs.source, pairs.seen
    gallery, gallery_size = pairs.gallery(seen), len(forms.code_points)
    data = pairs.data | {
        "gallery": dataclasses.replace(gallery, seen=pairs.trained),
        "photographed": seen,
        "group": form_groups(forms.code_points),
    }
    old_graph, old_params, _, _ = load_vae(folder, "old")
    direct, anchored = config.direct and not back, config.density == "anchored"
    rows, kana = {}, {}
    if direct:
        classifier = earlier(folder, "old")
        rows = classifier_rows(*classifier, forms.code_points)
        kana = kana_columns(*classifier)
        rows = rows if anchored else {"direct": rows["direct"]}
    data |= {"rows": rows}
    with_rows = lambda params, rows: params | {"mdn": params["mdn"] | rows}
    build = lambda key: mdn.build(config, gallery_size, nnx.Rngs(params=key))
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key):
        params = nnx.to_pure_dict(nnx.split(build(key))[1])
        if "meaning" in params:
            # A kanji begins to mean its z_new; the random part that it has keeps likenesses apart.
            mean = (gallery.mean - gallery.mean.mean(0)) / gallery.mean.std()
            kernel = params["meaning"]["kernel"]
            shape = mean.shape[1], kernel.shape[1]
            projection = jax.random.normal(jax.random.fold_in(key, 1), shape) / shape[0] ** 0.5
            params["meaning"]["kernel"] = kernel + mean @ projection
        return {"mdn": params}

    def loss(params, data, key, variant):
        keys = jax.random.split(key, 6)
        # Of six the fifth is the loss's own, as runs from before have it.
        index, label, z_old, z_new = pairs.draw(data, [*keys[:4], keys[5]])
        return mdn.loss(
            nnx.merge(graph, with_rows(params, data["rows"])["mdn"]),
            z_old,
            z_new,
            label,
            data["gallery"],
            keys[4],
            data["gallery"].seen & taking_part(data, source.real, index, label),
        )

    held, held_label = in_gallery(*old_examples(corpus, "val"), forms.code_points)
    chosen = ranked(config, len(held))
    held_images, held_label = corpus.old.images[held[chosen]], held_label[chosen]
    truth = np.asarray(
        vae.sample_z(gallery.mean[held_label], gallery.log_variance[held_label], jax.random.key(1))
    )
    gaussian = float("nan")
    if len(truth):
        known = pairs.label
        drawn = vae.sample_z(gallery.mean[known], gallery.log_variance[known], jax.random.key(2))
        gaussian = gaussian_nll(np.asarray(drawn), truth)

    read = jax.jit(
        lambda params, images: vae.averaged_z(nnx.merge(old_graph, params), images, config.averaged)
    )
    held_z = cache(lambda: in_batches(lambda part: read(old_params, part), held_images, (64,)))

    @cache
    def held_pairs():
        """z_old and z_new of held-out pairs: the given one as it is read, the predicted one as a
        draw."""
        if not back:
            return held_z(), truth
        posterior = encode_images(folder, "old", held_images)
        return np.asarray(vae.sample_z(*posterior, jax.random.key(3))), gallery.mean[held_label]

    @jax.jit
    def measure(params, read, z_old, z_new):
        model = nnx.merge(graph, params["mdn"])
        return mdn.log_prob(model, z_old, z_new, gallery), mdn.candidate_scores(
            model, read, gallery
        )

    def scores(params):
        return in_batches(lambda part: measure(params, *part), (held_z(), *held_pairs()), (256,))

    def cross_fitted(params):
        """`scores`, for each half of val with the exponents that are fitted on the other half."""
        if not (direct and anchored):
            return scores(params)
        found = [np.empty(len(truth)), np.empty((len(truth), gallery_size), np.float32)]
        both, halves = [np.asarray(a) for a in opinions(params, held_z())], two_halves(len(truth))
        for mine, other in zip(halves, halves[::-1]):
            exponents = fit_exponents(
                *(a[other] for a in both), rows["known"], prior, held_label[other]
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
            **({} if back else {"gaussian_nll_per_dimension": gaussian}),
            **{f"top{k}": float((rank < k).mean()) for k in (1, 5, 10)},
        }

    def export(params):
        return kana | {
            "code_points": forms.code_points,
            "gallery_mean": gallery.mean,
            "gallery_log_variance": gallery.log_variance,
            "seen": seen,
            "calibration": calibrate(scores(params)[1], held_label)
            if len(truth)
            else np.ones(1, np.float32),
        }

    provenance = corpus_provenance(corpus, shares(config)) | {
        "upstream": upstream(folder, "vae_old", "vae_new")
    }

    @jax.jit
    def opinions(params, z_old):
        return mdn.opinions(nnx.merge(graph, params["mdn"]), z_old, gallery)

    prior = np.where(seen, 0.0, config.unseen)

    def finalize(params):
        params = with_rows(params, rows)
        if not (direct and anchored):
            return params
        exponents = EXPONENTS
        if len(truth):
            both = [np.asarray(a) for a in opinions(params, held_z())]
            exponents = fit_exponents(*both, rows["known"], prior, held_label)
        return params | {"mdn": params["mdn"] | {"exponents": jnp.asarray(exponents, jnp.float32)}}

    return Task(
        MDN_NAMES[config.direction],
        config,
        init,
        loss,
        data,
        evaluate,
        export=export,
        provenance=provenance,
        finalize=finalize,
    )


def classifier_rows(old_params: dict, classes: np.ndarray, code_points: np.ndarray) -> dict:
    """The old VAE's classifier of z_old in the form of `AnchoredMixture`.

    It has a row for every anchor that it knows; the bias of the others is `UNKNOWN`. Raises
    TrainingError if the VAE has no classifier.
    """
    if "classifier" not in old_params:
        raise TrainingError(
            "the old VAE has no classifier that --direct could use: train it with --recognition "
            "above 0, or give --no-direct"
        )
    kernel, bias = (np.asarray(old_params["classifier"][k]) for k in ("kernel", "bias"))
    known = np.isin(code_points, classes)
    place = np.searchsorted(classes, code_points[known])
    rows, offsets = (
        np.zeros((len(kernel), len(code_points)), np.float32),
        np.full(len(code_points), UNKNOWN, np.float32),
    )
    rows[:, known], offsets[known] = kernel[:, place], bias[place]
    return {"direct": {"kernel": rows, "bias": offsets}, "known": known.astype(np.float32)}


def kana_columns(old_params: dict, classes: np.ndarray) -> dict[str, np.ndarray]:
    """The hiragana among the classes (C,) of the old VAE's classifier, and their columns."""
    place = np.flatnonzero(np.isin(classes, [ord(c) for c in HIRAGANA]))
    kernel, bias = (np.asarray(old_params["classifier"][k]) for k in ("kernel", "bias"))
    return {
        "kana_code_points": classes[place].astype(np.int32),
        "kana_kernel": kernel[:, place],
        "kana_bias": bias[place],
    }


BY_BAYES = 200
"""Number of val images that are ranked by Bayes' rule for a fit. It takes long with thousands of
kanji, and so many say enough."""


def ranked(config: mdn.MDNConfig, number: int) -> np.ndarray:
    """Which of `number` held-out images a density ranks for a fit: all, or `BY_BAYES` of them."""
    most = number if config.density == "anchored" else BY_BAYES
    return np.sort(np.random.default_rng(0).permutation(number)[:most])


EXPONENTS = (0.4, 0.6)
"""Initial values for the fit of the exponents; they are kept if there is no image to fit them
on."""


def fit_exponents(
    similar: np.ndarray, direct: np.ndarray, known: np.ndarray, prior: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Exponents (2,) float32 of `mdn.product` that make the labels likeliest.

    similar, direct: (N, G), log probabilities of both opinions.
    known: (G,), 1 for anchors that the classifier knows, else 0.
    prior: (G,), log odds that are added.
    label: (N,), the right anchors.
    """
    if not len(label):
        return np.asarray(EXPONENTS, np.float32)

    def loss(exponents):
        logits = mdn.product(similar, direct, known, exponents) + prior
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], 1).mean()

    gradient, exponents = jax.jit(jax.value_and_grad(loss)), jnp.array(EXPONENTS)
    best = optax.adam(0.05)
    state = best.init(exponents)
    for _ in range(60):
        updates, state = best.update(gradient(exponents)[1], state)
        exponents = jnp.clip(optax.apply_updates(exponents, updates), 0.0, 3.0)
    return np.asarray(exponents, np.float32)


def gaussian_nll(fitted: np.ndarray, held: np.ndarray) -> float:
    """NLL per dimension, in nats, of `held` under one Gaussian that is fitted to `fitted`.

    It has a full covariance. fitted: (N, D). held: (n, D).
    """
    mean, covariance = fitted.mean(0), np.cov(fitted.T) + 1e-6 * np.eye(fitted.shape[1])
    difference = held - mean
    quadratic = (difference * np.linalg.solve(covariance, difference.T).T).sum(1)
    return float(
        0.5
        * (quadratic + np.linalg.slogdet(covariance)[1] + held.shape[1] * np.log(2 * np.pi)).mean()
        / held.shape[1]
    )


def calibrate(log_probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Exponent a, (1,) float32, that makes softmax(a * log_probability) likeliest for the labels.

    This is temperature scaling (Guo et al. 2017, arXiv 1706.04599). log_probability: (N, G).
    label: (N,).
    """
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
