"""Order, mixing, convolutions and running statistics, each against its definition; logistic
regression against scikit-learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from scipy import special, stats

from transfer.baselines import networks, task
from transfer.baselines.networks import Mix, mixed
from transfer.baselines.order import shuffled
from transfer.baselines.task import BaselineConfig
from transfer.models import augment
from transfer.models.layers import convolution
from transfer.training import loop, weights


@pytest.mark.parametrize("count", [1, 2, 5, 64, 1000, 4097])
def test_every_epoch_holds_every_example_once_in_another_order(count):
    position = jnp.arange(3 * count, dtype=jnp.int32)
    index = np.asarray(jax.jit(lambda p: shuffled(p, count, 7))(position)).reshape(3, count)
    for epoch in index:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(count))
    if count >= 1000:
        assert (index[0] != index[1]).mean() > 0.99 and (index[0] != np.arange(count)).mean() > 0.99
        assert (np.asarray(shuffled(position[:count], count, 8)) != index[0]).mean() > 0.99
        for epoch in (
            index
        ):  # neighbours in the order are no neighbours in the data, and both halves are mixed
            assert abs(np.corrcoef(epoch[:-1], epoch[1:])[0, 1]) < 0.1
            assert abs((epoch[: count // 2] < count // 2).mean() - 0.5) < 0.06


def test_convolutions_before_a_normalisation_have_no_bias():
    """It would be taken away again, and the published network has none."""
    shape = jax.eval_shape(lambda: networks.PreActResNet((1, 1, 1, 1), 4, 1, 10, nnx.Rngs(0)))
    state = nnx.to_flat_state(nnx.state(shape, nnx.Param))
    kernels = {path[:-1] for path, leaf in state if path[-1] == "kernel" and leaf.ndim == 4}
    biased = {path[:-1] for path, _ in state if path[-1] == "bias"}
    assert len(kernels) > 8 and not kernels & biased


@pytest.mark.parametrize("size", [28, 14, 7, 4, 1])
def test_halved_is_pytorchs_stride_2_with_padding_1_in_both_forms(size, monkeypatch):
    x, kernel = (
        jax.random.normal(jax.random.key(0), (3, size, size, 5)),
        jax.random.normal(jax.random.key(1), (3, 3, 5, 6)),
    )

    def found():
        """Map and gradients, in a program that is traced anew."""
        value = lambda x, k: (jnp.square(out := convolution.halved(x, k)).sum(), out)
        (_, out), grads = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))(x, kernel)
        return out, grads

    out, grads = found()
    monkeypatch.setattr(convolution, "on_cpu", lambda: False)
    other, other_grads = found()
    assert out.shape == (3, -(-size // 2), -(-size // 2), 6)
    np.testing.assert_allclose(out, other, rtol=1e-4, atol=1e-4)
    for a, b in zip(grads, other_grads):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_mixing_is_of_one_depth_and_by_the_share():
    x, mix = (
        jnp.arange(12.0).reshape(3, 4),
        Mix(jnp.int32(1), jnp.float32(0.25), jnp.array([2, 0, 1])),
    )
    np.testing.assert_allclose(mixed(x, mix, 1), 0.25 * x + 0.75 * x[mix.partner])
    np.testing.assert_array_equal(mixed(x, mix, 0), x)
    np.testing.assert_array_equal(mixed(x, None, 1), x)


def test_mixups_draw_what_they_say():
    for regulariser, depths, alpha in (("input_mixup", 1, 1.0), ("manifold_mixup", 3, 2.0)):
        config = BaselineConfig.published("preact_resnet18", regulariser)
        draw = jax.jit(jax.vmap(lambda key, config=config: task.draw_mix(config, 16, key)))
        depth, share, partner = (
            np.asarray(a) for a in draw(jax.random.split(jax.random.key(0), 4000))
        )
        assert (
            set(depth) == set(range(depths))
            and (abs(np.bincount(depth) / 4000 - 1 / depths) < 0.03).all()
        )
        assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
        np.testing.assert_array_equal(np.sort(partner, 1), np.tile(np.arange(16), (4000, 1)))
        # Every image is each other's partner as often as any, and its own no more often.
        met = np.stack([np.bincount(partner[:, i], minlength=16) for i in range(16)])
        assert stats.chisquare(met.ravel()).pvalue > 1e-3
    assert task.draw_mix(BaselineConfig.published("cnn"), 16, jax.random.key(0)) is None


def test_a_batch_is_trained_on_mixed(blobs):
    """Images of one grey each: what the network is shown lies between two of them."""
    data = blobs(train=40)
    data = dataclasses.replace(
        data,
        train_images=np.repeat(np.arange(40, dtype=np.uint8)[:, None], 28 * 28, 1).reshape(
            40, 28, 28
        )
        * 6,
    )
    config = dataclasses.replace(
        BaselineConfig.published("logistic", "input_mixup"),
        optimizer="sgd",
        steps=1,
        batch=40,
        warp=0.0,
    )
    built, shown = task.build(config, data), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            networks,
            "mixed",
            lambda x, mix, depth: shown.append((x, mixed(x, mix, depth))) or shown[-1][1],
        )
        built.loss(
            jax.jit(built.init)(jax.random.key(0)),
            built.feed(jax.tree.map(jnp.asarray, built.data), 0),
            jax.random.key(3),
            0,
        )
    before, after = (np.asarray(a)[:, 0] for a in shown[0])
    assert (np.abs(after - before) > 1e-3).mean() > 0.8
    assert len(np.unique(before)) == 40 and before.min() < after.min() < after.max() < before.max()


def test_running_statistics_follow_by_a_tenth_and_asking_uses_them(monkeypatch):
    monkeypatch.setitem(networks.BLOCKS, "preact_resnet18", (1, 1))
    config = dataclasses.replace(
        BaselineConfig.published("preact_resnet18"), width=4, steps=10, objective="cross_entropy"
    )
    network = task.Network(config, 28, 5)
    params, rule, key = (
        jax.jit(network.init)(jax.random.key(0)),
        task.optimizer(config),
        jax.random.key(2),
    )
    images, labels = jax.random.uniform(jax.random.key(1), (6, 28, 28)), jnp.arange(6) % 5
    train, ask = jax.jit(lambda p, x: network.train(p, x, key)), jax.jit(network.logits)
    logits, seen = train(params, images)
    value, grads = jax.jit(
        jax.value_and_grad(lambda p: task.loss(config, network, p, images, labels, key, None)[0])
    )(params)
    updates, _ = rule.update(grads, rule.init(params), params)
    after = jax.tree.map(jnp.add, params["statistics"], updates["statistics"])
    for start, now, batch in zip(
        *(jax.tree.leaves(t) for t in (params["statistics"], after, seen))
    ):
        np.testing.assert_allclose(now, 0.9 * start + 0.1 * batch, rtol=1e-5, atol=1e-6)
    assert len(jax.tree.leaves(seen)) == 8
    assert float(value) == pytest.approx(
        float(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()), rel=1e-5
    )
    # With the batch's own statistics as the running ones, asking gives what training saw.
    np.testing.assert_allclose(
        ask({**params, "statistics": seen}, images), logits, rtol=1e-3, atol=1e-3
    )
    others = jax.random.uniform(jax.random.key(3), (6, 28, 28)).at[0].set(images[0])
    np.testing.assert_allclose(
        ask(params, others)[0], ask(params, images)[0], rtol=1e-4, atol=1e-5
    )  # whatever stands beside


def test_cutout_hides_one_square_and_augmented_images_stay_in_range(blobs):
    images = jnp.ones((200, 28, 28))
    cut = np.asarray(jax.jit(lambda x, key: augment.cutout(x, key, 14))(images, jax.random.key(0)))
    hidden = (cut == 0).sum((1, 2))
    assert hidden.max() == 14 * 14 and hidden.min() >= 7 * 7 and set(np.unique(cut)) == {0.0, 1.0}
    for image in cut[:20]:
        rows, columns = (np.flatnonzero((image == 0).any(axis)) for axis in (1, 0))
        assert (
            (image == 0).sum()
            == len(rows) * len(columns)
            == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        )
    data = blobs(train=20)
    config = dataclasses.replace(BaselineConfig.best(), warp=1.0)
    shown = jax.jit(lambda x, key: task.augmented(config, x, key))(
        data.train_images, jax.random.key(1)
    )
    assert shown.shape == (20, 28, 28) and float(shown.min()) >= 0 and float(shown.max()) <= 1


def test_views_are_the_mean_of_shifted_images(blobs):
    data = blobs(train=20, test=9)
    config = dataclasses.replace(BaselineConfig.published("mlp"), width=8, views=5)
    network = task.Network(config, 28, 5)
    params = network.init(jax.random.key(0))
    one = dataclasses.replace(config, views=1)
    padded = np.pad(data.test_images, ((0, 0), (1, 1), (1, 1)))
    shifts = [
        padded[:, 1 - y : 29 - y, 1 - x : 29 - x]
        for y, x in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    mean = np.mean(
        [np.exp(task.log_probabilities(one, network, params, s)) for s in shifts], axis=0
    )
    np.testing.assert_allclose(
        np.exp(task.log_probabilities(config, network, params, data.test_images)), mean, rtol=1e-4
    )


@pytest.mark.parametrize("model", ["logistic", "mlp", "cnn", "preact_resnet18", "preact_resnet34"])
def test_flop_are_those_of_the_layers(model):
    """Twice the multiplications: every kernel's numbers times the positions that it is used at,
    counted by tracing the convolutions."""
    config = dataclasses.replace(BaselineConfig.published(model), width=8)
    network = task.Network(config, 28, 10)
    params = jax.eval_shape(network.init, jax.random.key(0))
    monkey = pytest.MonkeyPatch()
    monkey.setattr(convolution, "on_cpu", lambda: False)
    jaxpr = jax.make_jaxpr(network.logits)(params, jnp.zeros((1, 28, 28)))
    monkey.undo()
    total = 0
    stack = [jaxpr.jaxpr]
    while stack:
        for equation in stack.pop().eqns:
            stack += [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
            if equation.primitive.name == "conv_general_dilated":
                kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
                total += 2 * int(np.prod(kernel)) * out[1] * out[2]
            elif equation.primitive.name == "dot_general":
                total += 2 * int(np.prod(equation.invars[1].aval.shape))
    assert networks.flop(config, 28, 10) == total


def test_logistic_regression_is_scikit_learns(blobs, tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    data = blobs()
    config = task.fitted(dataclasses.replace(BaselineConfig.published("logistic"), steps=150), data)
    loop.train(task.build(config, data), tmp_path)
    params, _, _ = weights.load(tmp_path / "weights" / "logistic.safetensors")
    kernel, bias = (
        params["weights"]["out"]["kernel"].astype(np.float64),
        params["weights"]["out"]["bias"].astype(np.float64),
    )
    flat = lambda images: images.reshape(len(images), -1) / 255.0
    theirs = linear.LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(
        flat(data.train_images), data.train_labels
    )

    def objective(kernel, bias):
        logits = flat(data.train_images) @ kernel + bias
        log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -log[np.arange(len(log)), data.train_labels].sum() + 0.5 * np.square(kernel).sum()

    least = objective(theirs.coef_.T, theirs.intercept_)
    assert objective(kernel, bias) == pytest.approx(least, rel=1e-5)
    _, network, loaded = task.load(tmp_path / "weights" / "logistic.safetensors", 28, 5)
    ours = np.exp(task.log_probabilities(config, network, loaded, data.test_images))
    np.testing.assert_allclose(ours, theirs.predict_proba(flat(data.test_images)), atol=2e-3)
    assert (ours.argmax(1) == theirs.predict(flat(data.test_images))).mean() > 0.99


@pytest.mark.parametrize(
    "model, regulariser, given",
    [
        ("cnn", "none", {"width": 8}),
        ("mlp", "manifold_mixup", {"width": 32}),
        (
            "preact_resnet18",
            "manifold_mixup",
            {"width": 8, "batch": 32, "learning_rate": 0.05, "steps": 130},
        ),
    ],
)
def test_a_network_learns(blobs, tmp_path, monkeypatch, model, regulariser, given):
    monkeypatch.setitem(networks.BLOCKS, "preact_resnet18", (1, 1))
    data = blobs(noise=0.3)
    config = dataclasses.replace(
        BaselineConfig.published(model, regulariser), **{"steps": 90, **given}
    )
    built = task.build(task.fitted(config, data), data)
    before = built.evaluate(jax.jit(built.init)(jax.random.key(0)))
    loop.train(built, tmp_path)
    config, network, params = task.load(tmp_path / "weights" / f"{model}.safetensors", 28, 5)
    after = built.evaluate(params)
    assert config == built.config
    # Two residual blocks and a mean over the map, which forgets where ink is, are slower to tell
    # such patterns apart. Chance is 0.2.
    assert after["accuracy"] > (0.42 if model in networks.BLOCKS else 0.75) > before["accuracy"], (
        before,
        after,
    )


def test_binary_objective_is_each_classs_own_entropy_also_near_certainty():
    logits = np.array([[1.0, -2.0, 0.5], [40.0, 0.0, 1.0], [0.0, 0.0, 0.0], [2e5, 0.0, -2e5]])
    target = np.array([[0.2, 0.7, 0.1], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    with jax.enable_x64():
        got = np.asarray(task.binary_cross_entropy(jnp.asarray(logits), jnp.asarray(target)))
        gradient = jax.grad(lambda x: task.binary_cross_entropy(x, jnp.asarray(target)).sum())(
            jnp.asarray(logits)
        )
    log_p = special.log_softmax(logits, 1)
    rest = np.array([[special.logsumexp(np.delete(row, j)) for j in range(3)] for row in log_p])
    np.testing.assert_allclose(
        got,
        -(target * np.maximum(log_p, -100) + (1 - target) * np.maximum(rest, -100)),
        rtol=1e-9,
        atol=1e-12,
    )
    assert np.isfinite(gradient).all()


def test_a_rate_of_a_tenth_goes_with_the_binary_objective_or_with_a_warm_up():
    """Cross-entropy at this rate diverges within twenty steps of Kuzushiji-MNIST at full width,
    here and in PyTorch."""
    for config in (
        BaselineConfig.published("preact_resnet18"),
        BaselineConfig.published("preact_resnet34", "manifold_mixup"),
        BaselineConfig.published("preact_resnet18", size=64),
        BaselineConfig.best(),
        BaselineConfig.best(size=64),
    ):
        assert config.learning_rate == 0.1
        assert config.objective == "binary" or config.schedule == "cosine" and config.warmup >= 1000
