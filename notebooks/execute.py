"""Run the notebooks, and store them with their outputs.

    python notebooks/execute.py             # all four: about 5 minutes on two idle cores
    python notebooks/execute.py 02 03       # some of them
    python notebooks/execute.py --check     # run nothing; say which ones are out of date
    python notebooks/execute.py --text      # run nothing; take over changes of the prose alone

The text of a notebook is its `.py` file. Edit that, and run this script: it writes the `.ipynb`
beside it. Run it again when the shipped weights change. The notebooks need `pip install
".[notebooks]"`, use the built-in sample and the examples alone, and download nothing.

What a notebook shows depends on its own code, on what the notebooks share, on the examples, on the
shipped weights, and on code that changes results. The files in `tests/golden/files` change with the
last two. So a digest of all of these is kept in each `.ipynb`, and a test compares it.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SOURCES = (
    "notebooks/show.py",
    "examples/*.png",
    "transfer/pretrained/*.safetensors",
    "tests/golden/files/**/*.*",
)
"""What every notebook depends on beside its own text."""
LARGEST = 1_500_000
"""Bytes of a notebook with its outputs."""
MACHINE = r"(?<![\w.:/])/(?:home|Users|root|tmp|work|var|opt|mnt|usr/lib)/|\b[A-Z]:\\\\?\w"
"""Where a path of a machine begins."""


def notebooks() -> list[Path]:
    """The notebooks' texts, in the order of the tour."""
    return sorted(HERE.glob("0*.py"))


def digest(path: Path) -> str:
    """SHA-256 of everything that decides what a notebook shows. path: its `.py`."""
    found = hashlib.sha256("\0".join(code(jupytext.read(path))).encode())
    files = sorted(p for pattern in SOURCES for p in ROOT.glob(pattern) if p.is_file())
    for file in files:
        found.update(file.relative_to(ROOT).as_posix().encode() + b"\0")
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def code(book) -> list[str]:
    """The sources of a notebook's code cells."""
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


def reworded(path: Path):
    """The notebook with today's prose and the stored outputs, or None where other code made them.

    path: its `.py`.
    """
    book, stored = jupytext.read(path), path.with_suffix(".ipynb")
    old = nbformat.read(stored, 4) if stored.is_file() else None
    if old is None or outdated(path) or code(old) != code(book):
        return None
    outputs = iter([c for c in old.cells if c.cell_type == "code"])
    for cell in book.cells:
        if cell.cell_type == "code":
            known = next(outputs)
            cell.outputs, cell.execution_count = known.outputs, known.execution_count
    return book


def execute(path: Path, environment: dict[str, str] | None = None, cell_seconds: int = 3600):
    """The notebook (nbformat) with the outputs of a run from top to bottom.

    path: its `.py`. environment: variables for the kernel; by default no data folder, so that the
    notebook uses the built-in sample. cell_seconds: the longest that one cell may take.

    Raises nbclient.exceptions.CellExecutionError with the cell's traceback.
    """
    from nbclient import NotebookClient

    book = jupytext.read(path)
    client = NotebookClient(
        book,
        timeout=cell_seconds,
        kernel_name="python3",
        record_timing=False,  # times would change the file at each run
        resources={"metadata": {"path": str(HERE)}},
    )
    # A proxy that leads nowhere: what wants to download fails, here and not at the reader's.
    nowhere = {
        name: "http://127.0.0.1:9"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    }
    found = os.environ.get("PYTHONPATH")
    folders = os.pathsep.join([str(ROOT), *([found] if found else [])])
    fixed = nowhere | {"PYTHONPATH": folders, "KUZUSHIJI_DATA": ""}
    client.execute(env=os.environ | fixed | (environment or {}))
    shrink(book)
    return book


def shrink(book) -> None:
    """Store the figures with a palette of 64 colours, which takes less than half of the bytes."""
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
                small = io.BytesIO()
                picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
                    small, "PNG", optimize=True
                )
                output.data["image/png"] = base64.b64encode(small.getvalue()).decode()


def problems(book) -> list[str]:
    """What a stored notebook must not hold: no output where a cell shows something, errors,
    warnings, widgets, paths of a machine, or too many bytes."""
    found = []
    for number, cell in enumerate(book.cells):
        if cell.cell_type != "code":
            continue
        if shows(cell.source) and not cell.outputs:
            found.append(f"cell {number} shows something, but has no output")
        for output in cell.outputs:
            text = output.get("text", "") + "".join(
                str(value) for kind, value in output.get("data", {}).items() if "image" not in kind
            )
            if output.output_type == "error" or "Traceback (most recent call last)" in text:
                found.append(f"cell {number} failed")
            if output.get("name") == "stderr":
                found.append(f"cell {number} writes to stderr: {text[:200]!r}")
            if any("widget" in kind for kind in output.get("data", {})):
                found.append(f"cell {number} shows a widget, which is empty on most pages")
            if place := re.search(MACHINE + r".{0,40}", text):
                found.append(f"cell {number} shows a path of this machine: {place[0]!r}")
    if (size := len(nbformat.writes(book).encode())) > LARGEST:
        found.append(f"{size:,} bytes; at most {LARGEST:,} are allowed")
    return found


def shows(source: str) -> bool:
    """Whether a cell prints or plots at its top level."""
    return bool(re.search(r"^(?:print|show\.rows|plt\.show|display|maps|python)\(", source, re.M))


def store(path: Path, book) -> None:
    """Write a notebook with its outputs beside its text, whole or not at all."""
    book.metadata.pop("widgets", None)
    # The kernel's own version would change the file on another machine.
    book.metadata["language_info"] = {"name": "python"}
    book.metadata["kuzushiji_transfer"] = {"digest": digest(path)}
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number:02}"
    part = path.with_suffix(".ipynb.part")
    nbformat.write(book, part)
    os.replace(part, path.with_suffix(".ipynb"))


def outdated(path: Path) -> str:
    """Why the stored notebook does not show what its text would, or ""."""
    stored = path.with_suffix(".ipynb")
    if not stored.is_file():
        return "is missing"
    known = nbformat.read(stored, 4).metadata.get("kuzushiji_transfer", {}).get("digest")
    if known != digest(path):
        return "was run with other code, other weights or other examples"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="first letters, such as 02 [all]")
    parser.add_argument("--check", action="store_true", help="only say which are out of date")
    parser.add_argument("--text", action="store_true", help="only take over changes of the prose")
    chosen = parser.parse_args()
    paths = [p for p in notebooks() if not chosen.names or p.name.startswith(tuple(chosen.names))]
    if not paths:
        print(f"error: no notebook begins with {' or '.join(chosen.names)}", file=sys.stderr)
        return 2
    wrong = False
    for path in paths:
        if chosen.check:
            why = outdated(path)
            wrong |= bool(why)
            print(f"{path.stem}: {why or 'up to date'}")
            continue
        began = time.monotonic()
        book = reworded(path) if chosen.text else execute(path)
        if book is None:
            wrong = True
            print(f"error: {path.name}: {outdated(path)}; run it without --text", file=sys.stderr)
            continue
        found = problems(book)
        wrong |= bool(found)
        for problem in found:
            print(f"error: {path.name}: {problem}", file=sys.stderr)
        if not found:
            store(path, book)
            size = path.with_suffix(".ipynb").stat().st_size
            print(f"{path.stem}: {time.monotonic() - began:.0f} s, {size / 1e6:.2f} MB", flush=True)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
