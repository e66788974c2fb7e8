"""transfer.inference.forms: forms of one character are one candidate."""

import jax.numpy as jnp
import numpy as np
import pytest

from transfer import reading_aids
from transfer.inference import forms

CHARACTERS = ["国", "土", "國", "体", "體", "軆"]


def lead(probabilities, choice):
    scores = jnp.log(jnp.asarray([probabilities], jnp.float32))
    found = forms.leading(scores, forms.mates(CHARACTERS), forms.bonus(CHARACTERS, choice))
    return dict(zip(CHARACTERS, np.exp(np.asarray(found[0]))))


def test_mates_are_the_other_forms_in_the_gallery():
    found = forms.mates(CHARACTERS)
    assert [sorted(CHARACTERS[i] for i in row if i >= 0) for row in found[:4]] == [
        ["國"],
        [],
        ["国"],
        [c for c in CHARACTERS[4:] if c in reading_aids.forms()["体"]],
    ]


@pytest.mark.parametrize("choice, leader", [("as-read", "國"), ("modern", "国"), ("old", "國")])
def test_one_form_leads_with_the_probability_of_all(choice, leader):
    found = lead([0.1, 0.3, 0.4, 0.05, 0.15, 0.0], choice)
    other = {"国": "國", "國": "国"}[leader]
    assert found[leader] == pytest.approx(0.5, abs=1e-5) and found[other] == 0
    assert found["土"] == pytest.approx(0.3, abs=1e-5)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert found["体"] == pytest.approx(0.2 if choice == "modern" else 0, abs=1e-5)


def test_of_equally_likely_forms_one_leads():
    found = lead([0.25, 0.5, 0.25, 0, 0, 0], "as-read")
    assert sorted([found["国"], found["國"]]) == pytest.approx([0, 0.5], abs=1e-5)


def test_a_gallery_without_other_forms_stays_as_it_is():
    scores = jnp.log(jnp.asarray([[0.25, 0.75]]))
    for choice in reading_aids.FORM_CHOICES:
        found = forms.leading(scores, forms.mates(["山", "土"]), forms.bonus(["山", "土"], choice))
        np.testing.assert_allclose(found, scores)


def test_another_choice_is_an_error():
    with pytest.raises(ValueError, match="as-read, modern, old"):
        forms.bonus(CHARACTERS, "simplified")
