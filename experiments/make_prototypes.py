"""Choose a few z_old of every kanji, from which the old VAE paints old hands beside a candidate.

    # writes runs/small/prototypes.safetensors
    python experiments/make_prototypes.py --weights runs/small --data DIR
    python experiments/make_prototypes.py --data DIR  # the shipped weights

The z_old of a kanji's train images fall into up to four clusters (k-means), whose means are its
prototypes. A kanji without such images gets up to two from the brush fonts that are trained on and
from made hands, if the data folder has any. The file names the sha256 of the vae_old.safetensors
that it belongs to: with another one it is not used. Some five minutes on two cores.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2
from tqdm import tqdm

from transfer.commands import arguments
from transfer.data import corpus as corpora
from transfer.inference import old_hands
from transfer.inference.pipeline import PRETRAINED
from transfer.stages.encoding import corpus_provenance, encode_images
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError
from transfer.training import weights

BOOKS, FONTS = 4, 2  # prototypes of a kanji with and without images of books
CHUNK = 16_384  # images that are held at once
LIMIT = 2e6  # bytes of the file


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.weights(parser)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--out", type=Path, help="folder for prototypes.safetensors [that of the weights]"
    )
    parser.add_argument("--classes", type=int, help="only so many kanji, for a trial [all]")
    chosen = parser.parse_args()
    if chosen.classes is not None and chosen.classes < 1:
        parser.error("--classes must be 1 or more")
    folder = chosen.weights or PRETRAINED
    try:
        corpus = corpora.load(chosen.data)
        vae_old = weights.find(folder, "vae_old")
        arrays = prototypes(folder, corpus, chosen.classes)
    except (DataError, weights.WeightsError) as error:
        return fail(str(error))
    described = {"config": {}} | corpus_provenance(corpus, {"fonts": 1.0, "hands": 1.0})
    path = (chosen.out or folder) / f"{old_hands.FILE}.safetensors"
    try:
        old_hands.save(path, arrays, described, vae_old)
    except OSError as error:
        return fail(
            f"{path}: cannot be written ({error.strerror}); choose another folder with --out"
        )
    points, books = arrays["code_points"], arrays["books"] > 0
    size = path.stat().st_size
    print(
        f"{len(points):,} prototypes: {len(np.unique(points[books])):,} kanji after books, "
        f"{len(np.unique(points[~books])):,} after fonts and made hands\n"
        f"{path.name}: {size / 1e3:.0f} kB, in {path.parent}"
        + ("; more than the 2 MB that may ship" if size > LIMIT else "")
    )
    return 0


def prototypes(folder: Path, corpus, most: int | None = None) -> dict[str, np.ndarray]:
    """The file's arrays (`old_hands.pack`). most: so many kanji, for a trial."""
    kanji = np.asarray(corpus.new.code_points[corpus.new.gallery()])
    train = corpus.old.indices("train")
    books = source(corpus.old.images, corpus.old.code_points, train, kanji)
    others = [
        source(part.images, part.code_points, rows, np.setdiff1d(kanji, list(books)))
        for part, rows in (
            (corpus.fonts, corpus.fonts.of("train") if corpus.fonts else None),
            (corpus.hands, np.arange(len(corpus.hands.images)) if corpus.hands else None),
        )
        if part is not None
    ]
    jobs = [(point, [pick], BOOKS) for point, pick in books.items()]
    without = sorted(set().union(*others))
    jobs += [(point, [g[point] for g in others if point in g], FONTS) for point in without]
    points, found, of_books = [], [], []
    for chunk in chunks(jobs[:: max(1, len(jobs) // most)][:most] if most else jobs):
        images = np.concatenate([pick() for _, picks, _ in chunk for pick in picks])
        z, _ = encode_images(folder, "old", images)
        start = 0
        for point, picks, count in chunk:
            end = start + sum(pick.count for pick in picks)
            means = clusters(z[start:end], count)
            points += [point] * len(means)
            of_books += [count == BOOKS] * len(means)
            found.append(means)
            start = end
    if not found:
        raise DataError(
            f"{corpus.folder}: holds no train image of a kanji; give another folder with --data"
        )
    return old_hands.pack(np.array(points), np.concatenate(found), np.array(of_books))


class Pick:
    """Images of one kanji, read when they are needed. count: how many."""

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.count = len(rows)
        self._images, self._rows = images, rows

    def __call__(self) -> np.ndarray:
        return np.asarray(self._images[np.sort(self._rows)])


def source(images, code_points, rows: np.ndarray, kanji: np.ndarray) -> dict[int, Pick]:
    """Of each of the kanji (code points) that the rows show, its images."""
    wanted, groups = set(kanji.tolist()), old_hands.by_kanji(code_points, rows)
    return {point: Pick(images, group) for point, group in groups.items() if point in wanted}


def chunks(jobs: list):
    """Jobs together as long as they have no more than CHUNK images; with a bar of the kanji."""
    held, images = [], 0
    with tqdm(total=len(jobs), desc="kanji", file=sys.stderr, disable=None) as bar:
        for job in jobs:
            count = sum(pick.count for pick in job[1])
            if held and images + count > CHUNK:
                yield held
                bar.update(len(held))
                held, images = [], 0
            held.append(job)
            images += count
        if held:
            yield held
            bar.update(len(held))


def clusters(z: np.ndarray, most: int) -> np.ndarray:
    """Means (k, 64) of up to `most` clusters of z (n, 64), that of the largest first."""
    if len(z) <= most:
        return z
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a cluster is empty: fewer are kept then
        _, label = kmeans2(z.astype(np.float64), most, minit="++", seed=0)
    sizes = np.bincount(label, minlength=most)
    return np.stack([z[label == k].mean(0) for k in np.argsort(-sizes) if sizes[k]])


if __name__ == "__main__":
    sys.exit(main())
