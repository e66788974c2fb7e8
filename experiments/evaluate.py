"""Evaluate weights on a split: evaluation.json, report.md and figures.

    python experiments/evaluate.py --data DIR                              # the shipped weights on val
    python experiments/evaluate.py --data DIR --split zero-shot --weights runs/small --out evaluation/small
"""
import argparse
import datetime
import importlib.util
import os
import platform
import sys
import time
from pathlib import Path

import jax

from data import DataError
from data import corpus as corpora
from data.splits import SPLITS
from transfer.evaluation import cases, distribution, figures, judges, latents, recognition, report, stroke_quality
from transfer.pipeline import PRETRAINED
from transfer.weights import WeightsError

EVALUATORS = (recognition, stroke_quality, distribution, latents)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=PRETRAINED, help="weights or runs folder of the model [the shipped weights]")
    parser.add_argument("--judges", type=Path, default=judges.PRETRAINED, help="weights or runs folder of recogniser and baseline [shipped]")
    parser.add_argument("--data", type=Path, help="data folder [$KUZUSHIJI_DATA, the user's cache, else the built-in sample]")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--out", type=Path, help="folder for the report [evaluation/SPLIT]")
    parser.add_argument("--samples", type=int, default=10, help="drawings an image [10]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="evaluate so many images, chosen by seed [all]")
    chosen = parser.parse_args()
    if chosen.samples < 1 or chosen.limit is not None and chosen.limit < 1:
        parser.error("--samples and --limit take whole numbers from 1")
    if importlib.util.find_spec("matplotlib") is None:
        parser.error('figures need Matplotlib: pip install ".[evaluate]"')
    out, begin = chosen.out or Path("evaluation") / chosen.split, time.time()
    try:
        out.mkdir(parents=True, exist_ok=True)
        corpus = corpora.load(chosen.data)
        found = cases.gather(chosen.weights, chosen.judges, corpus, chosen.split, chosen.samples, chosen.seed, chosen.limit)
        measured = [evaluator.measure(found) for evaluator in EVALUATORS]
        drawn = figures.write(found, out)
        shipped = chosen.weights == PRETRAINED
        about = {"weights": "the shipped weights" if shipped else str(chosen.weights), "split": chosen.split, "samples": chosen.samples,
                 "seed": chosen.seed, "images": len(found.images), "classes": len(set(found.code_points.tolist())),
                 "left_out": found.left_out, "sample_corpus": corpus.is_sample, "sources": corpus.manifest["sources"],
                 "reader": found.recogniser.name,
                 "recogniser": f"{found.recogniser.name} over {len(found.recogniser.classes):,} kanji",
                 "date": datetime.date.today().isoformat(), "jax": jax.__version__, "seconds": time.time() - begin,
                 "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}"}
        report.write(report.summarise(found, measured, about), drawn, out)
    except (DataError, WeightsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {out}: the report cannot be written ({error.strerror or error}); choose another folder with --out", file=sys.stderr)
        return 2
    print(f"{out / 'report.md'}: {len(found.images):,} images in {about['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
