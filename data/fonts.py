"""Brush fonts as more images of the old domain: every kanji that a font has, drawn as Kuzushiji-Kanji draws them.

    fonts/  images (F, 64, 64) uint8 · code_points (F,) int32 · font (F,) uint8 into the manifest's list
    fonts/manifest.json  the fonts' names, sha256 and bytes

Debian's packages fonts-kouzan-mouhitsu, fonts-aoyagi-soseki and fonts-aoyagi-kouzan-t hold five brush fonts by Aoyagi Kouzan, in the
public domain: kaisho, gyosho (行書) and the cursive sosho (草書), of about 6,400 of KanjiVG's kanji each.
"""
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from .errors import DataError
from .prepare import fingerprint

SIZE = 64
_LARGE = 160  # pixels an em that glyphs are drawn at before they are reduced


@dataclass(frozen=True)
class Fonts:
    """images (F, 64, 64) uint8, ink 255; code_points (F,) int32; font (F,) uint8 into names; sources: name -> {sha256, bytes}."""

    images: np.ndarray
    code_points: np.ndarray
    font: np.ndarray
    names: list[str]
    sources: dict[str, dict]


def ink(font: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """The character at the font's size, ink 255, cropped to its ink; None for a blank glyph."""
    left, top, right, bottom = font.getbbox(character)
    if right <= left or bottom <= top:
        return None
    sheet = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(sheet).text((-left, -top), character, 255, font)
    box = sheet.getbbox()
    return None if box is None else sheet.crop(box)


def draw(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray | None:
    """(64, 64) uint8, ink 255, the longer side filling the picture as in the published crops; None for a blank glyph."""
    sheet = ink(font, character)
    if sheet is None:
        return None
    scale = SIZE / max(sheet.size)
    small = sheet.resize(tuple(max(1, round(s * scale)) for s in sheet.size), Image.Resampling.BOX)
    out = Image.new("L", (SIZE, SIZE))
    out.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
    return np.asarray(out)


def prepare(folder: Path, paths: list[Path], code_points: np.ndarray, progress: bool = True) -> Path:
    """Draw `code_points` with every font and write <folder>/fonts/, whole or not at all; returns that path.

    A character that a font lacks is left out: fonts show one and the same sign for all they lack, which a private code point
    tells. Raises DataError for a file that is no font, and where the folder cannot be written.
    """
    images, points, number, sources = [], [], [], {}
    for at, path in enumerate(paths):
        try:
            font = ImageFont.truetype(str(path), _LARGE)
        except OSError as error:
            raise DataError(f"{path}: cannot be read as a font ({error}); give a .ttf or .otf file") from None
        absent = draw(font, "\U0010fffd")
        for code_point in tqdm(code_points, desc=path.stem, unit="kanji", disable=not progress, leave=False):
            image = draw(font, chr(int(code_point)))
            if image is not None and not (absent is not None and np.array_equal(image, absent)):
                images.append(image)
                points.append(int(code_point))
                number.append(at)
        sources[path.name] = fingerprint(path)
    if not images:
        raise DataError(f"{', '.join(map(str, paths))}: none of the {len(code_points)} kanji is in there; give a Japanese font")
    part = folder / f"fonts.tmp-{os.getpid()}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        np.save(part / "images.npy", np.stack(images))
        np.save(part / "code_points.npy", np.array(points, np.int32))
        np.save(part / "font.npy", np.array(number, np.uint8))
        described = (
            json.dumps({"names": [p.name for p in paths], "sources": sources}, indent=1) + "\n"
        )
        (part / "manifest.json").write_text(described, encoding="utf-8")
        shutil.rmtree(folder / "fonts", ignore_errors=True)
        os.rename(part, folder / "fonts")
    except OSError as error:
        raise DataError(f"{folder}: the fonts' images cannot be written ({error.strerror or error}); free space there") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / "fonts"


def load(folder: Path) -> Fonts | None:
    """What `prepare` left in <folder>/fonts, memory-mapped; None where there is nothing. Raises DataError where it is damaged."""
    where = Path(folder) / "fonts"
    if not (where / "manifest.json").is_file():
        return None
    try:
        manifest = json.loads((where / "manifest.json").read_text("utf-8"))
        images, code_points, font = (np.load(where / f"{n}.npy", mmap_mode="r", allow_pickle=False)
                                     for n in ("images", "code_points", "font"))
        if not len(images) == len(code_points) == len(font):
            raise ValueError("its arrays differ in length")
        return Fonts(images, code_points, font, manifest["names"], manifest["sources"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{where}: cannot be read ({error}); run `python -m data fonts FONT… --data {folder}` again") from None
