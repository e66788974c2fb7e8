"""transfer.output.sheet: every picture of a Result is in its panel, and the file is written whole
or not at all."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from transfer.output.drawn import OldHand
from transfer.output.sheet import CAPTION, GAP, LINE, PANEL, draw_strokes, sheet


def result(samples: int = 3, candidates: int = 4):
    image = np.zeros((64, 64), np.uint8)
    image[10:20, 5:60] = 255
    half = np.full((64, 64), 0.5, np.float32)
    edge = np.zeros((64, 64), np.float32)
    edge[:, :4] = 1
    strokes = [
        np.array([(10, 20), (100, 20)], np.float32),
        np.array([(54, 10), (54, 100)], np.float32),
    ]
    return SimpleNamespace(
        image=image,
        old_reconstruction=half,
        pixels=edge,
        new_reconstruction=1 - edge,
        strokes=[strokes] * samples,
        old_hands=[],
        candidates=[("花", 0.5), ("𠀋", 0.25), ("一", 0.2), ("二", 0.05)][:candidates],
        scores=np.zeros(samples),
        uncertainty=0.5 * edge[:, ::-1],
        verdict="not sure",
    )


def panel(page: Image.Image, row: int, column: int) -> np.ndarray:
    x, y = GAP + column * (PANEL + GAP), GAP // 2 + row * (CAPTION + PANEL + GAP) + CAPTION
    return np.asarray(page)[y : y + PANEL, x : x + PANEL]


def test_first_row_holds_the_pictures_as_black_on_white():
    given = result()
    page = sheet(given)
    assert page.mode == "RGB"
    wanted = (
        255 - given.image,
        np.full((64, 64), 127),
        255 * (given.pixels < 0.5),
        None,
        255 * (given.pixels > 0.5),
    )
    for column, picture in enumerate(wanted):
        if picture is None:  # the heat-map, in colour
            shown = panel(page, 0, column)
            red, _, blue = shown[PANEL // 2, -3].astype(int)
            assert (
                red > blue + 40
                and (shown[PANEL // 2, PANEL // 2] == 255).all()
                and 90 < shown[PANEL // 2, 3, 0] < 120
            )
            continue
        shown = panel(page, 0, column)
        assert np.abs(shown[1::3, 1::3, 0].astype(int) - picture).max() <= 1
        assert (shown[..., 0] == shown[..., 2]).all()


def test_drawings_follow_in_rows_of_columns():
    page = sheet(result(samples=5), columns=3)
    for i in range(5):
        shown = panel(page, 1 + i // 3, i % 3)
        assert shown[round(20 * PANEL / 109), PANEL // 4].max() < 60  # first stroke: nearly black
        blue = shown[PANEL * 3 // 4, round(54 * PANEL / 109)].astype(int)  # last stroke: blue
        assert blue[2] > 120 and blue[0] < 60
        assert (shown[-5:, :5] == 255).all()
    assert (panel(page, 2, 2) == 255).all()


def test_candidates_take_lines_below():
    none, some = sheet(result(candidates=0)), sheet(result(candidates=4))
    assert some.height > none.height and some.width == none.width
    below = np.asarray(some)[none.height :]
    assert (below < 100).any()
    assert sheet(result(), top=0).height == none.height


def test_old_hands_stand_in_a_row_and_are_marked_where_they_are_painted():
    rng = np.random.default_rng(0)
    hands = [OldHand(rng.integers(0, 256, (64, 64), np.uint8), float(i)) for i in range(4)]
    given, without = result(samples=1), result(samples=1)
    given.old_hands = [tuple(hands), (), (hands[3],), ()]
    page = sheet(given)
    small = lambda hand: np.asarray(Image.fromarray(255 - hand.picture).resize((96, 96), 0))
    four, one = panel(page, 2, 0)[..., 0], panel(page, 2, 1)[..., 0]
    assert (four[:96, :96] == small(hands[0])).all() and (four[:96, 96:] == small(hands[1])).all()
    assert (four[96:, 96:] == small(hands[3])).all() and (one[:96, :96] == small(hands[3])).all()
    assert (one[96:] == 255).all()
    row = CAPTION + PANEL + GAP
    assert page.height == sheet(without).height + row + LINE
    real = dataclasses.replace(hands[0], name="0f3a.png")
    given.old_hands = [(real,), (), (), ()]
    assert sheet(given).height == sheet(without).height + row, "real ones are not called painted"


def test_no_drawings_and_many_strokes():
    assert sheet(result(samples=0)).height < sheet(result(samples=1)).height
    rng = np.random.default_rng(0)
    drawn = draw_strokes([rng.uniform(-20, 130, (4, 2)).astype(np.float32) for _ in range(35)])
    assert drawn.size == (PANEL, PANEL)
    assert np.asarray(draw_strokes([])).min() == 255


def test_bad_columns():
    with pytest.raises(ValueError, match="columns"):
        sheet(result(), columns=0)
