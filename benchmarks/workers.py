"""Each framework works in a process of its own, which waits while the other works: how they are
started, asked and timed."""

from __future__ import annotations

import importlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def start(here: Path) -> list[str]:
    """The command line that begins a worker in the benchmarks folder `here`, which may be another
    checkout's; the worker imports that checkout's own package."""
    return [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]; import workers; "
        "getattr(workers, sys.argv[1])(*sys.argv[2:])",
    ]


def serve(module: str, function: str, *arguments: str) -> None:
    """Be a worker: make a step with module.function(*arguments), for each number on stdin run so
    many steps and print the seconds; at the end print the peak memory in MB."""
    step, number = getattr(importlib.import_module(module), function)(*arguments), 0
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            number += 1
            step(number)
        print(time.perf_counter() - begin, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def answer(module: str, function: str, *arguments: str) -> None:
    print(getattr(importlib.import_module(module), function)(*arguments))


def ask(module: str, function: str, *arguments: str) -> float:
    """The number that module.function(*arguments) returns in a process of its own."""
    done = subprocess.run(
        [*start(HERE), "answer", module, function, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise SystemExit("a benchmark process ended early, see its message above")
    return float(done.stdout.split()[-1])


class Worker:
    """A process that does steps; seconds: about so long is a repeat; here: the benchmarks folder
    that it works in."""

    def __init__(
        self, seconds: float, module: str, function: str, *arguments: str, here: Path = HERE
    ):
        self.process = subprocess.Popen(
            [*start(here), "serve", module, function, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        # Compiles. What not every step needs, as a drawing's further attempts, has its turn too.
        self.time(3 if seconds else 1)
        self.steps = max(1, round(seconds / self.time(1)))

    def time(self, steps: int) -> float:
        """Seconds for so many steps."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a benchmark process ended early, see its message above")
        return float(line)

    def rate(self) -> float:
        """Steps a second."""
        return self.steps / self.time(self.steps)

    def close(self) -> float:
        """Ends the process; its peak memory, MB."""
        return float(self.process.communicate()[0].split()[-1])


def alternate(
    workers: dict[str, Worker], repeats: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Steps a second of each worker, `repeats` times in turn, and then their peak memory in MB."""
    rates = {name: [] for name in workers}
    for _ in range(repeats):
        for name, worker in workers.items():
            rates[name].append(worker.rate())
    return rates, {name: worker.close() for name, worker in workers.items()}


def ratio(ours: list[float], others: list[float]) -> str:
    """Median and range of the quotients of each repeat's steps a second, as Markdown."""
    found = [a / b for a, b in zip(ours, others)]
    return f"**{statistics.median(found):.2f}** ({min(found):.2f}–{max(found):.2f})"


def matrix_product() -> Callable:
    """The yardstick of the roofline: 2 * 2048**3 FLOP a step."""
    import jax
    import numpy as np

    a = jax.numpy.asarray(np.random.default_rng(0).random((2048, 2048), np.float32))
    product = jax.jit(lambda a: a @ a)
    return lambda number: product(a).block_until_ready()


def peak_flops() -> float:
    """FLOP a second of a matrix product on this machine, the best of five tries."""
    worker = Worker(1.0, "workers", "matrix_product")
    best = max(worker.rate() for _ in range(5)) * 2 * 2048**3
    worker.close()
    return best
