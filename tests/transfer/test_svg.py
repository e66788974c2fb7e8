"""transfer.svg and transfer.bezier: smooth paths near the polylines, in KanjiVG's structure."""

import re

import numpy as np
import pytest
from lxml import etree

from data import kanjivg
from transfer.bezier import evaluate, fit
from transfer.svg import STYLE, drawing_to_svg, path_data

SVG, KVG = "{http://www.w3.org/2000/svg}", "{http://kanjivg.tagaini.net}"
FLOWER = [
    np.array(stroke, np.float32)
    for stroke in (
        [(17, 29.77), (26, 30), (60, 26.5), (90, 25.8)], [(32, 16), (35, 19), (39.75, 39.5)],
        [(71, 12.5), (71, 17), (64.5, 37.75)], [(58, 43.75), (59.7, 48), (59.5, 90), (64, 94), (92, 93), (95, 83)],
    )
]


def furthest(points: np.ndarray, line: np.ndarray) -> float:
    """Greatest distance of points (n, 2) from a polyline (m, 2)."""
    side = np.diff(line, axis=0)
    offset = points[:, None] - line[None, :-1]
    along = np.clip((offset * side).sum(-1) / np.maximum((side**2).sum(-1), 1e-12), 0, 1)
    return float(np.hypot(*np.moveaxis(offset - along[..., None] * side, -1, 0)).min(1).max())


def deviation(curves: np.ndarray, polyline: np.ndarray) -> float:
    drawn = evaluate(curves, np.linspace(0, 1, 50)).reshape(-1, 2)
    dense = np.concatenate([np.linspace(a, b, 40) for a, b in zip(polyline[:-1], polyline[1:])])
    return max(furthest(drawn, polyline), furthest(dense, drawn))


def smooth(rng) -> np.ndarray:
    t = np.linspace(0, 1, rng.integers(8, 40))[:, None]
    waves = sum(rng.normal(0, 18 / k, (1, 2)) * np.sin(np.pi * k * t + rng.uniform(0, 6, (1, 2))) for k in (1, 2, 3))
    return 54 + 40 * t * rng.normal(0, 1, (1, 2)) + waves


def cornered(rng) -> np.ndarray:
    return rng.uniform(0, 109, (rng.integers(2, 12), 2))


def hairpin(rng) -> np.ndarray:
    there = np.linspace(rng.uniform(0, 109, 2), rng.uniform(0, 109, 2), 6)
    return np.concatenate([there, there[::-1][1:]])


@pytest.mark.parametrize("shape", [smooth, cornered, hairpin])
def test_curves_stay_within_half_a_unit(shape):
    rng = np.random.default_rng(1)
    for _ in range(30):
        polyline = shape(rng)
        curves = fit(polyline)
        assert deviation(curves, polyline) <= 0.5
        assert np.array_equal(curves[1:, 0], curves[:-1, 3])
        assert np.allclose(curves[0, 0], polyline[0]) and np.allclose(curves[-1, 3], polyline[-1])


def test_tighter_tolerance_is_kept():
    polyline = smooth(np.random.default_rng(2))
    assert deviation(fit(polyline, 0.1), polyline) <= 0.12


def test_a_smooth_stroke_needs_few_curves_and_has_no_kinks():
    angle = np.linspace(0, 1.5 * np.pi, 14)
    curves = fit(np.stack([54 + 30 * np.cos(angle), 54 + 30 * np.sin(angle)], 1))
    assert len(curves) <= 5
    inward, onward = curves[:-1, 3] - curves[:-1, 2], curves[1:, 1] - curves[1:, 0]
    cosine = (inward * onward).sum(1) / np.hypot(*inward.T) / np.hypot(*onward.T)
    assert (cosine > 0.999).all()


def test_a_corner_stays_a_corner():
    curves = fit(np.array([(10, 10), (80, 10), (80, 90)]))
    assert len(curves) == 2
    assert curves[0, 3].tolist() == [80, 10]


def test_straight_and_degenerate_strokes():
    line = fit(np.array([(10.0, 10), (90, 50)]))
    assert len(line) == 1 and deviation(line, np.array([(10.0, 10), (90, 50)])) < 1e-6
    for points in ([(5, 6)], [(5, 6), (5, 6)], [(5, 6)] * 4):
        assert fit(np.array(points, float)).tolist() == [[[5, 6]] * 4]
    assert deviation(fit(np.array([(1, 1), (1, 1), (9, 1), (9, 1)])), np.array([(1.0, 1), (9, 1)])) < 1e-6
    assert np.isfinite(fit(np.array([(0, 0), (1e-7, 0), (0, 1e-7)]))).all()
    assert np.isfinite(fit(np.array([(0, 0), (1e6, 3e5), (-1e6, 0)]))).all()


def test_structure_is_kanjivgs():
    root = etree.fromstring(drawing_to_svg(FLOWER, 0x82B1))
    assert root.tag == SVG + "svg" and root.get("viewBox") == "0 0 109 109"
    assert root.nsmap["kvg"] == KVG[1:-1]
    outer = root.find(SVG + "g")
    assert (outer.get("id"), outer.get("style")) == ("kvg:StrokePaths_082b1", STYLE)
    (inner,) = outer
    assert (inner.tag, inner.get("id"), inner.get(KVG + "element")) == (SVG + "g", "kvg:082b1", "花")
    assert [p.tag for p in inner] == [SVG + "path"] * 4
    assert [p.get("id") for p in inner] == [f"kvg:082b1-s{i}" for i in (1, 2, 3, 4)]


def test_paths_use_m_and_c_only_with_two_decimals():
    number = r"-?\d+\.\d\d"
    pair = f"{number},{number}"
    for path in etree.fromstring(drawing_to_svg(FLOWER, 0x82B1)).iter(SVG + "path"):
        assert re.fullmatch(f"M{pair}(C{pair} {pair} {pair})+", path.get("d"))


def test_our_own_reader_takes_it(tmp_path):
    (tmp_path / "082b1.svg").write_text(drawing_to_svg(FLOWER, character="花"), "utf-8")
    (glyph,) = kanjivg.read(tmp_path)
    assert glyph.code_point == 0x82B1 and len(glyph.strokes) == len(FLOWER)
    for stroke, polyline in zip(glyph.strokes, FLOWER):
        assert deviation(kanjivg.parse_path(stroke.path), polyline.astype(float)) <= 0.5
    assert len(kanjivg.polylines(glyph)) == len(FLOWER)


def test_code_points_beyond_four_digits_unknown_and_empty():
    root = etree.fromstring(drawing_to_svg(FLOWER, 0x2000B))
    assert root.find(f".//{SVG}g/{SVG}g").attrib == {"id": "kvg:2000b", KVG + "element": "𠀋"}
    root = etree.fromstring(drawing_to_svg(FLOWER))
    assert dict(root.find(f".//{SVG}g/{SVG}g").attrib) == {"id": "kvg:00000"}
    assert etree.fromstring(drawing_to_svg([], 0x4E00)).find(f".//{SVG}path") is None


def test_no_negative_zero():
    assert "-0.00" not in path_data(np.array([(-0.001, 0.0), (50, -0.002)]))


@pytest.mark.parametrize(
    "stroke, says",
    [
        (np.array([(1, 2), (np.nan, 3)]), "finite"), (np.array([(1, 2), (np.inf, 3)]), "finite"),
        (np.zeros((3, 3)), "shape"), (np.zeros(4), "shape"), (np.zeros((0, 2)), "shape"),
    ],
)
def test_bad_strokes_are_named(stroke, says):
    with pytest.raises(ValueError, match=f"stroke 2: .*{says}"):
        drawing_to_svg([FLOWER[0], stroke], 0x82B1)
