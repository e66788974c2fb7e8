"""Opens containers from outside, but only if unpacking them cannot take too much memory."""

import gzip
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from transfer.system.errors import DataError

ZIP, GZIP = b"PK", b"\x1f\x8b"
"""How files begin, whatever their names say: browsers unpack what they load, and people rename
files."""

BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    OverflowError,
)
"""What `zipfile` raises on damaged archives (NotImplementedError and RecursionError are
RuntimeErrors)."""

BROKEN_TAR = (
    tarfile.TarError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RuntimeError,
    MemoryError,
    IndexError,
)
"""What `tarfile` raises on damaged archives. RuntimeError: endlessly nested headers. MemoryError: a
header that claims more than memory holds. IndexError: a cut header of a sparse file."""


def beginning(path) -> bytes:
    """The first kilobyte of a file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(1024)


def begins(path, sign: bytes) -> bool:
    """Whether a file begins with `sign`. Raises OSError."""
    return beginning(path).startswith(sign)


@contextmanager
def unpacked(path) -> Iterator[BinaryIO]:
    """A file to read, through gzip if it is packed. Raises OSError, and DataError for a web page,
    packed or not."""
    with open(path, "rb") as file, gzip.open(file) if begins(path, GZIP) else file as content:
        if is_web_page(content.peek(1024)):
            raise DataError(
                f"{path}: is a web page, not the file; download it again, or from another address"
            )
        yield content


@contextmanager
def opened_zip(
    path, most: int, remedy: str = "this is not the published file"
) -> Iterator[zipfile.ZipFile]:
    """A zip archive to read. Raises DataError if its members announce more than `most` bytes
    together, if they are neither stored nor deflated, or if it is a web page. (`zipfile` unpacks
    bzip2 and LZMA a block at a time, however much comes out: gigabytes from a few kB.) `remedy`
    says what to do then. Damaged archives raise one of BROKEN."""
    if is_web_page(beginning(path)):
        raise DataError(
            f"{path}: is a web page, not the file; download it again, or from another address"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
            raise DataError(f"{path}: is not packed like ordinary zip files; {remedy}")
        if sum(m.file_size for m in members) > most:
            raise DataError(f"{path}: unpacks to more than {most >> 20} MB; {remedy}")
        yield archive


def npy_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, Fortran order, dtype) from the beginning of an .npy file of version 1 or 2. Raises
    ValueError for any other."""
    try:
        version = npy.read_magic(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version](
                file
            )
    except (
        Exception
    ) as error:  # it is Python source that NumPy tokenizes and evaluates: errors of many kinds
        raise ValueError(f"header: {error}") from None


def is_web_page(content: bytes) -> bool:
    """Whether a file begins as HTML, which servers send in place of a file that they do not
    have."""
    head = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return (
        head.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))
        or head.startswith((b"<?xml", b"<!--"))
        and b"<html" in head
    )
