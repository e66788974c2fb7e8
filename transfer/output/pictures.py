"""Grids of small images as PNG: what a training run shows of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from transfer.system.files import atomic_write


def image_grid(columns: list[np.ndarray], path: Path, across: int = 8) -> None:
    """Write `columns` of (n, 64, 64) images in [0, 1], ink 1, as one PNG, dark ink on white.

    The i-th images of all columns stand side by side as one cell; `across` cells a row.
    """
    cells = np.concatenate([np.asarray(c, np.float32) for c in columns], axis=2)
    cells = np.pad(cells, ((0, 0), (2, 2), (2, 6)))
    rows = -(-len(cells) // across)
    cells = np.concatenate(
        [cells, np.zeros((rows * across - len(cells), *cells.shape[1:]), np.float32)]
    )
    sheet = (
        cells.reshape(rows, across, *cells.shape[1:])
        .transpose(0, 2, 1, 3)
        .reshape(rows * cells.shape[1], -1)
    )
    image = Image.fromarray(np.uint8(np.round(255 * (1 - sheet.clip(0, 1)))))
    with atomic_write(path) as part:
        image.save(part, "PNG")
