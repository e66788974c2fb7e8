"""Reads and writes stroke-3 sets in .npz files, as the published sketch-rnn sets have them.

Two layouts. *sketch-rnn*: train, valid and test are object arrays of (n, 3) arrays, which NumPy
stores as pickles; this is what Sketch-RNN programs load (`np.load(path, encoding="latin1",
allow_pickle=True)`). *flat*: no pickle; `rows` (R, 3) and `offsets` (N + 1,) into them for all
drawings, `split` (N,) uint8 into ("train", "valid", "test"). Both add `scale` (), file units to one
box unit, and words and keys as text arrays, which other programs ignore. Pickles are never run
here: `pickled_arrays` walks through their few instructions and refuses anything but plain arrays.
Formats: https://github.com/magenta/magenta/tree/main/magenta/models/sketch_rnn, numpy.lib.format,
pickletools.
"""

import io
import math
import pickle
import zipfile
from dataclasses import dataclass, field

import numpy as np
from numpy.lib import format as npy

from transfer.data.formats import pickled_arrays
from transfer.system.errors import DataError
from transfer.system.untrusted import BROKEN, npy_header, opened_zip

SPLITS = ("train", "valid", "test")
_MAX_BYTES = 1 << 29  # unpacked; the largest published set has 100 MB


@dataclass
class Set:
    """Drawings in file units. Each list has one entry for each drawing."""

    rows: list[np.ndarray] = field(default_factory=list)  # (n, 3), first row from the origin
    splits: list[str] = field(default_factory=list)  # one of SPLITS
    words: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    scale: float | None = None  # file units to one box unit; None: the file does not say


def write(file, drawings: Set, layout: str = "sketch-rnn") -> None:
    """Write a set to a binary file in the layout "sketch-rnn" or "flat"; rows keep their dtype."""
    arrays = {"scale": np.float64(drawings.scale or 1)}
    if layout == "flat":
        arrays["rows"] = np.concatenate(
            [
                np.zeros((0, 3), np.float32 if not drawings.rows else drawings.rows[0].dtype),
                *drawings.rows,
            ]
        )
        arrays["offsets"] = np.cumsum([0, *map(len, drawings.rows)]).astype(np.int64)
        arrays["split"] = np.array([SPLITS.index(s) for s in drawings.splits], np.uint8)
        arrays["words"], arrays["keys"] = _texts(drawings.words), _texts(drawings.keys)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in SPLITS if layout == "sketch-rnn" else ():
            chosen = [i for i, s in enumerate(drawings.splits) if s == split]
            _member(archive, split, _pickled([drawings.rows[i] for i in chosen]))
            arrays[f"{split}_words"] = _texts([drawings.words[i] for i in chosen])
            arrays[f"{split}_keys"] = _texts([drawings.keys[i] for i in chosen])
        for name, array in arrays.items():
            content = io.BytesIO()
            npy.write_array(content, np.asarray(array), allow_pickle=False)
            _member(archive, name, content.getvalue())


def read(path) -> Set:
    """Read either layout. Raises DataError for a file that is damaged or too large, that is not
    stroke-3, or that holds any other pickle."""
    try:
        with opened_zip(path, _MAX_BYTES, "split the file") as archive:
            names = {
                name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")
            }

            def get(name):
                return (
                    _array(archive.read(f"{name}.npy"), f"{path}: {name}")
                    if name in names
                    else None
                )

            return _flat(path, get) if "rows" in names else _sketch_rnn(path, get, names)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except BROKEN as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: cannot be read, or damaged ({reason}); fetch it again") from None


def _sketch_rnn(path, get, names) -> Set:
    if not any(s in names for s in SPLITS):
        raise DataError(
            f"{path}: has none of the arrays train, valid and test; this is not a sketch-rnn set"
        )
    result = Set(scale=_scale(path, get("scale")))
    for split in SPLITS:
        drawings = get(split)
        if drawings is None:
            continue
        where = f"{path}: {split}"
        rows = [_rows(d, f"{where} drawing {i}") for i, d in enumerate(drawings)]
        result.rows += rows
        result.splits += [split] * len(rows)
        result.words += _labels(get(f"{split}_words"), len(rows), f"{where}_words")
        result.keys += _labels(get(f"{split}_keys"), len(rows), f"{where}_keys")
    return result


def _flat(path, get) -> Set:
    rows = _rows(get("rows"), f"{path}: rows")
    offsets, split = get("offsets"), get("split")
    if (
        not _is_integers(offsets)
        or not len(offsets)
        or offsets[0] != 0
        or offsets[-1] != len(rows)
        or (np.diff(offsets.astype(np.int64)) < 0).any()
    ):
        raise DataError(f"{path}: offsets do not cut rows into drawings; fetch the file again")
    count = len(offsets) - 1
    if (
        not _is_integers(split)
        or len(split) != count
        or count
        and not (0 <= split.min() and split.max() < len(SPLITS))
    ):
        raise DataError(
            f"{path}: split is not a number from 0 to 2 for each drawing; fetch the file again"
        )
    return Set(
        [rows[a:b] for a, b in zip(offsets, offsets[1:])],
        [SPLITS[s] for s in split],
        _labels(get("words"), count, f"{path}: words"),
        _labels(get("keys"), count, f"{path}: keys"),
        _scale(path, get("scale")),
    )


def _is_integers(array) -> bool:
    return isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "iu"


def _rows(array, where: str) -> np.ndarray:
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 2
        or array.shape[1] != 3
        or array.dtype.kind not in "iuf"
    ):
        raise DataError(f"{where} is not an (n, 3) array of numbers; this is not stroke-3")
    return array


def _labels(array, count: int, where: str) -> list[str]:
    if array is None:
        return [""] * count
    if not isinstance(array, np.ndarray) or array.dtype.kind != "U" or array.shape != (count,):
        raise DataError(f"{where} is not one text for each drawing; fetch the file again")
    # NumPy makes texts of any numbers, which Python then cannot read.
    numbers = np.frombuffer(
        np.ascontiguousarray(array).tobytes(),
        array.dtype.byteorder.replace("=", "<").replace("|", "<") + "u4",
    )
    if len(numbers) and numbers.max() > 0x10FFFF:
        raise DataError(f"{where} holds something that is not text; fetch the file again")
    return array.tolist()


def _scale(path, array) -> float | None:
    if array is None:
        return None
    if (
        not isinstance(array, np.ndarray)
        or array.shape != ()
        or array.dtype.kind not in "iuf"
        or not (math.isfinite(array) and array > 0)
    ):
        raise DataError(f"{path}: scale is not one number above 0; fetch the file again")
    return float(array)


def _texts(values) -> np.ndarray:
    return np.array([v.rstrip("\0") for v in values], np.str_) if values else np.zeros(0, "<U1")


# Members ------------------------------------------------------------------------------------------


def _member(archive, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(
        f"{name}.npy", (1980, 1, 1, 0, 0, 0)
    )  # the same input gives the same bytes
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as member:
        member.write(content)


def _pickled(arrays: list[np.ndarray]) -> bytes:
    """An object array in the .npy format that every NumPy can load: NumPy 2's new module name would
    shut out NumPy 1."""
    objects = np.empty(len(arrays), object)
    for i, array in enumerate(arrays):
        objects[i] = np.ascontiguousarray(array)
    content = io.BytesIO()
    npy.write_array_header_1_0(
        content, {"descr": "|O", "fortran_order": False, "shape": objects.shape}
    )
    new, old = b"\x80\x03cnumpy._core.multiarray\n", b"\x80\x03cnumpy.core.multiarray\n"
    dump = pickle.dumps(objects, protocol=3)
    return content.getvalue() + (old + dump[len(new) :] if dump.startswith(new) else dump)


def _array(content: bytes, where: str):
    """A .npy member as a NumPy array, or as a list of arrays if it holds objects."""
    file = io.BytesIO(content)
    try:
        shape, fortran, dtype = npy_header(file)
        if dtype.hasobject:
            array = pickled_arrays.load(content[file.tell() :])
            if array.dtype != "O" or len(array.shape) not in (1, 3):
                raise ValueError("not a list of arrays")
            if (
                len(array.shape) == 3
            ):  # a single drawing, or drawings of one length, are taken for one array by NumPy
                return list(array.array())
            different = {
                id(item): item for item in array.content
            }  # a memo can repeat one without end
            read = {key: pickled_arrays.numbers(item) for key, item in different.items()}
            arrays = [read[id(item)] for item in array.content]
            if (
                sum(a.nbytes for a in arrays if a is not None) > _MAX_BYTES
            ):  # a small pickle can repeat one array
                raise ValueError(f"more than {_MAX_BYTES >> 20} MB")
            return arrays
        if (
            dtype.kind not in "iufU"
            or math.prod(shape) * dtype.itemsize != len(content) - file.tell()
        ):
            raise ValueError("its size or type is not what its header says")
        flat = np.frombuffer(content, dtype, offset=file.tell())
        array = flat.reshape(shape, order="F" if fortran else "C")
        if array.ndim == 3 and len(array) > len(
            content
        ):  # drawings without points cost nothing there, but much here
            raise ValueError(f"{len(array)} empty drawings")
        return (
            list(array) if array.ndim == 3 else array
        )  # equally long drawings may be stored as one array
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise DataError(
            f"{where}: no plain array, or damaged ({' '.join(str(error).split())[:120]}); "
            "nothing of it was run; save each split as an object array of (n, 3) arrays of numbers"
        ) from None
