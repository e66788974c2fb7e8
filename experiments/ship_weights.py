"""Copy the weights of a runs folder into the package, where `KuzushijiTransfer.load()` finds them:
the model's as float16, the judges' as int8.

    python experiments/ship_weights.py --runs runs/small           # the model
    python experiments/ship_weights.py --runs runs/small --judges  # recogniser and baseline

The prototypes of old hands come along where the folder has some of its old VAE
(`experiments/make_prototypes.py`).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from transfer.evaluation import judges
from transfer.inference import old_hands
from transfer.inference.pipeline import PRETRAINED
from transfer.system.entry import fail, guarded
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
        hands = None if chosen.judges else prototypes(chosen.runs)
    except weights.WeightsError as error:
        return fail(str(error))
    for name, (params, arrays, described) in loaded.items():
        if name.startswith("vae"):
            params.pop("classifier", None)  # of z, for training alone
        path = out / f"{name}.safetensors"
        weights.save(path, params, arrays, described, np.int8 if chosen.judges else np.float16)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if hands:
        path = out / f"{old_hands.FILE}.safetensors"
        old_hands.save(path, *hands, out / "vae_old.safetensors")
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


def prototypes(runs: Path) -> tuple[dict, dict] | None:
    """The arrays and the description of the folder's prototypes, if they are of its old VAE."""
    if not weights.exists(runs, old_hands.FILE):
        return None
    path = weights.find(runs, old_hands.FILE)
    arrays, described = old_hands.read(path)
    if old_hands.belongs(described, weights.find(runs, "vae_old")):
        return arrays, described
    print(
        f"{path}: belongs to another vae_old.safetensors and is left out; run"
        f" experiments/make_prototypes.py --weights {runs}",
        file=sys.stderr,
    )
    return None


if __name__ == "__main__":
    sys.exit(main())
