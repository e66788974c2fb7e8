"""Train and measure a classifier of single characters, one of the paper's baselines, and write the
table of all that have been trained.

    python experiments/classify.py --dataset kmnist --model knn
    python experiments/classify.py --dataset k49 --model preact_resnet18 \\
        --regulariser manifold_mixup
    # the built-in sample where there is no data
    python experiments/classify.py --dataset kkanji --model cnn --epochs 3
    python experiments/classify.py --dataset kmnist --model preact_resnet18 \\
        --regulariser manifold_mixup --preset best

Without --preset it follows the published recipe. Every setting is an option. Figures need:
pip install ".[evaluate]"
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Literal

from transfer.system.entry import guarded
from transfer.system.errors import DataError
from transfer.training import options as command_line
from transfer.training.errors import Interrupted, TrainingError
from transfer.training.weights import WeightsError


@dataclasses.dataclass(frozen=True)
class Options:
    """What to train on, and where files are."""

    dataset: Literal["mnist", "kmnist", "k49", "kkanji"] = "kmnist"
    preset: Literal["published", "best"] = "published"
    split: Literal["val", "test"] = "val"
    """For kkanji: the split to test on. The other data sets have test images only."""
    data: Path | None = None
    """Folder with the published files [default: $KUZUSHIJI_DATA, else the user's cache, else, for
    kkanji, the built-in sample]."""
    runs: Path = Path("runs/classify")
    """The run goes to RUNS/DATASET/MODEL[-REGULARISER][-PRESET], the table to RUNS/DATASET."""
    seed: int = 0
    checkpoint_seconds: float = 90.0


@guarded
def main() -> int:
    from transfer.baselines import datasets, run
    from transfer.baselines.task import BaselineConfig
    from transfer.system import devices

    devices.connect(None)
    chosen = command_line.arguments(__doc__, Options(), {"cnn": BaselineConfig.published("cnn")})
    options, given = chosen.options, chosen.settings
    recipe, model = getattr(BaselineConfig, options.preset), given.get("model", "cnn")
    regulariser = given.get("regulariser", "none") if model != "knn" else "none"
    preset = recipe(model, regulariser, 64 if options.dataset == "kkanji" else 28)
    try:
        config = command_line.overridden(preset, given)
        if importlib.util.find_spec("matplotlib") is None:
            raise DataError('figures need Matplotlib: python -m pip install ".[evaluate]"')
        data = datasets.load(options.dataset, options.data, options.split)
        split = options.split if options.dataset == "kkanji" else "test"
        print(
            run.run(
                config,
                data,
                options.runs,
                split,
                options.preset,
                options.seed,
                options.checkpoint_seconds,
            )
        )
    except (DataError, TrainingError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {options.runs}: cannot be written ({error.strerror or error}); choose another"
            " folder with --runs",
            file=sys.stderr,
        )
        return 2
    except (KeyboardInterrupt, Interrupted) as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
