"""What is written, whoever made it."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Drawn(Protocol):
    """The fields of `transfer.inference.result.Result` that pictures and files show; see there."""

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
    verdict: str
    familiarity: float
    note: str

    def svg(
        self, i: int = 0, animate: bool = False, uncertainty: bool = False, numbers: bool = True
    ) -> str: ...
