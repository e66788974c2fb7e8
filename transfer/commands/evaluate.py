"""`kuzushiji-transfer evaluate`: weights on a split -> evaluation.json, report.md and figures."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import shtab

from transfer.commands import arguments
from transfer.system.entry import fail

EVALUATORS = ("recognition", "stroke_quality", "distribution", "latents")
"""Modules of `transfer.evaluation` with a function `measure`."""
SHIPPED = "the shipped weights"
"""What a report calls them; others are called by their folder."""
EXAMPLES = """\
  kuzushiji-transfer evaluate --data DIR                              # the shipped weights on val
  kuzushiji-transfer evaluate --data DIR --split zero-shot --weights runs/small \
--out evaluation/small
  kuzushiji-transfer evaluate --data DIR --predictions FILE.csv       # another program's answers
"""


def add(commands) -> None:
    from transfer.data.splits import HANDS, SPLITS

    parser = arguments.add(
        commands,
        "evaluate",
        run,
        "measure weights on a split",
        "Evaluate weights on a split, and write evaluation.json, report.md and figures.\n"
        'It needs an extra: python -m pip install ".[evaluate]"',
        EXAMPLES,
    )
    arguments.weights(parser)
    parser.add_argument(
        "--judges",
        type=Path,
        metavar="DIR",
        help="folder of the recogniser and the baseline [the shipped ones]",
    ).complete = shtab.DIRECTORY
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE.csv",
        help="score these candidates and drawings instead of weights (docs/leaderboard.md)",
    ).complete = shtab.FILE
    arguments.data(parser)
    parser.add_argument(
        "--split",
        choices=(*SPLITS, HANDS),
        default="val",
        help="split to evaluate; hands: fonts and a letter that no model has seen [%(default)s]",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the report [evaluation/SPLIT]"
    ).complete = shtab.DIRECTORY
    arguments.samples(parser)
    arguments.seed(parser)
    parser.add_argument(
        "--limit",
        type=arguments.integer(1, 10**9),
        metavar="N",
        help="evaluate only N images, chosen by the seed [all]",
    )


def run(chosen) -> int:
    """Evaluate as the parsed arguments say; returns the exit code."""
    if chosen.predictions is not None:
        from transfer.evaluation.predictions import command

        return command.run(chosen)
    if importlib.util.find_spec("matplotlib") is None:
        return fail('figures need Matplotlib: python -m pip install ".[evaluate]"')
    import datetime
    import os
    import platform
    import time

    import jax

    from transfer.data import corpus as corpora
    from transfer.evaluation import cases, figures, judges, report
    from transfer.inference.pipeline import PRETRAINED
    from transfer.system import devices
    from transfer.system.errors import DataError
    from transfer.system.files import sweep
    from transfer.training.weights import WeightsError

    devices.connect(None)
    out, begin, folder = (
        chosen.out or Path("evaluation") / chosen.split,
        time.time(),
        chosen.weights or PRETRAINED,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        sweep(out)
        corpus = corpora.load(chosen.data)
        found = cases.gather(
            folder,
            chosen.judges or judges.PRETRAINED,
            corpus,
            chosen.split,
            chosen.samples,
            chosen.seed,
            chosen.limit,
        )
        measured = [
            importlib.import_module(f"transfer.evaluation.{name}").measure(found)
            for name in EVALUATORS
        ]
        drawn = figures.write(found, out)
        about = {
            "weights": SHIPPED if folder == PRETRAINED else str(folder),
            "split": chosen.split,
            "samples": chosen.samples,
            "seed": chosen.seed,
            "images": len(found.images),
            "classes": len(set(found.code_points.tolist())),
            "left_out": found.left_out,
            "cross_fitted": found.cross_fitted,
            "sample_corpus": corpus.is_sample,
            "sources": corpus.manifest["sources"],
            "reader": found.recogniser.name,
            "recogniser": f"{found.recogniser.name} over {len(found.recogniser.classes):,} kanji",
            "date": datetime.date.today().isoformat(),
            "jax": jax.__version__,
            "seconds": time.time() - begin,
            "machine": (
                f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}"
            ),
        }
        report.write(report.summarise(found, measured, about), drawn, out)
    except (DataError, WeightsError, ValueError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(
            f"{out}: the report cannot be written ({error.strerror or error}); choose another"
            " folder with --out"
        )
    print(f"{out / 'report.md'}: {len(found.images):,} images in {about['seconds']:.0f} s")
    return 0
