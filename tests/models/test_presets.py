"""Every setting of every preset: none changes but on purpose.

After a change on purpose write the file anew: python -m pytest tests/models/test_presets.py
--write-golden
"""

import dataclasses
import json
from pathlib import Path

from transfer.models.classifier import ClassifierConfig
from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.models.vae import VAEConfig

FILE = Path(__file__).parent / "presets.json"
KINDS = {
    ClassifierConfig: ("recogniser", "baseline", "tiny"),
    MDNConfig: ("paper", "small", "long", "base", "tiny"),
    SketchRNNConfig: ("paper",),
    StrokeRNNConfig: ("small", "long", "base", "tiny"),
}


def settings() -> dict[str, dict]:
    """Preset -> its settings, as JSON has them."""
    found = {f"VAE {p} {d}": getattr(VAEConfig, p)(d) for p in VAES for d in ("old", "new")}
    for kind, presets in KINDS.items():
        found |= {f"{kind.__name__} {preset}": getattr(kind, preset)() for preset in presets}
    for kind in (VAEConfig, *KINDS):
        found[f"{kind.__name__} without a preset"] = kind()
    return json.loads(json.dumps({k: dataclasses.asdict(v) for k, v in found.items()}))


VAES = ("paper", "small", "long", "base", "tiny")


def test_presets_have_their_settings(request):
    found = settings()
    if request.config.getoption("--write-golden"):
        FILE.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    wanted = json.loads(FILE.read_text("utf-8"))
    assert found.keys() == wanted.keys()
    for preset, values in found.items():
        assert values == wanted[preset], preset


def test_the_old_domain_is_meant_where_none_is_named():
    for preset in VAES:
        assert getattr(VAEConfig, preset)() == getattr(VAEConfig, preset)("old")
