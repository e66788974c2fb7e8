import gzip
import hashlib
import re
import tarfile
import time

import numpy as np
import pytest

from transfer.data import sample
from transfer.data.curves import parse_path
from transfer.data.published import kanjivg, kkanji
from transfer.data.sample import glyphs as drawn_glyphs
from transfer.data.strokes import BOX
from transfer.system.errors import DataError

# Written down from school tables (the numbers taught in Japan), not from the sample.
STROKES = {
    "一": 1, "八": 2, "人": 2, "力": 2, "又": 2, "口": 3, "女": 3, "子": 3, "山": 3, "弓": 3,
    "己": 3, "寸": 3, "日": 4, "月": 4, "木": 4, "火": 4, "水": 4, "心": 4, "手": 4, "止": 4,
    "方": 4, "五": 4, "分": 4, "化": 4, "仏": 4, "田": 5, "本": 5, "玉": 5, "石": 5, "生": 5,
    "白": 5, "正": 5, "立": 5, "皿": 5, "由": 5, "竹": 6, "糸": 6, "耳": 6, "羊": 6, "虫": 6,
    "回": 6, "因": 6, "同": 6, "合": 6, "字": 6, "安": 6, "休": 6, "好": 6, "多": 6, "百": 6,
    "貝": 7, "車": 7, "言": 7, "足": 7, "豆": 7, "里": 7, "男": 7, "花": 7, "町": 7, "村": 7,
    "利": 7, "私": 7, "雨": 8, "門": 8, "金": 8, "青": 8, "林": 8, "明": 8, "国": 8, "果": 8,
    "取": 8, "歩": 8, "岩": 8, "治": 8, "和": 8, "音": 9, "頁": 9, "思": 9, "草": 9, "星": 9,
    "信": 9, "持": 9, "紅": 9, "秋": 9, "洋": 9, "時": 10, "案": 10, "針": 10, "粉": 10, "恩": 10,
    "訪": 11, "理": 11, "情": 11, "細": 11, "雪": 11, "終": 11, "森": 12, "晶": 12, "間": 12,
    "集": 12, "答": 12, "雲": 12, "童": 12, "順": 12, "買": 12, "意": 13, "想": 13, "電": 13,
    "詩": 13, "路": 13, "雷": 13, "聞": 14, "語": 14, "精": 14, "銅": 14, "箱": 15, "頭": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample.write(folder, images_per_class=2)
    return folder


@pytest.fixture(scope="module")
def glyphs(small):
    return kanjivg.read(small / sample.XML)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_about_200_kanji_of_more_than_40_components(glyphs):
    assert 180 <= len(glyphs) <= 220
    assert all(kanjivg.is_kanji(g.code_point) and g.variant == "" for g in glyphs)
    assert [chr(g.code_point) for g in glyphs] == drawn_glyphs.characters()
    parts = {
        leaf.element for c in drawn_glyphs.characters() for leaf in drawn_glyphs.glyph(c).leaves()
    }
    assert len(parts) > 40


def test_stroke_counts_are_the_ones_taught(glyphs):
    counts = {chr(g.code_point): len(g.strokes) for g in glyphs}
    assert {kanji: counts[kanji] for kanji in STROKES} == STROKES


@pytest.mark.parametrize(
    "kanji, parts",
    [
        ("間", "門日"),
        ("国", "囗玉囗"),
        ("意", "音心"),
        ("休", "亻木"),
        ("箱", "⺮木目"),
        ("湖", "氵十口月"),
    ],
)
def test_parts_come_in_writing_order_and_an_enclosure_closes_last(kanji, parts):
    assert "".join(leaf.element for leaf in drawn_glyphs.glyph(kanji).leaves()) == parts


def test_composed_parts_stand_where_they_belong():
    def middle(kanji, leaf):
        return np.mean(
            [s.curves.mean(axis=(0, 1)) for s in drawn_glyphs.glyph(kanji).leaves()[leaf].items],
            axis=0,
        )

    assert middle("明", 0)[0] < middle("明", 1)[0]
    assert middle("草", 0)[1] < middle("草", 1)[1] < middle("草", 2)[1]
    assert np.abs(middle("国", 1) - 54.5).max() < 8


def test_every_glyph_fills_the_box_and_stays_inside(glyphs):
    for glyph in glyphs:
        polylines = kanjivg.polylines(glyph)
        points = np.concatenate(polylines)
        assert all(len(p) >= 2 for p in polylines) and np.isfinite(points).all()
        assert points.min() >= 0 and points.max() <= BOX
        assert np.ptp(points, axis=0).max() > 60
        assert len(points) <= 133  # the longest of the real kanji


def test_paths_are_the_drawn_curves(glyphs):
    for glyph in glyphs:
        for read, drawn in zip(
            glyph.strokes, drawn_glyphs.glyph(chr(glyph.code_point)).strokes(), strict=True
        ):
            assert np.abs(parse_path(read.path) - drawn.curves).max() < 0.011
            assert read.type == drawn.type


def test_the_glyph_file_has_the_published_layout(small):
    text = gzip.decompress((small / sample.XML).read_bytes()).decode()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    assert "<kanjivg xmlns:kvg='http://kanjivg.tagaini.net'>\n" in text
    assert (
        '<kanji id="kvg:kanji_04e00">\n<g id="kvg:04e00" kvg:element="一">\n\t<path'
        ' id="kvg:04e00-s1"' in text
    )
    assert '<path id="kvg:04e00-s1" kvg:type="㇐" d="M' in text
    assert '<g id="kvg:09593-g1" kvg:element="門">' in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_image_file_has_the_published_layout(small, glyphs):
    with tarfile.open(small / sample.TAR) as tar:
        members = tar.getmembers()
    assert all(
        re.fullmatch(r"kkanji2/U\+[0-9A-F]{4}/[0-9a-f]{16}\.png", m.name) and m.mtime == 0
        for m in members
    )
    images = list(kkanji.read(small / sample.TAR))
    assert {code_point for code_point, _, _ in images} == {g.code_point for g in glyphs}
    assert all(image.shape == (64, 64) and image.dtype == np.uint8 for _, _, image in images)


def test_images_look_like_white_ink_on_black(small):
    images = np.stack([image for _, _, image in kkanji.read(small / sample.TAR)]) / 255
    share = images.mean(axis=(1, 2))
    assert (
        share.min() > 0.02 and share.max() < 0.6 and 0.15 < share.mean() < 0.28
    )  # the real mean is 0.20
    assert images.max(axis=(1, 2)).min() > 0.7 and np.median(images) == 0
    assert len({image.tobytes() for image in images}) == len(images)


def test_images_of_a_class_are_closer_than_those_of_different_classes(small):
    by_class = {}
    for code_point, _, image in kkanji.read(small / sample.TAR):
        by_class.setdefault(code_point, []).append(
            image.astype(np.float64).reshape(16, 4, 16, 4).mean(axis=(1, 3))
        )
    pairs = [pair for pair in by_class.values() if len(pair) == 2]
    same = np.mean([np.abs(a - b).mean() for a, b in pairs])
    other = np.mean([np.abs(a - pairs[i - 1][1]).mean() for i, (a, _) in enumerate(pairs)])
    assert same < 0.9 * other


def test_class_sizes_are_unequal_as_documented():
    sizes = np.array(list(sample.class_sizes().values()))
    assert sizes.min() == 1 and sizes.max() == sample.LARGEST_CLASS and 11 < sizes.mean() < 13
    assert np.median(sizes) < sizes.mean() and (sizes < 5).mean() > 0.3
    assert sample.class_sizes(1) != sample.class_sizes(0)


def test_same_seed_same_bytes_other_seed_other_images(small, tmp_path):
    sample.write(tmp_path / "a", images_per_class=2)
    sample.write(tmp_path / "b", seed=1, images_per_class=1)
    first, again, other = digests(small), digests(tmp_path / "a"), digests(tmp_path / "b")
    assert set(first) == {sample.TAR, sample.XML} and first == again
    assert other[sample.XML] == first[sample.XML] and other[sample.TAR] != first[sample.TAR]
    names = {name for _, name, _ in kkanji.read(small / sample.TAR)}
    assert not names & {name for _, name, _ in kkanji.read(tmp_path / "b" / sample.TAR)}


def test_a_reduced_corpus_is_a_part_of_the_whole():
    assert (sample.render("森", 0) == sample.render("森", 0)).all()
    assert (sample.render("森", 0) != sample.render("森", 1)).any()


def test_the_whole_corpus_is_quick_to_make():
    start = time.process_time()
    for character in drawn_glyphs.characters()[::10]:
        sample.render(character, 0)
    images = sum(sample.class_sizes().values())
    assert (
        time.process_time() - start
    ) / 22 * images < 25 * 2  # seconds; twice the aim, for slow machines


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file.*cannot be written"):
        sample.write(tmp_path / "file", images_per_class=0)


def test_unknown_kanji_are_refused():
    for unknown in ("亻", "鬱", "a"):
        with pytest.raises(KeyError):
            drawn_glyphs.glyph(unknown)


@pytest.mark.realdata
def test_stroke_counts_agree_with_kanjivg(real_data, glyphs):
    source = sorted(real_data.glob("kanjivg-*.xml.gz")) or sorted(
        real_data.glob("kanjivg-*-main.zip")
    )
    if not source:
        pytest.skip("no single-file or main release of KanjiVG there")
    published = {g.code_point: len(g.strokes) for g in kanjivg.read(source[-1]) if not g.variant}
    assert {g.code_point: len(g.strokes) for g in glyphs} == {
        g.code_point: published[g.code_point] for g in glyphs
    }
