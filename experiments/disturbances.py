"""Disturbs pictures as happens before they reach a program: file formats, sizes, light, paper,
neighbours.

KINDS: name -> function of (generator, page, other) that returns a source for
`transfer.inference.images.read_image`. page is (H, W) uint8, one character dark on white with some
margin; other is another character, for what is beside it.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from transfer.inference.images import heif_can_be_read

MARGIN = 0.12  # of the character's frame, on each side
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def page_of(image: np.ndarray, scale: int = 3) -> np.ndarray:
    """A published crop (64, 64), ink 255, as in a scan: (H, W) uint8, dark on white, enlarged, with
    a margin."""
    side = image.shape[0] * scale
    big = np.asarray(Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC))
    return np.pad(big, round(MARGIN * side), constant_values=255)


def encoded(image, format, **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        file, format, **options
    )
    return file.getvalue()


def sized(page, side):
    how = Image.Resampling.BOX if side < page.shape[0] else Image.Resampling.BICUBIC
    return Image.fromarray(page).resize((side, round(side * page.shape[0] / page.shape[1])), how)


def turned(rng, page, other):
    orientation = int(rng.integers(2, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(
        Image.fromarray(page).transpose(TURNS[orientation]), "JPEG", exif=exif, quality=90
    )


def coloured(page, paper, ink):
    cover = 1 - page[..., None] / 255.0
    return np.uint8(np.rint(cover * np.array(ink) + (1 - cover) * np.array(paper)))


def aged(rng, page, other):
    """Yellow, brown or blue paper and faded or red ink."""
    papers, inks = (
        [(222, 196, 150), (190, 160, 110), (150, 170, 190), (240, 230, 205)],
        [(40, 30, 30), (90, 70, 60), (150, 40, 30)],
    )
    return encoded(
        coloured(page, papers[rng.integers(4)], inks[rng.integers(3)]), "JPEG", quality=85
    )


def shaded(rng, page, other):
    """Light that falls off to a third across the page, with a little grain."""
    y, x = np.mgrid[: page.shape[0], : page.shape[1]] / max(page.shape)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    light = 1 - rng.uniform(0.3, 0.65) * (ramp - ramp.min()) / np.ptp(ramp)
    return np.uint8(
        np.clip((40 + page * (180 / 255)) * light + rng.normal(0, 2, page.shape), 0, 255)
    )


def stained(rng, page, other):
    """Two to five soft brown blots, and foxing: small dark dots."""
    y, x = np.mgrid[: page.shape[0], : page.shape[1]] / max(page.shape)
    paper = np.full(page.shape, 235.0)
    for _ in range(rng.integers(2, 6)):
        cx, cy, r = *rng.random(2), rng.uniform(0.08, 0.3)
        paper *= 1 - rng.uniform(0.1, 0.35) / (1 + np.exp((np.hypot(x - cx, y - cy) - r) * 40))
    for _ in range(rng.integers(0, 8)):
        cx, cy, r = *rng.random(2), rng.uniform(0.002, 0.008)
        paper *= 1 - 0.5 * (np.hypot(x - cx, y - cy) < r)
    return np.uint8(np.clip(paper * (0.15 + 0.85 * page / 255), 0, 255))


def grainy(rng, page, other):
    return np.uint8(
        np.clip(60 + page * (160 / 255) + rng.normal(0, rng.uniform(4, 20), page.shape), 0, 255)
    )


def blurred(rng, page, other):
    return np.uint8(
        np.rint(
            ndimage.gaussian_filter(
                page.astype(np.float32), rng.uniform(0.006, 0.014) * max(page.shape)
            )
        )
    )


def neighboured(rng, page, other):
    """A cut-off piece of the next character of the column, above or below, a tenth or more of its
    height away."""
    height = page.shape[0]
    piece = trimmed(other)[: int(rng.uniform(0.15, 0.4) * height)]
    piece = np.pad(
        piece, ((0, 0), (0, max(0, page.shape[1] - piece.shape[1]))), constant_values=255
    )[:, : page.shape[1]]
    gap = np.full((int(rng.uniform(0.02, 0.1) * height), page.shape[1]), 255, np.uint8)
    return np.concatenate([page, gap, piece] if rng.random() < 0.5 else [piece[::-1], gap, page])


def in_a_column(rng, page, other):
    """The character between two smaller ones in a column, a fifth of its height apart."""
    small = np.asarray(sized(other, int(0.7 * page.shape[1])))
    small = np.pad(small, ((0, 0), (0, page.shape[1] - small.shape[1])), constant_values=255)
    return np.concatenate([small, page, small])


def ruled(rng, page, other):
    """The lines between columns, on both sides."""
    lined = page.copy()
    width = max(2, page.shape[1] // 80)
    lined[:, width : 2 * width] = lined[:, -2 * width : -width] = 60
    return lined


def trimmed(page):
    rows, columns = np.flatnonzero((page < 128).any(1)), np.flatnonzero((page < 128).any(0))
    return page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def on_alpha(rng, page, other):
    colour = (0, 0, 0) if rng.random() < 0.5 else (255, 255, 255)
    return encoded(
        np.dstack([np.broadcast_to(np.uint8(colour), (*page.shape, 3)), 255 - page]), "PNG"
    )


KINDS = {
    "JPEG, quality 10 to 60": lambda rng, page, other: encoded(
        page, "JPEG", quality=int(rng.integers(10, 61))
    ),
    "turned by EXIF": turned,
    "16-bit PNG": lambda rng, page, other: encoded(
        Image.fromarray(page.astype(np.uint16) * 257), "PNG"
    ),
    "CMYK JPEG": lambda rng, page, other: encoded(
        Image.fromarray(coloured(page, (250, 245, 230), (30, 20, 20))).convert("CMYK"), "JPEG"
    ),
    "CMYK TIFF": lambda rng, page, other: encoded(
        Image.fromarray(page).convert("RGB").convert("CMYK"), "TIFF"
    ),
    "ink on alpha": on_alpha,
    "WebP": lambda rng, page, other: encoded(
        Image.fromarray(page).convert("RGB"), "WEBP", quality=60
    ),
    "BMP": lambda rng, page, other: encoded(page, "BMP"),
    "GIF": lambda rng, page, other: encoded(Image.fromarray(page).quantize(8), "GIF"),
    "inverted": lambda rng, page, other: 255 - page,
    "uneven light": shaded,
    "stains": stained,
    "coloured paper": aged,
    "noise": grainy,
    "out of focus": blurred,
    "a neighbour cut off": neighboured,
    "in a column": in_a_column,
    "ruled lines": ruled,
    "48 to 128 pixels": lambda rng, page, other: sized(page, int(rng.integers(48, 129))),
    "32 pixels": lambda rng, page, other: sized(page, 32),
    "16 pixels": lambda rng, page, other: sized(page, 16),
    "2,000 to 6,000 pixels": lambda rng, page, other: encoded(
        sized(page, int(rng.integers(2000, 6001))), "JPEG", quality=80
    ),
}
if heif_can_be_read():
    KINDS["HEIC"] = lambda rng, page, other: encoded(
        Image.fromarray(page).convert("RGB"), "HEIF", quality=60
    )
