"""Images of cursive hiragana in the form of the old domain's kanji: those of Kuzushiji-MNIST and
-49, enlarged to 64x64.

The published training images serve for training. If only Kuzushiji-MNIST's test images are there,
8,000 of them do, and the other 2,000 (`kept`) show how well kana are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from transfer.data.published import kmnist
from transfer.data.writing.framing import SIZE
from transfer.data.writing.framing import framed as crop

INK = 48  # of 255: less is the haze around published ink


@dataclass(frozen=True)
class Hiragana:
    """images (K, 64, 64) uint8, ink 255; code_points (K,) int32."""

    images: np.ndarray
    code_points: np.ndarray


def framed(images: np.ndarray) -> np.ndarray:
    """(N, 28, 28) uint8 -> (N, 64, 64) uint8: each is cropped to its ink, whose longer side fills
    the picture."""
    out = np.zeros((len(images), SIZE, SIZE), np.uint8)
    for source, target in zip(images, out):
        ink = Image.fromarray(np.where(source > INK, source, 0))
        if (box := ink.getbbox()) is None:
            continue
        target[:] = crop(ink, box, Image.Resampling.BICUBIC)
    return out


def _hiragana(images: np.ndarray, labels: np.ndarray, code_points: np.ndarray) -> Hiragana:
    return Hiragana(framed(images), code_points[labels].astype(np.int32))


def learned(folder: Path) -> Hiragana | None:
    """The images to train on; None if the folder has none. Raises DataError if its files are
    damaged."""
    found = [
        kmnist.load(name, "train", folder)
        for name in ("k49", "kmnist")
        if kmnist.present(name, "train", folder)
    ]
    if found:
        parts = [_hiragana(k.images, k.labels, k.code_points) for k in found]
        return Hiragana(
            np.concatenate([p.images for p in parts]),
            np.concatenate([p.code_points for p in parts]),
        )
    if not kmnist.present("kmnist", "test", folder):
        return None
    test = kmnist.load("kmnist", "test", folder)
    chosen, _ = kmnist.divided(len(test.images))
    return _hiragana(test.images[chosen], test.labels[chosen], test.code_points)


def kept(folder: Path) -> Hiragana | None:
    """The 2,000 of Kuzushiji-MNIST's test images that are never trained on; None if the folder has
    none."""
    if not kmnist.present("kmnist", "test", folder):
        return None
    test = kmnist.load("kmnist", "test", folder)
    _, chosen = kmnist.divided(len(test.images))
    return _hiragana(test.images[chosen], test.labels[chosen], test.code_points)
