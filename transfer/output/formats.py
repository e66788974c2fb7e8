"""Writes a Result to a file: SVG, JSON, PNG, PDF, QuickDraw's ndjson or npz, each whole or not at
all."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from transfer.data.formats import quickdraw
from transfer.output.drawn import Drawn, OldHand
from transfer.output.svg import curves_of
from transfer.system.entry import ESCAPED
from transfer.system.files import atomic_write

FORMATS = ("svg", "json", "png", "pdf", "ndjson", "npz")
ASIAN_FONT = "HeiseiKakuGo-W5"  # known to PDF viewers by its name; nothing is embedded


def save(
    result: Drawn,
    path: str | os.PathLike,
    animate: bool = False,
    uncertainty: bool = False,
    about: dict | None = None,
) -> Path:
    """Write a Result to `path` in the format of its suffix (see FORMATS); returns the path.

    svg and pdf hold the best drawing (animate: svg only; uncertainty: strokes fade where readings
    differ), png holds a sheet of everything, json `describe`, ndjson all drawings, and npz all
    arrays (see `arrays`). about: more entries for json. Raises ValueError for another suffix, and
    OSError if the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(
            f"{path}: {path.suffix or 'no suffix'} is not a format that can be written; end it in"
            f" .{', .'.join(FORMATS)}"
        )
    with atomic_write(path) as part:
        if kind == "png":
            from transfer.output.sheet import sheet

            sheet(result).save(part, "PNG", optimize=True)
        elif kind == "pdf":
            part.write_bytes(pdf(result, uncertainty))
        elif kind == "npz":
            with open(part, "xb") as file:
                np.savez_compressed(file, **arrays(result))
        else:
            part.write_text(
                {
                    "svg": lambda: result.svg(animate=animate, uncertainty=uncertainty),
                    "json": lambda: (
                        json.dumps(describe(result) | (about or {}), ensure_ascii=False, indent=1)
                        + "\n"
                    ),
                    "ndjson": lambda: "".join(quickdraw_lines(result, path.stem)),
                }[kind](),
                encoding="utf-8",
                errors=ESCAPED,
            )
    return path


def describe(result: Drawn) -> dict:
    """A Result as in its JSON: verdict, note, candidates, and drawings as polylines (box units, two
    decimals), best first."""
    return {
        "verdict": result.verdict,
        "note": result.note,
        "familiarity": (
            None if math.isnan(result.familiarity) else round(float(result.familiarity), 4)
        ),
        "candidates": candidates(result),
        "kana": kana(result),
        "drawings": [
            {
                "character": character,
                "score": round(float(score), 4),
                "uncertainty": [round(float(u), 4) for u in result.stroke_uncertainty(i)],
                "strokes": rounded(strokes),
            }
            for i, (character, score, strokes) in enumerate(
                zip(result.written, result.scores, result.strokes)
            )
        ],
        "box": 109,
    }


def candidates(result: Drawn) -> list[dict]:
    """The ranked candidates: character, code_point ("U+82B1"), probability, and forms, a list of
    the same for the character's other forms."""
    forms = result.other_forms or [()] * len(result.candidates)
    return [
        _likely(c, p) | {"forms": [_likely(*form) for form in others]}
        for (c, p), others in zip(result.candidates, forms)
    ]


def kana(result: Drawn) -> dict | None:
    """The likeliest hiragana, and the probability that the image is one of them at all."""
    return None if result.kana is None else _likely(*result.kana)


def old_hands(hands: Iterable[OldHand]) -> list[dict]:
    """Old hands of one kanji: picture (a PNG, black on white, in a `data:` address), painted, after
    ("books" or "fonts"), name of the image ("" for painted ones), and distance."""
    from transfer.output.pictures import data_url

    return [
        {
            "picture": data_url(hand.picture),
            "painted": hand.painted,
            "after": hand.after,
            "name": hand.name,
            "distance": round(hand.distance, 4),
        }
        for hand in hands
    ]


def _likely(character: str, probability: float) -> dict:
    return {
        "character": character,
        "code_point": f"U+{ord(character):04X}",
        "probability": round(float(probability), 6),
    }


def rounded(strokes: list[np.ndarray]) -> list[list[list[float]]]:
    """A drawing as plain lists, to two decimals."""
    return [[[round(float(v), 2) for v in point] for point in stroke] for stroke in strokes]


def arrays(result: Drawn) -> dict[str, np.ndarray]:
    """A Result as arrays without pickles: its own arrays under their names; candidates and
    probabilities (n,); all drawings' points (P, 2), with stroke_bounds (S + 1,) into them and
    drawing_bounds (samples + 1,) into the strokes."""
    strokes = [stroke for drawing in result.strokes for stroke in drawing]
    kept = (
        "image",
        "pixels",
        "uncertainty",
        "old_reconstruction",
        "new_reconstruction",
        "z_old",
        "z_new",
        "scores",
        "order",
    )
    return {name: np.asarray(getattr(result, name)) for name in kept} | {
        "candidates": np.array([c for c, _ in result.candidates], "U1"),
        "probabilities": np.array([p for _, p in result.candidates], np.float32),
        "written": np.array(result.written, "U1"),
        "verdict": np.array(result.verdict),
        "points": np.concatenate([np.zeros((0, 2), np.float32), *strokes]).astype(np.float32),
        "stroke_bounds": np.cumsum([0] + [len(stroke) for stroke in strokes]),
        "drawing_bounds": np.cumsum([0] + [len(drawing) for drawing in result.strokes]),
    }


def quickdraw_lines(result: Drawn, key: str) -> list[str]:
    """One line for each drawing, best first, in QuickDraw's simplified .ndjson, which `python -m
    transfer.data convert` reads too.

    word: the kanji that the drawing is meant to be; recognized: whether the verdict is "sure".
    """
    scaled = [
        [np.asarray(stroke, np.float64) * quickdraw.UNITS for stroke in strokes]
        for strokes in result.strokes
    ]
    return [
        quickdraw.line(word, f"{key}-{number}", strokes, 2, result.verdict == "sure")
        for number, (word, strokes) in enumerate(zip(result.written, scaled), 1)
    ]


def pdf(result: Drawn, uncertainty: bool = False) -> bytes:
    """One page with the best drawing as curves, one millimetre for a box unit, and below it the
    verdict and the first candidates."""
    from reportlab.lib.units import mm
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfgen.canvas import Canvas

    from transfer.output import uncertainty as doubt

    pdfmetrics.registerFont(UnicodeCIDFont(ASIAN_FONT))
    content = io.BytesIO()
    margin, below = 10, 22
    page = Canvas(
        content, (129 * mm, (129 + below) * mm), invariant=True
    )  # no date: the same drawing is the same file
    written = result.written[0] if result.written else ""
    page.setTitle(f"{written} (U+{ord(written):04X})" if written else "Kuzushiji")
    page.setCreator("kuzushiji-transfer")
    page.setAuthor("kuzushiji-transfer")
    page.saveState()
    page.transform(mm, 0, 0, -mm, margin * mm, (129 + below - margin) * mm)  # the box: y down
    page.setLineWidth(3)
    page.setLineCap(1)
    page.setLineJoin(1)
    strokes = result.strokes[0] if result.strokes else []
    shades = doubt.opacity(result.stroke_uncertainty()) if uncertainty else np.ones(len(strokes))
    for number, (stroke, shade) in enumerate(zip(strokes, shades), 1):
        curves = curves_of(stroke, f"stroke {number}")
        path = page.beginPath()
        path.moveTo(*map(float, curves[0, 0]))
        for curve in curves:
            path.curveTo(*map(float, curve[1:].ravel()))
        page.setStrokeAlpha(float(shade))
        page.drawPath(path)
    page.restoreState()
    page.setFont("Helvetica", 9)
    page.drawString(
        margin * mm, 17 * mm, f"{result.verdict}{': ' + result.note if result.note else ''}"[:90]
    )
    for number, (character, probability) in enumerate(result.candidates[:5]):
        x = (margin + 22 * number) * mm
        page.setFont(ASIAN_FONT, 11)
        page.drawString(x, 10 * mm, character)
        page.setFont("Helvetica", 8)
        page.drawString(x + 13, 10 * mm, f"{100 * probability:.1f} %")
        page.drawString(x, 6 * mm, f"U+{ord(character):04X}")
    page.save()
    return content.getvalue()
