"""Evaluator: is it the right kanji? The answer comes from the recogniser, from HOG, and from the
model's own candidates; looking up is measured for comparison."""

from __future__ import annotations

import numpy as np

from transfer.evaluation.cases import (
    Cases,
    Measures,
    places_of,
    rank,
    same_character,
    top_hits,
)
from transfer.evaluation.hog import HogJudge
from transfer.evaluation.judges import clean_images, fit_image, strokes_image
from transfer.stages import encoding


def measure(cases: Cases) -> Measures:
    """top-1, -5 and -10 (1 or 0 for each image) of every link of the chain.

    recogniser and HOG: the true glyph (their ceiling), the new VAE's reconstruction of it, the
    pixels predicted from the density, a drawing (the first sample), the drawing that the model
    ranks best; recogniser besides: best of k (oracle), majority and mean probability over k
    drawings (by HOG if no recogniser was trained). candidates: the model's own list, also counting
    any form of the character as right (國 for 国), as for drawings. look-up: the glyph of the
    baseline classifier's answer, and of the training image that is nearest in z_old, which is
    averaged as `transfer` reads it.
    """
    gallery = cases.corpus.new.gallery()
    glyph_images = clean_images(cases.corpus, gallery)
    place = np.searchsorted(
        gallery_points := np.asarray(cases.corpus.new.code_points[gallery]), cases.code_points
    )
    firsts = [int(np.argmin(r.order)) for r in cases.results]
    first = [r.strokes[at] for r, at in zip(cases.results, firsts)]
    pictures = {
        "true glyph": glyph_images[place],
        "new VAE of the true glyph": np.stack([fit_image(p) for p in reconstructions(cases)]),
        "predicted pixels": np.stack([fit_image(r.pixels) for r in cases.results]),
        "single drawing": np.stack([strokes_image(s) for s in first]),
        "best-ranked drawing": np.stack([strokes_image(r.strokes[0]) for r in cases.results]),
        "Kuzushiji image itself": np.stack([fit_image(i / 255.0) for i in cases.images]),
    }
    answered, found = look_up(cases), {}
    for name, (ranks, answer) in answered.items():
        found |= top_hits(f"{name}: answer", ranks)
        pictures[f"{name}: glyph of the answer"] = glyph_images[
            np.searchsorted(gallery_points, answer)
        ]

    reader = cases.recogniser
    hog = reader if isinstance(reader, HogJudge) else HogJudge(glyph_images, gallery_points)
    for name, images in pictures.items():
        blank = ~images.any((1, 2))
        scored = {"HOG": (hog.similarities(images), place)}
        if reader is not hog:
            scored[reader.name] = reader.log_probabilities(images), cases.labels
        for judge, (scores, label) in scored.items():
            found |= top_hits(
                f"{judge}: {name}", np.where(blank, scores.shape[1], rank(scores, label))
            )

    k, read = cases.samples, cases.readings
    found |= top_hits(f"{reader.name}: best of {k}", read.ranks.min(1))
    found |= {
        f"{reader.name}: majority of {k}, top-1": (
            majority(read.answers) == cases.code_points
        ).astype(float)
    }
    found |= top_hits(f"{reader.name}: mean probability of {k}", read.mean_ranks)
    labelled, any_form = np.array(
        [places_of(r, chr(c)) for r, c in zip(cases.results, cases.code_points)]
    ).T
    found |= top_hits("candidates", labelled, (1, 5, 10, 50))
    found |= top_hits("candidates, any form", any_form, (1, 5, 10, 50))
    group = lambda points: np.array([same_character(chr(c)) for c in points])
    for name, answers in (
        ("single", read.answers[np.arange(len(first)), firsts]),
        ("best-ranked", read.answers[:, 0]),
    ):
        hits = group(np.maximum(answers, 0)) == group(cases.code_points)
        found[f"{reader.name}: {name} drawing, any form, top-1"] = hits.astype(float)
    return Measures(found)


def majority(answers: np.ndarray) -> np.ndarray:
    """The commonest of each row, (N, k) -> (N,). If several are equally common, it is the one that
    comes first."""
    same = (answers[:, :, None] == answers[:, None, :]).sum(2)
    return answers[np.arange(len(answers)), same.argmax(1)]


def reconstructions(cases: Cases) -> np.ndarray:
    """The new VAE's picture of each true glyph, by the posterior's mean: (N, 64, 64) float32 in [0,
    1]."""
    return encoding.painter(cases.folder)(cases.new_posterior[0])


def look_up(cases: Cases) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (rank of the true class (N,), the code point answered (N,)). An unknown class has the
    worst rank."""
    out = {}
    if cases.baseline is not None:
        scores, classes = cases.baseline.log_probabilities(cases.images), cases.baseline.classes
        at = np.searchsorted(classes, cases.code_points).clip(0, len(classes) - 1)
        known = classes[at] == cases.code_points
        out["classify, then look up"] = (
            np.where(known, rank(scores, at), len(classes)),
            classes[scores.argmax(1)],
        )
    latents, points = cases.train_latents
    answer = points[nearest(np.stack([r.z_old for r in cases.results]), latents)]
    out["nearest in z_old as it is read, then look up"] = (
        np.where(answer == cases.code_points, 0, len(points)),
        answer,
    )
    return out


def nearest(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Index of the nearest of points (M, D) to each query (N, D), Euclidean: (N,)."""
    half = 0.5 * (points**2).sum(1)
    return np.concatenate(
        [
            np.argmin(half - queries[at : at + 256] @ points.T, 1)
            for at in range(0, len(queries), 256)
        ]
    )
