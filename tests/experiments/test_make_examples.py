"""experiments/make_examples.py: the examples come from a published package of a font that no
training sees."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from transfer.inference.images import load_image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_examples(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return importlib.import_module("make_examples")


def package(folder: Path, family: str, characters: str) -> Path:
    """A Fontsource package. Its first file has the first character, its second the others; the
    n-th glyph is a bar n times as high as the first."""
    (folder / "files").mkdir(parents=True)
    sheet = ""
    for number, part in enumerate((characters[:1], characters[1:])):
        glyphs = {}
        for name in (".notdef", *part):
            pen = TTGlyphPen(None)
            top = 60 * (1 + characters.find(name)) or 900
            for at, point in enumerate(((100, 0), (100, top), (900, top), (900, 0))):
                (pen.lineTo if at else pen.moveTo)(point)
            pen.closePath()
            glyphs[name if name == ".notdef" else f"u{ord(name):04X}"] = pen.glyph()
        font = FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(list(glyphs))
        font.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in part})
        font.setupGlyf(glyphs)
        font.setupHorizontalMetrics({name: (1000, 0) for name in glyphs})
        font.setupHorizontalHeader(ascent=1000, descent=0)
        font.setupNameTable({"familyName": family, "styleName": "Regular"})
        font.setupOS2()
        font.setupPost()
        font.save(folder / "files" / f"font-{number}.woff2")
        ranges = ",".join(f"U+{ord(c):04X}" for c in part)
        sheet += f"@font-face {{ src: url(./files/font-{number}.woff2); unicode-range: {ranges}; }}"
    about = {"name": "@fontsource/some", "version": "1.0.0", "license": "OFL-1.1"}
    (folder / "package.json").write_text(json.dumps(about))
    (folder / "LICENSE").write_text("SIL Open Font License, Version 1.1\n")
    (folder / "400.css").write_text(sheet)
    return folder


def made(make_examples, monkeypatch, *arguments) -> int:
    monkeypatch.setattr("sys.argv", ["make_examples.py", *map(str, arguments)])
    return make_examples.main()


def test_the_same_package_gives_the_same_files(make_examples, tmp_path, monkeypatch):
    characters = "".join(character for _, character, *_ in make_examples.EXAMPLES)
    font = package(tmp_path / "package", "Zhi Mang Xing", characters)
    for out in ("one", "two"):
        assert made(make_examples, monkeypatch, font, "--out", tmp_path / out) == 0
    one = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert one == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert one.keys() == {path.name for path in (ROOT / "examples").glob("*.png")}
    for number, (name, character, size, _) in enumerate(make_examples.EXAMPLES):
        file = tmp_path / "one" / f"{name}_U+{ord(character):04X}.png"
        kept = ROOT / "examples" / file.name
        assert Image.open(file).size == Image.open(kept).size == size
        assert Image.open(file).mode == Image.open(kept).mode
        rows = np.flatnonzero((load_image(file) > 127).any(1))
        assert abs(len(rows) - 64 * 60 * (number + 1) / 800) < 2, "each has its own glyph"


def test_a_font_that_may_be_trained_on_is_refused(make_examples, tmp_path, monkeypatch, capsys):
    characters = "".join(character for _, character, *_ in make_examples.EXAMPLES)
    for family in ("Long Cang", "Ma Shan Zheng"):
        font = package(tmp_path / family, family, characters)
        assert made(make_examples, monkeypatch, font, "--out", tmp_path / "out") == 2
        assert "may be trained on" in capsys.readouterr().err
    lacking = package(tmp_path / "lacking", "Zhi Mang Xing", characters[:-1])
    assert made(make_examples, monkeypatch, lacking, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"lacks {characters[-1]}" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
