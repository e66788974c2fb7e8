"""Turns one JAX program into one ONNX file, and tries it with onnxruntime before putting it in
place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from transfer.export.programs import Program, programs
from transfer.system.errors import DataError
from transfer.system.files import atomic_write

CLOSE = {"float32": 1e-3, "float16": 1e-2}
"""How far onnxruntime may be from JAX, relative to an output's largest value or to 1, by the
weights' type."""
TRIED = 3
"""Rows with which each file is tried: not the number that it was made with."""
LARGE = 1024
"""How many numbers a constant must have to be written in half precision."""
FINE = 1e-3
"""How much a number may lose by that. Weights lose less. The places where a warp takes its pixels
lose more, so they stay as they are."""


def write(path: Path, program: Program, kind: str = "float32") -> float:
    """Convert one program, try it, and put it in its place.

    kind: type of the weights in the file, "float32" or "float16". Computation is in float32 in both
    cases.

    Returns the largest difference from JAX (see `apart`). Raises DataError if that is more than
    rounding.
    """
    import onnx
    import onnxruntime
    from jax2onnx import to_onnx

    [number] = jax.export.symbolic_shape("n")
    cumsum = jnp.cumsum
    try:
        converted = to_onnx(
            program.function,
            [
                jax.ShapeDtypeStruct((number, *shape), kind)
                for kind, *shape in program.takes.values()
            ],
            model_name=program.name,
            input_names=list(program.takes),
            output_names=list(program.gives),
        )
    finally:
        # jax2onnx leaves a function of its own there, which takes fewer arguments.
        jnp.cumsum = cumsum
    if kind == "float16":
        halve(converted)
    given = examples(program)
    with atomic_write(path) as part:
        onnx.save(converted, part)
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        found = session.run(list(program.gives), given)
        with jax.default_matmul_precision("float32"):
            wanted = jax.device_get(jax.jit(program.function)(*given.values()))
        difference = max(map(apart, found, wanted))
        if not difference <= CLOSE[kind]:
            raise DataError(
                f"{path}: onnxruntime is {difference:.1e} from JAX; try other versions of jax2onnx"
                " and onnxruntime"
            )
    return difference


def write_all(folder: Path, model, kind: str, shown: Path, tell: Callable[[str], None]) -> None:
    """Convert all programs of a `KuzushijiTransfer` into a folder.

    kind: see `write`. tell: called with a line on each file. shown: the folder's name in that line.
    """
    for program in programs(model):
        path = folder / f"{program.name}.onnx"
        difference = write(path, program, kind)
        size = path.stat().st_size / 1e6
        tell(f"{shown / path.name}  {size:.1f} MB  within {difference:.0e} of JAX")


def examples(program: Program) -> dict[str, np.ndarray]:
    """Random inputs of a program, (3, …) each."""
    random = np.random.default_rng(0)
    given = {}
    for name, (kind, *shape) in program.takes.items():
        shape = (TRIED, *shape)
        if jnp.issubdtype(kind, jnp.integer):
            given[name] = random.integers(0, 256 if kind == jnp.uint8 else 9, shape).astype(kind)
        elif name in ("pictures", "picture"):
            given[name] = random.uniform(size=shape).astype(kind)
        else:
            given[name] = random.normal(size=shape).astype(kind)
    return given


def apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, divided by the largest value or by 1; NaN if one is not finite."""
    found, wanted = (np.asarray(x, np.float64) for x in (found, wanted))
    return float(np.abs(found - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1.0))


def halve(model) -> None:
    """Write the large float32 constants of a graph as float16, with a cast after each. The file is
    half as large, and onnxruntime computes in float32 as before."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        rounded = values.astype(np.float16)
        if values.size < LARGE or np.abs(values - rounded).max() > FINE:
            continue
        name, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(rounded, half))
        casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
