"""transfer.output.uncertainty: numbers that follow from the map, and a picture that shows them."""

import numpy as np
import pytest

from transfer.output import uncertainty


def test_a_stroke_has_the_mean_of_the_map_under_it(made):
    sure, unsure = made.stroke_uncertainty()
    assert sure == 0 and unsure == 0.5
    across = np.array(
        [(0.85, 50), (108.15, 50)]
    )  # from the middle of the first pixel to that of the last
    assert uncertainty.of_strokes([across], made.uncertainty) == pytest.approx(0.25, abs=0.005)
    ramp = np.tile(np.arange(64) / 128, (64, 1))
    assert uncertainty.of_strokes([np.array([(54.5, 3), (54.5, 99)])], ramp) == pytest.approx(
        31.5 / 128
    )  # bilinear


def test_strokes_outside_the_box_and_dots_have_numbers_too():
    values = uncertainty.of_strokes(
        [
            np.array([(-50.0, -50), (-40, -50)]),
            np.array([(200.0, 200)]),
            np.array([(54.0, 54), (54, 54)]),
        ],
        np.full((64, 64), 0.3),
    )
    np.testing.assert_allclose(values, 0.3, atol=1e-6)
    assert values.dtype == np.float32 and uncertainty.of_strokes([], np.zeros((64, 64))).shape == (
        0,
    )


def test_opacity_falls_from_one_and_never_vanishes():
    np.testing.assert_allclose(
        uncertainty.opacity(np.array([0, 0.25, 0.5, 0.9])), [1, 0.6, 0.2, 0.2]
    )


def test_heatmap_shows_ink_in_grey_and_doubt_in_colour(made):
    picture = made.heatmap(128)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    assert (picture[100, 10] == 255).all()
    grey = picture[22, 10].astype(int)
    assert np.ptp(grey) == 0 and 80 < grey[0] < 130
    for place in ((22, 120), (100, 120)):  # on ink and off it
        red, green, blue = picture[place].astype(int)
        assert red > green + 50 and red > blue + 30
    low, high = (
        uncertainty.heatmap(made.pixels, np.full((64, 64), u), 64).mean() for u in (0.1, 0.3)
    )
    assert low > high, "the more readings differ, the darker"


def test_heatmap_refuses_other_shapes(made):
    with pytest.raises(ValueError, match="pixels"):
        uncertainty.heatmap(made.pixels.ravel(), made.uncertainty)
    with pytest.raises(ValueError, match="size"):
        made.heatmap(0)
