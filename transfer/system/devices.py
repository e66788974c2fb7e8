"""The only module that knows about backends, devices and hosts: how many steps go into a dispatch,
and how a batch is sharded.

Models and losses are written for one device. `shard` marks a batch as split over all devices, and
XLA's partitioner does the rest: each device works on its part, and the gradients are summed.
Parameters and data stay whole on every device. To try it, `JAX_NUM_CPU_DEVICES=8` makes eight
devices out of one CPU.

Several processes, on one host or many, run the same program after `connect`. Their devices form one
row. Each process does everything outside a step for itself, so that all stay alike. Only the
`first` process writes files.
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
    """Whether steps run on the CPU backend, where a loop over convolutions is up to 50 times slower
    than single steps."""
    return jax.default_backend() == "cpu"


def float32(function):
    """A function that computes in float32 whatever JAX_ENABLE_X64 says, since that would change
    random numbers, and thus answers.

    This holds for the thread that calls it; threads that the function starts need the same.
    """

    @wraps(function)
    def inside(*given, **named):
        with jax.enable_x64(False):
            return function(*given, **named)

    return inside


@cache
def multiplies_bfloat16() -> bool:
    """Whether products in bfloat16 are faster than in float32. They are on accelerators, and on
    CPUs that have instructions for them."""
    return not on_cpu() or not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags().split())


def cpu_flags() -> str:
    """What Linux says of this machine's processor; "" if nothing says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return ""


@cache
def compiler_options(bfloat16: bool = False) -> dict[str, str]:
    """Options for `jax.jit` of a training step. On a CPU, XLA's newer library (YNNPACK) then
    computes matrix products, and the convolutions that are such products; training is a tenth to a
    quarter faster. There are none if this version of jaxlib has no such option.

    bfloat16: whether the step has products in bfloat16, which need one more of its options.
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
    """The arrays of `tree`, split over the devices along their first axis if it divides evenly. For
    use inside jit."""
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
    """Become one of several processes that train together. Call it before any other use of jax.

    coordinator: HOST:PORT at which all processes reach process 0; "auto" if Slurm, Open MPI,
    Kubernetes or a TPU pod started the processes and knows it; None if this process is alone.
    processes: how many there are. process: which of them this is, from 0. Raises ConnectionFailed
    for arguments that do not fit together. If the others do not appear within five minutes, jax
    itself ends the process with its message. Afterwards everything is float32, like the weights,
    whatever JAX_ENABLE_X64 says.
    """
    jax.config.update("jax_enable_x64", False)
    if coordinator is None:
        if processes is not None or process is not None:
            raise ConnectionFailed(
                "--num-processes and --process-id need --coordinator HOST:PORT, the address of"
                " process 0"
            )
        return
    if coordinator != "auto":
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise ConnectionFailed(f"--coordinator {coordinator}: give HOST:PORT, or auto")
        if processes is None or process is None or not 0 <= process < processes:
            raise ConnectionFailed(
                f"--process-id {process} of --num-processes {processes}: give the number of"
                " processes, and to each its own number from 0"
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
    """The arrays of `tree` whole on every device. All processes pass the same arrays, so nothing
    crosses the network."""
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
    """Which of the flags are set in any process. All processes must call this at the same point."""
    if alone():
        return list(flags)
    return [bool(any_of) for any_of in multihost_utils.process_allgather(np.array(flags)).any(0)]


def meet(where: str) -> None:
    """Wait until all processes have reached this point."""
    if not alone():
        multihost_utils.sync_global_devices(where)
