"""What the stages share: their training images, loaded models, and latents."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import zipfile
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.models import augment, mdn, vae
from transfer.system.batches import in_batches
from transfer.system.devices import compiler_options, float32
from transfer.system.files import atomic_write
from transfer.training import weights
from transfer.training.examples import Pool, pool, set_aside

VAE_NAMES = {"old": "vae_old", "new": "vae_new"}
MDN_NAMES = {"forward": "mdn", "back": "mdn_back"}
UNKNOWN = -1e4
"""Bias of kanji that the old VAE's classifier does not know, in a density that has its columns."""


def old_examples(corpus: Corpus, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the split's images and their code points, (n,) each."""
    chosen = corpus.old.indices(split)
    return chosen, np.asarray(corpus.old.code_points)[chosen]


def new_examples(corpus: Corpus, variants: bool) -> np.ndarray:
    """Indices of the modern glyphs that serve for training.

    They are every kanji's standard form, or, with `variants`, every kanji form there is.
    """
    gallery = corpus.new.gallery()
    if not variants:
        return gallery
    return np.flatnonzero(np.isin(corpus.new.code_points, corpus.new.code_points[gallery]))


def old_pool(
    corpus: Corpus, config, chosen: np.ndarray, code_points: np.ndarray, aside: int, kana_too: bool
) -> Pool:
    """The pool of a configuration with `fonts`, `hands` and `balance`.

    chosen, code_points: (n,), the images from books and their kanji.
    aside: how many classes are left out (`set_aside`).
    kana_too: whether hiragana are learned too.
    """
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
    """The shares of fonts and made hands that `mix` draws."""
    return {"fonts": config.fonts, "hands": config.hands}


def labels_of(points: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Places (N,) of code points in ascending classes (C,); -1 for those that are not there."""
    place = np.searchsorted(classes, points).clip(0, len(classes) - 1)
    return np.where(classes[place] == points, place, -1)


def corpus_provenance(corpus: Corpus, shares: dict[str, float] | None = None) -> dict:
    """What the run's config.json records of the data: the checksums of its sources.

    shares: the shares of fonts and made hands in a batch (`shares`). The checksums include theirs
    if the share is above 0.
    """
    sources = {k: v["sha256"] for k, v in corpus.manifest["sources"].items()}
    found, shares = {"sample": corpus.is_sample}, shares or {}
    if corpus.fonts and shares.get("fonts"):
        sources |= {r["name"]: r["sha256"] for r in corpus.fonts.records if r["role"] == "train"}
    if corpus.hands and shares.get("hands"):
        found["made hands"] = corpus.hands.source
    return {"data": {**found, "sources": sources}}


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network.

    params, arrays: of its weights file, a nested dict and a dict of float32 and other arrays.
    build: makes the network anew, as its graph is made of.
    about: all that the graph depends on.
    """

    config: object
    params: dict
    arrays: dict[str, np.ndarray]
    build: Callable[[], nnx.Module]
    about: str

    @cached_property
    def graph(self) -> nnx.GraphDef:
        """What `nnx.merge` needs beside the parameters; a quarter of a second when it is first
        asked for."""
        return nnx.split(nnx.eval_shape(self.build))[0]

    def on_device(self) -> Network:
        """The same with its parameters on the device: else each call would copy them anew."""
        return dataclasses.replace(self, params=jax.device_put(self.params))


def vae_network(folder: Path, domain: str) -> Network:
    """The VAE in a runs or weights folder. Raises WeightsError."""
    params, arrays, described = weights.load(weights.find(folder, VAE_NAMES[domain]))
    config = weights.config(vae.VAEConfig, described)
    if "classifier" not in params:  # shipped without: it serves training alone
        config = dataclasses.replace(config, recognition=0.0)
    names = params["attributes"]["bias"].shape[0] if "attributes" in params else 0
    given = config, len(arrays["classes"])
    build = lambda: vae.VAE(*given, nnx.Rngs(0), names)
    return Network(config, params, arrays, build, repr((*given, names)))


def load_vae(folder: Path, domain: str):
    """Model graph, params, arrays and configuration of the VAE in a runs or weights folder.

    Raises WeightsError.
    """
    found = vae_network(folder, domain)
    return found.graph, found.params, found.arrays, found.config


@dataclasses.dataclass(frozen=True)
class Forms:
    """Posteriors of modern glyphs in the gallery's order.

    code_points: (G,) int32, the gallery's.
    mean, log_variance: (F, 64), of every form.
    start, count: (G,) int32, where each kanji's forms begin, and how many it has.
    glyphs: (F,), each form's place in corpus.new.
    """

    code_points: np.ndarray
    mean: np.ndarray
    log_variance: np.ndarray
    start: np.ndarray
    count: np.ndarray
    glyphs: np.ndarray


@lru_cache(maxsize=4)
def _encoder(folder: Path, domain: str, stamp: tuple):
    """A trained VAE's encoder, compiled on demand, and its parameters.

    stamp: reveals whether the weights have been replaced.
    """
    graph, params, _, config = load_vae(folder, domain)

    @partial(jax.jit, compiler_options=compiler_options())
    def encode(params, batch, key):
        x = (
            augment.to_float(batch)
            if key is None
            else augment.augment(batch, key, config.augment, config.warp)
        )
        return nnx.merge(graph, params).encode(x)

    return encode, jax.tree.map(jnp.asarray, params)


@float32
def encode_images(folder: Path, domain: str, images: np.ndarray, key=None, progress: str = ""):
    """Mean and log-variance, each (N, 64) float32, from a trained VAE for images.

    images: (N, 64, 64) uint8.
    key: of their augmentation; None for no augmentation.
    progress: the title of the progress bar; None for no bar.
    """
    there = weights.find(folder, VAE_NAMES[domain]).stat()
    encode, params = _encoder(
        Path(folder), domain, (there.st_mtime_ns, there.st_size, there.st_ino)
    )
    number = itertools.count()
    return in_batches(
        lambda batch: encode(
            params, batch, None if key is None else jax.random.fold_in(key, next(number))
        ),
        images,
        (512,),
        progress,
    )


def modern_forms(folder: Path, corpus: Corpus, variants: bool) -> Forms:
    """The new VAE's posterior for every kanji's standard form, and with `variants` for its other
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
        chosen,
    )


def in_gallery(
    chosen: np.ndarray, points: np.ndarray, gallery_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The images among (n,) whose kanji is in the gallery, and their labels, int32 places in it."""
    known = np.isin(points, gallery_points)
    return chosen[known], np.searchsorted(gallery_points, points[known]).astype(np.int32)


KEPT = "latents_{}.npz"
"""Files beside the weights in a run of the old VAE. They keep its latents of many images, one view
in each file, for the next density or evaluation with these weights, or for the same one after a
kill."""
KEPT_NAMES = "mean", "log_variance"


def encode_kept(
    folder: Path, images: np.ndarray, view: int | None = None, seed: int = 0, progress: str = ""
) -> list[np.ndarray]:
    """As `encode_images` for the old VAE; a run (`KEPT`), though not a weights folder, keeps the
    results, and they are read again if weights, images, view and seed are the same.

    view: number of an augmented view; None for the images as they are. seed: of its augmentation,
    so that a resumed run sees the same views.

    Returns [mean, log-variance], (N, 64) float32 each.
    """
    place = weights.find(folder, VAE_NAMES["old"])
    key = None if view is None else jax.random.fold_in(jax.random.key(seed), view)
    make = lambda: list(encode_images(folder, "old", images, key, progress))
    if place.parent == Path(folder):
        return make()
    path = place.with_name(KEPT.format("plain" if view is None else view))
    same = (
        f"{weights.checksum(place)} {hashlib.sha256(np.ascontiguousarray(images)).hexdigest()}"
        f" {key is None} {view or 0} {seed}"
    )
    try:
        with np.load(path) as found:
            if str(found["of"]) == same:
                return [found[name] for name in KEPT_NAMES]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or not of ours: it is made anew
    made = make()
    try:
        with atomic_write(path) as part, open(part, "wb") as file:
            np.savez(file, of=np.array(same), **dict(zip(KEPT_NAMES, made)))
    except OSError:
        pass  # read-only or full: whoever asks can do without
    return made


def old_latents(
    folder: Path,
    corpus: Corpus,
    split: str,
    gallery_points: np.ndarray,
    views: int = 0,
    seed: int = 0,
):
    """z_old of the split's images whose kanji is in the gallery.

    views: how many augmented versions of each image are encoded; 0 takes the images as they are.

    Returns mean and log-variance, (N, 64) each, and labels (N,) into the gallery.
    """
    chosen, label = in_gallery(*old_examples(corpus, split), gallery_points)
    images = corpus.old.images[chosen]
    keys = [jax.random.fold_in(jax.random.key(seed), v) for v in range(views)]
    bar = f"z_old of {split}, view {{}}/{views}"
    parts = [
        encode_images(folder, "old", images, key, bar.format(v + 1)) for v, key in enumerate(keys)
    ]
    # As they are, the training images alone are so many that they are worth a file.
    if not views and split == "train":
        parts = [encode_kept(folder, images, progress=f"z_old of {split}")]
    elif not views:
        parts = [encode_images(folder, "old", images, None, "")]
    return (
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.tile(label, len(parts)),
    )


def two_halves(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two halves of `number` held-out images, always the same.

    What is fitted on one is measured on the other.
    """
    order = np.random.default_rng(0).permutation(number)
    return np.sort(order[: number // 2]), np.sort(order[number // 2 :])


def places(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How many other classes score as high as the label's class or higher, (N,).

    Ties count against the label. scores: (N, C). label: (N,).
    """
    return (scores >= scores[np.arange(len(label)), label][:, None]).sum(1) - 1


def upstream(folder: Path, *names: str) -> dict[str, str]:
    """Checksums of the earlier stages' weights: with other weights it is another run."""
    return {name: weights.checksum(weights.find(folder, name)) for name in names}


def load_mdn(folder: Path, direction: str = "forward"):
    """Model graph, params, Gallery, code points (G,) and calibration of a trained density.

    direction: "forward" or "back". Raises WeightsError.
    """
    found = density_network(folder, direction)
    return (
        found.graph,
        found.params,
        gallery_of(found),
        found.arrays["code_points"],
        float(found.arrays["calibration"][0]),
    )


def density_network(folder: Path, direction: str = "forward") -> Network:
    """The density in a runs or weights folder; direction: as in `load_mdn`. Raises WeightsError."""
    params, arrays, described = weights.load(weights.find(folder, MDN_NAMES[direction]))
    config = weights.config(mdn.MDNConfig, described)
    if "direct" not in params["mdn"]:
        # Before 2026-11-27 the setting had no effect on densities that generate.
        config = dataclasses.replace(config, direct=False)
    given = config, len(arrays["code_points"])
    build = lambda: mdn.build(*given, nnx.Rngs(0))
    return Network(given[0], params["mdn"], arrays, build, repr(given))


def gallery_of(density: Network) -> mdn.Gallery:
    """The kanji that a density was trained for."""
    names = "gallery_mean", "gallery_log_variance", "seen"
    return mdn.Gallery(*(jnp.asarray(density.arrays[k]) for k in names))


def kana_of(density: Network) -> tuple[list[str], dict[str, np.ndarray]]:
    """The hiragana (K) that a density knows: their characters, and their columns of the old VAE's
    classifier, kernel (64, K) and bias (K,). K is 0 where it was trained without."""
    empty = {"kernel": np.zeros((density.config.latent, 0)), "bias": np.zeros(0)}
    empty["code_points"] = np.zeros(0)
    found = {k: density.arrays.get(f"kana_{k}", v) for k, v in empty.items()}
    columns = {k: np.asarray(found[k], np.float32) for k in ("kernel", "bias")}
    return [chr(int(c)) for c in found["code_points"]], columns


def painter(folder: Path):
    """A function from z_new (n, 64) to the new VAE's pictures (n, 64, 64) float32 in [0, 1]."""
    graph, params, _, _ = load_vae(folder, "new")
    paint = jax.jit(lambda params, z: jax.nn.sigmoid(nnx.merge(graph, params).decode(z)))

    return lambda z: in_batches(lambda part: paint(params, part), z, (256,))


def reconstruction(folder: Path, domain: str, z: np.ndarray, images: np.ndarray) -> np.ndarray:
    """`vae.reconstruction_loss` of images (N, 64, 64) uint8 by a trained VAE from latents (N, 64),
    in nats: (N,) float32."""
    graph, params, _, _ = load_vae(folder, domain)

    @jax.jit
    def loss(params, z, images):
        logits = nnx.merge(graph, params).decode(z)
        return vae.reconstruction_loss(logits, augment.to_float(images))

    return in_batches(lambda part: loss(params, *part), (z, images), (256,))
