"""Small images as PNG: grids of a training run's samples, and single images as addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from transfer.system.files import atomic_write


def image_grid(columns: list[np.ndarray], path: Path, across: int = 8) -> None:
    """Write `columns` of (n, 64, 64) images in [0, 1], ink 1, as one PNG, dark ink on white.

    The i-th images of all columns are side by side in one cell; a row has `across` cells.
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


def data_url(ink: np.ndarray) -> str:
    """An image (64, 64) uint8, ink 255, as a PNG of black on white in a `data:` address."""
    file = io.BytesIO()
    Image.fromarray(255 - ink).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
