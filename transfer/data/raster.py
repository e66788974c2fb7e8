"""Draws polylines in the 109x109 box as an anti-aliased grey image, as a round pen would."""

import numpy as np

from transfer.data.strokes import BOX
from transfer.system.errors import DataError

_FAR = 1e4  # pixels
_SEGMENTS = 16  # at once: few lie close together, and each costs several images of memory


def rasterise(polylines, size: int = 64, width: float = 3.0) -> np.ndarray:
    """Draw polylines, a list of (n, 2) in box units, as (size, size) uint8, ink 255 on paper 0.

    The box is scaled plainly, x_px = x * size / 109, pixel i covering [i, i + 1). `width` is the
    stroke width in box units; caps and joins are round. A pixel's grey is the overlap of the pen
    with an interval of one pixel, taken across the nearest segment. This is exact coverage along
    straight edges parallel to the axes, and conserves ink elsewhere. Ink outside the box is cut
    off. Raises DataError for wrong shapes and non-finite numbers.
    """
    scale = size / BOX
    radius = width * scale / 2
    centre = np.arange(size, dtype=np.float32) + 0.5
    nearest2 = np.full((size, size), np.inf, np.float32)
    for number, polyline in enumerate(polylines):
        try:
            points = np.asarray(polyline, np.float32)
        except (TypeError, ValueError):
            raise DataError(
                f"stroke {number + 1}: not an array of numbers; give (n, 2) coordinates"
            ) from None
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 1:
            raise DataError(f"stroke {number + 1}: shape {points.shape}; give (n, 2) coordinates")
        if not np.isfinite(points).all():
            raise DataError(
                f"stroke {number + 1}: holds NaN or infinite coordinates; give finite numbers"
            )
        points = np.clip(points * scale, -_FAR, _FAR)  # squares must not overflow
        starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
        for first in range(0, len(starts), _SEGMENTS):
            start, end = starts[first : first + _SEGMENTS], ends[first : first + _SEGMENTS]
            columns, rows = _near(np.concatenate([start, end]), radius + 0.5, size)
            ux, uy = (end - start).T[:, :, None, None]
            dx = centre[None, None, columns] - start[:, 0, None, None]
            dy = centre[None, rows, None] - start[:, 1, None, None]
            length2 = ux * ux + uy * uy
            along = dx * (ux / np.maximum(length2, 1e-12)) + dy * (uy / np.maximum(length2, 1e-12))
            np.clip(along, 0, 1, out=along)
            across_x = dx - along * ux
            across_y = dy - along * uy
            across_x *= across_x
            across_y *= across_y
            across_x += across_y
            near = nearest2[rows, columns]
            np.minimum(near, across_x.min(axis=0), out=near)
    distance = np.sqrt(nearest2)
    cover = np.minimum(distance + 0.5, radius) - np.maximum(distance - 0.5, -radius)
    return (255 * np.clip(cover, 0, 1) + 0.5).astype(np.uint8)


def _near(points: np.ndarray, reach: float, size: int) -> tuple[slice, slice]:
    """The columns and rows of a page of `size` pixels whose centres may lie within `reach` of
    lines between points (n, 2), all in pixels."""
    low = np.floor(points.min(0) - reach - 1).clip(0, size).astype(int)
    high = np.ceil(points.max(0) + reach + 1).clip(0, size).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])
