import numpy as np
import pytest
from scipy.spatial.distance import cdist

from transfer.evaluation import recognition
from transfer.evaluation.cases import rank, top_hits
from transfer.evaluation.hog import HogJudge
from transfer.evaluation.judges import clean_images


@pytest.fixture
def found(cases, monkeypatch):
    monkeypatch.setattr(
        recognition, "reconstructions", lambda c: np.stack([r.pixels for r in c.results])
    )
    return recognition.measure(cases).per_image


def test_every_link_of_the_chain_is_read(found):
    for judge in ("recogniser", "HOG"):
        assert found[f"{judge}: true glyph, top-1"].tolist() == [1, 1, 1, 1]
        assert found[f"{judge}: Kuzushiji image itself, top-1"].tolist() == [
            1,
            1,
            1,
            1,
        ]  # the fixture's inputs are the glyphs
        assert found[f"{judge}: predicted pixels, top-1"].tolist() == [1, 1, 0, 0]
        assert found[f"{judge}: single drawing, top-1"].tolist() == [
            1,
            0,
            0,
            0,
        ]  # sample 0, whatever its rank
        assert found[f"{judge}: best-ranked drawing, top-1"].tolist() == [1, 1, 0, 0]
        assert (
            found[f"{judge}: best-ranked drawing, top-10"][3] == 0
        )  # an empty drawing is never right


def test_several_drawings_of_an_image(found):
    assert found["recogniser: best of 3, top-1"].tolist() == [1, 1, 0, 0]
    assert found["recogniser: majority of 3, top-1"].tolist() == [1, 0, 0, 0]
    assert found["recogniser: mean probability of 3, top-1"].tolist() == [1, 0, 0, 0]
    assert found["recogniser: mean probability of 3, top-5"].tolist() == [
        1,
        1,
        0,
        0,
    ]  # second: a third of the drawings


def test_candidates_and_what_looking_up_gives(found):
    assert found["candidates, top-1"].tolist() == [1, 0, 0, 0]
    assert found["candidates, top-5"].tolist() == [1, 1, 0, 0]
    assert found["candidates, top-10"].tolist() == [1, 1, 1, 0]
    assert found["nearest in z_old as it is read, then look up: answer, top-1"].tolist() == [
        1,
        0,
        0,
        1,
    ]
    assert found[
        "recogniser: nearest in z_old as it is read, then look up: glyph of the answer, top-1"
    ].tolist() == [1, 0, 0, 1]
    assert not any(name.startswith("classify") for name in found)  # no baseline was given


def test_a_baseline_answers_only_classes_that_it_knows(cases, monkeypatch):
    class Baseline:
        classes = cases.code_points[[0, 2]]

        def log_probabilities(self, images):
            return np.log([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.1, 0.9]])

    object.__setattr__(cases, "baseline", Baseline())
    ranks, answers = recognition.look_up(cases)["classify, then look up"]
    assert (
        ranks.tolist() == [0, 2, 1, 2]
        and answers.tolist() == cases.code_points[[0, 0, 0, 2]].tolist()
    )


def test_majority_takes_the_first_of_equals():
    assert recognition.majority(np.array([[5, 7, 7], [1, 2, 3], [4, 4, 9]])).tolist() == [7, 1, 4]


def test_rank_and_hits():
    scores = np.array([[0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
    assert rank(scores, np.array([2, 0])).tolist() == [1, 2] and rank(scores, 1).tolist() == [0, 2]
    assert rank(np.array([[0.2, 0.2, 0.1], [0.0, 0.0, 0.0]]), 0).tolist() == [
        1,
        2,
    ]  # ties count against the right class
    assert {k: v.tolist() for k, v in top_hits("x", np.array([0, 4, 5, 10])).items()} == {
        "x, top-1": [1, 0, 0, 0],
        "x, top-5": [1, 1, 0, 0],
        "x, top-10": [1, 1, 1, 0],
    }


def test_nearest_is_the_euclidean_one():
    random = np.random.default_rng(0)
    queries, points = random.normal(0, 1, (300, 8)), random.normal(0, 2, (77, 8))
    assert (recognition.nearest(queries, points) == cdist(queries, points).argmin(1)).all()


def test_hog_reads_where_no_recogniser_was_trained(cases, monkeypatch):
    monkeypatch.setattr(
        recognition, "reconstructions", lambda c: np.stack([r.pixels for r in c.results])
    )
    gallery = cases.corpus.new.gallery()
    hog = HogJudge(
        clean_images(cases.corpus, gallery), np.asarray(cases.corpus.new.code_points[gallery])
    )
    object.__setattr__(cases, "recogniser", hog)
    found = recognition.measure(cases).per_image
    assert found["HOG: best of 3, top-1"].tolist() == [1, 1, 0, 0] and found[
        "HOG: majority of 3, top-1"
    ].tolist() == [1, 0, 0, 0]
    assert found["HOG: mean probability of 3, top-1"].tolist() == [1, 0, 0, 0]
    assert not any(name.startswith("recogniser") for name in found)
    log = hog.log_probabilities(cases.images)
    assert (
        np.allclose(np.exp(log).sum(1), 1, atol=1e-3)
        and (log.argmax(1) == hog.similarities(cases.images).argmax(1)).all()
    )
