"""The command line that all training scripts share: a preset, any of its fields, and where data and runs lie."""
from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro

from data import DataError
from data import corpus as corpora
from data.entry import guarded
from transfer import devices
from transfer.training import Interrupted, TrainingError
from transfer.weights import WeightsError

PRESETS = ("paper", "small", "base", "tiny")


@dataclasses.dataclass(frozen=True)
class Options:
    """Where data and runs lie."""

    preset: Literal["auto", "paper", "small", "base", "tiny"] = "auto"
    """Settings to start from. auto: small on the real data, tiny on the built-in sample corpus."""
    data: Path | None = None
    """Folder with the published files [default: $KUZUSHIJI_DATA, else the user's cache, else the built-in sample]."""
    runs: Path | None = None
    """Folder that the stages share; each stage writes its run to a folder of its own in it [default: runs/PRESET]."""
    seed: int = 0
    checkpoint_seconds: float = 90.0
    """Time between checkpoints; at most this much work is lost when a run is killed."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes, on one host or many, train together: the same command for each, but for
    --process-id. auto: Slurm, Open MPI, Kubernetes or a TPU pod has started them and tells. All must see the same data and runs folders."""
    num_processes: int | None = None
    process_id: int | None = None
    """From 0."""


def carried(config, default, preset):
    """`preset` with those fields of `config` that were given on the command line: the ones in which it differs from `default`."""
    given = {f.name: value for f in dataclasses.fields(config) if (value := getattr(config, f.name)) != getattr(default, f.name)}
    return dataclasses.replace(preset, **given)


@guarded
def run(script: Callable, presets: Callable, doc: str, **choices) -> int:
    """Parse the command line and call `script(options, config, corpus, **chosen)`; returns the exit code.

    presets: name -> default configuration. choices: extra options, name -> (type, default).
    Any field of the configuration is an option. Bad input is one line on stderr and exit code 2; Ctrl-C 130.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="auto")
    first.add_argument("--data", type=Path)
    known, _ = first.parse_known_args()
    help_only = any(a in ("-h", "--help") for a in sys.argv[1:])
    try:
        corpus = None if help_only else corpora.load(known.data)
        preset = known.preset if known.preset in PRESETS else "small" if help_only or not corpus.is_sample else "tiny"
        config = presets(preset)
        fields = [("options", tyro.conf.OmitArgPrefixes[Options], Options()),
                  ("config", tyro.conf.OmitArgPrefixes[type(config)], config),
                  *((name, kind, default) for name, (kind, default) in choices.items())]
        arguments = tyro.cli(dataclasses.make_dataclass(
            "Arguments", [(n, k, dataclasses.field(default=d)) for n, k, d in fields], frozen=True), description=doc)
        options = dataclasses.replace(arguments.options, preset=preset, runs=arguments.options.runs or Path("runs") / preset)
        devices.connect(options.coordinator, options.num_processes, options.process_id)
        script(options, arguments.config, corpus, **{name: getattr(arguments, name) for name in choices})
    except (DataError, TrainingError, WeightsError, devices.ConnectionFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Interrupted) as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        return 130
    return 0
