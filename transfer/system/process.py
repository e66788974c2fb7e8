"""How this process uses the machine: memory, and what it keeps of compiled programs."""

from __future__ import annotations

import ctypes


def keep_compiled() -> None:
    """Let XLA keep what it compiled in the user's cache, if there is one: the second run starts in
    a fraction of the time."""
    import jax

    from transfer.system.folders import cache_folder

    if (folder := cache_folder()) is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    # Small ones too: a dozen of them make a quarter of a second, and a few kB each.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def few_arenas() -> None:
    """Let glibc's malloc have two arenas instead of eight a core: what one thread gives back
    another can then use, and the memory of a process that lives for long stays flat. To be called
    before there are threads; does nothing where the C library is another."""
    try:
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX
    except (AttributeError, OSError, TypeError):
        pass
