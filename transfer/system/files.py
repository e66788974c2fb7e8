"""Writes files that appear whole or not at all."""

import os
import platform
import re
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer.system.locks import process_runs

_HOST = (
    f"{zlib.crc32(platform.node().encode()):08x}"  # of a fixed length: names of files have a limit
)
_PART = re.compile(rf"\..+\.{_HOST}-(\d+)-[0-9a-f]{{12}}\.tmp", re.DOTALL)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` to write to. At the end it gets the name
    `path`; on failure it is removed.

    Raises OSError if the folder cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: str | os.PathLike) -> None:
    """Remove the temporary files in `folder` that `atomic_write` began in processes of this machine
    that were killed. Never raises OSError."""
    try:
        for entry in os.scandir(folder):
            if (found := _PART.fullmatch(entry.name)) and not process_runs(found[1]):
                os.unlink(entry.path)
    except OSError:
        pass  # they are in nobody's way
