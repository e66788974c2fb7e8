"""Turns a Result into a compact HTML card for notebooks and web pages, without script or style
sheet. It loads nothing."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from PIL import Image

from transfer.output.drawn import Drawn
from transfer.output.sheet import grey

SIDE = 128  # pixels of a picture
COLOURS = {"sure": "#1a6b33", "not sure": "#8a5300", "kana": "#4a4a8a", "not a kanji": "#a3201d"}


def card(result: Drawn, top: int = 6) -> str:
    """HTML of a Result: input, predicted pixels, uncertainty map, best drawing, and the first `top`
    candidates with bars."""
    best = result.written[0] if result.written else ""
    pictures = [
        ("input", _image(grey(result.image), "the image that was read")),
        ("prediction", _image(grey(result.pixels), "the predicted kanji as a picture")),
        (
            "where readings differ",
            _image(result.heatmap(), "uncertainty map over the predicted kanji"),
        ),
    ]
    if result.strokes:
        drawing = result.svg().replace(
            "<svg ",
            f'<svg role="img" aria-label="{html.escape(f"drawing of {best}")}" '
            f'style="width:{SIDE}px;height:{SIDE}px;background:#fff" ',
            1,
        )
        pictures.append(("best drawing", drawing))
    figures = "".join(
        f'<figure style="margin:0;text-align:center">{picture}<figcaption'
        f' style="font-size:11px;color:#555">{caption}</figcaption></figure>'
        for caption, picture in pictures
    )
    verdict = html.escape(result.verdict)
    note = f" · {html.escape(result.note)}" if result.note else ""
    return (
        '<div style="display:inline-block;background:#fff;color:#222;border:1px solid'
        " #ddd;border-radius:6px;padding:10px;"
        'font-family:sans-serif;font-size:13px;line-height:1.3">'
        '<div style="margin-bottom:6px"><b'
        f' style="color:{COLOURS.get(result.verdict, "#222")}">{verdict}</b>{note}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:10px">{figures}</div>'
        '<table style="margin-top:8px;font-size:13px;border-collapse:collapse;'
        'background:#fff;color:#222">'
        f"{_rows(result.candidates[:top])}</table></div>"
    )


def _rows(candidates: list[tuple[str, float]]) -> str:
    cell = 'style="padding:1px 6px;text-align:left;border:0;background:#fff;color:#222"'
    rows = []
    for character, probability in candidates:
        percent = 100 * float(np.clip(probability, 0, 1))
        bar = (
            '<div style="width:200px;background:#eee"><div'
            f' style="width:{percent:.1f}%;height:10px;background:#2a6f97"></div></div>'
        )
        rows.append(
            f'<tr><td {cell}><span lang="ja"'
            f' style="font-size:18px">{html.escape(character)}</span></td><td'
            f" {cell}>U+{ord(character):04X}</td><td {cell}>{bar}</td><td {cell}>{percent:.1f}"
            " %</td></tr>"
        )
    return "".join(rows)


def _image(picture: Image.Image | np.ndarray, text: str) -> str:
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    content = io.BytesIO()
    picture.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BILINEAR).save(
        content, "PNG", optimize=True
    )
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img alt="{html.escape(text)}" width="{SIDE}" height="{SIDE}"'
        f' src="data:image/png;base64,{data}">'
    )
