"""Four images of the sample corpus with results made by hand, and a recogniser that compares
pixels."""

import numpy as np
import pytest

from transfer.data import corpus as corpora
from transfer.evaluation.cases import Cases
from transfer.evaluation.judges import clean_images
from transfer.inference.result import Result

SAMPLES = 3


class PixelJudge:
    """Log-probabilities by cosine similarity with the clean glyphs: a judge whose answers are plain
    to see."""

    name, sample = "recogniser", True

    def __init__(self, corpus):
        gallery = corpus.new.gallery()
        self.classes = np.asarray(corpus.new.code_points[gallery])
        self._glyphs = self._unit(clean_images(corpus, gallery))

    @staticmethod
    def _unit(images):
        flat = np.asarray(images, np.float64).reshape(len(images), -1)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)

    def log_probabilities(self, images):
        scores = 50 * self._unit(images) @ self._glyphs.T
        return scores - np.log(np.exp(scores).sum(1, keepdims=True))


@pytest.fixture(scope="session")
def sample_corpus():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KUZUSHIJI_DATA", raising=False)
        return corpora.load(quiet=True)


@pytest.fixture(scope="session")
def pixel_judge(sample_corpus):
    return PixelJudge(sample_corpus)


@pytest.fixture
def cases(sample_corpus, pixel_judge):
    """Image 0: all three drawings right. 1: only the best-ranked one, which is sample 2. 2: none.
    3: nothing was drawn.

    Candidates have the right kanji at place 0, 1, 6 and not at all; confidences are 0.9, 0.6, 0.5,
    0.3.
    """
    new = sample_corpus.new
    gallery = new.gallery()
    glyphs = gallery[[3, 40, 80, 120]]
    character = lambda g: chr(new.code_points[g])
    wrong = gallery[[10, 50, 90, 130]]
    drawings = [
        [glyphs[0]] * 3,
        [glyphs[1], wrong[1], wrong[1]],
        [wrong[2], wrong[2], wrong[0]],
        [None] * 3,
    ]
    orders = [[0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 1, 2]]
    others = [character(g) for g in gallery[200:210]]
    places, confidence = [0, 1, 6, None], [0.9, 0.6, 0.5, 0.3]
    results = []
    for n, glyph in enumerate(glyphs):
        listed = list(others)
        if places[n] is not None:
            listed[places[n]] = character(glyph)
        share = np.concatenate([[confidence[n]], np.full(9, (1 - confidence[n]) / 10)])
        picture = np.asarray(new.images[glyph if n < 2 else wrong[n]]) / np.float32(255)
        strokes = [[] if d is None else new.strokes(int(d)) for d in drawings[n]]
        results.append(
            Result(
                image=np.asarray(new.images[glyph]),
                strokes=strokes,
                written=[character(glyph)] * 3,
                scores=np.zeros(3, np.float32),
                pixels=picture,
                candidates=list(zip(listed, share)),
                old_reconstruction=picture,
                new_reconstruction=picture,
                z_old=np.full(64, n, np.float32),
                z_new=np.full(64, n, np.float32),
                uncertainty=np.full((64, 64), 0.1 * n, np.float32),
                order=np.array(orders[n]),
            )
        )
    found = Cases(
        None,
        sample_corpus,
        "val",
        SAMPLES,
        0,
        None,
        pixel_judge,
        None,
        np.stack([r.image for r in results]),
        np.asarray(new.code_points[glyphs]),
        glyphs,
        np.array([0, 3, 20, 500]),
        [new.strokes(int(g)) for g in glyphs],
        results,
        1,
    )
    # Of the training images the first is nearest to images 0 and 1, the second to 2 and 3.
    found.__dict__["train_latents"] = (
        np.array([np.full(64, 0.4), np.full(64, 2.6)], np.float32),
        found.code_points[[0, 3]],
    )
    return found
