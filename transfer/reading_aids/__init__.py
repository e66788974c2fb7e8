"""What helps to recognise a kanji: stroke count, radical and components, as KanjiVG gives them.

`experiments/make_reading_aids.py` makes `kanji.tsv`; README.md beside it gives its source and
licence. `forms.tsv`, made by `experiments/make_forms.py`, lists the kanji that are forms of one
character.
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
    """The aid for a kanji; None if KanjiVG does not have it."""
    return table().get(character)


@cache
def table() -> dict[str, Aid]:
    """All aids, by character."""
    lines = FILE.read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {
        kanji: Aid(int(strokes), radical, components)
        for kanji, strokes, radical, components in rows
    }


@cache
def forms() -> dict[str, tuple[str, ...]]:
    """Kanji -> the forms of its character, including itself, with the modern Japanese one first.
    Kanji with one form are left out."""
    groups = (
        tuple(line.split("\t"))
        for line in FORMS.read_text("utf-8").splitlines()
        if not line.startswith("#")
    )
    return {form: group for group in groups for form in group}


def forms_of(character: str) -> tuple[str, ...]:
    """The forms of a character, including itself, with the modern Japanese one first. A character
    with one form is alone."""
    return forms().get(character, (character,))
