import gzip

import numpy as np
import pytest
from published_files import PATHS, svg, svg_zip, xml_gz

from transfer.data.curves import flatten, parse_path
from transfer.data.published.kanjivg import (
    Component,
    Glyph,
    Stroke,
    is_kanji,
    polylines,
    polylines_many,
    read,
)
from transfer.system.errors import DataError


def test_absolute_and_relative_curves_agree():
    absolute = parse_path("M10,20C30,25,40,50,60,70")
    assert absolute.tolist() == [[[10, 20], [30, 25], [40, 50], [60, 70]]]
    assert np.allclose(parse_path("m10,20c20,5,30,30,50,50"), absolute)


def test_repeated_groups_are_relative_to_the_point_reached():
    curves = parse_path("M1,1c1,0,2,0,3,0 1,1,2,2,3,3")
    assert curves.tolist() == [[[1, 1], [2, 1], [3, 1], [4, 1]], [[4, 1], [5, 2], [6, 3], [7, 4]]]


@pytest.mark.parametrize("d", ["M0,0C1,2,3,4,5,6S9,8,11,10", "M0,0c1,2,3,4,5,6s4,2,6,4"])
def test_s_mirrors_the_control_point_before(d):
    assert parse_path(d)[1].tolist() == [[5, 6], [7, 8], [9, 8], [11, 10]]


def test_s_mirrors_an_s_too_and_after_m_starts_at_the_point():
    curves = parse_path("M1,2S3,4,5,6s1,1,2,2")
    assert curves[0].tolist() == [[1, 2], [1, 2], [3, 4], [5, 6]]
    assert curves[1].tolist() == [[5, 6], [7, 8], [6, 7], [7, 8]]


@pytest.mark.parametrize(
    "numbers", ["-.5.3,1e-3-2+4,5E0", " -.5 .3 .001 -2 4. 5 ", "-.5,.3\n1e-3 , -2\t4,5"]
)
def test_numbers_without_separators(numbers):
    assert np.allclose(parse_path(f"M0,0C{numbers}")[0, 1:].ravel(), [-0.5, 0.3, 1e-3, -2, 4, 5])


@pytest.mark.parametrize(
    ("d", "words"),
    [
        ("M0,0L5,5", "'L'"),
        ("M0,0c1,1,2,2,3,3z", "'z'"),
        ("M0,0Q1,1,2,2", "'Q'"),
        ("M0,0C1,2,3,4,5", "'C' has 5"),
        ("M0,0s1,2,3", "'s' has 3"),
        ("M0,0,5,5c1,1,2,2,3,3", "'M' has 4"),
        ("M0c1,1,2,2,3,3", "'M' has 1"),
        ("C1,2,3,4,5,6", "starts with command 'C'"),
        ("1,2C1,2,3,4,5,6", "'1'"),
        ("M NaN,0C1,2,3,4,5,6", "'M' has 0"),
        ("M0,0CNaN,2,3,4,5,6", "'C' has 0"),
        ("M0,0C1e999,2,3,4,5,6", "'C' holds an infinite"),
        ("", "draws nothing"),
        ("M3,4", "draws nothing"),
        ("M0,0C1,,2,3,4,5,6", "'C' has 1"),
        ("M0,0C1,2,3,4,5,6,", "comma"),
        ("M0,0C1,2,3,4,5,6M9,9C1,2,3,4,5,6", "second path command 'M'"),
        ("M0,0C1,2,3,4,5,６", "'C' has 5"),
    ],
)
def test_bad_paths_name_place_and_command(d, words):
    with pytest.raises(DataError, match="kvg:04e00 stroke 1") as error:
        parse_path(d, "file.xml.gz: kvg:04e00 stroke 1")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_flatten_stays_within_its_tolerance():
    curve = np.array([[[0, 0], [100, 0], [0, 100], [100, 100]]], float)
    t = np.linspace(0, 1, 5001)[:, None]
    p = curve[0]
    exact = (
        (1 - t) ** 3 * p[0] + 3 * (1 - t) ** 2 * t * p[1] + 3 * (1 - t) * t**2 * p[2] + t**3 * p[3]
    )
    for tolerance in (1.0, 0.02):
        line = flatten(curve, tolerance)
        a, b = line[:-1, None], line[1:, None]
        along = np.clip(((exact - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)[..., None]
        assert np.linalg.norm(exact - a - along * (b - a), axis=-1).min(0).max() <= tolerance
    assert (line[0] == p[0]).all() and np.allclose(line[-1], p[3])


def test_a_straight_stroke_becomes_two_points_and_a_dot_keeps_two():
    glyph = Glyph(0x4E00, "", "kvg:04e00", (Stroke(PATHS[0], ""), Stroke("M5,5c0,0,0,0,0,0", "")))
    line, dot = polylines(glyph)
    assert line.tolist() == [[10, 20], [95, 20]] and line.dtype == np.float32
    assert dot.tolist() == [[5, 5], [5, 5]]


def test_all_layouts_give_the_same_glyphs(tmp_path):
    glyphs = {"04e8c": PATHS, "04e00": PATHS[:1], "20b9f": PATHS}
    (tmp_path / "kanji").mkdir()
    for stem, paths in glyphs.items():
        (tmp_path / "kanji" / f"{stem}.svg").write_text(svg(stem, paths), encoding="utf-8")
    single = read(xml_gz(tmp_path / "kanjivg-1.xml.gz", glyphs))
    (tmp_path / "kanjivg-1.xml").write_bytes(
        gzip.decompress((tmp_path / "kanjivg-1.xml.gz").read_bytes())
    )
    assert [g.id for g in single] == ["kvg:04e00", "kvg:04e8c", "kvg:20b9f"]
    assert single[0] == Glyph(
        0x4E00, "", "kvg:04e00", (Stroke(PATHS[0], "㇐"),), single[0].components
    )
    assert [(c.parent, c.first, c.last) for c in single[0].components] == [(-1, 0, 1)]
    for other in (
        tmp_path / "kanji",
        svg_zip(tmp_path / "kanjivg-1-main.zip", glyphs),
        tmp_path / "kanjivg-1.xml",
    ):
        assert read(other) == single


def test_variants_follow_the_standard_form(tmp_path):
    glyphs = read(
        svg_zip(tmp_path / "a.zip", {"04e00-Kaisho": PATHS, "04e00": PATHS, "04e00-VtLst": PATHS})
    )
    assert [(g.variant, g.id) for g in glyphs] == [
        ("", "kvg:04e00"),
        ("Kaisho", "kvg:04e00-Kaisho"),
        ("VtLst", "kvg:04e00-VtLst"),
    ]


def test_entities_are_not_expanded(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("M1,1c1,1,2,2,3,3")
    text = svg("04e00", ["&x;"]).replace("]>", f'<!ENTITY x SYSTEM "{secret}">]>')
    (tmp_path / "kanji").mkdir()
    (tmp_path / "kanji" / "04e00.svg").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        polylines(read(tmp_path / "kanji")[0])


@pytest.mark.parametrize("cut", [1, 30, -5])
def test_cut_files_are_named(tmp_path, cut):
    for path in (
        xml_gz(tmp_path / "k.xml.gz", {"04e00": PATHS}),
        svg_zip(tmp_path / "k.zip", {"04e00": PATHS}),
    ):
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DataError, match=path.name) as error:
            read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "<kanjivg><kanji",
        "<kanjivg/>",
        "",
        '<kanjivg><kanji id="kvg:kanji_x"/></kanjivg>',
        '<kanjivg><kanji id="kvg:kanji_04e00"/></kanjivg>',
        '<kanjivg><kanji id="kvg:kanji_04e00"><path/></kanji></kanjivg>',
    ],
)
def test_other_xml_is_refused(tmp_path, text):
    (tmp_path / "k.xml").write_text(text)
    with pytest.raises(DataError, match="k.xml"):
        read(tmp_path / "k.xml")


def test_missing_empty_and_doubled(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.zip")
    with pytest.raises(DataError, match="no KanjiVG characters"):
        read(svg_zip(tmp_path / "empty.zip", {}))
    with pytest.raises(DataError, match="not named by a code point"):
        read(svg_zip(tmp_path / "odd.zip", {"hello": PATHS}))
    body = '<kanji id="kvg:kanji_04e00"><path d="M1,1c1,1,1,1,1,1"/></kanji>'
    (tmp_path / "k.xml").write_text(f"<kanjivg>{body}{body}</kanjivg>")
    with pytest.raises(DataError, match="twice"):
        read(tmp_path / "k.xml")


@pytest.mark.parametrize(
    "path",
    [
        "M1e300 0C1 1 2 2 3 3",
        "M0 0c9e307 0 9e307 0 9e307 0 9e307 0 9e307 0 9e307 0",
        "M0 0C1 1 2 2 3 -1e6",
    ],
)
def test_coordinates_far_away_are_named(path):
    good = Glyph(0x4E00, "", "kvg:04e00", (Stroke("M0 0C1 1 2 2 3 3c1 1 2 2 3 3", ""),))
    bad = Glyph(0x4E8C, "", "kvg:04e8c", (good.strokes[0], Stroke(path, ""), good.strokes[0]))
    with pytest.raises(DataError, match="file: kvg:04e8c stroke 2 leads far outside"):
        polylines_many([good, bad, good], where="file")


def test_is_kanji():
    assert all(is_kanji(ord(c)) for c in "一龥々〇䂓﨑𤇆")
    assert not any(is_kanji(ord(c)) for c in "あアｱA1、。！ー")


def test_groups_tell_elements_radicals_and_the_strokes_that_they_span(tmp_path):
    body = (
        '<g id="kvg:05e83" kvg:element="広"><g kvg:element="广" kvg:position="tare"'
        ' kvg:radical="general">{0}<g kvg:element="厂" kvg:part="2"'
        ' kvg:variant="true">{0}{0}</g></g><g kvg:element="厶" kvg:original="ム" kvg:phon="厶"'
        ' kvg:partial="true">{0}</g></g>'
    ).format(f'<path d="{PATHS[0]}"/>')
    path = tmp_path / "kanjivg-20250816.xml"
    path.write_text(
        "<kanjivg xmlns:kvg='http://kanjivg.tagaini.net'><kanji"
        f" id='kvg:kanji_05e83'>{body}</kanji></kanjivg>",
        "utf-8",
    )
    [glyph] = read(path)
    assert len(glyph.strokes) == 4
    assert glyph.components == (
        Component("広", "", "", "", "", 0, False, False, -1, 0, 4),
        Component("广", "", "tare", "general", "", 0, False, False, 0, 0, 3),
        Component("厂", "", "", "", "", 2, True, False, 1, 1, 3),
        Component("厶", "ム", "", "", "厶", 0, False, True, 0, 3, 4),
    )
    path.write_text(path.read_text("utf-8").replace("ム", "ム" * 65), "utf-8")
    with pytest.raises(DataError, match="kvg:original has 65 characters"):
        read(path)


def test_many_glyphs_at_once_give_what_each_gives(tmp_path):
    glyphs = read(
        xml_gz(
            tmp_path / "kanjivg-20250816.xml.gz",
            {"04e00": PATHS[:1], "04e01": PATHS, "04e03": PATHS[::-1]},
        )
    )
    points, bounds = polylines_many(glyphs)
    one_by_one = [line for glyph in glyphs for line in polylines(glyph)]
    assert len(bounds) == 6 and points.dtype == np.float32
    for line, a, b in zip(one_by_one, bounds, bounds[1:]):
        np.testing.assert_array_equal(line, points[a:b])
