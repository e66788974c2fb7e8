"""Handles Ctrl-C and SIGTERM while a model trains: training ends within seconds, and the files on
disk are whole."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 4.0
"""Seconds within which the training loop must answer a signal."""


class _Now(Exception):
    """Ends an evaluation."""


class Stopping:
    """`with Stopping(name) as stop`: signals set `stop.requested` and end whatever `stop.during`
    runs.

    Python runs no handler while the main thread waits for XLA to compile, which can take minutes.
    So a second thread watches the loop. If the loop gives no sign of life (`alive`) for PATIENCE
    seconds after a signal, it ends the process with exit code 130, unless a checkpoint is being
    written (`saving`). A later run trains again what was trained since the last checkpoint. Outside
    the main thread signals are left alone, and in a notebook the process belongs to the user.
    """

    def __init__(self, name: str):
        self.name, self.requested, self._inside, self._busy = name, False, False, threading.Lock()
        self._answered = threading.Event()

    def __enter__(self) -> Stopping:
        self._handlers, self._wakeup = {}, None
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        except ValueError:  # not in the main thread, e.g. in a notebook's executor
            return self
        if os.name == "posix" and "ipykernel" not in sys.modules:
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._watch = threading.Thread(target=self._watching, daemon=True)
            self._watch.start()
        return self

    def __exit__(self, *_) -> None:
        self._answered.set()
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._write)  # the thread reads the end
            self._watch.join()
            os.close(self._read)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, *_) -> None:
        self.requested = True
        if self._inside:
            self._inside = False
            raise _Now

    def alive(self) -> None:
        """The loop is running and will look at `requested` next."""
        if self.requested:
            self._answered.set()

    def during(self, work: Callable[[], None]) -> bool:
        """Run `work`, which a signal ends; returns whether it finished."""
        try:
            self._inside = True
            if not self.requested:
                work()
                return True
        except _Now:
            self.alive()
        finally:
            self._inside = False
        return False

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Protects writing from being cut off."""
        with self._busy:
            yield

    def _watching(self) -> None:
        if not os.read(self._read, 1) or self._answered.wait(PATIENCE):
            return
        with self._busy:
            if not self._answered.is_set():
                print(
                    f"\n{self.name}: stopped while it was busy; run the same command again to "
                    "go on from the last checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(130)
