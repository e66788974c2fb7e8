"""The path of an image: a 64x64 Kuzushiji image becomes ranked modern kanji, a picture and strokes.

image -> old VAE -> z_old -> P(z_new | z_old) -> z_new -> new VAE's picture; the decoder's strokes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.inference import acceptance, batch, brush, confidence, old_hands
from transfer.inference import forms as grouping
from transfer.inference.images import ImageError
from transfer.inference.result import Result
from transfer.models import mdn, vae
from transfer.reading_aids import FormChoice
from transfer.stages.decoders import load_decoder
from transfer.stages.drawings import write_drawings
from transfer.stages.encoding import load_reader, load_vae
from transfer.system.batches import in_batches
from transfer.system.devices import float32

PRETRAINED = Path(__file__).parents[1] / "pretrained"
LIKELY = 10
"""Candidates whose pictures the uncertainty compares."""
IMAGES, PICTURES = (1, 32), (20, 320)
"""Numbers of images and pictures for which programs are compiled: a few, or many at once."""
SAMPLES = 10
"""Programs are compiled for 1 sample and for multiples of this. A compiled program takes some ten
megabytes."""
CHUNK = 512
"""Images whose drawings are written together. Drawings with many strokes and drawings with few are
in different batches, because a batch takes as long as its longest drawing."""


class KuzushijiTransfer:
    """The trained models of one run: `load` opens them, `transfer` reads and draws images.

    folder: where the weights are.
    characters: the kanji that the model knows, list of str.
    """

    @float32
    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.old_graph, self.old_params, _, _ = load_vae(folder, "old")
        self.new_graph, self.new_params, _, _ = load_vae(folder, "new")
        self.mdn_graph, self.mdn_params, self.gallery, *more = load_reader(folder)
        code_points, self.calibration, self.kana, self.kana_params = more
        self.characters = [chr(c) for c in code_points]
        self.decoder = load_decoder(folder)
        self.acceptance = acceptance.Acceptance.load(folder, self.old_params, self.mdn_params)
        self.confidence = self.acceptance.confidence or confidence.plain(self.calibration)
        self.mates = grouping.mates(self.characters)
        self.old_hands = old_hands.Prototypes.load(folder, self.old_graph, self.old_params)

    @property
    def temperature(self) -> float:
        """The decoder's own temperature, which `transfer` uses unless you give another."""
        return self.decoder.config.temperature

    @classmethod
    def load(cls, path: str | Path | None = None) -> KuzushijiTransfer:
        """Open the shipped weights, or those of a runs folder (`runs/small`) or weights folder.

        Raises WeightsError if weights are missing or damaged.

        >>> "花" in KuzushijiTransfer.load().characters
        True
        """
        return cls(Path(path) if path is not None else PRETRAINED)

    @cached_property
    def _read(self):
        """Compiled: parameters, images (B, 64, 64) uint8, which form is preferred (G,) and keys
        (S,) -> everything about the images but modern pictures and strokes."""

        def read(params, gallery, images, preferred, keys):
            old = nnx.merge(self.old_graph, params["old"])
            density = nnx.merge(self.mdn_graph, params["mdn"])
            x = images.astype(jnp.float32) / 255.0
            seen = acceptance.signals(old, x)
            views = vae.viewed_z(old, images, density.config.averaged, seen["z_old"])
            z_old = views.mean(0)
            plain = mdn.candidate_scores(density, z_old, gallery)
            kana = kana_probabilities(density, params["kana"], z_old)
            given = confidence.numbers(x, seen, views, plain, gallery.seen, kana.sum(-1))
            forms = confidence.confident(params["confidence"], plain, given, gallery.seen)
            forms += jnp.log1p(-jnp.minimum(kana.sum(-1, keepdims=True), 1 - 1e-6))
            scores = grouping.leading(forms, jnp.asarray(self.mates), preferred)
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
                    lambda z: mdn.sample(
                        density, z[None], gallery, key, density.config.temperature
                    )[0]
                )(z_old)
                likeliest = mdn.sample(density, z_old, gallery, keys[0], 1e-4)
                z_new = jnp.concatenate([likeliest[None], jax.vmap(one)(keys[1:])])
                z_new = z_new.transpose(1, 0, 2)
                # Which kanji a drawing sets out to be: the anchor it is nearest to, by the anchors'
                # own deviations.
                flat = z_new.reshape(-1, z_new.shape[-1])
                target = mdn.gallery_log_density(flat, gallery).argmax(-1)
                target = target.reshape(z_new.shape[:2])
            first, best = jax.lax.top_k(scores, min(LIKELY, scores.shape[-1]))
            return seen | {
                "query": z_old,
                "plain": plain,
                "given": given,
                "kana": kana,
                "forms": forms,
                "scores": scores,
                "z_new": z_new,
                "target": target,
                "best": best,
                "share": jax.nn.softmax(first),
            }

        return jax.jit(read)

    @property
    def _params(self) -> dict:
        return {
            "old": self.old_params,
            "mdn": self.mdn_params,
            "kana": self.kana_params,
            "confidence": self.confidence,
        }

    @cached_property
    def _paint(self):
        """Compiled: z_new (B, 64) -> the new VAE's pictures (B, 64, 64)."""
        return jax.jit(
            lambda params, z: jax.nn.sigmoid(nnx.merge(self.new_graph, params).decode(z))
        )

    def _pictures(self, read: dict) -> tuple[np.ndarray, np.ndarray]:
        """Pictures of all samples (N, S, 64, 64) and of the likeliest kanji (N, LIKELY, 64, 64).

        Each z_new is painted once, however many images it stands for: the anchored density chooses
        among the gallery's.
        """
        means, best, z_new = np.asarray(self.gallery.mean), read["best"], read["z_new"]
        anchored = (z_new == means[read["target"]]).all(-1)
        wanted = np.concatenate([read["target"][anchored], best.ravel()])
        kanji, place = np.unique(wanted, return_inverse=True)
        z = np.concatenate([means[kanji], z_new[~anchored]])
        painted = self._painted(z)
        samples = np.empty((*z_new.shape[:2], 64, 64), np.float32)
        samples[anchored] = painted[place[: anchored.sum()]]
        samples[~anchored] = painted[len(kanji) :]
        return samples, painted[place[anchored.sum() :]].reshape(*best.shape, 64, 64)

    def _painted(self, z: np.ndarray) -> np.ndarray:
        """The new VAE's pictures of z_new (n, 64), in batches of a compiled size: (n, 64, 64)."""
        return in_batches(lambda part: self._paint(self.new_params, part), z, PICTURES)

    @float32
    def transfer(
        self,
        images: np.ndarray,
        samples: int = 10,
        seed: int = 0,
        temperature: float | None = None,
        top: int = 10,
        sure: float | None = None,
        forms: FormChoice = "as-read",
    ) -> list[Result]:
        """Read and draw images.

        images: (N, 64, 64) or (64, 64) uint8, ink 255 on paper 0, as
        `transfer.inference.images.load_image` gives them.
        samples: number of drawings of each image.
        seed: the same seed gives the same drawings.
        temperature: of the pen, above 0 and up to 1; None takes the model's own.
        top: how many candidates to list.
        sure: the probability of the best candidate from which on the verdict is "sure", above 0 and
        up to 1; None takes the weights' own.
        forms: which form of a character comes first and is drawn, if there are several (国 and 國):
        the likeliest ("as-read"), the one of today's Japanese ("modern") or the likeliest of the
        others ("old").

        Returns one `Result` an image. Raises ValueError for other arrays, numbers or forms.

        >>> from transfer.inference.images import load_image
        >>> image = load_image("examples/hana_U+82B1.png")
        >>> [result] = KuzushijiTransfer.load().transfer(image, samples=3, seed=1)
        >>> result.candidates[0][0], len(result.strokes)
        ('花', 3)
        """
        if samples < 1:
            raise ValueError(f"samples is {samples}; give 1 or more")
        temperature = self.temperature if temperature is None else temperature
        if not 0 < temperature <= 1:
            raise ValueError(f"temperature is {temperature}; give a number above 0 and up to 1")
        return self._chunks(images, samples, seed, temperature, top, sure, forms)

    @float32
    def read(
        self,
        images: np.ndarray,
        top: int = 10,
        sure: float | None = None,
        forms: FormChoice = "as-read",
    ) -> list[Result]:
        """Read images without drawing: candidates, pictures and verdict as from `transfer`, in much
        less time.

        The results' strokes, written, scores and order are empty.

        >>> from transfer.inference.images import load_image
        >>> [result] = KuzushijiTransfer.load().read(load_image("examples/hana_U+82B1.png"), top=3)
        >>> len(result.candidates), result.strokes
        (3, [])
        """
        return self._chunks(images, 0, 0, None, top, sure, forms)

    @float32
    def write(
        self, z_new: np.ndarray, samples: int = 1, seed: int = 0, temperature: float | None = None
    ) -> list[list[list[np.ndarray]]]:
        """Strokes for latents wherever they come from: a kanji's own, or a point between two.

        z_new: (N, 64) or (64,) float32.
        samples, seed, temperature: as in `transfer`.

        Returns for each z_new a list of its drawings, in the order in which they were drawn; a
        drawing is a list of (n, 2) float32 polylines. Raises ValueError for other arrays or
        numbers.

        >>> model = KuzushijiTransfer.load()
        >>> z_new = np.asarray(model.gallery.mean)[model.characters.index("山")]
        >>> len(model.write(z_new, samples=2)[0])
        2
        """
        z_new = np.atleast_2d(np.asarray(z_new, np.float32))
        temperature = self.temperature if temperature is None else temperature
        if (
            z_new.ndim != 2
            or z_new.shape[1] != self.gallery.mean.shape[1]
            or not np.isfinite(z_new).all()
        ):
            raise ValueError(
                f"z_new is {z_new.shape}; give finite numbers, (N, {self.gallery.mean.shape[1]})"
            )
        if samples < 1 or not 0 < temperature <= 1:
            raise ValueError(
                f"samples is {samples}, temperature {temperature}; "
                "give 1 or more, and a number above 0 and up to 1"
            )
        if not len(z_new):
            return []
        repeat = lambda a: np.repeat(a[:, None], samples, 1)
        return self._draw(
            repeat(z_new), repeat(self._painted(z_new)), sample_keys(seed, samples), temperature
        )[0]

    def brush(
        self, character: str, samples: int = 12, seed: int = 0, temperature: float | None = None
    ) -> np.ndarray:
        """How old hands may have written a kanji: (samples, 64, 64) uint8, ink 255 on paper 0.

        temperature: above 0 and up to 1; a lower one gives plainer forms; None takes the density's
        own. Raises ValueError unless `character` is one kanji with a glyph, and WeightsError if the
        weights hold no density back (`mdn_back.safetensors`).

        >>> KuzushijiTransfer.load("runs/mine").brush("花", samples=6).shape  # doctest: +SKIP
        (6, 64, 64)
        """
        return brush.of(self).brush(character, samples, seed, temperature).pictures

    def _chunks(self, images, samples, seed, temperature, top, sure, forms) -> list[Result]:
        images = np.asarray(images)
        images = images[None] if images.ndim == 2 else images
        if images.ndim != 3 or images.shape[1:] != (64, 64) or images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype} {images.shape}; give (N, 64, 64) uint8, ink 255 on 0 "
                "(transfer.inference.images.load_image)"
            )
        if sure is not None and not 0 < sure <= 1:
            raise ValueError(f"sure is {sure}; give a probability above 0 and up to 1")
        preferred, results = grouping.bonus(self.characters, forms), []
        for at in range(0, len(images), CHUNK):
            results += self._chunk(
                images[at : at + CHUNK], samples, seed, temperature, top, sure, preferred
            )
        return results

    def evidence(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the models say of images (N, 64, 64) uint8, before confidence and forms are applied.

        plain: (N, G) float32, the density's log probabilities.
        given: (N, 10) float32, see `confidence.numbers`.
        """
        preferred, keys = grouping.bonus(self.characters, "as-read"), sample_keys(0, 1)

        def look(part):
            read = self._read(self._params, self.gallery, part, preferred, keys)
            return {name: read[name] for name in ("plain", "given")}

        return in_batches(look, images, IMAGES)

    def transfer_files(
        self,
        names: str | os.PathLike | Iterable[str | os.PathLike],
        samples: int = 10,
        seed: int = 0,
        temperature: float | None = None,
        top: int = 10,
        jobs: int | None = None,
        forms: FormChoice = "as-read",
    ) -> Iterator[tuple[Path, Result | ImageError]]:
        """Read and draw picture files, one after another.

        names: a file, a folder (its pictures), a pattern such as "scans/**/*.png", or several of
        them.
        samples, seed, temperature, top, forms: as in `transfer`; a file gets the same drawings
        alone or among others.
        jobs: threads that read files [one for each core].

        Yields (path, Result), or (path, ImageError) for a file that cannot be used.

        >>> found = KuzushijiTransfer.load().transfer_files("examples/hana*.png", samples=1)
        >>> [(path.name, result.candidates[0][0]) for path, result in found]
        [('hana_U+82B1.png', '花')]
        """
        return batch.transfer_files(self, names, samples, seed, temperature, top, jobs, forms)

    def _chunk(self, images, samples, seed, temperature, top, sure, preferred) -> list[Result]:
        keys = sample_keys(seed, samples)
        count = len(images)
        read = in_batches(
            lambda part: self._read(self._params, self.gallery, part, preferred, keys),
            images,
            IMAGES,
        )
        read |= {name: read[name][:, : max(samples, 1)] for name in ("z_new", "target")}
        pictures, likely = self._pictures(read)
        uncertainty = weighted_deviation(likely, read["share"])
        drawn, alike = [[]] * count, np.zeros((count, 0), np.float32)
        if samples:
            drawn, alike = self._draw(read["z_new"], pictures, keys, temperature)
        familiarity = self.acceptance.familiarity(
            images, {k: read[k] for k in ("old", "features", "z_old", "log_variance")}
        )
        results = []
        for n in range(count):
            drawings = drawn[n]
            scores = (
                read["scores"][n, read["target"][n, : len(drawings)]] + 10.0 * alike[n]
            ).astype(np.float32)
            order = np.argsort(-scores, kind="stable")
            ranked = np.argsort(-read["scores"][n], kind="stable")[:top]
            ranked = ranked[np.isfinite(read["scores"][n, ranked])]
            kana = read["kana"][n]
            results.append(
                Result(
                    image=images[n],
                    strokes=[drawings[i] for i in order],
                    written=[self.characters[read["target"][n, i]] for i in order],
                    scores=scores[order],
                    pixels=pictures[n, 0],
                    candidates=[
                        (self.characters[i], float(np.exp(read["scores"][n, i]))) for i in ranked
                    ],
                    other_forms=[self._others(i, read["forms"][n]) for i in ranked],
                    kana=(self.kana[kana.argmax()], float(kana.sum())) if len(kana) else None,
                    familiarity=float(familiarity[n]),
                    verdict=self.acceptance.verdict(
                        images[n],
                        float(familiarity[n]),
                        float(np.exp(read["scores"][n].max())),
                        sure,
                        float(kana.sum()),
                    ),
                    old_reconstruction=read["old"][n],
                    new_reconstruction=likely[n, 0],
                    z_old=read["query"][n],
                    z_new=read["z_new"][n, 0],
                    uncertainty=uncertainty[n],
                    order=order,
                    nearest=self.old_hands and self.old_hands.of,
                )
            )
        return results

    def _others(self, place: int, forms: np.ndarray) -> tuple[tuple[str, float], ...]:
        """The other forms of a candidate, the likeliest first; forms: (G,), log probabilities."""
        others = sorted((i for i in self.mates[place] if i >= 0), key=lambda i: -forms[i])
        return tuple((self.characters[i], float(np.exp(forms[i]))) for i in others)

    def _draw(
        self, z_new, pictures, keys, temperature
    ) -> tuple[list[list[list[np.ndarray]]], np.ndarray]:
        """Drawings of each image, N lists of S drawings, and their likeness to the pictures (N, S).

        z_new: (N, S, 64). pictures: (N, S, 64, 64). keys: S or more, each sample's.
        """
        number, samples = z_new.shape[:2]
        z, pictures = z_new.reshape(-1, z_new.shape[-1]), pictures.reshape(-1, 64, 64)
        keys = jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys))
        keys = np.tile(np.asarray(keys)[:samples], (number, 1))
        drawings, alike = write_drawings(self.decoder, z, pictures, keys, temperature)
        return [drawings[n * samples : (n + 1) * samples] for n in range(number)], alike.reshape(
            number, samples
        )


def kana_probabilities(density, kana: dict[str, jax.Array], z_old: jax.Array) -> jax.Array:
    """Probability of every hiragana, (B, K), by the old VAE's classifier.

    All kanji that it knows compete. density: with or without the classifier's columns, in which
    case K is 0. kana: kernel (64, K) and bias (K,), see `load_reader`.
    """
    count = kana["bias"].shape[0]
    if not count:
        return jnp.zeros((len(z_old), 0))
    kanji = density.direct(z_old)
    logits = jnp.concatenate([kanji, z_old @ kana["kernel"] + kana["bias"]], 1)
    return jax.nn.softmax(logits)[:, -count:]


def sample_keys(seed: int, samples: int) -> jax.Array:
    """The random keys (S,) of samples, and of as many more as fill a compiled size.

    The first ones do not depend on how many there are.
    """
    size = 1 if samples <= 1 else -(-samples // SAMPLES) * SAMPLES
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(size))


def weighted_deviation(pictures: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Standard deviation over pictures (N, K, 64, 64) weighted by share (N, K): (N, 64, 64)."""
    share = share[..., None, None]
    return np.sqrt((share * (pictures - (share * pictures).sum(1, keepdims=True)) ** 2).sum(1))
