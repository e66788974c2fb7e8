"""Frames every hand as Kuzushiji-Kanji frames its characters."""

from __future__ import annotations

from PIL import Image

SIZE = 64


def framed(
    ink: Image.Image,
    box: tuple[int, int, int, int] | None = None,
    resampling: Image.Resampling = Image.Resampling.BOX,
) -> Image.Image:
    """Ink in a picture of 64x64. Its longer side fills the picture; the shorter one is centred on
    paper.

    ink: one channel, "L" or "F"; paper is 0. The framed picture has the same mode.
    box: (left, top, right, bottom) of the ink, right and bottom exclusive; None for all of it.
    resampling: how the ink is scaled.
    """
    left, top, right, bottom = box or (0, 0, *ink.size)
    scale = SIZE / max(right - left, bottom - top)
    size = tuple(max(1, round(s * scale)) for s in (right - left, bottom - top))
    small = ink.resize(size, resampling, box)
    out = Image.new(ink.mode, (SIZE, SIZE))
    out.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
    return out
