"""transfer.system.locks: one holder at a time, and none after it has died."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.system import locks
from transfer.system.locks import locked, process_runs

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom transfer.system.locks import locked\nwith"
    " locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
)


@pytest.mark.parametrize("name", [".", "file.lock"])
def test_a_lock_goes_with_its_process(tmp_path, name):
    path = tmp_path / name
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            for _ in range(2):
                with pytest.raises(BlockingIOError), locked(path):
                    pass
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    with locked(path):
        with pytest.raises(BlockingIOError), locked(path):
            pass
    assert list(tmp_path.iterdir()) == []


def count(path: Path, often: int, counter) -> None:
    done = 0
    while done < often:
        try:
            with locked(path):
                counter[0] = counter[0] + 1  # not atomic
            done += 1
        except BlockingIOError:
            pass


def test_a_file_that_is_removed_by_its_holder_locks_nobody_in_beside_the_next(tmp_path):
    context = multiprocessing.get_context("spawn")
    counter = context.RawArray("l", 1)
    workers = [
        context.Process(target=count, args=(tmp_path / "a.lock", 200, counter)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert counter[0] == 600 and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_file_that_is_removed_between_open_and_lock_keeps_nobody_out_and_is_made_again(
    tmp_path, monkeypatch
):
    import fcntl

    path, flock, removed = tmp_path / "a.lock", fcntl.flock, []

    def late(handle, how):
        if not removed:  # the holder before lets go just now
            removed.append(path.unlink())
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path):
        assert removed and path.exists()
        with pytest.raises(BlockingIOError), locked(path):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
@pytest.mark.parametrize("name", [".", "a.lock"])
def test_where_the_file_system_knows_no_locks_there_is_none(tmp_path, monkeypatch, name):
    import fcntl

    def flock(handle, how):
        assert how == fcntl.LOCK_EX | fcntl.LOCK_NB
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / name), locked(tmp_path / name):
        pass
    assert list(tmp_path.iterdir()) == []


def test_where_the_system_knows_no_locks_nothing_is_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    with locked(tmp_path / "a.lock"), locked(tmp_path / "a.lock"):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
@pytest.mark.parametrize("name", [".", "a.lock"])
def test_a_lock_ends_with_its_block_however_that_ends(tmp_path, name):
    opened = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / name):
            assert len(os.listdir("/dev/fd")) == opened + 1
            1 / 0
        assert list(tmp_path.iterdir()) == [] and len(os.listdir("/dev/fd")) == opened


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_a_lock_file_is_made_for_everybody_to_read(tmp_path):
    before = os.umask(0)
    try:
        with locked(tmp_path / "a.lock"):
            assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing" / "a.lock"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill would end it there")
def test_which_processes_may_be_running(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert not process_runs(str(process.pid))
    # This one, one of a number that no system gives, and what is no number.
    for pid in (str(os.getpid()), "9" * 30, "", "x", "-1"):
        assert process_runs(pid)
    asked = []

    def kill(pid, number):
        asked.append((pid, number))
        raise PermissionError  # somebody else's

    monkeypatch.setattr(os, "kill", kill)
    assert process_runs("123") and asked == [(123, 0)]
    with monkeypatch.context() as windows:
        windows.setattr(locks.os, "name", "nt")
        runs = process_runs("123")
    assert runs and len(asked) == 1
