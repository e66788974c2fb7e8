import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import special, stats

from transfer.models import stroke_fitting, stroke_forms, stroke_rnn, stroke_sampling
from transfer.models.stroke_forms import Axes
from transfer.models.stroke_rnn import StrokeRNN, StrokeRNNConfig

TINY = StrokeRNNConfig(
    stroke_points=4,
    latent=6,
    units=12,
    embed=10,
    width=16,
    blocks=1,
    heads=2,
    channels=24,
    mixtures=3,
    plan_hidden=8,
    most=5,
    fit_steps=0,
)


def split(config, seed: int):
    """(graph, parameters) of a new network. Compiled: a layer at a time takes several times as
    long."""
    graph, state = nnx.split(nnx.jit(lambda: StrokeRNN(config, nnx.Rngs(seed)))())
    return graph, nnx.to_pure_dict(state)


@pytest.fixture(scope="module")
def tiny():
    random = np.random.default_rng(0)
    start = random.uniform(10, 100, (4, 5, 1, 2))
    strokes = np.float32(start + np.cumsum(random.normal(0, 8, (4, 5, 4, 2)), 2))
    count = np.array([5, 3, 1, 4], np.int32)
    condition = {
        "z": np.float32(random.normal(size=(4, 6))),
        "picture": np.float32(random.random((4, 64, 64))),
    }
    axes = Axes.of(np.concatenate([s[:n] for s, n in zip(strokes, count)]))
    # The scales are sigmoids: a model from scratch is smooth enough for differences.
    return *split(TINY, 0), axes, strokes, count, condition


@partial(jax.jit, static_argnums=0)
def likelihood(graph, params, axes, strokes, count, condition, key):
    return stroke_rnn.negative_log_likelihood(
        nnx.merge(graph, params), axes, strokes, count, condition, key
    )


def nll(tiny, strokes=None, count=None, key=None):
    graph, params, axes, its, many, condition = tiny
    return likelihood(
        graph,
        params,
        axes,
        its if strokes is None else strokes,
        many if count is None else count,
        condition,
        key,
    )


def test_codes_lead_back_to_the_strokes_and_are_standardised():
    strokes = np.float32(np.random.default_rng(1).uniform(0, 109, (500, 4, 2)))
    axes = Axes.of(strokes)
    codes = axes.encode(strokes)
    np.testing.assert_allclose(axes.decode(codes), strokes, atol=2e-3)
    np.testing.assert_allclose(np.cov(np.asarray(codes).T), np.eye(8), atol=0.01)


def test_mixture_is_scipys(tiny):
    axes = tiny[2]
    out = np.random.default_rng(2).normal(size=(3, 3 * 17)).astype(np.float32)
    codes = np.random.default_rng(3).normal(size=(3, 8)).astype(np.float32)
    weights, means, log_scales = parameters = stroke_rnn.mixture(TINY, axes, jnp.asarray(out))
    expected = [
        np.logaddexp.reduce(
            [
                w + stats.multivariate_normal.logpdf(x, m, np.diag(np.exp(2 * s)))
                for w, m, s in zip(*row)
            ]
        )
        for x, row in zip(codes, zip(*map(np.asarray, (weights, means, log_scales))))
    ]
    np.testing.assert_allclose(
        stroke_rnn.log_prob(parameters, jnp.asarray(codes)), expected, rtol=1e-4
    )
    np.testing.assert_allclose(np.exp(weights).sum(-1), 1, rtol=1e-5)
    # Never finer than `finest` box units, where the strokes differ by more than that.
    wide = axes.deviation > TINY.finest * 2
    assert (np.exp(log_scales) * axes.deviation >= TINY.finest * 0.999)[..., wide].all()


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_codes_are_drawn_from_the_mixture_at_its_temperature(tiny, temperature):
    """Kolmogorov-Smirnov, along each axis and along a slanted one, where components that were mixed
    up would show."""
    out = np.random.default_rng(4).normal(size=(1, 3 * 17)).astype(np.float32)
    weights, means, log_scales = (
        np.asarray(a[0], np.float64) for a in stroke_rnn.mixture(TINY, tiny[2], jnp.asarray(out))
    )
    given = tuple(jnp.asarray(a, jnp.float32) for a in (weights, means, log_scales))
    codes = np.asarray(
        jax.vmap(lambda key: stroke_sampling.sample(given, key, temperature))(
            jax.random.split(jax.random.key(5), 4000)
        )
    )
    share, scale = special.softmax(weights / temperature), np.sqrt(temperature) * np.exp(log_scales)
    for direction in [*np.eye(8), np.random.default_rng(6).normal(size=8)]:
        middle, spread = means @ direction, np.sqrt(scale**2 @ direction**2)
        assert (
            stats.kstest(
                codes @ direction,
                lambda x: (share * stats.norm.cdf((x[:, None] - middle) / spread)).sum(1),
            ).pvalue
            > 1e-3
        )


def test_gradient_is_that_of_finite_differences(tiny):
    graph, state, axes, strokes, count, condition = tiny
    with jax.enable_x64():
        wide = lambda tree: jax.tree.map(
            lambda a: (
                jnp.asarray(a, jnp.float64)
                if np.issubdtype(np.asarray(a).dtype, np.floating)
                else a
            ),
            tree,
        )
        params, axes, strokes, condition = wide(state), wide(axes), wide(strokes), wide(condition)
        value = jax.jit(
            lambda p: stroke_rnn.loss(
                nnx.merge(graph, p), axes, strokes, count, condition, jax.random.key(0)
            )[0]
        )
        gradient = jax.jit(jax.grad(value))(params)
        for seed in range(3):
            leaves, tree = jax.tree.flatten(params)
            random = np.random.default_rng(seed)
            direction = tree.unflatten([random.normal(size=leaf.shape) for leaf in leaves])
            moved = lambda by: float(
                value(jax.tree.map(lambda p, d: np.asarray(p) + by * d, params, direction))
            )
            along = sum(
                (np.asarray(g) * d).sum()
                for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
            )
            # The plan's layers take no part in this loss, and the rectifiers are smooth almost
            # everywhere.
            assert float(along) == pytest.approx((moved(1e-6) - moved(-1e-6)) / 2e-6, rel=2e-4)


def test_strokes_beyond_the_count_do_not_matter(tiny):
    strokes = tiny[3].copy()
    strokes[1, 3:] = 77.0
    np.testing.assert_array_equal(
        nll(tiny), nll(tiny, strokes)
    )  # the same program: to the last bit
    longer = np.concatenate([tiny[3], np.full((4, 2, 4, 2), 50, np.float32)], 1)
    np.testing.assert_allclose(nll(tiny, longer), nll(tiny), rtol=1e-5)


def test_a_stroke_depends_on_those_before_it_and_not_on_those_after(tiny):
    graph, state, axes, its, _, condition = tiny

    @jax.jit
    def added(strokes):
        """What each stroke of the first drawing adds, of drawings of always 5 strokes."""
        model = nnx.merge(graph, state)
        return jax.jacfwd(lambda on: _masked(model, axes, strokes, on, condition))(jnp.ones(5))[0]

    strokes = its.copy()
    strokes[0, 3] += 5
    before, after = added(its), added(strokes)
    assert after[1] == before[1] and after[4] != before[4]


def _masked(model, axes, strokes, on, condition):
    """NLL as a linear function of which strokes count: its derivative is each stroke's share."""
    config, original = model.config, stroke_rnn.log_prob
    stroke_rnn.log_prob = lambda parameters, codes: original(parameters, codes) * on
    try:
        return stroke_rnn.negative_log_likelihood(
            model, axes, strokes, jnp.full(len(strokes), config.most), condition
        )
    finally:
        stroke_rnn.log_prob = original


def test_noise_changes_the_conditioning_and_never_the_target(tiny):
    noisy = nll(tiny, key=jax.random.key(0))
    assert (abs(noisy - nll(tiny)) > 1e-4).sum() >= 3
    # A drawing of one stroke has nothing before it.
    assert noisy[2] == nll(tiny)[2]


def test_ink_is_length_times_width():
    line = jnp.asarray([[[20.0, 30.0], [60.0, 30.0], [60.0, 70.0]]])
    cell = (109 / 16) ** 2
    assert float(stroke_forms.ink_of(line).sum() * cell) == pytest.approx(
        80 * stroke_forms.INK_WIDTH, rel=1e-3
    )
    assert float(stroke_forms.ink_of(jnp.zeros((1, 4, 2))).sum()) < 1e-4


def test_coarse_picture_is_the_mean_of_blocks():
    picture = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(
        stroke_forms.coarse_picture(jnp.asarray(picture))[1, 3, 5],
        picture[1, 12:16, 20:24].mean(),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        stroke_forms.coarse_picture(jnp.asarray(picture), 32)[1, 3, 5],
        picture[1, 6:8, 10:12].mean(),
        rtol=1e-5,
    )


def test_every_step_knows_how_many_strokes_are_left():
    left = np.asarray(stroke_rnn.strokes_left(jnp.array([[12, 4, 3], [2, 1, 0]])))
    np.testing.assert_allclose(left[..., 0], [[1.2, 0.4, 0.3], [0.2, 0.1, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(
        left[..., 1:], np.array([[12, 4, 3], [2, 1, 0]])[..., None] == np.arange(4)
    )


def test_the_plan_is_learned_by_its_likelihood(tiny):
    model, strokes = nnx.merge(tiny[0], tiny[1]), np.array([1, 7, 0, 40], np.int32)
    value, parts = stroke_rnn.plan_loss(model, tiny[5]["z"], strokes)
    scores = special.log_softmax(np.asarray(model.plan(tiny[5]), np.float64), -1)
    assert float(value) == pytest.approx(
        -np.mean([row[n] for row, n in zip(scores, strokes)]), rel=1e-5
    )
    assert float(parts["plan_right"]) == pytest.approx(np.mean(scores.argmax(1) == strokes))


def test_likeness_is_1_for_the_same_ink_and_0_without_common_ink():
    drawing = jnp.asarray([[[[20.0, 20.0], [20.0, 90.0]], [[20.0, 50.0], [90.0, 50.0]]]])
    page = (
        np.minimum(np.asarray(stroke_forms.ink_of(drawing, samples=22, grid=32)).sum(1), 1)
        .reshape(1, 32, 32)
        .repeat(2, 1)
        .repeat(2, 2)
    )
    assert float(stroke_forms.likeness(drawing, jnp.asarray(page))[0]) == pytest.approx(1, abs=1e-3)
    assert (
        float(stroke_forms.likeness(drawing, jnp.asarray(page[:, :, ::-1] * (page == 0)))[0]) < 0.35
    )
    assert np.isfinite(stroke_forms.likeness(drawing * 0, jnp.zeros((1, 64, 64)))).all()


def draw(tiny, index, temperature=0.5, seed=0):
    graph, state, axes, _, _, condition = tiny
    index = np.asarray(index)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.asarray(index))
    return [
        np.asarray(a)
        for a in stroke_sampling.draw(
            graph,
            state,
            axes,
            {k: v[index % len(v)] for k, v in condition.items()},
            keys,
            jnp.float32(temperature),
        )
    ]


def test_a_drawing_has_the_planned_strokes_and_does_not_depend_on_its_neighbours(tiny):
    strokes, count, score, alike = draw(tiny, [0, 1, 2, 3])
    assert strokes.shape == (4, 5, 4, 2) and all(
        (s[n:] == 0).all() and np.isfinite(s).all() for s, n in zip(strokes, count)
    )
    np.testing.assert_allclose(draw(tiny, [2, 1, 0, 3])[0][0], strokes[2], atol=1e-4)
    np.testing.assert_array_equal(draw(tiny, [0, 1, 2, 3])[0], strokes)
    assert (draw(tiny, [0, 1, 2, 3], seed=1)[0] != strokes).any()
    assert np.isfinite(score).all() and np.isfinite(alike).all()


def test_as_many_strokes_are_written_as_the_plan_reads_off_z(tiny):
    """A plan set by hand: two strokes where z begins below 0; where above, seven, of which the five
    that there may be are written; and none where it is 0, of which one is."""
    graph, params, *rest, condition = tiny
    plan = {
        "plan_hidden": jax.tree.map(jnp.zeros_like, params["plan_hidden"]),
        "plan_out": jax.tree.map(jnp.zeros_like, params["plan_out"]),
    }
    plan["plan_hidden"]["kernel"] = (
        plan["plan_hidden"]["kernel"].at[0, :2].set(jnp.array([1.0, -1.0]))
    )
    plan["plan_out"]["kernel"] = plan["plan_out"]["kernel"].at[0, 7].set(9.0).at[1, 2].set(9.0)
    z = condition["z"].copy()
    z[:, 0] = [0.5, -1.0, 0.0, -0.1]
    planned = (graph, params | plan, *rest, condition | {"z": z})
    np.testing.assert_array_equal(stroke_sampling.planned(graph, params | plan, z), [7, 2, 0, 2])
    strokes, count, *_ = draw(planned, [0, 1, 2, 3])
    assert count.tolist() == [5, 2, 1, 2]
    assert [(s != 0).any((1, 2)).sum() for s in strokes] == [5, 2, 1, 2]


def test_of_several_attempts_the_one_most_like_the_picture_is_kept(tiny):
    """The first of four attempts is what one alone draws: more can only better the likeness, and
    for some drawing do."""
    alike = []
    for attempts in (1, 4):
        graph, _ = nnx.split(
            nnx.eval_shape(
                lambda: StrokeRNN(dataclasses.replace(TINY, attempts=attempts), nnx.Rngs(0))
            )
        )
        strokes, *_, found = draw((graph, *tiny[1:]), [0, 1, 2, 3], temperature=1.0)
        np.testing.assert_allclose(
            stroke_forms.likeness(jnp.asarray(strokes), jnp.asarray(tiny[5]["picture"])),
            found,
            atol=1e-5,
        )
        alike.append(found)
    gain = np.diff(alike, axis=0)
    assert (gain > -1e-5).all() and (gain.sum(0) > 1e-3).any()


def test_a_first_attempt_that_is_like_enough_is_kept(tiny):
    """It is what one attempt alone draws, and each other drawing is the best of four."""

    def drawn(**settings):
        build = lambda: StrokeRNN(dataclasses.replace(TINY, **settings), nnx.Rngs(0))
        graph, _ = nnx.split(nnx.eval_shape(build))
        strokes, _, score, alike = draw((graph, *tiny[1:]), [0, 1, 2, 3, 0], temperature=1.0)
        return strokes, score, alike

    alone, best = drawn(attempts=1), drawn(attempts=4, enough=1.0)
    enough = float(np.unique(alone[2])[1:3].mean())
    found = drawn(attempts=4, enough=enough)
    kept = alone[2] >= enough
    assert 0 < kept.sum() < 5 and (best[2][~kept] > alone[2][~kept] + 1e-4).any()
    for mixed, one, four in zip(found, alone, best):
        np.testing.assert_allclose(mixed[kept], one[kept], atol=1e-4)
        np.testing.assert_allclose(mixed[~kept], four[~kept], atol=1e-4)


def test_drawing_scores_are_the_likelihood_that_training_sees(tiny):
    strokes, count, score, _ = draw(tiny, [0, 1, 2, 3])
    np.testing.assert_allclose(
        -nll(tiny, strokes[:, : max(count)], count), score, rtol=1e-3, atol=1e-2
    )


def test_it_learns_to_write_what_z_says(tiny):
    """Two drawings told apart by z and picture: written again after a few hundred steps."""
    config = dataclasses.replace(
        TINY, units=32, embed=32, width=48, mixtures=1, plan_hidden=32, noise=0.2
    )
    random = np.random.default_rng(5)
    strokes = np.float32(random.uniform(15, 95, (2, 3, 1, 2)) + np.array([0, 9, 18, 27])[:, None])
    count, axes = (
        np.array([3, 2], np.int32),
        Axes.of(np.float32(random.uniform(0, 109, (200, 4, 2)))),
    )
    condition = {
        "z": np.float32([[1] * 6, [-1] * 6]),
        "picture": np.float32(random.random((2, 64, 64))),
    }
    graph, params = split(config, 1)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(3e-3, 600))
    )

    @jax.jit
    def step(params, state, key):
        def value(p):
            model = nnx.merge(graph, p)
            return (
                stroke_rnn.loss(model, axes, jnp.asarray(strokes), count, condition, key)[0]
                + stroke_rnn.plan_loss(model, condition["z"], count)[0]
            )

        updates, state = optimizer.update(jax.grad(value)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for number in range(600):
        params, state = step(params, state, jax.random.key(number))
    drawn, many, *_ = stroke_sampling.draw(
        graph, params, axes, condition, jax.random.split(jax.random.key(0), 2), jnp.float32(0.01)
    )
    np.testing.assert_array_equal(many, count)
    for written, true, n in zip(np.asarray(drawn), strokes, count):
        assert abs(written[:n] - true[:n]).mean() < 2.5


# Fitting ------------------------------------------------------------------------------------------


def page_of_strokes(strokes):
    """The picture (B, 64, 64) of strokes (B, T, P, 2): their ink on the page, doubled in size."""
    return jnp.minimum(
        jnp.repeat(
            jnp.repeat(stroke_forms.ink_of(strokes, 8, 32).sum(1).reshape(-1, 32, 32), 2, 1), 2, 2
        ),
        1.0,
    )


def curves(seed=0, batch=3):
    """(axes, strokes (B, 4, 12, 2) well inside of the page, count (B,))."""
    random = np.random.default_rng(seed)
    start, turn = random.uniform(30, 80, (batch, 4, 1, 2)), random.uniform(-1, 1, (batch, 4, 1, 2))
    t = np.linspace(-1, 1, 12)[:, None]
    strokes = np.float32(start + 20 * t * random.uniform(-1, 1, (batch, 4, 1, 2)) + 6 * t**2 * turn)
    return Axes.of(strokes.reshape(-1, 12, 2)), strokes, np.array([4, 3, 1][:batch], np.int32)


def test_gradient_of_the_misfit_is_the_differentiated_one():
    axes, strokes, count = curves()
    there = (np.arange(4) < count[:, None])[..., None]
    codes, page = (
        axes.encode(jnp.asarray(strokes)),
        stroke_fitting.page_of(page_of_strokes(jnp.asarray(strokes[::-1].copy()))),
    )
    wanted = jax.jit(jax.grad(lambda c: stroke_fitting.misfit(axes, c, there, page).sum()))(codes)
    got = jax.jit(stroke_fitting.misfit_gradient)(axes, codes, there, page)
    assert np.abs(wanted)[there[..., 0]].min() > 0 or np.abs(wanted).max() > 0
    np.testing.assert_allclose(
        np.where(there, got, 0), wanted, rtol=1e-3, atol=1e-5 * float(np.abs(wanted).max())
    )


def test_a_displaced_drawing_is_fitted_to_its_picture():
    axes, strokes, count = curves()
    there = np.arange(4) < count[:, None]
    true = strokes * there[..., None, None]
    picture = page_of_strokes(jnp.asarray(true))
    random = np.random.default_rng(1)
    displaced = np.float32(strokes + random.normal(0, 4, (3, 4, 1, 2))) * there[..., None, None]
    fitted = np.asarray(stroke_fitting.fit(axes, jnp.asarray(displaced), count, picture, 40, 0.2))
    off = lambda s: np.sqrt(((s - true) ** 2).sum(-1)).mean(-1)[there]
    assert off(fitted).mean() < 0.4 * off(displaced).mean()
    assert (fitted[~there] == 0).all()
    before, after = (
        np.asarray(stroke_forms.likeness(jnp.asarray(s), picture)) for s in (displaced, fitted)
    )
    assert (after > before).all() and after.mean() > 0.95
    # No ink at all, or a page full of it: finite.
    for value in (0.0, 1.0):
        assert np.isfinite(
            stroke_fitting.fit(
                axes, jnp.asarray(displaced), count, jnp.full((3, 64, 64), value), 5, 0.2
            )
        ).all()
    # What becomes of a drawing does not depend on its neighbours.
    alone = stroke_fitting.fit(axes, jnp.asarray(displaced[1:2]), count[1:2], picture[1:2], 40, 0.2)
    np.testing.assert_allclose(alone[0], fitted[1], atol=0.01)


@pytest.fixture
def pushed(monkeypatch):
    """A function that fits one stroke that is pushed by a force, a function of how far it was
    moved, instead of by ink. How far along it goes, in codes; axes are those of the page."""
    axes = Axes(*(jnp.asarray(a, jnp.float32) for a in (np.zeros(8), np.eye(8), np.ones(8))))
    strokes, direction = jnp.full((1, 1, 4, 2), 50.0), jnp.ones(8) / np.sqrt(8)

    def fitted(force, steps: int, rate: float) -> float:
        monkeypatch.setattr(
            stroke_fitting,
            "misfit_gradient",
            lambda axes, codes, there, page: (
                -direction * force((codes - 50.0) @ direction)[..., None]
            ),
        )
        found = stroke_fitting.fit(
            axes, strokes, jnp.array([1]), jnp.zeros((1, 64, 64)), steps, rate
        )
        moved = np.asarray(found - strokes).reshape(8)
        np.testing.assert_allclose(
            moved, moved @ np.asarray(direction) * np.asarray(direction), atol=1e-4
        )
        return float(moved @ np.asarray(direction))

    return fitted


def test_a_push_goes_on_for_the_steps_after_it_by_85_percent_each(pushed):
    """Pushed once, at the first of 20 steps, whose lengths go down to 0."""
    once = lambda moved: jnp.where(moved == 0, 1.0, 0.0)
    wanted = 0.05 * sum(0.85**n * (1 - n / 20) for n in range(20))
    assert pushed(once, 20, 0.05) == pytest.approx(wanted, rel=0.02)


def test_what_is_pushed_weakly_stays_near_where_it_was_written(pushed):
    """The pull is 0.002 times the way: it holds a force of 0.001 at half a deviation, where 400
    steps alone go ten deviations."""
    assert pushed(lambda moved: jnp.full_like(moved, 0.001), 400, 0.05) == pytest.approx(
        0.5, abs=0.1
    )
