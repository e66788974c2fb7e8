"""The files beside the graphs: characters, their forms, levels of the verdict, settings of the
stroke decoder, latents, prototypes of old hands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from transfer.export.programs import density_config, stroke_settings
from transfer.inference import acceptance
from transfer.inference.networks.reading import LIKELY
from transfer.reading_aids import forms_of
from transfer.stages.stroke_decoder import StrokeDecoder
from transfer.system.files import atomic_write


def write(folder: Path, model, about: dict, kind: str) -> None:
    """Write `kanji.json` and `z_new.npy` of a type; if the decoder writes stroke by stroke,
    `stroke_settings.json` too; if the weights have prototypes, `old_hands.safetensors`.

    about: weights (their checksums by name) and attribution (lines).
    """
    _json(folder / "kanji.json", kanji(model) | about)
    with atomic_write(folder / "z_new.npy") as part, open(part, "wb") as file:
        np.save(file, np.asarray(model.gallery.mean, kind))
    if isinstance(model.decoder, StrokeDecoder):
        _json(folder / "stroke_settings.json", stroke_settings(model))
    if model.old_hands is not None:
        with atomic_write(folder / "old_hands.safetensors") as part:
            save_file({k: np.asarray(v) for k, v in model.old_hands.arrays.items()}, part)


def kanji(model) -> dict:
    """What `kanji.json` says of a `KuzushijiTransfer`, except where the weights come from."""
    characters = model.characters
    groups = [
        sorted([place, *(other for other in others.tolist() if other >= 0)])
        for place, others in enumerate(model.mates)
    ]
    groups = sorted({tuple(group) for group in groups if len(group) > 1})
    return {
        "characters": characters,
        "kana": model.kana,
        "groups": [list(group) for group in groups],
        "modern": [
            place
            for group in groups
            for place in group
            if forms_of(characters[place])[0] == characters[place]
        ],
        "temperature": density_config(model).temperature,
        "likely": LIKELY,
        "verdict": {
            "sure": model.acceptance.sure,
            "familiar": acceptance.FAMILIAR,
            "kana": acceptance.KANA,
            "ink": acceptance.INK,
            "fewest": acceptance.FEWEST,
            "most": acceptance.MOST,
        },
    }


def _json(path: Path, content: dict) -> None:
    with atomic_write(path) as part:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        part.write_text(text + "\n", "utf-8")
