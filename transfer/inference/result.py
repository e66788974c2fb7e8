"""The result for one image, and how it is shown and written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from transfer.output import formats
from transfer.output import uncertainty as doubt
from transfer.output.card import card
from transfer.output.drawn import OldHand
from transfer.output.svg import drawing_to_svg


@dataclasses.dataclass(frozen=True)
class Result:
    """What one image became.

    image: (64, 64) uint8, ink 255 on paper 0.
    strokes: the drawings, the best first; each is a list of (n, 2) float32 polylines in KanjiVG's
    109x109 box, in writing order.
    written: the kanji that each drawing is meant to be.
    scores: (samples,) float32, of each drawing; higher is better.
    pixels: (64, 64) float32 in [0, 1], ink 1, the new VAE's picture of the likeliest z_new.
    candidates: (character, probability), ranked. Forms of one character (国 and 國) are one
    candidate, whose probability is theirs together.
    other_forms: the other forms of each candidate, (character, probability of that form alone).
    old_reconstruction: (64, 64) float32 in [0, 1], the old VAE's picture of z_old.
    new_reconstruction: (64, 64) float32 in [0, 1], the new VAE's of the best candidate's glyph.
    z_old: (64,) float32, averaged over warped forms of the image if the weights ask for it.
    z_new: (64,) float32, the likeliest.
    uncertainty: (64, 64) float32 in [0, 0.5], where plausible readings differ: the standard
    deviation over the pictures of the ten likeliest candidates, weighted by their probabilities.
    The drawings, their number and the seed play no part.
    order: (samples,), which sample each drawing is; 0 is the one of the likeliest z_new, and the
    only one with `samples=1`.
    verdict: "sure", "not sure", "kana" or "not a kanji" (`inference.acceptance`).
    kana: the likeliest hiragana, and the probability that the image is one of them at all; None if
    the weights know none.
    familiarity: in [0, 1], how much the image is like the Kuzushiji kanji that were trained on; NaN
    if the weights come without `acceptance.safetensors`.
    note: one line from reading the picture (`inference.images.read_image`), such as that only the
    largest of several characters was used, or "".
    nearest: finds `old_hands`, from characters and z_old; None if the weights have none.
    """

    image: np.ndarray
    strokes: list[list[np.ndarray]]
    written: list[str]
    scores: np.ndarray
    pixels: np.ndarray
    candidates: list[tuple[str, float]]
    old_reconstruction: np.ndarray
    new_reconstruction: np.ndarray
    z_old: np.ndarray
    z_new: np.ndarray
    uncertainty: np.ndarray
    order: np.ndarray
    other_forms: list[tuple[tuple[str, float], ...]] = dataclasses.field(default_factory=list)
    kana: tuple[str, float] | None = None
    verdict: str = "not sure"
    familiarity: float = float("nan")
    note: str = ""
    nearest: Callable[[list[str], np.ndarray], list[tuple[OldHand, ...]]] | None = (
        dataclasses.field(default=None, repr=False, compare=False)
    )

    @cached_property
    def old_hands(self) -> list[tuple[OldHand, ...]]:
        """Forms of each candidate that old hands wrote, the nearest to the image first.

        The old VAE paints them from the weights' prototypes on first use. A list is empty if the
        weights have no `prototypes.safetensors`, or no prototype of the kanji.
        """
        characters = [character for character, _ in self.candidates]
        return self.nearest(characters, self.z_old) if self.nearest else [()] * len(characters)

    def __getstate__(self) -> dict:
        # What finds old hands holds compiled functions; what it finds can be kept.
        return self.__dict__ | {"old_hands": self.old_hands, "nearest": None}

    def svg(
        self, i: int = 0, animate: bool = False, uncertainty: bool = False, numbers: bool = True
    ) -> str:
        """Drawing i as SVG text in KanjiVG's structure, as a variant of its kanji.

        animate: whether strokes appear in writing order (CSS).
        uncertainty: whether a stroke is fainter the less sure it is (`stroke_uncertainty`).
        numbers: whether stroke numbers stand beside the strokes, as in KanjiVG's files.
        """
        shades = doubt.opacity(self.stroke_uncertainty(i)) if uncertainty else None
        return drawing_to_svg(
            self.strokes[i],
            character=self.written[i],
            numbers=numbers,
            animate=animate,
            opacity=shades,
        )

    def heatmap(self, size: int = 256) -> np.ndarray:
        """The predicted kanji in grey on white, (size, size, 3) uint8.

        Colour over it shows where plausible readings differ.
        """
        return doubt.heatmap(self.pixels, self.uncertainty, size)

    def stroke_uncertainty(self, i: int = 0) -> np.ndarray:
        """The mean of `uncertainty` along each stroke of drawing i, float32 in [0, 0.5]."""
        return doubt.of_strokes(self.strokes[i], self.uncertainty)

    def save(
        self, path: str | os.PathLike, animate: bool = False, uncertainty: bool = False
    ) -> Path:
        """Write it in the format of the suffix, whole or not at all; returns the path.

        .svg, .pdf: the best drawing. .png: a sheet of everything. .json: candidates and all
        drawings. .ndjson: all drawings in QuickDraw's format. .npz: all arrays.

        animate, uncertainty: as in `svg`. Raises ValueError for another suffix, and OSError if it
        cannot be written.
        """
        return formats.save(self, path, animate, uncertainty)

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return card(self)
