"""A grey picture of one brushed character: how strong its ink is, and where the character sits.

Grey is (H, W) float32 in [0, 1], 1 for white. Ink strength is (H, W) float32 in [0, 1], 1 for full
ink, 0 for paper.
"""

import numpy as np

ENVELOPE_SIDE = 128  # paper varies slowly: its estimate is made at this size (pixels, longer side)
SPECK = 0.006  # a connected blob with less than this share of all ink is no part of the character
GAP = 0.25  # of a character's longer side: blobs further apart are different characters
LONG = 1.7  # length over width from which two blobs are rather two characters


def find_ink(grey: np.ndarray) -> tuple[np.ndarray, bool]:
    """Tell ink from paper under uneven light.

    Dark or light parts are the ink, whichever cover less of the picture and of its border.

    Returns the ink strength, and whether the ink is lighter than its paper. A picture without
    contrast has strength 0 everywhere.
    """
    dark, light = _strength(grey, _paper(grey)), _strength(1 - grey, _paper(1 - grey))
    is_light = _cover(light) < _cover(dark)
    return _contrast(light if is_light else dark), is_light


def ink_box(ink: np.ndarray, speck: float = SPECK) -> tuple[tuple[int, int, int, int] | None, int]:
    """Where the character is.

    Specks are left out, and so are lines ruled from edge to edge. The rest falls into pieces that
    stand apart as characters do (`pieces`). The one with the most ink is the character.

    speck: share of all ink; a connected blob with less is a speck.

    Returns its box, (left, top, right, bottom) in pixels, right and bottom exclusive, and the
    number of pieces. Without ink they are None and 0.
    """
    _, areas, boxes = components(ink > 0.3)
    keep = areas >= max(speck * areas.sum(), 1)
    if not keep.any():
        return None, 0
    areas, boxes = areas[keep], boxes[keep]
    ruled = _ruled(boxes, ink.shape)
    if ruled.any() and areas[~ruled].sum() > 0.2 * areas.sum():
        areas, boxes = areas[~ruled], boxes[~ruled]
    areas, boxes = pieces(areas, boxes, ink.shape)
    return tuple(int(v) for v in boxes[areas.argmax()]), len(areas)


def pieces(
    areas: np.ndarray, boxes: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Join the blobs that belong to one character.

    The parts of a kanji stand apart too. So a gap separates two boxes only if it is wide for their
    size: more than GAP of the longer side of the larger one. A third of that is enough if both
    together are much longer than one character, or if the picture's edge cuts off the smaller one
    but not the larger. Far more is needed if both together have the shape of a character, as the
    two bars of ni (two) have. Of the 2,016 val images of Kuzushiji-Kanji, enlarged and with
    margins, 9 come apart.

    areas: (n,) int, pixels of each blob.
    boxes: (n, 4) int, left, top, right, bottom.
    shape: of the picture, (height, width).

    Returns areas (k,) and boxes (k, 4) of the joined blobs.
    """
    areas, boxes = areas.astype(np.int64), boxes.astype(np.int64)
    while len(areas) > 1:
        larger = areas[:, None] >= areas
        low, high = (
            np.maximum(boxes[:, None, :2], boxes[None, :, :2]),
            np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]),
        )
        gaps = np.maximum(low - high, 0)
        gap = gaps.max(-1)
        sides = boxes[:, 2:] - boxes[:, :2]
        long = sides.max(1)
        both = np.maximum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.minimum(
            boxes[:, None, :2], boxes[None, :, :2]
        )
        axis = gaps.argmax(-1)
        along, across = (
            np.take_along_axis(both, a[..., None], -1)[..., 0] for a in (axis, 1 - axis)
        )
        cut = (boxes[:, :2] <= 0).any(1) | (boxes[:, 2:] >= np.array(shape[::-1])).any(1)
        edge = np.where(larger, cut[None] & ~cut[:, None], cut[:, None] & ~cut[None])
        limit = np.where(
            (along > LONG * across) | edge, GAP / 3, np.where(along > 1.25 * across, GAP, 2.5 * GAP)
        )
        limit = limit * np.where(larger, long[:, None], long[None])
        gap = np.where(
            np.tri(len(areas), k=-1, dtype=bool) & (gap <= limit), gap, np.iinfo(np.int64).max
        )
        i, j = np.unravel_index(gap.argmin(), gap.shape)
        if gap[i, j] == np.iinfo(np.int64).max:
            break
        boxes[j] = np.concatenate(
            [np.minimum(boxes[i, :2], boxes[j, :2]), np.maximum(boxes[i, 2:], boxes[j, 2:])]
        )
        areas[j] += areas[i]
        areas, boxes = np.delete(areas, i), np.delete(boxes, i, 0)
    return areas, boxes


def _ruled(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which boxes are thin and go from edge to edge of the picture, as lines between columns do."""
    size, sides = np.array(shape[::-1]), boxes[:, 2:] - boxes[:, :2]
    across = (boxes[:, :2] <= 1) & (boxes[:, 2:] >= size - 1)
    return (across & (sides[:, ::-1] < 0.06 * sides)).any(1)


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 8-connected blobs of a mask.

    mask: (H, W) bool.

    Returns labels (H, W) int32, 0 outside and k + 1 in blob k; areas (K,) int64 in pixels; and
    boxes (K, 4) int64 of left, top, right, bottom, right and bottom exclusive.
    """
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    edge = np.diff(padded, axis=1)
    rows, starts = np.nonzero(edge == 1)
    ends = np.nonzero(edge == -1)[
        1
    ]  # exclusive; np.nonzero orders both alike, so run i is starts[i]:ends[i]
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
    """Otsu's threshold of values in [0, 1], with 256 bins.

    It is the split with the largest variance between its two sides.
    """
    counts, edges = np.histogram(values, 256, (0.0, 1.0))
    centre = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * centre)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    between = np.nan_to_num(between)
    # Clean scans have an empty stretch between ink and paper, all of it equally good: take its
    # middle.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float((edges[best[0] + 1] + edges[best[-1] + 1]) / 2)


def _paper(grey: np.ndarray) -> np.ndarray:
    """The paper's own brightness under the ink: a smoothed grey closing, wider than any stroke."""
    step = max(1, int(np.ceil(max(grey.shape) / ENVELOPE_SIDE)))
    small = _shrink(grey, step)
    # Wider than any stroke, also where the picture is a strip that one stroke nearly fills; no
    # wider, as stains belong to the paper.
    window = max(3, max(small.shape) // 4) | 1
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
    """The strength stretched so that paper with its grain is 0 and ink is 1, with grey between."""
    cut = otsu(strength)
    inside = strength > cut
    if not inside.any() or inside.all():
        return np.zeros_like(strength)
    paper, ink = np.median(strength[~inside]), np.median(strength[inside])
    grain = 1.4826 * np.median(np.abs(strength[~inside] - paper))
    # Grain differs from pixel to pixel, stains and shadows do not: only the first can be all that
    # there is.
    both = ~inside[:, 1:] & ~inside[:, :-1]
    rough = (
        1.4826 * np.median(np.abs(strength[:, 1:] - strength[:, :-1])[both]) / 2**0.5
        if both.any()
        else 0.0
    )
    if ink - paper < max(0.06, 4 * rough, 2.2 * grain):
        return np.zeros_like(strength)
    # The darkest seventh of the paper has the soft edges of strokes, but where it is large, stains.
    stain = np.quantile(strength[~inside], 0.85) - paper
    low = paper + min(max(0.15 * (ink - paper), 2 * grain, stain), 0.5 * (ink - paper))
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
