"""What `KuzushijiTransfer` says of an image besides its drawings: forms, kana, confidence."""

import copy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from transfer.inference import confidence
from transfer.inference.images import read_image
from transfer.reading_aids import forms

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


@pytest.fixture(scope="module")
def images():
    return np.stack([read_image(path).image for path in EXAMPLES])


def with_kana(model, bias):
    new = copy.copy(model)
    new.kana = ["あ", "い"]
    new.kana_params = {"kernel": jnp.zeros((64, 2)), "bias": jnp.asarray([bias - 1.0, bias])}
    return new


def test_the_form_that_is_asked_for_leads_and_the_character_keeps_its_probability(model, images):
    several = 0
    reads = {c: model.read(images, 60, forms=c) for c in ("as-read", "modern", "old")}
    for as_read, modern, old in zip(*reads.values()):
        for result in (as_read, modern, old):
            assert len(result.candidates) == len(result.other_forms) == 60
            assert [p for _, p in result.candidates] == sorted(
                (p for _, p in result.candidates), reverse=True
            )
        for (c, p), others in zip(as_read.candidates, as_read.other_forms):
            if not others:
                continue
            several += 1
            group = {c, *(o for o, _ in others)}
            assert group <= set(forms()[c])
            assert all(share <= p for _, share in others)
            leads = [
                next(x for x in result.candidates if x[0] in group) for result in (modern, old)
            ]
            assert [q for _, q in leads] == pytest.approx([p, p], abs=1e-5)
            assert leads[0][0] == forms()[c][0] and leads[1][0] != forms()[c][0]
    assert several > 10


def test_drawings_are_of_the_form_that_leads(model, images):
    for choice in ("modern", "old"):
        for result in model.transfer(images[:2], samples=2, forms=choice):
            for character in result.written:
                others = forms().get(character, (character,))
                known = [c for c in others if c in model.characters]
                if len(known) > 1:
                    assert (character == others[0]) == (choice == "modern")
    with pytest.raises(ValueError, match="forms is 'new'"):
        model.read(images[:1], forms="new")


def test_a_likely_hiragana_is_called_kana_and_takes_its_share_from_the_kanji(model, images):
    for before, sure, never in zip(
        *(m.read(images[:3]) for m in (model, with_kana(model, 90.0), with_kana(model, -90.0)))
    ):
        assert before.kana is None or before.kana[1] < 1
        assert sure.verdict == "kana" and sure.kana[0] == "い" and sure.kana[1] > 0.99
        assert sure.candidates[0][1] < 0.01
        assert never.kana[1] < 1e-6 and never.verdict != "kana"
        # Their probabilities move a little, as confidence looks at the kana.
        assert never.candidates[0][0] == before.candidates[0][0]


def test_confidence_moves_the_probabilities_and_the_verdict(model, images):
    timid = copy.copy(model)
    timid.confidence = confidence.plain(0.01)
    for result, doubtful in zip(model.read(images), timid.read(images)):
        assert doubtful.candidates[0][1] < 0.2 and doubtful.verdict != "sure"
        assert doubtful.candidates[0][1] <= result.candidates[0][1]


def test_evidence_is_what_confidence_is_fitted_to(model, images):
    found = model.evidence(images[:3])
    assert found["plain"].shape == (3, len(model.characters))
    np.testing.assert_allclose(np.exp(found["plain"]).sum(1), 1, rtol=1e-3)
    assert found["given"].shape == (3, len(confidence.NUMBERS))
    stated = confidence.confident(
        model.confidence, found["plain"], found["given"], model.gallery.seen
    )
    kana = [r.kana[1] if r.kana else 0.0 for r in model.read(images[:3])]
    for row, result, share in zip(np.exp(stated), model.read(images[:3]), kana):
        alone = [(c, p) for (c, p), o in zip(result.candidates, result.other_forms) if not o]
        for character, probability in alone[:3]:
            assert row[model.characters.index(character)] * (1 - share) == pytest.approx(
                probability, rel=1e-2, abs=1e-5
            )
