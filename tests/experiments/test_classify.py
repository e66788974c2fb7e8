"""`classify.py` as a user runs it: every model for a few steps on the sample corpus, the report,
going on, bad input."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from transfer.baselines import networks
from transfer.baselines.datasets import load

ROOT = Path(__file__).parents[2]
QUICK = ("--steps", "6", "--batch", "32", "--watched", "32")
RESNET = ("--model", "preact_resnet18", "--width", "4")
# The network with everything is compiled always, the plainer ones not in CI.
seldom = lambda *words: pytest.param(words, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def classify():
    """The script's main() in this process: a program of its own would spend its time importing."""
    spec = importlib.util.spec_from_file_location("classify", ROOT / "experiments" / "classify.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["classify"] = module  # its dataclass looks there for its annotations
    spec.loader.exec_module(module)

    def call(*arguments):
        patch = pytest.MonkeyPatch()
        patch.setattr(sys, "argv", ["classify.py", *map(str, arguments)])
        patch.delenv("KUZUSHIJI_DATA", raising=False)
        try:
            return module.main()
        except SystemExit as stop:  # tyro's, of a bad option
            return stop.code
        finally:
            patch.undo()

    return call


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "knn"),
        ("--model", "logistic", *QUICK),
        ("--model", "mlp", "--width", "16", *QUICK),
        ("--model", "cnn", "--width", "4", *QUICK),
        seldom(*RESNET, *QUICK),
        seldom(*RESNET, "--regulariser", "input_mixup", *QUICK),
        seldom(*RESNET, "--regulariser", "manifold_mixup", *QUICK),
        (*RESNET, "--regulariser", "manifold_mixup", "--preset", "best", *QUICK),
    ],
    ids=lambda a: "-".join(a[1::2][:4]),
)
def test_every_model_trains_on_the_sample_and_enters_the_table(
    classify, runs, monkeypatch, arguments
):
    # Compiling all of it takes longer than all else here; benchmarks/test_baseline_twins.py does.
    monkeypatch.setitem(networks.BLOCKS, "preact_resnet18", (1, 1))
    assert classify("--dataset", "kkanji", "--runs", runs, *arguments) == 0
    given = dict(zip(arguments[::2], arguments[1::2]))
    name = "-".join(
        p for p in (given["--model"], given.get("--regulariser"), given.get("--preset")) if p
    )
    out = runs / "kkanji" / name / "evaluation" / "val"
    summary = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert (
        summary["about"]["steps"] == (0 if name == "knn" else 6)
        and "sample corpus" in summary["about"]["data"]
    )
    estimate, low, high = summary["metrics"]["accuracy"]
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    asked = len(load("kkanji").test_images)
    assert [low * asked, high * asked] == pytest.approx(
        stats.binom.ppf([0.025, 0.975], asked, estimate), abs=2.5
    )
    if name == "knn":
        assert estimate > 0.3  # of 220 classes
    for picture in (
        "embedding.png",
        "confused.png",
        *(() if name == "knn" else ("curves.png", "saliency.png")),
    ):
        Image.open(out / picture).verify()
        assert picture in (out / "report.md").read_text("utf-8")
    table = (runs / "kkanji" / "report-val.md").read_text("utf-8")
    assert all(
        word in table
        for word in (given["--model"], given.get("--regulariser", ""), given.get("--preset", ""))
    )
    assert len(json.loads((runs / "kkanji" / "results-val.json").read_text("utf-8"))) == len(
        list((runs / "kkanji").glob("*/evaluation"))
    )


def test_the_same_command_goes_on_and_ends_at_once(classify, runs, capsys):
    command = (
        "--dataset",
        "kkanji",
        "--runs",
        runs / "again",
        "--model",
        "mlp",
        "--width",
        16,
        *QUICK,
    )
    assert classify(*command) == 0 == classify(*command)
    assert "already trained" in capsys.readouterr().out
    assert classify(*command, "--learning-rate", "0.5") == 2
    assert "learning_rate" in capsys.readouterr().err


def test_a_run_that_was_stopped_ends_as_one_that_was_not(monkeypatch, tmp_path):
    """Batch statistics, shuffled epochs and mixup are functions of (seed, step): a residual network
    goes on to bitwise the same weights."""
    import dataclasses

    from safetensors.numpy import load_file

    from transfer.baselines import datasets, task
    from transfer.training import loop

    monkeypatch.setitem(networks.BLOCKS, "preact_resnet18", (1, 1))
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    data = datasets.load("kkanji")
    data = dataclasses.replace(
        data, train_images=np.array(data.train_images[:50]), train_labels=data.train_labels[:50]
    )
    config = dataclasses.replace(
        task.BaselineConfig.published("preact_resnet18", "manifold_mixup", 64),
        width=4,
        steps=9,
        batch=16,
        watched=8,
    )
    built = task.build(task.fitted(config, data), data)
    whole = load_file(loop.train(built, tmp_path / "whole"))
    calls = []

    def stopping(params):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return built.evaluate(params)

    with pytest.raises(KeyboardInterrupt):
        loop.train(
            dataclasses.replace(built, evaluate=stopping),
            tmp_path / "stopped",
            checkpoint_seconds=0,
        )
    assert not (tmp_path / "stopped" / "weights").exists()
    resumed = load_file(loop.train(built, tmp_path / "stopped"))
    assert whole.keys() == resumed.keys() and any("statistics" in name for name in whole)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--dataset", "k49", "--data", os.devnull), "missing"),
        (("--dataset", "mnist", "--data", "none"), "missing"),
        (("--width", "0"), "--width 0"),
        (("--ema", "1"), "--ema"),
        (("--dropout", "0.2", "1.0"), "--dropout"),
        (("--model", "none"), "none"),
        (("--model", "knn", "--regulariser", "input_mixup"), "--regulariser"),
        (("--learning-rate", "0"), "--learning-rate"),
    ],
)
def test_bad_input_is_said_and_exit_code_2(classify, tmp_path, capsys, arguments, said):
    assert classify("--runs", tmp_path / "runs", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "runs").exists()
