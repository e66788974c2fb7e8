"""The benchmark of drawing runs, whatever time it takes."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_of_drawing_is_there(tmp_path):
    """With the shipped weights and the sample corpus; what is measured is not judged."""
    few = ["--repeats", "1", "--seconds", "0.01", "--images", "3", "--files", "9", "--no-twin"]
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--rows", "draw", "throughput", "reading", "files"]
        + few,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
        | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    said = [row[0] for row in rows]
    for words in ("ten drawings of one image", "3 images, 10", "one image read", "3 images read"):
        assert any(words in text for text in said), words
    assert sum("picture files read" in text for text in said) == len({1, os.cpu_count()})
    for row in rows:
        assert float(row[1].split()[0]) > 0 and float(row[5].replace(",", "")) > 10
        assert row[6] == "– |"  # no earlier checkout


def test_a_line_tells_how_the_earlier_checkout_compares(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import drawing

    rates = {"ours": [4.0, 4.0, 4.0], "earlier": [2.0, 1.0, 4.0]}
    line = drawing._line("x", rates, {"ours": 10.0, "earlier": 2000.0}, "–", 2, "– | –")
    assert line == "| x | 0.25 (0.25–0.25) | – | – | – | 10 | **2.00** (1.00–4.00); 2,000 MB |"


def test_a_checkout_that_cannot_do_a_row_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import drawing

    (tmp_path / "drawing.py").write_text("def ours(weights):\n    return id\n", "utf-8")
    chosen = argparse.Namespace(beside=tmp_path)
    assert drawing._earlier(chosen, 0.0, "read_one", "") == {}


def test_a_folder_that_is_no_checkout_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--beside", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 2
    assert "no benchmarks there" in done.stderr.splitlines()[-1]
