import math

import numpy as np
import pytest

from transfer.data.raster import rasterise
from transfer.evaluation.stroke_quality import (
    METRICS,
    WORST,
    _warp,
    aiou,
    chamfer,
    compare,
    count_error,
    coverage,
    direction,
    ldtw,
    match,
    order,
    resample,
    resample_each,
    to_unit_box,
)


def bars(*xs, top=0, bottom=100):
    return [np.array([(x, top), (x, bottom)], np.float32) for x in xs]


def kanji(seed=0, strokes=8):
    """Strokes far enough apart that each can match only itself."""
    rng = np.random.default_rng(seed)
    places = [(x, y) for y in (15, 55, 95) for x in (15, 55, 95)]
    return [
        (np.array(places[i]) + np.cumsum(rng.uniform(1, 4, (4, 2)), 0)).astype(np.float32)
        for i in range(strokes)
    ]


def plain_dtw(a, b):
    best = {(-1, -1): (0.0, 0)}
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            before = [
                best.get(at, (math.inf, 0)) for at in ((i - 1, j - 1), (i - 1, j), (i, j - 1))
            ]
            total, pairs = min(before, key=lambda item: item[0])
            best[i, j] = total + math.dist(p, q), pairs + 1
    return best[len(a) - 1, len(b) - 1]


def test_fit_centres_and_scales_by_the_larger_side():
    a, b = to_unit_box([np.float32([(10, 20), (30, 20)]), np.float32([(20, 20), (20, 60)])])
    assert a.tolist() == [[-0.25, -0.5], [0.25, -0.5]] and b.tolist() == [[0, -0.5], [0, 0.5]]
    assert to_unit_box([np.full((2, 2), 7.0)])[0].tolist() == [[0, 0], [0, 0]]


def test_resampling_follows_the_ink_and_skips_pen_lifts():
    strokes = [np.float32([(0, 0), (10, 0), (10, 20)]), np.float32([(50, 50), (60, 50)])]
    assert np.allclose(
        resample(strokes, 9),
        [(0, 0), (5, 0), (10, 0), (10, 5), (10, 10), (10, 15), (10, 20), (55, 50), (60, 50)],
    )
    assert np.allclose(
        resample_each(strokes, 3), [[(0, 0), (10, 5), (10, 20)], [(50, 50), (55, 50), (60, 50)]]
    )
    assert np.allclose(resample_each([np.full((2, 2), 7.0), strokes[1]], 3)[0], 7)


def test_count_error_is_drawn_minus_reference():
    assert [count_error(kanji(strokes=n), kanji(strokes=5)) for n in (3, 5, 6)] == [-2, 0, 1]


def test_match_finds_shuffled_strokes():
    shuffle = [3, 0, 5, 1, 7, 2, 6, 4]
    found = match([kanji()[i] for i in shuffle], kanji())
    assert found.drawn.tolist() == list(range(8)) and found.reference.tolist() == shuffle
    assert np.allclose(found.cost, 0) and found.forward.all()


def test_match_costs_and_bound():
    found = match(bars(0, 30, 100), bars(0, 40, 100))
    assert np.allclose(found.cost, [0, 0.1, 0], atol=1e-6)
    assert match(bars(0, 30, 100), bars(0, 50, 100)).reference.tolist() == [0, 2]
    assert match(bars(0, 30, 100), bars(0, 50, 100), bound=0.3).reference.tolist() == [0, 1, 2]


def test_junk_does_not_pull_good_matches_apart():
    # By the sum of plain distances the stroke at 31 would go to 40, since that brings the junk at
    # 10 nearer to a partner.
    found = match(bars(0, 31, 10, 100), bars(0, 30, 40, 100))
    assert list(zip(found.drawn.tolist(), found.reference.tolist())) == [(0, 0), (1, 1), (3, 3)]


def test_order_is_the_share_of_concordant_pairs():
    strokes = kanji(strokes=4)
    assert order(strokes, strokes) == 1
    assert order(strokes[::-1], strokes) == 0
    assert order([strokes[i] for i in (1, 0, 2, 3)], strokes) == pytest.approx(5 / 6)
    assert order([strokes[i] for i in (3, 0, 1, 2)], strokes) == pytest.approx(3 / 6)


def test_order_counts_matched_strokes_only():
    frame, across = bars(0, 100), [np.float32([(100, 100), (0, 0)])]
    assert order(frame + across, frame + bars(50)) == 1
    assert order(frame[::-1] + across, frame + bars(50)) == 0


def test_order_of_one_and_of_no_match():
    assert order(bars(0), bars(5)) == 1
    assert math.isnan(order(bars(0), [s[::-1] for s in bars(0)]))


def test_direction_is_the_share_of_strokes_run_the_reference_way():
    strokes = kanji(strokes=4)
    backwards = [s[::-1] for s in strokes]
    assert direction(strokes, strokes) == 1
    assert direction(backwards, strokes) == 0
    long = bars(0, 100)  # far from themselves run the other way
    assert direction(long, long) == 1 and direction([s[::-1] for s in long], long) == 0
    assert direction(strokes[:3] + backwards[3:], strokes) == 0.75
    assert math.isnan(direction([np.float32([(0, 0), (1, 0)])], bars(0)))


def test_coverage_is_the_share_of_the_references_strokes_that_were_written():
    strokes = kanji(strokes=9)
    assert coverage(strokes, strokes) == 1 == coverage([s[::-1] for s in strokes], strokes)
    assert coverage([strokes[i] for i in (0, 2, 6, 8)], strokes) == pytest.approx(
        4 / 9
    )  # the corners keep the frame
    assert (
        coverage(strokes, [strokes[i] for i in (0, 2, 6, 8)]) == 1
    )  # strokes too many are the count's affair


def test_warp_by_hand():
    line = np.array([(0.0, 0), (1, 0), (2, 0)])
    assert _warp(line, line[[0, 2]]) == (1, 3)
    assert _warp(line[[0, 1, 1, 1, 2]], line) == (0, 5)
    assert _warp(line[:2], line[:2] + (0, 3)) == (6, 2)
    assert _warp(line * 0, line * 0) == (0, 3)


@pytest.mark.parametrize("n, m", [(2, 2), (2, 9), (9, 2), (13, 17), (30, 21)])
def test_warp_is_plain_dtw(n, m):
    rng = np.random.default_rng(n)
    a, b = np.cumsum(rng.normal(size=(n, 2)), 0), np.cumsum(rng.normal(size=(m, 2)), 0)
    assert _warp(a, b) == pytest.approx(plain_dtw(a, b))


def test_ldtw_is_plain_dtw_of_the_ink_per_pair():
    a, b = kanji(0), kanji(1)[::-1]
    total, pairs = plain_dtw(resample(to_unit_box(a), 128), resample(to_unit_box(b), 128))
    assert ldtw(a, b) == pytest.approx(total / pairs)
    assert ldtw(a, b) > 2 * ldtw(a, b[::-1])  # order counts


def test_aiou_of_an_extra_and_of_a_missing_stroke():
    assert aiou(bars(0, 50, 100), bars(0, 100)) == pytest.approx(2 / 3, abs=0.002)
    assert aiou(bars(0, 100), bars(0, 50, 100)) == pytest.approx(2 / 3, abs=0.002)
    assert aiou(bars(0, 100), [s[:, ::-1] for s in bars(0, 100)]) < 0.3


def test_aiou_is_that_of_the_projects_raster_over_pens():
    a, b = kanji(0), [s + np.float32((0, 2 * (i % 3))) for i, s in enumerate(kanji(1))]

    def pictures(strokes, pens):
        placed = [(s * 7 / 8 + 0.5) * 109 for s in to_unit_box(strokes)]
        return [rasterise(placed, 64, pen * 109 / 64) / 255 for pen in pens]

    (truth,), drawn = pictures(b, [3]), pictures(a, 1.5 * 4 ** np.linspace(0, 1, 9))
    values = [np.minimum(p, truth).sum() / np.maximum(p, truth).sum() for p in drawn]
    assert aiou(a, b) == pytest.approx(max(values), abs=0.005)
    assert max(values) > min(values) + 0.1


def test_chamfer_of_an_extra_stroke():
    assert chamfer(bars(0, 50, 100), bars(0, 100)) == pytest.approx(0.5 / 3 / 2, abs=1e-3)
    assert chamfer(bars(0, 100), bars(0, 50, 100)) == pytest.approx(0.5 / 3 / 2, abs=1e-3)
    assert chamfer(kanji(0)[::-1], kanji(0)) == pytest.approx(0, abs=0.01)  # order does not count


def test_a_drawing_is_its_own_perfect_copy():
    assert compare(kanji(), kanji()) == pytest.approx(
        {
            "count_error": 0,
            "order": 1,
            "direction": 1,
            "coverage": 1,
            "ldtw": 0,
            "aiou": 1,
            "chamfer": 0,
        }
    )


def test_size_and_place_do_not_matter():
    drawing, reference = kanji(0, 7)[::-1], kanji(1)
    moved = [s * 3 + np.float32((40, -7)) for s in drawing]
    expected = compare(drawing, reference)
    assert expected["ldtw"] > 0.05 and expected["chamfer"] > 0.001 and expected["aiou"] < 0.99
    assert compare(moved, reference) == pytest.approx(expected, abs=1e-5)


def test_stretching_does_matter():
    stretched = [s * np.float32((1, 0.6)) for s in kanji()]
    assert (
        ldtw(stretched, kanji()) > 0.05
        and chamfer(stretched, kanji()) > 0.05
        and aiou(stretched, kanji()) < 0.6
    )


@pytest.mark.parametrize(
    "drawing, reference, error", [([], kanji(), -8), (kanji(), [], 8), ([], [], 0)]
)
def test_empty_drawings_get_the_worst_values(drawing, reference, error):
    assert compare(drawing, reference) == pytest.approx(
        {
            "count_error": error,
            "order": math.nan,
            "direction": math.nan,
            "coverage": 0 if reference else math.nan,
            "ldtw": WORST,
            "aiou": 0,
            "chamfer": WORST,
        },
        nan_ok=True,
    )


def test_a_drawing_of_dots_is_bad_but_finite():
    for dots in ([np.full((2, 2), 50.0)], [np.full((2, 2), 50.0), np.full((3, 2), 9.0)]):
        values = compare(dots, kanji())
        assert (
            0.2 < values["ldtw"] <= WORST
            and 0.1 < values["chamfer"] <= WORST
            and 0 <= values["aiou"] < 0.1
        )
        assert set(values) == set(METRICS)
