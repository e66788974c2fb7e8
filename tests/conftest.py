"""Fixtures that every test folder may use."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Workers and the programs that tests start compile the same functions: once is enough.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(tempfile.gettempdir()) / f"kuzushiji-tests-compiled-{getattr(os, 'getuid', int)()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def pytest_addoption(parser):
    parser.addoption(
        "--write-golden",
        action="store_true",
        help="write the files of tests/golden again from what comes out now",
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the published files: $KUZUSHIJI_DATA, else restored once into the system's
    temporary folder."""
    from data import DataError
    from data.prepare import find_sources

    if os.environ.get("KUZUSHIJI_DATA"):
        folder = Path(os.environ["KUZUSHIJI_DATA"])
        try:
            find_sources(folder)
        except DataError as error:
            pytest.skip(str(error))
        return folder
    restore = ROOT.parent / "shared" / "data" / "restore.py"
    if not restore.is_file():
        pytest.skip(
            "no published data: set KUZUSHIJI_DATA to a folder with kkanji.tar and kanjivg-<date>-all.zip"
        )
    folder = Path(tempfile.gettempdir()) / f"kuzushiji-real-data-{getattr(os, 'getuid', int)()}"
    if not folder.is_dir():
        part = Path(tempfile.mkdtemp(prefix=folder.name))
        subprocess.run(
            [sys.executable, str(restore), str(part)], check=True, stdout=subprocess.DEVNULL
        )
        if folder.is_dir():  # another worker was faster
            shutil.rmtree(part)
        else:
            part.rename(folder)
    return folder
