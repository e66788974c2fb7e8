"""transfer.training: tasks reach their optimum, and a run that was stopped in any way ends as one
that was not.

Run as a script (`python test_training.py FOLDER`) this file trains the small task there, for the
test that kills it.
"""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from transfer.system.locks import locked
from transfer.training import checkpoints, loop, metrics, optimizers, stopping, weights
from transfer.training.errors import Interrupted, TrainingError
from transfer.training.loop import Task, train


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 60
    batch: int = 8
    learning_rate: float = 0.1
    warmup: int = 5
    weight_decay: float = 0.0
    ema: float = 0.9
    sizes: tuple[int, ...] = (1, 2)


WANTED = np.array([1.0, -2.0, 0.5], np.float32)


def quadratic(config: Config = Config(), **fields) -> Task:
    """Find the point that noisy observations of WANTED scatter around."""

    def loss(params, data, key, variant):
        batch = data["wanted"] + 0.1 * jax.random.normal(key, (config.batch, 3))
        value = ((params["at"][0] - batch) ** 2).sum(1).mean()
        return value, {"distance": jnp.sqrt(value)}

    return Task(
        **{
            "name": "quadratic",
            "config": config,
            "init": lambda key: {"at": {0: jax.random.normal(key, (3,))}},
            "loss": loss,
            "data": {"wanted": WANTED},
            "evaluate": lambda params: {"error": float(np.abs(params["at"][0] - WANTED).max())},
            "export": lambda params: {"seen": np.array([True])},
            "provenance": {"data": {"a.tar": "0" * 64}},
        }
        | fields
    )


EACH_STEP = -1.0  # seconds between checkpoints


@pytest.fixture(scope="module", autouse=True)
def one_step_a_dispatch():
    """As on a CPU, whatever the tests run on: they stop runs at single steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "cpu")
        patch.setattr(
            stopping, "PATIENCE", 600.0
        )  # a slow machine must not end the tests' own process
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, one_step_a_dispatch) -> bytes:
    return train(quadratic(), tmp_path_factory.mktemp("unbroken") / "run").read_bytes()


class Stop(Exception):
    pass


def stopped_at(step: int, how, config: Config = Config(), **fields) -> Task:
    """A task that calls `how` before it takes the step. (`variant` is asked before each.)"""
    calls = iter(range(10_000))
    return quadratic(config, variant=lambda group: how() if next(calls) == step else 0, **fields)


def raising():
    raise Stop


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def steps_in(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def test_a_run_reaches_the_optimum_and_leaves_a_run_folder(tmp_path):
    pictures = []
    task = quadratic(Config(steps=320), picture=lambda params, path: pictures.append(path.name))
    path = train(task, tmp_path / "run")
    assert path == tmp_path / "run" / "weights" / "quadratic.safetensors"
    params, arrays, described = weights.load(path)
    np.testing.assert_allclose(params["at"][0], WANTED, atol=0.05)
    assert arrays["seen"].tolist() == [True]
    assert described == json.loads((tmp_path / "run" / "config.json").read_text())
    assert (
        described["seed"] == 0
        and described["config"]["learning_rate"] == 0.1
        and described["data"] == {"a.tar": "0" * 64}
    )
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert losses[320] < 0.1 < losses[min(losses)]
    assert [line["step"] for line in lines if "val/error" in line] == list(range(40, 321, 40))
    assert pictures == [f"step_{step:07d}.png" for step in range(40, 321, 40)]
    assert steps_in(tmp_path / "run")[-1] == 320


def test_the_seed_decides_the_weights(tmp_path, unbroken):
    again, other = (train(quadratic(), tmp_path / str(seed), seed) for seed in (0, 1))
    assert again.read_bytes() == unbroken
    assert not np.array_equal(weights.load(again)[0]["at"][0], weights.load(other)[0]["at"][0])


def test_without_averaging_the_raw_weights_are_exported(tmp_path):
    config = Config(steps=60, ema=0.0, warmup=-1, learning_rate=0.2)
    np.testing.assert_allclose(
        weights.load(train(quadratic(config), tmp_path / "run"))[0]["at"][0], WANTED, atol=0.2
    )


def rolling(config: Config, value=lambda at: at * 0) -> Task:
    """Each weight falls from 0 by 1 a step, whatever the loss, a function of the weight, is."""

    def loss(params, data, key, variant):
        at = params["at"][0].mean()
        return value(jax.lax.stop_gradient(at)) + (
            params["at"][0] - jax.lax.stop_gradient(params["at"][0])
        ).sum(), {}

    return quadratic(
        config, loss=loss, init=lambda key: {"at": {0: jnp.zeros(3)}}, optimizer=optax.sgd(1.0)
    )


@pytest.mark.parametrize("steps, ema", [(1, 0.8), (5, 0.8), (70, 0.8), (70, 0.99)])
def test_the_average_follows_quickly_at_first_and_then_by_its_decay(tmp_path, steps, ema):
    average = 0.0
    for step in range(steps):
        average += max(1 - ema, 9 / (10 + step)) * (-(step + 1) - average)
    got = weights.load(train(rolling(Config(steps=steps, ema=ema)), tmp_path / "run"))[0]["at"][0]
    np.testing.assert_allclose(got, average, rtol=1e-4)
    assert steps < 70 or average > -69  # it lags behind


@pytest.mark.parametrize("height, stops", [(10.0, False), (13.0, True), (100.0, True)])
def test_a_run_has_diverged_when_its_loss_has_grown_by_ten_times_its_first(tmp_path, height, stops):
    """A loss of 1 for the first window, and of `height` after it: the bound lies at 1 + 10."""
    task = rolling(Config(steps=140, ema=0.0), lambda at: jnp.where(at > -loop.WINDOW, 1.0, height))
    if not stops:
        assert train(task, tmp_path / "run").is_file()
        return
    with pytest.raises(TrainingError) as error:
        train(task, tmp_path / "run")
    assert "diverged" in one_line(error)


def test_a_tasks_own_optimizer_is_used(tmp_path):
    still = quadratic(Config(steps=10, ema=0.0), optimizer=optax.sgd(0.0))
    start = jax.jit(still.init)(jax.random.fold_in(jax.random.key(0), 0))
    np.testing.assert_array_equal(
        weights.load(train(still, tmp_path / "run"))[0]["at"][0], start["at"][0]
    )


def test_a_run_that_crashed_ends_as_an_unbroken_one(tmp_path, unbroken):
    folder = tmp_path / "run"
    for step in (5, 1, 3):  # crashed three times, at step 5, 6 and 9
        with pytest.raises(Stop):
            train(stopped_at(step, raising), folder, checkpoint_seconds=EACH_STEP)
        assert not (folder / "weights").exists()
    assert steps_in(folder)[-1] == 9
    metrics = [
        json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert train(quadratic(), folder).read_bytes() == unbroken
    metrics = [
        json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert metrics == sorted(metrics) and metrics[-1] == 60


def test_a_crash_before_the_first_checkpoint_starts_again(tmp_path, unbroken):
    with pytest.raises(Stop):
        train(stopped_at(7, raising), tmp_path / "run")
    assert steps_in(tmp_path / "run") == []
    assert train(quadratic(), tmp_path / "run").read_bytes() == unbroken


def test_a_crash_after_the_last_step_only_exports(tmp_path, unbroken, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(weights, "save", lambda *_: raising())
        train(quadratic(), tmp_path / "run")
    assert train(stopped_at(0, raising), tmp_path / "run").read_bytes() == unbroken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_saves_and_goes_on_later(tmp_path, unbroken, number):
    folder, before = tmp_path / "run", signal.getsignal(number)
    with pytest.raises(Interrupted) as error:
        train(stopped_at(17, lambda: os.kill(os.getpid(), number)), folder)
    assert "step 18" in one_line(error) and steps_in(folder) == [18]
    assert signal.getsignal(number) is before
    assert train(quadratic(), folder).read_bytes() == unbroken


def test_a_killed_process_ends_as_an_unbroken_one(tmp_path, unbroken):
    folder = tmp_path / "run"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
    try:
        patience = time.monotonic() + 120
        while (
            not (folder / "checkpoints").is_dir()
            or not steps_in(folder)
            or steps_in(folder)[-1] < 8
        ):
            assert process.poll() is None and time.monotonic() < patience, (
                tmp_path / "log"
            ).read_text()[-2000:]
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL and not (folder / "weights").exists()
    assert train(quadratic(), folder).read_bytes() == unbroken


def test_an_accelerators_groups_of_steps_are_the_same_training(tmp_path, unbroken, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config = Config(steps=58)  # goes on to the end of its group
    whole = train(quadratic(config), tmp_path / "whole")
    assert steps_in(tmp_path / "whole") == [60]
    with pytest.raises(Stop):
        train(stopped_at(3, raising, config=config), tmp_path / "run", checkpoint_seconds=EACH_STEP)
    assert steps_in(tmp_path / "run") == [20, 30]
    assert train(quadratic(config), tmp_path / "run").read_bytes() == whole.read_bytes()
    grouped = weights.load(train(quadratic(), tmp_path / "same"))[0]["at"][0]
    (tmp_path / "single").write_bytes(unbroken)
    np.testing.assert_allclose(grouped, weights.load(tmp_path / "single")[0]["at"][0], rtol=1e-4)


def test_a_run_in_a_thread_needs_no_signals(tmp_path, unbroken):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(quadratic(), tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0].read_bytes() == unbroken


def damage(folder: Path) -> None:
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_gives_way_to_an_older_one(tmp_path, unbroken, capsys, damaged):
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(stopped_at(6, raising), folder, checkpoint_seconds=EACH_STEP)
    assert steps_in(folder) == [5, 6]
    for step in (6, 5)[:damaged]:
        damage(folder / "checkpoints" / str(step))
    assert train(quadratic(), folder).read_bytes() == unbroken
    assert "checkpoint 6 cannot be read" in capsys.readouterr().err


def test_a_flipped_byte_in_a_checkpoint_gives_way_to_an_older_one(tmp_path, capsys):
    """In an array so large that Orbax keeps it apart, where it looks at no checksum."""
    heavy = {
        "init": lambda key: {
            "at": {0: jax.random.normal(key, (3,))},
            "ballast": jax.random.normal(key, (200, 200)),
        }
    }
    unbroken = train(quadratic(**heavy), tmp_path / "unbroken").read_bytes()
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(stopped_at(6, raising, **heavy), folder, checkpoint_seconds=EACH_STEP)
    largest = max(
        (p for p in (folder / "checkpoints" / "6").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    content = bytearray(largest.read_bytes())
    assert len(content) > 100_000
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    assert train(quadratic(**heavy), folder).read_bytes() == unbroken
    assert "checkpoint 6 cannot be read" in capsys.readouterr().err


def test_a_checkpoint_without_checksum_is_taken(tmp_path, unbroken, monkeypatch, capsys):
    """As earlier versions left them."""
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(checkpoints, "_digest", lambda state: None)
        train(stopped_at(6, raising), tmp_path / "run", checkpoint_seconds=EACH_STEP)
    assert train(stopped_at(99, raising), tmp_path / "run").read_bytes() == unbroken
    assert "cannot be read" not in capsys.readouterr().err


def test_a_run_folder_has_one_trainer(tmp_path, unbroken):
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder), pytest.raises(TrainingError) as error:
        train(quadratic(), folder)
    assert "another process" in one_line(error) and list(folder.iterdir()) == []
    assert train(quadratic(), folder).read_bytes() == unbroken


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a function to change it: "size=…", "ro", "rw"."""
    mounts = lambda *arguments: subprocess.run(
        ["mount", *arguments, tmp_path], capture_output=True, text=True
    )
    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("only root mounts file systems")
    if (done := mounts("-t", "tmpfs", "-o", "size=64k", "tmpfs")).returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
    try:
        yield lambda options: mounts("-o", f"remount,{options}")
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_full_and_a_read_only_disk_are_one_line_and_lose_nothing(tmp_path, unbroken, small_disk):
    heavy = quadratic(
        init=lambda key: {
            "at": {0: jax.random.normal(key, (3,))},
            "ballast": jax.random.normal(key, (200, 200)),
        }
    )
    folder = tmp_path / "run"
    with pytest.raises(TrainingError) as error:
        train(heavy, folder)
    assert "No space left" in one_line(error) and not (folder / "weights").exists()
    small_disk("size=20m")
    shutil.rmtree(folder)
    with pytest.raises(Stop):
        train(stopped_at(6, raising), folder, checkpoint_seconds=EACH_STEP)
    small_disk("ro")
    with pytest.raises(TrainingError) as error:
        train(quadratic(), folder)
    assert "Read-only" in one_line(error) and str(folder) in str(error.value)
    small_disk("rw")
    (tmp_path / "filling").write_bytes(
        bytes(os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize)
    )
    with pytest.raises(TrainingError) as error:
        train(quadratic(), folder, checkpoint_seconds=EACH_STEP)
    assert "No space left" in one_line(error)
    (tmp_path / "filling").unlink()
    assert train(quadratic(), folder).read_bytes() == unbroken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_long_evaluation_does_not_keep_a_run_from_stopping(tmp_path, unbroken, number):
    folder, begun = tmp_path / "run", []

    def evaluate(params):
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        begun.append(time.monotonic())
        time.sleep(60)

    with pytest.raises(Interrupted) as error:
        train(quadratic(evaluate=evaluate), folder)
    assert time.monotonic() - begun[0] < 30, "one or two seconds on an idle machine"
    assert "step 7" in one_line(error) and steps_in(folder) == [7] and len(begun) == 1
    assert train(quadratic(), folder).read_bytes() == unbroken
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val/error" in line] == list(range(7, 57, 7)) + [
        60
    ]  # made up for
    assert [line["step"] for line in lines if "loss" in line] == [7, 57, 60]


def test_a_busy_process_is_ended_and_goes_on_from_its_checkpoint(tmp_path, unbroken):
    """As while XLA compiles, when Python runs no handlers."""
    folder = tmp_path / "run"
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "sys.path.insert(0, str(Path(sys.argv[1]).parent))\nimport test_training as t\n"
        "busy = lambda: (print('busy', flush=True), time.sleep(100))\n"
        "t.train(t.stopped_at(9, busy), Path(sys.argv[2]), checkpoint_seconds=-1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, __file__, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    ) as process:
        try:
            assert process.stdout.readline() == "busy\n", process.stderr.read()
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 130
            assert stopping.PATIENCE <= 600 and time.monotonic() - begun < 30, (
                "less than five on an idle machine"
            )
            assert "go on from the last checkpoint" in process.stderr.read()
        finally:
            process.kill()
    assert steps_in(folder)[-1] == 9
    assert train(quadratic(), folder).read_bytes() == unbroken


@pytest.mark.parametrize("field, value", [("learning_rate", 0.2), ("steps", 80), ("sizes", (1, 3))])
def test_other_settings_in_the_same_folder_are_refused(tmp_path, field, value):
    with pytest.raises(Stop):
        train(stopped_at(1, raising), tmp_path / "run")
    with pytest.raises(TrainingError) as error:
        train(quadratic(dataclasses.replace(Config(), **{field: value})), tmp_path / "run")
    text = one_line(error)
    listed = list(value) if isinstance(value, tuple) else value
    assert f"config.{field}" in text and repr(listed) in text and str(tmp_path / "run") in text


def test_a_run_folder_with_retired_settings_goes_on_where_they_were_off(tmp_path, monkeypatch):
    monkeypatch.setitem(weights.RETIRED, "Config", {"together": False})
    train(quadratic(Config(steps=3)), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    described = json.loads(path.read_text())
    for value in (False, True):
        described["config"]["together"] = value
        path.write_text(json.dumps(described))
        if not value:
            train(quadratic(Config(steps=3)), tmp_path / "run")
    with pytest.raises(TrainingError, match="together = True"):
        train(quadratic(Config(steps=3)), tmp_path / "run")


def test_a_run_folder_that_is_older_than_a_setting_goes_on_with_its_default(tmp_path):
    train(quadratic(Config(steps=3)), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    described = json.loads(path.read_text())
    for name in ("sizes", "ema"):
        del described["config"][name]
    path.write_text(json.dumps(described))
    train(quadratic(Config(steps=3)), tmp_path / "run")
    with pytest.raises(TrainingError, match=r"config.sizes = \[1, 2\], now it is \[1, 3\]"):
        train(quadratic(Config(steps=3, sizes=(1, 3))), tmp_path / "run")


@dataclasses.dataclass(frozen=True)
class Rounding(Config):
    products: str = "float32"


def test_products_are_of_bfloat16_if_the_settings_say_so(tmp_path):
    """A mean over 64 numbers that bfloat16 cannot hold, as a product: where it is learned, and only
    there, digits are missing."""
    some = np.float32(1 + np.arange(256).reshape(4, 64) / 2**12)

    def loss(params, data, key, variant):
        found = data["some"] @ jnp.eye(64) * params["at"]
        return ((found - data["some"]) ** 2).sum() * 2**20, {}

    learned = {}
    for products in ("float32", "bfloat16"):
        task = quadratic(
            Rounding(steps=1, products=products),
            init=lambda key: {"at": jnp.float32(1.0)},
            loss=loss,
            data={"some": some},
            evaluate=lambda params: {},
        )
        train(task, tmp_path / products)
        lines = (tmp_path / products / "metrics.jsonl").read_text().splitlines()
        learned[products] = json.loads(lines[0])["loss"]
    assert learned["float32"] < 1 < learned["bfloat16"]


def two_parameters(name: str, variant) -> Task:
    """A task whose first parameter has a name that sorts before or after the other's."""

    def loss(params, data, key, variant):
        noise = 0.1 * jax.random.normal(key, (3,))
        value = ((params[name] + params["bias"] - data["wanted"] - noise) ** 2).sum()
        return value, {}

    init = lambda key: {name: jax.random.normal(key, (3,)), "bias": jnp.zeros(3)}
    return quadratic(init=init, loss=loss, evaluate=lambda params: {}, variant=variant)


def test_a_checkpoint_with_earlier_names_goes_on(tmp_path, monkeypatch, capsys):
    """Renamed parameters have another order, which the checkpoint's checksum goes by."""
    monkeypatch.setattr(weights, "RENAMED_PARAMETERS", {"told": "aware"})
    whole = train(two_parameters("aware", lambda group: 0), tmp_path / "whole").read_bytes()
    calls = iter(range(10_000))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(weights, "RENAMED_PARAMETERS", {})
        crash = lambda group: raising() if next(calls) == 7 else 0
        train(two_parameters("told", crash), tmp_path / "run", checkpoint_seconds=EACH_STEP)
    steps = []
    count = lambda group: steps.append(group) or 0
    found = train(two_parameters("aware", count), tmp_path / "run").read_bytes()
    assert found == whole and len(steps) == 53
    assert "cannot be read" not in capsys.readouterr().err


def test_a_run_folder_with_earlier_names_of_settings_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(weights.RENAMED, "Config", {"extent": "sizes"})
    train(quadratic(Config(steps=3)), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    described = json.loads(path.read_text())
    for value in ([1, 2], [1, 3]):
        described["config"].pop("sizes", None)
        described["config"]["extent"] = value
        path.write_text(json.dumps(described))
        if value == [1, 2]:
            train(quadratic(Config(steps=3)), tmp_path / "run")
    with pytest.raises(TrainingError, match=r"config.sizes = \[1, 3\]"):
        train(quadratic(Config(steps=3)), tmp_path / "run")


def test_seconds_go_on_from_where_a_run_stood(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text(
        "".join(
            json.dumps(line) + "\n"
            for line in (
                {"step": 2, "loss": 1.0, "seconds": 400.0},
                {"step": 2, "val/error": 0.5, "seconds": 500.0},
                {"step": 9, "loss": 1.0, "seconds": 700.0},
            )
        )
    )
    metrics.MetricsFile(log, 2).write(step=3, loss=0.5)
    found = metrics.history(log)
    assert 500 <= found.seconds < 510 and found.held_out == {"error": 0.5}
    assert 500 <= json.loads(log.read_text().splitlines()[-1])["seconds"] < 510


def test_other_data_another_seed_or_stage_are_refused(tmp_path):
    with pytest.raises(Stop):
        train(stopped_at(1, raising), tmp_path / "run")
    for task, seed, name in (
        (quadratic(provenance={"data": {"a.tar": "1" * 64}}), 0, "data.a.tar"),
        (quadratic(), 1, "seed"),
        (quadratic(name="other"), 0, "stage"),
        (quadratic(provenance={}), 0, "data.a.tar"),
    ):
        with pytest.raises(TrainingError) as error:
            train(task, tmp_path / "run", seed)
        assert name in one_line(error)


def test_a_damaged_config_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"stage": ')
    with pytest.raises(TrainingError) as error:
        train(quadratic(), tmp_path)
    assert "config.json" in one_line(error)


@pytest.mark.parametrize("often", [False, True])
def test_a_loss_that_is_not_finite_ends_the_run_without_weights(tmp_path, often):
    folder = tmp_path / "run"

    def loss(params, data, key, variant):
        # Fine at first, then the data is NaN.
        return (params["at"][0] * jnp.where(variant > 0, jnp.nan, 1.0)).sum(), {}

    for _ in range(2):  # a second try must not take NaN weights for a finished run
        with pytest.raises(TrainingError) as error:
            train(
                quadratic(loss=loss, variant=lambda group: int(group >= 1)),
                folder,
                checkpoint_seconds=EACH_STEP if often else 90,
            )
        assert "not finite" in one_line(error) and str(folder) in str(error.value)
        assert not (folder / "weights").exists()
        assert steps_in(folder) == ([9, 10] if often else [])


def test_a_loss_that_is_not_finite_can_be_seen_again(tmp_path):
    """failure.json has the step and its random key; with the checkpoint before it, that is all the
    step was made of."""
    folder = tmp_path / "run"

    def loss(params, data, key, variant):
        batch = jax.random.normal(key, (3,))
        return jnp.where(jax.random.uniform(key) < 0.05, jnp.inf, 1.0) * (
            (params["at"][0] - batch) ** 2
        ).sum(), {"first": batch[0]}

    task = quadratic(Config(steps=400), loss=loss)
    with pytest.raises(TrainingError) as error:
        train(task, folder, checkpoint_seconds=EACH_STEP)
    found = json.loads((folder / "failure.json").read_text())
    assert f"step {found['step']} (seed 0, key {found['key']}" in one_line(error)
    assert steps_in(folder)[-1] == found["step"] - 1 == found["last good checkpoint"]
    key = jax.random.wrap_key_data(jnp.array(found["key"], jnp.uint32))
    assert not np.isfinite(loss({"at": {0: jnp.zeros(3)}}, None, key, 0)[0])
    assert float(found["losses up to where it was noticed"][-1]["first"]) == pytest.approx(
        float(jax.random.normal(key, (3,))[0]), rel=1e-5
    )
    with pytest.raises(TrainingError) as again:
        train(task, folder)
    assert str(again.value) == str(error.value)


def test_a_run_that_diverges_is_stopped(tmp_path):
    away = quadratic(Config(steps=2000, ema=0.0), optimizer=optax.sgd(-0.01))
    with pytest.raises(TrainingError) as error:
        train(away, tmp_path / "run")
    assert "diverged" in one_line(error) and not (tmp_path / "run" / "weights").exists()
    assert 100 <= json.loads((tmp_path / "run" / "failure.json").read_text())["step"] <= 300


def test_however_often_it_is_saved_a_run_that_diverges_is_stopped(tmp_path):
    with pytest.raises(Stop):
        train(stopped_at(3, raising), tmp_path / "run", checkpoint_seconds=EACH_STEP)
    huge = lambda params, data, key, variant: (params["at"][0].sum() * 0 + 1e6, {})
    with pytest.raises(TrainingError) as error:
        train(quadratic(loss=huge), tmp_path / "run", checkpoint_seconds=EACH_STEP)
    assert (
        "diverged" in one_line(error)
        and json.loads((tmp_path / "run" / "failure.json").read_text())["step"] == 3 + loop.WINDOW
    )


def test_weights_that_turned_nan_in_the_last_step_are_not_exported(tmp_path):
    def loss(params, data, key, variant):
        return jnp.sqrt(params["at"][0] * 0.0).sum(), {}  # 0, with a gradient of 0 * inf

    with pytest.raises(TrainingError) as error:
        train(quadratic(Config(steps=1, warmup=0), loss=loss), tmp_path / "run")
    assert str(tmp_path) in one_line(error) and not (tmp_path / "run" / "weights").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(TrainingError) as error:
            train(quadratic(), folder)
        assert str(folder) in one_line(error)
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(TrainingError) as error:
        train(quadratic(), tmp_path / "run")
    assert re.search(r"run: cannot write .*Permission denied", one_line(error))


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o500)
    with pytest.raises(TrainingError) as error:
        train(quadratic(), tmp_path / "runs" / "run")
    assert "cannot write" in one_line(error)


def test_a_run_folder_that_became_unwritable_is_one_line(tmp_path):
    with pytest.raises(Stop):
        train(stopped_at(7, raising), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").write_text("in the way")
    with pytest.raises(TrainingError) as error:
        train(quadratic(), tmp_path / "run")
    assert str(tmp_path / "run") in one_line(error)


def test_a_disk_that_fails_in_the_middle_is_one_line_and_the_run_goes_on_later(tmp_path, unbroken):
    folder, kept = tmp_path / "run", tmp_path / "kept"

    def unplug():
        (folder / "checkpoints").rename(kept)
        (folder / "checkpoints").write_text("in the way")
        return 0

    with pytest.raises(TrainingError) as error:
        train(stopped_at(4, unplug), folder, checkpoint_seconds=EACH_STEP)
    assert str(folder) in one_line(error)
    (folder / "checkpoints").unlink()
    kept.rename(folder / "checkpoints")
    assert train(quadratic(), folder).read_bytes() == unbroken


def test_a_finished_run_is_not_trained_again(tmp_path, capsys):
    path = train(quadratic(), tmp_path / "run")
    before = path.stat().st_mtime_ns
    assert train(quadratic(init=lambda key: raising()), tmp_path / "run") == path
    assert path.stat().st_mtime_ns == before and "already trained" in capsys.readouterr().out


def test_warm_up_and_cosine_decay_end_at_one_percent():
    """The size of an Adam step under a constant gradient is the learning rate."""
    optimizer = optimizers.adamw(
        SimpleNamespace(warmup=5, steps=50, learning_rate=0.1, weight_decay=0.0)
    )
    params = jnp.zeros(1)
    _, steps = jax.lax.scan(
        lambda state, _: optimizer.update(jnp.ones(1), state, params)[::-1],
        optimizer.init(params),
        None,
        51,
    )
    steps = -np.asarray(steps)[:, 0]
    np.testing.assert_allclose(steps[:6], np.arange(6) / 50, atol=1e-4)
    np.testing.assert_allclose(steps[-1], 0.001, rtol=1e-2)
    assert (np.diff(steps[5:]) <= 1e-6).all()


def test_weights_decay_by_their_share_of_the_learning_rate():
    """Without a gradient a step is learning rate x decay x weight; the paper's plain Adam has no
    decay."""
    for warmup, share in ((5, 0.3), (-1, 0.0)):
        optimizer = optimizers.adamw(
            SimpleNamespace(warmup=warmup, steps=50, learning_rate=0.1, weight_decay=0.3)
        )
        params = jnp.array([2.0, -4.0])
        state = optimizer.init(params)
        for _ in range(6):  # the last of them at the full learning rate
            update, state = optimizer.update(jnp.zeros(2), state, params)
        np.testing.assert_allclose(update, -0.1 * share * params, rtol=1e-5)


def test_a_tasks_weight_decay_is_the_one_that_trains_it(tmp_path):
    still = lambda params, data, key, variant: (params["at"][0].sum() * 0.0, {})
    sizes = []
    for decay in (0.0, 0.5):
        task = quadratic(
            Config(steps=20, ema=0.0, weight_decay=decay),
            loss=still,
            init=lambda key: {"at": {0: jnp.ones(3)}},
        )
        sizes.append(weights.load(train(task, tmp_path / str(decay)))[0]["at"][0][0])
    assert sizes[0] == 1 and 0.4 < sizes[1] < 0.7  # a loss of nothing: about (1 - 0.05)^11


if __name__ == "__main__":
    train(quadratic(), Path(sys.argv[1]), checkpoint_seconds=EACH_STEP)


def test_what_stops_one_process_stops_all(monkeypatch):
    def stop():
        raise TrainingError("mine")

    monkeypatch.setattr(checkpoints.devices, "agreed", lambda *flags: [True])
    with pytest.raises(TrainingError, match="mine"):
        checkpoints.in_all_processes(stop)
    with pytest.raises(TrainingError, match="another process cannot"):
        checkpoints.in_all_processes(lambda: None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every folder's name is text")
def test_a_folder_whose_name_is_no_text_is_one_line(tmp_path):
    with pytest.raises(TrainingError, match="name is text.*--runs") as caught:
        train(quadratic(), tmp_path / os.fsdecode(b"\x8e"))
    assert "\n" not in str(caught.value) and str(caught.value).isascii()
    train(quadratic(), tmp_path / "山田 太郎")
