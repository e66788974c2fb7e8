"""The command `convert`: its options, and the line that it reports."""

import sys
from pathlib import Path

from transfer.data.formats import convert


def add_parser(commands) -> None:
    """Add the command `convert` to argparse's subparsers; its `run` takes the parsed arguments."""
    parser = commands.add_parser(
        "convert",
        help="strokes between KanjiVG, SVG, stroke-3 .npz and QuickDraw .ndjson",
        description=(convert.__doc__ or "").partition("\n\n")[0],
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        type=Path,
        help="KanjiVG (.xml.gz, .zip), .svg, a folder or .zip of SVGs, .npz or .ndjson",
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        type=Path,
        help=".npz, .ndjson, .svg, .zip or the name of a new folder",
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help=(
            f"simplify strokes by this many box units (default: curves by {convert.EPSILON},"
            " polylines not at all)"
        ),
    )
    parser.add_argument(
        "--split",
        type=_shares,
        metavar="A,B,C",
        help=("shares of train, valid and test in an .npz (default: the input's or 0.9,0.05,0.05)"),
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the split (default: 0)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "int16"),
        default="float32",
        help="int16 writes whole numbers, as in the published sets, and moves points by up to"
        " 0.71 / scale box units",
    )
    parser.add_argument(
        "--scale",
        type=float,
        metavar="S",
        help=(
            "units in the output for one box unit (default: .npz 1, with int16"
            f" {convert.INT_SCALE:g}; .ndjson 255/109)"
        ),
    )
    parser.add_argument(
        "--input-scale",
        type=float,
        metavar="S",
        help="units in the input for one box unit, if the input does not say",
    )
    parser.add_argument(
        "--layout",
        choices=("sketch-rnn", "flat"),
        default="sketch-rnn",
        help="layout of an .npz: what Sketch-RNN programs load, or one without pickles",
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Run the command and print one line of report on standard output. Raises DataError."""
    count = convert.convert(
        args.input,
        args.output,
        args.epsilon,
        args.input_scale,
        lambda text: print(text, file=sys.stderr),
        scale=args.scale,
        dtype=args.dtype,
        layout=args.layout,
        split=args.split,
        seed=args.seed,
    )
    print(f"{args.output}: {count:,} drawings")


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))
