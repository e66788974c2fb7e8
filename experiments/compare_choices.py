"""What each choice is worth: weights of one choice after the other, a row each, and the same twelve
images drawn by all.

    kuzushiji-transfer evaluate --data DIR --weights runs/joint --out evaluation/joint/val
    kuzushiji-transfer evaluate --data DIR --weights runs/joint --split zero-shot \
        --out evaluation/joint/zero-shot
    kuzushiji-transfer evaluate --data DIR --weights runs/joint --split hands \
        --out evaluation/joint/hands
    python experiments/compare_choices.py evaluation/joint evaluation/flow --data DIR \
        --figure docs/figures/choices.svg

A row is a folder with the reports of `kuzushiji-transfer evaluate`, in folders named after their
splits; its name is the folder's. The table leaves out what was not measured. The figure shows the
first drawing of images that the seed chooses from val, as written by the weights that each report
names; it shows no image of the data set.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from make_figures import drawing, page, text

from transfer import KuzushijiTransfer
from transfer.commands.evaluate import SHIPPED
from transfer.data import corpus as corpora
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError
from transfer.system.files import atomic_write
from transfer.training.weights import WeightsError

COLUMNS = {
    "reconstruction, nats": ("val", "reconstruction from z_old, nats"),
    "KL, nats": ("val", "KL of z_old, nats"),
    "1-NN": ("val", "1-NN in z_old of the plain image, same class"),
    "candidates": ("val", "candidates, top-1"),
    "pixels": ("val", "{reader}: predicted pixels, top-1"),
    "drawing": ("val", "{reader}: single drawing, top-1"),
    "count exact": ("val", "stroke count exact"),
    "zero-shot, candidates": ("zero-shot", "candidates, top-1"),
    "zero-shot, drawing": ("zero-shot", "{reader}: single drawing, top-1"),
    "hands, any form": ("hands", "candidates, any form, top-1"),
}
"""Column -> split, and the report's name of the measure."""
IMAGES = 12


def reports(folder: Path) -> dict[str, dict]:
    """Split -> evaluation.json, of the splits that were evaluated. Raises DataError."""
    found = {}
    for split in dict.fromkeys(split for split, _ in COLUMNS.values()):
        path = folder / split / "evaluation.json"
        if not path.is_file():
            continue
        try:
            found[split] = json.loads(path.read_text("utf-8"))
            found[split]["about"]["weights"], found[split]["about"]["reader"]
            found[split]["metrics"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path}: is no report of `kuzushiji-transfer evaluate`") from None
    if not found:
        raise DataError(
            f"{folder}: holds no val/evaluation.json; write it with `kuzushiji-transfer evaluate"
            f" --out {folder / 'val'}`"
        )
    return found


def row(found: dict[str, dict]) -> list[str]:
    """The cells of one choice."""
    cells = []
    for column, (split, name) in COLUMNS.items():
        report = found.get(split)
        value = report and report["metrics"].get(name.format(reader=report["about"]["reader"]))
        shown = "{:,.0f}" if "nats" in column else "{:.3f}"
        cells.append(shown.format(value[0]) if value else "–")
    return cells


def table(rows: dict[str, dict[str, dict]]) -> str:
    """Markdown: a row a choice."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    body = [line([name, *row(found)]) for name, found in rows.items()]
    head = line(["", *COLUMNS]), line(["---", *["---:"] * len(COLUMNS)])
    return "\n".join([*head, *body])


def figure(rows: dict[str, dict[str, dict]], data: Path | None, seed: int) -> str:
    """An SVG: a column an image, the right kanji above; a row a choice.

    Raises DataError for data without val images, WeightsError.
    """
    corpus = corpora.load(data)
    held = corpus.old.indices("val")
    if not len(held):
        raise DataError("the data hold no val images; give --data DIR with the published files")
    chosen = np.random.default_rng(seed).choice(held, min(IMAGES, len(held)), replace=False)
    kanji = [chr(corpus.old.code_points[n]) for n in chosen]
    images, cell, size, left = np.asarray(corpus.old.images[chosen]), 68, 60, 150
    parts = [text(left + n * cell + size / 2, 24, kanji[n], "kanji") for n in range(len(chosen))]
    for number, (name, found) in enumerate(rows.items()):
        weights = next(iter(found.values()))["about"]["weights"]
        model = KuzushijiTransfer.load(None if weights == SHIPPED else weights)
        top = 36 + number * cell
        parts.append(text(left / 2, top + size / 2 + 4, name))
        for column, result in enumerate(model.transfer(images, samples=1, seed=seed)):
            parts.append(drawing(left + column * cell, top, size, result.strokes[0]))
    title = "One drawing of the same images by each choice"
    return page(left + len(chosen) * cell, 36 + len(rows) * cell, title, parts)


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders of reports, one a choice")
    parser.add_argument("--figure", type=Path, metavar="FILE.svg", help="drawings [none]")
    parser.add_argument("--data", type=Path, help="data folder [the usual places, else the sample]")
    parser.add_argument("--seed", type=int, default=0, help="of images and drawings [%(default)s]")
    chosen = parser.parse_args()
    try:
        rows = {folder.name: reports(folder) for folder in chosen.folders}
        if chosen.figure:
            drawn = figure(rows, chosen.data, chosen.seed)
            with atomic_write(chosen.figure) as part:
                part.write_text(drawn, encoding="utf-8")
    except (DataError, WeightsError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{chosen.figure}: cannot be written ({error.strerror or error})")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
