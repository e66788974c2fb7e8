"""transfer.evaluation.cases: which images are asked, and what is said of each."""

import types

import numpy as np
import pytest

from transfer.evaluation import cases as evaluated
from transfer.evaluation.cases import LISTED, gather, places_of, same_character
from transfer.evaluation.judges import PRETRAINED
from transfer.stages import encoding
from transfer.system.errors import DataError


def result(candidates, other_forms=()):
    return types.SimpleNamespace(candidates=candidates, other_forms=other_forms)


def test_places_as_it_is_labelled_and_in_any_form():
    listed = [("国", 0.5), ("花", 0.3), ("学", 0.1)]
    assert [places_of(result(listed), c) for c in "国花学"] == [(0, 0), (1, 1), (2, 2)]
    assert places_of(result(listed), "山") == (LISTED, LISTED) == (50, 50)
    forms = [[("國", 0.1), ("圀", 0.05)], [], [("學", 0.1)]]
    wanted = {"国": (0, 0), "國": (1, 0), "圀": (2, 0), "花": (3, 1), "学": (4, 2), "學": (5, 2)}
    for character, places in wanted.items():
        assert places_of(result(listed, forms), character) == places
    many = [(chr(0x4E00 + n), 0.01) for n in range(60)]
    assert places_of(result(many), "花") == (60, 60)


def test_all_forms_of_a_character_are_one():
    assert same_character("國") == same_character("国") == "国"
    assert same_character("花") == "花"


class Drawer:
    """In place of a model: what it was asked for."""

    def __init__(self, characters):
        self.characters, self.asked = characters, []

    def transfer(self, images, **given):
        self.asked.append((len(images), given))
        return [types.SimpleNamespace(image=image) for image in images]


@pytest.fixture
def drawer(sample_corpus, monkeypatch):
    characters = [chr(c) for c in sample_corpus.new.code_points[sample_corpus.new.gallery()]]
    found = Drawer(characters)
    monkeypatch.setattr(evaluated.KuzushijiTransfer, "load", lambda folder: found)
    monkeypatch.setattr(evaluated.cross_fitting, "chosen_on", lambda model, corpus, split: False)
    monkeypatch.setattr(evaluated, "CHUNK", 5)
    return found


def test_every_image_whose_kanji_has_a_glyph_is_drawn(sample_corpus, drawer):
    found = gather(PRETRAINED, PRETRAINED, sample_corpus, "val", 3, seed=4)
    chosen, points = encoding.old_examples(sample_corpus, "val")
    gallery = sample_corpus.new.gallery()
    known = np.isin(points, sample_corpus.new.code_points[gallery])
    known &= np.isin(points, found.recogniser.classes)
    np.testing.assert_array_equal(found.images, sample_corpus.old.images[chosen[known]])
    np.testing.assert_array_equal(found.code_points, points[known])
    assert found.left_out == (~known).sum() and not found.cross_fitted
    assert [n for n, _ in drawer.asked] == [5] * (known.sum() // 5) + [known.sum() % 5] * bool(
        known.sum() % 5
    )
    assert all(given == {"samples": 3, "seed": 4, "top": 50} for _, given in drawer.asked)
    for n, (image, one) in enumerate(zip(found.images, found.results, strict=True)):
        assert one.image is not None and (one.image == image).all()
        assert sample_corpus.new.code_points[found.glyphs[n]] == found.code_points[n]
        truth = sample_corpus.new.strokes(int(found.glyphs[n]))
        assert len(found.truth[n]) == len(truth) and (found.truth[n][0] == truth[0]).all()
    trained = encoding.old_examples(sample_corpus, "train")[1]
    assert found.train_count.tolist() == [(trained == p).sum() for p in found.code_points]
    assert (found.split, found.samples, found.seed) == ("val", 3, 4)
    assert set(found.sources) == {"books"}


def test_a_limit_chooses_by_seed(sample_corpus, drawer):
    every = gather(PRETRAINED, PRETRAINED, sample_corpus, "val", 1)
    few = gather(PRETRAINED, PRETRAINED, sample_corpus, "val", 1, seed=1, limit=7)
    kept = np.sort(np.random.default_rng(1).permutation(len(every.images))[:7])
    np.testing.assert_array_equal(few.images, every.images[kept])
    assert len(few.results) == len(few.truth) == len(few.sources) == 7
    for limit in (len(every.images), len(every.images) + 1):
        same = gather(PRETRAINED, PRETRAINED, sample_corpus, "val", 1, limit=limit)
        np.testing.assert_array_equal(same.images, every.images)


def test_a_split_without_images_is_one_line(sample_corpus, drawer, monkeypatch):
    empty = lambda corpus, split: (np.zeros(0, int), np.zeros(0, np.int32))
    monkeypatch.setattr(encoding, "old_examples", empty)
    with pytest.raises(DataError) as error:
        gather(PRETRAINED, PRETRAINED, sample_corpus, "val")
    assert str(error.value) == (
        f"{sample_corpus.folder}: holds no images of the split 'val'; choose another, or get the"
        " files that are missing"
    )


def test_readings_are_the_same_in_parts_of_any_size(cases):
    """Thirty-six images are read in two parts."""
    many = [*cases.results] * 9
    object.__setattr__(cases, "results", many)
    object.__setattr__(cases, "code_points", np.tile(cases.code_points, 9))
    read = cases.readings
    assert read.answers.shape == read.ranks.shape == (36, 3) and read.mean_ranks.shape == (36,)
    for part in (read.answers, read.ranks, read.mean_ranks):
        np.testing.assert_array_equal(part, np.concatenate([part[:4]] * 9))
    assert (read.answers[3] == -1).all() and (read.answers[:3] > 0).all()
    assert (read.ranks[3] == len(cases.recogniser.classes)).all()
    assert read.mean_ranks[3] == len(cases.recogniser.classes)
    assert read.ranks[:2].tolist() == [[0, 0, 0], [0, *read.ranks[1, 1:]]]
    assert cases.labels.tolist()[:4] == [
        int(np.flatnonzero(cases.recogniser.classes == p)[0]) for p in cases.code_points[:4]
    ]


def test_who_reads_where_no_recogniser_was_trained(sample_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluated, "PRETRAINED", tmp_path)
    hog = evaluated.recogniser_of(tmp_path, sample_corpus)
    gallery = sample_corpus.new.gallery()
    assert hog.name == "HOG"
    np.testing.assert_array_equal(hog.classes, sample_corpus.new.code_points[gallery])
    with pytest.raises(evaluated.weights.WeightsError):
        evaluated.recogniser_of(tmp_path / "other", sample_corpus)
