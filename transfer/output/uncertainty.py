"""How far plausible readings differ, (64, 64): as a heat map over the predicted kanji, and as one
number for each stroke."""

import numpy as np
from PIL import Image

from transfer.data.strokes import BOX

MOST = 0.5  # the greatest standard deviation of numbers in [0, 1]
# White over amber to a dark red: lightness falls evenly, so that it reads without colour vision
# too.
_STOPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_COLOURS = np.array(
    [(255, 255, 255), (255, 221, 120), (245, 150, 50), (208, 60, 40), (120, 10, 50)], np.float64
)


def heatmap(pixels: np.ndarray, uncertainty: np.ndarray, size: int = 256) -> np.ndarray:
    """(size, size, 3) uint8 picture: the predicted kanji in grey on white, and over it, from amber
    to dark red, where readings differ.

    pixels: (64, 64) in [0, 1], ink 1. uncertainty: (64, 64) standard deviations in [0, 0.5]; the
    colours always span this whole range, so that two maps can be compared. Raises ValueError for
    other shapes or sizes below 1.
    """
    for name, array in (("pixels", pixels), ("uncertainty", uncertainty)):
        if np.ndim(array) != 2:
            raise ValueError(f"{name} has shape {np.shape(array)}; give (64, 64)")
    if size < 1:
        raise ValueError(f"size is {size}; give 1 or more")
    ink, doubt = (
        _resized(np.nan_to_num(np.asarray(a, np.float32)), size)[..., None]
        for a in (pixels, uncertainty)
    )
    share = np.clip(doubt / MOST, 0, 1)
    grey = 255 - 150 * np.clip(ink, 0, 1)
    colour = np.stack([np.interp(share[..., 0], _STOPS, _COLOURS[:, c]) for c in range(3)], axis=-1)
    cover = np.clip(2.5 * share, 0, 0.9)
    return np.rint(grey * (1 - cover) + colour * cover).astype(np.uint8)


def of_strokes(polylines: list[np.ndarray], uncertainty: np.ndarray) -> np.ndarray:
    """(strokes,) float32 in [0, 0.5]: the mean of `uncertainty` (64, 64) along each stroke's line,
    interpolated at every half pixel.

    It is 0 if all plausible readings have ink under a stroke, or if none has, and 0.5 if half of
    them have.
    """
    size = np.array(uncertainty.shape[::-1], np.float64)
    values = []
    for polyline in polylines:
        points = np.asarray(polyline, np.float64) * size / BOX - 0.5  # pixel i covers [i, i + 1)
        along = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
        at = np.linspace(0, along[-1], int(min(2 * along[-1], 10_000)) + 2)
        x, y = (
            np.clip(np.interp(at, along, points[:, axis]), 0, size[axis] - 1) for axis in (0, 1)
        )
        left, top = (
            np.minimum(x.astype(int), int(size[0]) - 2),
            np.minimum(y.astype(int), int(size[1]) - 2),
        )
        u, v = x - left, y - top
        values.append(
            np.mean(
                (1 - v) * ((1 - u) * uncertainty[top, left] + u * uncertainty[top, left + 1])
                + v * ((1 - u) * uncertainty[top + 1, left] + u * uncertainty[top + 1, left + 1])
            )
        )
    return np.array(values, np.float32)


def opacity(stroke_uncertainty: np.ndarray) -> np.ndarray:
    """Uncertainty in [0, 0.5] -> opacity from 1 down to 0.2, in a straight line."""
    return np.clip(1 - 0.8 * np.asarray(stroke_uncertainty, np.float32) / MOST, 0.2, 1.0)


def _resized(array: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.BILINEAR))
