"""Finds onnxruntime-web, which runs the models in a browser, checks it, and returns its files as
bytes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from transfer.system.errors import DataError

PACKAGE = "onnxruntime-web"
WANTED = "1"
"""The version to request from npm: the newest 1.x."""
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of its folder `dist`: all that models on the CPU need."""
PLACES = ("", "package", f"node_modules/{PACKAGE}", PACKAGE)
"""Where the package may be inside a named folder."""
SECONDS = 600
LARGEST = 200_000_000
"""The most bytes of one file in an archive."""
HOW = f"give --runtime PATH: an unpacked npm package {PACKAGE}, or what `npm pack {PACKAGE}` makes"


@dataclasses.dataclass(frozen=True)
class Runtime:
    """version: of the package, "" if it does not say. files: their names and bytes."""

    version: str
    files: dict[str, bytes]


def gather(named: Path | None) -> Runtime:
    """The runtime's files: from a folder or a .tgz, or, if none is named, from npm.

    Raises DataError, which says what is missing and what to do.
    """
    if named is None:
        return fetched()
    if named.is_dir():
        return of_folder(named)
    if not named.exists():
        raise DataError(f"{named}: no such file or folder; {HOW}")
    return of_archive(named)


def fetched() -> Runtime:
    """The runtime from npm, which fetches it into a temporary folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm, which fetches {PACKAGE}, is not installed; install it, or {HOW}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--fetch-retries=1"]  # else a minute without a network
        command += [f"{PACKAGE}@{WANTED}", "--pack-destination", folder]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, encoding="utf-8", timeout=SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DataError(f"npm could not fetch {PACKAGE} ({error}); {HOW}") from None
        archives = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            reason = " ".join((done.stderr or done.stdout).split())[:200]
            raise DataError(f"npm could not fetch {PACKAGE} ({reason}); {HOW}")
        return of_archive(archives[-1])


def of_folder(folder: Path) -> Runtime:
    """The runtime from an unpacked package, from the folder that holds it, or from its `dist`."""

    def read(name: str) -> bytes | None:
        path = base / name
        return path.read_bytes() if path.is_file() else None

    for place in PLACES:
        base = folder / place
        if (base / "dist").is_dir():
            return checked(read, str(folder))
    base = folder.parent if folder.name == "dist" else folder
    return checked(read, str(folder))


def of_archive(path: Path) -> Runtime:
    """The runtime from a .tgz as npm makes it."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = {member.name: member for member in archive if member.isfile()}

            def read(name: str) -> bytes | None:
                member = members.get(f"package/{name}")
                if member is None or member.size > LARGEST:
                    return None
                return archive.extractfile(member).read()

            return checked(read, str(path))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: is not an npm package, or is cut short ({error}); {HOW}"
        ) from None


def checked(read: Callable[[str], bytes | None], name: str) -> Runtime:
    """What `read` returns of the package's files. Raises DataError if one is missing or cut
    short."""
    files = {}
    for file in FILES:
        content = read(f"dist/{file}")
        if not content:
            raise DataError(f"{name}: has no {file}; {HOW}")
        if file.endswith(".wasm") and not content.startswith(b"\0asm"):
            raise DataError(f"{name}: {file} is damaged; fetch it again, or {HOW}")
        files[file] = content
    if licence := read("LICENSE"):
        files["LICENSE"] = licence
    try:
        version = str(json.loads(read("package.json") or b"{}").get("version", ""))
    except ValueError:
        version = ""
    return Runtime(version, files)
