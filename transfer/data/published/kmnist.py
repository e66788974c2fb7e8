"""Turns Kuzushiji-MNIST and Kuzushiji-49 as published (npz, or gzipped idx) into arrays.

    kmnist.load("k49", split="test")
    # .images (N, 28, 28) uint8, .labels (N,) uint8, .code_points, .characters

Layouts: npz with one array `arr_0`; idx (a big-endian header, then bytes) as
http://yann.lecun.com/exdb/mnist/ describes. Source: http://codh.rois.ac.jp/kmnist/
"""

import csv
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transfer.data.published.kanjivg import HIRAGANA
from transfer.data.published.kkanji import code_point_of
from transfer.system.errors import DataError
from transfer.system.folders import data_folder
from transfer.system.untrusted import BROKEN, ZIP, begins, npy_header, opened_zip, unpacked

SIZE = 28
CHARACTERS = {"kmnist": "おきすつなはまやれを", "k49": HIRAGANA}
COUNTS = {
    ("kmnist", "train"): 60_000,
    ("kmnist", "test"): 10_000,
    ("k49", "train"): 232_365,
    ("k49", "test"): 38_547,
}
_LARGEST = 1 << 28  # bytes of one array; k49's train images have 182 million
_OTHER = "this is not the published file"
_LARGEST_TABLE = 1 << 16  # bytes of a class map; k49's has 697
_BAD = (*BROKEN, struct.error)


@dataclass(frozen=True)
class Kana:
    """One split of Kuzushiji-MNIST or -49.

    images: (N, 28, 28) uint8, ink 255 on paper 0; labels: (N,) uint8 class indices; code_points:
    (C,) int32 and
    characters: C strings, both by class index. C is 10 or 49.
    """

    images: np.ndarray
    labels: np.ndarray
    code_points: np.ndarray
    characters: tuple[str, ...]


def load(name: str, split: str = "train", data=None, form: str | None = None) -> Kana:
    """The images and labels of "kmnist" or "k49", split "train" or "test".

    It looks for files in the data folder (`data`, else $KUZUSHIJI_DATA, else the user's cache) and
    in its folders kmnist/ and k49/, for npz files first; `form` "npz" or "idx" allows one kind
    only. Raises DataError for another name or split, if a file is missing, damaged, holds pickled
    objects or anything but these arrays, or if images and labels do not fit each other.
    """
    folder = data_folder(data)
    images, labels = (read(p, ndim) for p, ndim in zip(_paths(folder, name, split, form), (3, 1)))
    code_points, characters = class_map(name, folder)
    check(f"{name} {split} in {folder}", images, labels, len(characters))
    return Kana(images, labels, code_points, characters)


def divided(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the four fifths of the test images that serve for training if the training images
    are missing, and of the rest, ascending."""
    shuffled = np.random.default_rng(0).permutation(count)
    return np.sort(shuffled[: count * 4 // 5]), np.sort(shuffled[count * 4 // 5 :])


def check(where: str, images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Raises DataError if images are not 28x28, or if labels do not fit them or the classes."""
    if images.shape[1:] != (SIZE, SIZE) or len(images) != len(labels):
        raise DataError(
            f"{where}: images {images.shape} and labels {labels.shape} do not fit each other; "
            "download both again"
        )
    if len(labels) and labels.max() >= classes:
        raise DataError(
            f"{where}: label {labels.max()} where there are {classes} classes; download the labels"
            " again"
        )


def present(name: str, split: str, data=None) -> bool:
    """Whether images and labels are in the data folder, in any published format."""
    folder = data_folder(data)
    return any(
        all(_find(folder, file) for file in files) for files in _names(_known(name), split).values()
    )


def load_labels(name: str, split: str = "train", data=None) -> np.ndarray:
    """Only the labels, (N,) uint8, for counts. Raises DataError as `load` does."""
    return read(_paths(data_folder(data), name, split, None, (1,))[0], 1)


def class_map(name: str, data=None) -> tuple[np.ndarray, tuple[str, ...]]:
    """((C,) int32 code points, C characters) by class index, from <name>_classmap.csv, or from a
    built-in copy if that is missing."""
    known = CHARACTERS[_known(name)]
    path = _find(data_folder(data), f"{name}_classmap.csv")
    if path is None:
        return np.array([ord(c) for c in known], np.int32), tuple(known)
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise ValueError("too large")
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        characters = tuple(str(row["char"]) for row in rows)  # a row cut short has none
        code_points = [code_point_of(row["codepoint"], path) for row in rows]
        right = [int(row["index"]) for row in rows] == list(range(len(known)))
    except (*_BAD, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: is not a class map with columns index, codepoint, char ({error}); "
            "download it again"
        ) from None
    if not right or "".join(map(chr, code_points)) != "".join(characters):
        raise DataError(
            f"{path}: its rows are not the {len(known)} classes in order, each with its own"
            " character; download it again"
        )
    return np.array(code_points, np.int32), characters


def _known(name: str) -> str:
    if name not in CHARACTERS:
        raise DataError(f"{name!r}: no such data set; choose from {', '.join(CHARACTERS)}")
    return name


def _find(folder: Path, name: str) -> Path | None:
    places = (folder, folder / "kmnist", folder / "k49")
    return next(
        (p for place in places for n in (name, *renamed(name)) if (p := place / n).is_file()), None
    )


def renamed(name: str) -> list[str]:
    """The other names of a file such as t10k-images-idx3-ubyte.gz: unpacked, and on MNIST's old
    mirrors."""
    bare = name.removesuffix(".gz")
    dotted = bare.replace("-idx", ".idx")
    return [bare, f"{dotted}.gz", dotted] if bare != name else []


def _names(name: str, split: str) -> dict[str, tuple[str, str]]:
    names = {"npz": (f"{name}-{split}-imgs.npz", f"{name}-{split}-labels.npz")}
    if name == "kmnist":
        begin = "train" if split == "train" else "t10k"
        names["idx"] = (f"{begin}-images-idx3-ubyte.gz", f"{begin}-labels-idx1-ubyte.gz")
    return names


def _paths(folder: Path, name: str, split: str, form: str | None, wanted=(0, 1)) -> list[Path]:
    if split not in ("train", "test"):
        raise DataError(f"split {split!r}: {name} is published as train and test")
    forms = _names(_known(name), split)
    if form is not None and form not in forms:
        raise DataError(f"format {form!r}: {name} is published as {' and '.join(forms)}")
    missing = []
    for kind in [form] if form else forms:
        found = [_find(folder, forms[kind][i]) for i in wanted]
        if all(found):
            return found
        missing.append([forms[kind][i] for i, path in zip(wanted, found) if path is None])
    # the kind that is nearest to complete is the one to speak of
    raise DataError(
        f"{folder}: {' and '.join(min(missing, key=len))} missing; "
        f"`python -m transfer.data download {name} --data {folder}` gets what is not there"
    )


def read(path: Path, ndim: int) -> np.ndarray:
    """An array of bytes with `ndim` axes from a published .npz file, or from an idx file, packed
    (.gz) or not. Raises DataError."""
    try:
        return _npz(path, ndim) if begins(path, ZIP) or path.suffix == ".npz" else _idx(path, ndim)
    except _BAD as error:
        raise DataError(
            f"{path}: cut short or damaged ({' '.join(str(error).split())}); download it again"
        ) from None


def _npz(path: Path, ndim: int) -> np.ndarray:
    """The array `arr_0`. Its header is checked before any memory is allocated."""
    with opened_zip(path, _LARGEST + (1 << 16), _OTHER) as archive:
        if archive.namelist() != ["arr_0.npy"]:
            raise DataError(
                f"{path}: holds {', '.join(archive.namelist()[:3]) or 'nothing'} instead of the one"
                f" array arr_0; {_OTHER}"
            )
        info = archive.infolist()[0]
        with archive.open(info) as file:
            shape, fortran, dtype = npy_header(file)
            if dtype.hasobject:
                raise DataError(
                    f"{path}: holds pickled objects, which could run a program; {_OTHER}"
                )
            _judge(path, shape, dtype, ndim, fortran)
            size = math.prod(shape)
            if file.tell() + size != info.file_size:
                raise DataError(
                    f"{path}: announces an array of {shape} in {info.file_size:,} bytes; download"
                    " it again"
                )
            content = file.read(size) + file.read(
                1
            )  # the last read meets the end and with it the checksum
    return _array(path, content, shape)


def _idx(path: Path, ndim: int) -> np.ndarray:
    with unpacked(path) as file:
        header = file.read(4 + 4 * ndim)
        if len(header) < 4 + 4 * ndim or header[:3] != b"\0\0\x08" or header[3] != ndim:
            raise DataError(
                f"{path}: does not begin as an idx file of bytes with {ndim} axes; {_OTHER}"
            )
        shape = struct.unpack(f">{ndim}I", header[4:])
        _judge(path, shape, np.dtype(np.uint8), ndim)
        content = file.read(math.prod(shape)) + file.read(1)
    return _array(path, content, shape)


def _judge(path: Path, shape: tuple, dtype, ndim: int, fortran: bool = False) -> None:
    if (
        dtype != np.uint8
        or len(shape) != ndim
        or (fortran and ndim > 1)
        or math.prod(shape) > _LARGEST
    ):
        raise DataError(
            f"{path}: holds {dtype} of shape {shape} instead of bytes with {ndim} axes; {_OTHER}"
        )


def _array(path: Path, content: bytes, shape: tuple) -> np.ndarray:
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else "less"
        raise DataError(
            f"{path}: holds {more} than the array of {shape} that it announces; download it again"
        )
    return np.frombuffer(bytearray(content), np.uint8).reshape(
        shape
    )  # a bytearray, so that it can be written to
