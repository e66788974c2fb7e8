"""Evaluate weights on a split: evaluation.json, report.md and figures. The same as `kuzushiji-transfer evaluate`.

    python experiments/evaluate.py --data DIR                              # the shipped weights on val
    python experiments/evaluate.py --data DIR --split zero-shot --weights runs/small --out evaluation/small
"""
import argparse
import sys

from data.entry import guarded
from transfer.commands import evaluate


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
