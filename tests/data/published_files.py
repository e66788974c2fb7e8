"""Small files in the published layouts, for the tests of this folder."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

PATHS = ["M10,20C30,20,60,20,95,20", "M50,10c0,20,0,50,0,80"]
SVG = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.0//EN" \
"http://www.w3.org/TR/2001/REC-SVG-20010904/DTD/svg10.dtd" [
<!ATTLIST g
xmlns:kvg CDATA #FIXED "http://kanjivg.tagaini.net"
kvg:element CDATA #IMPLIED >
<!ATTLIST path
xmlns:kvg CDATA #FIXED "http://kanjivg.tagaini.net"
kvg:type CDATA #IMPLIED >
]>
<svg xmlns="http://www.w3.org/2000/svg" width="109" height="109" viewBox="0 0 109 109">
<g id="kvg:StrokePaths_{stem}"><g id="kvg:{stem}">{paths}</g></g>
<g id="kvg:StrokeNumbers_{stem}"><text>1</text></g>
</svg>"""


def image(value: int) -> np.ndarray:
    """A (64, 64) picture that tells its number."""
    out = np.zeros((64, 64), np.uint8)
    out[value % 60 : value % 60 + 4, 10:50] = 255 - value // 60 % 200
    return out


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def kkanji_members(classes: dict[int, int]) -> dict[str, bytes]:
    """{code point: number of images} -> {"kkanji2/U+4E00/<16 hex>.png": content}."""
    return {
        f"kkanji2/U+{c:04X}/{c * 1000 + i:016x}.png": png(image(c + i))
        for c, count in classes.items()
        for i in range(count)
    }


def xml_gz(path: Path, glyphs: dict[str, list[str]]) -> Path:
    """{"04e00": path data of each stroke} -> a single-file release."""
    body = "".join(
        f'<kanji id="kvg:kanji_{stem}"><g id="kvg:{stem}">{_paths(stem, paths)}</g></kanji>'
        for stem, paths in glyphs.items()
    )
    path.write_bytes(
        gzip.compress(f"<kanjivg xmlns:kvg='http://kanjivg.tagaini.net'>{body}</kanjivg>".encode())
    )
    return path


def svg(stem: str, paths: list[str]) -> str:
    return SVG.format(stem=stem, paths=_paths(stem, paths))


def svg_zip(path: Path, glyphs: dict[str, list[str]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for stem, paths in glyphs.items():
            archive.writestr(f"kanji/{stem}.svg", svg(stem, paths))
    return path


def _paths(stem: str, paths: list[str]) -> str:
    return "".join(
        f'<path id="kvg:{stem}-s{i}" kvg:type="㇐" d="{d}"/>' for i, d in enumerate(paths, 1)
    )


def small_set(folder: Path) -> Path:
    """20 classes of 8 images, glyphs for all of them and one variant."""
    folder.mkdir(parents=True, exist_ok=True)
    code_points = range(0x4E00, 0x4E14)
    tar(folder / "kkanji.tar", kkanji_members(dict.fromkeys(code_points, 8)))
    svg_zip(
        folder / "kanjivg-20000101-all.zip",
        {f"{c:05x}": PATHS for c in code_points} | {"04e00-Kaisho": PATHS[:1], "03042": PATHS},
    )
    return folder
