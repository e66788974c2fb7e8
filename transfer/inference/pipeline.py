"""The path of an image: a 64x64 Kuzushiji image becomes ranked modern kanji, a picture and strokes.

image -> old VAE -> z_old -> P(z_new | z_old) -> z_new -> new VAE's picture; the decoder's strokes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from transfer.inference import acceptance, batch, brush, confidence, old_hands
from transfer.inference import forms as grouping
from transfer.inference.images import ImageError
from transfer.inference.networks.reading import DrawingKeys, Reader
from transfer.inference.result import Result
from transfer.reading_aids import FormChoice
from transfer.stages.decoders import load_decoder
from transfer.stages.drawings import write_drawings
from transfer.stages.encoding import density_network, gallery_of, kana_of, vae_network
from transfer.stages.stroke_decoder import StrokeDecoder
from transfer.system.batches import in_batches
from transfer.system.devices import float32
from transfer.system.programs import Program

PRETRAINED = Path(__file__).parents[1] / "pretrained"
PICTURES = (20, 320)
"""Numbers of modern pictures for which programs are compiled: a few, or many at once."""
CHUNK = 256
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
        self.old, self.new = (vae_network(folder, d).on_device() for d in ("old", "new"))
        density = density_network(folder).on_device()
        self.mdn, self.mdn_params, self.gallery = density, density.params, gallery_of(density)
        self.kana, self.kana_params = kana_of(density)
        self.characters = [chr(c) for c in density.arrays["code_points"]]
        self.calibration = float(density.arrays["calibration"][0])
        self.decoder = load_decoder(folder)
        self.acceptance = acceptance.Acceptance.load(folder, self.old_params, self.mdn_params)
        self.confidence = self.acceptance.confidence or confidence.plain(self.calibration)
        self.mates = grouping.mates(self.characters)
        self.old_hands = old_hands.Prototypes.load(folder, self.old)
        self.reader = Reader(self.old, density, self.gallery, self.mates)
        self._keys = DrawingKeys()
        self._paint = Program("paint", lambda: self._painting, self.new.about)
        self._means = np.asarray(self.gallery.mean)

    @property
    def old_graph(self) -> nnx.GraphDef:
        return self.old.graph

    @property
    def old_params(self) -> dict:
        return self.old.params

    @property
    def new_graph(self) -> nnx.GraphDef:
        return self.new.graph

    @property
    def new_params(self) -> dict:
        return self.new.params

    @property
    def mdn_graph(self) -> nnx.GraphDef:
        return self.mdn.graph

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

    def prepare(self) -> threading.Thread:
        """Compile, or take from the cache, what drawing takes beside reading, in a thread that is
        started and returned: the image is read meanwhile."""

        @float32
        def prepare() -> None:
            z = jax.ShapeDtypeStruct((PICTURES[0], self._means.shape[1]), np.float32)
            self._paint.ready(self.new_params, z)
            if isinstance(self.decoder, StrokeDecoder):
                self.decoder.prepare()

        thread = threading.Thread(target=prepare)
        thread.start()
        return thread

    def _read(self, images, preferred, seed, samples) -> dict[str, np.ndarray]:
        """See `Reader.read`."""
        params = {
            "old": self.old_params,
            "mdn": self.mdn_params,
            "kana": self.kana_params,
            "confidence": self.confidence,
        }
        return self.reader.read(params, images, preferred, seed, samples)

    def _painting(self, params, z):
        return jax.nn.sigmoid(nnx.merge(self.new_graph, params).decode(z))

    def _painted(self, z: np.ndarray) -> np.ndarray:
        """The new VAE's pictures of z_new (n, 64), in batches of a compiled size: (n, 64, 64)."""
        return in_batches(lambda part: self._paint(self.new_params, part), z, PICTURES)

    def _pictures(self, read: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pictures (P, 64, 64), and which of them all samples (N, S) and the likeliest kanji
        (N, LIKELY) have.

        Each z_new is painted once, however many images it stands for: the anchored density chooses
        among the gallery's.
        """
        best, z_new = read["best"], read["z_new"]
        anchored = (z_new == self._means[read["target"]]).all(-1)
        wanted = np.concatenate([read["target"][anchored], best.ravel()])
        kanji, place = np.unique(wanted, return_inverse=True)
        painted = self._painted(np.concatenate([self._means[kanji], z_new[~anchored]]))
        samples = np.empty(z_new.shape[:2], np.int64)
        samples[anchored] = place[: anchored.sum()]
        samples[~anchored] = np.arange(len(kanji), len(painted))
        return painted, samples, place[anchored.sum() :].reshape(best.shape)

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
        which = np.repeat(np.arange(len(z_new))[:, None], samples, 1)
        return self._draw(z_new[which], self._painted(z_new), which, seed, temperature)[0]

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
        read = self._read(images, grouping.bonus(self.characters, "as-read"), 0, 0)
        return {name: read[name] for name in ("plain", "given")}

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
        read = self._read(images, preferred, seed, samples)
        painted, which, likely = self._pictures(read)
        drawn, alike = [[]] * len(images), np.zeros((len(images), 0), np.float32)
        if samples:
            drawn, alike = self._draw(read["z_new"], painted, which, seed, temperature)
        familiarity = self.acceptance.familiarity(
            images, {k: read[k] for k in ("old", "features", "z_old", "log_variance")}
        )
        results = []
        for n in range(len(images)):
            drawings = drawn[n]
            scores = (
                read["scores"][n, read["target"][n, : len(drawings)]] + 10.0 * alike[n]
            ).astype(np.float32)
            order = np.argsort(-scores, kind="stable")
            ranked = read["best"][n, :top]
            if top > len(ranked):
                ranked = np.argsort(-read["scores"][n], kind="stable")[:top]
            ranked = ranked[np.isfinite(read["scores"][n, ranked])]
            kana = read["kana"][n]
            results.append(
                Result(
                    image=images[n],
                    strokes=[drawings[i] for i in order],
                    written=[self.characters[read["target"][n, i]] for i in order],
                    scores=scores[order],
                    pixels=painted[which[n, 0]],
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
                    new_reconstruction=painted[likely[n, 0]],
                    z_old=read["query"][n],
                    z_new=read["z_new"][n, 0],
                    uncertainty=weighted_deviation(painted[likely[n]], read["share"][n]),
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
        self, z_new, painted, which, seed, temperature
    ) -> tuple[list[list[list[np.ndarray]]], np.ndarray]:
        """Drawings of each image, N lists of S drawings, and their likeness to the pictures (N, S).

        z_new: (N, S, 64). painted, which: pictures, and the place of each sample's among them
        (N, S). A picture and a sample have one drawing, however many images share it.
        """
        number, samples = which.shape
        different = which * samples + np.arange(samples)
        _, first, place = np.unique(different, return_index=True, return_inverse=True)
        drawings, alike = write_drawings(
            self.decoder,
            z_new.reshape(-1, z_new.shape[-1])[first],
            painted[which.ravel()[first]],
            self._keys.of(seed, samples)[first % samples],
            temperature,
            total=which.size,
        )
        place = place.reshape(which.shape)
        return [[drawings[i] for i in row] for row in place], alike[place]


def weighted_deviation(pictures: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Standard deviation over pictures (K, 64, 64) weighted by share (K,): (64, 64)."""
    share = share[:, None, None]
    return np.sqrt((share * (pictures - (share * pictures).sum(0)) ** 2).sum(0))
