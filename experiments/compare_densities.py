"""Compare the densities of several runs: P(z_new | z_old), and the density back if a run has one.

    python experiments/compare_densities.py runs/anchored runs/joint runs/flow --data DIR
    python experiments/compare_densities.py runs/flow --splits val zero-shot --limit 500 \
        --out figures.json

Each folder holds both VAEs and a density (and a decoder, for the row of drawings): weights, or the
runs of all stages. `transfer/evaluation/densities/` explains the rows. Bayes' rule needs every
kanji of the gallery for every image; --limit sets the number of images.
"""

import argparse
import json
import sys
from pathlib import Path

from transfer.data import corpus as corpora
from transfer.data.splits import SPLITS
from transfer.evaluation import judges
from transfer.evaluation.densities import tables
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError
from transfer.system.files import atomic_write
from transfer.training.weights import WeightsError

TITLES = {"forward": "P(z_new | z_old)", "back": "P(z_old | z_new)"}


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="runs or weights folders")
    parser.add_argument("--data", type=Path, help="data folder [the usual places, else the sample]")
    parser.add_argument("--judges", type=Path, default=judges.PRETRAINED, help="[shipped]")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=["val"], help="[val]")
    parser.add_argument(
        "--limit", type=int, help="number of images of a split, chosen by seed [all]"
    )
    parser.add_argument(
        "--samples", type=int, default=10, help="samples of each image or kanji [10]"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures [none]")
    chosen = parser.parse_args()
    if chosen.samples < 1 or (chosen.limit is not None and chosen.limit < 1):
        return fail("--samples and --limit: give 1 or more")
    try:
        found = tables.compare(
            chosen.folders,
            chosen.judges,
            corpora.load(chosen.data),
            tuple(chosen.splits),
            chosen.limit,
            chosen.samples,
            chosen.seed,
        )
        if chosen.out:
            with atomic_write(chosen.out) as part:
                part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except (DataError, WeightsError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{chosen.out}: cannot be written ({error.strerror or error})")
    for direction, runs in found.items():
        if runs:
            print(f"\n{TITLES[direction]}\n\n{tables.markdown(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
