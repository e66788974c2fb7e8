"""How this process uses the machine: its memory, and its cache of compiled programs."""

from __future__ import annotations

import ctypes


def keep_compiled() -> None:
    """Let XLA keep compiled programs in the user's cache, if there is one, so that the second run
    starts in a fraction of the time."""
    import jax

    from transfer.system.folders import cache_folder

    if (folder := cache_folder()) is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    # Small ones too: a dozen of them make a quarter of a second, and a few kB each.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def few_arenas() -> None:
    """Give glibc's malloc two arenas instead of eight for each core. Then one thread can use what
    another has freed, and the memory of a long-running process stays flat. Call it before there are
    threads. It does nothing with other C libraries."""
    try:
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX
    except (AttributeError, OSError, TypeError):
        pass
