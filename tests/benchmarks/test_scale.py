"""benchmarks/scale.py runs, on sizes that a test can afford; no time is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import scale


@pytest.mark.parametrize("part, sizes", [("gallery", (300, 600)), ("devices", (2,))])
def test_a_part_is_measured_and_told(part, sizes, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), "--parts", part]
    done = subprocess.run(
        [*command, "--sizes", *map(str, sizes), "--seconds", "0.01", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0
    found = json.loads((tmp_path / "scale.json").read_text("utf-8"))[part]
    assert [size for size, _, _ in found] == [*sizes]
    assert all(seconds > 0 and memory > 50 for _, seconds, memory in found)
    for size, seconds, _ in found:
        assert f"| {scale.PARTS[part][2]} | {size:,} | {seconds:.4g} |" in done.stdout
    assert "<svg" in (tmp_path / "scale.svg").read_text("utf-8")


def test_on_paper_computing_shrinks_with_devices_and_sending_does_not():
    rows = scale.cluster(parameters=10e6, flop=1e12)
    counts, compute, sent, wait, share = zip(*rows)
    assert counts[0] == 1 and sent[0] == wait[0] == 0 and share[0] == 1
    assert compute[0] == pytest.approx(1e3 * 1e12 / (0.4 * 495e12))
    assert [c * n for c, n in zip(compute, counts)] == pytest.approx([compute[0]] * len(counts))
    assert sent[1] == pytest.approx(40)  # each of two sends all its gradients once: half twice
    assert sorted(sent) == [*sent] and max(sent) < 80
    assert sorted(share, reverse=True) == [*share]
