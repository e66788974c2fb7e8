"""Old hands for a candidate: how old hands wrote a kanji, the form nearest to the image first.

`Prototypes` are a few z_old of every kanji that ship beside the weights; the old VAE paints them.
`TrainingImages` are the images themselves, if there is a data folder. z_old decides which is
nearest.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.data.corpus import Corpus
from transfer.data.published.kkanji import ATTRIBUTION
from transfer.output.drawn import OldHand
from transfer.stages.encoding import Network
from transfer.system.batches import in_batches
from transfer.system.devices import float32
from transfer.system.programs import Program
from transfer.training import weights
from transfer.training.weights import WeightsError

FILE = "prototypes"
MOST = 4
"""How many old hands of a kanji are shown."""
SIZES = (8, 40)
"""Numbers of pictures for which programs are compiled: of a few kanji, and of ten."""
KEPT = 1000
"""Kanji whose pictures (or latents of images) are kept in memory: some 20 MB."""
LOOKED_AT = 200
"""How many images of a kanji are encoded: all images of a common kanji would take too long for a
reader."""


class Prototypes:
    """Prototypes of z_old, and the old VAE that paints them.

    code_points: (P,) int32, ascending. z_old: (P, 64) float32. books: (P,) bool, whether they
    represent images of books, or fonts and made hands. arrays: as they are in the file.
    """

    source = "painted"
    attribution = ""

    def __init__(self, arrays: dict[str, np.ndarray], old: Network):
        """arrays: as `pack` makes them and `weights.load` reads them."""
        self.arrays = arrays
        self.code_points, self.books = arrays["code_points"], arrays["books"] > 0
        self.z_old = arrays["z"].astype(np.float32) * arrays["scale"]
        self._params, self._kept = old.params, {}

        def paint(params, z):
            ink = jax.nn.sigmoid(nnx.merge(old.graph, params).decode(z))
            return jnp.rint(255 * ink).astype(jnp.uint8)

        self._paint = Program("prototypes", lambda: paint, old.about)

    @classmethod
    def load(cls, folder: Path, old: Network) -> Prototypes | None:
        """The prototypes of a weights or runs folder; None if it has none that belong to its old
        VAE.

        Warns if the file belongs to another VAE. Raises WeightsError if it is damaged.
        """
        if not weights.exists(folder, FILE):
            return None
        path = weights.find(folder, FILE)
        arrays, described = read(path)
        if not belongs(described, weights.find(folder, "vae_old")):
            warnings.warn(
                f"{path}: belongs to another vae_old.safetensors, so it is not used; "
                f"run experiments/make_prototypes.py --weights {folder}",
                stacklevel=3,
            )
            return None
        if arrays["z"].shape[1] != old.params["mean"]["bias"].shape[0]:
            raise _damaged(path)
        return cls(arrays, old)

    @float32
    def of(
        self, characters: list[str], z_old: np.ndarray, most: int = MOST
    ) -> list[tuple[OldHand, ...]]:
        """Up to `most` painted forms of each character, nearest to z_old (64,) first; none for a
        character without prototypes."""
        rows = {c: np.flatnonzero(self.code_points == ord(c)) for c in dict.fromkeys(characters)}
        new = {c: place for c, place in rows.items() if len(place) and c not in self._kept}
        if new:
            z = self.z_old[np.concatenate(list(new.values()))]
            painted = in_batches(lambda part: self._paint(self._params, part), z, SIZES)
            ends = np.cumsum([len(place) for place in new.values()])
            _keep(self._kept, dict(zip(new, np.split(painted, ends[:-1]))), rows)
        return [
            tuple(
                OldHand(self._kept[c][i], far, "books" if self.books[rows[c][i]] else "fonts")
                for i, far in nearest(self.z_old[rows[c]], z_old, most)
            )
            for c in characters
        ]


class TrainingImages:
    """The training images of a data folder, encoded kanji by kanji on demand.

    attribution: the credit shown with them; "" if they are not the published ones.
    """

    source = "images"

    def __init__(self, corpus: Corpus, old_graph, old_params: dict):
        """old_graph, old_params: of the old VAE, which also reads the user's images."""
        self._old, self._params, self._kept = corpus.old, old_params, {}
        self._rows = by_kanji(corpus.old.code_points, corpus.old.indices("train"))
        published = not corpus.is_sample and "kkanji.tar" in corpus.manifest["sources"]
        self.attribution = ATTRIBUTION if published else ""
        self._encode = jax.jit(
            lambda params, x: nnx.merge(old_graph, params).encode(x.astype(jnp.float32) / 255)[0]
        )

    @float32
    def of(
        self, characters: list[str], z_old: np.ndarray, most: int = MOST
    ) -> list[tuple[OldHand, ...]]:
        """Up to `most` training images of each character, nearest to z_old (64,) first; none for a
        character without any."""
        rows = {c: self._rows.get(ord(c), ()) for c in dict.fromkeys(characters)}
        new = {c: place for c, place in rows.items() if len(place) and c not in self._kept}
        if new:
            images = self._old.images[np.concatenate(list(new.values()))]
            found = in_batches(lambda part: self._encode(self._params, part), images, (32, 256))
            ends = np.cumsum([len(place) for place in new.values()])
            _keep(self._kept, dict(zip(new, np.split(found, ends[:-1]))), rows)
        return [
            tuple(
                OldHand(
                    np.array(self._old.images[row := rows[c][i]]),
                    far,
                    name=str(self._old.names[row]),
                )
                for i, far in nearest(self._kept.get(c, np.zeros((0, len(z_old)))), z_old, most)
            )
            for c in characters
        ]


def by_kanji(code_points: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Rows (n,) of images by the code point that they show (of all, (N,)): at most LOOKED_AT of
    each, spread evenly."""
    points = np.asarray(code_points)[rows]
    order = np.argsort(points, kind="stable")
    known, start = np.unique(points[order], return_index=True)
    found = dict(zip(known.tolist(), np.split(rows[order], start[1:])))
    for point, own in found.items():
        count = min(len(own), LOOKED_AT)
        found[point] = own[np.arange(count) * len(own) // count]
    return found


def _keep(kept: dict, new: dict, needed: dict) -> None:
    """Add what is new. Beyond KEPT, the oldest that is not needed now is dropped."""
    kept |= new
    for name in [n for n in kept if n not in needed][: max(0, len(kept) - KEPT)]:
        del kept[name]


def nearest(z: np.ndarray, query: np.ndarray, most: int) -> list[tuple[int, float]]:
    """Places in z (n, 64) of the `most` latents nearest to the query (64,), and their distances,
    the nearest first."""
    distance = np.sqrt(((z - query) ** 2).sum(1))
    return [(int(i), float(distance[i])) for i in np.argsort(distance, kind="stable")[:most]]


# The file -----------------------------------------------------------------------------------------


def pack(code_points: np.ndarray, z_old: np.ndarray, books: np.ndarray) -> dict[str, np.ndarray]:
    """The file's arrays: z_old (P, 64) in 255 steps, with a scale for each of its axes."""
    order = np.argsort(code_points, kind="stable")
    scale = (np.maximum(np.abs(z_old).max(0), 1e-6) / 127).astype(np.float16).astype(np.float32)
    return {
        "code_points": code_points[order].astype(np.int32),
        "z": np.rint(z_old[order] / scale).clip(-127, 127).astype(np.int8),
        "scale": scale,
        "books": books[order].astype(np.uint8),
    }


def save(path: Path, arrays: dict, described: dict, vae_old: Path) -> None:
    """Write the file, whole or not at all. vae_old: the weights that paint the prototypes; the file
    records their sha256."""
    config = described["config"] | {"vae_old": weights.checksum(vae_old)}
    weights.save(path, {}, arrays, described | {"config": config}, np.float16)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The file's arrays and its metadata. Raises WeightsError if it is damaged."""
    _, arrays, described = weights.load(path)
    try:
        points, z, scale, books = (arrays[k] for k in ("code_points", "z", "scale", "books"))
        right = (
            (points.dtype, z.dtype, books.dtype) == (np.int32, np.int8, np.uint8)
            and z.ndim == 2
            and points.shape == books.shape == z.shape[:1]
            and scale.shape == z.shape[1:]
            and np.isfinite(scale).all()
        )
    except (KeyError, AttributeError):
        right = False
    if not right:
        raise _damaged(path)
    return arrays, described


def belongs(described: dict, vae_old: Path) -> bool:
    """Whether a file with this metadata was made for a vae_old.safetensors."""
    return described["config"].get("vae_old") == weights.checksum(vae_old)


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: holds no prototypes of old hands; make them again with "
        "experiments/make_prototypes.py, or delete the file"
    )
