"""Forms of one character (国 and 國) are one candidate: their probabilities add up, and one of them
leads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from transfer.reading_aids import FORM_CHOICES, FormChoice, forms_of

FAR = 1e6
"""Log odds that decide, whatever the image shows."""


def mates(characters: list[str]) -> np.ndarray:
    """(G, M) int32: for each of the characters (G) the places of its other forms, -1 for none."""
    place = {c: n for n, c in enumerate(characters)}
    rows = [[place[o] for o in forms_of(c) if o in place and o != c] for c in characters]
    most = max((len(row) for row in rows), default=0)
    return np.array([row + [-1] * (most - len(row)) for row in rows], np.int32).reshape(
        len(characters), most
    )


def bonus(characters: list[str], choice: FormChoice) -> np.ndarray:
    """(G,) float32: what is added to a form's log probability in the search for the leading form.

    Raises ValueError for a choice that is not in `FORM_CHOICES`.
    """
    if choice not in FORM_CHOICES:
        raise ValueError(f"forms is {choice!r}; give one of {', '.join(FORM_CHOICES)}")
    sign = {"as-read": 0.0, "modern": FAR, "old": -FAR}[choice]
    return np.array([sign * (forms_of(c)[0] == c) for c in characters], np.float32)


def leading(scores: jax.Array, others: np.ndarray, preferred: jax.Array) -> jax.Array:
    """Log probabilities (B, G) of characters. Each is at its leading form's place; other forms have
    -inf.

    scores: (B, G), log probabilities of forms.
    others: (G, M), see `mates`.
    preferred: (G,), see `bonus`.
    """
    there = np.asarray(others) >= 0
    # Few characters have other forms; the rest stay as they are.
    rows = np.flatnonzero(there.any(1))
    if not len(rows):
        return scores
    others, there = np.asarray(others)[rows], there[rows]
    theirs = jnp.where(there, scores[:, others], -jnp.inf)  # (B, rows, M)
    rivals = jnp.where(there, scores[:, others] + preferred[others], -jnp.inf)
    alone = scores[:, rows]
    own = (alone + preferred[rows])[..., None]
    # Of equally likely forms the first one leads.
    leads = ((own > rivals) | ((own == rivals) & (rows[:, None] < others))).all(-1, where=there)
    total = jnp.logaddexp(alone, jax.nn.logsumexp(theirs, -1))
    return scores.at[:, rows].set(jnp.where(leads, total, -jnp.inf))
