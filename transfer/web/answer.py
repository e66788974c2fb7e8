"""Turns a `Result`, and how its picture was read, into the JSON of `POST /api/transfer`."""

from __future__ import annotations

import json

import numpy as np

from transfer.output.formats import candidates, kana, rounded


def answer(result, read, seed: int, temperature: float, forms: str = "as-read") -> dict:
    """The answer that `transfer.web` documents, in plain lists and numbers. read: a
    `transfer.inference.images.Reading`."""
    return {
        "verdict": result.verdict,
        "familiarity": _number(result.familiarity),
        "note": read.note,
        "used": list(read.box),
        "candidates": candidates(result),
        "kana": kana(result),
        "drawings": [
            {
                "character": character,
                "score": round(float(score), 4),
                "sample": int(sample),
                "strokes": rounded(strokes),
                "svg": result.svg(i),
            }
            for i, (character, score, sample, strokes) in enumerate(
                zip(result.written, result.scores, result.order, result.strokes)
            )
        ],
        "image": result.image.tolist(),
        "pixels": _rows(result.pixels),
        "uncertainty": _rows(result.uncertainty),
        "samples": len(result.strokes),
        "seed": seed,
        "temperature": temperature,
        "forms": forms,
        "box": 109,
    }


def encode(described: dict) -> bytes:
    return json.dumps(
        described, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).encode()


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _rows(numbers: np.ndarray) -> list[list[float]]:
    return [[round(v, 4) for v in row] for row in numbers.astype(np.float64).tolist()]
