"""Pictures that are not Kuzushiji kanji, by kind, made from what is installed: generated pictures,
letters from fonts, and photographs from packages.

`kinds()` gives for each kind a function of (generator, count) that returns that many grey pictures
(H, W) uint8, dark on light or as they come. Fonts come from matplotlib and the system's font
folders; photographs come with scikit-image, scikit-learn and matplotlib. A kind whose sources are
not installed is left out; `sources()` says what was found.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

FONT_FOLDERS = [
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".fonts",
    Path("/Library/Fonts"),
    Path("/System/Library/Fonts"),
    Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
]
SCRIPTS = {
    "Greek and Cyrillic letters": [*range(0x391, 0x3CA), *range(0x410, 0x450)],
    "other scripts": [
        *range(0x531, 0x557),
        *range(0x10D0, 0x10F1),
        *range(0x5D0, 0x5EB),
        *range(0x2D30, 0x2D60),
        *range(0x1401, 0x1600, 7),
        *range(0xE81, 0xEB0),
    ],
    "signs and arrows": [
        *range(0x2190, 0x21C0),
        *range(0x2200, 0x2260),
        *range(0x2600, 0x2640),
        *range(0x2701, 0x2730),
    ],
    "Latin letters": [*range(0x41, 0x5B), *range(0x61, 0x7B)],
    "digits": [*range(0x30, 0x3A)],
    "hangul": [*range(0xAC00, 0xD7A4, 37)],
    "Arabic and Devanagari": [*range(0x627, 0x64B), *range(0x905, 0x93A)],
    "printed kana": [*range(0x3042, 0x3094), *range(0x30A2, 0x30F4)],
    "printed kanji": [*range(0x4E00, 0x9F00, 41)],
}
LEAST = {"other scripts": 0.2, "Arabic and Devanagari": 0.3, "printed kanji": 0.2}
"""Share of a script's characters that a font must have, where it is not three quarters."""
TEXTURES = (
    "brick",
    "grass",
    "gravel",
    "page",
    "text",
    "cell",
    "coins",
    "hubble",
    "moon",
    "microaneurysms",
)
FITTED = (
    "Greek and Cyrillic letters",
    "Greek and Cyrillic words",
    "other scripts",
    "signs and arrows",
    "cloudy noise",
    "coarse noise",
    "shapes",
    "brush strokes",
    "handwritten digits",
    "photographs, some",
)
"""Kinds that the rule is fitted on; all others are for the report alone."""
APART = ("printed kana", "printed kanji")
"""Kinds so similar that taking them for Kuzushiji kanji is partly right. They are counted apart,
and not in the rate."""


@cache
def fonts() -> dict[str, tuple[str, ...]]:
    """Script -> font files that have most of its characters; brush fonts left out, as they come
    near to Kuzushiji."""
    if find_spec("fontTools") is None:  # matplotlib brings it along
        return {script: () for script in SCRIPTS}
    folders = list(FONT_FOLDERS)
    if (found := find_spec("matplotlib")) is not None:
        folders.append(Path(found.origin).parent / "mpl-data" / "fonts")
    files = sorted(
        {
            p
            for folder in folders
            if folder.is_dir()
            for p in folder.rglob("*")
            if p.suffix.lower() in (".ttf", ".otf")
        }
    )
    has: dict[str, list[str]] = {script: [] for script in SCRIPTS}
    for path in files:
        if any(word in path.name.lower() for word in ("kouzan", "brush", "mouhitsu", "lastresort")):
            continue
        try:
            inside = covered(str(path))
        except Exception:  # fontTools raises anything on a damaged font; there are others
            continue
        for script, points in SCRIPTS.items():
            if np.mean([p in inside for p in points]) >= LEAST.get(script, 0.75):
                has[script].append(str(path))
    return {script: tuple(paths) for script, paths in has.items()}


@cache
def photographs() -> dict[str, np.ndarray]:
    """Name -> (H, W) uint8 of the pictures that installed packages bring along."""
    found = {}
    places = [
        ("skimage", "data"),
        ("sklearn", "datasets/images"),
        ("matplotlib", "mpl-data/sample_data"),
    ]
    for package, folder in places:
        if (spec := find_spec(package)) is None:
            continue
        for path in sorted((Path(spec.origin).parent / folder).glob("*")):
            if path.suffix in (".png", ".jpg") and not any(
                w in path.name for w in ("multipage", "logo", "chessboard", "color", "horse")
            ):
                found[f"{package}/{path.stem}"] = np.asarray(Image.open(path).convert("L"))
    return found


def sources() -> str:
    """One line: how many fonts and photographs there are."""
    return (
        f"{len(set().union(*fonts().values()))} fonts; {len(photographs())} photographs:"
        f" {', '.join(photographs())}"
    )


def kinds() -> dict:
    """Kind -> function (generator, count) -> list of (H, W) uint8."""
    made = {
        "white noise": white_noise,
        "cloudy noise": cloudy_noise,
        "gradients and spots": gradients,
        "shapes": shapes,
        "coarse noise": coarse_noise,
        "scribbles": scribbles,
        "brush strokes": strokes,
        "stripes and grids": stripes,
    }
    for script, files in fonts().items():
        if files:
            made[script] = lambda rng, count, script=script: letters(rng, count, script)
    for script, name in {
        "Latin letters": "words",
        "Greek and Cyrillic letters": "Greek and Cyrillic words",
    }.items():
        if script in made:
            made[name] = lambda rng, count, script=script: words(rng, count, script)
    names = [n for n in photographs() if not any(t in n for t in TEXTURES)]
    textures = [n for n in photographs() if any(t in n for t in TEXTURES)]
    for kind, chosen in {
        "photographs, some": names[::2],
        "photographs, others": names[1::2],
        "textures and pages": textures,
    }.items():
        if chosen:
            made[kind] = lambda rng, count, chosen=chosen: patches(rng, count, chosen)
    if find_spec("sklearn"):
        made["handwritten digits"] = digits
    if find_spec("matplotlib"):
        made["icons"] = icons
    return made


# Generated ----------------------------------------------------------------------------------------


def white_noise(rng, count):
    """Independent pixels, from fine to coarse, uniform or black and white."""
    made = []
    for _ in range(count):
        side, high = rng.integers(8, 97), rng.random()
        noise = (
            rng.random((side, side))
            if high < 0.5
            else rng.random((side, side)) > rng.uniform(0.05, 0.5)
        )
        made.append(enlarged(np.uint8(255 * noise), 128, Image.Resampling.NEAREST))
    return made


def coarse_noise(rng, count):
    """Random dots and dashes of one size, strewn thickly or thinly."""
    made = []
    for _ in range(count):
        dots = (rng.random((128, 128)) < 10 ** rng.uniform(-3, -1.3)).astype(np.uint8)
        made.append(255 - 255 * ndimage.grey_dilation(dots, size=tuple(rng.integers(2, 12, 2))))
    return made


def cloudy_noise(rng, count):
    """Blurred noise, as it is or cut at a level: blots with smooth outlines."""
    made = []
    for _ in range(count):
        field = ndimage.gaussian_filter(rng.standard_normal((128, 128)), rng.uniform(1.5, 16))
        field = (field - field.min()) / np.ptp(field)
        if rng.random() < 0.6:
            field = np.clip((field - rng.uniform(0.3, 0.6)) * 20, 0, 1)
        made.append(np.uint8(255 * field))
    return made


def gradients(rng, count):
    """Light falling off over bare paper, with none to three soft spots."""
    y, x = np.mgrid[:128, :128] / 128
    made = []
    for _ in range(count):
        page = rng.uniform(150, 250) * (1 - rng.uniform(0, 0.5) * x - rng.uniform(0, 0.4) * y)
        for _ in range(rng.integers(4)):
            cx, cy, r = *rng.random(2), rng.uniform(0.05, 0.4)
            page *= 1 - rng.uniform(0.1, 0.7) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / r**2)
        made.append(np.uint8(np.clip(page + rng.normal(0, rng.uniform(0, 4), page.shape), 0, 255)))
    return made


def drawn(count, draw):
    """`count` pictures (128, 128): draw(pen) puts ink on a white page of twice the side."""
    made = []
    for _ in range(count):
        page = Image.new("L", (256, 256), 255)
        draw(ImageDraw.Draw(page))
        made.append(np.asarray(page.resize((128, 128), Image.Resampling.BOX)))
    return made


def shapes(rng, count):
    """One to five rectangles, ellipses, lines and triangles, outlined or filled."""

    def one(pen):
        for _ in range(rng.integers(1, 6)):
            (x0, y0), (x1, y1) = np.sort(rng.integers(10, 246, (2, 2)), axis=0) + [[0, 0], [4, 4]]
            width, fill = int(rng.integers(3, 24)), 0 if rng.random() < 0.4 else None
            form = rng.integers(4)
            if form == 0:
                pen.rectangle((x0, y0, x1, y1), fill, 0, width)
            elif form == 1:
                pen.ellipse((x0, y0, x1, y1), fill, 0, width)
            elif form == 2:
                pen.line([tuple(map(int, p)) for p in rng.integers(10, 246, (2, 2))], 0, width)
            else:
                pen.polygon(
                    [tuple(map(int, p)) for p in rng.integers(10, 246, (3, 2))], fill, 0, width
                )

    return drawn(count, one)


def scribbles(rng, count):
    """One to three wandering pen lines of even width."""

    def one(pen):
        for _ in range(rng.integers(1, 4)):
            turn = ndimage.gaussian_filter1d(
                rng.standard_normal(120), rng.uniform(3, 9)
            ) * rng.uniform(0.5, 2.5)
            heading = np.cumsum(turn) + rng.uniform(0, 6.3)
            path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0)
            path = (path - path.min(0)) / max(np.ptp(path, axis=0).max(), 1) * 216 + 20
            pen.line([tuple(p) for p in path], 0, int(rng.integers(4, 20)), joint="curve")

    return drawn(count, one)


def strokes(rng, count):
    """One to twelve brush strokes that swell and taper, strewn at random."""

    def one(pen):
        for _ in range(rng.integers(1, 13)):
            points = (
                rng.uniform(16, 240, (3, 2))
                if rng.random() < 0.5
                else rng.uniform(16, 240, 2) + rng.normal(0, 40, (3, 2))
            )
            t = np.linspace(0, 1, 60)[:, None]
            path = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
            width = rng.uniform(3, 14) * (
                0.3 + np.sin(np.pi * np.clip(t[:, 0] * rng.uniform(0.7, 1) + 0.1, 0, 1))
            )
            for (x, y), r in zip(path, width):
                pen.ellipse((x - r, y - r, x + r, y + r), 0)

    return drawn(count, one)


def stripes(rng, count):
    """Parallel lines, grids and checks."""
    y, x = np.mgrid[:128, :128].astype(float)
    made = []
    for _ in range(count):
        angle, period = rng.uniform(0, np.pi), rng.uniform(8, 50)
        one = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        two = np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period)
        wave = [one, np.maximum(one, two), one * two][rng.integers(3)]
        made.append(
            np.uint8(
                255 * np.clip((rng.uniform(-0.2, 0.8) - wave) * rng.uniform(1, 12) + 0.5, 0, 1)
            )
        )
    return made


# Letters ------------------------------------------------------------------------------------------


def letters(rng, count, script):
    """Single characters of one script, black on white, in a font of this machine."""
    return [written(rng, 1, script) for _ in range(count)]


def words(rng, count, script):
    """Two to six letters side by side."""
    return [written(rng, int(rng.integers(2, 7)), script) for _ in range(count)]


def written(rng, length, script):
    """So many characters of a script that a font of this machine has, (H, W) uint8."""
    while True:
        path = str(rng.choice(fonts()[script]))
        has = [p for p in SCRIPTS[script] if p in covered(path)]
        text = "".join(chr(p) for p in rng.choice(has, length))
        font = ImageFont.truetype(path, 96)
        left, top, right, bottom = font.getbbox(text)
        if right - left > 3 and bottom - top > 3 and font.getmask(text).getbbox():
            page = Image.new("L", (right - left + 24, bottom - top + 24), 255)
            ImageDraw.Draw(page).text((12 - left, 12 - top), text, 0, font)
            return np.asarray(page)


@cache
def covered(path):
    """Code points that a font file has."""
    from fontTools.ttLib import TTFont

    return frozenset(TTFont(path, lazy=True).getBestCmap() or ())


# Of packages --------------------------------------------------------------------------------------


def patches(rng, count, names):
    """Squares of 48 to 400 pixels out of photographs."""
    made = []
    for _ in range(count):
        photograph = photographs()[names[rng.integers(len(names))]]
        side = int(min(rng.integers(48, 401), *photograph.shape))
        y, x = (
            rng.integers(photograph.shape[0] - side + 1),
            rng.integers(photograph.shape[1] - side + 1),
        )
        made.append(photograph[y : y + side, x : x + side])
    return made


def digits(rng, count):
    """scikit-learn's handwritten digits (8x8, of the UCI repository), enlarged."""
    from sklearn.datasets import load_digits

    images = load_digits().images
    return [
        enlarged(np.uint8(255 - images[i] * 15.9), 96, Image.Resampling.BICUBIC)
        for i in rng.integers(len(images), size=count)
    ]


def icons(rng, count):
    """matplotlib's tool bar, whole or a part."""
    folder = Path(find_spec("matplotlib").origin).parent / "mpl-data" / "images"
    made = []
    files = sorted(folder.glob("*_large.png"))
    for _ in range(count):
        icon = Image.open(files[rng.integers(len(files))]).convert("RGBA")
        page = Image.alpha_composite(Image.new("RGBA", icon.size, "white"), icon).convert("L")
        page = page.rotate(rng.choice([0, 90, 180, 270])).resize(
            (144, 144), Image.Resampling.BICUBIC
        )
        left, top = rng.integers(0, 49, 2)
        made.append(
            np.asarray(page.crop((left, top, left + 96, top + 96)) if rng.random() < 0.5 else page)
        )
    return made


def enlarged(picture, side, how):
    return np.asarray(Image.fromarray(picture).resize((side, side), how))
