"""A folder of arrays with a manifest, in the data folder. It is written whole or not at all, and
opened in place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from transfer.system.errors import DataError

T = TypeVar("T")


@contextmanager
def written(folder: Path, name: str, content: str) -> Iterator[Path]:
    """A new folder to write into. At the end it takes the place of <folder>/<name>; if anything
    fails, it is removed. `content` names it in errors. Raises DataError if it cannot be written."""
    part = folder / f"{name}.tmp-{os.getpid()}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        yield part
        shutil.rmtree(folder / name, ignore_errors=True)
        os.rename(part, folder / name)
    except OSError as error:
        raise DataError(
            f"{folder}: {content} cannot be written ({error.strerror or error}); free space there"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_manifest(part: Path, manifest: dict) -> None:
    text = json.dumps(manifest, indent=1) + "\n"
    (part / "manifest.json").write_text(text, encoding="utf-8")


def opened(
    folder: Path, name: str, arrays: tuple[str, ...], build: Callable[..., T], again: str
) -> T | None:
    """build(manifest, *arrays) of what `written` left, with memory-mapped arrays; None if there is
    nothing. Raises DataError if it is damaged; `again` is the command that writes it."""
    where = Path(folder) / name
    if not (where / "manifest.json").is_file():
        return None
    try:
        manifest = json.loads((where / "manifest.json").read_text("utf-8"))
        found = [
            np.load(where / f"{array}.npy", mmap_mode="r", allow_pickle=False) for array in arrays
        ]
        if len({len(array) for array in found}) > 1:
            raise ValueError("its arrays differ in length")
        return build(manifest, *found)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(
            f"{where}: cannot be read ({error}); run `python -m transfer.data {again} --data"
            f" {folder}` again"
        ) from None
