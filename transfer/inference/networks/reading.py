"""Images are read: all that the old VAE and the density say of them, in one program.

image -> old VAE -> z_old -> P(z_new | z_old) -> candidates, and z_new of each drawing to come.
"""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.inference import acceptance, confidence
from transfer.inference import forms as grouping
from transfer.models import mdn, vae
from transfer.stages.encoding import Network
from transfer.system.batches import in_batches
from transfer.system.devices import compiler_options
from transfer.system.programs import Program

LIKELY = 10
"""Candidates whose pictures the uncertainty compares."""
IMAGES = (1, 32)
"""Numbers of them that are compiled for: one, or many at once."""
SAMPLES = 10
"""Numbers of samples that are compiled for: 1, and the multiples of this. A compiled program takes
some ten megabytes."""


class Reader:
    """The programs that read images.

    old, density: the old VAE and P(z_new | z_old).
    gallery: the kanji that the density knows. mates: (G, M), their other forms (`forms.mates`).
    """

    def __init__(self, old: Network, density: Network, gallery: mdn.Gallery, mates: np.ndarray):
        self._old, self._density, self._gallery = old, density, gallery
        about = f"{old.about} {density.about} {hashlib.sha256(mates.tobytes()).hexdigest()}"
        one, many = IMAGES
        build = lambda: self._read
        # XLA's newer library is the faster one from a few images on.
        self._programs = {
            one: Program("read", build, about),
            many: Program("read", build, about, compiler_options),
        }
        self._prepare = Program("keys", lambda: self._keys, about)
        self._mates, self._ready = mates, None

    def __len__(self) -> int:
        """How many programs there are by now."""
        return sum(map(len, self._programs.values()))

    def read(
        self, params: dict, images: np.ndarray, preferred: np.ndarray, seed: int, samples: int
    ) -> dict[str, np.ndarray]:
        """What is to be said of images (N, 64, 64) uint8, by name.

        - "old", "features", "z_old", "log_variance": see `acceptance.signals`.
        - "query": (N, 64), z_old, averaged over warped forms.
        - "plain": (N, G), the density's log probabilities.
        - "given": (N, 10), see `confidence.numbers`.
        - "kana": (N, K), probability of every hiragana.
        - "forms", "scores": (N, G), log probabilities that hold; at leading forms only in "scores".
        - "z_new", "target": (N, S, 64) and (N, S), of each drawing to come, and the kanji it sets
          out to be. The first is the likeliest.
        - "best", "share": (N, LIKELY), the likeliest kanji, and how they share probability.

        params: "old", "mdn", "kana" and "confidence", the networks' parameters.
        preferred: (G,), see `forms.bonus`.
        """
        if self._ready is None and self._density.config.density == "anchored":
            self._ready = self._prepare(params["mdn"], self._gallery.mean)
        given = {**params, "keys": self._ready, "preferred": preferred}
        numbers = np.arange(compiled_samples(samples), dtype=np.int32)

        def read(part):
            program = self._programs[len(part)]
            return program(given, self._gallery, part, seed_words(seed), numbers)

        found = in_batches(read, images, IMAGES)
        return found | {k: found[k][:, : max(samples, 1)] for k in ("z_new", "target")}

    def _keys(self, params, mean):
        return nnx.merge(self._density.graph, params).keys(mean)

    def _read(self, params, gallery, images, seed, numbers):
        old = nnx.merge(self._old.graph, params["old"])
        density = nnx.merge(self._density.graph, params["mdn"])
        if params["keys"] is not None:
            density.keys = lambda mean: params["keys"]  # no image changes them
        x = images.astype(jnp.float32) / 255.0
        seen = acceptance.signals(old, x)
        views = vae.viewed_z(old, images, density.config.averaged, seen["z_old"])
        said = weighed(density, gallery, x, seen, views, params["kana"], params["confidence"])
        z_old, forms = said["query"], said["forms"]
        scores = grouping.leading(forms, self._mates, params["preferred"])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.wrap_key_data(seed), numbers)
        # Every image sees the same random numbers: what is drawn of it does not depend on its
        # neighbours.
        if density.config.density == "anchored":
            one = lambda key: jax.vmap(
                lambda row: jax.random.categorical(key, row / density.config.temperature)
            )(scores)
            target = jnp.concatenate([scores.argmax(-1)[None], jax.vmap(one)(keys[1:])]).T
            z_new = gallery.mean[target]  # (B, S, 64)
        else:
            one = lambda key: jax.vmap(
                lambda z: mdn.sample(density, z[None], gallery, key, density.config.temperature)[0]
            )(z_old)
            likeliest = mdn.sample(density, z_old, gallery, keys[0], 1e-4)
            z_new = jnp.concatenate([likeliest[None], jax.vmap(one)(keys[1:])])
            z_new = z_new.transpose(1, 0, 2)
            # Which kanji a drawing sets out to be: the anchor it is nearest to, by the anchors'
            # own deviations.
            flat = z_new.reshape(-1, z_new.shape[-1])
            target = mdn.gallery_log_density(flat, gallery).argmax(-1).reshape(z_new.shape[:2])
        first, best = jax.lax.top_k(scores, min(LIKELY, scores.shape[-1]))
        return seen | {
            **said,
            "scores": scores,
            "z_new": z_new,
            "target": target,
            "best": best,
            "share": jax.nn.softmax(first),
        }


def weighed(
    density,
    gallery: mdn.Gallery,
    images: jax.Array,
    seen: dict[str, jax.Array],
    views: jax.Array,
    kana: dict[str, jax.Array],
    confident: dict[str, jax.Array],
) -> dict[str, jax.Array]:
    """What the density says of images, with probabilities that hold: "query", "plain", "kana",
    "given" and "forms" of `Reader.read`.

    images: (B, 64, 64) float32 in [0, 1]. seen: see `acceptance.signals`. views: (V, B, 64), see
    `vae.viewed_z`. kana, confident: parameters, see `kana_probabilities` and
    `confidence.confident`.
    """
    z_old = views.mean(0)
    plain = mdn.candidate_scores(density, z_old, gallery)
    kana = kana_probabilities(density, kana, z_old)
    hiragana = kana.sum(-1)
    given = confidence.numbers(images, seen, views, plain, gallery.seen, hiragana)
    forms = confidence.confident(confident, plain, given, gallery.seen)
    forms += jnp.log1p(-jnp.minimum(hiragana, 1 - 1e-6))[:, None]
    return {"query": z_old, "plain": plain, "kana": kana, "given": given, "forms": forms}


def kana_probabilities(density, kana: dict[str, jax.Array], z_old: jax.Array) -> jax.Array:
    """Probability of every hiragana, (B, K), by the old VAE's classifier.

    All kanji that it knows compete. density: with or without the classifier's columns, in which
    case K is 0. kana: kernel (64, K) and bias (K,), see `encoding.kana_of`.
    """
    count = kana["bias"].shape[0]
    if not count:
        return z_old[:, :0]
    kanji = density.direct(z_old)
    logits = jnp.concatenate([kanji, z_old @ kana["kernel"] + kana["bias"]], 1)
    return jax.nn.softmax(logits)[:, -count:]


# Random keys --------------------------------------------------------------------------------------


def seed_words(seed: int) -> np.ndarray:
    """The data (2,) uint32 of `jax.random.key(seed)`, without running a program for it."""
    return np.array([0, int(seed) & 0xFFFFFFFF], np.uint32)


def compiled_samples(samples: int) -> int:
    """The number of samples that is compiled for, of so many; the first ones do not depend on
    it."""
    return 1 if samples <= 1 else -(-samples // SAMPLES) * SAMPLES


class DrawingKeys:
    """A program for the random keys of drawings: sample n has the same one for every image."""

    def __init__(self):
        self._program = Program("drawing_keys", lambda: self._keys, "")

    def of(self, seed: int, samples: int) -> np.ndarray:
        """Their data, (samples, 2) uint32."""
        numbers = np.arange(compiled_samples(samples), dtype=np.int32)
        return np.asarray(self._program(seed_words(seed), numbers))[:samples]

    @staticmethod
    def _keys(seed, numbers):
        key = jax.random.wrap_key_data(seed)
        one = lambda n: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, n), 1))
        return jax.vmap(one)(numbers)
