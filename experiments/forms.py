"""How many wrong readings are other forms of the right character, such as the old 廣 for a label of
the new 広?

    pip install OpenCC
    python experiments/forms.py --data DIR                            # val
    python experiments/forms.py --data DIR --split zero-shot

Two kanji are forms of one character if OpenCC's table from Japanese to traditional characters makes
them the same. Pairs that the table lacks (纏/纒, 碗/椀) still count as wrong. The strict figures equal
those of `kuzushiji-transfer evaluate`. The script reads candidates only, and draws nothing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from transfer.data import corpus as corpora
from transfer.evaluation.calibration import bootstrap
from transfer.inference.pipeline import PRETRAINED, KuzushijiTransfer
from transfer.stages.encoding import in_gallery, old_examples
from transfer.system.entry import guarded
from transfer.system.errors import DataError
from transfer.training.weights import WeightsError


def ranks(candidates: list[list[str]], truth: list[str], same) -> np.ndarray:
    """(N,) place of the first candidate that is the `same` as the truth, from 0; the number of
    candidates if there is none."""
    return np.array(
        [
            next(
                (place for place, answer in enumerate(answers) if same(answer, true)), len(answers)
            )
            for answers, true in zip(candidates, truth)
        ]
    )


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=PRETRAINED,
        help="folder of runs or weights [the shipped weights]",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="data folder [$KUZUSHIJI_DATA, the user's cache, else the built-in sample]",
    )
    parser.add_argument(
        "--split", choices=("val", "test", "zero-shot"), default="val", help="[%(default)s]"
    )
    chosen = parser.parse_args()
    try:
        import opencc
    except ImportError:
        print(
            "error: the table of forms is OpenCC's: python -m pip install OpenCC", file=sys.stderr
        )
        return 2
    try:
        corpus, model = corpora.load(chosen.data), KuzushijiTransfer.load(chosen.weights)
        chosen_images, label = in_gallery(
            *old_examples(corpus, chosen.split), np.array([ord(c) for c in model.characters])
        )
        if not len(label):
            raise DataError(
                f"{corpus.folder}: holds no images of the split {chosen.split!r} whose kanji have a"
                " glyph; choose another"
            )
        truth = [model.characters[i] for i in label]
        read = model.read(np.array(corpus.old.images[chosen_images]))
    except (DataError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    candidates = [[character for character, _ in result.candidates] for result in read]
    table = opencc.OpenCC("jp2t")
    form = {c: table.convert(c) for c in {*truth, *(c for row in candidates for c in row)}}
    found = {
        "the labelled kanji": ranks(candidates, truth, lambda a, b: a == b),
        "or another form of it": ranks(candidates, truth, lambda a, b: form[a] == form[b]),
    }
    print(
        f"{len(truth):,} images of {chosen.split}, 95 % bootstrap intervals over them\n\n|"
        " candidates | top-1 | top-10 |\n|---|---|---|"
    )
    for name, rank in found.items():
        print(
            f"| {name} | "
            + " | ".join(
                "{:.3f} [{:.3f}, {:.3f}]".format(*bootstrap((rank < k).astype(float)))
                for k in (1, 10)
            )
            + " |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
