"""`fuzz.py`, `chaos.py` and `soak.py` as their users run them, with small counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(*arguments, cwd):
    kept = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=kept | {"PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1200,
    )


def script(name, *arguments, cwd):
    return python(ROOT / "tests" / "endurance" / name, *arguments, cwd=cwd)


def test_fuzz_counts_what_it_did(tmp_path):
    done = script("fuzz.py", "--executions", 60, "--target", "path", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "fuzz.json").read_text())
    assert report["total"] == json.loads(done.stdout) and report["total"]["executions"] == 60
    assert (
        report["total"]["taken"] + report["total"]["refused"] == 60 and report["total"]["taken"] > 0
    )
    once = script("fuzz.py", "--target", "path", "--only", 7, cwd=tmp_path)
    assert once.stdout.splitlines()[-1] in ("taken", "refused")


def test_guided_fuzzing_counts_what_it_did_and_finds_a_fault(tmp_path):
    pytest.importorskip("atheris")
    done = script(
        "fuzz_guided.py", "--executions", 100, "--target", "idx", "--out", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "guided.json").read_text())["targets"]["idx"]
    assert found["executions"] >= 100 and found["faults"] == [] and found["edges"][1] > 0
    # A parser that fails on a number that no valid file has.
    program = (
        "import dataclasses, sys\nsys.path[:0] = [sys.argv[1]]\nimport fuzz, fuzz_guided\ndef"
        " run(content, folder):\n    assert not content[:1] == b'7'\nfuzz.TARGETS['path'] ="
        " dataclasses.replace(fuzz.TARGETS['path'], run=run)\nfuzz_guided.inside('path',"
        " ['-runs=20000', '-seed=1', '-artifact_prefix=./'])"
    )
    done = python("-c", program, ROOT / "tests" / "endurance", cwd=tmp_path)
    assert done.returncode != 0 and "AssertionError" in done.stdout + done.stderr
    (crash,) = tmp_path.glob("crash-*")
    assert crash.read_bytes()[:1] == b"7"


@pytest.mark.long
def test_killed_jobs_lose_nothing(tmp_path):
    done = script(
        "chaos.py",
        "--kills",
        2,
        "--in-a-row",
        2,
        "--images",
        1,
        "--steps",
        4,
        "--jobs",
        "vae_new",
        "prepare",
        "download",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "chaos.json").read_text()
    report = json.loads((tmp_path / "chaos.json").read_text())
    assert (
        set(report["jobs"]) == {"vae_new", "prepare", "download"} and report["total"]["kills"] == 6
    )
    assert (
        report["total"]["lost"]
        == report["total"]["half_written"]
        == report["total"]["failures"]
        == 0
    )


@pytest.mark.slow
def test_a_lost_file_is_noticed(tmp_path):
    """The judge of the chaos, on a job that leaves half of its file."""
    program = (
        "import sys, time\nfrom pathlib import Path\nimport numpy as np\nimport chaos\nwrite ="
        ' \'import time; f = open("a.txt", "w"); f.write("one"); f.flush(); time.sleep(1.5);'
        " f.write(\"two\")'\njob = chaos.Job([sys.executable, '-c', write], lambda folder: None,"
        " ('a.txt',))\nwork = Path(sys.argv[1])\nfor name in ('whole', 'trial'): (work /"
        " name).mkdir()\nrunner = chaos.Runner(work / 'cache')\nrunner.run(job, work /"
        " 'whole')\ncount = dict.fromkeys(('kills', 'restarts', 'finished_first', 'half_written',"
        " 'lost', 'results', 'left_over'), 0) | {'failures': []}\nclass Late:\n    def"
        " uniform(self, a, b): return 1.0\nchaos.trial(job, chaos.found(job, work / 'whole'), 2.0,"
        " 1, Late(), runner, work / 'trial', count, lambda: None)\nassert count['kills'] =="
        " count['half_written'] == 1 and count['lost'] == 0, count\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT / "tests" / "endurance",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_soak_reports_memory_and_answers(tmp_path):
    done = script("soak.py", "--drawings", 40, "--out", "a.json", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr  # so few drawings need not be flat
    report = json.loads((tmp_path / "a.json").read_text())
    assert (
        report["wrong"] == []
        and set(report["by status"]) == {"200"}
        and len(report["memory (s, MB)"]) > 0
    )
    done = script(
        "soak.py",
        "--minutes",
        0.3,
        "--every",
        1,
        "--clients",
        2,
        "--growth",
        2000,
        "--out",
        "b.json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    assert (
        report["wrong"] == []
        and report["by status"]["200"] > 0
        and sum(report["by status"].values()) > report["by status"]["200"]
    )
