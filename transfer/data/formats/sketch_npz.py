"""Stroke-3 sets in .npz files, as the published sketch-rnn sets have them, and back.

Two layouts. *sketch-rnn*: train, valid and test are object arrays of (n, 3) arrays, which NumPy
stores as pickles; this is what Sketch-RNN programs load (`np.load(path, encoding="latin1",
allow_pickle=True)`). *flat*: no pickle; `rows` (R, 3) and `offsets` (N + 1,) into them for all
drawings, `split` (N,) uint8 into ("train", "valid", "test"). Both add `scale` (), file units to one
box unit, and words and keys as text arrays, which other programs do not look at. Pickles are never
run here: their few instructions are walked through and anything but plain arrays is refused.
Formats: https://github.com/magenta/magenta/tree/main/magenta/models/sketch_rnn, numpy.lib.format,
pickletools.
"""

import io
import math
import pickle
import pickletools
import re
import zipfile
from dataclasses import dataclass, field

import numpy as np
from numpy.lib import format as npy

from transfer.system.errors import DataError
from transfer.system.untrusted import BROKEN, npy_header, opened_zip

SPLITS = ("train", "valid", "test")
_MAX_BYTES = 1 << 29  # unpacked; the largest published set has 100 MB
_MAX_STEPS = 10_000_000  # instructions of one pickle, some thirty a drawing


@dataclass
class Set:
    """Drawings in file units; all lists have one entry a drawing."""

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
    """Read either layout. Raises DataError for what is damaged, too large, no stroke-3, or any
    other pickle."""
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
        raise DataError(f"{where} holds what is no text; fetch the file again")
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
    """An object array in the .npy format, loadable by every NumPy: NumPy 2's new module name would
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
    """A .npy member into a NumPy array, or a list of arrays where it holds objects."""
    file = io.BytesIO(content)
    try:
        shape, fortran, dtype = npy_header(file)
        if dtype.hasobject:
            array = _Pickle(content[file.tell() :]).load()
            if array.dtype != "O" or len(array.shape) not in (1, 3):
                raise ValueError("not a list of arrays")
            if (
                len(array.shape) == 3
            ):  # a single drawing, or drawings of one length, are taken for one array by NumPy
                return list(array.array())
            different = {
                id(item): item for item in array.content
            }  # a memo can repeat one without end
            read = {key: _numbers(item) for key, item in different.items()}
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


class _Array:
    """An array as a pickle describes it."""

    def build(self, state) -> None:
        _, self.shape, dtype, self.fortran, self.content = state
        self.dtype = dtype.code if isinstance(dtype, _Type) else None
        if (
            not isinstance(self.shape, tuple)
            or len(self.shape) > 3
            or not all(isinstance(n, int) and 0 <= n <= _MAX_BYTES for n in self.shape)
        ):
            raise ValueError("an array without a shape")
        if self.dtype == "O" and not (
            isinstance(self.content, list) and len(self.content) == math.prod(self.shape)
        ):
            raise ValueError("an array of objects without objects")

    def array(self) -> np.ndarray:
        if self.dtype == "O":
            return _plain(self.content).reshape(self.shape)
        if not isinstance(self.content, bytes):
            raise ValueError("a drawing that is no array of numbers")
        return np.frombuffer(self.content, self.dtype).reshape(
            self.shape, order="F" if self.fortran else "C"
        )


def _numbers(item) -> np.ndarray | None:
    """A drawing: an array, or rows as lists of numbers; None for anything else."""
    if isinstance(item, _Array):
        return item.array()
    if (
        isinstance(item, list)
        and item
        and all(isinstance(row, (list, tuple)) and len(row) == 3 for row in item)
    ):
        return _plain([value for row in item for value in row]).reshape(-1, 3)
    return None


def _plain(values: list) -> np.ndarray:
    """Python's numbers, or NumPy's one by one, as float64."""
    if not all(
        type(value) in (int, float, bool) and abs(value) < 1e30 or isinstance(value, np.number)
        for value in values
    ):
        raise ValueError("a drawing that is no array of numbers")
    return np.array(values, np.float64)


class _Type:
    """A dtype as a pickle describes it."""

    def __init__(self, code):
        match = re.fullmatch(r"(O|[iuf])([1248]?)", code) if isinstance(code, str) else None
        if not match or match[1] != "O" and not match[2]:
            # Other than text is not shown: nested tuples that share their parts can be endless as
            # text.
            raise ValueError(
                f"type {code[:40]!r}" if isinstance(code, str) else "a type that is no text"
            )
        self.code = "O" if match[1] == "O" else code

    def build(self, state) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in tuple("<>|="):
            raise ValueError("a type without byte order")
        if self.code != "O":
            self.code = state[1] + self.code


class _Pickle:
    """Walks through the instructions of a pickle that holds nothing but arrays; everything else is
    a ValueError."""

    NAMES = {
        "numpy.core.multiarray _reconstruct": "array",
        "numpy._core.multiarray _reconstruct": "array",
        "numpy.core.numeric _frombuffer": "buffer",
        "numpy._core.numeric _frombuffer": "buffer",
        "numpy.core.multiarray scalar": "scalar",
        "numpy._core.multiarray scalar": "scalar",
        "numpy ndarray": "ndarray",
        "numpy dtype": "dtype",
        "_codecs encode": "encode",
    }
    PUSH = {
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "INT",
        "LONG",
        "BINSTRING",
        "SHORT_BINSTRING",
        "STRING",
        "BINFLOAT",
        "FLOAT",
        "BYTEARRAY8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "UNICODE",
    }
    VALUES = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None, "EMPTY_TUPLE": ()}

    def __init__(self, content: bytes):
        self.content, self.stack, self.marks, self.memo = content, [], [], {}
        self.spent = 0

    def load(self) -> _Array:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.content)):
            if opcode.name == "STOP":
                break
            if number > _MAX_STEPS:
                raise ValueError(f"more than {_MAX_STEPS:,} instructions")
            self.step(opcode.name, argument)
        if len(self.stack) != 1 or not isinstance(self.stack[0], _Array):
            raise ValueError("a pickle that is no array")
        return self.stack[0]

    def since_mark(self) -> list:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def step(self, name: str, argument) -> None:
        stack = self.stack
        if name in self.PUSH:
            stack.append(argument)
        elif name in self.VALUES:
            stack.append(self.VALUES[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "LIST":
            stack.append(self.since_mark())
        elif name in ("APPEND", "APPENDS"):
            items = self.since_mark() if name == "APPENDS" else [stack.pop()]
            if not isinstance(stack[-1], list):
                raise ValueError("items for no list")
            stack[-1].extend(items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                names = stack[-2:]
                if not all(isinstance(part, str) for part in names):
                    raise ValueError("a name that is no text")
                del stack[-2:]
                argument = " ".join(names)
            if argument not in self.NAMES:
                raise ValueError(f"it asks for {argument.replace(' ', '.')!r}")
            stack.append(_Name(self.NAMES[argument]))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self.call(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], (_Array, _Type)):
                raise ValueError("state for no array")
            if isinstance(stack[-1], _Array) and isinstance(state[-1], str):  # written by Python 2
                state = (*state[:-1], self.encoded(state[-1]))
            stack[-1].build(state)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"instruction {name}")

    def call(self, function, arguments):
        name = function.name if isinstance(function, _Name) else None
        if name == "array":
            return _Array()
        if name == "dtype":
            return _Type(arguments[0])
        if name == "buffer":  # protocol 5
            content, dtype, shape, order = arguments
            array = _Array()
            array.build(
                (
                    1,
                    shape,
                    dtype,
                    order == "F",
                    bytes(content) if isinstance(content, bytearray) else content,
                )
            )
            return array
        if name == "scalar":
            dtype, content = arguments
            if not isinstance(dtype, _Type) or dtype.code == "O":
                raise ValueError("a number without a type")
            content = (
                self.encoded(content) if isinstance(content, str) else content
            )  # written by Python 2
            return np.frombuffer(content, dtype.code)[0]
        if name == "encode" and arguments[1:] == ("latin1",):
            return self.encoded(arguments[0])
        raise ValueError("a call")

    def encoded(self, text: str) -> bytes:
        self.spent += len(text)
        if self.spent > len(
            self.content
        ):  # each text once; a memo could have it encoded without end
            raise ValueError("one text used again and again")
        return text.encode("latin1")


@dataclass(frozen=True)
class _Name:
    name: str
