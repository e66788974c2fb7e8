"""`kuzushiji-transfer evaluate` and `train_judges.py` as a user runs them, on the sample corpus."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scipy import stats

from transfer import cli

ROOT = Path(__file__).parents[2]


def python(*arguments):
    kept = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )


def evaluate(*arguments):
    return python("-m", "transfer", "evaluate", *arguments)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The shipped weights and judges on the sample corpus, with nothing prepared."""
    out, begin = tmp_path_factory.mktemp("evaluation"), time.time()
    done = evaluate("--out", out, "--limit", 24, "--samples", 4)
    assert done.returncode == 0, done.stderr
    return out, done, time.time() - begin


def test_sample_evaluation_is_whole_and_quick(report):
    out, done, seconds = report
    assert seconds < 120, "a minute on two idle cores"
    assert "sample corpus" in done.stderr and str(out / "report.md") in done.stdout
    summary = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert summary["about"]["images"] == 24 and summary["about"]["sample_corpus"] is True
    reader = summary["about"]["reader"]
    for metric in (
        f"{reader}: true glyph, top-1",
        f"{reader}: single drawing, top-1",
        f"{reader}: best of 4, top-1",
        "candidates, top-1",
        "HOG: predicted pixels, top-1",
        "stroke count exact",
        "stroke order agreement",
        "AIoU",
        "NLL per stroke",
        "reconstruction from z_old, nats",
        "1-NN in z_old of the plain image, same class",
    ):
        mean, low, high, n = summary["metrics"][metric]
        # An order needs two strokes that match.
        assert n == 24 or metric == "stroke order agreement" and n > 20, metric
        assert low < mean < high or mean == low == high == 1, metric
        # Of what is right or wrong of each image the interval is that of a share of 24.
        if "top-1" in metric and "single" not in metric or metric == "stroke count exact":
            assert mean * n == pytest.approx(round(mean * n), abs=1e-3), metric
            assert [low * n, high * n] == pytest.approx(
                stats.binom.ppf([0.025, 0.975], n, mean), abs=1.01
            ), metric
    # The sample's glyphs were drawn for this project: another hand than the recogniser has learned
    # from.
    assert summary["metrics"][f"{reader}: true glyph, top-1"][0] > 0.7
    assert 0 <= summary["overall"]["expected calibration error"][0] <= 1
    for name in (
        "figure.png",
        "figure.svg",
        "most_certain.png",
        "reliability.png",
        "interpolation.png",
    ):
        assert (out / name).stat().st_size > 1000


def test_bad_input_is_one_clear_line(tmp_path, monkeypatch, capsys):
    """In this process: the program's own exit code is test_cli's."""
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    for arguments, said in (
        (("--weights", tmp_path / "none"), "vae_old"),
        (("--judges", tmp_path), "recogniser"),
        (("--data", tmp_path / "none"), "no such folder"),
        (("--limit", 0), "--limit"),
    ):
        code = cli.main(["evaluate", "--out", str(tmp_path / "out"), *map(str, arguments)])
        lines = capsys.readouterr().err.splitlines()
        assert code == 2 and said in lines[-1] and not any("Traceback" in line for line in lines)
    assert not list((tmp_path / "out").iterdir())


def test_choices_stand_beside_each_other(report, tmp_path):
    script, (out, _, _) = ROOT / "experiments" / "compare_choices.py", report
    place = tmp_path / "shipped" / "val"
    place.mkdir(parents=True)
    measured = json.loads((out / "evaluation.json").read_text("utf-8"))
    (place / "evaluation.json").write_text(json.dumps(measured), "utf-8")
    done = python(script, tmp_path / "shipped", "--figure", tmp_path / "choices.svg")
    assert done.returncode == 0, done.stderr
    head, _, row = done.stdout.splitlines()
    cells = dict(zip(head.split("|"), row.split("|")))
    assert cells[" candidates "] == f" {measured['metrics']['candidates, top-1'][0]:.3f} "
    kl = measured["metrics"]["KL of z_old, nats"][0]
    assert cells[" KL, nats "] == f" {kl:,.0f} " and cells[" zero-shot, drawing "] == " – "
    svg = (tmp_path / "choices.svg").read_text("utf-8")
    assert svg.count('class="kanji"') == svg.count("<g ") == 12 and svg.count("<path") > 40
    assert "<image" not in svg, "no image of the data set"

    (place / "evaluation.json").write_text("[]", "utf-8")
    done = python(script, tmp_path / "shipped")
    assert done.returncode == 2 and str(place) in done.stderr, done.stderr
    done = python(script, place)
    assert done.returncode == 2 and "kuzushiji-transfer evaluate --out" in done.stderr


@pytest.mark.long
def test_judges_train_from_nothing(tmp_path):
    for which in ("recogniser", "baseline"):
        done = python(
            ROOT / "experiments" / "train_judges.py",
            "--which",
            which,
            "--runs",
            tmp_path,
            "--steps",
            6,
            "--views",
            1,
        )
        assert done.returncode == 0, done.stderr
        described = json.loads((tmp_path / which / "config.json").read_text())
        assert described["config"]["steps"] == 6 and described["data"]["sample"] is True
        assert (tmp_path / which / "weights" / f"{which}.safetensors").is_file()
    done = evaluate("--judges", tmp_path, "--out", tmp_path / "out", "--limit", 6, "--samples", 2)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert (
        summary["about"]["reader"] == "recogniser"
        and summary["metrics"]["classify, then look up: answer, top-1"][3] == 6
    )
