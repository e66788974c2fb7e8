import os
import subprocess
import sys
from pathlib import Path

import pytest
from published_files import small_set

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, cache):
    environment = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"} | {
        "XDG_CACHE_HOME": str(cache)
    }
    return subprocess.run(
        [sys.executable, "-m", "transfer.data", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_prepare_and_info_show_the_counts(tmp_path):
    folder = small_set(tmp_path / "d")
    for command in ("prepare", "info"):
        done = run(command, "--data", folder, cache=tmp_path / "cache")
        assert done.returncode == 0, done.stderr
        assert "kkanji.tar" in done.stdout and "sha256" in done.stdout
        lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
        assert {
            "train 114 images 19 classes",
            "val 19 images 19 classes",
            "test 19 images 19 classes",
            "zero-shot 8 images 1 classes",
        } <= lines


@pytest.mark.parametrize("command", ["prepare", "info"])
def test_errors_are_one_line_and_exit_2(tmp_path, command):
    folder = small_set(tmp_path / "d")
    (folder / "kkanji.tar").write_bytes((folder / "kkanji.tar").read_bytes()[:5000])
    for data in (folder, tmp_path / "none"):
        done = run(command, "--data", data, cache=tmp_path / "cache")
        lines = [x for x in done.stderr.replace("\r", "\n").splitlines() if x.startswith("error: ")]
        assert done.returncode == 2 and len(lines) == 1 and str(data) in lines[0]
        assert "Traceback" not in done.stderr and done.stdout == ""


def test_nothing_named_and_nothing_there_uses_the_sample_and_says_so_in_one_line(tmp_path):
    pytest.importorskip("transfer.data.sample")
    for _ in range(2):
        done = run("info", cache=tmp_path / "cache")
        assert done.returncode == 0, done.stderr
        assert "sample corpus" in done.stdout
        assert len(done.stderr.splitlines()) == 1
        assert (
            "kkanji.tar" in done.stderr
            and "python -m transfer.data prepare --data DIR" in done.stderr
        )
    assert not list((tmp_path / "cache" / "kuzushiji").glob("*tmp*"))
