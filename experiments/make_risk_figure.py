"""How far probabilities can be trusted: docs/figures/risk-coverage.svg, a curve for each held-out
split.

    python experiments/make_risk_figure.py --data DIR

Readings are taken from the most certain to the least. A curve shows the share of wrong ones among
those taken so far, in any form of the character; its dot shows the readings that are called sure.
On val the probabilities are cross-fitted, as in `kuzushiji-transfer evaluate`, whose candidates
these are. The figure holds no image of the data set. Run it again when the shipped weights change.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from make_figures import ROOT, page, text
from scipy.optimize import isotonic_regression

from transfer.data import corpus as corpora
from transfer.data.splits import HANDS
from transfer.evaluation import cases, judges
from transfer.evaluation.distribution import confidences, risk_coverage
from transfer.inference.pipeline import PRETRAINED
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError
from transfer.system.files import atomic_write
from transfer.training.weights import WeightsError

SPLITS = {
    "zero-shot": "kanji without a book image in training (zero-shot)",
    HANDS: "unseen fonts and a letter (hands)",
    "val": "kanji of the training books (val)",
}
"""Split -> how the figure names it, the hardest first."""
LEFT, TOP, WIDTH, HEIGHT, MOST = 52, 30, 420, 210, 0.4
"""Of the axes, in pixels, and the largest share of wrong readings that they show."""
POINTS = 140
APART = 40
"""Pixels between the labels of two curves, at least."""


@dataclass(frozen=True)
class Curve:
    """coverage, risk: (N,), see `risk_coverage`. sure: the share of readings that are called sure,
    and the share of these that is wrong."""

    coverage: np.ndarray
    risk: np.ndarray
    sure: tuple[float, float]


def curve(confidence: np.ndarray, hit: np.ndarray, sure: np.ndarray) -> Curve:
    """Of readings' probabilities (N,) float, whether they are right and called sure, (N,) bool."""
    wrong = float((~hit[sure]).mean()) if sure.any() else 0.0
    return Curve(*risk_coverage(confidence, hit), (float(sure.mean()), wrong))


def apart(places: list[float]) -> list[float]:
    """Heights of labels near those of their curves' ends, none too near to another."""
    order, steps = np.argsort(places, kind="stable"), APART * np.arange(len(places))
    found = np.empty(len(places))
    found[order] = isotonic_regression(np.array(places)[order] - steps).x + steps
    return np.round(found, 1).tolist()


def figure(curves: dict[str, Curve]) -> str:
    """An SVG. curves: by split, of SPLITS."""
    x = lambda share: LEFT + WIDTH * share
    y = lambda share: TOP + HEIGHT * (1 - min(share, MOST) / MOST)
    parts = []
    for tenth in range(0, 5):
        parts += [
            f'<path class="line" d="M{LEFT},{y(tenth / 10):g} h{WIDTH}"/>',
            text(LEFT - 22, y(tenth / 10) + 4, f"{10 * tenth} %", "small"),
        ]
    parts += [
        text(x(share / 4), TOP + HEIGHT + 18, f"{25 * share} %", "small") for share in range(5)
    ]
    parts += [
        text(x(0.5), TOP + HEIGHT + 38, "share of the images, the most certain readings first"),
        text(x(0.5), TOP - 12, "share of these that is read wrongly"),
    ]
    ends = [y(found.risk[-1]) for found in curves.values()]
    labels = apart(ends)
    for number, (split, found) in enumerate(curves.items()):
        # The first few readings say little: one wrong among ten is no tenth.
        first = min(len(found.risk) - 1, len(found.risk) // 50)
        at = np.unique(np.linspace(first, len(found.risk) - 1, POINTS).round().astype(int))
        points = " L".join(f"{x(found.coverage[i]):.1f},{y(found.risk[i]):.1f}" for i in at)
        sure, wrong = found.sure
        end, label = 100 * found.risk[-1], labels[number]
        parts += [
            f'<path class="curve c{number}" d="M{points}"/>',
            f'<circle class="dot c{number}" cx="{x(sure):.1f}" cy="{y(wrong):.1f}" r="5"/>',
            f'<path class="curve c{number}" d="M{x(1):g},{ends[number]:.1f}'
            f' L{x(1) + 14:g},{label:g} h12"/>'
            + f'<g class="label">{text(x(1) + 32, label, SPLITS[split])}'
            + text(
                x(1) + 32,
                label + 16,
                f"all: {end:.1f} % wrong; the {100 * sure:.0f} % called sure: {100 * wrong:.1f} %",
                "small",
            )
            + "</g>",
        ]
    return page(880, TOP + HEIGHT + 48, "Wrong readings by how certain they are", parts)


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="data folder [the usual places, else the sample]")
    parser.add_argument("--limit", type=int, metavar="N", help="images of a split [all]")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "figures" / "risk-coverage.svg", metavar="FILE"
    )
    chosen = parser.parse_args()
    curves = {}
    try:
        corpus = corpora.load(chosen.data)
        for split in SPLITS:
            found = cases.gather(
                PRETRAINED, judges.PRETRAINED, corpus, split, samples=1, limit=chosen.limit
            )
            sure = np.array([r.verdict == "sure" for r in found.results])
            curves[split] = curve(*confidences(found), sure)
        with atomic_write(chosen.out) as part:
            part.write_text(figure(curves), "utf-8")
    except (DataError, WeightsError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{chosen.out}: cannot be written ({error.strerror or error})")
    print(chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
