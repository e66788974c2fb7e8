"""Turns Kuzushiji-Kanji (`kkanji.tar`, or the unpacked `kkanji2/`) into images with their code
points and published names.

Layout: kkanji2/U+XXXX/<16 hex>.png, 64x64, 8-bit grey, ink 255 on 0; http://codh.rois.ac.jp/kmnist/
"""

import io
import re
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from transfer.system.errors import DataError
from transfer.system.folders import is_leftover
from transfer.system.untrusted import BROKEN_TAR, unpacked

SIZE = 64
ATTRIBUTION = (
    '"KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" (created by NIJL and'
    " others), doi:10.20676/00000341, CC BY-SA 4.0"
)
URL = "http://codh.rois.ac.jp/kmnist/dataset/kkanji/kkanji.tar"
_MAX_PNG = 1 << 16  # bytes; 64x64 grey needs 4 kB and some header
_CLASS = re.compile(r"U\+([0-9A-F]{4,6})", re.ASCII)


def code_point_of(folder: str, where) -> int:
    """'U+4E00' -> 0x4E00; raises DataError for anything that is not a code point in this form."""
    match = _CLASS.fullmatch(folder)
    value = int(match[1], 16) if match else -1
    if not 0 <= value <= 0x10FFFF or 0xD800 <= value <= 0xDFFF:
        raise DataError(
            f"{where}: class folder {folder!r} is not a code point such as U+4E00; rename or"
            " remove it"
        )
    return value


def read(
    path, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield (code_point, name such as "U+4E00/<stem>.png", (64, 64) uint8 image) from a tar or an
    unpacked folder.

    A tar is read once, in its own order; a folder in name order. `progress(done, total)` is called
    now and then, in bytes or files. Raises DataError for an archive that is damaged or cut short,
    links, members that lead out of the archive, class folders that are not code points, names that
    appear twice, and images other than 64x64 8-bit grey PNG.
    """
    path = Path(path)
    progress = progress or (lambda done, total: None)
    seen = set()
    source = _folder_files(path, progress) if path.is_dir() else _tar_files(path, progress)
    for folder, file, content, where in source:
        code_point = code_point_of(folder, where)
        name = f"{folder}/{file}"
        if name in seen:
            raise DataError(f"{where}: appears twice; remove one")
        seen.add(name)
        yield code_point, name, _decode(content, where)


def _decode(content: bytes, where: str) -> np.ndarray:
    if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) >= 24:
        # before Pillow sees it: a small file may announce a huge picture
        width, height = struct.unpack(">II", content[16:24])
        if (width, height) != (SIZE, SIZE):
            raise DataError(
                f"{where}: {width}x{height} pixels, not {SIZE}x{SIZE}; download the data set again"
            )
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.mode != "L":
                raise DataError(
                    f"{where}: mode {image.mode}, not 8-bit grey (L); download the data set again"
                )
            return np.asarray(image)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        reason = (
            "not a PNG"
            if isinstance(error, Image.UnidentifiedImageError)
            else " ".join(str(error).split())
        )
        raise DataError(
            f"{where}: cannot be decoded ({reason}); download the data set again"
        ) from None


def _parts(name: str, where: str) -> tuple[str, str] | None:
    """(class folder, file name) of a member; None for leftovers of file managers, which are
    skipped."""
    parts = PurePosixPath(name).parts or ("",)
    if is_leftover(name):
        return None
    if len(parts) < 2 or not parts[-1].lower().endswith(".png"):
        raise DataError(f"{where}: not an image kkanji2/U+XXXX/<name>.png; remove it")
    return parts[-2], parts[-1]


def _tar_files(path: Path, progress) -> Iterator[tuple[str, str, bytes, str]]:
    damaged = f"{path}: cut short or damaged; download it again from {URL}"
    try:
        with unpacked(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            total = path.stat().st_size
            while member := tar.next():
                tar.members.clear()  # it would keep all 140,000 headers
                where = f"{path}: {member.name}"
                if member.issym() or member.islnk():
                    raise DataError(f"{where}: is a link; this is not the published archive")
                if member.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", member.name):
                    raise DataError(
                        f"{where}: leads out of the archive; this is not the published archive"
                    )
                if member.isdir() or is_leftover(member.name):
                    continue
                if not member.isreg() or member.size > _MAX_PNG:
                    raise DataError(
                        f"{where}: is not a small regular file; this is not the published archive"
                    )
                parts = _parts(member.name, where)
                if parts is None:
                    continue
                content = tar.extractfile(member).read()
                if len(content) != member.size:
                    raise DataError(damaged)
                yield *parts, content, where
                progress(tar.offset, total)
            # tarfile takes a broken header, and a cut between two members, for the end
            file.seek(tar.offset)
            rest = 0
            while block := file.read(1 << 20):
                rest += len(block)
                if block.strip(b"\0"):
                    raise DataError(damaged)
            if rest < tarfile.BLOCKSIZE:
                raise DataError(damaged)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; download it from {URL}") from None
    except PermissionError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except BROKEN_TAR as error:
        raise DataError(f"{damaged} ({' '.join(str(error).split())})") from None


def _folder_files(path: Path, progress) -> Iterator[tuple[str, str, bytes, str]]:
    classes = sorted(p for p in path.iterdir() if not is_leftover(p))
    for done, folder in enumerate(classes):
        if not folder.is_dir():
            raise DataError(f"{folder}: not a class folder such as U+4E00; remove it")
        for file in sorted(p for p in folder.iterdir() if not is_leftover(p)):
            parts = _parts(f"{folder.name}/{file.name}", str(file))
            if parts is None:
                continue
            try:
                if file.stat().st_size > _MAX_PNG:
                    raise DataError(
                        f"{file}: larger than {_MAX_PNG} bytes; this is not a published image"
                    )
                content = file.read_bytes()
            except OSError as error:
                raise DataError(
                    f"{file}: cannot be read ({error.strerror}); fix or remove it"
                ) from None
            yield *parts, content, str(file)
        progress(done + 1, len(classes))
