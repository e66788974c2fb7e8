"""Runs a function that is compiled for a few batch sizes on any number of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm


def in_batches(function: Callable, rows: Any, sizes: tuple[int, ...], progress: str = "") -> Any:
    """Apply `function` to rows, batch by batch: arrays (n, …) in the structure that it returns.

    function: a batch of rows -> an array or a pytree of arrays, whose first axis is the rows'. No
    row may depend on another, because the last batch is filled up with zeros.
    rows: an array (n, …) or a pytree of arrays with n rows each.
    sizes: batch sizes for which it is compiled, ascending. The first that holds all rows is used,
    or else batches of the last.
    progress: the title of a bar over the batches; None for no bar.
    """
    number = len(jax.tree.leaves(rows)[0])
    size = next((s for s in sizes if s >= number), sizes[-1])
    # A batch even of no rows, as it says what the arrays look like.
    starts = range(0, max(number, 1), size)
    parts = []
    for at in tqdm(starts, desc=progress, unit="batch", disable=None if progress else True):
        batch = jax.tree.map(lambda a: _filled(a[at : at + size], size), rows)
        parts.append(jax.tree.map(lambda a: a[: number - at], jax.device_get(function(batch))))
    return jax.tree.map(lambda *of: np.concatenate(of), *parts)


def _filled(part: np.ndarray, size: int) -> np.ndarray:
    """The rows of a part, followed by zeros up to `size`."""
    part = np.asarray(part)
    if len(part) == size:
        return part
    return np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
