"""Locks that vanish with their process, however it ends, and a check whether a process has
ended."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`: an existing folder, or a file that is made for this purpose
    and removed afterwards.

    Raises BlockingIOError if another process holds it, and OSError if it cannot be opened. If the
    operating system or file system has no locks, there is none.
    """
    try:
        import fcntl
    except ImportError:  # Windows: it refuses to replace a file that another process has open
        yield
        return
    folder = path.is_dir()
    while True:
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                pass
            # Whoever held it before may have removed the file that was opened here: then this lock
            # keeps nobody out.
            if not folder and not _still_there(path, handle):
                continue
            try:
                yield
            finally:
                if not folder:
                    path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _still_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def process_runs(pid: str) -> bool:
    """Whether a process with this number may be running on this machine."""
    if os.name == "nt" or not pid.isdigit():  # os.kill would end the process there
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
