"""One baseline on one data set: train it (or continue where it stopped), test it, and write its
report and the table of all runs."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np

from transfer.baselines import figures, knn, results, task
from transfer.baselines.datasets import Labelled
from transfer.baselines.task import BaselineConfig
from transfer.evaluation.classification import Answers
from transfer.training import loop, metrics


def folder_of(runs: Path, data: Labelled, config: BaselineConfig, preset: str) -> Path:
    """RUNS/DATASET/MODEL[-REGULARISER][-PRESET]."""
    parts = [
        config.model,
        *([config.regulariser] if config.regulariser != "none" else []),
        *([preset] if preset != "published" else []),
    ]
    return Path(runs) / data.name / "-".join(parts)


def run(
    config: BaselineConfig,
    data: Labelled,
    runs: Path,
    split: str,
    preset: str = "published",
    seed: int = 0,
    checkpoint_seconds: float = 90.0,
) -> Path:
    """Do everything for one row of the table; returns the table's path. Raises TrainingError,
    Interrupted, WeightsError, OSError."""
    folder = folder_of(runs, data, config, preset)
    out = folder / "evaluation" / split
    about = {
        "dataset": data.name,
        "split": split,
        "data": data.about,
        "model": config.model,
        "regulariser": config.regulariser,
        "preset": preset,
        "train_images": len(data.train_images),
        "images": len(data.test_images),
        "classes": len(data.names),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "jax": jax.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    }
    pixels = lambda images: (
        np.asarray(images, np.float32)
        .reshape(len(images), *_coarse(images.shape[1]))
        .mean((2, 4))
        .reshape(len(images), -1)
        / 255
    )
    if config.model == "knn":
        out.mkdir(parents=True, exist_ok=True)
        begin = time.time()
        distances, indices = knn.neighbours(
            data.train_images, data.test_images, config.neighbours, progress="nearest neighbours"
        )
        shares = knn.vote(distances, data.train_labels[indices], len(data.names))
        cases = Answers(np.log(np.maximum(shares, 1e-12)), data.test_labels, data.train_count, seed)
        about |= {
            "parameters": 0,
            "epochs": 0,
            "epochs_published": 0,
            "steps": 0,
            "batch": 0,
            "training_seconds": 0.0,
            "asking_seconds": time.time() - begin,
            "config": {"neighbours": config.neighbours},
            "flop": 2 * data.train_images[0].size * len(shares) * len(data.train_images),
        }
        drawn, features = [], pixels
    else:
        usual = getattr(BaselineConfig, preset)(
            config.model, config.regulariser, data.train_images.shape[1]
        )
        # Epochs and steps have a column of their own; `watched` changes no answer.
        about["changed"] = {
            f.name: getattr(config, f.name)
            for f in dataclasses.fields(config)
            if getattr(config, f.name) != getattr(usual, f.name)
            and f.name not in ("epochs", "steps", "watched")
        }
        config = task.fitted(config, data)
        loop.train(task.build(config, data, seed), folder, seed, checkpoint_seconds)
        out.mkdir(parents=True, exist_ok=True)
        size = data.train_images.shape[1]
        config, network, params = task.load(
            folder / "weights" / f"{config.model}.safetensors", size, len(data.names)
        )
        begin = time.time()
        cases = Answers(
            task.log_probabilities(config, network, params, data.test_images),
            data.test_labels,
            data.train_count,
            seed,
        )
        about |= {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params["weights"])),
            "steps": config.steps,
            "batch": config.batch,
            "epochs": round(config.steps * config.batch / len(data.train_images), 3),
            "epochs_published": (
                BaselineConfig.published(config.model, config.regulariser, size).epochs
                if config.optimizer != "lbfgs"
                else 0
            ),
            "training_seconds": metrics.history(folder / "metrics.jsonl").seconds,
            "asking_seconds": time.time() - begin,
            "flop": (
                3 * task.networks.flop(config, size, len(data.names)) * config.steps * config.batch
            ),
        }
        figures.curves(folder / "metrics.jsonl", out / "curves.png")
        drawn = [("curves.png", "learning curves")]
        features = (
            pixels
            if config.model == "logistic"
            else lambda images: task.in_parts(lambda x: network.features(params, x), images)
        )
    chosen = figures.choose(data)
    if len(chosen[1]):
        parts = [
            features(images[index])
            for images, index in zip((data.train_images, data.test_images), chosen)
        ]
        figures.embedding(*parts, data, chosen, out / "embedding.png")
        drawn.append(
            (
                "embedding.png",
                (
                    "what the last layer reads (of neighbours and logistic regression: pixels), in"
                    " the plane that separates ten classes best"
                ),
            )
        )
    figures.sheet(cases, data, out / "confused.png")
    drawn.append(("confused.png", "the commonest confusions"))
    if len(data.names) <= 50:
        figures.matrix(cases, data.names, out / "confusion.png")
        drawn.append(("confusion.png", "confusion matrix"))
    if config.model != "knn":
        figures.saliency(lambda x: network.logits(params, x), cases, data, out / "saliency.png")
        drawn.append(
            ("saliency.png", "the surest right and wrong answers, and the pixels that they hang on")
        )
    results.write(results.summarise(cases, about), drawn, out)
    return results.write_table(folder.parent, split)


def _coarse(size: int) -> tuple[int, int, int, int]:
    """How to cut size x size pixels into blocks: 28 stays as it is, 64 becomes 16x16 blocks of 4x4,
    so that finding a plane takes seconds."""
    block = max(1, size // 16) if size > 32 else 1
    return size // block, block, size // block, block
