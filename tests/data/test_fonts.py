"""transfer.data.writing.fonts: a font's characters as pictures of the old domain. Characters that
it lacks are left out. Each bad font gives one line, and earlier images stay."""

import json
import tarfile

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


def saved(path, characters, family="Two"):
    """A font file with these glyphs, name -> (character, glyph)."""
    builder = FontBuilder(1000, isTTF=True)
    glyphs = {".notdef": box(100, 0, 300, 700)} | {n: g for n, (_, g) in characters.items()}
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(c): n for n, (c, _) in characters.items()})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (1000, 0) for name in glyphs})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


BAR, BLOCK = box(50, 400, 950, 500), box(200, 100, 800, 700)


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    """A font of two kanji: 一 a flat bar, 口 a square block; and a space's worth of nothing for 二."""
    folder = tmp_path_factory.mktemp("font")
    (folder / "LICENSE").write_text("Given away by its maker into the public domain.\n")
    blank = TTGlyphPen(None).glyph()
    glyphs = {"one": ("一", BAR), "mouth": ("口", BLOCK), "blank": ("二", blank)}
    return saved(folder / "two.ttf", glyphs)


def package(folder, name="@fontsource/two", family="Two"):
    """A Fontsource package in a folder: 一 in one file, 口 in another."""
    (folder / "files").mkdir(parents=True)
    saved(folder / "files" / "two-0-400-normal.woff2", {"one": ("一", BAR)}, family)
    saved(folder / "files" / "two-1-400-normal.woff2", {"mouth": ("口", BLOCK)}, family)
    about = {"name": name, "version": "5.3.0", "license": "OFL-1.1"}
    (folder / "package.json").write_text(json.dumps(about))
    (folder / "LICENSE").write_text("SIL Open Font License, Version 1.1\n")
    face = (
        "@font-face {{ src: url(./files/two-{0}-400-normal.woff2) format('woff2'), "
        "url(./files/two-{0}-400-normal.woff) format('woff'); unicode-range: {1}; }}\n"
    )
    (folder / "400.css").write_text(face.format(0, "U+4E00-4E0F,U+3042") + face.format(1, "U+53E3"))
    return folder


POINTS = np.array([ord(c) for c in "一丁口二"])


def test_kanji_fill_the_picture_and_what_the_font_lacks_is_left_out(font, tmp_path):
    fonts.prepare(tmp_path, [font], POINTS, progress=False)
    drawn = fonts.load(tmp_path)
    # 丁 has the font's sign for all it lacks, 二 is blank.
    assert drawn.code_points.tolist() == [ord("一"), ord("口")]
    assert drawn.images.dtype == np.uint8 and drawn.font.tolist() == [0, 0]
    assert drawn.names == ["two.ttf"]
    bar, block = drawn.images
    assert (block == 255).mean() > 0.95
    rows = np.flatnonzero((bar > 127).any(1))
    # 9 to 1, in the middle.
    assert (bar > 127).any(0).all() and 6 <= len(rows) <= 8 and abs(rows.mean() - 31.5) <= 1
    [record] = drawn.records
    assert record["bytes"] == drawn.sources["two.ttf"]["bytes"] == font.stat().st_size
    assert record["licence"] == "public domain" and record["role"] == "train"


@pytest.mark.parametrize("packed", [False, True])
def test_a_fontsource_package_is_all_its_files(tmp_path, packed):
    folder = package(tmp_path / "package")
    if packed:
        with tarfile.open(tmp_path / "fontsource-two-5.3.0.tgz", "w:gz") as archive:
            archive.add(folder, "package")
        folder = tmp_path / "fontsource-two-5.3.0.tgz"
    fonts.prepare(tmp_path, [folder], POINTS, progress=False)
    drawn = fonts.load(tmp_path)
    assert drawn.code_points.tolist() == [ord("一"), ord("口")]
    [record] = drawn.records
    told = {k: record[k] for k in ("name", "licence", "version", "role")}
    wanted = {"name": "@fontsource/two", "licence": "OFL-1.1", "version": "5.3.0", "role": "train"}
    assert told == wanted


@pytest.mark.parametrize(
    ("name", "family", "role"),
    [
        ("@fontsource/zhi-mang-xing", "Zhi Mang Xing", "unseen"),
        ("@fontsource/yuji-mai", "Yuji Mai", "unseen"),
        ("@fontsource/renamed", "Yuji Boku", "unseen"),
        ("@fontsource/ma-shan-zheng", "Ma Shan Zheng", "choose"),
        ("@fontsource/long-cang", "Long Cang", "train"),
    ],
)
def test_kept_hands_are_told_by_their_family_whatever_the_file_is_called(
    tmp_path, name, family, role
):
    given = package(tmp_path / "package", name, family)
    fonts.prepare(tmp_path, [given], POINTS, progress=False)
    drawn = fonts.load(tmp_path)
    assert drawn.records[0]["role"] == role
    assert {r: len(drawn.of(r)) for r in fonts.ROLES} == {r: 2 * (r == role) for r in fonts.ROLES}


def no_font(folder):
    (folder / "bad.ttf").write_bytes(b"no font")
    return folder / "bad.ttf", "bad.ttf: cannot be read as a font"


def no_kanji(folder):
    (folder / "LICENSE").write_text("MIT License\n")
    return saved(folder / "latin.ttf", {"a": ("a", BAR)}), "none of the 4 kanji and kana"


def no_licence(folder):
    return saved(folder / "two.ttf", {"one": ("一", BAR)}), "there is no licence file beside it"


def without(name, words):
    def spoil(folder):
        place = package(folder / "package")
        (place / name).unlink()
        return place, words

    return spoil


def broken_file(folder):
    place = package(folder / "package")
    (place / "files" / "two-1-400-normal.woff2").write_bytes(b"cut")
    return place, "two-1-400-normal.woff2 cannot be read as a font"


@pytest.mark.parametrize(
    "spoil",
    [
        no_font,
        no_kanji,
        no_licence,
        broken_file,
        without(
            "files/two-1-400-normal.woff2", "two-1-400-normal.woff2 is missing, and 0 more of its 2"
        ),
        without("LICENSE", "has no licence file.*npm pack @fontsource/two"),
        without("package.json", "is not a Fontsource package"),
        without("400.css", "lists no .woff2 files"),
        lambda folder: (folder / "none.ttf", "none.ttf: cannot be read as a font"),
    ],
)
def test_a_bad_font_is_one_line_and_leaves_what_was_prepared(font, tmp_path, spoil):
    (data := tmp_path / "data").mkdir()
    fonts.prepare(data, [font], POINTS, progress=False)
    before = fonts.load(data).images.copy()
    (given := tmp_path / "given").mkdir()
    bad, words = spoil(given)
    with pytest.raises(DataError, match=words) as error:
        fonts.prepare(data, [font, bad], POINTS, progress=False)
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(fonts.load(data).images, before)
    assert [p.name for p in data.iterdir()] == ["fonts"]


def test_a_font_given_twice_is_said(font, tmp_path):
    with pytest.raises(DataError, match="two.ttf is given twice"):
        fonts.prepare(tmp_path, [font, font], POINTS, progress=False)


def test_a_licence_may_be_named(tmp_path):
    path = saved(tmp_path / "mine.ttf", {"one": ("一", BAR)})
    fonts.prepare(tmp_path, [path], POINTS, licence="my own hand", progress=False)
    assert fonts.load(tmp_path).records[0]["licence"] == "my own hand"


def test_damaged_arrays_are_said(font, tmp_path):
    fonts.prepare(tmp_path, [font], np.array([ord("一")]), progress=False)
    np.save(tmp_path / "fonts" / "font.npy", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="differ in length"):
        fonts.load(tmp_path)
    (tmp_path / "fonts" / "manifest.json").write_text('{"names": ["two.ttf"], "sources": {}}')
    with pytest.raises(DataError, match="run `python -m transfer.data fonts"):
        fonts.load(tmp_path)


def test_command_refuses_the_sample_corpus(font, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    assert main(["fonts", str(font)]) == 2
    assert "sample corpus" in capsys.readouterr().err
