"""The web pages as plain files: the pages of `serve`, the models, the runtime, and a list of all
these files."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from transfer.export import onnx_file, programs, tables
from transfer.export.runtime import Runtime
from transfer.stages.stroke_decoder import StrokeDecoder
from transfer.system.errors import DataError
from transfer.web.examples import STATIC, examples

LIST = "site.json"
"""The file that names every file of an export, and by which an export is recognised."""
PAGES = ("index.html", "page.html")
ENGINE = "export * from './engine/browser.js';\n"
"""`static/engine.js` of an export: the models run in the browser."""
MOST = 25_000_000
"""How many bytes the models may take without a warning."""
PACKED = ".packed"
"""What the name of a `packed` file ends with."""


def check(folder: Path, model) -> None:
    """Raise DataError if `folder` cannot become an export, or if the models cannot run in a
    browser."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LIST).is_file():
        raise DataError(f"{folder}: holds other files; name a new folder, or an earlier export")
    if not isinstance(model.decoder, StrokeDecoder):
        raise DataError(
            "the page draws stroke by stroke, and these weights write point by point (preset"
            " paper); train another preset's decoder, or take --format onnx"
        )
    if (density := programs.density_config(model).density) != "anchored":
        raise DataError(
            f"the page chooses among the gallery's kanji, and these weights' density is {density};"
            " train an anchored one, or take --format onnx"
        )


def write(
    folder: Path, model, about: dict, runtime: Runtime, tell: Callable[[str], None] = print
) -> None:
    """Make the export in a temporary folder beside `folder`, and put it in place once it is whole.

    about: see `tables.write`. tell: called with a line on each file of the models.
    """
    check(folder, model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        fill(part, model, about, runtime, tell)
        part.chmod(0o755)
        replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fill(folder: Path, model, about: dict, runtime: Runtime, tell: Callable[[str], None]) -> None:
    """Write all files into an empty folder."""
    shutil.copytree(STATIC, folder / "static", ignore=shutil.ignore_patterns("*.html", "*.md"))
    for page in PAGES:
        shutil.copy(STATIC / page, folder / page)
    (folder / "static" / "engine.js").write_text(ENGINE, "utf-8")
    (folder / "runtime").mkdir()
    for name, content in runtime.files.items():
        (folder / "runtime" / name).write_bytes(content)
    models = folder / "models"
    models.mkdir()
    onnx_file.write_all(models, model, "float16", Path(models.name), tell)
    tables.write(models, model, about, "float16")
    for path in [path for path in models.iterdir() if path.suffix != ".json"]:
        path.with_name(path.name + PACKED).write_bytes(packed(path.read_bytes()))
        path.unlink()
    if (size := sum(path.stat().st_size for path in models.iterdir())) > MOST:
        tell(f"the models take {size / 1e6:.0f} MB: a browser may not hold them all")
    runtime_line = f"runtime: onnxruntime-web {runtime.version}, (c) Microsoft, MIT licence"
    (folder / "ATTRIBUTION.txt").write_text(
        "\n".join([*about["attribution"], runtime_line]) + "\n", "utf-8"
    )
    described = describe(folder, model, about, runtime)
    # The worker's text changes with the files: by that a browser knows of a new export.
    (folder / "offline.js").write_text(
        f"// {described['version']}\nimportScripts('static/engine/offline.js');\n", "utf-8"
    )
    (folder / LIST).write_text(
        json.dumps(described, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8"
    )


def packed(content: bytes) -> bytes:
    """Compress the bytes of a file without loss.

    The upper byte of a float16, which has the sign, varies less than the lower one. So the bytes at
    even places stand before those at odd places. `static/engine/models.js` reverses this.
    """
    return gzip.compress(content[::2] + content[1::2], mtime=0)


def describe(folder: Path, model, about: dict, runtime: Runtime) -> dict:
    """The content of `site.json`: version (of all files together), pages and their files with sizes
    and checksums, examples, and the pen's temperature."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = []
    for path in paths:
        content = path.read_bytes()
        files.append(
            {
                "path": path.relative_to(folder).as_posix(),
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    within = lambda place: [file for file in files if file["path"].startswith(f"{place}/")]
    whole = hashlib.sha256("".join(file["sha256"] for file in files).encode())
    return {
        "version": whole.hexdigest()[:16],
        "weights": about["weights"],
        "runtime_version": runtime.version,
        "temperature": model.temperature,
        "examples": examples(),
        "models": within("models"),
        "runtime": within("runtime"),
        "files": files,
    }


def replace(part: Path, folder: Path) -> None:
    """Put a finished folder in the place of an earlier export, or of nothing."""
    if not folder.is_dir():
        part.rename(folder)
        return
    old = part.with_name(f"{part.name}.old")
    folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
