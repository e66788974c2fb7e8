"""Turns MNIST as published (gzipped idx) into arrays, for comparison: handwritten digits, 28x28,
60,000 for training and 10,000 for testing.

    mnist.load("test")   ->   .images (N, 28, 28) uint8, .labels (N,) uint8, .characters "0".."9"

The four files are in the folder mnist/ of the data folder, because Kuzushiji-MNIST's have the same
names. Source: http://yann.lecun.com/exdb/mnist/
"""

import numpy as np

from transfer.data.published.kmnist import Kana, check, read, renamed
from transfer.system.errors import DataError
from transfer.system.folders import data_folder

DIGITS = "0123456789"
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def load(split: str = "train", data=None) -> Kana:
    """The images and labels of split "train" or "test". Raises DataError if a file is missing,
    damaged or does not fit the others."""
    if split not in ("train", "test"):
        raise DataError(f"split {split!r}: mnist is published as train and test")
    folder = data_folder(data) / "mnist"
    begin = "train" if split == "train" else "t10k"
    names = [f"{begin}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    paths = [
        next((p for n in (name, *renamed(name)) if (p := folder / n).is_file()), None)
        for name in names
    ]
    missing = [name for name, path in zip(names, paths) if path is None]
    if missing:
        raise DataError(
            f"{folder}: {' and '.join(missing)} missing; put the four published files there, e.g."
            f" from {MIRROR}"
        )
    images, labels = (read(path, ndim) for path, ndim in zip(paths, (3, 1)))
    check(f"mnist {split} in {folder}", images, labels, len(DIGITS))
    return Kana(images, labels, np.array([ord(c) for c in DIGITS], np.int32), tuple(DIGITS))
