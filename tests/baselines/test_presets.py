"""Every setting of the published recipes and of the best ones: none changes but on purpose.

After a change on purpose write the file anew: python -m pytest tests/baselines/test_presets.py
--write-golden
"""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from transfer.baselines import run, task
from transfer.baselines.datasets import Labelled
from transfer.baselines.task import BaselineConfig

FILE = Path(__file__).parent / "presets.json"
MODELS = ("knn", "logistic", "mlp", "cnn", "preact_resnet18", "preact_resnet34")


def settings() -> dict[str, dict]:
    """Preset, model, regulariser and size -> its settings that differ from the defaults."""
    plain = json.loads(json.dumps(dataclasses.asdict(BaselineConfig())))
    found = {"without a preset": plain}
    for preset, model, regulariser, size in itertools.product(
        ("published", "best"), MODELS, ("none", "input_mixup", "manifold_mixup"), (28, 64)
    ):
        if model == "knn" and regulariser != "none":
            continue
        given = getattr(BaselineConfig, preset)(model, regulariser, size)
        values = json.loads(json.dumps(dataclasses.asdict(given)))
        changed = {k: v for k, v in values.items() if v != plain[k]}
        found[f"{preset} {model} {regulariser} {size}"] = changed
    return found


def test_recipes_have_their_settings(request):
    found = settings()
    if request.config.getoption("--write-golden"):
        lines = (f" {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items())
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    wanted = json.loads(FILE.read_text("utf-8"))
    assert found.keys() == wanted.keys()
    for preset, values in found.items():
        assert values == wanted[preset], preset


def test_without_a_regulariser_or_size_that_of_small_images_is_meant():
    assert BaselineConfig.published("cnn") == BaselineConfig.published("cnn", "none", 28)
    assert BaselineConfig.published("logistic").optimizer == "lbfgs"
    assert BaselineConfig.best() == BaselineConfig.best("preact_resnet18", "none", 28)
    assert BaselineConfig.published("logistic", size=28).optimizer == "lbfgs"
    assert BaselineConfig.published("logistic", size=29).optimizer == "adamw"
    few, many = (BaselineConfig.published("preact_resnet18", size=n) for n in (63, 64))
    assert (few.stem_stride, many.stem_stride) == (1, 2)


def labelled(count):
    images, labels = np.zeros((count, 28, 28), np.uint8), np.zeros(count, np.int32)
    return Labelled("kmnist", images, labels, images, labels, ["a"], "", {})


@pytest.mark.parametrize(
    "given, count, batch, steps",
    [
        ({"epochs": 2.0, "batch": 10}, 25, 10, 5),
        ({"epochs": 2.0, "batch": 10}, 26, 10, 6),
        ({"epochs": 0.5, "batch": 10}, 25, 10, 2),
        ({"epochs": 0.0, "batch": 10}, 25, 10, 1),
        ({"epochs": 3.0, "batch": 100}, 25, 25, 3),
        ({"epochs": 3.0, "batch": 10, "steps": 7}, 25, 10, 7),
        ({"optimizer": "lbfgs", "batch": 10, "steps": 4}, 25, 25, 4),
    ],
)
def test_epochs_become_steps(given, count, batch, steps):
    fitted = task.fitted(BaselineConfig(**given), labelled(count))
    assert (fitted.batch, fitted.steps) == (batch, steps)


def trained(config, steps, gradient=1.0, start=2.0):
    """A weight and a statistic after steps of one gradient each."""
    chosen = task.optimizer(config)
    params = {"weights": {"k": jnp.float32(start)}, "statistics": {"m": jnp.float32(start)}}
    state, out = chosen.init(params), []
    for _ in range(steps):
        grads = jax.tree.map(lambda p: jnp.float32(gradient), params)
        updates, state = chosen.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        out.append([float(params["weights"]["k"]), float(params["statistics"]["m"])])
    return np.array(out).T


def test_statistics_follow_by_a_tenth_whatever_the_optimiser():
    for optimizer in ("adadelta", "sgd", "adamw"):
        _, statistics = trained(BaselineConfig(optimizer=optimizer, steps=9), 3)
        np.testing.assert_allclose(statistics, [1.9, 1.8, 1.7], rtol=1e-6)


def test_sgd_has_nesterovs_momentum_and_decays_what_it_moves():
    config = BaselineConfig(
        optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.5, steps=9
    )
    weight, moving, wanted = 2.0, 0.0, []
    for _ in range(4):
        gradient = 1.0 + 0.5 * weight
        moving = 0.9 * moving + gradient
        weight -= 0.1 * (gradient + 0.9 * moving)
        wanted.append(weight)
    np.testing.assert_allclose(trained(config, 4)[0], wanted, rtol=1e-5)


def test_adamw_decays_apart_from_the_gradient():
    config = BaselineConfig(optimizer="adamw", learning_rate=0.1, weight_decay=0.5, steps=9)
    weight, wanted = 2.0, []
    for _ in range(3):
        weight -= 0.1 * (1.0 + 0.5 * weight)  # of one gradient always, Adam's step is its sign
        wanted.append(weight)
    np.testing.assert_allclose(trained(config, 3)[0], wanted, rtol=1e-4)


def test_adadelta_is_kerass():
    config = BaselineConfig(optimizer="adadelta", learning_rate=0.5, steps=9)
    weight, square, moved, wanted = 2.0, 0.0, 0.0, []
    for _ in range(3):
        square = 0.95 * square + 0.05 * 9.0
        step = np.sqrt(moved + 1e-7) / np.sqrt(square + 1e-7) * 3.0
        moved = 0.95 * moved + 0.05 * step**2
        weight -= 0.5 * step
        wanted.append(weight)
    np.testing.assert_allclose(trained(config, 3, gradient=3.0)[0], wanted, rtol=1e-5)


def test_schedules():
    rates = lambda **given: (
        -np.diff(
            trained(BaselineConfig(optimizer="sgd", momentum=0.0, **given), given["steps"])[0],
            prepend=2.0,
        )
    )
    step = rates(schedule="step", learning_rate=0.1, steps=8)
    np.testing.assert_allclose(step, [0.1] * 4 + [0.01] * 2 + [0.001] * 2, rtol=1e-3)
    constant = rates(schedule="constant", learning_rate=0.1, steps=3)
    np.testing.assert_allclose(constant, [0.1] * 3, rtol=1e-5)
    for warmup, up in ((2, 2), (99, 4)):  # at most half of the steps
        cosine = rates(schedule="cosine", learning_rate=0.1, warmup=warmup, steps=8)
        down = 0.05 * (1 + np.cos(np.pi * np.arange(8 - up) / (8 - up)))
        wanted = [*(0.1 * np.arange(up) / up), *down]
        np.testing.assert_allclose(cosine, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "model, regulariser, preset, name",
    [
        ("knn", "none", "published", "knn"),
        ("cnn", "input_mixup", "published", "cnn-input_mixup"),
        ("mlp", "none", "best", "mlp-best"),
        ("mlp", "manifold_mixup", "best", "mlp-manifold_mixup-best"),
    ],
)
def test_every_run_has_a_folder_of_its_own(tmp_path, model, regulariser, preset, name):
    config = BaselineConfig(model, regulariser)
    assert run.folder_of(tmp_path, labelled(1), config, preset) == tmp_path / "kmnist" / name
    assert run.folder_of(str(tmp_path), labelled(1), config, preset).parent.parent == tmp_path


def test_large_images_are_taken_in_blocks():
    assert [run._coarse(n) for n in (28, 32, 33, 64)] == [
        (28, 1, 28, 1),
        (32, 1, 32, 1),
        (16, 2, 16, 2),
        (16, 4, 16, 4),
    ]
