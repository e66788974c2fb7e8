"""Copy the weights of a runs folder into the package, where `KuzushijiTransfer.load()` finds them:
the model's as float16, the judges' as int8.

    python experiments/ship_weights.py --runs runs/small           # the model
    python experiments/ship_weights.py --runs runs/small --judges  # recogniser and baseline
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from transfer.evaluation import judges
from transfer.inference.pipeline import PRETRAINED
from transfer.system.entry import guarded
from transfer.training import weights

LIMIT = 40e6


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/small"))
    parser.add_argument(
        "--judges",
        action="store_true",
        help="ship the evaluation's classifiers instead of the model",
    )
    parser.add_argument("--out", type=Path, help="weights folder [the package's own]")
    chosen = parser.parse_args()
    names = (
        ("recogniser", "baseline") if chosen.judges else ("vae_old", "vae_new", "mdn", "sketch_rnn")
    )
    out = chosen.out or (judges.PRETRAINED if chosen.judges else PRETRAINED)
    try:
        loaded = {name: weights.load(weights.find(chosen.runs, name)) for name in names}
    except weights.WeightsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, (params, arrays, described) in loaded.items():
        if name.startswith("vae"):
            params.pop("classifier", None)  # of z, for training alone
        path = out / f"{name}.safetensors"
        weights.save(path, params, arrays, described, np.int8 if chosen.judges else np.float16)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    total = sum(
        path.stat().st_size
        for folder in ({out} if chosen.out else {PRETRAINED, judges.PRETRAINED})
        for path in folder.glob("*.safetensors")
    )
    print(
        f"{total / 1e6:.1f} MB in all"
        + ("; more than the 40 MB that the package may hold" if total > LIMIT else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
