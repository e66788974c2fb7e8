"""A kanji -> what helps to recognise it: stroke count, radical and components, as KanjiVG gives
them.

`kanji.tsv` is made by `experiments/make_reading_aids.py`; where it comes from and its licence are
in README.md beside it. `forms.tsv`, made by `experiments/make_forms.py`, lists the kanji that are
forms of one character.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

FormChoice = Literal["as-read", "modern", "old"]
"""Which form of a character leads: the likeliest, the one of today's Japanese, or the likeliest of
the others."""
FORM_CHOICES: tuple[str, ...] = get_args(FormChoice)
FILE = Path(__file__).parent / "kanji.tsv"
FORMS = Path(__file__).parent / "forms.tsv"


@dataclass(frozen=True)
class Aid:
    """strokes: their number. radical: a character, or "". components: "艹化(亻匕)", parts in writing
    order, each with its own parts."""

    strokes: int
    radical: str
    components: str


def aid(character: str) -> Aid | None:
    """What is known of a kanji; None for one that KanjiVG does not have."""
    return table().get(character)


@cache
def table() -> dict[str, Aid]:
    """All of them, by character."""
    lines = FILE.read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {
        kanji: Aid(int(strokes), radical, components)
        for kanji, strokes, radical, components in rows
    }


@cache
def forms() -> dict[str, tuple[str, ...]]:
    """Kanji -> the forms of its character, its own among them and the modern Japanese one first;
    those with one form are not in it."""
    groups = (
        tuple(line.split("\t"))
        for line in FORMS.read_text("utf-8").splitlines()
        if not line.startswith("#")
    )
    return {form: group for group in groups for form in group}


def forms_of(character: str) -> tuple[str, ...]:
    """The forms of a character, its own among them, the modern Japanese one first; the character
    alone where it has one form."""
    return forms().get(character, (character,))
