"""The benchmark of drawing runs, whatever time it takes."""

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
        assert float(row[1].split()[0]) > 0 and float(row[-1].strip(" |").replace(",", "")) > 10
