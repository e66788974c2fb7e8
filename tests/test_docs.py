"""The documentation that is made from docstrings."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_docs_of_all_modules_are_made_without_a_warning(tmp_path):
    for package in ("pdoc", "matplotlib", "starlette"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    done = subprocess.run(
        [sys.executable, "-m", "pdoc", "transfer", "-o", tmp_path],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "warn" not in done.stderr.lower(), done.stderr
    pages = {str(page.relative_to(tmp_path).with_suffix("")) for page in tmp_path.rglob("*.html")}
    modules = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "transfer").rglob("*.py"))
    public = {
        str(p).removesuffix("/__init__")
        for p in modules
        if not p.name.startswith("_") or p.name == "__init__"
    }
    # `transfer.web` names what is public of it in __all__: one page.
    public = {name for name in public if not name.startswith("transfer/web/")}
    assert public <= pages, public - pages
    assert (
        "read and draw"
        in (tmp_path / "transfer" / "inference" / "pipeline.html").read_text("utf-8").lower()
    )
