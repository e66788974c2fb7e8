"""Weights files: a pytree of arrays and the configuration that made it, in one safetensors file.

Parameters are stored under ``params/…`` by path, other arrays (the gallery of z_new, say) under ``arrays/…``; the run's
configuration travels as JSON in the file's metadata. Nothing in such a file can run code.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from transfer.files import whole


class WeightsError(Exception):
    """A weights file that is missing or cannot be used; the message is one line."""


def flatten(tree, prefix: str) -> dict[str, np.ndarray]:
    """A nested dict of arrays as {"prefix/a/b": array}."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {prefix + "/" + "/".join(str(getattr(k, "key", k)) for k in path): np.asarray(leaf) for path, leaf in leaves}


def save(path: Path, params, arrays: dict, described: dict, dtype=np.float32) -> None:
    """Write the file whole or not at all. Floating-point arrays are stored as `dtype`, others as they are.

    dtype int8: parameters of two axes and more in 255 steps, each column of the last axis with a scale of its own under ``scales/…``;
    all else as float16.
    """
    tensors = flatten(params, "params") | flatten(arrays, "arrays")
    if dtype == np.int8:
        dtype = np.float16
        for name in [k for k, v in tensors.items() if k.startswith("params/") and v.ndim > 1 and np.issubdtype(v.dtype, np.floating)]:
            value = tensors[name]
            scale = np.maximum(np.abs(value).max(tuple(range(value.ndim - 1))), 1e-12).astype(np.float32) / 127
            tensors[name], tensors[f"scales/{name}"] = np.round(value / scale).astype(np.int8), scale.astype(np.float16)
    tensors = {k: v.astype(dtype) if np.issubdtype(v.dtype, np.floating) else v for k, v in tensors.items()}
    # ascontiguousarray makes a scalar an array of one.
    tensors = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in tensors.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        save_file(tensors, part, metadata={"config": json.dumps(described, sort_keys=True, ensure_ascii=False)})


def load(path: Path) -> tuple[dict, dict, dict]:
    """(params as a nested dict of float32 arrays, arrays by name, configuration). Raises WeightsError."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train the stage that makes it, or give another folder")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        described = json.loads(metadata["config"])
        if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
            raise ValueError("its metadata holds no configuration")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise WeightsError(f"{path}: not a weights file of this project ({error}); restore or retrain it") from None
    params, arrays = {}, {}
    scales = {name: tensors.pop(name) for name in list(tensors) if name.startswith("scales/")}
    for name, value in tensors.items():
        if f"scales/{name}" in scales:
            value = value.astype(np.float32) * scales[f"scales/{name}"].astype(np.float32)
        value = value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value
        kind, _, rest = name.partition("/")
        if kind == "arrays":
            arrays[rest] = value
            continue
        at = params
        *parents, leaf = rest.split("/")
        for parent in parents:
            at = at.setdefault(int(parent) if parent.isdigit() else parent, {})
        at[int(leaf) if leaf.isdigit() else leaf] = value
    return params, arrays, described


def checksum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def exists(folder: Path, name: str) -> bool:
    """Whether `find` would find the stage's weights."""
    return any(path.is_file() for path in _places(folder, name))


def _places(folder: Path, name: str) -> tuple[Path, Path]:
    return Path(folder) / f"{name}.safetensors", Path(folder) / name / "weights" / f"{name}.safetensors"


def find(folder: Path, name: str) -> Path:
    """The weights file of a stage in a weights folder (`name.safetensors`) or a runs folder (`name/weights/…`)."""
    for path in _places(folder, name):
        if path.is_file():
            return path
    raise WeightsError(f"{folder}: holds neither {name}.safetensors nor {name}/weights/{name}.safetensors; train that stage "
                       f"first or give the folder that has it")


def config(kind, described: dict):
    """The frozen configuration `kind` that a file was trained with; lists become tuples again."""
    fields = {f.name for f in dataclasses.fields(kind)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in described["config"].items() if k in fields}
    return kind(**given)
