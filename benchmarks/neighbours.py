"""Exact 4-nearest neighbours against scikit-learn's brute force, at Kuzushiji-49's size: seconds,
memory, and whether the answers are the same.

    pip install . scikit-learn
    # 232,365 learned from, 4,096 of the 38,547 looked up: some minutes
    python benchmarks/neighbours.py
    # all: twenty minutes, nearly all of them scikit-learn's
    python benchmarks/neighbours.py --queries 38547

The images are Kuzushiji-MNIST's test images, as they are and warped
(`transfer.models.augment.warp`), if --data has them; otherwise they come from the sample corpus.
scikit-learn gets float32 and float64 in turn, and the faster of the two is the baseline. Both sides
use the same cores and take turns in one process, --repeats times. A first run does not count (that
of scikit-learn is short), and the median counts. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

from transfer.baselines import knn
from transfer.models import augment
from transfer.system.entry import guarded


def images(
    number: int, queries: int, data: Path | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """(number, 784) and (queries, 784) uint8, labels of the former, and where they are from; each a
    warped form of its own of some image."""
    from transfer.data.published import kmnist

    if kmnist.present("kmnist", "test", data):
        kana, source = kmnist.load("kmnist", "test", data), "Kuzushiji-MNIST's test images"
        base, labels = kana.images, kana.labels
    else:
        from transfer.data import corpus

        old = corpus.load(data).old
        base, labels = old.images[:, 8:36, 8:36], np.arange(len(old.images)) % 49
        source = "the sample corpus, cut to 28x28"
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(base), size=number + queries)
    warp = jax.jit(lambda some, key: (255 * augment.warp(some, key)).round().astype(np.uint8))
    made = np.empty((number + queries, *base.shape[1:]), np.uint8)
    for at in range(0, len(made), 8192):
        part = np.resize(
            base[chosen[at : at + 8192]], (8192, *base.shape[1:])
        )  # one size, compiled once
        made[at : at + 8192] = np.asarray(warp(part, jax.random.key(seed + at)))[: len(made) - at]
    made = made.reshape(len(made), -1)
    return made[:number], made[number:], labels[chosen[:number]], source


@guarded
def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--learned", type=int, default=232_365, help="number of images to learn from [%(default)s]"
    )
    options.add_argument(
        "--queries", type=int, default=4096, help="number of images to look up [%(default)s]"
    )
    options.add_argument(
        "--data",
        type=Path,
        help="data folder [$KUZUSHIJI_DATA, the user's cache, else the built-in sample]",
    )
    options.add_argument(
        "--repeats", type=int, default=3, help="counted runs of each side [%(default)s]"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("neighbours.json"))
    chosen = options.parse_args()
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError:
        print(
            "error: this compares with scikit-learn: python -m pip install scikit-learn",
            file=sys.stderr,
        )
        return 2

    train, test, labels, source = images(chosen.learned, chosen.queries, chosen.data, chosen.seed)
    classes = int(labels.max()) + 1
    found, seconds = {}, {"ours": [], "scikit-learn float32": [], "scikit-learn float64": []}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def ours(queries):
        distances, indices = knn.neighbours(train, queries, 4)
        return knn.vote(distances, labels[indices], classes).argmax(1)

    ours(test)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    methods = {"ours": ours}
    for number in (np.float32, np.float64):
        model = KNeighborsClassifier(4, weights="distance", algorithm="brute", n_jobs=-1).fit(
            train.astype(number), labels
        )
        methods[f"scikit-learn {number.__name__}"] = lambda queries, model=model, number=number: (
            model.predict(queries.astype(number))
        )
        methods[f"scikit-learn {number.__name__}"](test[:256])
    for _ in range(chosen.repeats):
        for name, method in methods.items():
            begun = time.perf_counter()
            found[name] = method(test)
            seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    baseline = min((name for name in methods if name != "ours"), key=median.get)
    pairs = [other / own for own, other in zip(seconds["ours"], seconds[baseline])]
    report = {
        "learned": len(train),
        "queries": len(test),
        "source": source,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "seconds": {name: [round(v, 3) for v in values] for name, values in seconds.items()},
        "times as fast": round(statistics.median(pairs), 2),
        "least, most": [round(min(pairs), 2), round(max(pairs), 2)],
        "baseline": baseline,
        "the same answer, share": {
            name: float((found[name] == found["ours"]).mean()) for name in methods if name != "ours"
        },
        "GFLOP/s of the products": round(2 * train.size * len(test) / median["ours"] / 1e9),
        "MB before": before // 1024,
        "MB at most, ours": memory // 1024,
    }
    chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
