"""The figures of several runs beside each other."""

from __future__ import annotations

import math
from pathlib import Path

from transfer.data.corpus import Corpus
from transfer.evaluation.cases import recogniser_of
from transfer.evaluation.densities import back, forward
from transfer.evaluation.judges import Judge
from transfer.stages.encoding import MDN_NAMES
from transfer.training import weights


def compare(
    folders: list[Path],
    judges: Path,
    corpus: Corpus,
    splits: tuple[str, ...] = ("val",),
    limit: int | None = None,
    samples: int = 10,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Direction -> folder -> the figures of all splits, by "split: name".

    Folders without a density back are left out of that direction, which may be empty.
    judges: folder of the recogniser, and of the baseline, the classifier of Kuzushiji images.
    limit, samples, seed: as in `forward.measure`.

    Raises WeightsError, and DataError if a split has no images.
    """
    judge = recogniser_of(judges, corpus)
    baseline = Judge(judges, "baseline") if weights.exists(judges, "baseline") else None
    found = {direction: {} for direction in MDN_NAMES}
    for folder in folders:
        ahead, behind, share = {}, {}, None
        given = {"limit": limit, "samples": samples, "seed": seed}
        for split in splits:
            figures = forward.measure(folder, corpus, judge, split, **given)
            ahead |= {f"{split}: {name}": value for name, value in figures.items()}
            if weights.exists(folder, MDN_NAMES["back"]):
                # What was fitted on the first split holds for the others.
                figures = back.measure(folder, corpus, baseline, split, share=share, **given)
                share = figures["share of the way back"]
                behind |= {f"{split}: {name}": value for name, value in figures.items()}
        found["forward"][str(folder)] = ahead
        if behind:
            found["back"][str(folder)] = behind
    return found


def markdown(runs: dict[str, dict[str, float]]) -> str:
    """A table with a column for each run and a row for each figure; "–" for what was not
    measured."""
    names = list(dict.fromkeys(name for figures in runs.values() for name in figures))
    shown = lambda value: "–" if math.isnan(value) else f"{value:.3f}"
    row = lambda cells: "| " + " | ".join(cells) + " |"
    lines = [row(["", *runs]), row(["---"] * (len(runs) + 1))]
    for name in names:
        lines.append(row([name, *(shown(f.get(name, math.nan)) for f in runs.values())]))
    return "\n".join(lines)
