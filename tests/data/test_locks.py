"""transfer.system.locks: one holder at a time, and none after it has died."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.system.locks import locked

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
