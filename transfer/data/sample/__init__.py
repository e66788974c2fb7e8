"""Turns the hand-drawn glyphs of `sample.glyphs` into a small stand-in for both published data
sets, in their layouts.

`write` makes `kkanji.tar` (cursive, brushed 64x64 images, rendered here from the glyphs' own
strokes) and `kanjivg-00000000.xml.gz` (the glyphs). It contains no third-party data, so that
everything runs without any download. It is a rehearsal, not a data set: the old domain imitates the
look of Kuzushiji-Kanji, not its forms.
"""

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from transfer.data.sample import glyphs
from transfer.system.errors import DataError

# Raise it when the written bytes change, so that an older sample folder is not taken for this one.
VERSION = 1
TAR, XML = "kkanji.tar", "kanjivg-00000000.xml.gz"
LARGEST_CLASS = 40
SIZE = 64
_BOX = 109.0
_ZOOM = 3  # the brush works on a canvas this many times finer than the image
_LOST = "㇐㇔㇀"  # stroke types that a fast hand may leave out
_HANDS = 3  # ways to join and drop strokes that the images of a class share


def write(folder, seed: int = 0, images_per_class: int | None = None) -> None:
    """Write the sample corpus into a folder: `kkanji.tar` and `kanjivg-00000000.xml.gz`.

    One seed gives the same bytes as long as numpy and Pillow stay the same versions. Takes about 10
    s on one core.

    Args:
        folder: made if it is not there; each file replaces an earlier one only once it is whole.
        seed: decides the images and class sizes of the old domain; the glyphs are always the same.
        images_per_class: at most this many images of each class, for quick tests; they are the
        first ones of the full corpus.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = Path(folder)
    contents = {
        XML: gzip.compress(_kanjivg().encode(), compresslevel=9, mtime=0),
        TAR: _kkanji(seed, images_per_class),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _replace(folder / name, content)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{folder}: the sample corpus cannot be written ({reason}); choose another folder"
        ) from None


def class_sizes(seed: int = 0) -> dict[str, int]:
    """Images per kanji: 1 to 40, about 12 on average, most classes small and a few large, as in
    Kuzushiji-Kanji."""
    kanji = glyphs.characters()
    rank = (np.random.default_rng([seed, 0]).permutation(len(kanji)) + 0.5) / len(kanji)
    return dict(zip(kanji, (1 + np.floor(LARGEST_CLASS * rank**2.5)).astype(int).tolist()))


def render(character: str, index: int, seed: int = 0) -> np.ndarray:
    """The index-th old image of a kanji: (64, 64) uint8, ink 255 on 0. KeyError if the sample has
    no such kanji."""
    rng = np.random.default_rng([seed, 1, ord(character), index])
    lines = _cursive(character, int(rng.integers(_HANDS)), rng, seed)
    lines = _frame(_warp(lines, rng), rng)
    strokes = len(glyphs.glyph(character).strokes())
    width = 4.4 * (8 / (strokes + 3)) ** 0.22 * np.exp(rng.normal(0, 0.2))
    if rng.random() < 0.3:
        lines += _neighbour(rng, seed)
    return _ink(_brush(lines, float(np.clip(width, 2.2, 6.5)), rng), rng)


# --- files ----------------------------------------------------------------------------------------


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # mkstemp makes it private
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _kkanji(seed: int, images_per_class: int | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for character, size in class_sizes(seed).items():
            count = size if images_per_class is None else min(size, images_per_class)
            images = {
                _name(character, index, seed): render(character, index, seed)
                for index in range(count)
            }
            for name in sorted(images):
                png = io.BytesIO()
                Image.fromarray(images[name]).save(png, "PNG")
                member = tarfile.TarInfo(f"kkanji2/{name}")
                member.size = png.tell()
                png.seek(0)
                tar.addfile(member, png)
    return buffer.getvalue()


def _name(character: str, index: int, seed: int) -> str:
    """The published form of a name: U+4E00/<16 hex digits>.png."""
    digest = hashlib.sha256(f"sample {seed} {character} {index}".encode()).hexdigest()[:16]
    return f"U+{ord(character):04X}/{digest}.png"


def _kanjivg() -> str:
    """The glyphs in the layout of KanjiVG's single-file release."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        (
            "<!-- The built-in sample in KanjiVG's layout; drawn for this project, not taken from"
            " KanjiVG. -->"
        ),
        "<kanjivg xmlns:kvg='http://kanjivg.tagaini.net'>",
    ]
    for character in glyphs.characters():
        stem = f"{ord(character):05x}"
        lines.append(f'<kanji id="kvg:kanji_{stem}">')
        lines += _group(glyphs.glyph(character), f"kvg:{stem}", {"g": -1, "s": 0}, "")
        lines.append("</kanji>")
    return "\n".join([*lines, "</kanjivg>", ""])


def _group(group: glyphs.Group, stem: str, count: dict[str, int], indent: str) -> list[str]:
    count["g"] += 1
    number = f"-g{count['g']}" if count["g"] else ""
    element = f' kvg:element="{group.element}"' if group.element else ""
    part = f' kvg:part="{group.part}"' if group.part else ""
    lines = [f'{indent}<g id="{stem}{number}"{element}{part}>']
    for item in group.items:
        if isinstance(item, glyphs.Group):
            lines += _group(item, stem, count, indent + "\t")
        else:
            count["s"] += 1
            drawn = glyphs.path(item)
            lines.append(
                f'{indent}\t<path id="{stem}-s{count["s"]}" kvg:type="{item.type}" d="{drawn}"/>'
            )
    return [*lines, f"{indent}</g>"]


# --- the old hand ---------------------------------------------------------------------------------


@dataclass
class _Line:
    """What the brush draws without leaving the paper: (n, 2) points, x right, y down, and the
    pressure (n,) there."""

    points: np.ndarray
    pressure: np.ndarray


def _even(points: np.ndarray, step: float) -> np.ndarray:
    """The polyline's points at equal distances of about `step`, both ends kept."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, along[-1], max(3, int(along[-1] / step) + 1))
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=1)


def _sampled(curves: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, 9)[:, None, None]
    a, b, c, d = curves.transpose(1, 0, 2)
    points = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d
    return _even(points.transpose(1, 0, 2).reshape(-1, 2), 1.5)


def _touch(kind: str, n: int) -> np.ndarray:
    """Brush pressure along a stroke of a KanjiVG type: how the brush is set down, moved and
    lifted."""
    at, marks = (
        np.linspace(0, 1, n),
        {
            "㇒": ((0, 0.15, 0.6, 1), (0.75, 1.1, 0.8, 0.2)),
            "㇓": ((0, 0.15, 0.6, 1), (0.75, 1.1, 0.8, 0.2)),
            "㇏": ((0, 0.3, 0.8, 1), (0.45, 0.8, 1.3, 0.3)),
            "㇔": ((0, 0.7, 1), (0.4, 1.15, 0.7)),
            "㇀": ((0, 0.2, 1), (1, 1, 0.2)),
            "㇐": ((0, 0.12, 0.5, 0.9, 1), (0.8, 0.95, 0.75, 1, 0.7)),
        }.get(kind, ((0, 0.1, 0.9, 1), (0.8, 1.05, 1, 0.6))),
    )
    return np.interp(at, *marks)


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing along axis 0, in samples, that keeps both ends in place."""
    reach = min(int(3 * sigma) + 1, len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    before, after = (
        2 * values[:1] - values[reach:0:-1],
        2 * values[-1:] - values[-2 : -reach - 2 : -1],
    )
    padded = np.concatenate([before, values, after])
    return np.stack(
        [np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], axis=1
    )


def _cursive(character: str, hand: int, rng: np.random.Generator, seed: int) -> list[_Line]:
    """Strokes joined, dropped and rounded off, component by component.

    The hand decides what is joined and dropped, so that images of a class share their cursive form.
    The image decides how far corners are cut and how much each stroke strays.
    """
    form = np.random.default_rng([seed, 2, ord(character), hand])
    speed = np.clip(
        form.beta(1.8, 1.3) + rng.normal(0, 0.1), 0, 1
    )  # 0: every stroke written out, 1: one flowing line
    join, drop = 0.1 + 0.8 * speed, 0.35 * max(speed - 0.4, 0)
    lines, run = [], []
    for leaf in glyphs.glyph(character).leaves():
        shift, scale = rng.normal(0, 2.2, 2), np.exp(rng.normal(0, 0.08, 2))
        middle = np.mean([stroke.curves.mean(axis=(0, 1)) for stroke in leaf.items], axis=0)
        for index, stroke in enumerate(leaf.items):
            dropped, joined = form.random(2) < (drop, join if index else 0.5 * join * speed)
            if dropped and 0 < index < len(leaf.items) - 1 and stroke.type in _LOST:
                continue
            points = _sampled(stroke.curves)
            points = (points - middle) * scale + middle + shift + rng.normal(0, 1.3, 2)
            touch = _touch(stroke.type, len(points)) * np.exp(rng.normal(0, 0.1))
            if run and not (joined and np.hypot(*(points[0] - run[-1][0][-1])) < 25 + 50 * speed):
                lines.append(_finish(run, speed))
                run = []
            run = _join(run, points, touch, speed * rng.uniform(0.5, 1))
    return [*lines, _finish(run, speed)]


def _join(run: list, points: np.ndarray, touch: np.ndarray, speed: float) -> list:
    """Carry a run of strokes on into the next one: both fall short, and a lighter trail leads from
    one to the other."""
    if not run:
        return [(points, touch)]
    before, weight = run[-1]
    short = 0.32 * speed
    kept, start = (
        max(3, round(len(before) * (1 - short))),
        max(0, min(len(points) - 3, round(len(points) * short))),
    )
    before, points = before[:kept], points[start:]
    way = _even(np.stack([before[-1], points[0]]), 1.5)[1:-1]
    light = np.clip(0.8 - len(way) / 60, 0.25, 0.65) * (0.7 + 0.5 * speed)
    return [
        *run[:-1],
        (before, weight[:kept]),
        (way, np.full(len(way), light)),
        (points, touch[start:]),
    ]


def _finish(run: list, speed: float) -> _Line:
    points, pressure = np.concatenate([p for p, _ in run]), np.concatenate([w for _, w in run])
    sigma = 0.8 + (1.0 + 4.5 * speed) * min(1.0, len(points) / 50)
    return _Line(_smooth(points, sigma), _smooth(pressure[:, None], 2.0)[:, 0])


def _warp(lines: list[_Line], rng: np.random.Generator) -> list[_Line]:
    """Slant, rising horizontals, uneven proportions and a slow wave over the whole character."""
    lean, rise, turn = rng.normal(0.02, 0.09), rng.normal(-0.1, 0.06), rng.normal(0, 0.04)
    matrix = np.array([[1, -lean], [rise, 1]]) @ np.array([[1, turn], [-turn, 1]])
    matrix[0] *= np.exp(rng.normal(-0.1, 0.14))
    height, phase, pace = (
        rng.normal(0, 2.2, (2, 2)),
        rng.uniform(0, 2 * np.pi, (2, 2)),
        rng.uniform(0.03, 0.07, (2, 2)),
    )
    warped = []
    for line in lines:
        bend = (height * np.sin(line.points[:, :, None] * pace + phase)).sum(axis=1)
        warped.append(_Line((line.points - _BOX / 2 + bend) @ matrix.T, line.pressure))
    return warped


def _frame(lines: list[_Line], rng: np.random.Generator) -> list[_Line]:
    """Fit a character into the image as the published crops do: it almost fills the image, closer
    to one side than to the other."""
    points = np.concatenate([line.points for line in lines])
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum(high - low, 0.22 * _BOX) * (1, rng.uniform(0.88, 1.15))
    room = SIZE - rng.uniform(2, 9)
    scale = room / extent.max() * np.array([1, rng.uniform(0.9, 1.1)])
    scale *= np.minimum(1, (SIZE - 3) / (scale * (high - low) + 1e-6))
    centre = SIZE / 2 + rng.normal(0, 1.2, 2)
    return [
        _Line((line.points - (low + high) / 2) * scale + centre, line.pressure) for line in lines
    ]


def _neighbour(rng: np.random.Generator, seed: int) -> list[_Line]:
    """The bit of the character above or below it in the column that a crop catches."""
    kanji = glyphs.characters()
    lines = _frame(_warp(_cursive(kanji[rng.integers(len(kanji))], 0, rng, seed), rng), rng)
    offset = np.array([rng.normal(0, 8), rng.choice([-1, 1]) * rng.uniform(SIZE - 10, SIZE - 1)])
    moved = [_Line(line.points + offset, line.pressure) for line in lines]
    return [line for line in moved if np.any((line.points > -3) & (line.points < SIZE + 3))]


# --- brush, ink and paper -------------------------------------------------------------------------


def _brush(lines: list[_Line], width: float, rng: np.random.Generator) -> Image.Image:
    """Draw lines as trails of round dabs, wider across the brush's tip, on a canvas that is `_ZOOM`
    times as fine."""
    canvas = Image.new("L", (SIZE * _ZOOM, SIZE * _ZOOM))
    draw = ImageDraw.Draw(canvas)
    tip, flatness = rng.normal(0.35, 0.25), rng.uniform(0.05, 0.3)
    for line in lines:
        points = _even(line.points, 0.6)
        pressure = np.interp(
            np.linspace(0, 1, len(points)), np.linspace(0, 1, len(line.pressure)), line.pressure
        )
        heading = np.arctan2(*np.gradient(points, axis=0).T[::-1])
        radius = (
            width / 2 * _ZOOM * pressure * (1 + flatness * (np.abs(np.sin(heading - tip)) * 2 - 1))
        )
        radius = np.maximum(radius, 0.45 * _ZOOM)
        x, y = points.T * _ZOOM
        for box in np.stack([x - radius, y - radius, x + radius, y + radius], axis=1).tolist():
            draw.ellipse(box, fill=255)
    return canvas


def _ink(canvas: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Ink that bleeds and runs dry, specks of the paper, and the scanner's hard contrast; (64, 64)
    uint8."""
    spread = canvas.resize((SIZE, SIZE), Image.Resampling.BOX).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.35, 0.8))
    )
    ink = np.asarray(spread, dtype=np.float32) / 255
    dryness = rng.uniform(0.25, 0.5) if rng.random() < 0.35 else rng.uniform(0.02, 0.15)
    ink = ink * (
        1
        - dryness
        * np.maximum(0.5 * _grain(rng, 1) + 0.9 * _grain(rng, 2) + 0.6 * _grain(rng, 6), -0.4)
    )
    for x, y in rng.uniform(0, SIZE, (rng.poisson(1.5), 2)).astype(int):
        ink[y : y + rng.integers(1, 3), x : x + rng.integers(1, 3)] += rng.uniform(0.2, 0.7)
    hardness, level = rng.uniform(4.5, 10), rng.uniform(0.38, 0.48)
    paper, ink = 1 / (1 + np.exp(-hardness * np.stack([np.full_like(ink, -level), ink - level])))
    return np.round(np.clip((ink - paper - 0.01) / (0.93 - paper), 0, 1) * 255).astype(np.uint8)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """(64, 64) float32 noise of unit variance whose grains are about `size` pixels wide."""
    side = -(-SIZE // size)
    noise = rng.standard_normal((side, side), dtype=np.float32)
    return np.asarray(Image.fromarray(noise).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
