"""Make the example pictures in examples/ from a cursive font that no training sees, as the kinds of
files that users have.

    npm pack @fontsource/zhi-mang-xing@5.3.0
    python experiments/make_examples.py fontsource-zhi-mang-xing-5.3.0.tgz [--out DIR]

Zhi Mang Xing is one of the two families that are kept for measuring (`fonts.UNSEEN`). A font that
may be trained on is refused. The same package gives the same pixels.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from transfer.data.writing import fonts
from transfer.system.entry import guarded
from transfer.system.errors import DataError

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


def published(path: Path) -> fonts.Source:
    """The font of a package. Raises DataError as `fonts.read` does, and for a font that may be
    trained on: examples show what the model makes of a hand that it does not know."""
    source = fonts.read(path)
    if source.role != "unseen":
        raise DataError(
            f"{path}: {source.name} may be trained on or chosen by; give a font that is kept for"
            " measuring, as `npm pack @fontsource/zhi-mang-xing` brings it"
        )
    return source


def glyph(source: fonts.Source, character: str, size: tuple[int, int]) -> np.ndarray:
    """The character's ink, (height, width) uint8, 255 = full ink, centred with a margin of about a
    tenth. Raises DataError if the font lacks it."""
    if not any(fonts.drawn(source, np.array([ord(character)]))):
        raise DataError(f"{source.name}: lacks {character}; give a Chinese or Japanese font")
    part = next(
        content
        for content, ranges in zip(source.files, source.ranges)
        if fonts.covers(ranges, ord(character))
    )
    sheet = fonts.ink(ImageFont.truetype(io.BytesIO(part), min(size) * 2), character)
    assert sheet is not None, "it is drawn above"
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("package", type=Path, help="fontsource-zhi-mang-xing-5.3.0.tgz")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "examples")
    arguments = parser.parse_args()
    source = published(arguments.package)
    inks = [glyph(source, character, size) for _, character, size, _ in EXAMPLES]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for (name, character, size, kind), ink in zip(EXAMPLES, inks):
        path = arguments.out / f"{name}_U+{ord(character):04X}.png"
        picture(ink, kind).save(path, optimize=True)
        print(f"{path.name}: {kind}, {size[0]}x{size[1]}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
