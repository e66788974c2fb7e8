import numpy as np
import pytest

from transfer.data import strokes
from transfer.data.strokes import (
    distance_to_segment,
    from_stroke3,
    from_stroke5,
    resample,
    simplify,
    simplify_many,
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


def polylines(lengths):
    rng = np.random.default_rng(3)
    lines = [np.cumsum(rng.normal(size=(n, 2)), axis=0) for n in lengths]
    return lines, np.concatenate(lines), np.cumsum([0, *lengths])


def test_many_polylines_at_once_are_each_simplified_alone():
    lines, points, bounds = polylines((2, 30, 3, 50))
    keep = simplify_many(points, bounds, 0.5)
    assert keep.dtype == bool
    for line, a, b in zip(lines, bounds, bounds[1:]):
        assert points[a:b][keep[a:b]].astype(np.float32).tolist() == simplify(line, 0.5).tolist()


def test_what_would_take_too_long_is_kept_whole(monkeypatch):
    """The first level of a polyline of n points measures n - 2 distances."""
    lines, points, bounds = polylines((2, 40))
    assert not simplify_many(points, bounds, 2.0).all()
    for effort, whole in (((0, 37), True), ((0, 38), False), ((1, -5), True), ((1, -4), False)):
        monkeypatch.setattr(strokes, "_EFFORT", effort)
        keep = simplify_many(points, bounds, 1e9)  # one level: nothing is further away
        assert keep.sum() == (42 if whole else 4), effort
    monkeypatch.setattr(strokes, "_EFFORT", (0, 38 + 10))
    keep = simplify_many(points, bounds, 0.0)  # the second level is too much
    assert keep.all()


def test_points_of_a_line_are_measured_to_the_segment_not_to_the_endless_line():
    at = np.array([[-3.0, 4.0], [5.0, 2.0], [13.0, -4.0]])
    a, b = np.zeros(2), np.array([10.0, 0.0])
    assert distance_to_segment(at, a, b).tolist() == [5, 2, 5]
    assert distance_to_segment(at, a, a).tolist() == np.hypot(*at.T).tolist()
    far = distance_to_segment(at, np.zeros((3, 2)), np.array([[10, 0], [0, 10], [13, 0]]))
    assert far.tolist() == [5, 5, 4]


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
        assert rows.dtype == to_stroke5(rows, 40).dtype == np.float32
        assert from_stroke5(to_stroke5(rows, 40)).dtype == from_stroke3(rows)[0].dtype == np.float32
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


SHAPE = "give (n, 2) coordinates with n >= 2"
LIFT = "a lift is neither 0 nor 1; give 1 on the last point of each stroke, else 0"
PEN = "a pen state is not one-hot; exactly one of down, up, end is 1 in each row"


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: simplify("abc", 1), "polyline: not an array of numbers; give (n, 2) coordinates"),
        (lambda: simplify([(0, 0)], 1), f"polyline: shape (1, 2); {SHAPE}"),
        (lambda: resample(np.zeros((4, 3)), 5), f"polyline: shape (4, 3); {SHAPE}"),
        (lambda: to_stroke3([[(0, 0), (1, 1)], [1]]), f"stroke 2: shape (1,); {SHAPE}"),
        (
            lambda: to_stroke3([[(0, 0), (np.inf, 0)]]),
            "stroke 1: holds NaN or infinite coordinates; give finite numbers",
        ),
        (lambda: simplify([(0, 0), (1, 1)], -0.5), "epsilon -0.5: give a finite number >= 0"),
        (lambda: resample([(0, 0), (1, 1)], 1), "points is 1; give 2 or more"),
        (lambda: from_stroke3("x"), "stroke-3: not an array of numbers; give (n, 3) rows"),
        (lambda: from_stroke3([[1, 2]]), "stroke-3: shape (1, 2); give (n, 3) rows"),
        (lambda: from_stroke5([1, 2]), "stroke-5: shape (2,); give (n, 5) rows"),
        (
            lambda: to_stroke5([[0, 0, 0], [0, 0, 1], [0, np.nan, 1]], 9),
            "stroke-3: row 2 holds NaN or infinity; give finite numbers",
        ),
        (lambda: from_stroke3([[0, 0, 0.5]]), f"stroke-3: {LIFT}"),
        (lambda: to_stroke5([[0, 0, 2]], 3), f"stroke-3: {LIFT}"),
        (
            lambda: to_stroke5(np.zeros((5, 3)), 4),
            "stroke-3: 5 points do not fit a stroke-5 of length 4; raise the length",
        ),
        (lambda: from_stroke5([[0, 0, 1, 1, 0]]), f"stroke-5: {PEN}"),
        (lambda: from_stroke5([[0, 0, 0.5, 0.5, 0]]), f"stroke-5: {PEN}"),
    ],
)
def test_the_line_says_what_is_wrong_and_what_to_give(call, says):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == says


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
    dot = resample([[3, 4], [3, 4]], 5)
    np.testing.assert_array_equal(dot, np.full((5, 2), [3, 4]))
    assert dot.dtype == np.float32
    assert resample([[3, 4], [3, 9], [5, 9]], 2).tolist() == [[3, 4], [5, 9]]
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
