"""The one place that knows about backends: how many steps go into a dispatch, and how a batch is spread over devices.

Models and losses are written for one device. `spread` marks a batch as split over all of them, and XLA's partitioner does the
rest: each device works on its part and the gradients are summed. Parameters and data stay whole on every device.
`JAX_NUM_CPU_DEVICES=8` makes eight devices of one CPU, to try it.
"""
from __future__ import annotations

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def on_cpu() -> bool:
    """Whether steps run on the CPU backend, where loops over convolutions are up to 50 times slower than steps one by one."""
    return jax.default_backend() == "cpu"


def mesh() -> Mesh:
    """All devices of all hosts in a row, axis "batch"."""
    return Mesh(jax.devices(), (AXIS,))


def replicated() -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def spread(tree):
    """The arrays of `tree`, split over the devices along their first axis where it divides evenly; inside jit."""
    devices = jax.device_count()
    if devices == 1:
        return tree
    split = NamedSharding(mesh(), PartitionSpec(AXIS))
    return jax.tree.map(lambda x: x if x.shape[0] % devices else jax.lax.with_sharding_constraint(x, split), tree)
