"""A run folder: its settings, which must stay the same, and its checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from transfer.system import devices
from transfer.system.files import atomic_write
from transfer.training import weights
from transfer.training.errors import TrainingError
from transfer.training.optimizers import constant_until


def _digest(state) -> str:
    """SHA-256 of all arrays of a state, because Orbax does not notice changed bytes in the middle
    of a large array."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(devices.here(state)):
        array = np.asarray(leaf)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def save(manager, step: int, state) -> None:
    """Save a checkpoint with its checksum. Raises OSError if the disk is full."""
    import orbax.checkpoint as ocp

    try:
        manager.save(
            step, args=ocp.args.StandardSave(state), custom_metadata={"sha256": _digest(state)}
        )
        manager.wait_until_finished()
    except ValueError as error:  # TensorStore's way to say that the disk is full
        if not (number := re.search(r"os_error_code='(\d+)'", str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def in_all_processes(check: Callable, *given) -> None:
    """Run a check in every process. If it fails in one, all stop, since the others would wait for
    it."""
    problem = None
    try:
        check(*given)
    except TrainingError as error:
        problem = error
    if devices.agreed(problem is not None)[0]:
        raise problem or TrainingError("another process cannot take part; see its message")


def claim(folder: Path, described: dict, kind: type) -> None:
    """Write config.json, or check that the folder was started with the same settings. kind: the
    configuration's class."""
    text = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path = folder / "config.json"
    try:
        if path.exists():
            try:
                there = json.loads(path.read_text("utf-8"))
                if isinstance(there, dict) and isinstance(there.get("config"), dict):
                    # A setting that is younger than the folder has had its default there.
                    asked = described.get("config", {})
                    younger = {k: v for k, v in _defaults(kind).items() if k in asked}
                    there["config"] = younger | weights.current(kind, there["config"])
                there = _flat(there)
            except (ValueError, RecursionError) as error:
                raise TrainingError(
                    f"{path}: not valid JSON ({error}); delete the folder to start again"
                ) from None
            mine = _flat(json.loads(text))
            differing = sorted(k for k in there | mine if there.get(k) != mine.get(k))
            if differing == ["config.steps"] and _may_change_steps(folder, there, mine):
                differing = []
                if devices.first():
                    with atomic_write(path) as part:
                        part.write_text(text, "utf-8")
            if differing:
                key = differing[0]
                was, now = (repr(values.get(key))[:80] for values in (there, mine))
                raise TrainingError(
                    f"{folder}: this run was started with {key[:80]} = {was}, now it is {now}; "
                    "use the same settings, another --runs folder, or delete it"
                )
            return
        if not devices.first():
            return
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from None


def _may_change_steps(folder: Path, there: dict, mine: dict) -> bool:
    """Whether a run may continue with another number of steps: with neither number has its learning
    rate begun to fall (`constant_until`)."""
    reached = max(
        (int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdecimal()), default=0
    )
    constant = lambda flat: constant_until(
        *(flat[f"config.{k}"] for k in ("steps", "warmup", "cooldown"))
    )
    return "config.cooldown" in mine and reached <= min(constant(there), constant(mine))


def check_writable(folder: Path) -> None:
    """Find out now whether checkpoints can be written, rather than at the first one."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8; TensorStore takes text only
        raise TrainingError(
            f"{ascii(str(folder))[1:-1]}: checkpoints need a folder whose name is text; choose "
            "another with --runs"
        ) from None
    try:
        (folder / "checkpoints").mkdir(exist_ok=True)
        probe = folder / "checkpoints" / f"probe-{jax.process_index()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(folder, error) from None


def unwritable(folder: Path, error: OSError) -> TrainingError:
    """The error for a run folder that cannot be written."""
    return TrainingError(
        f"{folder}: cannot write the run folder ({error.strerror or error}); free space, "
        "or choose another with --runs"
    )


def _defaults(kind: type) -> dict:
    """The defaults of a configuration's fields, as JSON has them."""
    fields = dataclasses.fields(kind)
    found = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return json.loads(json.dumps(found))


def _flat(tree, prefix="") -> dict:
    if isinstance(tree, dict):
        return {
            k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}{name}.").items()
        }
    return {prefix[:-1]: tree}


def restore(manager, state, name: str):
    """The newest checkpoint that can be read, or the given state, and its step."""
    # Its parameters may still have the names of an earlier version.
    earlier = weights.renamed(state, {now: old for old, now in weights.RENAMED_PARAMETERS.items()})
    same = jax.tree.structure(earlier) == jax.tree.structure(state)
    for step in sorted(manager.all_steps(), reverse=True):
        for like in (state,) if same else (state, earlier):
            try:
                restored = _read(manager, step, like)
                break
            except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
                problem = error
        else:
            print(
                f"{name}: checkpoint {step} cannot be read ({type(problem).__name__}); "
                "trying an older one",
                file=sys.stderr,
            )
            manager.delete(step)
            continue
        # Fresh buffers: what Orbax hands out may be shared, and the loop donates its state.
        restored = weights.renamed(restored, weights.RENAMED_PARAMETERS)
        return jax.tree.map(jnp.copy, restored), step
    return state, 0


def _read(manager, step: int, like):
    """A checkpoint with the structure and types of `like`. Raises whatever error reading it
    causes."""
    import orbax.checkpoint as ocp

    restored = manager.restore(
        step, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
    )
    # None: saved by an earlier version.
    kept = (manager.metadata(step).custom_metadata or {}).get("sha256")
    if kept is not None and kept != _digest(restored):
        raise ValueError("its checksum is another")
    return restored
