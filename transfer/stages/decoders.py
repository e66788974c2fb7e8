"""Stage 3: one interface to the two decoders of z_new into strokes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transfer.data.corpus import Corpus
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.stages.point_decoder import PointDecoder, sketch_rnn_task
from transfer.stages.stroke_decoder import StrokeDecoder, stroke_rnn_task
from transfer.training import weights
from transfer.training.loop import Task

TASKS = {SketchRNNConfig: sketch_rnn_task, StrokeRNNConfig: stroke_rnn_task}


class Decoder(Protocol):
    """A trained decoder of z_new into strokes.

    config: its configuration, whose `temperature` is the default for drawing.
    unit: what it writes in a step, "point" or "stroke".
    """

    config: Any
    unit: str

    def lengths(self, z: np.ndarray, pictures: np.ndarray) -> np.ndarray:
        """About how long each drawing takes, (n,), in arbitrary units; batches are sorted by it.

        z: (n, 64) float32. pictures: (n, 64, 64) float32 in [0, 1], the new VAE's of z.
        """

    def draw(
        self,
        z: np.ndarray,
        pictures: np.ndarray,
        keys: np.ndarray,
        temperature: float,
        lengths: np.ndarray,
    ) -> tuple[list[list[np.ndarray]], np.ndarray]:
        """One drawing for each z, and its likeness to its picture.

        z, pictures: as in `lengths`.
        keys: (n, 2) uint32, the data of random keys; no drawing depends on its neighbours.
        temperature: of the pen, above 0.
        lengths: (n,), from `lengths`.

        Returns n lists of (points, 2) float32 polylines in box units, and cosines (n,) between the
        ink of both (`stroke_forms.likeness`).
        """

    def targets(self, corpus: Corpus, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Glyphs (n,) of corpus.new as the decoder writes them, (n, …), and their lengths (n,).

        Lengths are in `unit`s. Raises TrainingError for a glyph that is too long for it.
        """

    def negative_log_likelihood(
        self, targets: np.ndarray, count: np.ndarray, z: np.ndarray, pictures: np.ndarray
    ) -> np.ndarray:
        """NLL of drawings, (n,) in nats, given z and pictures as in `lengths`.

        targets, count: from `targets`.
        """


def load_decoder(folder: Path) -> Decoder:
    """The decoder of a runs or weights folder. Raises WeightsError."""
    params, arrays, described = weights.load(weights.find(folder, "sketch_rnn"))
    kind = StrokeDecoder if "stroke_points" in described["config"] else PointDecoder
    return kind.of(params, arrays, described)


def decoder_preset(preset: str) -> SketchRNNConfig | StrokeRNNConfig:
    """The settings of a preset: `paper` writes point by point, the others stroke by stroke."""
    return getattr(SketchRNNConfig if preset == "paper" else StrokeRNNConfig, preset)()


def decoder_task(
    config: SketchRNNConfig | StrokeRNNConfig, corpus: Corpus, folder: Path, seed: int = 0
) -> Task:
    """The training task of a configuration's decoder, in `folder`."""
    return TASKS[type(config)](config, corpus, folder, seed)
