"""The targets of fuzz.py, fuzzed by libFuzzer (atheris), which keeps every input that reaches new
lines and goes on from there.

    pip install atheris            # Python 3.11 to 3.13, Linux
    python tests/endurance/fuzz_guided.py --executions 2000  # of each target: a few minutes
    python tests/endurance/fuzz_guided.py --executions 50000 --out guided      # the long run
    # one input again, with its traceback
    python tests/endurance/fuzz_guided.py --target npz guided/npz/crash-…

It begins with the valid files of fuzz.py and looks, where a target has them, inside of archives,
too. A target ends with its first fault: any exception but the documented one, more than 2 s of
processor time, no answer for 60 s, or 1 GB beyond what the process began with. It keeps these
inputs and those of faults in --out, beside guided.json with the counts. The exit code is 1 if there
are faults.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from serve_load import memory

SEEN = {
    "executions": r"stat::number_of_executed_units:\s*(\d+)",
    "kept": r"stat::new_units_added:\s*(\d+)",
    "peak MB": r"stat::peak_rss_mb:\s*(\d+)",
    "slowest s": r"stat::slowest_unit_time_sec:\s*(\d+)",
}


def inside(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process, with libFuzzer's own arguments; does not return."""
    import atheris

    with atheris.instrument_imports(include=["data", "transfer", "fuzz"]):
        import fuzz

    import logging

    import numpy as np

    logging.disable(logging.CRITICAL)
    target, folder = fuzz.TARGETS[name], Path(tempfile.mkdtemp())
    for content in target.valid():
        fuzz.execute(name, content, folder)  # imports
    base, _ = memory(os.getpid())

    def one(content: bytes) -> None:
        begun = time.process_time()
        fuzz.execute(name, content, folder)
        if (took := time.process_time() - begun) > fuzz.SECONDS:
            raise TimeoutError(f"{took:.1f} s of processor time")

    def change(content: bytes, most: int, seed: int) -> bytes:
        """Inside of an archive where there is one, half the time."""
        rng = np.random.default_rng(seed)
        if target.spoil and rng.integers(2):
            try:
                return target.spoil(
                    rng, content, lambda part: atheris.Mutate(part, len(part) + 64)
                )[:most]
            except Exception:  # what fits in no archive any more
                pass
        return atheris.Mutate(content, most)

    atheris.Setup(
        [
            sys.argv[0],
            *arguments,
            f"-rss_limit_mb={int(base + fuzz.MEGABYTES)}",
            f"-timeout={int(fuzz.STUCK)}",
        ],
        one,
        custom_mutator=change,
    )
    atheris.Fuzz()


def campaign(name: str, chosen: argparse.Namespace) -> dict:
    """One target in a process of its own; the counts."""
    import fuzz

    target, corpus, words = fuzz.TARGETS[name], chosen.out / name, chosen.out / f"{name}.dict"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(target.valid()):
        (corpus / f"valid-{i}").write_bytes(content)
    words.write_text(
        "".join('"{}"\n'.format("".join(f"\\x{b:02x}" for b in word)) for word in target.words),
        encoding="utf-8",
    )
    command = [
        sys.executable,
        __file__,
        "--inside",
        name,
        f"-runs={chosen.executions}",
        f"-seed={chosen.seed + 1}",
        f"-max_len={fuzz.LARGEST}",
        "-print_final_stats=1",
        "-verbosity=1",
        f"-artifact_prefix={corpus}/",
        *([f"-dict={words}"] if target.words else []),
        str(corpus),
    ]
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # what the process, which libFuzzer ends, would leave in the system's own
        done = subprocess.run(
            command,
            env=os.environ | {"TMPDIR": folder},
            capture_output=True,
            text=True,
            errors="replace",
            encoding="utf-8",
        )
    found = {
        key: int(match[1]) if (match := re.search(pattern, done.stderr)) else None
        for key, pattern in SEEN.items()
    }
    covered = re.findall(r"cov: (\d+)", done.stderr)
    faults = sorted(
        p.name for kind in ("crash", "timeout", "oom", "leak") for p in corpus.glob(f"{kind}-*")
    )
    if done.returncode and not faults:
        faults = [f"exit code {done.returncode}"]
    return found | {
        "edges": [int(covered[0]), int(covered[-1])] if covered else None,
        "seconds": round(time.monotonic() - begun),
        "faults": faults,
        "said": done.stdout[-1000:] + done.stderr[-3000:] if faults else "",
    }


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3:])
    import fuzz

    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "input", nargs="?", type=Path, help="a file to run --target on, once, in this process"
    )
    options.add_argument(
        "--executions",
        type=int,
        default=2000,
        help="number of executions of each target [%(default)s]",
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--target", default="all", choices=["all", *fuzz.TARGETS])
    options.add_argument(
        "--out",
        type=Path,
        default=Path("guided"),
        help="folder for guided.json and the inputs [%(default)s]",
    )
    chosen = options.parse_args()
    if chosen.input:
        if chosen.target == "all":
            options.error("give the --target that the input is for")
        with tempfile.TemporaryDirectory() as folder:
            print(fuzz.execute(chosen.target, chosen.input.read_bytes(), Path(folder)))
        return 0
    report, start = {}, time.monotonic()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in (
        bar := tqdm(
            list(fuzz.TARGETS) if chosen.target == "all" else [chosen.target],
            unit="target",
            disable=None,
            file=sys.stderr,
        )
    ):
        bar.set_description(name)
        report[name] = campaign(name, chosen)
        total = {
            "executions": sum(r["executions"] or 0 for r in report.values()),
            "faults": sum(len(r["faults"]) for r in report.values()),
        }
        described = {
            "seed": chosen.seed,
            "total": total,
            "minutes": round((time.monotonic() - start) / 60, 1),
            "targets": report,
        }
        (chosen.out / "guided.json").write_text(
            json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    print(json.dumps(total))
    return 1 if total["faults"] else 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
