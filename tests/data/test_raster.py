import numpy as np
import pytest

from transfer.data.raster import rasterise
from transfer.data.strokes import BOX
from transfer.system.errors import DataError

PX = BOX / 64  # box units of one pixel


def test_a_line_covers_exactly_its_pixels():
    picture = rasterise(
        [np.array([(10, 20), (30, 20)]) * PX], width=2 * PX
    )  # ink from y = 19 to 21
    assert (picture[19:21, 10:30] == 255).all()
    assert (picture[:18] == 0).all() and (picture[22:] == 0).all()
    assert (picture[18, 12:28] == 0).all() and (picture[21, 12:28] == 0).all()


def test_half_covered_pixels_are_half_grey():
    picture = rasterise([np.array([(10, 20.5), (30, 20.5)]) * PX], width=2 * PX)
    assert (abs(picture[19, 11:29].astype(int) - 128) <= 1).all() and (
        picture[20, 11:29] == 255
    ).all()
    assert (abs(picture[21, 11:29].astype(int) - 128) <= 1).all()


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("angle", [0, 0.3, np.pi / 4, 1.2, np.pi / 2])
def test_area_and_centre_of_a_capsule(size, angle):
    half = 25 * np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([54.3, 52.9])
    picture = rasterise([[middle - half, middle + half]], size) / 255
    scale = size / BOX
    assert picture.sum() == pytest.approx((50 * 3 + np.pi * 1.5**2) * scale**2, rel=0.02)
    at = np.arange(size) + 0.5
    centre = np.array([(picture * at).sum(), (picture * at[:, None]).sum()]) / picture.sum()
    assert centre == pytest.approx(middle * scale, abs=0.1)  # area coverage alone is off by 0.05


def test_dots_joins_and_repeated_points():
    dot = rasterise([[(54.5, 54.5), (54.5, 54.5)]], 256, 40)
    assert dot.sum() / 255 == pytest.approx(np.pi * 20**2 * (256 / BOX) ** 2, rel=0.01)
    corner = rasterise([[(20, 20), (80, 20), (80, 80)]], 256, 20) / 255
    # two bars less their overlap, two round ends, a quarter disc at the join
    right = (2 * 60 * 20 - 100 + np.pi * 100 + np.pi * 100 / 4) * (256 / BOX) ** 2
    assert corner.sum() == pytest.approx(right, rel=0.01)
    assert np.array_equal(
        rasterise([[(20, 20), (20, 20), (80, 30)]]), rasterise([[(20, 20), (80, 30)]])
    )


def test_thin_lines_keep_their_ink():
    assert rasterise([[(20, 50), (80, 50)]], width=0.5).sum() / 255 == pytest.approx(
        60 * 0.5 / PX**2, rel=0.05
    )


def test_empty_outside_and_huge():
    assert (
        rasterise([]).shape == (64, 64)
        and not rasterise([]).any()
        and rasterise([]).dtype == np.uint8
    )
    assert not rasterise([[(-50, -50), (-20, -20)]]).any()
    assert rasterise([[(54, 54), (1e30, 54)]])[31, 40:].all()


@pytest.mark.parametrize(
    "bad", [[[(0, 0), (np.nan, 1)]], [[1, 2, 3]], [np.zeros((2, 3))], [np.zeros((0, 2))], ["ab"]]
)
def test_bad_strokes(bad):
    with pytest.raises(DataError, match="stroke 1"):
        rasterise(bad)


def test_every_pixel_is_as_grey_as_its_distance_from_the_nearest_line_says():
    """Also of long polylines, and of those that leave the page, measured pixel by pixel."""
    random = np.random.default_rng(0)
    strokes = [random.normal(50, 45, (n, 2)).astype(np.float32) for n in (1, 2, 17, 40)]
    at = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), -1)[:, :, None]
    nearest = np.full((64, 64), np.inf)
    for points in strokes:
        points = points / PX
        start, end = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
        line = end - start
        along = ((at - start) * line).sum(-1) / np.maximum((line**2).sum(-1), 1e-12)
        foot = start + along.clip(0, 1)[..., None] * line
        nearest = np.minimum(nearest, np.hypot(*np.moveaxis(at - foot, -1, 0)).min(-1))
    radius = 1.5 / PX
    grey = np.clip(np.minimum(nearest + 0.5, radius) - np.maximum(nearest - 0.5, -radius), 0, 1)
    assert abs(rasterise(strokes).astype(int) - 255 * grey).max() <= 1
