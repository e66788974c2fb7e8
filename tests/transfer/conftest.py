"""A Result made by hand, for whatever shows or writes one."""

import numpy as np
import pytest

from transfer.pipeline import Result


@pytest.fixture
def made() -> Result:
    """Two drawings of 花 and 𠀋; readings differ in the right half only."""
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
