"""The whole path at work: 64x64 Kuzushiji images become ranked modern kanji, their picture and their strokes.

image -> old VAE -> z_old -> P(z_new | z_old) -> z_new -> new VAE's picture, and Sketch-RNN's strokes.
"""
from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.raster import rasterise
from data.strokes import from_stroke3
from transfer import mdn, sketch_rnn, vae, weights
from transfer.stages import load_mdn, load_vae
from transfer.svg import drawing_to_svg

PRETRAINED = Path(__file__).parent / "pretrained"
IMAGES, DRAWINGS = (1, 32), (10, 320)
"""Sizes that are compiled for: a few images, or many at once."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What one image became.

    image: (64, 64) uint8, ink 255. strokes: drawings, the best first; each a list of (n, 2) float32 polylines in KanjiVG's
    109x109 box, in writing order. written: the kanji that each drawing set out to be. scores: (samples,) float32, higher is better.
    pixels: (64, 64) float32 in [0, 1], ink 1, the new VAE's picture of the likeliest z_new. candidates: (character, probability),
    ranked. old_reconstruction, new_reconstruction: (64, 64) float32 in [0, 1], the old VAE's picture of z_old and the new VAE's of the
    best candidate's glyph. z_old, z_new: (64,) float32. uncertainty: (64, 64) float32 in [0, 0.5], the standard deviation of the
    pictures of all samples' z_new: where plausible readings differ. order: (samples,) which sample each drawing is; 0 is the
    one of the likeliest z_new, and all there is with `samples=1`.
    """

    image: np.ndarray
    strokes: list[list[np.ndarray]]
    written: list[str]
    scores: np.ndarray
    pixels: np.ndarray
    candidates: list[tuple[str, float]]
    old_reconstruction: np.ndarray
    new_reconstruction: np.ndarray
    z_old: np.ndarray
    z_new: np.ndarray
    uncertainty: np.ndarray
    order: np.ndarray

    def svg(self, i: int = 0) -> str:
        """Drawing i as SVG text in KanjiVG's structure, with the ids of the kanji that it set out to be."""
        return drawing_to_svg(self.strokes[i], character=self.written[i])

    def _repr_svg_(self) -> str:
        return self.svg()


class KuzushijiTransfer:
    """Trained models of one run. `load` makes one; `transfer` uses it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.old_graph, self.old_params, _, _ = load_vae(folder, "old")
        self.new_graph, self.new_params, _, _ = load_vae(folder, "new")
        self.mdn_graph, self.mdn_params, self.gallery, code_points, self.calibration = load_mdn(folder)
        self.characters = [chr(c) for c in code_points]
        params, _, described = weights.load(weights.find(folder, "sketch_rnn"))
        self.sketch_config = weights.config(sketch_rnn.SketchRNNConfig, described)
        self.sketch_graph, _ = nnx.split(nnx.eval_shape(lambda: sketch_rnn.SketchRNN(self.sketch_config, nnx.Rngs(0))))
        self.sketch_params = params

    @classmethod
    def load(cls, path: str | Path | None = None) -> "KuzushijiTransfer":
        """The shipped weights, or those of a runs folder (`runs/small`) or weights folder. Raises WeightsError."""
        return cls(Path(path) if path is not None else PRETRAINED)

    @cached_property
    def _read(self):
        """Compiled: images (B, 64, 64) uint8, keys (S,) -> everything about them but the strokes."""
        calibration = self.calibration

        def read(old_params, new_params, mdn_params, gallery, images, keys):
            old, new = nnx.merge(self.old_graph, old_params), nnx.merge(self.new_graph, new_params)
            density = nnx.merge(self.mdn_graph, mdn_params)
            logits, (z_old, _) = vae.decode_mean(old, images.astype(jnp.float32) / 255.0)
            scores = jax.nn.log_softmax(calibration * mdn.candidate_scores(density, z_old, gallery))
            anchored = density.config.density == "anchored"
            temperature = density.config.temperature / (calibration if anchored else 1.0)
            # Every image sees the same random numbers: what is drawn of it does not depend on its neighbours.
            one = lambda key: jax.vmap(lambda z: mdn.sample(density, z[None], gallery, key, temperature)[0])(z_old)
            likeliest = mdn.sample(density, z_old, gallery, keys[0], 1e-4)
            z_new = jnp.concatenate([likeliest[None], jax.vmap(one)(keys[1:])]).transpose(1, 0, 2)  # (B, S, 64)
            best = scores.argmax(-1)
            flat = z_new.reshape(-1, z_new.shape[-1])
            pictures = jax.nn.sigmoid(new.decode(flat)).reshape(*z_new.shape[:2], 64, 64)
            # Which kanji a drawing sets out to be: the anchor it is nearest to, by the anchors' own spread.
            meant = mdn.gallery_log_density(flat, gallery).argmax(-1).reshape(z_new.shape[:2])
            return {"z_old": z_old, "old": jax.nn.sigmoid(logits), "scores": scores, "z_new": z_new, "pictures": pictures,
                    "meant": meant, "new": jax.nn.sigmoid(new.decode(gallery.mean[best]))}

        return jax.jit(read)

    def transfer(self, images: np.ndarray, samples: int = 10, seed: int = 0, temperature: float | None = None,
                 top: int = 10) -> list[Result]:
        """Read and draw images.

        images: (N, 64, 64) or (64, 64) uint8, ink 255 on paper 0, as `transfer.images.load_image` gives them.
        samples: drawings an image. seed: same seed, same drawings. temperature: of the pen, 0 to 1; None takes the model's own.
        top: how many candidates to list. One `Result` an image. Raises ValueError for other arrays or numbers.
        """
        images = np.asarray(images)
        images = images[None] if images.ndim == 2 else images
        if images.ndim != 3 or images.shape[1:] != (64, 64) or images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype} {images.shape}; give (N, 64, 64) uint8, ink 255 on 0 (transfer.images.load_image)")
        if samples < 1:
            raise ValueError(f"samples is {samples}; give 1 or more")
        temperature = self.sketch_config.temperature if temperature is None else temperature
        if not 0 < temperature <= 1:
            raise ValueError(f"temperature is {temperature}; give a number above 0 and up to 1")
        results = []
        for at in range(0, len(images), IMAGES[-1]):
            results += self._chunk(images[at:at + IMAGES[-1]], samples, seed, temperature, top)
        return results

    def _chunk(self, images, samples, seed, temperature, top) -> list[Result]:
        key = jax.random.key(seed)
        keys = jax.vmap(lambda j: jax.random.fold_in(key, j))(jnp.arange(samples))
        size = next(s for s in IMAGES if s >= len(images))
        padded = np.concatenate([images, np.zeros((size - len(images), 64, 64), np.uint8)])
        read = jax.device_get(self._read(self.old_params, self.new_params, self.mdn_params, self.gallery, padded, keys))
        count = len(images)
        rows, points = self._draw(read["z_new"][:count], read["pictures"][:count], keys, temperature)
        results = []
        for n in range(count):
            drawings = [from_stroke3(r[:k]) for r, k in zip(rows[n], points[n])]
            scores = np.array([read["scores"][n, m] + 10.0 * likeness(d, p)
                               for d, p, m in zip(drawings, read["pictures"][n], read["meant"][n])], np.float32)
            order = np.argsort(-scores, kind="stable")
            ranked = np.argsort(-read["scores"][n], kind="stable")[:top]
            results.append(Result(
                image=images[n], strokes=[drawings[i] for i in order], written=[self.characters[read["meant"][n, i]] for i in order],
                scores=scores[order], pixels=read["pictures"][n, 0],
                candidates=[(self.characters[i], float(np.exp(read["scores"][n, i]))) for i in ranked],
                old_reconstruction=read["old"][n], new_reconstruction=read["new"][n], z_old=read["z_old"][n], z_new=read["z_new"][n, 0],
                uncertainty=read["pictures"][n].std(0), order=order))
        return results

    def _draw(self, z_new, pictures, keys, temperature):
        """stroke-3 rows (N, S, longest, 3) and counts (N, S), in batches of a compiled size."""
        number, samples = z_new.shape[:2]
        flat = {"z": z_new.reshape(-1, z_new.shape[-1])}
        if self.sketch_config.glimpse:
            flat["picture"] = pictures.reshape(-1, 64, 64)
        keys = jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys))
        keys = np.tile(np.asarray(keys), (number, 1))
        total, rows, counts = len(keys), [], []
        size = next((s for s in DRAWINGS if s >= total), DRAWINGS[-1])
        for at in range(0, total, size):
            index = np.minimum(np.arange(at, at + size), total - 1)  # the last drawing again fills the batch
            r, c, _ = sketch_rnn.draw(self.sketch_graph, self.sketch_params, {k: v[index] for k, v in flat.items()},
                                      jax.random.wrap_key_data(jnp.asarray(keys[index])), jnp.float32(temperature))
            rows.append(np.asarray(r)[:min(size, total - at)])
            counts.append(np.asarray(c)[:min(size, total - at)])
        rows, counts = np.concatenate(rows), np.concatenate(counts)
        return rows.reshape(number, samples, *rows.shape[1:]), counts.reshape(number, samples)


def likeness(drawing: list[np.ndarray], picture: np.ndarray) -> float:
    """Cosine between the drawing's raster and a picture (64, 64) in [0, 1]: 1 where they are alike, 0 without common ink."""
    raster = rasterise(drawing) / 255.0 if drawing else np.zeros_like(picture)
    norm = np.sqrt((raster**2).sum() * (picture**2).sum())
    return float((raster * picture).sum() / norm) if norm else 0.0
