"""Speed and memory on this machine against PyTorch: the same models, losses and optimiser, side by
side.

    pip install ".[benchmark]"
    python benchmarks/run.py  # all rows, half an hour on two cores
    python benchmarks/run.py --rows paper_vae draw --repeats 9
    python benchmarks/run.py --rows throughput --images 1828 --data DIR
    git worktree add ../earlier COMMIT && python benchmarks/run.py --beside ../earlier

Each framework runs a row in a process of its own, which waits while the other works; repeats
alternate, and the ratio is the median of the pairs' ratios. Nothing else should run on the machine.
PyTorch counts the FLOP in its twin's products and convolutions, forward and backward. The matrix
product that they are compared with is measured first.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path

import drawing
import training
from workers import peak_flops


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*training.ROWS, *drawing.ROWS]
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=every,
        default=every,
        metavar="ROW",
        help=f"any of {', '.join(every)} [all]",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="about how long each repeat takes [%(default)s]"
    )
    parser.add_argument(
        "--xla",
        action="store_true",
        help="also measure the paper's VAE with XLA's own convolutions",
    )
    parser.add_argument(
        "--weights", default="", help="folder of runs or weights to draw with [the shipped weights]"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=512,
        help="how many of the 1,828 images to draw and to read for the throughput [%(default)s]",
    )
    parser.add_argument(
        "--data",
        default="",
        help="data folder with the images for the throughput [as the commands find it]",
    )
    parser.add_argument(
        "--files",
        type=int,
        default=1000,
        help="how many picture files to read for --jobs [%(default)s]",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout of this repository, whose code and shipped weights take turns too",
    )
    parser.add_argument(
        "--no-twin",
        dest="twin",
        action="store_false",
        help="draw without PyTorch, as for weights of the other decoder",
    )
    chosen = parser.parse_args()
    if chosen.beside:
        chosen.beside = chosen.beside.resolve() / "benchmarks"
        if not (chosen.beside / "workers.py").is_file():
            parser.error(
                f"{chosen.beside}: no benchmarks there; give a checkout of this repository"
            )
    chosen.weights = os.path.abspath(chosen.weights) if chosen.weights else ""
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.1f}, medians of {chosen.repeats} alternating repeats",
        end="",
        flush=True,
    )
    rows = [row for row in chosen.rows if row in training.ROWS]
    if rows:
        peak = peak_flops()
        print(f"; matrix product {peak / 1e9:.0f} GFLOP/s\n\n{training.HEAD}", flush=True)
        for row in rows:
            print(training.line(row, peak, chosen), flush=True)
    rows = [row for row in chosen.rows if row in drawing.ROWS]
    if rows:
        print(f"\n\n{drawing.HEAD}", flush=True)
        for row in rows:
            print(*drawing.ROWS[row](chosen), sep="\n", flush=True)
    if "cold" in rows:
        print(f"\n{drawing.imports()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
