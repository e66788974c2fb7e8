"""What the stages of a runs folder reached on held-out data, as a Markdown table.

    python experiments/summary.py --runs runs/small
"""
import argparse
import json
import sys
from pathlib import Path


def last_values(folder: Path) -> tuple[dict, dict]:
    """The last validation of a run, and its last line's step and seconds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = [line for line in lines if any(k.startswith("val/") for k in line)]
    return {k.removeprefix("val/"): v for k, v in values[-1].items() if k.startswith("val/")}, lines[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/small"))
    runs = parser.parse_args().runs
    print("| stage | steps | minutes | on held-out data |\n|---|---|---|---|")
    found = 0
    for stage in ("vae_old", "vae_new", "mdn", "sketch_rnn"):
        if not (runs / stage / "metrics.jsonl").is_file():
            continue
        values, last = last_values(runs / stage)
        found += 1
        print(f"| {stage} | {last['step']} | {last['seconds'] / 60:.1f} | "
              + ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in values.items()) + " |")
    if not found:
        print(f"error: {runs}: holds no run; train a stage first, or give its folder with --runs", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
