"""Names of files, folders and patterns -> the images in them, read in parallel and transferred in
batches, in order."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from transfer.inference.images import FORMATS, ImageError, read_image

if TYPE_CHECKING:
    from transfer.inference.result import Result

CHUNK = 32
"""Images that go through the models together."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One source, read: image (64, 64) uint8 and a note on it (see `inference.images.Reading`), or
    the error that says why not."""

    source: str
    image: np.ndarray | None = None
    note: str = ""
    error: ImageError | None = None


def find(names: Iterable[str | os.PathLike]) -> Iterator[str | ImageError]:
    """The files that names stand for, in order: a file itself, the pictures of a folder (by their
    suffix, not of folders in it), what a pattern such as `scans/**/*.png` matches; and an
    ImageError for a name that gives nothing."""
    endings = None
    for name in map(os.fspath, names):
        path = Path(name)
        if path.is_dir():
            if endings is None:
                endings = suffixes()
            try:
                inside = sorted(
                    p
                    for p in path.iterdir()
                    if p.suffix.lower() in endings and not p.name.startswith(".") and p.is_file()
                )
            except OSError as error:
                yield ImageError(
                    f"{name}: cannot be read ({error.strerror or error}); check its permissions"
                )
                continue
            yield from map(str, inside)
            if not inside:
                yield ImageError(
                    f"{name}: no pictures in this folder; "
                    "give one with PNG, JPEG, TIFF, WebP, BMP or GIF files in it"
                )
        elif glob.has_magic(name) and not os.path.lexists(path):
            found = [p for p in sorted(glob.glob(name, recursive=True)) if not os.path.isdir(p)]
            yield from found
            if not found:
                yield ImageError(f"{name}: matches no file; check the pattern")
        else:
            yield name


def suffixes() -> frozenset[str]:
    """Endings of the picture files that can be read, lower case, with the dot."""
    Image.init()
    return frozenset(
        ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS
    ) | {".heic", ".heif"}


def read(source: str | tuple[str, bytes] | ImageError) -> Picture:
    """Read one source: a path, a name and the bytes of a file, or an error that is passed on."""
    if isinstance(source, ImageError):
        return Picture(str(source).partition(": ")[0], error=source)
    name, content = (source, source) if isinstance(source, str) else source
    try:
        reading = read_image(content)
        return Picture(name, reading.image, reading.note)
    except ImageError as error:
        return Picture(
            name,
            error=error
            if content is name
            else ImageError(f"{name}: {str(error).partition(': ')[2]}"),
        )


def read_all(
    sources: Iterable[str | tuple[str, bytes] | ImageError], jobs: int | None = None
) -> Iterator[list[Picture]]:
    """Read sources by `jobs` threads [one a core], in order, CHUNK at a time; while one chunk is
    used the next is read."""
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        sources, waiting = iter(sources), []
        try:
            while (
                ahead := [pool.submit(read, source) for source in islice(sources, CHUNK)]
            ) or waiting:
                if waiting:
                    yield [future.result() for future in waiting]
                waiting = ahead
        finally:
            pool.shutdown(cancel_futures=True)


def transfer_pictures(
    model,
    pictures: list[Picture],
    samples: int = 10,
    seed: int = 0,
    temperature: float | None = None,
    top: int = 10,
    forms: str = "as-read",
) -> list[Result | ImageError]:
    """What became of each of up to CHUNK pictures; those that could not be read keep their error.
    samples: 0 reads without drawing."""
    good = [p.image for p in pictures if p.error is None]
    results = iter(())
    if good:
        images = np.stack(good)
        results = iter(
            model.transfer(images, samples, seed, temperature, top, forms=forms)
            if samples
            else model.read(images, top, forms=forms)
        )
    return [p.error or (dataclasses.replace(next(results), note=p.note)) for p in pictures]


def transfer_files(
    model,
    names: str | os.PathLike | Iterable[str | os.PathLike],
    samples: int = 10,
    seed: int = 0,
    temperature: float | None = None,
    top: int = 10,
    jobs: int | None = None,
    forms: str = "as-read",
) -> Iterator[tuple[Path, Result | ImageError]]:
    """See `KuzushijiTransfer.transfer_files`."""
    names = [names] if isinstance(names, (str, os.PathLike)) else names
    for pictures in read_all(find(names), jobs):
        for picture, result in zip(
            pictures, transfer_pictures(model, pictures, samples, seed, temperature, top, forms)
        ):
            yield Path(picture.source), result
