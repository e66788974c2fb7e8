"""Loads a model for a command or for a server, which runs for long."""

from __future__ import annotations

from pathlib import Path

from transfer.system.process import few_arenas, keep_compiled


def load_model(folder: Path | None):
    """The `KuzushijiTransfer` of a weights or runs folder [the shipped weights], with a cache for
    compiled programs. Raises WeightsError."""
    few_arenas()
    keep_compiled()
    # Only now, as it imports jax: memory is set up before there are threads.
    from transfer.inference.pipeline import KuzushijiTransfer

    return KuzushijiTransfer.load(folder)
