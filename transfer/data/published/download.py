"""Brings published files from their hosts, mirrors or the user's disk into the data folder, and
checks them first.

A download grows in `<name>.part` and continues where it broke off (HTTP Range). It gets its name
only when it is whole and its checksum is right, or, if none was published, its form. pooch checks
the file and puts it in place. It calls the downloader `_Ranged`, because its own starts again from
the beginning each time.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pooch
import requests
import urllib3
from tqdm import tqdm

from transfer.data.published.catalogue import Published, looks_right
from transfer.system.errors import DataError
from transfer.system.locks import locked

TIMEOUT = 30.0  # seconds for a connection and for each wait for bytes
TRIES = 3  # attempts at one address that bring nothing new
PAUSE = 1.0  # seconds before the second attempt, doubled for each further one
SLOWEST = 200  # bytes a second over TIMEOUT; below it a server counts as stalled
LARGEST = 2 << 30  # bytes; no published file comes near
_RESUMES = 100  # of one file at one address
_CHUNK = 1 << 16

pooch.get_logger().setLevel("ERROR")  # what it finds wrong it also raises


class _Elsewhere(Exception):
    """This address will not do; try the next."""


class _Again(Exception):
    """This attempt failed; another may succeed."""


def find(folder: Path, file: Published) -> Path | None:
    """Where the file is already, in the data folder or in its data sets' folders; None if it is not
    there."""
    places = dict.fromkeys((file.folder, "", "kmnist", "k49"))
    return next((p for place in places if (p := Path(folder) / place / file.name).is_file()), None)


def addresses(file: Published, mirrors: Iterable[str] = ()) -> list[str]:
    """The addresses to try, in order: the user's mirrors (of a folder, or of the file itself), then
    the known ones."""
    own = [
        m if m.rpartition("/")[2] == file.name else f"{m.rstrip('/')}/{file.name}" for m in mirrors
    ]
    return list(dict.fromkeys(own + list(file.urls)))


def check(path: Path, file: Published) -> str | None:
    """What is wrong with a copy of a published file, in a few words, or None."""
    if file.hash:
        kind, _, wanted = file.hash.partition(":")
        try:
            return (
                None
                if pooch.file_hash(str(path), alg=kind) == wanted
                else f"its {kind} is not the published one"
            )
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
    return None if looks_right(path, file.name) else "it is cut short, or is not what its name says"


def fetch(
    file: Published,
    folder,
    mirrors: Iterable[str] = (),
    progress: bool = True,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Download one published file into `folder`, unless it is already there and whole; returns its
    path.

    timeout and pause: seconds (see TIMEOUT and PAUSE). `progress` shows a bar on a terminal; `say`
    is called with one line before the next address is tried. Raises DataError if no address gave
    the file, with the last reason for each, or if the folder cannot be written. An interrupted
    download stays as <name>.part, and the next call continues it.
    """
    folder = Path(folder)
    there = find(folder, file)
    if there and check(there, file) is None:
        return there
    target = there or folder / file.folder / file.name
    failures = []
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            urls = addresses(file, mirrors)
            for url in urls:
                try:
                    return _from_address(url, file, target, progress, timeout, pause)
                except _Elsewhere as error:
                    failures.append(f"{url}: {error}")
                    if url != urls[-1]:
                        say(failures[-1])
    raise DataError(
        f"{file.name}: no address delivered it ({'; '.join(failures)}); try later, name a copy "
        "with --mirror URL, or take a file that you have with --from PATH"
    )


def take(file: Published, source: Path, folder) -> Path:
    """Check the user's own copy of a published file and copy it into `folder`; returns its path.
    `source` stays as it is.

    Raises DataError if it is not the published file or if the folder cannot be written. Then
    nothing is left there.
    """
    target = Path(folder) / file.folder / file.name
    if wrong := check(source, file):
        raise DataError(
            f"{source}: is not the published {file.name}: {wrong}; leave out --from to download it"
        )
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.samefile(source):
            return target
        handle, part = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".copy", dir=target.parent)
        try:
            with open(handle, "wb") as out, open(source, "rb") as content:
                shutil.copyfileobj(content, out, 1 << 20)
            os.chmod(part, 0o644)
            os.replace(part, target)
        finally:
            Path(part).unlink(missing_ok=True)
    return target


@contextmanager
def _writing(target: Path):
    """Turns the operating system's refusals to write into one line."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}); free space or choose another"
            " folder with --data"
        ) from None


@contextmanager
def _alone(target: Path):
    """One process at a time appends to a .part."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(target.with_name(f".{target.name}.lock")))
        except BlockingIOError:
            raise DataError(f"{target}: another download of it is running; wait for it") from None
        yield


def _from_address(
    url: str, file: Published, target: Path, progress: bool, timeout: float, pause: float
) -> Path:
    part = _Part(target, bool(file.hash))
    # pooch never replaces a file without a checksum, so it gets a name of its own
    checked = target.with_name(f".{file.name}.checked")
    downloader = _Ranged(part, file, progress, timeout, pause)
    try:
        while True:
            checked.unlink(missing_ok=True)
            part.begin(url)
            resumed = part.size() > 0
            try:
                pooch.retrieve(
                    url, file.hash, fname=checked.name, path=target.parent, downloader=downloader
                )
                right = file.hash or looks_right(checked, file.name)
                wrong = None if right else "what came is another file, or only part of it"
            except ValueError:  # pooch's word for a wrong checksum
                wrong = "what came does not have the published checksum"
            part.clear()
            if wrong is None:
                os.replace(checked, target)
                return target
            if not resumed:  # else the beginning may have come from elsewhere: once more, all of it
                raise _Elsewhere(wrong)
    finally:
        checked.unlink(missing_ok=True)


class _Part:
    """<name>.part, and <name>.part.json, which says where it comes from: another file's bytes must
    not continue it."""

    def __init__(self, target: Path, has_hash: bool):
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.has_hash = has_hash
        self.origin = {}
        # Another address's: nothing to go on with, yet kept until this one gives something.
        self.foreign = False

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() and not self.foreign else 0

    def begin(self, url: str) -> None:
        """Continue what is there only if a checksum will find mistakes, or if it came from this
        address in a known version."""
        try:
            self.origin = json.loads(self.note.read_text("utf-8"))
            self.origin = {k: str(self.origin[k]) for k in ("url", "version")}
        except (OSError, ValueError, TypeError, KeyError):
            self.origin = {}
        same = self.origin.get("url") == url and bool(self.origin.get("version"))
        self.foreign = not self.has_hash and not same
        if not same:
            self.origin = {}

    def remember(self, url: str, headers) -> None:
        etag = headers.get("ETag", "")
        version = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        self.origin, self.foreign = {"url": url, "version": version}, False
        self.note.write_text(json.dumps(self.origin), encoding="utf-8")

    def clear(self) -> None:
        self.origin, self.foreign = {}, False
        for path in (self.path, self.note):
            path.unlink(missing_ok=True)


class _Ranged:
    """A downloader as pooch calls it: (url, output file, pooch) -> None. It continues `part` and
    retries."""

    def __init__(self, part: _Part, file: Published, progress: bool, timeout: float, pause: float):
        self.part, self.file, self.progress, self.timeout, self.pause = (
            part,
            file,
            progress,
            timeout,
            pause,
        )

    def __call__(self, url, output_file, _pooch) -> None:
        bar = tqdm(
            desc=self.file.name,
            unit="B",
            unit_scale=True,
            leave=False,
            file=sys.stderr,
            disable=None if self.progress else True,
        )
        with requests.Session() as session, bar:
            failed = 0
            for _ in range(_RESUMES):
                before = self.part.size()
                try:
                    self._attempt(session, url, bar)
                    break
                except (
                    _Again,
                    requests.ConnectionError,
                    requests.Timeout,
                    requests.exceptions.ChunkedEncodingError,
                    urllib3.exceptions.HTTPError,
                    ConnectionError,
                    TimeoutError,
                ) as error:
                    # a server that cuts off but gives more each time is worth going on with; one
                    # that stalls is not
                    reason, size = _reason(error), self.part.size()
                    failed = (
                        1
                        if size - before >= SLOWEST * self.timeout and reason != "stalls"
                        else failed + 1
                    )
                    if failed >= TRIES:
                        raise _Elsewhere(
                            f"{reason} after {size:,} bytes" if size else reason
                        ) from None
                    time.sleep(self.pause * 2 ** (failed - 1))
                except (
                    requests.RequestException
                ) as error:  # no such scheme, no host in it, endless redirects
                    raise _Elsewhere(_reason(error)) from None
            else:
                raise _Elsewhere("breaks off again and again")
        os.replace(self.part.path, output_file)

    def _attempt(self, session, url: str, bar) -> None:
        have = self.part.size()
        headers = {
            "Accept-Encoding": "identity",
            "User-Agent": "kuzushiji-transfer (python -m transfer.data download)",
        }
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.part.origin.get("version"):
                headers["If-Range"] = self.part.origin["version"]
        with session.get(
            url, headers=headers, stream=True, timeout=(self.timeout, self.timeout)
        ) as answer:
            if (
                answer.status_code == 416
                and have
                and answer.headers.get("Content-Range", "") == f"bytes */{have}"
            ):
                return  # all of it was there
            total = self._judge(answer, have)
            if answer.headers.get("Content-Type", "").startswith(
                "text/html"
            ):  # a login page must not cost the .part
                raise _Elsewhere("sends a web page")
            if self.file.exact and total not in (None, self.file.size):
                raise _Elsewhere(
                    f"announces {total:,} bytes, not the published file's {self.file.size:,}"
                )
            if answer.status_code == 200:
                have = 0
                self.part.path.unlink(missing_ok=True)
            if total is not None and total > LARGEST:
                raise _Elsewhere(f"it announces {total:,} bytes, more than any published file has")
            if not have or not self.part.origin:
                self.part.remember(url, answer.headers)
            bar.total = total
            bar.update(have - bar.n)
            got = self._receive(answer.raw, have, bar)
        if total is not None and got < total:
            raise _Again("broke off")
        if total is not None and got > total or not got:
            self.part.clear()
            raise _Again(f"sent {got:,} bytes instead of {total or 'some'}")

    def _judge(self, answer, have: int) -> int | None:
        """The whole file's size, from an answer's status and headers; None if they do not tell. Any
        other answer raises."""
        status, length = answer.status_code, answer.headers.get("Content-Length", "")
        if status == 200:
            return int(length) if length.isdigit() else None
        if status == 206 and have:
            begin, _, total = (
                answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            )
            if begin.partition("-")[0] != str(have):
                self.part.clear()
                raise _Again("did not send the part that it was asked for")
            return (
                int(total) if total.isdigit() else have + int(length) if length.isdigit() else None
            )
        if status == 416:  # more is there than the file has: begin anew
            self.part.clear()
            raise _Again("has no such part (status 416)")
        if status in (408, 425, 429) or status >= 500:
            raise _Again(f"answers status {status}")
        raise _Elsewhere(f"answers status {status}")

    def _receive(self, stream, have: int, bar) -> int:
        read = getattr(
            stream, "read1", stream.read
        )  # what has come, without waiting for a full chunk
        since, then = time.monotonic(), have
        with open(self.part.path, "ab") as out:
            while chunk := read(_CHUNK):
                out.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if have > LARGEST:
                    raise _Elsewhere("sends more than any published file has")
                if time.monotonic() - since > self.timeout:
                    if have - then < SLOWEST * self.timeout:
                        raise _Again("stalls")
                    since, then = time.monotonic(), have
        return have


def _reason(error: Exception) -> str:
    """An exception of the network libraries in a few words, on one line."""
    timeouts = requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError
    if isinstance(error, timeouts) or "timed out" in str(error):
        return "stalls"
    if isinstance(error, _Again):
        return str(error)
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "IncompleteRead" in str(
        error
    ):
        return "broke off"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return " ".join(str(error).split())[:120]
