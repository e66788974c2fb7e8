"""Reads arrays from a pickle without running it: it walks through the few instructions and refuses
anything but plain arrays. Formats: pickletools, numpy.lib.format."""

import math
import pickletools
import re
from dataclasses import dataclass

import numpy as np

_LARGEST = 1 << 29  # of a side of an array
_MAX_STEPS = 10_000_000  # instructions of one pickle, some thirty a drawing


def load(content: bytes) -> "PickledArray":
    """The one array in a pickle. For anything else it raises ValueError, or whatever broken
    instructions raise."""
    return _Pickle(content).load()


def numbers(item) -> np.ndarray | None:
    """A drawing: an array, or rows as lists of numbers; None for anything else."""
    if isinstance(item, PickledArray):
        return item.array()
    if (
        isinstance(item, list)
        and item
        and all(isinstance(row, (list, tuple)) and len(row) == 3 for row in item)
    ):
        return _plain([value for row in item for value in row]).reshape(-1, 3)
    return None


class PickledArray:
    """An array as a pickle describes it."""

    def build(self, state) -> None:
        _, self.shape, dtype, self.fortran, self.content = state
        self.dtype = dtype.code if isinstance(dtype, _Type) else None
        if (
            not isinstance(self.shape, tuple)
            or len(self.shape) > 3
            or not all(isinstance(n, int) and 0 <= n <= _LARGEST for n in self.shape)
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
    """Walks through the instructions of a pickle that holds nothing but arrays. Everything else is
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

    def load(self) -> PickledArray:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.content)):
            if opcode.name == "STOP":
                break
            if number > _MAX_STEPS:
                raise ValueError(f"more than {_MAX_STEPS:,} instructions")
            self.step(opcode.name, argument)
        if len(self.stack) != 1 or not isinstance(self.stack[0], PickledArray):
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
            if not isinstance(stack[-1], (PickledArray, _Type)):
                raise ValueError("state for no array")
            if isinstance(stack[-1], PickledArray) and isinstance(
                state[-1], str
            ):  # written by Python 2
                state = (*state[:-1], self.encoded(state[-1]))
            stack[-1].build(state)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"instruction {name}")

    def call(self, function, arguments):
        name = function.name if isinstance(function, _Name) else None
        if name == "array":
            return PickledArray()
        if name == "dtype":
            return _Type(arguments[0])
        if name == "buffer":  # protocol 5
            content, dtype, shape, order = arguments
            array = PickledArray()
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
