"""Functions of arrays as compiled programs, kept from one process to the next where JAX has a cache
(`system.process.keep_compiled`).

JAX's own cache keeps what XLA compiled, and finds it by what was traced and lowered: seconds of
Python for a network. A `Program` is found by what decides about it, and is not even traced. That is
its name and what is said about it, the form of its arguments, this package's code, the versions of
what it is built with, and JAX's settings and device. Whatever else it depends on enters as an
argument. What is not there, or cannot be read, is compiled as ever.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from transfer.system.devices import cpu_flags, on_cpu
from transfer.system.files import atomic_write

PACKAGE = Path(__file__).parents[1]
CODE = ("inference", "models", "stages", "system", "training")
"""Rooms whose code a program is made of."""
KEPT = 48
"""Programs that stay in the cache: those that were used last, a few MB each."""

_QUICKLY = {"xla_backend_optimization_level": "1"}
"""On a CPU, programs compile in five sixths of the time, and run as fast."""


class Program:
    """A function that is compiled for each form of its arguments when it is first called with it.

    name: what it is called in the cache.
    build: gives the function, which is asked for only where it must be traced.
    about: all that the function depends on beside its arguments and the code.
    options: gives `compiler_options` of jax.jit, and is asked as `build` is.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], Callable],
        about: str,
        options: Callable[[], dict[str, str]] = dict,
    ):
        self.name, self._build, self._about, self._options = name, build, about, options
        self._compiled: dict = {}
        self._lock = threading.Lock()

    def __call__(self, *given):
        """What the function makes of arrays, or pytrees of them; nothing else may be given."""
        return self.ready(*given)(*given)

    def ready(self, *given) -> Callable:
        """The program for arguments of this form: arrays, or anything with a shape and a dtype."""
        leaves, tree = jax.tree.flatten(given)
        form = tree, tuple((a.shape, a.dtype) for a in leaves)
        if form not in self._compiled:
            with self._lock:  # of threads that ask at once, one compiles
                if form not in self._compiled:
                    self._compiled[form] = self._made(given, form)
        return self._compiled[form]

    def __len__(self) -> int:
        """Forms of arguments that it was called with."""
        return len(self._compiled)

    def _made(self, given: tuple, form: tuple) -> Callable:
        path = self._path(form)
        if path is not None and (compiled := _load(path, given)) is not None:
            return compiled
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), given)
        options = self._options() | (_QUICKLY if on_cpu() else {})
        lowered = jax.jit(self._build(), compiler_options=options).lower(*shapes)
        if path is None:
            return lowered.compile()
        with _WITHOUT_JAX_CACHE:
            compiled = lowered.compile()
        _save(path, compiled)
        return compiled

    def _path(self, form: tuple) -> Path | None:
        """Where it is kept in this form; None where nothing is."""
        folder = jax.config.jax_compilation_cache_dir
        if not folder or "://" in folder:  # another machine's storage is JAX's business
            return None
        if not (jax.config.jax_enable_compilation_cache or _WITHOUT_JAX_CACHE.inside):
            return None
        about = (
            self.name,
            self._about,
            str(form),
            self._options.__name__,
            surroundings(),
            _settings(),
        )
        return Path(folder) / "programs" / hashlib.sha256(repr(about).encode()).hexdigest()


# What decides about a program beside itself -------------------------------------------------------


@functools.cache
def surroundings() -> str:
    """This package's code, the versions of what programs are built with, and the device."""
    found = hashlib.sha256()
    for room in CODE:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            found.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")]
    device = jax.devices()[0]
    machine = (platform.machine(), platform.python_version(), cpu_flags())
    devices = (device.platform, device.device_kind, jax.device_count(), jax.process_count())
    return repr((found.hexdigest(), versions, machine, devices, os.environ.get("XLA_FLAGS")))


def _settings() -> str:
    """JAX's settings, but for where and when it keeps things itself."""
    values = jax.config.values.items()
    return repr(sorted((k, str(v)) for k, v in values if "cache" not in k and "log" not in k))


class _WithoutJaxCache:
    """While any thread is in it, JAX's own cache is not used: what XLA takes from there for a CPU
    it cannot give away again (functions that the program calls are missing)."""

    def __init__(self):
        self._lock, self.inside = threading.Lock(), 0

    def __enter__(self):
        with self._lock:
            self.inside += 1
            self._use(False)

    def __exit__(self, *error):
        with self._lock:
            self.inside -= 1
            self._use(not self.inside)

    @staticmethod
    def _use(wanted: bool) -> None:
        if jax.config.jax_enable_compilation_cache != wanted:
            jax.config.update("jax_enable_compilation_cache", wanted)
            compilation_cache.reset_cache()  # it asks the setting once only


_WITHOUT_JAX_CACHE = _WithoutJaxCache()


# The files ----------------------------------------------------------------------------------------


def _save(path: Path, compiled) -> None:
    """Keep a compiled program, where that can be."""
    from jax.experimental import serialize_executable

    try:
        payload, _, out = serialize_executable.serialize(compiled)
        content = pickle.dumps((payload, out))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_write(path) as part:
            part.write_bytes(hashlib.sha256(content).digest() + content)
        used = sorted(path.parent.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in used[KEPT:]:
            old.unlink(missing_ok=True)
    except Exception:  # of types that depend on the backend: then it is compiled again next time
        return


def _load(path: Path, given: tuple):
    """The compiled program of a file for such arguments; None where it is not there or damaged."""
    from jax.experimental import serialize_executable

    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        payload, out = pickle.loads(content[32:])
        tree = jax.tree.structure((given, {}))
        compiled = serialize_executable.deserialize_and_load(
            payload, tree, out, execution_devices=jax.devices()[:1]
        )
        os.utime(path)
        return compiled
    except Exception:  # as above
        return None
