"""Make the example pictures in examples/ from a cursive brush font, as the kinds of files that
users have.

    python experiments/make_examples.py FONT [--out DIR]

FONT is KouzanBrushFontSousyo.ttf (Debian: apt-get install fonts-kouzan-mouhitsu, then
/usr/share/fonts/truetype/kouzan-mouhitsu/KouzanBrushFontSousyo.ttf). The same font gives the same
pixels.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from transfer.data.writing import fonts
from transfer.system.entry import guarded

# name, character, pixels (width, height), kind
EXAMPLES = [
    ("hana", "花", (240, 240), "plain"),
    ("haru", "春", (200, 260), "plain"),
    ("kuni", "国", (180, 180), "old paper"),
    ("tsuki", "月", (160, 240), "plain"),
    ("ame", "雨", (256, 256), "light on dark, alpha"),
    ("yama", "山", (120, 120), "plain"),
    ("michi", "道", (400, 400), "plain"),
    ("kami", "神", (300, 300), "ink alone on alpha"),
]


def glyph(font_path: Path, character: str, size: tuple[int, int]) -> np.ndarray:
    """The character's ink, (height, width) uint8, 255 = full ink, centred with a margin of about a
    tenth."""
    font = ImageFont.truetype(str(font_path), min(size) * 2)
    sheet = fonts.ink(font, character)
    scale = 0.8 * min(size[0] / sheet.width, size[1] / sheet.height)
    small = sheet.resize(
        (round(sheet.width * scale), round(sheet.height * scale)), Image.Resampling.LANCZOS
    )
    out = Image.new("L", size)
    out.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return np.asarray(out)


def picture(ink: np.ndarray, kind: str) -> Image.Image:
    cover = ink[..., None] / 255.0
    if kind == "old paper":
        rng = np.random.default_rng(0)
        blots = Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8))
        stain = blots.resize(ink.shape[::-1], Image.Resampling.BICUBIC)
        light = (
            1
            - 0.25 * np.linspace(0, 1, ink.shape[1])[None, :, None]
            + (np.asarray(stain)[..., None] - 128) / 2500
        )
        rgb = light * (np.array([222, 196, 150]) * (1 - cover) + np.array([52, 40, 38]) * cover)
        soft = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(0.6)
        )
        return soft.quantize(48, dither=Image.Dither.NONE)
    if kind == "light on dark, alpha":
        rgb = np.array([28, 34, 60]) * (1 - cover) + np.array([240, 236, 224]) * cover
        corner = Image.new("L", ink.shape[::-1])
        ImageDraw.Draw(corner).rounded_rectangle(
            (0, 0, ink.shape[1] - 1, ink.shape[0] - 1), 20, 255
        )
        return Image.fromarray(np.dstack([rgb.astype(np.uint8), np.asarray(corner)]))
    if kind == "ink alone on alpha":
        return Image.fromarray(np.dstack([np.zeros((*ink.shape, 3), np.uint8), ink]))
    return Image.fromarray(255 - ink)


@guarded
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("font", type=Path, help="KouzanBrushFontSousyo.ttf")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "examples")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, character, size, kind in EXAMPLES:
        path = arguments.out / f"{name}_U+{ord(character):04X}.png"
        picture(glyph(arguments.font, character, size), kind).save(path, optimize=True)
        print(f"{path.name}: {kind}, {size[0]}x{size[1]}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
