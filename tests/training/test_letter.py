"""What a training run writes down, keeps and says, to the letter."""

import dataclasses
import errno
import hashlib
import json
import types
import typing
from collections import deque
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transfer.training import checkpoints, loop, metrics, optimizers, options, weights
from transfer.training.errors import TrainingError
from transfer.training.weights import WeightsError


def said(kind, call, *given, **named) -> str:
    with pytest.raises(kind) as error:
        call(*given, **named)
    return str(error.value)


# metrics.jsonl ------------------------------------------------------------------------------------


def written(path, *lines):
    path.write_text("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines))
    return path


def test_seconds_of_all_starts_are_added_and_the_last_measurement_is_told(tmp_path):
    path = written(
        tmp_path / "metrics.jsonl",
        {"step": 1, "seconds": 2.0, "val/a": 1.0},
        {"step": 2, "seconds": 5.5, "loss": 3.0},
        {"step": 3, "seconds": 5.5},
        {"step": 4, "seconds": 1.5, "val/a": 2.0, "val/b": 3.0, "loss": 1.0},
        "not json\n",
        "[1]\n",
        "[" * 100_000 + "\n",
        '{"step": 5}\n',
        '{"seconds": "x"}\n',
        {"step": 6, "seconds": 2.0},
        '{"step": 7, "sec',
    )
    found = metrics.history(path)
    assert found.seconds == 5.5 + 2.0 and found.held_out == {"a": 2.0, "b": 3.0}
    assert metrics.history(written(tmp_path / "none", "")) == metrics.History(0.0, {})


def test_lines_beyond_the_step_that_a_run_goes_on_from_are_dropped(tmp_path, monkeypatch):
    lines = [
        {"step": 10, "val/a": 1.0, "seconds": 3.0},
        {"step": 20, "loss": 4.0, "seconds": 7.0},
        {"step": 30, "loss": 2.0, "seconds": 8.0},
        {"step": 30, "val/a": 0.5, "seconds": 8.5},
        {"step": 31, "loss": 1.0, "val/a": 0.1, "seconds": 9.0},
    ]
    path = written(tmp_path / "metrics.jsonl", *lines, "{]\n", '{"seconds": 1}\n')
    monkeypatch.setattr(metrics.time, "time", lambda: 1000.0)
    found = metrics.MetricsFile(path, 30)
    assert path.read_text() == "".join(json.dumps(line) + "\n" for line in lines[:4])
    assert found.first_loss == 4.0 and found.evaluated == {10, 30}
    monkeypatch.setattr(metrics.time, "time", lambda: 1001.234)
    found.write(step=40, loss=9.0, **{"val/a": 0.25})
    last = json.loads(path.read_text().splitlines()[-1])
    assert last == {"step": 40, "loss": 9.0, "val/a": 0.25, "seconds": 9.73}
    assert found.first_loss == 4.0 and found.evaluated == {10, 30, 40}
    new = metrics.MetricsFile(tmp_path / "new.jsonl", 0)
    assert new.first_loss is None and new.evaluated == set() and new.path.read_text() == ""
    new.write(step=1, loss=0.5)
    assert new.first_loss == 0.5 and json.loads(new.path.read_text())["seconds"] == 0.0


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.devices, "first", lambda: False)
    found = metrics.MetricsFile(tmp_path / "metrics.jsonl", 0)
    found.write(step=5, loss=1.0, **{"val/a": 1.0})
    assert found.first_loss == 1.0 and found.evaluated == {5} and not list(tmp_path.iterdir())


# Learning rates -----------------------------------------------------------------------------------


def rated(**given):
    usual = {"steps": 100, "warmup": 10, "learning_rate": 0.5, "weight_decay": 0.0}
    return types.SimpleNamespace(**usual | given)


def test_the_step_at_which_the_rate_falls():
    until = optimizers.constant_until
    assert [until(100, 10, c) for c in (1.0, 0.5, 0.25)] == [0, 50, 75]
    assert until(100, -1, 0.5) == 0 and until(100, 0, 0.5) == 50
    assert until(100, 40, 0.9) == 40 and until(100, 80, 0.9) == 50  # a warm-up is half at most


def rates_of(*given, **named) -> np.ndarray:
    """The learning rates of the steps 0 to 100."""
    schedule = optimizers.learning_rate(*given, **named)
    return np.asarray(jax.jit(jax.vmap(schedule))(np.arange(101)))


def test_rates_of_both_schedules():
    half = 0.5 * (0.01 + 0.99 / 2)
    plain = {0: 0.0, 5: 0.25, 10: 0.5, 55: half, 100: 0.005}
    found = rates_of(rated())
    assert {n: found[n] for n in plain} == pytest.approx(plain, rel=1e-5)
    late = {0: 0.0, 5: 0.25, 10: 0.5, 59: 0.5, 60: 0.5, 80: half, 100: 0.005}
    found = rates_of(rated(), cooldown=0.4)
    assert {n: found[n] for n in late} == pytest.approx(late, rel=1e-5)
    assert rates_of(rated(warmup=90))[25] == pytest.approx(0.25)


def moved(config, gradients, **given):
    """Where Adam moves a weight of 1 to by these gradients."""
    chosen = optimizers.adamw(config, **given)

    def step(state, gradient):
        weight, moments = state
        update, moments = chosen.update(gradient, moments, weight)
        return (weight + update, moments), weight + update

    start = np.float32(1.0), chosen.init(np.float32(1.0))
    run = jax.jit(lambda gradients: jax.lax.scan(step, start, gradients)[1])
    return run(np.array(gradients, np.float32)).tolist()


def by_hand(rates, gradients, b2, decay):
    weight, mean, square, out = 1.0, 0.0, 0.0, []
    for n, (rate, gradient) in enumerate(zip(rates, gradients), 1):
        mean, square = 0.9 * mean + 0.1 * gradient, b2 * square + (1 - b2) * gradient**2
        step = mean / (1 - 0.9**n) / (np.sqrt(square / (1 - b2**n)) + 1e-8)
        weight -= rate * (step + decay * weight)
        out.append(weight)
    return out


def test_adam_as_in_the_paper_and_adamw_else():
    gradients = [1.0, -3.0, 0.5, 2.0]
    paper = rated(warmup=-1, learning_rate=0.1, weight_decay=0.3)
    wanted = by_hand([0.1] * 4, gradients, 0.999, 0.0)
    assert moved(paper, gradients) == pytest.approx(wanted, rel=1e-4)
    ours = rated(warmup=0, learning_rate=0.1, weight_decay=0.3, steps=1000)
    for cooldown in (1.0, 0.5):
        rates = rates_of(ours, cooldown)
        wanted = by_hand(rates, gradients, 0.99, 0.3)
        assert moved(ours, gradients, cooldown=cooldown) == pytest.approx(wanted, rel=1e-4)


# Weights files ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3
    rate: float = 0.5
    kind: Literal["a", 1] = "a"
    sizes: tuple[int, ...] = (1,)
    two: tuple[int, float] = (1, 1.0)
    maybe: int | None = None
    given: bool = False

    def __post_init__(self):
        if self.steps == 99:
            raise ValueError("--steps 99:\ngive others")


def test_values_fit_their_fields_by_type():
    fits = {
        "steps": ([0, -5, 2**53 - 1, -(2**53) + 1], [True, 1.0, "1", None, 2**53, -(2**53)]),
        "rate": ([0, 1.5, -2], [True, "1", None, float("nan"), float("inf")]),
        "kind": (["a", 1], [True, 1.0, "b"]),
        "sizes": ([[], [1], [1, 2, 3]], [1, [1.5], ["a"], [True]]),
        "two": ([[1, 2.5], [1, 2]], [[1], [1, 2, 3], [1.5, 2], 1]),
        "maybe": ([None, 4], [1.5, "a"]),
        "given": ([True, False], [0, 1, "yes", None]),
    }
    for field, (good, bad) in fits.items():
        for value in good:
            found = getattr(weights.config(Config, {"config": {field: value}}), field)
            assert found == (tuple(value) if isinstance(value, list) else value)
        for value in bad:
            words = said(WeightsError, weights.config, Config, {"config": {field: value}})
            shown = tuple(value) if isinstance(value, list) else value
            assert words == (
                f"a weights file says {field} = {str(shown)!r}, which Config cannot have; restore"
                " or retrain it"
            )


def test_settings_that_a_file_should_not_have(monkeypatch):
    words = said(WeightsError, weights.config, Config, {"config": {"n" * 99: "v" * 99}})
    assert words == (
        f"a weights file says {'n' * 80} = {'v' * 80!r}, which this version does not know; use the"
        " version that trained it, or retrain it"
    )
    words = said(WeightsError, weights.config, Config, {"config": {"kind": "v" * 99}})
    assert f" = {'v' * 80!r}, which" in words
    monkeypatch.setitem(weights.RETIRED, "Config", {"old": 0, "any": weights.ANY})
    monkeypatch.setitem(weights.RENAMED, "Config", {"earlier": "steps"})
    assert weights.config(Config, {"config": {"old": 0, "any": 7}}) == Config()
    words = said(WeightsError, weights.config, Config, {"config": {"old": 1}})
    assert words == (
        "a weights file says old = '1', which this version no longer has; use the version that"
        " trained it, or retrain it"
    )
    assert weights.config(Config, {"config": {"earlier": 8}}).steps == 8
    words = said(WeightsError, weights.config, Config, {"config": {"earlier": 8, "steps": 9}})
    assert words.startswith("a weights file says earlier = '8', which this version does not know")
    words = said(WeightsError, weights.config, Config, {"config": {"steps": 99}})
    assert words == (
        "a weights file has settings that Config cannot have (--steps 99: give others); restore or"
        " retrain it"
    )


def test_trees_have_other_names_inside_tuples_too():
    names = {"old": "new"}
    pair = types.SimpleNamespace
    assert weights.renamed({"old": [1], "x": ({"old": 2}, 3)}, names) == {
        "new": [1],
        "x": ({"new": 2}, 3),
    }

    class Both(typing.NamedTuple):
        a: dict
        b: int

    found = weights.renamed(Both({"old": 1}, 2), names)
    assert isinstance(found, Both) and found == Both({"new": 1}, 2)
    assert weights.renamed(pair, names) is pair


def test_where_weights_are_found_and_what_is_said_where_not(tmp_path):
    words = said(WeightsError, weights.find, tmp_path, "vae")
    assert words == (
        f"{tmp_path}: holds neither vae.safetensors nor vae/weights/vae.safetensors; train that"
        " stage first or give the folder that has it"
    )
    assert not weights.exists(tmp_path, "vae")
    deep = tmp_path / "vae" / "weights" / "vae.safetensors"
    flat = tmp_path / "vae.safetensors"
    flat.write_bytes(b"y")
    assert weights.exists(tmp_path, "vae") and weights.find(str(tmp_path), "vae") == flat
    deep.mkdir(parents=True)  # no file
    assert weights.find(tmp_path, "vae") == flat
    deep.rmdir()
    deep.write_bytes(b"x")
    assert weights.find(tmp_path, "vae") == deep
    assert weights.checksum(flat) == hashlib.sha256(b"y").hexdigest()
    words = said(WeightsError, weights.load, tmp_path / "missing")
    assert words == (
        f"{tmp_path / 'missing'}: no such weights file; train the stage that makes it, or give"
        " another folder"
    )
    words = said(WeightsError, weights.load, flat)
    assert words.startswith(f"{flat}: not a weights file of this project (")
    assert words.endswith("); restore or retrain it")


def test_int8_has_a_scale_for_each_column_of_what_has_two_axes(tmp_path):
    from safetensors.numpy import load_file

    matrix = np.array([[1.0, -254.0, 0.0], [-0.5, 127.0, 0.0]], np.float32)
    params = {"m": matrix, "deep": {3: np.stack([matrix, 2 * matrix])}, "v": matrix[0]}
    arrays = {"kept": matrix, "whole": np.arange(3)}
    weights.save(tmp_path / "new" / "a.safetensors", params, arrays, {"config": {}}, np.int8)
    stored = load_file(tmp_path / "new" / "a.safetensors")
    assert {k: str(v.dtype) for k, v in stored.items()} == {
        "params/m": "int8",
        "params/deep/3": "int8",
        "params/v": "float16",
        "arrays/kept": "float16",
        "arrays/whole": "int64",
        "scales/params/m": "float16",
        "scales/params/deep/3": "float16",
    }
    assert stored["params/m"].tolist() == [[127, -127, 0], [-64, 64, 0]]  # halves to even
    np.testing.assert_allclose(stored["scales/params/m"][:2], [1 / 127, 2.0], rtol=1e-3)
    loaded, kept, described = weights.load(tmp_path / "new" / "a.safetensors")
    assert loaded["m"].dtype == loaded["v"].dtype == kept["kept"].dtype == np.float32
    np.testing.assert_allclose(loaded["m"], matrix, atol=1.01)
    np.testing.assert_allclose(loaded["deep"][3][1], 2 * matrix, atol=2.02)
    assert kept["whole"].dtype == np.int64 and described == {"config": {}}


def test_names_that_do_not_fit_together_are_refused():
    one = np.zeros((2, 2), np.float32)
    trees = weights._trees
    assert trees({"params/a/0/b": one, "arrays/x/y": one})[0].keys() == {"a"}
    assert list(trees({"params/a/0/b": one})[0]["a"]) == [0]
    assert list(trees({"params/a/1234567890": one})[0]["a"]) == ["1234567890"]
    assert list(trees({"params/a/123456789": one})[0]["a"]) == [123456789]
    assert trees({"arrays/x/y": one})[1].keys() == {"x/y"}
    words = said(ValueError, trees, {"params/a": one, "params/a/b": one})
    assert words == "params/a/b is inside an array"
    words = said(ValueError, trees, {"params/a/01": one, "params/a/1": one})
    assert words == "params/a/1 appears twice"
    assert trees({"params/" + "/".join("a" * 33): one})
    words = said(ValueError, trees, {"params/" + "/".join("a" * 34): one})
    assert words == "parameters nested deeper than 32"
    words = said(ValueError, trees, {"params/a": one, "scales/params/a": one})
    assert words == "the scale of params/a has shape (2, 2)"


# Checkpoints --------------------------------------------------------------------------------------


def test_a_state_has_another_checksum_if_any_array_has_another_type_shape_or_byte():
    one = jnp.arange(6, dtype=jnp.float32)
    digests = {
        checkpoints._digest(state)
        for state in (
            {"a": one},
            {"a": one.reshape(2, 3)},
            {"a": one.view(jnp.int32)},
            {"a": one.at[5].add(1e-6)},
            {"a": one, "b": one},
            {},
        )
    }
    assert len(digests) == 6 and all(len(d) == 64 for d in digests)


def test_a_full_disk_has_its_own_words():
    class Manager:
        def __init__(self, words):
            self.words = words

        def save(self, step, args, custom_metadata):
            raise ValueError(self.words)

    with pytest.raises(OSError) as error:
        checkpoints.save(Manager(f"x os_error_code='{errno.ENOSPC}' y"), 1, {})
    assert error.value.errno == errno.ENOSPC and "No space" in error.value.strerror
    assert said(ValueError, checkpoints.save, Manager("other"), 1, {}) == "other"


def test_what_cannot_be_written_is_said_with_the_systems_words(tmp_path):
    words = str(checkpoints.unwritable(tmp_path, OSError(errno.EROFS, "Read-only file system")))
    assert words == (
        f"{tmp_path}: cannot write the run folder (Read-only file system); free space, or choose"
        " another with --runs"
    )
    assert "(something else)" in str(checkpoints.unwritable(tmp_path, OSError("something else")))
    checkpoints.check_writable(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]
    assert not list((tmp_path / "checkpoints").iterdir())


DESCRIBED = {"stage": "s", "config": {"steps": 100, "warmup": 10, "cooldown": 0.5}, "seed": 0}


def changed(**config):
    return DESCRIBED | {"config": DESCRIBED["config"] | config}


def test_a_folder_keeps_its_settings(tmp_path):
    checkpoints.claim(tmp_path, DESCRIBED, Config)
    text = (tmp_path / "config.json").read_text("utf-8")
    assert text == json.dumps(DESCRIBED, indent=2, sort_keys=True) + "\n"
    checkpoints.claim(tmp_path, DESCRIBED, Config)
    for other, words in (
        (DESCRIBED | {"seed": 1}, "seed = 0, now it is 1"),
        (changed(warmup=11), "config.warmup = 10, now it is 11"),
        (changed(extra="é" * 99), f"config.extra = None, now it is {repr('é' * 99)[:80]}"),
        (DESCRIBED | {"a" * 99: 1}, f"{'a' * 80} = None, now it is 1"),
    ):
        assert said(TrainingError, checkpoints.claim, tmp_path, other, Config) == (
            f"{tmp_path}: this run was started with {words}; use the same settings, another --runs"
            " folder, or delete it"
        )
    assert (tmp_path / "config.json").read_text("utf-8") == text


@pytest.mark.parametrize(
    "reached, steps, may",
    [(0, 200, True), (50, 200, True), (51, 200, False), (40, 80, True), (41, 80, False)],
)
def test_steps_may_change_until_the_rate_falls(tmp_path, reached, steps, may):
    checkpoints.claim(tmp_path, DESCRIBED, Config)
    for name in (str(reached), "7", "99.part"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    if may:
        checkpoints.claim(tmp_path, changed(steps=steps), Config)
        text = (tmp_path / "config.json").read_text("utf-8")
        assert json.loads(text)["config"]["steps"] == steps and text.endswith("}\n")
    else:
        words = said(TrainingError, checkpoints.claim, tmp_path, changed(steps=steps), Config)
        assert f"config.steps = 100, now it is {steps}" in words
    words = said(TrainingError, checkpoints.claim, tmp_path, changed(steps=1, warmup=0), Config)
    assert "this run was started with config.steps" in words


def test_one_process_that_cannot_take_part_stops_all(monkeypatch):
    def fails(what):
        raise TrainingError(what)

    assert said(TrainingError, checkpoints.in_all_processes, fails, "mine") == "mine"
    done = []
    checkpoints.in_all_processes(done.append, 1)
    assert done == [1]
    monkeypatch.setattr(checkpoints.devices, "agreed", lambda *flags: (True,))
    words = said(TrainingError, checkpoints.in_all_processes, done.append, 2)
    assert words == "another process cannot take part; see its message"


# Losses that went wrong ---------------------------------------------------------------------------


def wrong(losses, first=None, recent=None, maxlen=3, params=None, stride=1, reached=60):
    pending = [{"loss": loss} for loss in losses]
    recent = deque(losses if recent is None else recent, maxlen=maxlen)
    return loop._wrong(pending, recent, reached, stride, first, params)


def test_what_is_wrong_with_losses_and_weights_and_since_when():
    inf, nan = float("inf"), float("nan")
    assert wrong([1.0, 2.0, 3.0], 1.0) is None
    assert wrong([1.0, nan, 3.0]) == ("the loss is not finite", 59)
    assert wrong([1.0, 2.0, inf], stride=10) == ("the loss is not finite", 60)
    assert wrong([nan, 2.0, nan], stride=10) == ("the loss is not finite", 40)
    bad = {"a": np.ones(2), "b": {"c": np.array([0.0, nan])}}
    assert wrong([1.0], params=bad) == ("weights are not finite", 60)
    assert wrong([1.0], params={"a": np.ones(2)}) is None
    grown = ("the loss has diverged, from 2 to 22.5", 60)
    assert wrong([0.0, 22.5, 30.0], 2.0) == grown  # more than 2 + 10 * 2
    assert wrong([0.0, 22.0, 30.0], 2.0) is None
    assert wrong([0.0, 10.6, 30.0], 0.5) == ("the loss has diverged, from 0.5 to 10.6", 60)
    assert wrong([0.0, 10.5, 30.0], 0.5) is None  # 0.5 + 10 * 1
    assert wrong([50.0, 50.0, 50.0], -3.0) and wrong([26.0] * 3, -3.0) is None
    assert wrong([50.0, 50.0], 2.0) is None  # not a whole window yet
    assert wrong([50.0] * 3, None) is None  # nothing to compare with


def test_a_failure_is_written_down_and_says_how_to_see_it_again(tmp_path):
    key = jax.random.key(3)
    pending = [{"loss": np.float32(1.5), "part": np.float32("nan")}]
    for stride, checkpoint, where, first in (
        (1, 40, "step 60", 59),
        (10, None, "steps 51 to 60", 50),
    ):
        error = loop._failure(tmp_path, "s", 7, "it is wrong", 60, stride, key, pending, checkpoint)
        numbers = [int(v) for v in np.ravel(jax.random.key_data(jax.random.fold_in(key, first)))]
        assert str(error) == (
            f"{tmp_path}: it is wrong in {where} (seed 7, key {numbers} of its batch, see"
            f" failure.json); the checkpoint of step {checkpoint or 0} is kept, and the same"
            " command comes to it again from there; lower --learning-rate and start in a new folder"
        )
        text = (tmp_path / "failure.json").read_text("utf-8")
        assert json.loads(text) == {
            "stage": "s",
            "wrong": "it is wrong",
            "step": 60,
            "seed": 7,
            "key": numbers,
            "last good checkpoint": checkpoint or 0,
            "losses up to where it was noticed": [{"loss": "1.5", "part": "nan"}],
        }
        assert text.startswith('{\n "stage"') and text.endswith("}\n")
    assert isinstance(
        loop._failure(tmp_path / "gone", "s", 7, "x", 1, 1, key, [], 0), TrainingError
    )


# The command line ---------------------------------------------------------------------------------


def test_settings_that_a_model_has_not_or_does_not_use():
    config = Config()
    assert options.overridden(config, {"steps": 8}) == Config(steps=8)
    words = said(TrainingError, options.overridden, config, {"not_there": 1})
    assert words == (
        "--not-there: Config, which this preset trains, has no such setting; leave it out, or"
        " choose another --preset"
    )
    assert said(TrainingError, options.overridden, config, {"steps": 99}) == (
        "--steps 99:\ngive others"
    )
    unused = frozenset({"rate", "steps"}), frozenset({"rate"})
    options.refuse_unused({"steps": 1, "kind": "a"}, *unused)
    words = said(TrainingError, options.refuse_unused, {"steps": 1, "rate": 1}, *unused)
    assert words == "--rate has no effect with the other settings; leave it out, or change them"


def test_options_without_a_word_are_those_of_the_help_text():
    assert dataclasses.asdict(options.Options()) == {
        "preset": "auto",
        "data": None,
        "runs": None,
        "seed": 0,
        "checkpoint_seconds": 90.0,
        "coordinator": None,
        "num_processes": None,
        "process_id": None,
    }
    assert options._shown((1, 2)) == "1 2" and options._shown(0.5) == "0.5"
    described = options._described(options.Options)
    assert set(described) == {
        "preset",
        "data",
        "runs",
        "checkpoint_seconds",
        "coordinator",
        "num_processes",
        "process_id",
    }
    assert described["num_processes"] == "How many processes train together."
    assert described["data"].count("\n") == 1 and "\n " not in described["data"]
