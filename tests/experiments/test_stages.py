"""The three stage scripts on the sample corpus, as a user runs them, and `draw` with what they
leave."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))[:1]


def environment():
    kept = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
    return kept | {"PYTHONPATH": str(ROOT)}


def script(name, runs, *arguments, check=True):
    """A script's end in this process, where JAX is imported and what scripts share is compiled."""
    words = [name, "--runs", str(runs), *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", words)
        patch.delenv("KUZUSHIJI_DATA", raising=False)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(ROOT / "experiments" / name), run_name="__main__")
    done = subprocess.CompletedProcess(words, ended.value.code, out.getvalue(), err.getvalue())
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The first stage is a program of its own, as a user runs it."""
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, ROOT / "experiments" / "stage1_vae.py", "--runs", folder, "--steps", "12"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    script("stage2_mdn.py", folder, "--steps", 20)
    script("stage3_sketch_rnn.py", folder, "--steps", 12)
    return folder


def test_each_stage_leaves_a_whole_run_folder(runs):
    for stage in ("vae_old", "vae_new", "mdn", "sketch_rnn"):
        described = json.loads((runs / stage / "config.json").read_text())
        assert described["config"]["steps"] in (12, 20) and described["data"]["sample"] is True
        lines = [
            json.loads(line) for line in (runs / stage / "metrics.jsonl").read_text().splitlines()
        ]
        assert any("loss" in line for line in lines) and any(
            k.startswith("val/") for line in lines for k in line
        )
        assert (runs / stage / "weights" / f"{stage}.safetensors").is_file()
    for stage in ("vae_old", "vae_new", "sketch_rnn"):
        for path in (runs / stage / "samples").glob("*.png"):
            Image.open(path).verify()


def test_draw_works_with_the_weights_of_the_run(runs, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "transfer",
            "draw",
            *EXAMPLES,
            "--weights",
            runs,
            "--out",
            tmp_path,
            "--samples",
            "1",
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{EXAMPLES[0].stem}.svg").stat().st_size > 200


@pytest.mark.slow
def test_densities_that_generate_and_the_way_back_are_compared(runs, tmp_path):
    for stage in ("vae_old", "vae_new", "sketch_rnn"):
        (tmp_path / stage).symlink_to(runs / stage)
    script("stage2_mdn.py", tmp_path, "--density", "flow", "--steps", 20)
    script("stage2_mdn.py", tmp_path, "--direction", "back", "--steps", 20)
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "experiments" / "compare_densities.py",
            runs,
            tmp_path,
            "--limit",
            "8",
            "--samples",
            "2",
            "--out",
            tmp_path / "figures.json",
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "P(z_new | z_old)" in done.stdout and "| val: covered |" in done.stdout
    found = json.loads((tmp_path / "figures.json").read_text())
    assert set(found["forward"]) == {str(runs), str(tmp_path)} and set(found["back"]) == {
        str(tmp_path)
    }
    for figures in found["forward"].values():
        assert np.isfinite(list(figures.values())).all()
    painted = subprocess.run(
        [sys.executable, "-m", "transfer", "brush", "山", "--weights", tmp_path, "--out", tmp_path],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert painted.returncode == 0 and (tmp_path / "U+5C71.png").is_file(), painted.stderr


def test_a_setting_of_another_density_is_refused(runs):
    done = script("stage2_mdn.py", runs, "--density", "joint", "--couplings", 2, check=False)
    assert done.returncode == 2 and "--couplings has no effect" in done.stderr


def test_sample_corpus_is_announced_in_one_line(runs):
    done = script("stage2_mdn.py", runs, "--steps", 20)
    assert len([line for line in done.stderr.splitlines() if "sample corpus" in line]) == 1
    assert "already trained" in done.stdout


def test_other_settings_in_the_same_folder_are_refused(runs):
    done = script("stage2_mdn.py", runs, "--steps", 20, "--hidden", 64, check=False)
    assert done.returncode == 2 and "hidden" in done.stderr


def test_missing_stage_is_one_clear_line(tmp_path):
    done = script("stage3_sketch_rnn.py", tmp_path / "empty", check=False)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")], done.stderr


@pytest.mark.parametrize(
    "stage, command, steps",
    [
        pytest.param("vae_old", ["stage1_vae.py", "--domain", "old"], 12, marks=pytest.mark.slow),
        # Long: the same script and loop as the old VAE's.
        pytest.param(
            "vae_new",
            ["stage1_vae.py", "--domain", "new"],
            12,
            marks=pytest.mark.long,
        ),
        pytest.param("mdn", ["stage2_mdn.py"], 20, marks=pytest.mark.long),
        ("sketch_rnn", ["stage3_sketch_rnn.py"], 12),
    ],
)
def test_killed_stage_goes_on_to_the_same_weights(runs, tmp_path, stage, command, steps):
    """SIGKILL in the middle of a stage whose earlier stages exist; the restarted run ends bitwise
    like the unbroken one."""
    for earlier in {"mdn": ("vae_old", "vae_new"), "sketch_rnn": ("vae_old", "vae_new", "mdn")}.get(
        stage, ()
    ):
        (tmp_path / earlier).symlink_to(runs / earlier)
    command = [*command, "--steps", str(steps)]
    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / "experiments" / command[0],
            *command[1:],
            "--runs",
            tmp_path,
            "--checkpoint-seconds",
            "0",
        ],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints, deadline = tmp_path / stage / "checkpoints", time.monotonic() + 200
    while time.monotonic() < deadline and not [
        p for p in checkpoints.glob("*") if p.name.isdigit() and int(p.name) >= 3
    ]:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = tmp_path / stage / "weights" / f"{stage}.safetensors"
    assert not done.exists()
    script(command[0], tmp_path, *command[1:])
    unbroken, resumed = (
        load_file(runs / stage / "weights" / f"{stage}.safetensors"),
        load_file(done),
    )
    assert unbroken.keys() == resumed.keys()
    for name, value in unbroken.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)
