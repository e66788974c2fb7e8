import numpy as np
import pytest

from transfer.data.strokes import (
    distance_to_segment,
    from_stroke3,
    from_stroke5,
    resample,
    simplify,
    to_stroke3,
    to_stroke5,
)
from transfer.system.errors import DataError


def deviation(points, kept):
    """The largest distance of a point to the simplified line between the kept points around it."""
    index = [int(np.flatnonzero((points == k).all(1))[0]) for k in kept]
    return max(
        distance_to_segment(
            points[a : b + 1].astype(float), points[a].astype(float), points[b].astype(float)
        ).max()
        for a, b in zip(index, index[1:])
    )


@pytest.mark.parametrize("epsilon", [0.1, 0.25, 2.0])
def test_no_point_is_further_than_epsilon(epsilon):
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = np.cumsum(rng.normal(size=(200, 2)), axis=0).astype(np.float32)
        kept = simplify(points, epsilon)
        assert (kept[0] == points[0]).all() and (kept[-1] == points[-1]).all() and len(kept) >= 2
        assert deviation(points, kept) <= epsilon + 1e-6


def test_epsilon_is_exact():
    bump = [(0, 0), (5, 1), (10, 0)]
    assert simplify(bump, 1.0).tolist() == [[0, 0], [10, 0]]
    assert len(simplify(bump, 0.999)) == 3


def test_closed_and_doubling_strokes_keep_their_shape():
    assert len(simplify([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)], 0.25)) == 5
    assert simplify([(0, 0), (10, 0), (5, 0)], 0.25).tolist() == [[0, 0], [10, 0], [5, 0]]
    assert simplify([(1, 1)] * 4, 0.25).tolist() == [[1, 1], [1, 1]]


def test_a_very_long_stroke_needs_no_recursion():
    zigzag = np.column_stack([np.arange(5000.0), np.arange(5000) % 2 * 10.0])
    assert len(simplify(zigzag, 0.25)) == 5000


def drawing(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0, 109, (n, 2)).astype(np.float32) for n in (2, 7, 3)]


def test_stroke3_of_a_known_drawing_and_back():
    rows = to_stroke3([[(1, 2), (4, 2)], [(4, 6), (5, 6), (5, 9)]])
    assert rows.tolist() == [[1, 2, 0], [3, 0, 1], [0, 4, 0], [1, 0, 0], [0, 3, 1]]
    assert [p.tolist() for p in from_stroke3(rows)] == [[[1, 2], [4, 2]], [[4, 6], [5, 6], [5, 9]]]


def test_round_trips():
    for seed in range(5):
        lines = drawing(seed)
        rows = to_stroke3(lines)
        assert np.array_equal(from_stroke5(to_stroke5(rows, 40)), rows)
        assert np.array_equal(from_stroke5(to_stroke5(rows, len(rows))), rows)
        for a, b in zip(lines, from_stroke3(rows), strict=True):
            assert np.allclose(a, b, atol=1e-4)


def test_stroke5_padding_and_pen():
    rows = to_stroke5(to_stroke3([[(1, 2), (4, 2)]]), 4)
    assert rows.tolist() == [[1, 2, 1, 0, 0], [3, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]


def test_odd_but_valid_input():
    assert to_stroke3([]).shape == (0, 3) and from_stroke3(np.zeros((0, 3))) == []
    assert [p.tolist() for p in from_stroke3([[1, 1, 1], [2, 0, 0], [1, 0, 0]])] == [
        [[1, 1], [1, 1]],
        [[3, 1], [4, 1]],
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: simplify([(0, 0), (np.nan, 1)], 1),
        lambda: simplify([(0, 0)], 1),
        lambda: simplify([1, 2, 3], 1),
        lambda: simplify([(0, 0), (1, 1)], -1),
        lambda: simplify([(0, 0), (1, 1)], np.nan),
        lambda: simplify("abc", 1),
        lambda: to_stroke3([[(0, 0), (np.inf, 0)]]),
        lambda: to_stroke3([np.zeros((2, 3))]),
        lambda: from_stroke3(np.zeros((3, 5))),
        lambda: from_stroke3([[0, 0, 0.5]]),
        lambda: from_stroke3([[np.nan, 0, 1]]),
        lambda: to_stroke5(np.zeros((5, 3)), 4),
        lambda: to_stroke5(np.full((2, 3), np.nan), 4),
        lambda: from_stroke5(np.zeros((3, 5))),
        lambda: from_stroke5(np.zeros((3, 3))),
        lambda: from_stroke5([[np.inf, 0, 1, 0, 0]]),
    ],
)
def test_bad_input_is_one_clear_line(call):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) and "\n" not in str(error.value)


def test_resample_keeps_ends_and_gives_corners_points_of_their_own():
    corner = np.array([[0, 0], [40, 0], [40, 40]], np.float32)
    found = resample(corner, 12)
    assert found.shape == (12, 2) and found.dtype == np.float32
    np.testing.assert_array_equal(found[[0, -1]], corner[[0, -1]])
    assert (abs(found - [40, 0]).max(1) < 1e-5).any()
    even = resample(np.array([[0, 0], [10, 0], [11, 0]], np.float32), 12)
    np.testing.assert_allclose(even[:, 0], np.arange(12), atol=1e-5)


def test_resample_moves_little_when_the_line_does():
    line = np.cumsum(np.random.default_rng(0).normal(2, 3, (9, 2)), 0).astype(np.float32)
    near = line + np.float32(1e-3)
    assert abs(resample(line, 12) - resample(near, 12)).max() < 0.02


def test_resample_of_a_dot_and_of_nonsense():
    np.testing.assert_array_equal(resample([[3, 4], [3, 4]], 5), np.full((5, 2), [3, 4]))
    with pytest.raises(DataError, match="2 or more"):
        resample([[0, 0], [1, 1]], 1)
    with pytest.raises(DataError):
        resample([[0, 0]], 5)


def test_a_line_that_wavers_about_straight_left_gets_no_corners():
    """Its heading passes from just below pi to just above -pi, which is hardly a turn."""
    right = np.array([[20, 50], [40, 50.5], [60, 50], [80, 50.5], [100, 50]], np.float32)
    left = right * [-1, 1] + [120, 0]
    np.testing.assert_allclose(
        resample(left, 12), resample(right, 12) * [-1, 1] + [120, 0], atol=1e-4
    )
    assert np.ptp(np.diff(resample(left, 12)[:, 0])) < 1  # evenly spaced, nearly
