"""How sure may a reading be? Probabilities that also hold for hands and characters never trained
on.

The density's probabilities are raised to an exponent that depends on the image. It is low if the
image is unlike the training images, if warped forms of it are read differently, or if the likeliest
kanji has no image in the training set. It is a temperature scaling (Guo et al. 2017, arXiv
1706.04599) whose temperature depends on the image, as in Tomani et al. 2022 (parameterised
temperature scaling, arXiv 2102.12182). It is fitted to images that training left out: held-out
images of books, characters and hands. `experiments/fit_acceptance.py` leaves it beside the weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from transfer.models import vae

NUMBERS = (
    "log probability of the first",
    "its lead over the second",
    "entropy",
    "spread of the views",
    "lost in the old VAE's picture",
    "KL",
    "mean log-variance",
    "length of z_old",
    "first has images",
    "kana",
)
PREFIX = "confidence/"
"""Prefix of its arrays' names in `acceptance.safetensors`."""


def plain(calibration: float) -> dict[str, np.ndarray]:
    """Parameters that give every image the same exponent."""
    count = len(NUMBERS)
    return {
        "centre": np.zeros(count, np.float32),
        "scale": np.ones(count, np.float32),
        "weight": np.zeros(count, np.float32),
        "bias": np.float32(np.log(calibration)),
        "unseen": np.float32(0.0),
    }


def lost_and_edges(images, painted, numpy=np) -> tuple:
    """What the old VAE's pictures lose of images, in nats, and how long the images' edges are, at
    least 20 pixels: (B,) each.

    images, painted: (B, 64, 64) float32 in [0, 1], `painted` without 0 and 1.
    numpy: numpy, or jax.numpy for a graph.
    """
    known = numpy.clip(images, 1e-6, 1 - 1e-6)
    # Cross-entropy less the image's own entropy: 0 for a perfect picture, however grey.
    lost = images * numpy.log(known / painted)
    lost = (lost + (1 - images) * numpy.log((1 - known) / (1 - painted))).sum((1, 2))
    edges = sum(numpy.abs(numpy.diff(images, axis=axis)).sum((1, 2)) for axis in (1, 2))
    return numpy.maximum(lost, 0.0), numpy.maximum(edges, 20.0)


def numbers(
    images: jax.Array,
    seen: dict[str, jax.Array],
    views: jax.Array,
    scores: jax.Array,
    photographed: jax.Array,
    kana: jax.Array,
) -> jax.Array:
    """What the exponent depends on, (B, 10) float32, in the order of `NUMBERS`.

    images: (B, 64, 64) float32 in [0, 1].
    seen: see `acceptance.signals`.
    views: (V, B, 64), see `vae.viewed_z`.
    scores: (B, G), the density's log probabilities.
    photographed: (G,) bool, which kanji have images from books.
    kana: (B,), the probability of a hiragana.
    """
    (best, second), place = (
        (top := jax.lax.top_k(scores, 2))[0].T,
        top[1][:, 0],
    )
    entropy = -(jnp.exp(scores) * scores).sum(-1, where=scores > -50.0)
    spread = jnp.log(((views - views.mean(0)) ** 2).sum(-1).mean(0) + 1e-3)
    lost, edges = lost_and_edges(images, jnp.clip(seen["old"], 1e-6, 1 - 1e-6), jnp)
    z, log_variance = seen["z_old"], seen["log_variance"]
    kl = vae.kl_divergence(z, log_variance).sum(1)
    return jnp.stack(
        [
            best,
            jnp.minimum(best - second, 20.0),
            entropy,
            spread,
            jnp.log1p(lost / edges),
            kl / 100,
            log_variance.mean(1),
            jnp.linalg.norm(z, axis=1) / 10,
            photographed[place].astype(jnp.float32),
            kana,
        ],
        1,
    )


def confident(
    params: dict[str, jax.Array], scores: jax.Array, given: jax.Array, photographed: jax.Array
) -> jax.Array:
    """Calibrated log probabilities (B, G), from the density's (B, G).

    params: see `fit`.
    given: (B, 10), see `numbers`.
    photographed: (G,) bool.
    """
    standard = jnp.clip((given - params["centre"]) / params["scale"], -4.0, 4.0)
    exponent = jnp.exp(jnp.clip(standard @ params["weight"] + params["bias"], -4.0, 2.0))
    return jax.nn.log_softmax(
        exponent[:, None] * scores + jnp.where(photographed, 0.0, params["unseen"])
    )


def fit(
    scores: np.ndarray,
    given: np.ndarray,
    right: np.ndarray,
    photographed: np.ndarray,
    weight: np.ndarray,
    steps: int = 300,
) -> dict[str, np.ndarray]:
    """Parameters of `confident` that make the right kanji likeliest.

    scores, given, photographed: see `confident`.
    right: (N, K) int32, the places of the forms of each image's kanji; -1 fills a row up.
    weight: (N,), of the images.

    They are rounded to float16, as they are stored.
    """
    centre, scale = given.mean(0), given.std(0) + 1e-2
    begin = plain(1.0) | {"centre": centre, "scale": scale}
    fixed = {k: jnp.asarray(begin[k]) for k in ("centre", "scale")}
    free = {k: jnp.asarray(begin[k]) for k in ("weight", "bias", "unseen")}
    scores, given, share = jnp.asarray(scores), jnp.asarray(given), jnp.asarray(weight)
    share = share / share.sum()

    def loss(free):
        log_probability = confident(fixed | free, scores, given, photographed)
        own = jnp.take_along_axis(log_probability, jnp.maximum(right, 0), 1)
        own = jax.nn.logsumexp(jnp.where(right >= 0, own, -jnp.inf), 1)
        # A kanji that is told from all others with certainty must not decide by itself.
        return -(share * jnp.maximum(own, -20.0)).sum() + 1e-3 * (free["weight"] ** 2).sum()

    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, steps))

    @jax.jit
    def step(free, memory):
        change, memory = optimiser.update(jax.grad(loss)(free), memory)
        return optax.apply_updates(free, change), memory

    memory = optimiser.init(free)
    for _ in range(steps):
        free, memory = step(free, memory)
    return {k: np.asarray(v, np.float16).astype(np.float32) for k, v in (fixed | free).items()}
