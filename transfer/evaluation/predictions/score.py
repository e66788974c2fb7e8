"""Predictions -> the measures of the evaluation that need nothing but candidates and drawings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from transfer.data.corpus import Corpus
from transfer.data.splits import class_of
from transfer.evaluation import judges, stroke_quality
from transfer.evaluation.calibration import bootstrap
from transfer.evaluation.cases import rank, top_hits
from transfer.evaluation.hog import HogJudge
from transfer.evaluation.judges import Judge, clean_images, strokes_image
from transfer.evaluation.predictions.table import Predictions
from transfer.system.errors import DataError
from transfer.system.files import atomic_write
from transfer.training import weights


def measure(
    predictions: Predictions, corpus: Corpus, judges_folder: Path | None = None
) -> tuple[dict[str, np.ndarray], int]:
    """Each measure as (N,) float, NaN where it does not apply, and how many images were left out
    because KanjiVG lacks their kanji.

    candidates: top-1, -5 and -10. Of drawings, where there are any: what the recogniser and HOG
    read (top-1, -5, -10; an empty drawing is wrong), and the strokes against KanjiVG's. Names and
    definitions are those of `kuzushiji-transfer evaluate`. Raises DataError where no image is left,
    WeightsError for judges that are not there.
    """
    gallery = corpus.new.gallery()
    points = np.asarray(corpus.new.code_points[gallery])
    known = np.ones(len(points), bool)
    readers = []
    if predictions.drawings is not None:
        readers = _readers(corpus, gallery, judges_folder)
        known = np.isin(points, readers[0].classes)
    true = np.array([int(class_of(name)[2:], 16) for name in predictions.names])
    kept = np.flatnonzero(np.isin(true, points[known]))
    if not len(kept):
        raise DataError("no image of the split has a kanji that KanjiVG has; nothing can be scored")
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


def _readers(corpus: Corpus, gallery: np.ndarray, folder: Path | None) -> list:
    """The recogniser, where there is one, and HOG."""
    hog = HogJudge(clean_images(corpus, gallery), np.asarray(corpus.new.code_points[gallery]))
    if folder is None and not weights.exists(judges.PRETRAINED, "recogniser"):
        return [hog]
    return [Judge(folder or judges.PRETRAINED, "recogniser"), hog]


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
    intervals over images; None where a measure applies to no image."""
    metrics = {}
    for name, values in measured.items():
        n = int(np.isfinite(values).sum())
        interval = bootstrap(values, seed=0) if n else (None, None, None)
        metrics[name] = [None if x is None else round(float(x), 5) for x in interval] + [n]
    return {"about": about, "metrics": metrics}


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
    for name, (mean, low, high, n) in summary["metrics"].items():
        value = "–" if mean is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"| {name} | {value} | {n:,} |")
    return "\n".join(lines) + "\n"


def write(summary: dict, out: Path) -> None:
    """predictions.json and predictions.md in the folder `out`, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("predictions.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n"),
        ("predictions.md", markdown(summary)),
    ):
        with atomic_write(out / name) as part:
            part.write_text(text, "utf-8")
