"""The whole path at work: 64x64 Kuzushiji images become ranked modern kanji, their picture and
their strokes.

image -> old VAE -> z_old -> P(z_new | z_old) -> z_new -> new VAE's picture, and Sketch-RNN's
strokes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.strokes import from_stroke3, resample
from transfer.inference import acceptance, batch
from transfer.inference.images import ImageError
from transfer.inference.result import Result
from transfer.models import mdn, sketch_rnn, stroke_rnn, vae
from transfer.stages.encoding import in_batches, load_mdn, load_vae
from transfer.stages.strokes import load_decoder
from transfer.system.devices import float32

PRETRAINED = Path(__file__).parents[1] / "pretrained"
LIKELY = 10
"""Candidates whose pictures the uncertainty compares."""
IMAGES, PICTURES, DRAWINGS = (1, 32), (20, 320), (10, 160)
"""Sizes that are compiled for: a few, or many at once."""
SAMPLES = 10
"""Numbers of samples that are compiled for: 1, and the multiples of this. A compiled program takes
some ten megabytes."""
STROKES = (12, 20)
"""Numbers of strokes that are compiled for, beside the most that there may be."""
PAGE = 512
"""Images whose drawings are written together, those of many strokes in other batches than those of
few: a batch lasts as long as its longest drawing."""
WRITERS = 2
"""Batches of drawings that are written at once: a compiled loop keeps a CPU's cores busy in its
matrix products only."""


class KuzushijiTransfer:
    """Trained models of one run. `load` makes one; `transfer` uses it."""

    @float32
    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.old_graph, self.old_params, _, _ = load_vae(folder, "old")
        self.new_graph, self.new_params, _, _ = load_vae(folder, "new")
        self.mdn_graph, self.mdn_params, self.gallery, code_points, self.calibration = load_mdn(
            folder
        )
        self.characters = [chr(c) for c in code_points]
        self.decoder = load_decoder(folder)
        self.acceptance = acceptance.Acceptance.load(folder, self.old_params, self.mdn_params)

    @property
    def temperature(self) -> float:
        """The pen's own, where none is given."""
        return self.decoder.config.temperature

    @classmethod
    def load(cls, path: str | Path | None = None) -> KuzushijiTransfer:
        """The shipped weights, or those of a runs folder (`runs/small`) or weights folder. Raises
        WeightsError."""
        return cls(Path(path) if path is not None else PRETRAINED)

    @cached_property
    def _read(self):
        """Compiled: images (B, 64, 64) uint8, keys (S,) -> everything about them but modern
        pictures and strokes."""
        calibration = self.calibration

        def read(old_params, mdn_params, gallery, images, keys):
            old = nnx.merge(self.old_graph, old_params)
            density = nnx.merge(self.mdn_graph, mdn_params)
            seen = acceptance.signals(old, images.astype(jnp.float32) / 255.0)
            z_old = vae.averaged_z(old, images, density.config.averaged, seen["z_old"])
            scores = jax.nn.log_softmax(calibration * mdn.candidate_scores(density, z_old, gallery))
            anchored = density.config.density == "anchored"
            temperature = density.config.temperature / (calibration if anchored else 1.0)
            # Every image sees the same random numbers: what is drawn of it does not depend on its
            # neighbours.
            one = lambda key: jax.vmap(
                lambda z: mdn.sample(density, z[None], gallery, key, temperature)[0]
            )(z_old)
            likeliest = mdn.sample(density, z_old, gallery, keys[0], 1e-4)
            z_new = jnp.concatenate([likeliest[None], jax.vmap(one)(keys[1:])]).transpose(
                1, 0, 2
            )  # (B, S, 64)
            flat = z_new.reshape(-1, z_new.shape[-1])
            # Which kanji a drawing sets out to be: the anchor it is nearest to, by the anchors' own
            # spread.
            meant = mdn.gallery_log_density(flat, gallery).argmax(-1).reshape(z_new.shape[:2])
            first, best = jax.lax.top_k(scores, min(LIKELY, scores.shape[-1]))
            return seen | {
                "asked": z_old,
                "scores": scores,
                "z_new": z_new,
                "meant": meant,
                "best": best,
                "share": jax.nn.softmax(first),
            }

        return jax.jit(read)

    @cached_property
    def _paint(self):
        """Compiled: z_new (B, 64) -> the new VAE's pictures (B, 64, 64)."""
        return jax.jit(
            lambda params, z: jax.nn.sigmoid(nnx.merge(self.new_graph, params).decode(z))
        )

    def _pictures(self, read: dict) -> tuple[np.ndarray, np.ndarray]:
        """Pictures of all samples (N, S, 64, 64) and of the likeliest kanji (N, LIKELY, 64, 64).
        Each z_new is painted once, however many images it stands for: the anchored density chooses
        among the gallery's."""
        means, best, z_new = np.asarray(self.gallery.mean), read["best"], read["z_new"]
        anchored = (z_new == means[read["meant"]]).all(-1)
        wanted = np.concatenate([read["meant"][anchored], best.ravel()])
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
    ) -> list[Result]:
        """Read and draw images.

        images: (N, 64, 64) or (64, 64) uint8, ink 255 on paper 0, as
        `transfer.inference.images.load_image` gives them. samples: drawings an image. seed: same
        seed, same drawings. temperature: of the pen, 0 to 1; None takes the model's own. top: how
        many candidates to list. sure: the best candidate's probability from which the verdict is
        "sure", above 0 and up to 1; None takes the weights' own. One `Result` an image. Raises
        ValueError for other arrays or numbers.
        """
        if samples < 1:
            raise ValueError(f"samples is {samples}; give 1 or more")
        temperature = self.temperature if temperature is None else temperature
        if not 0 < temperature <= 1:
            raise ValueError(f"temperature is {temperature}; give a number above 0 and up to 1")
        return self._chunks(images, samples, seed, temperature, top, sure)

    @float32
    def read(self, images: np.ndarray, top: int = 10, sure: float | None = None) -> list[Result]:
        """Read images without drawing: candidates, pictures and verdict as from `transfer`, in a
        small part of its time.

        The results' strokes, written, scores and order are empty.
        """
        return self._chunks(images, 0, 0, None, top, sure)

    @float32
    def write(
        self, z_new: np.ndarray, samples: int = 1, seed: int = 0, temperature: float | None = None
    ) -> list[list[list[np.ndarray]]]:
        """Strokes for latents wherever they come from: a kanji's own, a point between two, a step
        along a unit.

        z_new: (N, 64) or (64,) float32. samples, seed, temperature: as in `transfer`. For each
        z_new a list of its `samples` drawings, in the order in which they were drawn; a drawing is
        a list of (n, 2) float32 polylines. Raises ValueError for other arrays or numbers.
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
                f"samples is {samples}, temperature {temperature}; give 1 or more, and a number above 0 and up to 1"
            )
        if not len(z_new):
            return []
        repeat = lambda a: np.repeat(a[:, None], samples, 1)
        return self._draw(
            repeat(z_new), repeat(self._painted(z_new)), sample_keys(seed, samples), temperature
        )[0]

    def _chunks(self, images, samples, seed, temperature, top, sure) -> list[Result]:
        images = np.asarray(images)
        images = images[None] if images.ndim == 2 else images
        if images.ndim != 3 or images.shape[1:] != (64, 64) or images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype} {images.shape}; give (N, 64, 64) uint8, ink 255 on 0 (transfer.inference.images.load_image)"
            )
        if sure is not None and not 0 < sure <= 1:
            raise ValueError(f"sure is {sure}; give a probability above 0 and up to 1")
        results = []
        for at in range(0, len(images), PAGE):
            results += self._page(images[at : at + PAGE], samples, seed, temperature, top, sure)
        return results

    def transfer_files(
        self,
        names: str | os.PathLike | Iterable[str | os.PathLike],
        samples: int = 10,
        seed: int = 0,
        temperature: float | None = None,
        top: int = 10,
        jobs: int | None = None,
    ) -> Iterator[tuple[Path, Result | ImageError]]:
        """Read and draw picture files, one after another: yields (path, Result), or (path,
        ImageError) for one that cannot be used.

        names: a file, a folder (its pictures), a pattern such as "scans/**/*.png", or several of
        them. jobs: threads that read files [one a core]. The other numbers are those of `transfer`,
        and what is drawn of a file is what it gets alone.
        """
        return batch.transfer_files(self, names, samples, seed, temperature, top, jobs)

    def _page(self, images, samples, seed, temperature, top, sure) -> list[Result]:
        keys = sample_keys(seed, samples)
        count, parts = len(images), []
        size = next((s for s in IMAGES if s >= count), IMAGES[-1])
        for at in range(0, count, size):
            part = images[at : at + size]
            padded = np.concatenate([part, np.zeros((size - len(part), 64, 64), np.uint8)])
            found = jax.device_get(
                self._read(self.old_params, self.mdn_params, self.gallery, padded, keys)
            )
            parts.append({name: value[: len(part)] for name, value in found.items()})
        read = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        read |= {name: read[name][:, : max(samples, 1)] for name in ("z_new", "meant")}
        pictures, likely = self._pictures(read)
        uncertainty = spread(likely, read["share"])
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
                read["scores"][n, read["meant"][n, : len(drawings)]] + 10.0 * alike[n]
            ).astype(np.float32)
            order = np.argsort(-scores, kind="stable")
            ranked = np.argsort(-read["scores"][n], kind="stable")[:top]
            results.append(
                Result(
                    image=images[n],
                    strokes=[drawings[i] for i in order],
                    written=[self.characters[read["meant"][n, i]] for i in order],
                    scores=scores[order],
                    pixels=pictures[n, 0],
                    candidates=[
                        (self.characters[i], float(np.exp(read["scores"][n, i]))) for i in ranked
                    ],
                    familiarity=float(familiarity[n]),
                    verdict=self.acceptance.verdict(
                        images[n],
                        float(familiarity[n]),
                        float(np.exp(read["scores"][n].max())),
                        sure,
                    ),
                    old_reconstruction=read["old"][n],
                    new_reconstruction=likely[n, 0],
                    z_old=read["asked"][n],
                    z_new=read["z_new"][n, 0],
                    uncertainty=uncertainty[n],
                    order=order,
                )
            )
        return results

    def _draw(
        self, z_new, pictures, keys, temperature
    ) -> tuple[list[list[list[np.ndarray]]], np.ndarray]:
        """Drawings of each image, N lists of S lists of polylines, and their likeness to the
        pictures (N, S); in batches of a compiled size.
        keys: S or more."""
        number, samples = z_new.shape[:2]
        decoder = self.decoder
        flat = {"z": z_new.reshape(-1, z_new.shape[-1])}
        if decoder.axes is not None:
            flat["picture"] = pictures.reshape(-1, 64, 64)
        keys = jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys))
        keys = np.tile(np.asarray(keys)[:samples], (number, 1))
        total = len(keys)
        drawings, alike = [None] * total, np.zeros(total, np.float32)
        size = next((s for s in DRAWINGS if s >= total), DRAWINGS[-1])
        # Drawings that take alike long go together.
        length = (
            decoder.lengths(flat["z"], DRAWINGS)
            if decoder.axes is not None
            else pictures.reshape(total, -1).sum(1)
        )
        order = np.argsort(length, kind="stable")

        @float32
        def write(chosen: np.ndarray) -> None:
            index = np.concatenate(
                [chosen, np.repeat(chosen[-1:], size - len(chosen))]
            )  # the last drawing again fills the batch
            condition = {k: v[index] for k, v in flat.items()}
            given = (
                condition,
                jax.random.wrap_key_data(jnp.asarray(keys[index])),
                jnp.float32(temperature),
            )
            if decoder.axes is not None:
                most = next((n for n in STROKES if n >= length[chosen].max()), None)
                strokes, counts, _, found = jax.device_get(
                    stroke_rnn.draw(decoder.graph, decoder.params, decoder.axes, *given, most=most)
                )
                part = [list(s[:n]) for s, n in zip(strokes, counts)]
            else:
                rows, counts, _ = jax.device_get(
                    sketch_rnn.draw(decoder.graph, decoder.params, *given)
                )
                part = [from_stroke3(r[:n]) for r, n in zip(rows[: len(chosen)], counts)]
                found = stroke_rnn.likeness(same_points(part), pictures.reshape(-1, 64, 64)[chosen])
            for i, drawing, value in zip(chosen, part, found):
                drawings[i], alike[i] = drawing, value

        parts = [order[at : at + size] for at in range(0, total, size)]
        if len(parts) == 1:
            write(parts[0])
        else:
            with ThreadPoolExecutor(WRITERS) as pool:
                list(pool.map(write, parts))
        return [drawings[n * samples : (n + 1) * samples] for n in range(number)], alike.reshape(
            number, samples
        )


def sample_keys(seed: int, samples: int) -> jax.Array:
    """The random key of each sample, and of as many more as make a number that is compiled for:
    (S,), whose first do not depend on how many."""
    size = 1 if samples <= 1 else -(-samples // SAMPLES) * SAMPLES
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(size))


def spread(pictures: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Standard deviation over pictures (N, K, 64, 64) weighted by share (N, K): (N, 64, 64)."""
    share = share[..., None, None]
    return np.sqrt((share * (pictures - (share * pictures).sum(1, keepdims=True)) ** 2).sum(1))


def same_points(drawings: list[list[np.ndarray]], points: int = 24) -> np.ndarray:
    """Drawings as one array (N, most strokes, points, 2), 0 where there is no stroke: what
    `stroke_rnn.likeness` takes."""
    strokes = np.zeros((len(drawings), max(map(len, drawings)), points, 2), np.float32)
    for row, drawing in zip(strokes, drawings):
        row[: len(drawing)] = [resample(stroke, points) for stroke in drawing]
    return strokes
