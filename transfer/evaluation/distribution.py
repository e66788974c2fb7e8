"""Evaluator: is the model as certain as it should be?"""

from __future__ import annotations

import numpy as np

from transfer.evaluation.calibration import auroc, bootstrap, expected_calibration_error
from transfer.evaluation.cases import Cases, Measures, places_of
from transfer.evaluation.stroke_quality import derangement


def measure(cases: Cases) -> Measures:
    """Measures of the certainty that the model states.

    - NLL of the true strokes, per point or stroke, given the predicted z_new, and given the z_new
      of an image of another kanji.
    - How many kanji the drawings of one image look like.
    - Calibration error of the candidates' probabilities.
    - AUROC of the uncertainty for mistakes: the best candidate's and the mean over pixels for wrong
      images, and each pixel's for wrong pixels.
    """
    confidence, hit = confidences(cases)
    sure = np.array([r.verdict == "sure" for r in cases.results])
    doubt = np.array([r.uncertainty.mean() for r in cases.results])
    pixel_doubt, pixel_wrong = pixels(cases)
    unit = cases.model.decoder.unit
    found = {
        f"NLL per {unit}": stroke_nll(cases, np.arange(len(cases.results))),
        f"NLL per {unit}, another image's z": stroke_nll(
            cases, derangement(cases.code_points, cases.seed)
        ),
        f"different kanji among {cases.samples} drawings": np.array(
            [len(set(a)) for a in cases.readings.answers], float
        ),
        "confidence of the best candidate": confidence,
        'called "sure"': sure.astype(float),
        '"sure" readings right': np.where(sure, hit, np.nan),
        '"sure" and wrong': (sure & ~hit).astype(float),
        "pixel uncertainty, right": np.where(hit, doubt, np.nan),
        "pixel uncertainty, wrong": np.where(hit, np.nan, doubt),
    }
    image = np.stack([confidence, hit, doubt], 1)
    interval = lambda statistic: bootstrap(image, statistic, seed=cases.seed)
    overall = {
        "AURC, area under the risk-coverage curve": interval(
            lambda x: float(risk_coverage(x[:, 0], x[:, 1] > 0)[1].mean())
        ),
        "expected calibration error": interval(
            lambda x: expected_calibration_error(x[:, 0], x[:, 1] > 0)
        ),
        "expected calibration error, equal-mass bins": interval(
            lambda x: expected_calibration_error(x[:, 0], x[:, 1] > 0, adaptive=True)
        ),
        "AUROC of 1 - confidence for wrong images": interval(
            lambda x: auroc(-x[:, 0], x[:, 1] == 0)
        ),
        "AUROC of pixel uncertainty for wrong images": interval(
            lambda x: auroc(x[:, 2], x[:, 1] == 0)
        ),
        "AUROC of pixel uncertainty for wrong pixels": auroc(pixel_doubt, pixel_wrong),
    }
    return Measures(found, overall)


def confidences(cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    """The best candidate's probability (N,) and whether it is right, in any form, (N,) bool."""
    hit = [places_of(r, chr(c))[1] == 0 for r, c in zip(cases.results, cases.code_points)]
    return np.array([r.candidates[0][1] for r in cases.results]), np.array(hit, bool)


def risk_coverage(confidence: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (N,) and risk (N,): of the n readings with the highest confidence, n / N and the
    share that is wrong (El-Yaniv and Wiener 2010)."""
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    return count / len(order), np.cumsum(~hit[order]) / count


def pixels(cases: Cases, limit: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Uncertainty of pixels, and whether their prediction is off by more than a half, (n,) each.

    limit: the most pixels; if there are more, a random sample of them.
    """
    truth = np.asarray(cases.corpus.new.images[cases.glyphs]) / 255.0
    wrong = abs(np.stack([r.pixels for r in cases.results]) - truth) > 0.5
    doubt = np.stack([r.uncertainty for r in cases.results])
    chosen = np.random.default_rng(cases.seed).permutation(wrong.size)[:limit]
    return doubt.ravel()[chosen], wrong.ravel()[chosen]


def stroke_nll(cases: Cases, conditioned_on: np.ndarray) -> np.ndarray:
    """NLL of each image's true strokes, (N,) in nats, per point or stroke as the decoder writes.

    conditioned_on: (N,) int, the image whose predicted z_new the strokes are given.
    """
    decoder = cases.model.decoder
    results = [cases.results[i] for i in conditioned_on]
    z, pictures = np.stack([r.z_new for r in results]), np.stack([r.pixels for r in results])
    targets, count = decoder.targets(cases.corpus, cases.glyphs)
    return (decoder.negative_log_likelihood(targets, count, z, pictures) / count).astype(float)
