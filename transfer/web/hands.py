"""`POST /api/old-hands`: how old hands wrote some kanji, the nearest to the picture first."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from transfer.output.formats import old_hands

MOST = 60  # kanji of one question: ten candidates with their forms


def characters(text: str) -> list[str]:
    """The kanji that `of` names, each once. Raises HTTPException 400 if there are none or too
    many."""
    found = list(dict.fromkeys(text))
    if not 1 <= len(found) <= MOST:
        raise HTTPException(400, f"of names {len(found)} characters; give 1 to {MOST}")
    return found


def answer(model, image, of: list[str]) -> dict:
    """The answer that `transfer.web` documents.

    image: (64, 64) uint8, ink 255; None if there is nothing to show.
    of: kanji.
    """
    finder = model.old_hands
    if finder is None or image is None:
        return {"source": None, "attribution": "", "hands": {}}
    [read] = model.read(image, top=1)
    found = zip(of, finder.of(of, read.z_old))
    return {
        "source": finder.source,
        "attribution": finder.attribution,
        "hands": {character: old_hands(hands) for character, hands in found if hands},
    }
