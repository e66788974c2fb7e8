"""Measure every stage of a runs or weights folder on held-out data, as a Markdown table.

    python experiments/stage_report.py --weights runs/small      # what a training left
    python experiments/stage_report.py                           # the shipped weights
"""
import argparse
from data.entry import guarded
import dataclasses
import json
import sys
from pathlib import Path

from data import DataError
from data import corpus as corpora
from transfer import stages, weights
from transfer.mdn import MDNConfig
from transfer.pipeline import PRETRAINED
from transfer.training import TrainingError
from transfer.vae import VAEConfig

STAGES = {
    "vae_old": (VAEConfig, lambda config, corpus, folder: stages.vae_task(dataclasses.replace(config, pretrained=False), corpus, "old")),
    "vae_new": (VAEConfig, lambda config, corpus, folder: stages.vae_task(config, corpus, "new")),
    "mdn": (MDNConfig, stages.mdn_task),
    "sketch_rnn": (None, stages.decoder_task),
}


def report(folder: Path, corpus) -> list[str]:
    """Lines of the table. Raises WeightsError for a folder without the weights."""
    lines = ["| stage | steps | minutes | on held-out data |", "|---|---|---|---|"]
    for name, (kind, task_of) in STAGES.items():
        params, _, described = weights.load(weights.find(folder, name))
        config = weights.config(kind, described) if kind else stages.load_decoder(folder).config
        if kind is VAEConfig:
            _, params, _, config = stages.load_vae(folder, name.removeprefix("vae_"))  # the old one as stage 2 left it
        values = task_of(config, corpus, folder).evaluate(params)
        log = folder / name / "metrics.jsonl"
        minutes = (
            f"{json.loads(log.read_text('utf-8').splitlines()[-1])['seconds'] / 60:.1f}"
            if log.is_file()
            else ""
        )
        lines.append(f"| {name} | {config.steps:,} | {minutes} | "
                     + "; ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in values.items()) + " |")
    return lines


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=PRETRAINED, help="runs or weights folder [the shipped weights]")
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    try:
        print("\n".join(report(chosen.weights, corpora.load(chosen.data))))
    except (DataError, TrainingError, weights.WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
