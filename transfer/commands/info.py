"""`kuzushiji-transfer info`: versions, devices, what the weights are, and where they come from."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

from transfer.commands import arguments
from transfer.system.entry import fail

STAGES = ("vae_old", "vae_new", "mdn", "sketch_rnn")
KANJIVG = "KanjiVG, (c) Ulrich Apel, https://kanjivg.tagaini.net, CC BY-SA 3.0"
EXAMPLES = """  kuzushiji-transfer info
  kuzushiji-transfer info --weights runs/small      # with minutes and held-out measurements
  kuzushiji-transfer info --json
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "info",
        run,
        "show versions, weights and devices",
        "Show the version, the weights (files, settings, training data), whom to credit, and JAX's "
        "devices. For a runs folder,\n"
        "also show how many minutes each stage took and what it last measured on held-out data.",
        EXAMPLES,
    )
    arguments.weights(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document with all settings of every model",
    )


def run(chosen) -> int:
    from transfer.training.weights import WeightsError

    try:
        described = describe(chosen.weights)
    except WeightsError as error:
        return fail(str(error))
    if chosen.json:
        print(json.dumps(described, ensure_ascii=False, indent=1))
        return 0
    print(
        f"kuzushiji-transfer {described['version']}, Python {described['python']}, JAX"
        f" {described['jax']} on {', '.join(described['devices'])}"
    )
    print(
        f"weights: {described['weights']['folder']}"
        f"{' (shipped)' if described['weights']['shipped'] else ''}"
    )
    for name, model in described["weights"]["models"].items():
        size = f"{model['bytes'] / 1e6:.1f} MB, {model['parameters']:,} parameters"
        print(
            f"  {name:<11}{size}, {model['config'].get('steps', 0):,} steps, seed {model['seed']},"
            f" sha256 {model['sha256'][:12]}…"
        )
        if "minutes" in model:
            measured = ", ".join(
                f"{key.replace('_', ' ')} {value:.4g}" for key, value in model["held_out"].items()
            )
            print(
                f"  {'':<11}trained in {model['minutes']:.1f} minutes; on held-out data: {measured}"
            )
    data = ", ".join(described["weights"]["data"]) or "unknown data"
    print(f"  {described['weights']['gallery']:,} kanji in the gallery; trained on {data}")
    for line in described["attribution"]:
        print(f"  {line}")
    return 0


def describe(folder: Path | None = None) -> dict:
    """What `info --json` prints: version, python, jax, devices, weights (folder, shipped, models,
    gallery, data), attribution.

    For models of a runs folder it adds how many minutes they were trained, and their last
    measurement on held-out data. Raises WeightsError for a folder without the models.
    """
    import jax
    import numpy as np

    from transfer.data.published.kkanji import ATTRIBUTION
    from transfer.inference.pipeline import PRETRAINED
    from transfer.training import metrics, weights

    models, data, gallery, sample = {}, {}, 0, False
    for name in STAGES:
        path = weights.find(folder or PRETRAINED, name)
        params, arrays, described = weights.load(path)
        models[name] = {
            "file": str(path),
            "bytes": path.stat().st_size,
            "sha256": weights.checksum(path),
            "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(params))),
            "seed": described.get("seed"),
            "config": described["config"],
        }
        log = path.parent.parent / "metrics.jsonl"
        if path.parent.name == "weights" and log.is_file():
            history = metrics.history(log)
            models[name] |= {
                "minutes": round(history.seconds / 60, 2),
                "held_out": history.held_out,
            }
        data |= described.get("data", {}).get("sources", {})
        sample = sample or described.get("data", {}).get("sample", False)
        gallery = len(arrays["code_points"]) if "code_points" in arrays else gallery
    return {
        "version": metadata.version("kuzushiji-transfer"),
        "python": platform.python_version(),
        "platform": sys.platform,
        "jax": jax.__version__,
        "devices": [
            f"{device.platform} {device.id} ({device.device_kind})" for device in jax.devices()
        ],
        "weights": {
            "folder": str(folder or PRETRAINED),
            "shipped": folder is None,
            "models": models,
            "gallery": gallery,
            "data": data,
        },
        "attribution": (
            ["the built-in sample corpus of this project"] if sample else [ATTRIBUTION, KANJIVG]
        ),
    }
