"""`kuzushiji-transfer export`: the web pages as plain files, or the trained models as ONNX files
for other programs (docs/export.md)."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import shtab

from transfer.commands import arguments
from transfer.system.entry import fail
from transfer.system.errors import DataError

EXAMPLES = """  kuzushiji-transfer export site      # then: python -m http.server -d site
  kuzushiji-transfer export site --runtime onnxruntime-web-1.30.0.tgz   # without npm
  kuzushiji-transfer export models --format onnx --weights runs/small
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "export",
        run,
        "write the web page as plain files, or the models as ONNX",
        "Write the web pages as plain files that any web server serves: the models then run in the"
        " reader's browser, and nothing is sent anywhere. Or write the models as ONNX files for"
        ' other programs. Needs the extra: python -m pip install ".[export]"',
        EXAMPLES,
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder to write into; it is made if there is none"
    ).complete = shtab.DIRECTORY
    parser.add_argument(
        "--format", choices=("web", "onnx"), default="web", help="what is written [%(default)s]"
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="PATH",
        help="the npm package onnxruntime-web, unpacked or as .tgz [npm fetches it]",
    ).complete = shtab.FILE
    arguments.weights(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def run(chosen) -> int:
    try:
        import jax2onnx  # noqa: F401
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise DataError(f'export needs {error.name}; python -m pip install ".[export]"') from None
    folder = chosen.folder
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; name another")
    from transfer.commands.info import describe
    from transfer.export import runtime, site
    from transfer.inference import loading
    from transfer.training.weights import WeightsError

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of its own intermediate values
    tell = (lambda line: None) if chosen.quiet else (lambda line: print(line, file=sys.stderr))
    try:
        model = loading.load_model(chosen.weights)
        described = describe(chosen.weights)
    except WeightsError as error:
        return fail(str(error))
    about = {
        "weights": {k: v["sha256"] for k, v in described["weights"]["models"].items()},
        "attribution": described["attribution"],
    }
    if chosen.format == "onnx":
        return plain(folder, model, about, tell)
    site.check(folder, model)
    site.write(folder, model, about, runtime.gather(chosen.runtime), tell)
    tell(f"{folder}: python -m http.server -d {folder} serves it on http://127.0.0.1:8000/")
    return 0


def plain(folder: Path, model, about: dict, tell) -> int:
    """Write the models alone, in float32. Each appears under its name only once it is whole."""
    from transfer.export import onnx_file, tables

    folder.mkdir(parents=True, exist_ok=True)
    onnx_file.write_all(folder, model, "float32", folder, tell)
    tables.write(folder, model, about, "float32")
    return 0
