"""A grey picture of one brushed character -> ink strength on clean paper, and where the ink sits.

numpy only. Grey is (H, W) float32 in [0, 1], 1 = white; ink strength is (H, W) float32 in [0, 1], 1 = full ink.
"""

import numpy as np

ENVELOPE_SIDE = 128  # paper varies slowly: its estimate is made at this size (pixels, longer side)
SPECK = 0.006  # a connected blob with less than this share of all ink is no part of the character


def find_ink(grey: np.ndarray) -> tuple[np.ndarray, bool]:
    """Split ink from paper under uneven light.

    Returns (ink strength, light): light is True where the ink is lighter than its paper. The ink is the polarity
    that covers less of the picture and less of its border. A picture without contrast gives strength 0 everywhere.
    """
    dark, light = _strength(grey, _paper(grey)), _strength(1 - grey, _paper(1 - grey))
    is_light = _cover(light) < _cover(dark)
    return _contrast(light if is_light else dark), is_light


def ink_box(ink: np.ndarray, speck: float = SPECK) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of the ink in pixels, right and bottom exclusive, specks left out; None: no ink."""
    mask = ink > 0.3
    labels, areas, boxes = components(mask)
    keep = areas >= max(speck * areas.sum(), 1)
    if not keep.any():
        return None
    kept = boxes[keep]
    return (int(kept[:, 0].min()), int(kept[:, 1].min()), int(kept[:, 2].max()), int(kept[:, 3].max()))


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """8-connected blobs of (H, W) bool: labels (H, W) int32 (0 = none, blob k has k+1), areas (k,), boxes (k, 4)."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    edge = np.diff(padded, axis=1)
    rows, starts = np.nonzero(edge == 1)
    ends = np.nonzero(edge == -1)[1]  # exclusive; np.nonzero orders both alike, so run i is starts[i]:ends[i]
    parent = np.arange(len(rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for y in range(1, mask.shape[0]):
        above, here = first[y - 1], first[y]
        while above < first[y] and here < first[y + 1]:
            if starts[here] <= ends[above] and starts[above] <= ends[here]:
                a, b = root(above), root(here)
                parent[max(a, b)] = min(a, b)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    roots = np.array([root(i) for i in range(len(rows))], np.int64)
    kinds, blob = np.unique(roots, return_inverse=True)
    areas = np.bincount(blob, ends - starts, len(kinds)).astype(np.int64)
    boxes = np.zeros((len(kinds), 4), np.int64)
    boxes[:, :2] = max(mask.shape)
    np.minimum.at(boxes[:, 0], blob, starts)
    np.minimum.at(boxes[:, 1], blob, rows)
    np.maximum.at(boxes[:, 2], blob, ends)
    np.maximum.at(boxes[:, 3], blob, rows + 1)
    labels = np.zeros((mask.shape[0], mask.shape[1] + 1), np.int32)
    labels[rows, starts] += (blob + 1).astype(np.int32)
    labels[rows, ends] -= (blob + 1).astype(np.int32)
    return np.cumsum(labels, axis=1)[:, :-1].astype(np.int32), areas, boxes


def otsu(values: np.ndarray) -> float:
    """Otsu's threshold of values in [0, 1] (256 bins): the split with the largest variance between its two sides."""
    counts, edges = np.histogram(values, 256, (0.0, 1.0))
    centre = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * centre)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    between = np.nan_to_num(between)
    # Clean scans have an empty stretch between ink and paper, all of it equally good: take its middle.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)


def _paper(grey: np.ndarray) -> np.ndarray:
    """The paper's own brightness under the ink: a grey closing wider than any stroke, smoothed."""
    step = max(1, int(np.ceil(max(grey.shape) / ENVELOPE_SIDE)))
    small = _shrink(grey, step)
    window = max(3, min(small.shape) // 2) | 1
    envelope = _extreme(_extreme(small, window, np.max), window, np.min)
    for _ in range(2):
        envelope = _mean(envelope, max(3, window // 4) | 1)
    rows = np.clip((np.arange(grey.shape[0]) + 0.5) / step - 0.5, 0, small.shape[0] - 1)
    cols = np.clip((np.arange(grey.shape[1]) + 0.5) / step - 0.5, 0, small.shape[1] - 1)
    return _bilinear(envelope, rows, cols)


def _strength(grey: np.ndarray, paper: np.ndarray) -> np.ndarray:
    # Ink absorbs a share of the light that falls on it, so a shadow cancels in the quotient.
    return np.clip(1 - grey / np.maximum(paper, 1 / 16), 0, 1)


def _cover(strength: np.ndarray) -> float:
    ink = strength > otsu(strength)
    border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    return float(ink.mean() + border.mean())


def _contrast(strength: np.ndarray) -> np.ndarray:
    """Stretch so that paper (with its grain) becomes 0 and ink 1, keeping the grey between them."""
    cut = otsu(strength)
    inside = strength > cut
    if not inside.any() or inside.all():
        return np.zeros_like(strength)
    paper, ink = np.median(strength[~inside]), np.median(strength[inside])
    grain = 1.4826 * np.median(np.abs(strength[~inside] - paper))
    if ink - paper < 0.06 or ink - paper < 4 * grain:
        return np.zeros_like(strength)
    low = paper + max(0.15 * (ink - paper), 2 * grain)
    high = ink - 0.05 * (ink - paper)
    return np.clip((strength - low) / (high - low), 0, 1).astype(np.float32)


def _shrink(image: np.ndarray, step: int) -> np.ndarray:
    height, width = (-(-s // step) * step for s in image.shape)
    padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), "edge")
    return padded.reshape(height // step, step, width // step, step).mean((1, 3), dtype=np.float32)


def _windows(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    pad = [(0, 0), (0, 0)]
    pad[axis] = (size // 2, size // 2)
    return np.lib.stride_tricks.sliding_window_view(np.pad(image, pad, "edge"), size, axis)


def _extreme(image: np.ndarray, size: int, pick) -> np.ndarray:
    return pick(_windows(pick(_windows(image, size, 0), axis=-1), size, 1), axis=-1)


def _mean(image: np.ndarray, size: int) -> np.ndarray:
    return _extreme(image, size, np.mean)


def _bilinear(image: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    y, x = rows.astype(int), cols.astype(int)
    y1, x1 = np.minimum(y + 1, image.shape[0] - 1), np.minimum(x + 1, image.shape[1] - 1)
    fy, fx = (rows - y)[:, None].astype(np.float32), (cols - x)[None].astype(np.float32)
    lines = image[y] * (1 - fy) + image[y1] * fy
    return lines[:, x] * (1 - fx) + lines[:, x1] * fx
