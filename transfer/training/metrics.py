"""metrics.jsonl: the record of a run, and how to read it."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from transfer.system import devices
from transfer.system.files import atomic_write


@dataclasses.dataclass(frozen=True)
class History:
    """The content of a run's metrics.jsonl.

    seconds: the sum over all starts of the run.
    held_out: the last measurement on held-out data.
    """

    seconds: float
    held_out: dict[str, float]


def history(path: Path) -> History:
    """Read a run's metrics.jsonl.

    It skips lines that were being written when the run was killed.
    """
    seconds = last = 0.0
    held_out = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
            now = float(found["seconds"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        # Runs of earlier versions counted every start's seconds from 0.
        seconds += now - last if now >= last else now
        last = now
        values = {
            name.removeprefix("val/"): value
            for name, value in found.items()
            if name.startswith("val/")
        }
        held_out = values or held_out
    return History(seconds, held_out)


class MetricsFile:
    """A run's metrics.jsonl, one JSON object a line. The first process writes it.

    Lines beyond the resumed step are dropped.

    first_loss: mean loss of the run's first window; None before its end.
    evaluated: the steps whose evaluations are recorded.
    """

    def __init__(self, path: Path, start: int):
        self.path, self.first_loss, self.evaluated = path, None, set()
        kept = []
        if path.exists():
            for line in path.read_text(errors="replace", encoding="utf-8").splitlines():
                try:
                    found = json.loads(line)
                    if found["step"] <= start:
                        kept.append(line)
                        self._note(found)
                except (ValueError, KeyError, TypeError, RecursionError):
                    pass  # the line that was being written when the run was killed
        if devices.first():
            with atomic_write(path) as part:
                part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        # Seconds go on from where the run stood.
        self.begin = time.time() - (history(path).seconds if path.exists() else 0.0)

    def _note(self, values: dict) -> None:
        if self.first_loss is None and "loss" in values:
            self.first_loss = float(values["loss"])
        if any(name.startswith("val/") for name in values):
            self.evaluated.add(values["step"])

    def write(self, **values) -> None:
        self._note(values)
        if not devices.first():
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**values, "seconds": round(time.time() - self.begin, 2)}) + "\n")
