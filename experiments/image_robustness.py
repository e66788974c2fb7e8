"""In how many pictures does the first candidate change when a picture is compressed, turned,
shaded, stained, cropped badly, …?

    python experiments/image_robustness.py --data DIR  # val images; the shipped weights
    python experiments/image_robustness.py                            # the eight examples

The script enlarges every image to a page, dark on white with a margin, and reads it. Then it
disturbs the page in each way of `disturbances.KINDS`, and reads it again.
"""

import argparse
import sys
from pathlib import Path

import disturbances
import numpy as np

from transfer.commands import arguments
from transfer.data import corpus as corpora
from transfer.inference.images import ImageError, read_image
from transfer.inference.pipeline import PRETRAINED, KuzushijiTransfer
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError
from transfer.training.weights import WeightsError

EXAMPLES = Path(__file__).parents[1] / "examples"
APART = ("16 pixels", "32 pixels")
"""Sizes at which the strokes themselves are lost: shown, but not counted in the all_changes."""


def originals(data: Path | None, count: int, seed: int = 0) -> tuple[np.ndarray, str]:
    """(N, 64, 64) uint8 images to disturb, and what they are."""
    corpus = corpora.load(data, quiet=True)
    if corpus.is_sample:
        files = sorted(EXAMPLES.glob("*.png"))
        return np.stack([read_image(p).image for p in files]), f"the {len(files)} examples"
    chosen = np.random.default_rng(seed).permutation(corpus.old.indices("val"))[:count]
    return np.array(corpus.old.images[np.sort(chosen)]), f"{len(chosen)} val images"


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, 1.96**2
    middle, half_width = (
        share + z2 / (2 * count),
        1.96 * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)),
    )
    return max(0.0, (middle - half_width) / (1 + z2 / count)), min(
        1.0, (middle + half_width) / (1 + z2 / count)
    )


def row(name: str, changed: np.ndarray, refused: int, sure: np.ndarray) -> str:
    low, high = wilson(int(changed.sum()), len(changed))
    of_sure = f"{100 * changed[sure].mean():.1f} % of {int(sure.sum())}" if sure.any() else ""
    return (
        f"| {name} | {len(changed)} | {refused} | {100 * changed.mean():.1f} % [{100 * low:.1f},"
        f" {100 * high:.1f}] | {of_sure} |"
    )


def report(model: KuzushijiTransfer, images: np.ndarray, seed: int = 0) -> list[str]:
    """Lines of the table. A picture that is refused counts as changed."""
    pages = [disturbances.page_of(image) for image in images]
    plain = model.read(np.stack([read_image(page).image for page in pages]), top=1)
    sure = np.array([result.verdict == "sure" for result in plain])
    lines = [
        '| disturbance | pictures | refused | first candidate changed | where it was "sure" |',
        "|---|---|---|---|---|",
    ]
    all_changes = []
    for number, (name, disturb) in enumerate(disturbances.KINDS.items()):
        rng = np.random.default_rng([seed, number])
        read, index = [], []
        for i, page in enumerate(pages):
            try:
                read.append(read_image(disturb(rng, page, pages[i - 1])).image)
                index.append(i)
            except ImageError:
                pass
        changed = np.ones(len(pages), bool)
        for i, result in zip(index, model.read(np.stack(read), top=1) if read else []):
            changed[i] = result.candidates[0][0] != plain[i].candidates[0][0]
        refused = len(pages) - len(read)
        lines.append(row(name, changed, refused, sure))
        if name not in APART:
            all_changes.append((changed, refused))
    everything = np.concatenate([changed for changed, _ in all_changes])
    lines.append(
        row(
            f"**all but {' and '.join(APART)}**",
            everything,
            sum(r for _, r in all_changes),
            np.tile(sure, len(all_changes)),
        )
    )
    return lines


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.weights(parser)
    parser.add_argument("--data", type=Path, help="data folder [the eight examples]")
    parser.add_argument(
        "--count",
        type=int,
        default=48,
        help="number of images, each disturbed in every way [%(default)s]",
    )
    chosen = parser.parse_args()
    folder = chosen.weights or PRETRAINED
    if chosen.count < 1:
        parser.error(f"--count is {chosen.count}; give 1 or more")
    try:
        images, what = originals(chosen.data, chosen.count)
        print(f"{what}, {len(disturbances.KINDS)} disturbances; weights {folder.name}\n")
        print("\n".join(report(KuzushijiTransfer.load(folder), images)))
    except (DataError, WeightsError) as error:
        return fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
