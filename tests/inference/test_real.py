"""The shipped weights on held-out published images."""

import numpy as np
import pytest

from transfer.data import corpus

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def held_out(real_data):
    loaded = corpus.load(real_data, quiet=True)
    known = {int(loaded.new.code_points[i]) for i in loaded.new.gallery()}
    val = [i for i in loaded.old.indices("val") if int(loaded.old.code_points[i]) in known][::16]
    return loaded, np.array(loaded.old.images[val]), [chr(c) for c in loaded.old.code_points[val]]


@pytest.fixture(scope="module")
def results(held_out, model):
    return model.transfer(held_out[1], samples=1)


def test_candidates_name_the_kanji(held_out, results):
    truth = held_out[2]
    first = np.mean([r.candidates[0][0] == t for r, t in zip(results, truth)])
    ten = np.mean([t in [c for c, _ in r.candidates] for r, t in zip(results, truth)])
    assert first > 0.67 and ten > 0.89, (first, ten)  # .749 and .942 over all of val


def test_stroke_count_is_near_kanjivg(held_out, results):
    loaded = held_out[0]
    where = {chr(loaded.new.code_points[i]): i for i in loaded.new.gallery()}
    error = [
        abs(len(r.strokes[0]) - len(loaded.new.strokes(where[r.written[0]]))) for r in results[:64]
    ]
    assert np.median(error) == 0 and np.mean(error) < 0.8, error
