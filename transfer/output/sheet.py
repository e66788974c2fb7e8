"""Turns a Result into one picture: input, both reconstructions, predicted pixels, the drawings, and
the ranked candidates."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from transfer.data.raster import rasterise
from transfer.data.strokes import BOX
from transfer.output.drawn import Drawn, OldHand
from transfer.output.uncertainty import heatmap

PANEL = 192  # pixels a side: three for each of the models' 64
GAP = 16
CAPTION = 22  # pixels above each row of panels
LINE = 20  # pixels a line of candidates
GREY = (110, 110, 110)
MARK = (200, 60, 40)


def sheet(result: Drawn, columns: int = 5, top: int = 10) -> Image.Image:
    """RGB picture of a Result (see transfer.inference.pipeline): everything as black ink on white
    paper.

    Row 1: input | old VAE's reconstruction | predicted pixels | where readings differ | new VAE's
    picture of the best candidate. Then follow the drawings, best first, `columns` in a row, with
    strokes tinted from black to blue and numbered in writing order. Then, if there are any, come
    old hands of the first `columns` candidates, a panel for each. The verdict and the first `top`
    candidates are last, as code point and percentage, so that no Japanese font is needed.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}; give 1 or more")
    best = f" {_name(result.candidates[0][0])}" if result.candidates else ""
    panels = [
        ("input", grey(result.image)),
        ("old VAE reconstruction", grey(result.old_reconstruction)),
        ("predicted pixels", grey(result.pixels)),
        (
            "where readings differ",
            Image.fromarray(heatmap(result.pixels, result.uncertainty, PANEL)),
        ),
        ("new VAE" + best, grey(result.new_reconstruction)),
    ]
    drawings = [
        (f"drawing {i + 1}", draw_strokes(strokes)) for i, strokes in enumerate(result.strokes)
    ]
    rows = [panels] + [drawings[i : i + columns] for i in range(0, len(drawings), columns)]
    old = [
        (f"old hands of {_name(c)}", mosaic(hands))
        for (c, _), hands in list(zip(result.candidates, result.old_hands))[:columns]
        if hands
    ]
    rows += [old] if old else []
    painted = any(hand.painted for hands in result.old_hands[:columns] for hand in hands)
    width = GAP + max(len(row) for row in rows) * (PANEL + GAP)
    per_line = max(1, (width - GAP) // 130)
    listed = [f"{_name(c)} {100 * p:.1f} %" for c, p in result.candidates[:top]]
    lines = -(-len(listed) // per_line)
    remark = LINE if painted else 0
    height = len(rows) * (CAPTION + PANEL + GAP) + (CAPTION + lines * LINE if lines else 0) + GAP
    height += remark
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    for r, row in enumerate(rows):
        y = GAP // 2 + r * (CAPTION + PANEL + GAP)
        for c, (caption, panel) in enumerate(row):
            x = GAP + c * (PANEL + GAP)
            pen.text((x, y), caption, GREY, font)
            page.paste(panel, (x, y + CAPTION))
            pen.rectangle(
                (x - 1, y + CAPTION - 1, x + PANEL, y + CAPTION + PANEL), outline=(220, 220, 220)
            )
    y = GAP // 2 + len(rows) * (CAPTION + PANEL + GAP)
    if painted:
        pen.text(
            (GAP, y - GAP // 2),
            "old hands: painted by the model, not historical images; nearest to the input first",
            MARK,
            font,
        )
    y += remark
    if listed:
        pen.text(
            (GAP, y),
            f"candidates ({result.verdict})",
            GREY if result.verdict == "sure" else MARK,
            font,
        )
        for i, text in enumerate(listed):
            pen.text(
                (GAP + i % per_line * 130, y + CAPTION + i // per_line * LINE), text, "black", font
            )
    return page


def draw_strokes(polylines: list[np.ndarray], size: int = PANEL) -> Image.Image:
    """(size, size) RGB drawing on white. Each stroke's colour and number show its place in the
    writing order."""
    page = Image.new("RGB", (size, size), "white")
    for number, stroke in enumerate(polylines):
        late = number / max(len(polylines) - 1, 1)
        colour = (round(20 + 20 * late), round(20 + 60 * late), round(20 + 140 * late))
        page.paste(colour, mask=Image.fromarray(rasterise([stroke], size)))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for number, stroke in enumerate(polylines, 1):
        x, y = np.asarray(stroke[0], float) * size / BOX
        # Beside the stroke's start, kept inside the panel.
        pen.text(
            (min(max(x - 9, 0), size - 12), min(max(y - 11, 0), size - 12)), str(number), MARK, font
        )
    return page


def mosaic(hands: tuple[OldHand, ...]) -> Image.Image:
    """(PANEL, PANEL) RGB: four old hands at most, from left to right and from top to bottom."""
    page, half = Image.new("RGB", (PANEL, PANEL), "white"), PANEL // 2
    for i, hand in enumerate(hands[:4]):
        page.paste(grey(hand.picture, half), (i % 2 * half, i // 2 * half))
    return page


def _name(character: str) -> str:
    return f"U+{ord(character):04X}"


def grey(ink: np.ndarray, size: int = PANEL) -> Image.Image:
    """Ink (64, 64), uint8 or float in [0, 1], as (size, size) RGB, black on white. Pixels stay
    square and sharp."""
    ink = np.asarray(ink)
    if ink.dtype != np.uint8:
        ink = np.rint(np.clip(np.nan_to_num(ink.astype(np.float32)), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(255 - ink).resize((size, size), Image.Resampling.NEAREST).convert("RGB")
