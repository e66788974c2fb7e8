"""The values that the preset `paper` takes from the authors' program (docs/paper.md), one by
one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from transfer.models import mdn, sketch_rnn, vae
from transfer.models.layers.mixture import Trunk
from transfer.models.sketch_rnn import END, UP, SketchRNNConfig
from transfer.models.vae import VAEConfig

SMALL = dataclasses.replace(
    SketchRNNConfig.paper(), latent=3, units=8, layers=2, mixtures=3, longest=12, keep=1.0
)


def those(config, names: str) -> dict:
    values = dataclasses.asdict(config)
    return {name: values[name] for name in names.split()}


@pytest.mark.parametrize("domain", ["old", "new"])
def test_the_vaes_are_the_authors(domain):
    names = "latent kl_floor recognition components augment balance fonts hands kana aside"
    config = VAEConfig.paper(domain)
    assert config.architecture == "paper"
    assert those(config, names) == {
        "latent": 64,
        "kl_floor": 32.0,  # 0.5 a dimension
        "recognition": 0.0,
        "components": 0.0,
        "augment": "paper",
        "balance": 1.0,
        "fonts": 0.0,
        "hands": 0.0,
        "kana": False,
        "aside": 0,
    }
    assert those(config, "steps batch learning_rate warmup weight_decay ema decode_every") == {
        "steps": 20_000,
        "batch": 50,
        "learning_rate": 1e-3,
        "warmup": -1,
        "weight_decay": 0.0,
        "ema": 0.0,
        "decode_every": 1,
    }


def test_the_density_is_the_authors():
    names = "density latent hidden layers mixtures slope init fresh variants temperature averaged"
    assert those(mdn.MDNConfig.paper(), names) == {
        "density": "factorised",
        "latent": 64,
        "hidden": 1024,
        "layers": 3,
        "mixtures": 100,
        "slope": 0.2,
        "init": "glorot",
        "fresh": True,
        "variants": True,
        "temperature": 0.25,
        "averaged": 0,
    }
    names = "steps batch learning_rate warmup weight_decay ema balance fonts hands"
    assert those(mdn.MDNConfig.paper(), names) == {
        "steps": 30_000,
        "batch": 3000,
        "learning_rate": 1e-3,
        "warmup": -1,
        "weight_decay": 0.0,
        "ema": 0.0,
        "balance": 1.0,
        "fonts": 0.0,
        "hands": 0.0,
    }


def test_the_decoder_is_the_authors():
    names = "latent layers units mixtures bivariate z_at start init keep longest simplify"
    assert those(SketchRNNConfig.paper(), names) == {
        "latent": 64,
        "layers": 3,
        "units": 1024,
        "mixtures": 50,
        "bivariate": False,
        "z_at": "first",
        "start": "up",
        "init": "glorot",
        "keep": 0.3,
        "longest": 134,
        "simplify": 0.25,
    }
    names = "drop whole stretch from_density fresh padded temperature buckets"
    assert those(SketchRNNConfig.paper(), names) == {
        "drop": 0.2,
        "whole": 3,
        "stretch": 0.3,  # a factor of 0.15: 1 - 2 * 0.15 to 1
        "from_density": True,
        "fresh": True,
        "padded": True,
        "temperature": 0.15,
        "buckets": 1,
    }
    names = "steps batch learning_rate warmup weight_decay clip ema"
    assert those(SketchRNNConfig.paper(), names) == {
        "steps": 1_000_000,
        "batch": 50,
        "learning_rate": 1e-3,
        "warmup": -1,
        "weight_decay": 0.0,
        "clip": 1.0,
        "ema": 0.0,
    }
    # The longer side of a drawing is 1 / 0.16808838 units long; here, that of KanjiVG's box is.
    assert SketchRNNConfig.paper().scale * (1 / 0.16808838) == pytest.approx(109.0)


def test_shipped_weights_keep_what_they_were_trained_with():
    """Their files name none of these settings."""
    assert those(mdn.MDNConfig(), "slope init fresh") == {
        "slope": 0.01,
        "init": "lecun",
        "fresh": False,
    }
    assert those(SketchRNNConfig(), "z_at start init whole fresh padded") == {
        "z_at": "all",
        "start": "down",
        "init": "lecun",
        "whole": 1,
        "fresh": False,
        "padded": False,
    }


def test_the_slope_is_that_of_the_leaky_relu():
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (5, 3)), jnp.float32)
    for slope in (0.01, 0.2):
        trunk = Trunk(3, 4, 1, 2, nnx.Rngs(0), slope)
        hidden = np.asarray(trunk.layers[0](x))
        wanted = trunk.out(jnp.where(hidden > 0, hidden, slope * hidden))
        np.testing.assert_allclose(trunk(x), wanted, rtol=1e-5, atol=1e-6)
    config = dataclasses.replace(
        mdn.MDNConfig.paper(), hidden=4, layers=1, mixtures=2, latent=3, slope=0.37
    )
    assert mdn.build(config, 5, nnx.Rngs(0)).trunk.slope == 0.37
    anchored = dataclasses.replace(config, density="anchored", key=4)
    assert mdn.build(anchored, 5, nnx.Rngs(0)).query.slope == 0.37


def test_weights_begin_as_tensorflows_do():
    spread = lambda kernel: float(np.abs(np.asarray(kernel)).max())
    model = mdn.build(
        dataclasses.replace(mdn.MDNConfig.paper(), hidden=16, layers=1), 5, nnx.Rngs(0)
    )
    limit = (6 / (16 + 3 * 100 * 64)) ** 0.5
    assert 0.9 * limit < spread(model.trunk.out.kernel[...]) <= limit
    encoder = vae.VAE(VAEConfig.paper(), 1, nnx.Rngs(0))
    limit = (6 / (1024 + 64)) ** 0.5
    assert 0.9 * limit < spread(encoder.mean.kernel[...]) <= limit
    decoder = sketch_rnn.SketchRNN(SMALL, nnx.Rngs(0))
    limit = (6 / (5 + 3 + 8 + 32)) ** 0.5  # movement, z and state, to the four gates
    for kernel in (decoder.inputs[0].kernel, decoder.conditions[0].kernel, decoder.kernels[0]):
        assert 0.7 * limit < spread(kernel[...]) <= limit
    limit = (6 / (8 + 8 + 32)) ** 0.5
    assert 0.7 * limit < spread(decoder.kernels[1][...]) <= limit


# The decoder --------------------------------------------------------------------------------------


def rows_of(*counts: int):
    random = np.random.default_rng(0)
    rows = random.normal(0, 9, (len(counts), 11, 3)).astype(np.float32)
    rows[..., 2] = random.random(rows.shape[:2]) < 0.3
    for row, count in zip(rows, counts):
        row[count - 1, 2], row[count:] = 1, 7  # what stands after the end must not matter
    return jnp.asarray(rows), jnp.asarray(counts, jnp.int32)


def test_z_enters_the_first_layer_only():
    model = sketch_rnn.SketchRNN(SMALL, nnx.Rngs(0))
    assert len(model.conditions) == 1
    x, z = jnp.ones((2, 8)), jnp.ones((2, 3))
    np.testing.assert_array_equal(model.gate_inputs(1, x, z), model.inputs[1](x))
    first = jnp.ones((2, 5))
    np.testing.assert_allclose(
        model.gate_inputs(0, first, z), model.inputs[0](first) + model.conditions[0](z)
    )


def test_the_pen_is_up_before_the_first_movement_and_at_its_end_after_the_last():
    rows, count = rows_of(4, 11)
    movement, target, valid = map(np.asarray, sketch_rnn.teacher(SMALL, rows, count))
    assert movement[:, 0].tolist() == [[0, 0, 0, 1, 0]] * 2
    np.testing.assert_array_equal(movement[0, 5:], [[0, 0, 0, 0, 1]] * 7)
    assert (target[0, 4:, 2] == END).all() and target[1, 11, 2] == END
    assert movement[0, 4, 2 + UP] == 1 and valid.sum() == 5 + 12


def test_the_loss_goes_on_after_the_end_and_is_divided_by_the_longest():
    rows, count = rows_of(4, 11)
    model = sketch_rnn.SketchRNN(SMALL, nnx.Rngs(0))
    condition = {"z": jnp.asarray(np.random.default_rng(1).normal(0, 1, (2, 3)), jnp.float32)}
    value, parts = sketch_rnn.loss(model, rows, count, condition, jax.random.key(0))
    movement, target, _ = sketch_rnn.teacher(SMALL, rows, count)
    pen, *_ = sketch_rnn.split_parameters(SMALL, model(movement, condition["z"]))
    log_pen = special.log_softmax(np.asarray(pen, np.float64), -1)
    state = np.asarray(target[..., 2]).astype(int)
    wanted = -np.take_along_axis(log_pen, state[..., None], -1).sum() / (2 * SMALL.longest)
    assert float(parts["pen"]) == pytest.approx(wanted, rel=1e-4)
    move, _ = sketch_rnn.negative_log_likelihood(model, rows, count, condition)
    assert float(parts["movement"]) == pytest.approx(
        float(move.sum()) / (2 * SMALL.longest), rel=1e-4
    )
    assert float(value) == pytest.approx(float(parts["pen"] + parts["movement"]), rel=1e-5)


def test_the_first_points_of_a_stroke_are_never_dropped():
    rows = np.ones((64, 20, 3), np.float32)
    rows[..., 2] = 0
    rows[:, [5, 19], 2] = 1  # strokes of 6 and 14 points
    count = np.full(64, 20, np.int32)
    got, left = sketch_rnn.vary(rows, count, jax.random.key(0), 1.0, 0.0, 3)
    assert (np.asarray(left) == 4 + 4).all()  # of each the first three and the last
    place = np.cumsum(np.asarray(got)[0, :8, 0])
    np.testing.assert_allclose(place, [1, 2, 3, 6, 7, 8, 9, 20])
