"""transfer.models.convolution: the CPU forms give what flax's layers give, in value and
gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transfer.models import vae
from transfer.models.layers import convolution


def both(layer, function, x):
    """Value, and gradients with respect to image, kernel and bias, of flax's layer and of ours, in
    float64."""
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        kernel, bias = (
            jnp.asarray(random.normal(0, 1, p.shape)) for p in (layer.kernel, layer.bias)
        )
        layer.kernel, layer.bias = nnx.Param(kernel), nnx.Param(bias)
        layer.dtype = layer.param_dtype = jnp.float64
        graph, _ = nnx.split(layer)

        def flax(x, kernel, bias):
            return nnx.merge(
                graph, nnx.State({"kernel": nnx.Param(kernel), "bias": nnx.Param(bias)})
            )(x)

        x = jnp.asarray(random.normal(0, 1, x))
        out = []
        for f in (flax, function):
            value, back = jax.vjp(f, x, kernel, bias)
            out.append(
                (value, *back(jnp.asarray(np.random.default_rng(1).normal(0, 1, value.shape))))
            )
        return out


@pytest.mark.parametrize("form", ["gather", "half"])
@pytest.mark.parametrize("size, height, width", [(4, 31, 31), (4, 14, 9), (2, 6, 7)])
def test_strided_is_flax_conv(size, height, width, form, monkeypatch):
    monkeypatch.setattr(convolution, "form", lambda *shape: form)
    layer = nnx.Conv(3, 5, (size, size), strides=2, padding="VALID", rngs=nnx.Rngs(0))
    for wanted, got in zip(*both(layer, convolution.strided, (2, height, width, 3))):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["half", "sum"])
@pytest.mark.parametrize("size, height, width", [(5, 1, 1), (5, 5, 5), (6, 3, 4)])
def test_transposed_is_flax_conv_transpose(size, height, width, form, monkeypatch):
    monkeypatch.setattr(convolution, "form", lambda *shape: form)
    layer = nnx.ConvTranspose(3, 5, (size, size), strides=(2, 2), padding="VALID", rngs=nnx.Rngs(0))
    wanted, got = both(layer, convolution.transposed, (2, height, width, 3))
    assert got[0].shape == (2, 2 * height + size - 2, 2 * width + size - 2, 5)
    for a, b in zip(wanted, got):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)


def test_the_papers_layers_have_the_forms_that_were_measured(monkeypatch):
    asked, form = [], convolution.form
    monkeypatch.setattr(convolution, "form", lambda *shape: asked.append(form(*shape)) or asked[-1])
    graph, state = nnx.split(vae.VAE(vae.VAEConfig.paper(), 1, nnx.Rngs(0)))
    jax.eval_shape(
        lambda s, x: vae.decode_mean(nnx.merge(graph, s), x), state, jnp.zeros((2, 64, 64))
    )
    assert asked == ["gather", "half", "half", "gather"] + ["half", "half", "sum"]


def test_other_backends_use_xlas_own(monkeypatch):
    x, kernel, bias = (
        jax.random.normal(jax.random.key(i), s)
        for i, s in enumerate(((2, 9, 9, 3), (4, 4, 3, 5), (5,)))
    )
    ours = convolution.strided(x, kernel, bias), convolution.transposed(x, kernel, bias)
    monkeypatch.setattr(convolution, "on_cpu", lambda: False)
    theirs = convolution.strided(x, kernel, bias), convolution.transposed(x, kernel, bias)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [2, 4])
def test_depth_to_space_undoes_space_to_depth(block):
    x = np.random.default_rng(0).random((2, 8, 16, 3), np.float32)
    deep = convolution.space_to_depth(jnp.asarray(x), block)
    assert deep.shape == (2, 8 // block, 16 // block, 3 * block**2)
    np.testing.assert_array_equal(convolution.depth_to_space(deep, block), x)
    np.testing.assert_array_equal(
        deep[1, 1, 2], x[1, block : 2 * block, 2 * block : 3 * block].reshape(-1)
    )
