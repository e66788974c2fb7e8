"""The comparison with scikit-learn's nearest neighbours, small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_same_answers_as_scikit_learn(tmp_path):
    pytest.importorskip("sklearn")
    subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "neighbours.py",
            "--learned",
            "3000",
            "--queries",
            "70",
            "--repeats",
            "1",
            "--out",
            tmp_path / "found.json",
        ],
        env={k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
        | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["learned"] == 3000 and found["queries"] == 70
    assert set(found["the same answer, share"].values()) == {1.0}
    assert all(len(values) == 1 and values[0] > 0 for values in found["seconds"].values())
