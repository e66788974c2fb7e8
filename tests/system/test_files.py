"""transfer.system.files: files that appear whole or not at all, and what killed writers leave."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.system.files import atomic_write, sweep

ROOT = Path(__file__).parents[2]
WRITE = (
    "import sys, time\nfrom transfer.system.files import atomic_write\nwith"
    " atomic_write(sys.argv[1]) as part:\n    part.write_text('half')\n    print('half',"
    " flush=True)\n    time.sleep(600)"
)


def test_a_file_takes_its_name_at_the_end_and_a_failure_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as part:
        part.write_text("first")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_text("second")
        1 / 0
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.txt"]


def test_the_temporary_file_lies_beside_it_and_no_two_have_one_name(tmp_path):
    with atomic_write(str(tmp_path / "a.txt")) as one, atomic_write(tmp_path / "a.txt") as two:
        assert one != two and one.parent == two.parent == tmp_path
        for part in (one, two):
            assert part.name.startswith(".a.txt.") and part.name.endswith(".tmp")
            assert f"-{os.getpid()}-" in part.name
            part.write_text(part.name)
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == one.name  # the last to end
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "b.txt"):
        pass  # nothing is written


def test_a_name_of_almost_the_length_that_file_systems_allow(tmp_path):
    with atomic_write(tmp_path / ("a" * 210)) as part:
        part.touch()
    assert os.listdir(tmp_path) == ["a" * 210]


def test_sweeping_takes_what_killed_writers_left_and_nothing_else(tmp_path):
    kept = [".hidden.tmp", ".a.txt.0-1-2.tmp", "a.tmp", ".a.0123456789abcdef0123456789abcdef.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path / "b.txt")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout.readline() == "half\n"
            sweep(tmp_path)  # it is at work
            assert len(os.listdir(tmp_path)) == len(kept) + 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    with atomic_write(tmp_path / "c.txt") as part:
        part.touch()
        sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "c.txt"])
    sweep(tmp_path / "missing")


def test_a_living_writer_on_another_host_keeps_its_file(tmp_path):
    """In a folder that hosts share: that no process of its number runs here says nothing."""
    elsewhere = "import platform\nplatform.node = lambda: 'elsewhere'\n" + WRITE
    for script, left in ((elsewhere, 1), (WRITE, 0)):
        folder = tmp_path / str(left)
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder / "b.txt")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            assert process.stdout.readline() == "half\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(os.listdir(folder)) == 1
        sweep(folder)
        assert len(os.listdir(folder)) == left
