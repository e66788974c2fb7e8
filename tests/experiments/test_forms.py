"""Readings that are other forms of the labelled kanji."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "experiments" / "forms.py", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )


def test_place_of_the_first_that_is_right(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    from forms import ranks

    old = {"広": "廣"}
    rows, truth = [["廣", "広"], ["庁", "廣"], ["庁", "店"]], ["広", "広", "広"]
    assert ranks(rows, truth, lambda a, b: a == b).tolist() == [1, 2, 2]
    assert ranks(rows, truth, lambda a, b: old.get(a, a) == old.get(b, b)).tolist() == [0, 1, 2]


@pytest.mark.skipif(find_spec("opencc") is None, reason="OpenCC is not installed")
def test_never_fewer_right_with_other_forms():
    said = run()
    assert said.returncode == 0, said.stderr
    strict, loose = (
        [float(cell.split()[0]) for cell in line.split("|")[2:4]]
        for line in said.stdout.splitlines()[-2:]
    )
    assert all(0 <= a <= b <= 1 for a, b in zip(strict, loose)) and strict[0] <= strict[1]


def test_bad_folders_are_one_line(tmp_path):
    said = run("--data", str(tmp_path / "nothing"), "--weights", str(tmp_path))
    assert (
        said.returncode == 2 and said.stderr.startswith("error: ") and said.stderr.count("\n") == 1
    )
