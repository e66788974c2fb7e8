"""A function with its matrix products in bfloat16, as PyTorch's autocast has them: twice as fast or
more on accelerators and on CPUs with instructions for it.

Operands are rounded to bfloat16, sums are float32, and so is all else: parameters, optimizer,
exponentials, reductions and convolutions. Models are written without a word about it; their
products are found in the traced function, which may be a gradient, and in the loops inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal

from transfer.system.devices import multiplies_bfloat16, on_cpu

FEWEST = 64
"""Terms of a sum that is worth it. Shorter ones cost nothing, and those over coordinates need their
digits."""
CALLS = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "closed_call")
"""Calls of functions within a traced one: their equations are taken one by one."""


def with_bfloat16_products(function: Callable) -> Callable:
    """A function like `function` of pytrees of arrays, with its large products in bfloat16.

    Its result has the same structure, shapes and types. It is not to be differentiated: take the
    gradient first.
    """

    def rounded(*arguments):
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = _replayed(traced.jaxpr, traced.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return rounded


def _replayed(jaxpr: Jaxpr, consts, arguments, halves: dict | None = None) -> list:
    """What a traced function gives for `arguments`.

    halves: variable -> its value in bfloat16, of those that have one already.
    """
    values, halves = dict(zip(jaxpr.constvars, consts)), dict(halves or {})
    values.update(zip(jaxpr.invars, arguments))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]

    def half(variable):
        if isinstance(variable, Literal):
            return _rounded(variable.val)
        if variable not in halves:
            halves[variable] = _rounded(values[variable])
        return halves[variable]

    for equation in jaxpr.eqns:
        inputs, out, parameters = equation.invars, equation.outvars, equation.params
        if _is_large_product(equation):
            found = _product(*map(half, inputs), parameters["dimension_numbers"])
        elif equation.primitive.name == "scan":
            found = _replayed_scan(parameters, inputs, read, half)
        elif equation.primitive.name in CALLS:
            body = parameters.get("jaxpr") or parameters["call_jaxpr"]
            known = {a: halves[b] for a, b in zip(body.jaxpr.invars, inputs) if _in(b, halves)}
            found = _replayed(body.jaxpr, body.consts, list(map(read, inputs)), known)
        else:
            found = equation.primitive.bind(*map(read, inputs), **parameters)
            if equation.primitive.name == "transpose" and _in(inputs[0], halves):
                halves[out[0]] = equation.primitive.bind(halves[inputs[0]], **parameters)
        values.update(zip(out, found if equation.primitive.multiple_results else [found]))
    return [read(v) for v in jaxpr.outvars]


def _rounded(array) -> jax.Array:
    # Where there are no products of bfloat16, the same numbers are multiplied as float32.
    if multiplies_bfloat16():
        return jnp.asarray(array, jnp.bfloat16)
    return jax.lax.reduce_precision(jnp.asarray(array), exponent_bits=8, mantissa_bits=7)


def _is_large_product(equation) -> bool:
    """Whether an equation is a product of float32 matrices whose sums have `FEWEST` terms."""
    if equation.primitive.name != "dot_general":
        return False
    contracted, batch = equation.params["dimension_numbers"]
    operands = [variable.aval for variable in equation.invars]
    if any(operand.dtype != jnp.float32 for operand in operands):
        return False
    terms, _ = sizes = [
        math.prod(operand.shape[axis] for axis in axes)
        for operand, axes in zip(operands, contracted)
    ]
    rows = [
        operand.size // size // math.prod(operand.shape[axis] for axis in axes)
        for operand, size, axes in zip(operands, sizes, batch)
    ]
    return terms >= FEWEST and min(rows) > 1


def _product(first: jax.Array, second: jax.Array, dimensions) -> jax.Array:
    """The product of two bfloat16 arrays, float32. dimensions: as of `jax.lax.dot_general`."""
    multiply = partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    if not on_cpu():
        return multiply(first, second, dimensions)
    # XLA's CPU backend multiplies bfloat16 only where the terms of the first operand lie in a row.
    # Otherwise it goes back to float32, or fails when it runs (jaxlib 0.10.2). The barriers keep it
    # from undoing the transposition, and from swapping the operands of a product that is turned.
    (summed, its), (batch, other) = dimensions
    free = [axis for axis in range(first.ndim) if axis not in (*summed, *batch)]
    first = jax.lax.optimization_barrier(first.transpose(*batch, *free, *summed))
    axes = tuple(range(first.ndim))
    dimensions = (axes[-len(its) :], its), (axes[: len(other)], other)
    return jax.lax.optimization_barrier(multiply(first, second, dimensions))


def _replayed_scan(parameters: dict, inputs: list, read: Callable, half: Callable) -> list:
    """What a loop gives. Weights are the same in all its steps, so they are rounded before it."""
    constant, carried = parameters["num_consts"], parameters["num_consts"] + parameters["num_carry"]
    body = parameters["jaxpr"]
    values = list(map(read, inputs))
    halves = {
        inner: half(outer)
        for inner, outer in zip(body.jaxpr.invars[:constant], inputs)
        if inner.aval.dtype == jnp.float32 and inner.aval.ndim > 1
    }

    def step(state, x):
        found = _replayed(body.jaxpr, body.consts, [*values[:constant], *state, *x], halves)
        return found[: len(state)], found[len(state) :]

    last, each = jax.lax.scan(
        step,
        values[constant:carried],
        values[carried:],
        length=parameters["length"],
        reverse=parameters["reverse"],
        unroll=parameters["unroll"],
    )
    return [*last, *each]


def _in(variable, halves: dict) -> bool:
    return not isinstance(variable, Literal) and variable in halves
