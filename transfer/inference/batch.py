"""Turns names of files, folders and patterns into images, and these into results, in order.

Images are read in parallel and go through the models in batches.
"""

from __future__ import annotations

import dataclasses
import glob
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from transfer.inference.images import FORMATS, ImageError, read_image
from transfer.reading_aids import FormChoice

if TYPE_CHECKING:
    from transfer.inference.result import Result

CHUNK = 32
"""Images that go through the models together."""
MANY = 160
"""Files from which on processes read them: to start one takes as long as to read fifty."""
MOST = 8
"""Processes that read where nobody says how many: each takes some 100 MB."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One source that was read, or that could not be read.

    source: its name.
    image: (64, 64) uint8, ink 255 on paper 0; None if it could not be read.
    note: one line on what a user should know (`inference.images.Reading`), or "".
    error: why it could not be read, or None.
    """

    source: str
    image: np.ndarray | None = None
    note: str = ""
    error: ImageError | None = None


def find(names: Iterable[str | os.PathLike]) -> Iterator[str | ImageError]:
    """The files that names stand for, in order.

    A file stands for itself. A folder stands for the pictures in it, told by their suffix, but not
    for those in its folders. A pattern such as `scans/**/*.png` stands for what it matches. A name
    that stands for nothing gives an ImageError, which is yielded and not raised.
    """
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
    """The endings of picture files that can be read, in lower case and with the dot."""
    Image.init()
    return frozenset(
        ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS
    ) | {".heic", ".heif"}


def read(source: str | tuple[str, bytes] | ImageError) -> Picture:
    """Read one source.

    source: a path; a name and the bytes of a file; or an error, which is passed on.
    """
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
    sources: Iterable[str | tuple[str, bytes] | ImageError],
    jobs: int | None = None,
    processes: bool = False,
) -> Iterator[list[Picture]]:
    """Read sources in order, CHUNK at a time; while one chunk is used, the next is read.

    sources: as `read` takes them.
    jobs: threads that read; None for one a core.
    processes: whether processes read instead of threads, of which one holds up the others, where
    there are more than MANY sources. Their parent's main module must be one that can be imported.
    """
    sources, waiting, cores = iter(sources), [], os.cpu_count() or 1
    first = list(islice(sources, MANY + 1)) if processes and (jobs or cores) > 1 else []
    sources, many = chain(first, sources), len(first) > MANY
    with readers(jobs or min(cores, MOST)) if many else ThreadPoolExecutor(jobs or cores) as pool:
        try:
            while (
                ahead := [pool.submit(read, source) for source in islice(sources, CHUNK)]
            ) or waiting:
                if waiting:
                    yield [future.result() for future in waiting]
                waiting = ahead
        finally:
            pool.shutdown(cancel_futures=True)


def readers(jobs: int) -> ProcessPoolExecutor:
    """Processes that read, and end with this one."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin_to_read)


def _begin_to_read() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends the readers
    parent = multiprocessing.parent_process()

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def transfer_pictures(
    model,
    pictures: list[Picture],
    samples: int = 10,
    seed: int = 0,
    temperature: float | None = None,
    top: int = 10,
    forms: FormChoice = "as-read",
) -> list[Result | ImageError]:
    """The result of each picture; those that could not be read keep their error.

    model: a `KuzushijiTransfer`.
    pictures: CHUNK at most.
    samples: drawings of each; 0 reads without drawing.
    seed, temperature, top: as in `KuzushijiTransfer.transfer`.
    """
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
    forms: FormChoice = "as-read",
) -> Iterator[tuple[Path, Result | ImageError]]:
    """See `KuzushijiTransfer.transfer_files`."""
    names = [names] if isinstance(names, (str, os.PathLike)) else names
    for pictures in read_all(find(names), jobs):
        for picture, result in zip(
            pictures, transfer_pictures(model, pictures, samples, seed, temperature, top, forms)
        ):
            yield Path(picture.source), result
