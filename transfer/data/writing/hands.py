"""Made hands: brush writing simulated from KanjiVG's strokes, as more images of the old domain.

    hands/  images (H, 64, 64) uint8 · code_points (H,) int32
    hands/manifest.json  seed, images a character, version, and the checksum of the strokes they
                         were made from

Every image has a hand of its own: `Hand.draw` picks how cursive, slanted, thick and dry it writes,
from wider ranges than any one font shows. Writing is a pen's path through all strokes in their
order, including the moves between strokes. A cursive hand smooths that path over time, so that
corners become round, strokes short, and the moves visible.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from tqdm import tqdm

from transfer.data.writing import stored
from transfer.data.writing.framing import SIZE, framed
from transfer.system.errors import DataError

VERSION = 1
"""Version of the simulation: raise it when the same seed draws different images."""
LARGE = 256
"""Pixels of the longer side of a drawing before it is reduced to SIZE."""
STEP = 2.5
"""Box units between points of the pen's path."""


@dataclass(frozen=True)
class Hands:
    """images (H, 64, 64) uint8, ink 255; code_points (H,) int32; source: what they were made from
    (the manifest)."""

    images: np.ndarray
    code_points: np.ndarray
    source: dict


@dataclass(frozen=True)
class Hand:
    """How one image is written. Lengths are in units of KanjiVG's 109x109 box, angles in radians.

    cursive: 0 writes stroke by stroke, 1 runs all strokes together.
    width: of the brush.
    swing: the share by which its width follows pressure.
    nib, flat: the direction in which it writes thinner, as an angle, and by what share.
    slant, turn, aspect: of the whole character.
    bend: smooth displacement.
    shake: displacement of each stroke.
    uneven: how far one component may grow relative to the others.
    dry: the share of ink that a fast, dry brush leaves out.
    rough: unevenness of the edges.
    soft: blur at the end, in pixels of the 64x64 image.
    """

    cursive: float
    width: float
    swing: float
    nib: float
    flat: float
    slant: float
    turn: float
    aspect: float
    bend: float
    shake: float
    uneven: float
    dry: float
    rough: float
    soft: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> Hand:
        """A hand drawn at random."""
        uniform, normal = random.uniform, random.normal
        return cls(
            cursive=float(random.beta(1.1, 1.3)),
            width=float(np.exp(uniform(np.log(3.0), np.log(12.0)))),
            swing=float(uniform(0.1, 0.8)),
            nib=float(normal(-0.8, 0.5)),
            flat=float(uniform(0.0, 0.5)),
            slant=float(np.clip(normal(0.0, 0.12), -0.35, 0.35)),
            turn=float(np.clip(normal(0.0, 0.05), -0.15, 0.15)),
            aspect=float(np.exp(np.clip(normal(-0.05, 0.18), -0.5, 0.4))),
            bend=float(uniform(0.0, 3.5)),
            shake=float(uniform(0.3, 3.0)),
            uneven=float(uniform(0.0, 0.3)),
            dry=float(uniform(0.03, 0.25) if random.random() < 0.25 else 0.0),
            rough=float(uniform(0.0, 1.0) if random.random() < 0.5 else 0.0),
            soft=float(uniform(0.0, 0.9)),
        )


def resample(line: np.ndarray, step: float = STEP) -> np.ndarray:
    """(n, 2) -> (m, 2) float64, evenly spaced by about `step` along the line; at least two
    points."""
    line = np.asarray(line, np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    if along[-1] < 1e-6:
        return np.repeat(line[:1], 2, 0)
    at = np.linspace(0, along[-1], max(2, int(along[-1] / step) + 1))
    return np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], 1)


def vary(
    strokes: list[np.ndarray], parts: list[tuple[int, int]], hand: Hand, random: np.random.Generator
) -> list[np.ndarray]:
    """The strokes in this hand's proportions: components grow and shrink; strokes move, turn and
    become shorter.

    parts: (first, last) strokes of each component, last exclusive.
    """
    strokes = [s.copy() for s in strokes]
    for first, last in parts:
        if last - first in (0, len(strokes)):
            continue
        inside = np.concatenate(strokes[first:last])
        centre, scale = inside.mean(0), np.exp(random.normal(0, hand.uneven, 2))
        move = random.normal(0, 12 * hand.uneven, 2)
        for i in range(first, last):
            strokes[i] = centre + (strokes[i] - centre) * scale + move
    for i, stroke in enumerate(strokes):
        centre, angle = stroke.mean(0), random.normal(0, 0.03 * hand.shake)
        size = np.exp(random.normal(0, 0.04 * hand.shake))
        rotation = size * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        strokes[i] = centre + (stroke - centre) @ rotation.T + random.normal(0, hand.shake, 2)
        if random.random() < 0.5 * hand.cursive and len(stroke) > 4:
            cut = int(len(stroke) * random.uniform(0, 0.35) * hand.cursive)
            strokes[i] = (
                strokes[i][cut:] if random.random() < 0.3 else strokes[i][: len(stroke) - cut]
            )
    return strokes


def path(
    strokes: list[np.ndarray], hand: Hand, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The pen's path (n, 2) through all strokes and its pressure (n,), 0 where it is off the
    paper."""
    points, pressure = [], []
    joined = 0.9 * hand.cursive**0.8
    for i, stroke in enumerate(strokes):
        if i:
            start, end = strokes[i - 1][-1], stroke[0]
            # A cursive hand moves on faster, and leaves a thinner line, than it writes.
            move = resample(np.stack([start, end]), 2.0 * STEP)[1:-1]
            link = random.uniform(0.15, 0.7) if random.random() < joined else 0.0
            points.append(move)
            pressure.append(np.full(len(move), link))
        profile = np.ones(len(stroke))
        ends = min(len(stroke) // 2, 4)
        profile[:ends] *= np.linspace(random.uniform(0.5, 1.2), 1, ends)
        profile[len(stroke) - ends :] *= np.linspace(1, random.uniform(0.25, 1.1), ends)
        points.append(stroke)
        pressure.append(profile * random.uniform(0.8, 1.15))
    points, pressure = np.concatenate(points), np.concatenate(pressure)
    # Strokes that are not joined must not flow together: they are smoothed one by one.
    blur = hand.cursive * random.uniform(0.4, 4.0)
    if blur > 0.1:
        breaks = np.flatnonzero((pressure[1:] == 0) != (pressure[:-1] == 0)) + 1
        for first, last in zip([0, *breaks], [*breaks, len(points)]):
            if pressure[first] > 0:
                points[first:last] = gaussian_filter1d(
                    points[first:last], min(blur, (last - first) / 4), axis=0, mode="nearest"
                )
                pressure[first:last] = gaussian_filter1d(pressure[first:last], 0.8, mode="nearest")
    return points, pressure


def deform(points: np.ndarray, hand: Hand, random: np.random.Generator) -> np.ndarray:
    """(n, 2) -> (n, 2): apply the smooth displacement, turn, slant and aspect of the whole
    character."""
    knots = random.normal(0, hand.bend, (4, 4, 2))
    at = np.clip(points / 109.0, 0, 0.999) * 3
    low, share = np.floor(at).astype(int), at - np.floor(at)
    (x, y), (u, v) = low.T, share.T[:, :, None]
    moved = (
        knots[y, x] * (1 - u) * (1 - v)
        + knots[y, x + 1] * u * (1 - v)
        + knots[y + 1, x] * (1 - u) * v
        + knots[y + 1, x + 1] * u * v
    )
    cos, sin = np.cos(hand.turn), np.sin(hand.turn)
    linear = (
        np.array([[cos, -sin], [sin, cos]])
        @ np.array([[1.0, -hand.slant], [0.0, 1.0]])
        @ np.diag([hand.aspect, 1.0])
    )
    return (points + moved - 54.5) @ linear.T


def paint(
    points: np.ndarray, pressure: np.ndarray, hand: Hand, random: np.random.Generator
) -> np.ndarray:
    """Path and pressure -> (64, 64) uint8, ink 255. The longer side fills the picture, as in the
    published crops."""
    heading = np.arctan2(*np.gradient(points, axis=0).T[::-1])
    thin = 1 - hand.flat * np.abs(np.sin(heading - hand.nib))
    drift = gaussian_filter1d(random.normal(0, 1, len(points)), 4) * 1.5
    radius = (
        0.5 * hand.width * thin * np.clip(1 + hand.swing * (pressure - 1 + 0.4 * drift), 0.12, 1.8)
    )
    radius = np.where(pressure > 0, np.maximum(radius * np.minimum(1, 0.3 + pressure), 0.6), 0)
    down = radius > 0
    low, high = (points - radius[:, None])[down].min(0), (points + radius[:, None])[down].max(0)
    scale = (LARGE - 1) / max(high - low)
    size = np.maximum(np.ceil((high - low) * scale).astype(int) + 1, 8)
    image = Image.new("L", tuple(int(s) for s in size))
    pen = ImageDraw.Draw(image)
    at, radii = (points - low) * scale, radius * scale
    for i in range(len(points)):
        if not down[i]:
            continue
        if i and down[i - 1]:
            steps = (
                int(np.hypot(*(at[i] - at[i - 1])) / max(2.0, 0.5 * min(radii[i], radii[i - 1])))
                + 1
            )
        else:
            steps = 1
        for share in np.arange(1, steps + 1) / steps:
            (x, y), r = (
                at[i] if steps == 1 else at[i - 1] + share * (at[i] - at[i - 1]),
                radii[i] if steps == 1 else radii[i - 1] + share * (radii[i] - radii[i - 1]),
            )
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    if hand.rough or hand.dry:
        ink = (
            np.asarray(image.filter(ImageFilter.GaussianBlur(2 + 3 * hand.rough)), np.float32) / 255
        )
        grain = gaussian_filter(random.standard_normal(ink.shape).astype(np.float32), 1.5) * 5
        level = np.clip(0.5 + 0.22 * hand.rough * grain, 0.1, 0.9)
        if hand.dry:
            # The hairs of a dry brush leave streaks along the direction of writing, about that of
            # the nib.
            streaks = gaussian_filter(
                random.standard_normal(ink.shape).astype(np.float32),
                (1.0, 9.0) if random.random() < 0.5 else (9.0, 1.0),
            )
            streaks /= streaks.std() + 1e-6
            level = level + np.where(
                streaks > np.quantile(streaks[::4, ::4], 1 - hand.dry), 0.6, 0.0
            )
        image = Image.fromarray(np.where(ink > level, 255, 0).astype(np.uint8))
    box = image.getbbox()
    if box is None:
        return np.zeros((SIZE, SIZE), np.uint8)
    out = framed(image.crop(box))
    return np.asarray(out.filter(ImageFilter.GaussianBlur(hand.soft)) if hand.soft > 0.2 else out)


def write(
    strokes: list[np.ndarray], parts: list[tuple[int, int]], hand: Hand, random: np.random.Generator
) -> np.ndarray:
    """Write one character: (64, 64) uint8, ink 255. strokes: list of (n, 2) polylines in box units
    in writing order.

    parts: (first, last) strokes of each component, last exclusive.
    """
    # Where there are many strokes a scribe takes a thinner line, or they would run together.
    hand = dataclasses.replace(hand, width=hand.width * min(1.0, (9 / len(strokes)) ** 0.4))
    varied = vary([resample(s) for s in strokes], parts, hand, random)
    points, pressure = path(varied, hand, random)
    return paint(deform(points, hand, random), pressure, hand, random)


# The collection in the data folder ----------------------------------------------------------------

_glyphs: dict[int, list[tuple[list[np.ndarray], list[tuple[int, int]]]]] = {}


def _know(glyphs: dict) -> None:
    global _glyphs
    _glyphs = glyphs


def _write_all(job: tuple[int, int, int]) -> tuple[int, np.ndarray]:
    """(code point, images, seed) -> the code point and its images. Runs in a worker that knows the
    glyphs."""
    point, count, seed = job
    random, forms = np.random.default_rng([seed, point]), _glyphs[point]
    images = []
    for _ in range(count):
        form = (
            0 if len(forms) == 1 or random.random() < 0.7 else int(random.integers(1, len(forms)))
        )
        images.append(write(*forms[form], Hand.draw(random), random))
    return point, np.stack(images)


def glyphs_of(new, code_points: Iterable[int]) -> dict[int, list]:
    """For every code point the strokes and components of its standard form, and then of its
    variants (`corpus.New`)."""
    wanted, found = set(int(c) for c in code_points), {}
    variants = np.asarray(new.variants)
    for i in np.argsort(variants != "", kind="stable"):
        point = int(new.code_points[i])
        if point in wanted:
            strokes = new.strokes(int(i))
            records = new.components(int(i))
            parts = sorted(
                {
                    (int(r["first"]), int(r["last"]))
                    for r in records
                    if 0 < r["last"] - r["first"] < len(strokes)
                }
            )
            found.setdefault(point, []).append((strokes, parts))
    return found


def prepare(
    folder: Path,
    new,
    code_points: Iterable[int],
    each: int = 16,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Write `each` images of every code point and leave them in <folder>/hands/, whole or not at
    all; returns that path.

    new: the corpus's modern glyphs (`corpus.New`). jobs: the number of processes [one for each
    core]. The images depend only on seed and code point. Raises DataError if `each` is below 1 or
    the folder cannot be written.
    """
    if each < 1:
        raise DataError(f"--each {each}: give 1 or more images for each character")
    glyphs = glyphs_of(new, code_points)
    points = sorted(glyphs)
    with stored.written(folder, "hands", "the made hands") as part:
        images = np.lib.format.open_memmap(
            part / "images.npy", "w+", np.uint8, (len(points) * each, SIZE, SIZE)
        )
        with multiprocessing.get_context("spawn").Pool(
            jobs or os.cpu_count(), _know, (glyphs,)
        ) as pool:
            done = pool.imap(_write_all, [(p, each, seed) for p in points], 16)
            for number, (_, written) in enumerate(
                tqdm(done, desc="made hands", total=len(points), unit="kanji", disable=not progress)
            ):
                images[number * each : (number + 1) * each] = written
        images.flush()
        np.save(part / "code_points.npy", np.repeat(np.array(points, np.int32), each))
        source = {"version": VERSION, "seed": seed, "each": each, "characters": len(points)}
        stored.write_manifest(part, source)
    return folder / "hands"


def load(folder: Path) -> Hands | None:
    """What `prepare` left in <folder>/hands, memory-mapped; None if there is nothing. Raises
    DataError if it is damaged."""
    build = lambda manifest, images, code_points: Hands(images, code_points, dict(manifest))
    return stored.opened(folder, "hands", ("images", "code_points"), build, "hands")
