"""Fixtures that every test folder may use."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
# Workers and the programs that tests start compile the same functions: once is enough.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(tempfile.gettempdir()) / f"kuzushiji-tests-compiled-{getattr(os, 'getuid', int)()}"),
)
# Small ones too: a stage's script has two hundred of them, and they take it twelve seconds.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Most of the time goes into compiling, and JAX's own tests have it compile quickly too. Programs
# that draw are compiled as ever (`system.programs`).
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# A shell that starts the tests in the background has Ctrl-C ignored, and so would have the programs
# that they start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A worker takes one file after the other: the longest come first, that both workers end together.
LONGEST = """
experiments/test_stages.py models/test_stroke_rnn.py golden/test_golden.py test_entry.py
web/test_exported_page.py web/test_whole_page.py commands/test_cli.py inference/test_acceptance.py
baselines/test_networks.py experiments/test_evaluate.py system/test_devices.py test_packages.py
evaluation/test_judges.py experiments/test_classify.py benchmarks/test_baseline_twins.py
stages/test_stages.py endurance/test_parsers.py endurance/test_trust.py web/test_api.py
inference/test_pipeline.py inference/test_determinism.py training/test_training.py
web/test_elsewhere.py web/test_page.py models/test_vae.py models/test_mdn.py test_documents.py
test_reference.py models/test_sketch_rnn.py models/test_distance_raster.py
""".split()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
    place = {ROOT / "tests" / name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


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
    from transfer.data.prepare import find_sources
    from transfer.system.errors import DataError

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
            "no published data: set KUZUSHIJI_DATA to a folder with kkanji.tar and"
            " kanjivg-<date>-all.zip"
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


@pytest.fixture
def made():
    """A Result made by hand, for whatever shows or writes one: two drawings of 花 and 𠀋; readings
    differ in the right half only."""
    from transfer.inference.result import Result

    image = np.zeros((64, 64), np.uint8)
    image[10:20, 5:60] = 255
    pixels, doubt = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    pixels[8:14] = 1
    doubt[:, 32:] = 0.5
    across, down = (
        np.array([(10, 20), (50, 20)], np.float32),
        np.array([(90, 10), (92, 50), (90, 100)], np.float32),
    )
    half = np.full((64, 64), 0.5, np.float32)
    return Result(
        image=image,
        strokes=[[across, down], [down]],
        written=["花", "𠀋"],
        scores=np.array([2.0, 1.0], np.float32),
        pixels=pixels,
        candidates=[("花", 0.75), ("𠀋", 0.2), ("<", 0.05)],
        old_reconstruction=half,
        new_reconstruction=half,
        z_old=np.arange(64, dtype=np.float32),
        z_new=np.zeros(64, np.float32),
        uncertainty=doubt,
        order=np.array([1, 0]),
        verdict="not sure",
        note="several <characters>: the largest was taken",
    )


@pytest.fixture(scope="session")
def model():
    """The shipped weights, loaded and compiled once."""
    from transfer import KuzushijiTransfer

    return KuzushijiTransfer.load()
