"""transfer.training.bfloat16: which products are rounded, and that nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transfer.models.layers.recurrent import lstm
from transfer.training import bfloat16
from transfer.training.bfloat16 import with_bfloat16_products


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def rounded(x):
    return np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32), np.float64)


@pytest.mark.parametrize(
    "form, first, second",
    [
        ("ij,jk->ik", (70, 96), (96, 40)),
        ("ij,kj->ik", (70, 96), (40, 96)),
        ("ji,jk->ik", (96, 70), (96, 40)),
        ("ji,jk->ki", (96, 70), (96, 40)),
        ("bij,bjk->bik", (3, 70, 96), (3, 96, 40)),
        ("jbi,kbj->bki", (96, 3, 70), (40, 3, 96)),
        ("ijl,jlk->ik", (70, 8, 12), (8, 12, 40)),
    ],
)
def test_a_product_is_of_rounded_numbers_and_its_sum_is_not_rounded(form, first, second):
    a, b = normal(*first), normal(*second, seed=1)
    product = with_bfloat16_products(lambda a, b: jnp.einsum(form, a, b))
    found = jax.jit(product)(a, b)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.einsum(form, rounded(a), rounded(b)), atol=2e-5)
    assert abs(found - np.einsum(form, a, b)).max() > 1e-3


def test_the_same_numbers_come_out_where_there_are_no_such_instructions(monkeypatch):
    a, b = normal(70, 96), normal(96, 40, seed=1)
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda: False)
    found = jax.jit(with_bfloat16_products(jnp.matmul))(a, b)
    np.testing.assert_allclose(found, rounded(a) @ rounded(b), atol=2e-5)


def test_short_sums_vectors_and_all_that_is_no_product_keep_their_digits():
    def other(a, v):
        coordinates = a[:, :63] @ a[:, :63].T
        return {"short": coordinates, "vector": a @ v, "rest": (jnp.exp(a).sum(0), jnp.cumsum(a))}

    a, v = normal(70, 96), normal(96, seed=1)
    found, plain = (jax.jit(f)(a, v) for f in (with_bfloat16_products(other), other))
    assert jax.tree.structure(found) == jax.tree.structure(plain)
    for one, its in zip(jax.tree.leaves(found), jax.tree.leaves(plain)):
        np.testing.assert_allclose(one, its, rtol=1e-6, atol=1e-5)


def test_gradients_and_loops_have_such_products_too():
    """Of an LSTM: in both loops, and where the kernel's gradient is summed."""
    x, kernel, state = normal(7, 3, 256), normal(64, 256, seed=1) / 8, normal(3, 64, seed=2)

    def loss(x, kernel):
        return (lstm(x, jnp.ones((1, 1, 1)), kernel, state, state) ** 2).sum()

    slope = jax.value_and_grad(loss, argnums=(0, 1))
    text = str(jax.make_jaxpr(with_bfloat16_products(slope))(x, kernel))
    products = [line for line in text.splitlines() if "= dot_general[" in line]
    assert len(products) == 3
    assert text.count("scan[") == 2
    value, gradients = jax.jit(slope)(x, kernel)
    its, its_gradients = jax.jit(with_bfloat16_products(slope))(x, kernel)
    assert its == pytest.approx(float(value), rel=5e-3) and its != value
    for gradient, other in zip(gradients, its_gradients):
        assert 0 < jnp.linalg.norm(gradient - other) < 0.02 * jnp.linalg.norm(gradient)


@pytest.mark.parametrize("product", [jax.lax.dot, jax.jit(jax.lax.dot)])
def test_weights_are_rounded_before_a_loop_and_not_in_each_of_its_steps(product, monkeypatch):
    # Traced, not run: what processors with such products do is seen on every machine.
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda: True)
    kernel, state = normal(64, 64), normal(5, 64)

    def steps(kernel, state):
        step = lambda h, _: (jnp.tanh(product(h, kernel)), None)
        return jax.lax.scan(step, state, None, length=9)[0]

    jaxpr = jax.make_jaxpr(with_bfloat16_products(steps))(kernel, state).jaxpr
    loop = next(e for e in jaxpr.eqns if e.primitive.name == "scan")
    inside = [e for e in loop.params["jaxpr"].jaxpr.eqns if e.primitive.name.startswith("convert")]
    assert [e.invars[0].aval.shape for e in inside] == [(5, 64)]
