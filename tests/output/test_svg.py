"""transfer.output.svg and transfer.output.bezier: smooth paths near the polylines, in KanjiVG's
structure."""

import io
import re
import zipfile

import numpy as np
import pytest
from lxml import etree
from PIL import Image

from transfer.data.curves import flatten, parse_path
from transfer.data.formats import svg
from transfer.data.formats.variants import variant
from transfer.data.published import kanjivg
from transfer.output.bezier import evaluate, fit_curves
from transfer.output.svg import STYLE, drawing_to_svg, number_places, path_data

SVG, KVG = "{http://www.w3.org/2000/svg}", "{http://kanjivg.tagaini.net}"
FLOWER = [
    np.array(stroke, np.float32)
    for stroke in (
        [(17, 29.77), (26, 30), (60, 26.5), (90, 25.8)],
        [(32, 16), (35, 19), (39.75, 39.5)],
        [(71, 12.5), (71, 17), (64.5, 37.75)],
        [(58, 43.75), (59.7, 48), (59.5, 90), (64, 94), (92, 93), (95, 83)],
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
    waves = sum(
        rng.normal(0, 18 / k, (1, 2)) * np.sin(np.pi * k * t + rng.uniform(0, 6, (1, 2)))
        for k in (1, 2, 3)
    )
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
        curves = fit_curves(polyline)
        assert deviation(curves, polyline) <= 0.5
        assert np.array_equal(curves[1:, 0], curves[:-1, 3])
        assert np.allclose(curves[0, 0], polyline[0]) and np.allclose(curves[-1, 3], polyline[-1])


def test_tighter_tolerance_is_kept():
    polyline = smooth(np.random.default_rng(2))
    assert deviation(fit_curves(polyline, 0.1), polyline) <= 0.12


def test_a_smooth_stroke_needs_few_curves_and_has_no_kinks():
    angle = np.linspace(0, 1.5 * np.pi, 14)
    curves = fit_curves(np.stack([54 + 30 * np.cos(angle), 54 + 30 * np.sin(angle)], 1))
    assert len(curves) <= 5
    inward, onward = curves[:-1, 3] - curves[:-1, 2], curves[1:, 1] - curves[1:, 0]
    cosine = (inward * onward).sum(1) / np.hypot(*inward.T) / np.hypot(*onward.T)
    assert (cosine > 0.999).all()


def test_a_corner_stays_a_corner():
    curves = fit_curves(np.array([(10, 10), (80, 10), (80, 90)]))
    assert len(curves) == 2
    assert curves[0, 3].tolist() == [80, 10]


def test_straight_and_degenerate_strokes():
    line = fit_curves(np.array([(10.0, 10), (90, 50)]))
    assert len(line) == 1 and deviation(line, np.array([(10.0, 10), (90, 50)])) < 1e-6
    for points in ([(5, 6)], [(5, 6), (5, 6)], [(5, 6)] * 4):
        assert fit_curves(np.array(points, float)).tolist() == [[[5, 6]] * 4]
    assert (
        deviation(
            fit_curves(np.array([(1, 1), (1, 1), (9, 1), (9, 1)])), np.array([(1.0, 1), (9, 1)])
        )
        < 1e-6
    )
    assert np.isfinite(fit_curves(np.array([(0, 0), (1e-7, 0), (0, 1e-7)]))).all()
    assert np.isfinite(fit_curves(np.array([(0, 0), (1e6, 3e5), (-1e6, 0)]))).all()


def test_structure_is_kanjivgs():
    root = etree.fromstring(drawing_to_svg(FLOWER, 0x82B1))
    assert root.tag == SVG + "svg" and root.get("viewBox") == "0 0 109 109"
    assert root.nsmap["kvg"] == KVG[1:-1]
    outer = root.find(SVG + "g")
    stem = re.fullmatch(r"kvg:StrokePaths_(082b1-Drawn[0-9a-f]{10})", outer.get("id"))[1]
    assert outer.get("style") == STYLE
    (inner,) = outer
    assert (inner.tag, inner.get("id"), inner.get(KVG + "element")) == (
        SVG + "g",
        f"kvg:{stem}",
        "花",
    )
    assert [p.tag for p in inner] == [SVG + "path"] * 4
    assert [p.get("id") for p in inner] == [f"kvg:{stem}-s{i}" for i in (1, 2, 3, 4)]
    assert root[1].get("id") == f"kvg:StrokeNumbers_{stem}"


def test_only_the_same_drawing_has_the_same_ids():
    """Two drawings of one kanji may stand in one page, as its candidates do."""
    ids = lambda text: re.findall(r'\bid="([^"]+)"', text)
    last = FLOWER[3].copy()
    last[-1] += 0.02
    given = ids(drawing_to_svg(FLOWER, 0x82B1))
    assert given == ids(drawing_to_svg([s.copy() for s in FLOWER], character="花"))
    assert given == ids(drawing_to_svg(FLOWER, 0x82B1, animate=True, opacity=[1, 0.5, 0.2, 1]))
    others = (
        drawing_to_svg([*FLOWER[:3], last], 0x82B1),
        drawing_to_svg(FLOWER[:3], 0x82B1),
        drawing_to_svg(FLOWER[::-1], 0x82B1),
        drawing_to_svg(FLOWER, 0x8303),
        drawing_to_svg(FLOWER),
    )
    every = [given, *map(ids, others)]
    assert [len(found) for found in every] == [7, 7, 6, 7, 7, 7]
    assert len(set(sum(every, []))) == sum(map(len, every))


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
        assert deviation(parse_path(stroke.path), polyline.astype(float)) <= 0.5
    assert len(kanjivg.polylines(glyph)) == len(FLOWER)


def test_a_folder_of_drawings_named_by_their_ids_is_read_as_variants(tmp_path):
    for drawing in (FLOWER, FLOWER[::-1]):
        text = drawing_to_svg(drawing, 0x82B1)
        stem = re.search(r'"kvg:StrokePaths_([^"]+)"', text)[1]
        (tmp_path / f"{stem}.svg").write_text(text, "utf-8")
        assert svg.read(text.encode()).word == "花"
    one, other = kanjivg.read(tmp_path)
    assert one.code_point == other.code_point == 0x82B1 and one.id != other.id
    assert {g.id for g in (one, other)} == {
        f"kvg:082b1-{variant(path_data(s) for s in d)}" for d in (FLOWER, FLOWER[::-1])
    }


def test_code_points_beyond_four_digits_unknown_and_empty():
    root = etree.fromstring(drawing_to_svg(FLOWER, 0x2000B))
    name = variant([path_data(stroke) for stroke in FLOWER])
    assert root.find(f".//{SVG}g/{SVG}g").attrib == {
        "id": f"kvg:2000b-{name}",
        KVG + "element": "𠀋",
    }
    text = drawing_to_svg(FLOWER)
    root = etree.fromstring(text)
    assert dict(root.find(f".//{SVG}g/{SVG}g").attrib) == {"id": f"kvg:00000-{name}"}
    assert svg.read(text.encode()).word == ""
    assert etree.fromstring(drawing_to_svg([], 0x4E00)).find(f".//{SVG}path") is None


def test_no_negative_zero():
    assert "-0.00" not in path_data(np.array([(-0.001, 0.0), (50, -0.002)]))


@pytest.mark.parametrize(
    "stroke, says",
    [
        (np.array([(1, 2), (np.nan, 3)]), "finite"),
        (np.array([(1, 2), (np.inf, 3)]), "finite"),
        (np.zeros((3, 3)), "shape"),
        (np.zeros(4), "shape"),
        (np.zeros((0, 2)), "shape"),
    ],
)
def test_bad_strokes_are_named(stroke, says):
    with pytest.raises(ValueError, match=f"stroke 2: .*{says}"):
        drawing_to_svg([FLOWER[0], stroke], 0x82B1)


# Stroke numbers, animation, opacity ---------------------------------------------------------------


def shape(root) -> list:
    """An SVG's tree as far as KanjiVG's format fixes it: tags, ids but for the variant, kinds of
    attributes, text."""
    kept = []
    for element in root.iter(etree.Element):
        fixed = {
            k: v
            for k, v in element.attrib.items()
            if k in ("id", "style", "width", "height", "viewBox") or k == KVG + "element"
        }
        if "id" in fixed:
            fixed["id"] = re.sub("-Drawn[0-9a-f]{10}", "", fixed["id"])
        if element.get("transform"):
            fixed["transform"] = re.sub(r"-?\d+\.\d\d", "N", element.get("transform"))
        kept.append((element.tag, fixed, (element.text or "").strip()))
    return kept


def published(real_data, name: str):
    from transfer.data.prepare import kanjivg_source

    source = kanjivg_source(real_data)
    if source.suffix != ".zip":
        pytest.skip("needs KanjiVG's zip of SVGs")
    with zipfile.ZipFile(source) as archive:
        member = next(m for m in archive.namelist() if m.endswith(f"/{name}.svg"))
        return etree.fromstring(archive.read(member))


@pytest.mark.realdata
@pytest.mark.parametrize("code_point", [0x4E00, 0x82B1, 0x795E])
def test_same_structure_as_a_published_file(real_data, code_point):
    theirs = published(real_data, f"{code_point:05x}")
    drawn = [flatten(path.get("d")) for path in theirs.iter(SVG + "path")]
    ours = etree.fromstring(drawing_to_svg(drawn, code_point))
    # What KanjiVG knows beside the strokes, and a drawing does not: components and stroke types.
    for group in list(theirs.iter(SVG + "g"))[::-1]:
        if "-g" in group.get("id"):
            parent, at = group.getparent(), group.getparent().index(group)
            parent[at : at + 1] = list(group)
    assert shape(ours) == shape(theirs)


@pytest.mark.realdata
def test_numbers_stand_where_kanjivg_would_put_them(real_data):
    """As near to their strokes' starts as KanjiVG's own, and as free of ink."""
    far, covered = [], []
    for name in ("082b1", "0795e", "09053", "056fd", "06625", "09b31"):
        theirs = published(real_data, name)
        drawn = [flatten(path.get("d")) for path in theirs.iter(SVG + "path")]
        places = np.array(
            [
                [float(v) for v in t.get("transform")[7:-1].split()[4:]]
                for t in theirs.iter(SVG + "text")
            ]
        )
        ink = np.concatenate(
            [np.linspace(a, b, 8) for line in drawn for a, b in zip(line[:-1], line[1:])]
        )
        for found in (np.array(number_places(drawn)), places):
            middle = found + [(2.3 * len(str(n)), -3.0) for n in range(1, len(found) + 1)]
            far.append(np.hypot(*(middle - [line[0] for line in drawn]).T).mean())
            covered.append(
                (np.hypot(*np.moveaxis(middle[:, None] - ink, -1, 0)).min(1) < 2.5).mean()
            )
    assert np.mean(far[::2]) < np.mean(far[1::2]) + 1
    assert np.mean(covered[::2]) <= np.mean(covered[1::2]) + 0.02


def test_numbers_are_near_their_starts_apart_and_in_the_box():
    rng = np.random.default_rng(0)
    drawing = [rng.uniform(0, 109, (5, 2)) for _ in range(12)]
    places = np.array(number_places(drawing))
    assert np.hypot(*(places - [stroke[0] for stroke in drawing]).T).max() < 18
    assert (
        (places[:, 0] >= 0).all()
        and (places[:, 0] < 105).all()
        and (places[:, 1] > 5).all()
        and (places[:, 1] < 109).all()
    )
    same = np.array(number_places([np.array([(50.0, 50), (60, 60)])] * 4))
    assert min(np.hypot(*(a - b)) for i, a in enumerate(same) for b in same[:i]) > 4, (
        "numbers of one start do not lie on each other"
    )
    assert "<text" not in drawing_to_svg(drawing, numbers=False) and number_places([]) == []


def test_animated_svg_is_the_same_drawing_with_times_in_order():
    still, moving = (
        etree.fromstring(drawing_to_svg(FLOWER, 0x82B1, animate=animate))
        for animate in (False, True)
    )
    paths = list(moving.iter(SVG + "path"))
    assert [p.get("d") for p in paths] == [p.get("d") for p in still.iter(SVG + "path")]
    assert [p.get("id") for p in paths] == [p.get("id") for p in still.iter(SVG + "path")]
    times = [tuple(float(v) for v in re.findall(r"([\d.]+)s", p.get("style"))) for p in paths]
    for (begin, time), (following, _) in zip(times, times[1:]):
        assert time > 0 and begin + time <= following + 0.01
    assert times[0][0] == 0 and times[3][1] > times[1][1], "a longer stroke takes longer"
    assert all(p.get("pathLength") == "1" for p in paths)
    style = moving.find(SVG + "style").text
    assert "prefers-reduced-motion: no-preference" in style
    outside = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", style)
    assert "animation" not in outside and "dasharray" not in outside, (
        "who wants no motion gets the drawing as it is"
    )


def test_nothing_active_in_the_file():
    for text in (
        drawing_to_svg(FLOWER, 0x82B1, animate=True, opacity=[1, 0.5, 0.2, 1]),
        drawing_to_svg(FLOWER),
    ):
        root = etree.fromstring(text)
        assert {etree.QName(e).localname for e in root.iter(etree.Element)} <= {
            "svg",
            "g",
            "path",
            "text",
            "style",
        }
        assert not any(
            name.lower().startswith("on") or "href" in name
            for e in root.iter(etree.Element)
            for name in e.attrib
        )
        assert "url(" not in text and "@import" not in text and "<!" not in text


def test_still_viewers_show_the_whole_animated_drawing_and_its_opacity():
    resvg = pytest.importorskip("resvg_py")

    def ink(text):
        png = bytes(
            resvg.svg_to_bytes(
                svg_string=text, background="white", width=218, height=218, skip_system_fonts=True
            )
        )
        return 255 - np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)

    still = ink(drawing_to_svg(FLOWER, 0x82B1, numbers=False))
    assert still.sum() > 255 * 2000
    assert np.array_equal(ink(drawing_to_svg(FLOWER, 0x82B1, numbers=False, animate=True)), still)
    faint = ink(drawing_to_svg(FLOWER, 0x82B1, numbers=False, opacity=[0.2, 1, 1, 1]))
    x, y = 2 * 60, round(2 * 26.5)  # on the first stroke
    assert still[y, x] > 250 and 40 < faint[y, x] < 62
    assert faint[2 * 60, round(2 * 59.6)] == still[2 * 60, round(2 * 59.6)], (
        "the other strokes stay as they are"
    )
