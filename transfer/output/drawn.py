"""What can be written to files, whoever made it."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class OldHand:
    """One form of a kanji as old hands wrote it.

    picture: (64, 64) uint8, ink 255 on paper 0.
    distance: of its z_old from the image's, Euclidean.
    after: what it shows or imitates: "books", or "fonts" if no book of the data set has the kanji.
    name: of the image in its data set, "U+82B1/0f3a….png"; "" for a painted one, which is not a
    historical image.
    """

    picture: np.ndarray
    distance: float
    after: Literal["books", "fonts"] = "books"
    name: str = ""

    @property
    def painted(self) -> bool:
        """Whether a model painted it."""
        return not self.name


class Drawn(Protocol):
    """The fields of `transfer.inference.result.Result` that pictures and files show; see there."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def strokes(self) -> list[list[np.ndarray]]: ...

    @property
    def written(self) -> list[str]: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def pixels(self) -> np.ndarray: ...

    @property
    def candidates(self) -> list[tuple[str, float]]: ...

    @property
    def other_forms(self) -> list[tuple[tuple[str, float], ...]]: ...

    @property
    def old_hands(self) -> list[tuple[OldHand, ...]]: ...

    @property
    def kana(self) -> tuple[str, float] | None: ...

    @property
    def old_reconstruction(self) -> np.ndarray: ...

    @property
    def new_reconstruction(self) -> np.ndarray: ...

    @property
    def z_old(self) -> np.ndarray: ...

    @property
    def z_new(self) -> np.ndarray: ...

    @property
    def uncertainty(self) -> np.ndarray: ...

    @property
    def order(self) -> np.ndarray: ...

    @property
    def verdict(self) -> str: ...

    @property
    def familiarity(self) -> float: ...

    @property
    def note(self) -> str: ...

    def svg(
        self, i: int = 0, animate: bool = False, uncertainty: bool = False, numbers: bool = True
    ) -> str: ...
