"""Predictions -> the measures of the evaluation that need nothing but candidates and drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from transfer.data.corpus import Corpus
from transfer.data.splits import class_of
from transfer.evaluation import report, stroke_quality
from transfer.evaluation.cases import hog_of, rank, recogniser_of, top_hits
from transfer.evaluation.hog import HogJudge
from transfer.evaluation.judges import PRETRAINED, strokes_image
from transfer.evaluation.predictions.table import Predictions
from transfer.system.errors import DataError


def measure(
    predictions: Predictions, corpus: Corpus, judges_folder: Path | None = None
) -> tuple[dict[str, np.ndarray], int]:
    """Each measure as (N,) float, NaN where it does not apply, and how many images were left out
    because KanjiVG lacks their kanji.

    Candidates are measured by top-1, -5 and -10. Drawings, if there are any, are measured by what
    the recogniser and HOG read (top-1, -5, -10; an empty drawing is wrong), and by their strokes
    against KanjiVG's. Names and definitions are those of `kuzushiji-transfer evaluate`. Raises
    DataError if no image is left, and WeightsError if the judges are missing.
    """
    gallery = corpus.new.gallery()
    points = np.asarray(corpus.new.code_points[gallery])
    known = np.ones(len(points), bool)
    readers = []
    if predictions.drawings is not None:
        recogniser = recogniser_of(judges_folder or PRETRAINED, corpus)
        alone = isinstance(recogniser, HogJudge)
        readers = [recogniser] if alone else [recogniser, hog_of(corpus)]
        known = np.isin(points, readers[0].classes)
    true = np.array([int(class_of(name)[2:], 16) for name in predictions.names])
    kept = np.flatnonzero(np.isin(true, points[known]))
    if not len(kept):
        raise DataError(
            "KanjiVG lacks the kanji of every image of the split; nothing can be scored"
        )
    true, names = true[kept], [chr(point) for point in true[kept]]
    listed = [predictions.candidates[i] for i in kept]
    places = np.array([k.find(c) if c in k else len(k) + 10**6 for k, c in zip(listed, names)])
    found = top_hits("candidates", places)
    if predictions.drawings is not None:
        drawn = [predictions.drawings[i] for i in kept]
        found |= _read_by(readers, drawn, true)
        glyphs = gallery[np.searchsorted(points, true)]
        truth = [corpus.new.strokes(int(glyph)) for glyph in glyphs]
        rows = [stroke_quality.compare(strokes, its) for strokes, its in zip(drawn, truth)]
        found |= stroke_quality.named(rows)
    return found, len(predictions.names) - len(kept)


def _read_by(readers: list, drawn: list, true: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    blank = np.array([not strokes for strokes in drawn])
    images = np.stack([strokes_image(strokes) for strokes in drawn])
    for reader in readers:
        ranks = []
        for at in range(0, len(images), 256):
            scores = reader.log_probabilities(images[at : at + 256])
            ranks.append(rank(scores, np.searchsorted(reader.classes, true[at : at + 256])))
        worst = len(reader.classes)
        found |= top_hits(f"{reader.name}: drawing", np.where(blank, worst, np.concatenate(ranks)))
    return found


def summarise(measured: dict[str, np.ndarray], about: dict) -> dict:
    """{"about": about, "metrics": {name: [mean, low, high, n]}}, with 95 % percentile bootstrap
    intervals over images; None if a measure applies to no image."""
    return {"about": about, "metrics": report.intervals(measured)}


def markdown(summary: dict) -> str:
    """A table of all measures, and one line for the leaderboard."""
    about = summary["about"]
    lines = [
        f"# {about['predictions']} on {about['split']}",
        "",
        f"{about['images']:,} images ({about['left_out']:,} more have no KanjiVG glyph and are left"
        " out). In brackets 95 % bootstrap intervals over images.",
        "",
        "| measure | | images |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} | {report.cell(metric)} | {metric[-1]:,} |"
        for name, metric in summary["metrics"].items()
    ]
    return "\n".join(lines) + "\n"


def write(summary: dict, out: Path) -> None:
    """Write predictions.json and predictions.md in the folder `out`, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    report.write_both(summary, markdown(summary), out, "predictions.json", "predictions.md")
