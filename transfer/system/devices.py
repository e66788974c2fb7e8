"""The one place that knows about backends, devices and hosts: how many steps go into a dispatch,
and how a batch is sharded.

Models and losses are written for one device. `shard` marks a batch as split over all of them, and
XLA's partitioner does the
rest: each device works on its part and the gradients are summed. Parameters and data stay whole on
every device. `JAX_NUM_CPU_DEVICES=8` makes eight devices of one CPU, to try it.

Several processes, on one host or many, run the same program after `connect`: their devices are one
row, and each does all that is not in a step for itself, so that they stay alike. What is written,
the `first` writes.
"""

from __future__ import annotations

from functools import cache, wraps
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def on_cpu() -> bool:
    """Whether steps run on the CPU backend, where loops over convolutions are up to 50 times slower
    than steps one by one."""
    return jax.default_backend() == "cpu"


def float32(function):
    """A function that computes in float32 whatever JAX_ENABLE_X64 says: with it random numbers, and
    thus answers, are others.

    Of the thread that calls it; threads that the function starts need the same.
    """

    @wraps(function)
    def inside(*given, **named):
        with jax.enable_x64(False):
            return function(*given, **named)

    return inside


@cache
def multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 are faster than those of float32: on accelerators, and on CPUs
    that have instructions for them."""
    if not on_cpu():
        return True
    try:
        flags = next(
            line
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith(("flags", "Features"))
        ).split()
    except (OSError, StopIteration):
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


@cache
def compiler_options(bfloat16: bool = False) -> dict[str, str]:
    """Options for `jax.jit` of a training step: on a CPU, matrix products and the convolutions that
    are such by XLA's newer library (YNNPACK), which trains a tenth to a quarter faster; nothing
    where this version of jaxlib has no such option.

    bfloat16: whether the step has products of bfloat16, which another option of it is for.
    """
    kinds = ["LIBRARY_FUSION_TYPE_DOT"] + bfloat16 * ["LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"]
    options = {"xla_cpu_experimental_ynn_fusion_type": ",".join(kinds)}
    if not on_cpu():
        return {}
    try:
        jax.jit(lambda x: x @ x, compiler_options=options).lower(
            jax.ShapeDtypeStruct((2, 2), "float32")
        ).compile()
    except Exception:  # of a type that depends on the version, as does what it finds wrong
        return {}
    return options


def mesh() -> Mesh:
    """All devices of all hosts in a row, axis "batch"."""
    return Mesh(jax.devices(), (AXIS,))


def replicated() -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def shard(tree):
    """The arrays of `tree`, split over the devices along their first axis where it divides evenly;
    inside jit."""
    devices = jax.device_count()
    if devices == 1:
        return tree
    split = NamedSharding(mesh(), PartitionSpec(AXIS))
    return jax.tree.map(
        lambda x: x if x.shape[0] % devices else jax.lax.with_sharding_constraint(x, split), tree
    )


# Several processes --------------------------------------------------------------------------------


class ConnectionFailed(Exception):
    """The processes that train together cannot be connected; the message is one line."""


def connect(
    coordinator: str | None, processes: int | None = None, process: int | None = None
) -> None:
    """Become one of several processes that train together; before jax is used for anything else.

    coordinator: HOST:PORT at which process 0 is reached by all; "auto": Slurm, Open MPI, Kubernetes
    or a TPU pod has started the processes and tells; None: this process is alone. processes: how
    many there are; process: which of them this is, from 0. Raises ConnectionFailed for arguments
    that do not fit together; where the others are not met within five minutes, jax itself ends the
    process with its message. From then on everything is float32, as the weights are, whatever
    JAX_ENABLE_X64 says.
    """
    jax.config.update("jax_enable_x64", False)
    if coordinator is None:
        if processes is not None or process is not None:
            raise ConnectionFailed(
                "--num-processes and --process-id need --coordinator HOST:PORT, where process 0 is"
                " reached"
            )
        return
    if coordinator != "auto":
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise ConnectionFailed(f"--coordinator {coordinator}: give HOST:PORT, or auto")
        if processes is None or process is None or not 0 <= process < processes:
            raise ConnectionFailed(
                f"--process-id {process} of --num-processes {processes}: give the number of"
                " processes, and of each its own from 0"
            )
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator, processes, process
        )
    except (RuntimeError, ValueError) as error:
        raise ConnectionFailed(
            f"--coordinator {coordinator}: {str(error).splitlines()[0]}"
        ) from None


def alone() -> bool:
    """Whether no other process trains with this one."""
    return jax.process_count() == 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def everywhere(tree):
    """The arrays of `tree` whole on every device; all processes give the same ones, which no
    network carries."""
    if alone():
        return jax.device_put(tree, replicated())
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(replicated(), np.asarray(x), np.shape(x)),
        tree,
    )


def here(tree):
    """Arrays that are whole on every device as arrays of this process alone, to evaluate and
    write."""
    return jax.tree.map(lambda x: x if x.is_fully_addressable else x.addressable_data(0), tree)


def agreed(*flags: bool) -> list[bool]:
    """Which of the flags is set in any process; all processes ask at the same point."""
    if alone():
        return list(flags)
    return [bool(any_of) for any_of in multihost_utils.process_allgather(np.array(flags)).any(0)]


def meet(where: str) -> None:
    """Wait until all processes are here."""
    if not alone():
        multihost_utils.sync_global_devices(where)
