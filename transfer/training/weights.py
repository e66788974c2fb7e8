"""Weights files: a pytree of arrays and the configuration that made it, in one safetensors file.

Parameters are stored under ``params/…`` by path, other arrays (the gallery of z_new, say) under
``arrays/…``; the run's configuration is JSON in the file's metadata. Nothing in such a file can run
code.
"""

from __future__ import annotations

import hashlib
import json
import math
import types
import typing
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from transfer.system.files import atomic_write

DEEPEST = 32
"""How many names a path may have. Trees deeper than any model's would exhaust the recursion of
functions that walk them."""

ANY = object()
RETIRED = {
    "VAEConfig": {"pretrained": False, "standardise": ANY},
    "MDNConfig": {"together": False, "likelihood": ANY},
    "SketchRNNConfig": {
        "joint_pen": False,
        "glimpse": False,
        "plan": False,
        "plan_batch": ANY,
        "particles": 1,
        "embed": 0,
        "head": 0,
        "noise": 0,
    },
}
"""Settings of earlier versions, and the value with which a model is the same as without them (ANY:
every value)."""
RENAMED = {"StrokeRNNConfig": {"ways": "attempts"}}
"""Settings with other names in earlier versions: configuration -> earlier name -> name."""
RENAMED_PARAMETERS = {"told": "known"}
"""Parameters with other names in earlier versions: earlier name -> name."""


class WeightsError(Exception):
    """A weights file that is missing or cannot be used. The message is one line."""


def flatten(tree, prefix: str) -> dict[str, np.ndarray]:
    """A nested dict of arrays as {"prefix/a/b": array}."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name_of(path, prefix): np.asarray(leaf) for path, leaf in leaves}


def name_of(path: tuple, prefix: str = "params") -> str:
    """The name that `flatten` gives the leaf at a path of `jax.tree_util`."""
    return prefix + "/" + "/".join(str(getattr(k, "key", k)) for k in path)


def save(path: Path, params, arrays: dict, described: dict, dtype=np.float32) -> None:
    """Write the file, whole or not at all. Floating-point arrays are stored as `dtype`, others as
    they are.

    dtype int8: parameters with two or more axes are stored in 255 steps, with a scale for each
    column of the last axis under ``scales/…``; all others are float16.
    """
    tensors = flatten(params, "params") | flatten(arrays, "arrays")
    if dtype == np.int8:
        dtype = np.float16
        for name in [
            k
            for k, v in tensors.items()
            if k.startswith("params/") and v.ndim > 1 and np.issubdtype(v.dtype, np.floating)
        ]:
            value = tensors[name]
            scale = (
                np.maximum(np.abs(value).max(tuple(range(value.ndim - 1))), 1e-12).astype(
                    np.float32
                )
                / 127
            )
            tensors[name], tensors[f"scales/{name}"] = (
                np.round(value / scale).astype(np.int8),
                scale.astype(np.float16),
            )
    tensors = {
        k: v.astype(dtype) if np.issubdtype(v.dtype, np.floating) else v for k, v in tensors.items()
    }
    # ascontiguousarray makes a scalar an array of one.
    tensors = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in tensors.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        save_file(
            tensors,
            part,
            metadata={"config": json.dumps(described, sort_keys=True, ensure_ascii=False)},
        )


def load(path: Path) -> tuple[dict, dict, dict]:
    """Load (params as a nested dict of float32 arrays, arrays by name, configuration). Raises
    WeightsError."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file; train the stage that makes it, or give another folder"
        )
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        described = json.loads(metadata["config"])
        if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
            raise ValueError("its metadata holds no configuration")
        params, arrays = _trees(tensors)
        params = renamed(params, RENAMED_PARAMETERS)
    # TypeError, AttributeError: types that NumPy has not, such as bfloat16; RecursionError: JSON of
    # brackets only
    except (
        SafetensorError,
        KeyError,
        ValueError,
        OSError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise WeightsError(
            f"{path}: not a weights file of this project ({_line(error)}); restore or retrain it"
        ) from None
    return params, arrays, described


def _line(error) -> str:
    return "".join(c if c.isprintable() else " " for c in str(error))[:200]


def _trees(tensors: dict[str, np.ndarray]) -> tuple[dict, dict]:
    """Parameters and arrays by their names in the file. Raises ValueError for names and scales that
    do not fit each other."""
    params, arrays = {}, {}
    scales = {name: tensors.pop(name) for name in list(tensors) if name.startswith("scales/")}
    for name, value in tensors.items():
        if f"scales/{name}" in scales:
            scale = scales[f"scales/{name}"].astype(np.float32)
            if scale.shape != value.shape[-1:]:  # broadcast, small arrays could become huge ones
                raise ValueError(f"the scale of {name} has shape {scale.shape}")
            value = value.astype(np.float32) * scale
        value = value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value
        kind, _, rest = name.partition("/")
        if kind == "arrays":
            arrays[rest] = value
            continue
        at = params
        *parents, leaf = [
            int(part) if part.isascii() and part.isdecimal() and len(part) < 10 else part
            for part in rest.split("/")
        ]
        if len(parents) > DEEPEST:
            raise ValueError(f"parameters nested deeper than {DEEPEST}")
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise ValueError(f"{name} is inside an array")
        if leaf in at:
            raise ValueError(f"{name} appears twice")
        at[leaf] = value
    return params, arrays


def checksum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def exists(folder: Path, name: str) -> bool:
    """Whether `find` would find the stage's weights."""
    return any(path.is_file() for path in _places(folder, name))


def _places(folder: Path, name: str) -> tuple[Path, Path]:
    folder = Path(folder)
    return folder / name / "weights" / f"{name}.safetensors", folder / f"{name}.safetensors"


def find(folder: Path, name: str) -> Path:
    """The weights file of a stage in a runs folder (`name/weights/…`) or a weights folder
    (`name.safetensors`). What was trained in a folder comes before what was put there."""
    for path in _places(folder, name):
        if path.is_file():
            return path
    raise WeightsError(
        f"{folder}: holds neither {name}.safetensors nor {name}/weights/{name}.safetensors; "
        "train that stage first or give the folder that has it"
    )


def config(kind, described: dict):
    """The frozen configuration of class `kind` with which a file was trained; lists become tuples
    again.

    Fields that a file lacks keep their defaults, and earlier names are understood. Raises
    WeightsError for a value of the wrong type, an unknown setting, and a retired setting that was
    in use.
    """
    fields = typing.get_type_hints(kind)
    given = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in current(kind, described["config"]).items()
    }
    for name, value in given.items():
        if name not in fields:
            why = (
                "this version no longer has"
                if name in RETIRED.get(kind.__name__, {})
                else "this version does not know"
            )
            raise WeightsError(
                f"a weights file says {name[:80]} = {str(value)[:80]!r}, which {why}; "
                "use the version that trained it, or retrain it"
            )
        if not _fits(value, fields[name]):
            raise WeightsError(
                f"a weights file says {name} = {str(value)[:80]!r}, "
                f"which {kind.__name__} cannot have; restore or retrain it"
            )
    try:
        return kind(**given)
    except ValueError as error:
        raise WeightsError(
            f"a weights file has settings that {kind.__name__} cannot have ({_line(error)}); "
            "restore or retrain it"
        ) from None


def current(kind, settings: dict) -> dict:
    """The settings of a configuration `kind` under their present names, without retired ones.

    A retired setting that was in use stays, and so does an earlier name besides the present one.
    """
    retired, names = RETIRED.get(kind.__name__, {}), RENAMED.get(kind.__name__, {})
    off = lambda name, value: name in retired and (retired[name] is ANY or value == retired[name])
    now = lambda name: name if names.get(name, name) in settings else names.get(name, name)
    return {now(name): value for name, value in settings.items() if not off(name, value)}


def renamed(tree, names: dict[str, str]):
    """A tree of dicts, tuples and arrays with new names in its dicts. names: old -> new."""
    if isinstance(tree, dict):
        return {names.get(k, k): renamed(v, names) for k, v in tree.items()}
    if isinstance(tree, tuple):
        parts = [renamed(v, names) for v in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def _fits(value, hint) -> bool:
    """Whether a value from JSON fits a field of a type such as int, float, Literal["a", "b"],
    tuple[int, int] or int | None."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in inside)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in inside)
    if origin is tuple:
        inside = (
            inside[:1] * len(value) if isinstance(value, tuple) and inside[-1] is ... else inside
        )
        return (
            isinstance(value, tuple)
            and len(value) == len(inside)
            and all(map(_fits, value, inside))
        )
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is int:
        return type(value) is int and abs(value) < 2**53
    return isinstance(value, hint)
