"""Every file format of a Result, read back by another program."""

import json

import numpy as np
import pytest
from lxml import etree
from PIL import Image

from transfer.data.formats import convert
from transfer.data.published import kanjivg
from transfer.output import formats

SVG = "{http://www.w3.org/2000/svg}"


def test_every_format_is_written_and_is_the_same_twice(made, tmp_path):
    for kind in formats.FORMATS:
        path = made.save(tmp_path / f"花.{kind}")
        first = path.read_bytes()
        assert len(first) > 200, kind
        assert made.save(str(path)).read_bytes() == first, kind
    assert len(list(tmp_path.iterdir())) == len(formats.FORMATS)


def test_json_says_everything_a_script_needs(made, tmp_path):
    described = json.loads(made.save(tmp_path / "a.json").read_text("utf-8"))
    assert (
        described["verdict"] == "not sure"
        and described["note"] == made.note
        and described["familiarity"] is None
    )
    assert described["candidates"][1] == {
        "character": "𠀋",
        "code_point": "U+2000B",
        "probability": 0.2,
        "forms": [],
    }
    first = described["drawings"][0]
    assert first["character"] == "花" and first["uncertainty"] == [0.0, 0.5]
    np.testing.assert_allclose(first["strokes"][1], made.strokes[0][1])


def test_svg_is_read_as_kanjivg(made, tmp_path):
    (glyph,) = kanjivg.read(made.save(tmp_path / "082b1.svg").parent)
    assert glyph.code_point == ord("花") and len(glyph.strokes) == 2


def test_svg_fades_with_uncertainty(made, tmp_path):
    paths = etree.parse(formats.save(made, tmp_path / "a.svg", uncertainty=True)).findall(
        f".//{SVG}path"
    )
    assert [path.get("stroke-opacity") for path in paths] == ["1.00", "0.20"]
    assert "stroke-opacity" not in made.svg()


def test_png_is_the_sheet(made, tmp_path):
    with Image.open(made.save(tmp_path / "a.PNG")) as picture:
        assert picture.format == "PNG" and picture.width > 500


def test_npz_holds_all_arrays_without_pickles(made, tmp_path):
    with np.load(made.save(tmp_path / "a.npz"), allow_pickle=False) as stored:
        for name in ("image", "pixels", "uncertainty", "z_old", "z_new", "scores", "order"):
            np.testing.assert_array_equal(stored[name], getattr(made, name))
        assert stored["candidates"].tolist() == ["花", "𠀋", "<"] and stored[
            "written"
        ].tolist() == ["花", "𠀋"]
        np.testing.assert_allclose(stored["probabilities"], [0.75, 0.2, 0.05])
        strokes = np.split(stored["points"], stored["stroke_bounds"][1:-1])
        drawings = [
            strokes[a:b] for a, b in zip(stored["drawing_bounds"], stored["drawing_bounds"][1:])
        ]
        assert str(stored["verdict"]) == "not sure"
    for drawing, wanted in zip(drawings, made.strokes, strict=True):
        for stroke, points in zip(drawing, wanted, strict=True):
            np.testing.assert_array_equal(stroke, points)


def test_ndjson_is_quickdraws_and_comes_back(made, tmp_path):
    drawings = convert.read(made.save(tmp_path / "scan.ndjson"))
    assert [(d.word, d.key) for d in drawings] == [("花", "scan-1"), ("𠀋", "scan-2")]
    np.testing.assert_allclose(drawings[0].strokes[1], made.strokes[0][1], atol=0.01)
    assert [
        json.loads(line)["recognized"]
        for line in (tmp_path / "scan.ndjson").read_text("utf-8").splitlines()
    ] == [False, False]


def test_pdf_is_one_page_with_the_drawing_as_curves(made, tmp_path):
    pdfium = pytest.importorskip("pypdfium2")
    page = pdfium.PdfDocument(made.save(tmp_path / "a.pdf"))[0]
    kinds = [found.type for found in page.get_objects()]
    assert (
        kinds.count(pdfium.raw.FPDF_PAGEOBJ_PATH) == 2
        and pdfium.raw.FPDF_PAGEOBJ_IMAGE not in kinds
    )
    ink = (
        np.asarray(page.render(scale=25.4 / 72).to_pil().convert("L")) < 128
    )  # a pixel to the millimetre
    stroke = ink[10:119, 10:119]
    assert (
        stroke[20, 10:50].mean() > 0.9
        and stroke[60:80, 20:70].mean() == 0
        and stroke[10:100, 88:94].any(1).all()
    )
    text = page.get_textpage().get_text_range()
    assert "U+82B1" in text and "75.0 %" in text and "not sure" in text


def test_a_drawing_of_nothing_can_be_saved(made, tmp_path):
    import dataclasses

    empty = dataclasses.replace(made, strokes=[[], []])
    for kind in formats.FORMATS:
        assert (
            formats.save(empty, tmp_path / f"a.{kind}", animate=True, uncertainty=True)
            .stat()
            .st_size
            > 0
        ), kind


def test_other_suffixes_are_refused_and_nothing_half_written_stays(made, tmp_path, monkeypatch):
    for name in ("a.bmp", "a"):
        with pytest.raises(ValueError, match="svg"):
            made.save(tmp_path / name)
    with pytest.raises(OSError):
        made.save(tmp_path / "missing" / "a.svg")
    monkeypatch.setattr(
        np,
        "savez_compressed",
        lambda file, **arrays: file.write(b"half") and (_ for _ in ()).throw(OSError("disk full")),
    )
    with pytest.raises(OSError, match="disk full"):
        made.save(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
