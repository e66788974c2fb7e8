"""transfer.data.writing.fonts: a font's kanji as pictures of the old domain; what it lacks is left
out; nothing half-written stays."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from transfer.data.__main__ import main
from transfer.data.writing import fonts
from transfer.system.errors import DataError


def box(left, bottom, right, top):
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    for point in ((left, top), (right, top), (right, bottom)):
        pen.lineTo(point)
    pen.closePath()
    return pen.glyph()


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    """A font of two kanji: 一 a flat bar, 口 a square block; and a space's worth of nothing for 二."""
    path = tmp_path_factory.mktemp("font") / "two.ttf"
    builder = FontBuilder(1000, isTTF=True)
    glyphs = {
        ".notdef": box(100, 0, 300, 700),
        "one": box(50, 400, 950, 500),
        "mouth": box(200, 100, 800, 700),
        "blank": TTGlyphPen(None).glyph(),
    }
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord("一"): "one", ord("口"): "mouth", ord("二"): "blank"})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (1000, 0) for name in glyphs})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_kanji_fill_the_picture_and_what_the_font_lacks_is_left_out(font, tmp_path):
    points = np.array([ord(c) for c in "一丁口二"])
    fonts.prepare(tmp_path, [font], points, progress=False)
    drawn = fonts.load(tmp_path)
    assert drawn.code_points.tolist() == [
        ord("一"),
        ord("口"),
    ]  # 丁 has the font's sign for all it lacks, 二 is blank
    assert (
        drawn.images.dtype == np.uint8
        and drawn.font.tolist() == [0, 0]
        and drawn.names == ["two.ttf"]
    )
    bar, block = drawn.images
    assert (block == 255).mean() > 0.95
    rows = np.flatnonzero((bar > 127).any(1))
    assert (
        (bar > 127).any(0).all() and 6 <= len(rows) <= 8 and abs(rows.mean() - 31.5) <= 1
    )  # 9 to 1, in the middle
    assert drawn.sources["two.ttf"]["bytes"] == font.stat().st_size


def test_no_font_is_one_line_and_leaves_nothing(tmp_path):
    bad = tmp_path / "bad.ttf"
    bad.write_bytes(b"no font")
    with pytest.raises(DataError, match="bad.ttf: cannot be read as a font"):
        fonts.prepare(tmp_path, [bad], np.array([ord("一")]), progress=False)
    assert fonts.load(tmp_path) is None and [p.name for p in tmp_path.iterdir()] == ["bad.ttf"]


def test_a_font_without_kanji_is_said(font, tmp_path):
    with pytest.raises(DataError, match="give a Japanese font"):
        fonts.prepare(tmp_path, [font], np.array([ord("丁")]), progress=False)


def test_damaged_arrays_are_said(font, tmp_path):
    fonts.prepare(tmp_path, [font], np.array([ord("一")]), progress=False)
    np.save(tmp_path / "fonts" / "font.npy", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="differ in length"):
        fonts.load(tmp_path)


def test_command_refuses_the_sample_corpus(font, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    assert main(["fonts", str(font)]) == 2
    assert "sample corpus" in capsys.readouterr().err
