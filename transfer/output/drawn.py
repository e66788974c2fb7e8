"""What can be written, whoever made it."""

from __future__ import annotations

from typing import Protocol

import numpy as np


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
