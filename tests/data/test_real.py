"""The published files themselves, as far as they are here."""

import time

import numpy as np
import pytest

from transfer.data import corpus, splits
from transfer.data.__main__ import main
from transfer.data.prepare import kanjivg_source, kkanji_source
from transfer.data.published import kanjivg, kkanji
from transfer.data.raster import rasterise

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def real(real_data):
    return corpus.load(real_data, quiet=True)


def test_every_published_image_is_there_but_the_blank_ones(real):
    counts = real.manifest["counts"]["old"]
    assert counts["blank, dropped"] == 28
    assert len(real.old.images) == counts["images"] >= 137_863
    assert len(set(real.old.names.tolist())) == len(real.old.names)
    assert (real.old.images[::50].reshape(-1, 4096).max(1) > 0).all()
    assert [f"U+{c:04X}" for c in real.old.code_points[::997]] == [
        splits.class_of(n) for n in real.old.names[::997]
    ]


def test_splits_are_the_published_ones(real):
    lists = splits.read_lists()
    for split in splits.SPLITS:
        names = set(real.old.names[real.old.indices(split)].tolist())
        assert names <= lists[split]
    trained = set(real.old.code_points[real.old.indices("train")].tolist())
    assert not trained & set(real.old.code_points[real.old.indices("zero-shot")].tolist())


def test_strokes_have_the_known_figures(real):
    new = real.new
    standard = np.flatnonzero(np.asarray(new.variants) == "")
    strokes = np.diff(new.glyph_bounds)
    points = np.diff(new.stroke_bounds[new.glyph_bounds])
    assert len(standard) >= 6703 and points.max() <= 133
    assert 60 < points[standard].mean() < 62 and 11.7 < strokes[standard].mean() < 12.0
    assert np.diff(new.stroke_bounds).min() >= 2
    assert 6400 <= len(new.gallery()) <= 6600


def test_classes_with_a_glyph_are_all_kanji(real):
    listing = set().union(*splits.read_lists().values())
    glyphs = set(real.new.code_points.tolist())
    names = [n for n in listing if int(splits.class_of(n)[2:], 16) in glyphs]
    gallery = set(real.new.code_points[real.new.gallery()].tolist())
    classes = {int(splits.class_of(n)[2:], 16) for n in names}
    assert len(classes) == 3648 and len(names) == 140_023 and classes <= gallery
    assert (
        sum(
            not 0x4E00 <= int(splits.class_of(n)[2:], 16) <= 0x9FFF
            for n in {splits.class_of(n) + "/" for n in listing}
        )
        == 20
    )


def test_the_rule_gives_the_shipped_lists(real_data, capsys):
    release = sorted(real_data.glob("kanjivg-20260513.xml.gz"))
    if not release:
        pytest.skip("kanjivg-20260513.xml.gz is not there")
    assert main(["split", "--check", "--kanjivg", str(release[0])]) == 0, capsys.readouterr().err


def test_single_file_and_svgs_agree(real_data):
    single = sorted(real_data.glob("kanjivg-*.xml.gz"))
    source = kanjivg_source(real_data)
    if not single or source.suffix != ".zip" or source.name[:16] != single[-1].name[:16]:
        pytest.skip("one of the two forms is not there")
    standard = [g for g in kanjivg.read(source) if not g.variant]
    assert standard == kanjivg.read(single[-1])


def test_prepared_images_are_the_source_s(real, real_data):
    for (code_point, name, image), i in zip(kkanji.read(kkanji_source(real_data)), range(300)):
        assert name == real.old.names[i] and code_point == real.old.code_points[i]
        assert (image == real.old.images[i]).all()
    for i in range(0, len(real.new.images), 500):
        assert (rasterise(real.new.strokes(i)) == real.new.images[i]).all()


def test_opening_is_quick(real, real_data):
    start = time.perf_counter()
    corpus.load(real_data)
    assert time.perf_counter() - start < 0.05


def test_structure_of_the_real_glyphs(real):
    gallery = {chr(real.new.code_points[i]): i for i in real.new.gallery()}
    assert [real.new.radical(gallery[c]) for c in "広語風海"] == ["广", "言", "風", "氵"]
    assert real.new.stroke_types(gallery["一"]) == ["㇐"]
    parts = real.new.components(gallery["語"])
    assert [str(p["element"]) for p in parts[parts["parent"] == 0]] == ["言", "吾"]
    for i in real.new.gallery()[::50]:
        components, strokes = real.new.components(i), len(real.new.strokes(i))
        assert len(real.new.stroke_types(i)) == strokes
        assert (components["first"] < components["last"]).all() and components[
            "last"
        ].max() == strokes
