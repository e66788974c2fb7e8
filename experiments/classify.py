"""Train and measure a classifier of single characters, and write the table of all that were: the paper's classification baselines.

    python experiments/classify.py --dataset kmnist --model knn
    python experiments/classify.py --dataset k49 --model preact_resnet18 --regulariser manifold_mixup
    python experiments/classify.py --dataset kkanji --model cnn --epochs 3        # the built-in sample where there is no data
    python experiments/classify.py --dataset kmnist --model preact_resnet18 --regulariser manifold_mixup --preset best

Without --preset the recipe is the published one; any of its settings is an option. Figures need: pip install ".[evaluate]"
"""
import argparse
from data.entry import guarded
import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Literal

import tyro

from data import DataError
from transfer.training import Interrupted, TrainingError
from transfer.weights import WeightsError


@dataclasses.dataclass(frozen=True)
class Options:
    """What to learn from, and where things lie."""

    dataset: Literal["mnist", "kmnist", "k49", "kkanji"] = "kmnist"
    preset: Literal["published", "best"] = "published"
    split: Literal["val", "test"] = "val"
    """Of kkanji: what is asked. The other data sets have test images only."""
    data: Path | None = None
    """Folder with the published files [default: $KUZUSHIJI_DATA, else the user's cache, else, for kkanji, the built-in sample]."""
    runs: Path = Path("runs/classify")
    """The run lies in RUNS/DATASET/MODEL[-REGULARISER][-PRESET], the table in RUNS/DATASET."""
    seed: int = 0
    checkpoint_seconds: float = 90.0


@guarded
def main() -> int:
    from transfer.baselines import datasets, run
    from transfer.baselines.task import MODELS, REGULARISERS, BaselineConfig

    # The preset depends on these; what is wrong with them, the second reading says.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, known, default in (("dataset", datasets.DATASETS, "kmnist"), ("preset", ("published", "best"), "published"),
                                 ("model", MODELS, "cnn"), ("regulariser", REGULARISERS, "none")):
        first.add_argument(f"--{name}", type=lambda text, known=known, default=default: text if text in known else default, default=default)
    asked, _ = first.parse_known_args()
    preset = getattr(BaselineConfig, asked.preset)(asked.model, asked.regulariser, 64 if asked.dataset == "kkanji" else 28)
    arguments = dataclasses.make_dataclass("Arguments", [
        ("options", tyro.conf.OmitArgPrefixes[Options], Options()), ("config", tyro.conf.OmitArgPrefixes[BaselineConfig], preset)], frozen=True)
    chosen = tyro.cli(arguments, description=__doc__)
    options, config = chosen.options, chosen.config
    try:
        if importlib.util.find_spec("matplotlib") is None:
            raise DataError('figures need Matplotlib: python -m pip install ".[evaluate]"')
        if wrong := unfit(config):
            raise DataError(wrong)
        data = datasets.load(options.dataset, options.data, options.split)
        split = options.split if options.dataset == "kkanji" else "test"
        print(run.run(config, data, options.runs, split, options.preset, options.seed, options.checkpoint_seconds))
    except (DataError, TrainingError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {options.runs}: cannot be written ({error.strerror or error}); choose another folder with --runs", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Interrupted) as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        return 130
    return 0


def unfit(config) -> str:
    """What is wrong with settings that parse; empty where nothing is."""
    at_least = {"neighbours": 1, "width": 1, "stem_stride": 1, "batch": 1, "watched": 1, "steps": 0, "epochs": 0, "warmup": 0, "cutout": 0, "warp": 0,
                "weight_decay": 0}
    for name, low in at_least.items():
        if getattr(config, name) < low:
            return f"--{name.replace('_', '-')} {getattr(config, name)}: give {low} or more"
    below_one = {"ema": config.ema, "label-smoothing": config.label_smoothing, "momentum": config.momentum, "dropout": max(config.dropout)}
    for name, value in below_one.items():
        if not 0 <= value < 1:
            return f"--{name} {value}: give a number from 0 to below 1"
    if config.stem_stride > 2:
        return f"--stem-stride {config.stem_stride}: give 1 or 2"
    if config.learning_rate <= 0 or config.mix_alpha <= 0:
        return "--learning-rate and --mix-alpha: give numbers above 0"
    if config.model == "knn" and config.regulariser != "none":
        return "--regulariser: nearest neighbours have none"
    return ""


if __name__ == "__main__":
    sys.exit(main())
