"""`kuzushiji-transfer train`: all stages, one after another. `experiments/stage1_vae.py` and its
sisters train them one by one."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import shtab

from transfer.commands import arguments
from transfer.system.entry import fail

PRESETS = ("auto", "paper", "small", "long", "base", "tiny")
EXAMPLES = """\
  kuzushiji-transfer train                       # the built-in sample corpus, preset tiny, minutes
  kuzushiji-transfer train --data DIR            # the real data, preset small, 75 minutes on two \
cores
  kuzushiji-transfer train --data DIR --preset base --runs runs/mine --seed 1
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "train",
        run,
        "train all stages",
        "Train both VAEs, the density and the Sketch-RNN, one after another. You can stop it at "
        "any time, by Ctrl-C or by force. The\n"
        "same command continues where it stopped, and ends with the same weights. To change single "
        "settings, train stage by stage with\n"
        "experiments/stage1_vae.py, stage2_mdn.py and stage3_sketch_rnn.py.",
        EXAMPLES,
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="auto",
        help="settings; auto takes small for the real data, tiny for the sample [%(default)s]",
    )
    arguments.data(parser)
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="folder for the runs [runs/PRESET]"
    ).complete = shtab.DIRECTORY
    arguments.seed(parser)
    parser.add_argument(
        "--steps",
        type=arguments.integer(1, 10**9),
        metavar="N",
        help="steps of every stage, for a trial run [the preset's]",
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=90.0,
        metavar="S",
        help=(
            "time between checkpoints; a killed training loses at most this much work [%(default)s]"
        ),
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help=(
            "address of process 0, if several processes train together, on one host or on several"
            " that share the folders; run the same command in each process, with its own"
            " --process-id; auto asks Slurm, Open MPI and the like"
        ),
    )
    parser.add_argument(
        "--num-processes",
        type=arguments.integer(1, 10_000),
        metavar="N",
        help="number of processes that train together",
    )
    parser.add_argument(
        "--process-id",
        type=arguments.integer(0, 9_999),
        metavar="I",
        help="number of this process, from 0",
    )


def run(chosen) -> int:
    from tqdm import tqdm

    from transfer.data import corpus as corpora
    from transfer.system import devices
    from transfer.system.errors import DataError
    from transfer.training import errors, loop
    from transfer.training.weights import WeightsError

    try:
        devices.connect(chosen.coordinator, chosen.num_processes, chosen.process_id)
        corpus = corpora.load(chosen.data)
        preset = (
            chosen.preset if chosen.preset != "auto" else "tiny" if corpus.is_sample else "small"
        )
        runs = chosen.runs or Path("runs") / preset
        plan = stages(preset, corpus, runs, chosen.seed, chosen.steps)
        if devices.first():
            print(f"training {len(plan)} models with preset {preset} into {runs}", file=sys.stderr)
        # Each stage shows its own bar of steps under this one.
        with tqdm(
            total=len(plan),
            desc="all stages",
            unit="model",
            disable=None if devices.first() else True,
            file=sys.stderr,
            bar_format="{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}",
        ) as bar:
            for task in plan:
                task = task()
                bar.set_description_str(f"all stages, now {task.name}")
                loop.train(task, runs / task.name, chosen.seed, chosen.checkpoint_seconds)
                bar.update()
    except (DataError, errors.TrainingError, WeightsError, devices.ConnectionFailed) as error:
        return fail(str(error))
    except errors.Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    if devices.first():
        print(f"all trained; draw with them: kuzushiji-transfer draw IMAGE --weights {runs}")
    return 0


def stages(preset: str, corpus, runs: Path, seed: int, steps: int | None = None) -> list[Callable]:
    """The trainings in order. Each is a function that makes its Task once the trainings before it
    have left their weights in `runs`."""
    from transfer.models.mdn import MDNConfig
    from transfer.models.vae import VAEConfig
    from transfer.stages.autoencoders import vae_task
    from transfer.stages.decoders import decoder_preset, decoder_task
    from transfer.stages.density import mdn_task

    def stepped(config):
        return config if steps is None else dataclasses.replace(config, steps=steps)

    old, new = (stepped(getattr(VAEConfig, preset)(domain)) for domain in ("old", "new"))
    density, decoder = stepped(getattr(MDNConfig, preset)()), stepped(decoder_preset(preset))
    return [
        lambda: vae_task(old, corpus, "old"),
        lambda: vae_task(new, corpus, "new"),
        lambda: mdn_task(density, corpus, runs, seed),
        lambda: decoder_task(decoder, corpus, runs, seed),
    ]
