"""What is evaluated: the images of a split, the model's result for each, and the truth.

An evaluator is a module with one function, `measure(cases) -> Measures`; `EVALUATORS` in
transfer/commands/evaluate.py lists them.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from transfer.data.corpus import Corpus
from transfer.data.splits import HANDS
from transfer.evaluation import cross_fitting, unseen_hands
from transfer.evaluation.hog import HogJudge
from transfer.evaluation.judges import PRETRAINED, Judge, clean_images, strokes_image
from transfer.inference.pipeline import CHUNK, KuzushijiTransfer
from transfer.inference.result import Result
from transfer.reading_aids import forms_of
from transfer.stages import encoding
from transfer.system.errors import DataError
from transfer.training import weights

LISTED = 50
"""How many candidates the model lists for an image."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """What an evaluator found.

    per_image: metric -> (N,) float, NaN where it does not apply to an image. The report gives their
    means, with intervals and by groups.
    overall: metric -> number that only the whole split has.
    """

    per_image: dict[str, np.ndarray]
    overall: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DrawingReadings:
    """How the recogniser reads k drawings of each image. answers: (N, k) code points, -1 for an
    empty drawing. ranks: (N, k), of the right kanji, 0 is best. mean_ranks: (N,), its rank by the
    mean probability over the k drawings."""

    answers: np.ndarray
    ranks: np.ndarray
    mean_ranks: np.ndarray


@dataclasses.dataclass(frozen=True)
class Cases:
    """One split's images and results. recogniser: the judge that names a drawing; HOG if none was
    trained. images: (N, 64, 64) uint8. code_points: (N,) int32. glyphs: (N,), index of the true
    kanji's standard form in corpus.new. train_count: (N,), training images of the class. truth: its
    strokes. baseline: None if there is none."""

    folder: Path
    corpus: Corpus
    split: str
    samples: int
    seed: int
    model: KuzushijiTransfer
    recogniser: Judge | HogJudge
    baseline: Judge | None
    images: np.ndarray
    code_points: np.ndarray
    glyphs: np.ndarray
    train_count: np.ndarray
    truth: list[list[np.ndarray]]
    results: list[Result]
    left_out: int
    cross_fitted: bool = False
    """Whether `results` come from models whose exponents and calibration were fitted on other
    images (see `cross_fitting`)."""
    sources: np.ndarray | None = None
    """(N,) str, where each image comes from. None if all have one source."""

    @cached_property
    def readings(self) -> DrawingReadings:
        """The recogniser's reading of every drawing; an image's best-ranked drawing comes first."""
        answers, ranks, mean_ranks = [], [], []
        with tqdm(
            total=len(self.results), desc="reading the drawings", unit="image", disable=None
        ) as bar:
            for at in range(0, len(self.results), 32):
                part, label = self.results[at : at + 32], self.labels[at : at + 32]
                blank = np.array([[not s for s in r.strokes] for r in part])
                scores = self.recogniser.log_probabilities(
                    np.stack([strokes_image(s) for r in part for s in r.strokes])
                )
                worst = scores.shape[1]
                answers.append(
                    np.where(
                        blank, -1, self.recogniser.classes[scores.argmax(1)].reshape(blank.shape)
                    )
                )
                own = rank(scores, np.repeat(label, blank.shape[1])).reshape(blank.shape)
                ranks.append(np.where(blank, worst, own))
                mean = (np.exp(scores).reshape(*blank.shape, worst) * ~blank[..., None]).sum(
                    1
                )  # an empty drawing has no say
                mean_ranks.append(np.where(blank.all(1), worst, rank(mean, label)))
                bar.update(len(part))
        return DrawingReadings(
            np.concatenate(answers), np.concatenate(ranks), np.concatenate(mean_ranks)
        )

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) the true kanji's index among the recogniser's classes."""
        return np.searchsorted(self.recogniser.classes, self.code_points)

    @cached_property
    def new_posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """z_new of the true glyphs as the new VAE encodes them: mean and log-variance, (N, 64)
        each."""
        return encoding.encode_images(
            self.folder, "new", np.asarray(self.corpus.new.images[self.glyphs])
        )

    @cached_property
    def train_latents(self) -> tuple[np.ndarray, np.ndarray]:
        """z_old of the train split as the old VAE encodes it: means (M, 64), code points (M,)."""
        chosen, points = encoding.old_examples(self.corpus, "train")
        known = np.isin(points, self.corpus.new.code_points[self.corpus.new.gallery()])
        mean, _ = encoding.encode_kept(
            self.folder, self.corpus.old.images[chosen[known]], progress="z_old of train"
        )
        return mean, points[known]


def recogniser_of(judges: Path, corpus: Corpus) -> Judge | HogJudge:
    """The judge that names a picture of a modern kanji: the trained recogniser, or HOG if the
    package's own folder lacks it. Raises WeightsError."""
    if weights.exists(judges, "recogniser") or judges != PRETRAINED:
        return Judge(judges, "recogniser")
    return hog_of(corpus)


def hog_of(corpus: Corpus) -> HogJudge:
    """HOG over the corpus's gallery."""
    gallery = corpus.new.gallery()
    return HogJudge(clean_images(corpus, gallery), np.asarray(corpus.new.code_points[gallery]))


def gather(
    folder: Path,
    judges: Path,
    corpus: Corpus,
    split: str,
    samples: int = 10,
    seed: int = 0,
    limit: int | None = None,
) -> Cases:
    """Let the model read and draw every image of the split whose kanji is in KanjiVG, or `limit` of
    them, chosen by seed.

    folder: weights or runs of the model; judges: the folder of recogniser and baseline; the
    package's own may lack them. Raises WeightsError, and DataError if the split has no images.
    """
    gallery = corpus.new.gallery()
    every = images_of(corpus, split)
    images, points, sources = every.images, every.code_points, every.sources
    if not len(images):
        raise DataError(
            f"{corpus.folder}: holds no images of the split {split!r}; choose another, or get the"
            " files that are missing"
        )
    recogniser = recogniser_of(judges, corpus)
    baseline = Judge(judges, "baseline") if weights.exists(judges, "baseline") else None
    known = np.isin(points, corpus.new.code_points[gallery]) & np.isin(points, recogniser.classes)
    left_out, images = int((~known).sum()), images[np.flatnonzero(known)]
    points, sources = points[known], sources[known]
    kept = np.arange(len(images))
    if limit is not None and limit < len(images):
        kept = np.sort(np.random.default_rng(seed).permutation(len(images))[:limit])
    model = KuzushijiTransfer.load(folder)
    parts = [(model, kept)]
    if cross_fitted := cross_fitting.chosen_on(model, corpus, split):
        known_to_model = np.isin(points, [ord(c) for c in model.characters])
        halves = encoding.two_halves(len(images))
        learn = [half[known_to_model[half]] for half in halves[::-1]]
        refit = lambda index: cross_fitting.refitted(model, corpus, images[index], points[index])
        parts = [
            (refit(others) if len(others) else model, np.intersect1d(half, kept))
            for half, others in zip(halves, learn)
        ]
    drawn = {}
    with tqdm(total=len(kept), desc="drawing", unit="image", disable=None) as bar:
        for drawer, index in parts:
            for at in range(0, len(index), CHUNK):
                part = index[at : at + CHUNK]
                drawn |= zip(
                    part.tolist(),
                    drawer.transfer(images[part], samples=samples, seed=seed, top=LISTED),
                )
                bar.update(len(part))
    images, points, results = images[kept], points[kept], [drawn[i] for i in kept]
    glyphs = gallery[np.searchsorted(corpus.new.code_points[gallery], points)]
    trained = np.sort(encoding.old_examples(corpus, "train")[1])
    count = np.searchsorted(trained, points, "right") - np.searchsorted(trained, points, "left")
    return Cases(
        Path(folder),
        corpus,
        split,
        samples,
        seed,
        model,
        recogniser,
        baseline,
        images,
        points,
        glyphs,
        count,
        [corpus.new.strokes(int(g)) for g in glyphs],
        results,
        left_out,
        cross_fitted,
        sources[kept],
    )


def images_of(corpus: Corpus, split: str) -> unseen_hands.Selection:
    """The images of a split of the books, or of the unseen hands. Raises DataError."""
    if split == HANDS:
        gallery = corpus.new.gallery()
        return unseen_hands.select(corpus, np.asarray(corpus.new.code_points[gallery]))
    chosen, points = encoding.old_examples(corpus, split)
    images = np.array(corpus.old.images[chosen])
    return unseen_hands.Selection(images, points, np.full(len(images), "books"))


def places_of(result: Result, character: str) -> tuple[int, int]:
    """Ranks of a character in a result's candidates, 0 is best: as it is labelled, and in any form.

    For the first rank the labelled form itself must be in the list: a candidate's other forms come
    after the candidate and before the next one. A character that is not listed has the rank of the
    list's length.
    """
    forms = result.other_forms or [()] * len(result.candidates)
    groups = [[c, *(o for o, _ in others)] for (c, _), others in zip(result.candidates, forms)]
    flat = [c for group in groups for c in group]
    labelled = flat.index(character) if character in flat else max(len(flat), LISTED)
    return labelled, next(
        (n for n, g in enumerate(groups) if character in g), max(len(flat), LISTED)
    )


def same_character(character: str) -> str:
    """The form that represents all forms of a character: the modern Japanese one."""
    return forms_of(character)[0]


def rank(scores: np.ndarray, label) -> np.ndarray:
    """How many other classes score as high as `label` or higher: (n,) int for scores (n, C). label:
    an index, or one for each row.

    Ties count against the right class, here as everywhere: equal scores for all classes mean no
    knowledge.
    """
    return encoding.places(scores, np.broadcast_to(np.asarray(label).reshape(-1), len(scores)))


def top_hits(
    name: str, ranks: np.ndarray, places: tuple[int, ...] = (1, 5, 10)
) -> dict[str, np.ndarray]:
    """`name`, top-1, -5 and -10: 1 where the rank is below, else 0."""
    return {f"{name}, top-{k}": (ranks < k).astype(np.float64) for k in places}
