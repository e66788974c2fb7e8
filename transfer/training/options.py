"""The command line of all training scripts: a preset, any setting, and where data and runs are."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import tyro

from transfer.data import corpus as corpora
from transfer.system import devices
from transfer.system.entry import guarded
from transfer.system.errors import DataError
from transfer.training.errors import Interrupted, TrainingError
from transfer.training.weights import WeightsError

PRESETS = ("paper", "small", "long", "base", "tiny")


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of every training script, besides the settings of its models."""

    preset: Literal["auto", "paper", "small", "long", "base", "tiny"] = "auto"
    """Settings to start from. auto: small on the real data, tiny on the built-in sample corpus."""
    data: Path | None = None
    """Folder with the published files [default: $KUZUSHIJI_DATA, else the user's cache, else the
    built-in sample]."""
    runs: Path | None = None
    """Folder that the stages share; each stage writes its run to a folder of its own in it
    [default: runs/PRESET]."""
    seed: int = 0
    checkpoint_seconds: float = 90.0
    """Time between checkpoints; at most this much work is lost when a run is killed."""
    coordinator: str | None = None
    """HOST:PORT of process 0, if several processes train together, on one host or many. Each is
    started by the same command except for --process-id, and all must see the same data and runs
    folders. auto: Slurm, Open MPI, Kubernetes or a TPU pod has started them and knows the
    address."""
    num_processes: int | None = None
    """How many processes train together."""
    process_id: int | None = None
    """Which of them this one is, from 0."""


def overridden(config, given: dict):
    """`config` with the settings from the command line.

    Raises TrainingError for a setting that the configuration does not have, and for a value that it
    rejects.
    """
    known = {f.name for f in dataclasses.fields(config)}
    if foreign := [name for name in given if name not in known]:
        raise TrainingError(
            f"--{foreign[0].replace('_', '-')}: {type(config).__name__}, which this preset trains, "
            "has no such "
            "setting; leave it out, or choose another --preset"
        )
    try:
        return dataclasses.replace(config, **given)
    except ValueError as error:
        raise TrainingError(str(error)) from None


def refuse_unused(given: dict, *unused: frozenset[str]) -> None:
    """Raise TrainingError for a given setting that no model uses.

    given: name -> value.
    unused: for each model the names of settings that it does not use.
    """
    for name in given:
        if all(name in each for each in unused):
            raise TrainingError(
                f"--{name.replace('_', '-')} has no effect with the other settings; "
                "leave it out, or change them"
            )


def settings(presets: dict) -> type:
    """The type of a dict of settings, for tyro.

    It holds only the settings that were given on the command line.

    presets: name -> configuration. Help shows each setting's value in the first one that has it.
    """
    fields = {}
    for preset, config in presets.items():
        described, types = _described(type(config)), typing.get_type_hints(type(config))
        for name, kind in types.items():
            hint = f"({preset}: {_shown(getattr(config, name))})"
            fields.setdefault(
                name,
                Annotated[
                    kind, tyro.conf.arg(help=described.get(name, ""), help_behavior_hint=hint)
                ],
            )
    return TypedDict("Settings", fields, total=False)


def _shown(value) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _described(kind: type) -> dict[str, str]:
    """The docstring below each field of a class, by the field's name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in zip(body, body[1:])
        if isinstance(field, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def arguments(doc: str, options, presets: dict, **choices):
    """The parsed command line.

    doc: the description that help shows.
    options: an instance with the options' defaults.
    presets: see `settings`.
    choices: extra options, name -> (type, default).

    Returns an object with `options`, `settings` (a dict of those that were given) and the choices.
    """
    kind = tyro.conf.OmitArgPrefixes
    fields = [
        ("options", kind[type(options)], dataclasses.field(default=options)),
        ("settings", kind[settings(presets)], dataclasses.field(default_factory=dict)),
        *(
            (name, of, dataclasses.field(default=default))
            for name, (of, default) in choices.items()
        ),
    ]
    return tyro.cli(dataclasses.make_dataclass("Arguments", fields, frozen=True), description=doc)


@guarded
def run(script: Callable, doc: str, presets: dict, **choices) -> int:
    """Parse the command line and run a training script.

    script: is called as `script(options, given, corpus, **chosen)`, where `given` is a dict of the
    settings that were given, for `overridden`.
    doc: the description that help shows.
    presets: name -> configuration whose fields are options.
    choices: extra options, name -> (type, default).

    Returns the exit code: 2 for bad input, with one line on stderr, and 130 for Ctrl-C.
    """
    parsed = arguments(doc, Options(), presets, **choices)
    try:
        options = parsed.options
        corpus = corpora.load(options.data)
        preset = (
            options.preset if options.preset != "auto" else "tiny" if corpus.is_sample else "small"
        )
        options = dataclasses.replace(
            options, preset=preset, runs=options.runs or Path("runs") / preset
        )
        devices.connect(options.coordinator, options.num_processes, options.process_id)
        script(
            options, parsed.settings, corpus, **{name: getattr(parsed, name) for name in choices}
        )
    except (DataError, TrainingError, WeightsError, devices.ConnectionFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Interrupted) as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        return 130
    return 0
