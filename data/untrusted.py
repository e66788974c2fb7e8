"""Containers that come from outside, opened only where unpacking them cannot cost more memory than it may."""
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.lib import format as npy

from .errors import DataError

BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)
"""What `zipfile` raises on damaged archives (NotImplementedError and RecursionError are RuntimeErrors)."""

BROKEN_TAR = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RuntimeError, MemoryError, IndexError)
"""What `tarfile` raises on damaged archives. RuntimeError: headers nested without end; MemoryError: one that says it is larger than
memory; IndexError: one of a file with holes, cut."""


@contextmanager
def opened_zip(path, most: int, whole: str = "this is not the published file") -> Iterator[zipfile.ZipFile]:
    """A zip archive to read. Raises DataError where its members announce more than `most` bytes together, or are packed otherwise than
    stored or deflated: `zipfile` unpacks bzip2 and LZMA a block at a time however much comes out, gigabytes from a few kB. `whole` says
    what to do then. Damaged archives raise one of BROKEN."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
            raise DataError(f"{path}: is packed in another way than ordinary zip files; {whole}")
        if sum(m.file_size for m in members) > most:
            raise DataError(f"{path}: unpacks to more than {most >> 20} MB; {whole}")
        yield archive


def npy_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, Fortran order, dtype) of an .npy file, of version 1 or 2, at its beginning. Raises ValueError on any other."""
    try:
        version = npy.read_magic(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version](file)
    except Exception as error:  # it is Python source that NumPy tokenizes and evaluates: errors of many kinds
        raise ValueError(f"header: {error}") from None


def is_web_page(content: bytes) -> bool:
    """Whether a file begins as HTML: what a server sends in the place of what it does not have."""
    head = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or head.startswith((b"<?xml", b"<!--")) and b"<html" in head
