"""Evaluator: are the strokes the right ones, in the right order and place? Beside it the same for a
wrong kanji."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from transfer.evaluation.cases import Cases, Measures
from transfer.evaluation.strokes import compare


def measure(cases: Cases) -> Measures:
    """The best-ranked drawing against KanjiVG's strokes of the true kanji, and of another image's
    kanji chosen at random ("wrong kanji"): a measure is worth what lies between the two. "right"
    ones are those of drawings that the recogniser reads right. Last, how far the two best drawings
    of one image lie apart."""
    drawn = [r.strokes[0] for r in cases.results]
    other = derangement(cases.code_points, cases.seed)
    bar = tqdm(total=len(drawn), desc="comparing strokes", unit="image", disable=None)
    true, wrong, apart = [], [], []
    for drawing, i, result in zip(drawn, other, cases.results):
        true.append(compare(drawing, cases.truth[len(true)]))
        wrong.append(compare(drawing, cases.truth[i]))
        apart.append(
            compare(result.strokes[1], result.strokes[0])["chamfer"]
            if cases.samples > 1 and all(result.strokes[:2])
            else np.nan
        )
        bar.update()
    bar.close()
    column = lambda rows, key: np.array([row[key] for row in rows], float)
    right, found = cases.readings.answers[:, 0] == cases.code_points, {}
    for name, of in (
        ("stroke count exact", lambda rows: column(rows, "count_error") == 0),
        ("stroke count within 1", lambda rows: abs(column(rows, "count_error")) <= 1),
        ("stroke count error", lambda rows: abs(column(rows, "count_error"))),
        ("strokes matched", lambda rows: column(rows, "coverage")),
        ("stroke order agreement", lambda rows: column(rows, "order")),
        ("stroke direction agreement", lambda rows: column(rows, "direction")),
        ("length-independent DTW", lambda rows: column(rows, "ldtw")),
        ("AIoU", lambda rows: column(rows, "aiou")),
        ("Chamfer distance", lambda rows: column(rows, "chamfer")),
    ):
        found[name] = np.asarray(of(true), float)
        found[f"{name}, right ones"] = np.where(right, found[name], np.nan)
        found[f"{name}, wrong kanji"] = np.asarray(of(wrong), float)
    found["Chamfer distance between two drawings"] = np.array(apart, float)
    return Measures(found)


def derangement(classes: np.ndarray, seed: int) -> np.ndarray:
    """For each of (N,) classes the index of an entry of another class, at random; its own where
    there is no other."""
    random, out = np.random.default_rng(seed), np.arange(len(classes))
    for i, own in enumerate(classes):
        for j in random.integers(0, len(classes), 100):
            if classes[j] != own:
                out[i] = j
                break
    return out
