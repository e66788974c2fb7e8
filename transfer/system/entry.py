"""How every command begins and ends, whatever happens: output that the terminal cannot show, a
closed pipe, a full disk, no home folder, no accelerator.

    @guarded
    def main() -> int: ...
"""

import codecs
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable

from transfer.system.errors import DataError

ESCAPED = "kuzushiji.escaped"
"""An error handler that writes characters outside the output's encoding as JSON does, so that JSON
stays JSON and undecodable file names stay distinct."""


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    written = "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2]))
    return written, error.end


codecs.register_error(ESCAPED, _escape)


def guarded(command: Callable[..., int | None], stopped: str = "stopped") -> Callable[..., int]:
    """A decorator for commands that gives an exit code for whatever happens.

    Characters that the stream's encoding lacks are escaped. A closed pipe ends the command quietly,
    with 0. A DataError, output that cannot be written, a missing home folder, and an accelerator in
    $JAX_PLATFORMS that is not there give one line on stderr and 2. Ctrl-C gives the line `stopped`
    and 130.
    """

    @functools.wraps(command)
    def run(*given, **named) -> int:
        _mend_streams()
        return _run(lambda: command(*given, **named), stopped)

    return run


def _run(command: Callable[[], int | None], stopped: str) -> int:
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except SystemExit as finished:  # argparse: 0 after --help, 2 after an error
        if not isinstance(finished.code, int | None):
            return _fail(str(finished.code))
        return _flushed(finished.code or 0)
    except KeyboardInterrupt:
        _say(stopped)
        return 130
    except DataError as error:
        return _fail(str(error))
    except OSError as error:
        if _reader_left(error):
            _drop(sys.stdout)
            return 0
        if error.filename is not None:
            raise
        return _full(error)
    except (RuntimeError, AssertionError) as error:
        if "home directory" in str(error):  # pathlib's words
            return _fail("this user has no home folder; set HOME, or write the path without ~")
        if line := _no_accelerator():
            return _fail(line)
        raise


def _mend_streams() -> None:
    """Make the streams write whatever they get, and make sure that the three standard file
    descriptors are open. Otherwise the next opened file would take the place of a closed one, and
    receive what a library writes there."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        chosen = getattr(stream, "errors", None)
        if chosen in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPED)


def _flushed(code: int) -> int:
    """Write what is still in the buffers after --help."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not _reader_left(error):
            return _full(error)
        _drop(sys.stdout)
    return code


def _reader_left(error: OSError) -> bool:
    """Whether the reader of a pipe has left, as in `| head`. Windows then says that the argument is
    invalid."""
    return isinstance(error, BrokenPipeError) or os.name == "nt" and error.errno == errno.EINVAL


def _full(error: OSError) -> int:
    _drop(sys.stdout)
    return _fail(
        f"the output cannot be written ({error.strerror or error}); free some space, or send it "
        "elsewhere"
    )


def _fail(line: str) -> int:
    _say(f"error: {line}")
    return 2


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # nobody can be told
        _drop(sys.stderr)


def _drop(stream) -> None:
    """Discard what the stream still holds, or Python complains when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _no_accelerator() -> str:
    """One line if JAX cannot start what $JAX_PLATFORMS names, else ""."""
    chosen = os.environ.get("JAX_PLATFORMS")
    if not chosen or "jax" not in sys.modules:
        return ""
    try:
        sys.modules["jax"].devices()
    except Exception:  # RuntimeError for some names, AssertionError for others
        return (
            f"JAX_PLATFORMS={chosen}: JAX finds no such device on this machine; unset "
            "JAX_PLATFORMS, or set it to cpu"
        )
    return ""


def fail(message: str) -> int:
    """Print one line; returns the exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    return 2
