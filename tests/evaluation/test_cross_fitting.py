"""transfer.evaluation.cross_fitting: no image of val is read with numbers that were chosen on
it."""

from types import SimpleNamespace

import numpy as np
import pytest

from transfer.evaluation import cases, cross_fitting
from transfer.evaluation.judges import PRETRAINED
from transfer.inference.acceptance import Acceptance
from transfer.inference.pipeline import PRETRAINED as MODEL
from transfer.inference.pipeline import KuzushijiTransfer
from transfer.models import mdn
from transfer.stages import encoding


class Drawer:
    """In place of a model: it tells what images it was fitted on."""

    def __init__(self, characters, taught=frozenset()):
        self.characters, self.taught = characters, taught

    def transfer(self, images, samples, seed, top):
        return [SimpleNamespace(image=image, taught=self.taught) for image in images]


@pytest.mark.parametrize("fitted_here", [True, False])
@pytest.mark.parametrize("limit", [None, 9])
def test_each_half_of_val_is_drawn_by_what_the_other_half_taught(
    sample_corpus, monkeypatch, fitted_here, limit
):
    characters = [chr(c) for c in sample_corpus.new.code_points[sample_corpus.new.gallery()]]
    monkeypatch.setattr(cases.KuzushijiTransfer, "load", lambda folder: Drawer(characters))
    monkeypatch.setattr(cross_fitting, "chosen_on", lambda model, corpus, split: fitted_here)
    monkeypatch.setattr(
        cross_fitting,
        "refitted",
        lambda model, corpus, images, points: Drawer(characters, {i.tobytes() for i in images}),
    )
    found = cases.gather(PRETRAINED, PRETRAINED, sample_corpus, "val", 2, limit=limit)
    assert (
        found.cross_fitted is fitted_here
        and len(found.results) == len(found.images) == (limit or len(found.images)) > 8
    )
    for image, result in zip(found.images, found.results):
        np.testing.assert_array_equal(result.image, image)
        assert image.tobytes() not in result.taught and (len(result.taught) > 8) is fitted_here


def test_what_was_chosen_where_is_told_by_the_weights(sample_corpus, monkeypatch):
    sources = {k: v["sha256"] for k, v in sample_corpus.manifest["sources"].items()}
    for theirs, split, wanted in (
        (sources, "val", True),
        (sources, "zero-shot", False),
        (sources | {"kkanji.tar": "0"}, "val", False),
        ({}, "val", False),
    ):
        monkeypatch.setattr(
            cross_fitting.weights,
            "load",
            lambda path, theirs=theirs: ({}, {}, {"data": {"sources": theirs}}),
        )
        assert (
            cross_fitting.chosen_on(SimpleNamespace(folder=MODEL), sample_corpus, split) is wanted
        )


def test_a_refitted_model_says_what_is_right_of_its_images_and_the_shipped_one_stays(
    sample_corpus, monkeypatch
):
    model, fits, calibrate = KuzushijiTransfer.load(), [], cross_fitting.calibrate
    chosen, points = encoding.old_examples(sample_corpus, "train")
    known = np.flatnonzero(np.isin(points, [ord(c) for c in model.characters]))[:32]
    images, points = np.array(sample_corpus.old.images[chosen[known]]), points[known]
    model.acceptance = Acceptance()
    before, exponents = dict(model.confidence), np.array(model.mdn_params["exponents"])
    monkeypatch.setattr(
        cross_fitting, "calibrate", lambda *given: fits.append(calibrate(*given)) or fits[-1]
    )
    new = cross_fitting.refitted(model, sample_corpus, images, points)
    assert [np.exp(new.confidence["bias"])] == pytest.approx([fit[0] for fit in fits])
    assert model.confidence == before and np.array_equal(model.mdn_params["exponents"], exponents)
    assert not np.allclose(new.mdn_params["exponents"], exponents, atol=1e-3)

    # z_old as the encoder gives it, without warped forms: quicker, and the order holds for it too.
    z_old, _ = encoding.encode_images(MODEL, "old", images)

    def likelihood(of):
        scored = lambda *given: (np.exp(of.confidence["bias"]) * mdn.candidate_scores(*given),)
        [scores] = cross_fitting.in_parts(of, scored, z_old)
        label = np.searchsorted([ord(c) for c in of.characters], points)
        return float((scores[np.arange(len(label)), label] - np.logaddexp.reduce(scores, 1)).mean())

    assert likelihood(new) > likelihood(model)


def test_confidence_is_fitted_to_every_form_of_what_the_gallery_has(monkeypatch):
    """Two sources that weigh alike; a character that is not in the gallery teaches nothing."""
    seen, asked = np.array([True, False, True]), []
    model = SimpleNamespace(
        characters=list("国山國"),
        mates=np.array([[2], [-1], [0]]),
        gallery=SimpleNamespace(seen=seen),
        evidence=lambda images: {"plain": images[:, 0] / 2, "given": images[:, 0] / 4},
    )
    monkeypatch.setattr(cross_fitting.confidence, "fit", lambda *given: asked.extend(given))
    one, other = np.arange(3 * 4).reshape(3, 4, 1), np.full((1, 4, 1), 40)
    parts = [(one, np.array([ord(c) for c in "山人國"])), (other, np.array([ord("国")]))]
    cross_fitting.fit_confidence(model, parts)
    plain, given, right, known, weight = asked
    assert plain.ravel().tolist() == [0, 4, 20] and given.ravel().tolist() == [0, 2, 10]
    assert [set(row) for row in right] == [{1, -1}, {0, 2}, {0, 2}] and right.dtype == np.int32
    assert known.tolist() == seen.tolist()
    assert weight.tolist() == [0.5, 0.5, 1]
