"""transfer.models.sketch_rnn and its hand-written LSTM: the loss, and drawings that follow the
training's rules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import special, stats

from transfer.data.strokes import to_stroke3
from transfer.models import sketch_rnn
from transfer.models.layers.recurrent import lstm
from transfer.models.sketch_rnn import BOX, END

BIVARIATE = sketch_rnn.SketchRNNConfig(latent=3, units=8, mixtures=3, longest=14, scale=10.0)
PAPER = dataclasses.replace(BIVARIATE, layers=2, bivariate=False)
BOTH = pytest.mark.parametrize("config", [BIVARIATE, PAPER], ids=["bivariate", "paper"])

FIRST = np.array([(10, 20), (30, 20), (30, 60)], np.float32)
SECOND = np.array([(50, 50), (70, 90)], np.float32)
POINTS = np.concatenate([FIRST, SECOND])


def build(config, seed: int = 0):
    """(graph, params) of an untrained model, every parameter random."""
    graph, state = nnx.split(nnx.eval_shape(lambda: sketch_rnn.SketchRNN(config, nnx.Rngs(0))))
    random = np.random.default_rng(seed)
    start = lambda p: jnp.asarray(
        random.normal(0, max(1, np.prod(p.shape[:-1])) ** -0.5, p.shape), jnp.float32
    )
    return graph, jax.tree.map(start, nnx.to_pure_dict(state))


@pytest.fixture(scope="module")
def models():
    return {config: build(config) for config in (BIVARIATE, PAPER)}


def condition_of(batch: int, seed: int = 0) -> dict:
    return {"z": jnp.asarray(np.random.default_rng(seed).normal(0, 1, (batch, 3)), jnp.float32)}


def padded(drawings, length: int, junk: float = 0.0):
    rows = np.full((len(drawings), length, 3), junk, np.float32)
    for i, drawing in enumerate(drawings):
        rows[i, : len(drawing)] = drawing
    return jnp.asarray(rows), jnp.array([len(d) for d in drawings], jnp.int32)


DRAWINGS = [to_stroke3([FIRST, SECOND]), to_stroke3([SECOND, FIRST + 5, SECOND - 8])]


# LSTM ---------------------------------------------------------------------------------------------


def test_lstm_is_a_plain_scan_in_value_and_gradient():
    def plain(inputs, mask, kernel, h, c):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x[0] + h @ kernel, 4, -1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g) * x[1]
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        return jax.lax.scan(
            step, (h, c), (inputs, jnp.broadcast_to(mask, (len(inputs), *mask.shape[1:])))
        )[1]

    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        draw = lambda *shape: jnp.asarray(random.standard_normal(shape))
        inputs, kernel, h, c, cotangent = (
            draw(7, 3, 20),
            draw(5, 20),
            draw(3, 5),
            draw(3, 5),
            draw(7, 3, 5),
        )
        for mask in (jnp.ones((1, 1, 1)), jnp.asarray(random.random((7, 3, 5)) < 0.3) / 0.3):
            results = []
            for function in (plain, lstm):
                out, back = jax.vjp(
                    lambda inputs, kernel, h, c: function(inputs, mask, kernel, h, c),
                    inputs,
                    kernel,
                    h,
                    c,
                )
                results.append((out, *back(cotangent)))
            for wanted, got in zip(*results):
                np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


# Loss ---------------------------------------------------------------------------------------------


@BOTH
def test_point_log_prob_is_scipys_mixture(config):
    random = np.random.default_rng(0)
    out = jnp.asarray(random.normal(0, 1, (2, 4, 3 + 6 * config.mixtures)), jnp.float32)
    target, state = random.normal(0, 1, (2, 4, 2)).astype(np.float32), random.integers(0, 3, (2, 4))
    parameters = sketch_rnn.split_parameters(config, out)
    move, log_pen = (
        np.asarray(a)
        for a in sketch_rnn.point_log_prob(
            config, parameters, jnp.asarray(target), jnp.asarray(state)
        )
    )
    pen, logits, means, log_scales, correlation = (np.asarray(a, np.float64) for a in parameters)
    assert (np.abs(correlation) < 1).all() and pen.shape == (2, 4, 3)
    for at in np.ndindex(2, 4):
        scale, weight = np.exp(log_scales[at]), special.log_softmax(logits[at], 0)
        if config.bivariate:
            each = []
            for m in range(3):
                between = correlation[at][m] * scale[m].prod()
                covariance = np.diag(scale[m] ** 2) + between * (1 - np.eye(2))
                each.append(stats.multivariate_normal(means[at][m], covariance).logpdf(target[at]))
            wanted = special.logsumexp(weight[:, 0] + each)
        else:
            component = stats.norm(means[at], scale).logpdf(target[at])
            wanted = special.logsumexp(weight + component, 0).sum()
        np.testing.assert_allclose(move[at], wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            log_pen[at], special.log_softmax(pen[at])[state[at]], rtol=1e-4, atol=1e-4
        )


@BOTH
def test_teacher_on_a_drawing_of_two_strokes(config):
    rows, count = padded([DRAWINGS[0]], 7, junk=9.0)  # what stands beyond `count` must not matter
    teach = jax.jit(lambda rows, count: sketch_rnn.teacher(config, rows, count))
    movement, target, valid = (np.asarray(a[0]) for a in teach(rows, count))
    assert movement.shape == (8, 5) and target.shape == (8, 3)
    np.testing.assert_array_equal(valid, [1, 1, 1, 1, 1, 1, 0, 0])
    steps = np.diff(POINTS, axis=0, prepend=0.0) / 10
    np.testing.assert_allclose(target[:5, :2], steps, atol=1e-5)
    np.testing.assert_array_equal(target[:6, 2], [0, 0, 1, 0, 1, END])
    np.testing.assert_array_equal(movement[0], [0, 0, 1, 0, 0])
    np.testing.assert_allclose(movement[1:6, :2], steps, atol=1e-5)
    np.testing.assert_array_equal(
        movement[1:6, 2:], [(1, 0, 0), (1, 0, 0), (0, 1, 0), (1, 0, 0), (0, 1, 0)]
    )


@BOTH
def test_padding_changes_no_likelihood(config, models):
    graph, params = models[config]
    condition = condition_of(2)
    nll = lambda p, rows, count: sketch_rnn.negative_log_likelihood(
        nnx.merge(graph, p), rows, count, condition
    )
    long = jax.jit(nll)(params, *padded(DRAWINGS, 13, junk=3.0))
    # Without dropout the loss is the same likelihood, a point.
    short, (value, parts) = jax.jit(
        lambda p, rows, count: (
            nll(p, rows, count),
            sketch_rnn.loss(nnx.merge(graph, p), rows, count, condition, jax.random.key(0)),
        )
    )(params, *padded(DRAWINGS, 7))
    for a, b in zip(short, long):
        assert a.shape == (2,)
        np.testing.assert_allclose(a, b, rtol=1e-4)
    np.testing.assert_allclose(
        value, (short[0].sum() + short[1].sum()) / sum(map(len, DRAWINGS)), rtol=1e-4
    )
    np.testing.assert_allclose(parts["movement"] + parts["pen"], value, rtol=1e-5)


def test_dropout_keeps_the_size_of_an_update_on_average(monkeypatch):
    masks = []
    monkeypatch.setattr(
        sketch_rnn, "lstm", lambda x, mask, *rest: masks.append(mask) or lstm(x, mask, *rest)
    )
    config = dataclasses.replace(PAPER, keep=0.3)
    graph, params = build(config)
    movement = jnp.zeros((64, 14, 5))
    nnx.merge(graph, params)(movement, jnp.zeros((64, config.latent)), jax.random.key(0))
    assert len(masks) == config.layers
    for mask in masks:
        assert mask.shape == (14, 64, config.units)
        np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.3], rtol=1e-6)
        assert abs(mask.mean() - 1) < 5 * (0.7 / 0.3 / mask.size) ** 0.5


def test_dropout_needs_a_key_and_is_decided_by_it():
    config = dataclasses.replace(PAPER, keep=0.3)
    graph, params = build(config)
    condition, rows = condition_of(2), padded(DRAWINGS, 7)
    nll = lambda p, key: sum(
        sketch_rnn.negative_log_likelihood(nnx.merge(graph, p), *rows, condition, key)
    )
    keys = [jax.random.key(k) for k in (0, 0, 1)]
    *dropped, plain = jax.jit(
        lambda p: [*jax.lax.map(lambda key: nll(p, key), jnp.stack(keys)), nll(p, None)]
    )(params)
    one, again, other, plain = (np.asarray(a) for a in (*dropped, plain))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all() and (one != plain).all()


@BOTH
def test_teacher_forcing_is_repeated_steps(config, models):
    graph, params = models[config]
    condition = condition_of(2)
    movement, z = sketch_rnn.teacher(config, *padded(DRAWINGS, 7))[0], condition["z"]

    @jax.jit
    def both(params):
        model = nnx.merge(graph, params)

        def one(state, x):
            out, *state = model.step(x, z, *state)
            return tuple(state), out

        _, outs = jax.lax.scan(one, model.initial(z), movement.transpose(1, 0, 2))
        return model(movement, z), outs.transpose(1, 0, 2)

    np.testing.assert_allclose(*both(params), rtol=1e-4, atol=1e-5)


# Augmentation -------------------------------------------------------------------------------------


def random_drawings(batch: int, length: int):
    random = np.random.default_rng(0)
    drawings = []
    for _ in range(batch):
        strokes = [
            random.uniform(0, BOX, (n, 2)) for n in random.integers(2, 7, random.integers(1, 5))
        ]
        drawings.append(to_stroke3(strokes))
    return padded(drawings, length)


VARY = jax.jit(sketch_rnn.vary, static_argnums=(3, 4))


def test_vary_by_nothing_is_the_identity():
    rows, count = random_drawings(16, 26)
    got, new_count = VARY(rows, count, jax.random.key(0), 0.0, 0.0)
    np.testing.assert_allclose(got, rows, atol=1e-4)
    np.testing.assert_array_equal(new_count, count)


def test_vary_drops_inner_points_only_and_moves_no_other():
    rows, count = random_drawings(64, 26)
    got, new_count = (np.asarray(a) for a in VARY(rows, count, jax.random.key(0), 0.5, 0.0))
    rows, inner, kept = np.asarray(rows), 0, 0
    for before, n, after, m in zip(rows, np.asarray(count), got, new_count):
        assert (after[m:] == 0).all()
        old, new = np.cumsum(before[:n, :2], 0), np.cumsum(after[:m, :2], 0)
        near = np.abs(new[:, None] - old[None]).max(-1)
        place = near.argmin(1)
        assert (
            near.min(1).max() < 1e-2 and (np.diff(place) > 0).all()
        )  # a subsequence of the same points
        last = np.flatnonzero(before[:n, 2])
        assert np.isin(
            [0, *last, *(last[:-1] + 1)], place
        ).all()  # first and last points of strokes stay
        np.testing.assert_array_equal(after[:m, 2], before[place, 2])
        inner, kept = inner + n - 2 * len(last), kept + m - 2 * len(last)
    assert stats.binomtest(int(kept), int(inner), 0.5).pvalue > 1e-3


def test_vary_shrinks_each_axis_and_keeps_the_drawing_in_the_box():
    rows, count = random_drawings(64, 26)
    got, new_count = (np.asarray(a) for a in VARY(rows, count, jax.random.key(0), 0.0, 0.3))
    np.testing.assert_array_equal(new_count, count)
    scales = []
    for before, after, n in zip(np.asarray(rows), got, new_count):
        old, new = np.cumsum(before[:n, :2], 0), np.cumsum(after[:n, :2], 0)
        for axis in range(2):
            scale, offset = np.polyfit(old[:, axis], new[:, axis], 1)
            np.testing.assert_allclose(new[:, axis], scale * old[:, axis] + offset, atol=1e-2)
            scales.append(scale)
        assert new.min() > -1e-3 and new.max() < BOX + 1e-3
    assert 0.7 - 1e-3 < min(scales) < 0.75 and 0.95 < max(scales) < 1 + 1e-3


# Drawing ------------------------------------------------------------------------------------------


def drawings_of(model, condition, keys, temperature=1.0):
    return tuple(
        np.asarray(a) for a in sketch_rnn.draw(*model, condition, keys, jnp.float32(temperature))
    )


@BOTH
def test_a_drawing_is_decided_by_its_own_condition_and_key(config, models):
    condition, keys = condition_of(4), jax.random.split(jax.random.key(3), 4)
    first = drawings_of(models[config], condition, keys)
    for a, b in zip(first, drawings_of(models[config], condition, keys)):
        np.testing.assert_array_equal(a, b)
    order = np.array([2, 0, 3, 3])
    moved = drawings_of(models[config], {k: v[order] for k, v in condition.items()}, keys[order])
    for a, b in zip(first, moved):
        np.testing.assert_allclose(a[order], b, rtol=1e-3, atol=1e-3)
    others = drawings_of(
        models[config],
        {k: v.at[1:].set(0.3) for k, v in condition.items()},
        keys.at[1:].set(keys[::-1][1:]),
    )
    for a, b in zip(first, others):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=1e-3)
    assert len({tuple(map(float, r[0])) for r in first[0]}) == 4


@BOTH
def test_drawings_stop_at_the_end_or_at_the_longest(config, models):
    graph, params = models[config]
    condition, keys = condition_of(4), jax.random.split(jax.random.key(0), 4)
    for push, wanted in ((-1e3, [config.longest - 1] * 4), (1e3, [1] * 4), (0.0, None)):
        out = params["out"] | {"bias": params["out"]["bias"].at[END].add(push)}
        rows, count, score = drawings_of((graph, params | {"out": out}), condition, keys)
        assert (
            rows.shape == (4, config.longest - 1, 3)
            and np.isfinite(rows).all()
            and np.isfinite(score).all()
        )
        assert wanted is None or count.tolist() == wanted
        assert (count >= 1).all() and (count < config.longest).all()
        for r, n in zip(rows, count):
            assert (r[n:] == 0).all() and np.isin(r[:n, 2], (0, 1)).all()


@BOTH
def test_the_score_of_a_drawing_is_its_likelihood_in_training(config, models):
    """The score of a drawing is its likelihood under teacher forcing: every input of the two paths
    is the same."""
    graph, params = models[config]
    condition, keys = condition_of(4), jax.random.split(jax.random.key(1), 4)
    rows, count, score = drawings_of(models[config], condition, keys)

    @jax.jit
    def likelihood(params):
        model = nnx.merge(graph, params)
        move, pen = sketch_rnn.negative_log_likelihood(model, rows, count, condition)
        first = model(sketch_rnn.teacher(config, rows, count)[0], condition["z"])[:, 0]
        # The first point is drawn from down and up alone.
        end = jax.nn.softmax(sketch_rnn.split_parameters(config, first)[0])[..., END]
        return -move - pen - jnp.log1p(-end)

    ended = count < config.longest - 1
    assert ended.any()
    np.testing.assert_allclose(
        score[ended], np.asarray(likelihood(params))[ended], rtol=1e-3, atol=1e-3
    )


@BOTH
def test_points_are_drawn_from_the_mixture_at_its_temperature(config):
    config, count, temperature = dataclasses.replace(config, longest=2), 1000, 0.5
    graph, params = build(config)
    condition = {k: jnp.broadcast_to(v, (count, *v.shape[1:])) for k, v in condition_of(1).items()}
    rows, counts, _ = drawings_of(
        (graph, params), condition, jax.random.split(jax.random.key(0), count), temperature
    )
    assert (counts == 1).all()
    movement = sketch_rnn.teacher(config, jnp.zeros((1, 1, 3)), jnp.array([1]))[0]
    out = jax.jit(lambda p: nnx.merge(graph, p)(movement, condition["z"][:1]))(params)[0, 0]
    pen, logits, means, log_scales, correlation = (
        np.asarray(a, np.float64) for a in sketch_rnn.split_parameters(config, out)
    )
    up = special.softmax(pen[:2] / temperature)[1]  # the first point never ends the drawing
    assert stats.binomtest(int(rows[:, 0, 2].sum()), count, up).pvalue > 1e-3
    weight, scale = (
        special.softmax(logits / temperature, 0),
        np.exp(log_scales) * np.sqrt(temperature),
    )
    offset = rows[:, 0, :2] / config.scale
    for a in ((1, 0), (0, 1), (1, 1), (1, -1)):  # what the cloud looks like from four sides
        total = np.zeros(count)
        for m in np.ndindex(3, 3):
            if config.bivariate and m[0] != m[1]:
                continue
            share = weight[m[0], 0] if config.bivariate else weight[m[0], 0] * weight[m[1], 1]
            sx, sy = scale[m[0], 0], scale[m[1], 1]
            rho = correlation[m[0]] if config.bivariate else 0.0
            spread = np.sqrt((a[0] * sx) ** 2 + (a[1] * sy) ** 2 + 2 * a[0] * a[1] * rho * sx * sy)
            total += share * stats.norm(a[0] * means[m[0], 0] + a[1] * means[m[1], 1], spread).cdf(
                offset @ a
            )
        assert stats.kstest(total, "uniform").pvalue > 1e-3


def test_a_model_that_knows_two_drawings_redraws_each_from_its_z():
    config = dataclasses.replace(BIVARIATE, units=64, mixtures=1, scale=30.0, longest=10)
    graph, params = build(config)
    drawings, z = padded(DRAWINGS, 9), jnp.array([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.0]])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 3000))
    )

    @jax.jit
    def fit(params):
        def step(state, _):
            params, optimizer_state = state
            value, grads = jax.value_and_grad(
                lambda p: sketch_rnn.loss(
                    nnx.merge(graph, p), *drawings, {"z": z}, jax.random.key(0)
                )[0]
            )(params)
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return (optax.apply_updates(params, updates), optimizer_state), value

        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), None, 3000)
        return params, values

    params, values = fit(params)
    assert float(values[-1]) < float(values[0]) - 4
    rows, count, _ = drawings_of(
        (graph, params), {"z": z}, jax.random.split(jax.random.key(0), 2), 0.01
    )
    for drawing, row, n in zip(DRAWINGS, rows, count):
        assert n == len(drawing)
        np.testing.assert_array_equal(row[:n, 2], drawing[:, 2])
        assert np.abs(np.cumsum(row[:n, :2], 0) - np.cumsum(drawing[:, :2], 0)).max() < 3
