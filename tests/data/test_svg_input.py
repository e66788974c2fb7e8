import io
import re

import numpy as np
import pytest
from PIL import Image
from published_files import PATHS
from published_files import svg as kanjivg_file

from transfer.data import raster
from transfer.data.curves import flatten
from transfer.data.formats import svg
from transfer.data.strokes import distance_to_segment
from transfer.system.errors import DataError


def read(body, head='viewBox="0 0 109 109"', extra=""):
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    text = f"{extra}<svg {names} {head}>{body}</svg>"
    return svg.read(text.encode(), "a.svg").strokes


def one(body, **options):
    strokes = read(body, **options)
    assert len(strokes) == 1, len(strokes)
    return strokes[0]


def far(points, polyline):
    """The largest distance of any of `points` to a polyline."""
    points, polyline = np.asarray(points, float), np.asarray(polyline, float)
    return np.min(
        [distance_to_segment(points, a, b) for a, b in zip(polyline, polyline[1:])], axis=0
    ).max()


def same_line(a, b, tolerance=0.02):
    return (
        np.allclose([a[0], a[-1]], [b[0], b[-1]], atol=1e-3)
        and max(far(a, b), far(b, a)) <= tolerance
    )


@pytest.mark.parametrize(
    "d, ends",
    [
        ("M10 20 L30,40", [(10, 20), (30, 40)]),
        ("m10 20 20 20", [(10, 20), (30, 40)]),
        ("M10 20H30V50h-5v-5", [(10, 20), (30, 20), (30, 50), (25, 50), (25, 45)]),
        ("M10 20h20v20z", [(10, 20), (30, 20), (30, 40), (10, 20)]),
        ("M1e1-2.e1l20.5.5", [(10, -20), (30.5, -19.5)]),
        ("  M10,20\n30,40\t,50,60 ", [(10, 20), (30, 40), (50, 60)]),
    ],
)
def test_straight_commands(d, ends):
    assert same_line(one(f'<path d="{d}"/>'), ends)


def test_curves_and_their_smooth_forms():
    t = np.linspace(0, 1, 50)[:, None]
    p = np.array([(10, 10), (40, 90), (90, 20)])
    quadratic = (1 - t) ** 2 * p[0] + 2 * t * (1 - t) * p[1] + t * t * p[2]
    assert same_line(one('<path d="M10,10Q40,90 90,20"/>'), quadratic)
    assert same_line(one('<path d="m10,10q30,80 80,10"/>'), quadratic)
    assert same_line(
        one('<path d="M10,50Q20,20 30,50T50,50"/>'),
        one('<path d="M10,50Q20,20 30,50Q40,80 50,50"/>'),
    )
    assert same_line(one('<path d="M9,50 L10,50 T50,60"/>'), [(9, 50), (50, 60)], 0.3)
    assert same_line(
        one('<path d="M10,50L10,50C10,20 30,20 30,50S50,80 50,50"/>'),
        one('<path d="M10,50C10,20 30,20 30,50C30,80 50,80 50,50"/>'),
    )


@pytest.mark.parametrize(
    "flags, centre, sweep",
    [
        ("0 0 1", (50, 50), 1),
        ("0 0 0", (70, 70), -1),
        ("0 1 0", (50, 50), -1),
        ("0 1 1", (70, 70), 1),
    ],
)
def test_arcs(flags, centre, sweep):
    arc = one(f'<path d="M70,50 A20,20 {flags} 50,70"/>')
    assert np.allclose(np.hypot(*(arc - centre).T), 20, atol=0.02)
    angle = np.unwrap(np.arctan2(*(arc - centre).T[::-1]))
    assert (np.sign(np.diff(angle)) == sweep).all()
    assert np.ptp(angle) == pytest.approx(
        np.pi / 2 if flags in ("0 0 1", "0 0 0") else 3 * np.pi / 2, abs=1e-3
    )


def test_arcs_written_tight_turned_too_small_and_flat():
    assert same_line(
        one('<path d="M70,50a20,20 0 0120,20"/>'), one('<path d="M70,50A20 20 0 0 1 90 70"/>')
    )
    turned = one('<path d="M30,50A30,10 90 0 1 30,70"/>')
    assert np.allclose([turned[0], turned[-1]], [(30, 50), (30, 70)])
    grown = one(
        '<path d="M20,50A1,1 0 0 1 60,50"/>'
    )  # radii too small are scaled up: a half circle
    assert np.allclose(np.hypot(*(grown - (40, 50)).T), 20, atol=0.02)
    assert same_line(one('<path d="M20,50A0,10 0 0 1 60,50"/>'), [(20, 50), (60, 50)])


def test_every_subpath_is_a_stroke():
    strokes = read('<path d="M10,10L20,10M20,10L30,30m5,0h5zl0,9"/>')
    assert [s[0].tolist() for s in strokes] == [[10, 10], [20, 10], [35, 30], [35, 30]]
    assert strokes[3][-1].tolist() == [35, 39]
    assert len(read('<path d="M1,1M2,2M3,3L9,9"/><path d=""/><path/>')) == 1


@pytest.mark.parametrize(
    "body, points",
    [
        ('<line x1="10" y1="20" x2="30px" y2="50%"/>', [(10, 20), (30, 54.5)]),
        ('<polyline points="10,20 30,40 50-60"/>', [(10, 20), (30, 40), (50, -60)]),
        ('<polygon points="10 20,30 40,50 20"/>', [(10, 20), (30, 40), (50, 20), (10, 20)]),
        (
            '<rect x="10" y="20" width="30" height="40"/>',
            [(10, 20), (40, 20), (40, 60), (10, 60), (10, 20)],
        ),
    ],
)
def test_shapes_with_corners(body, points):
    assert same_line(one(body), points)


def test_round_shapes():
    circle = one('<circle cx="50" cy="40" r="30"/>')
    assert np.allclose(np.hypot(*(circle - (50, 40)).T), 30, atol=0.02)
    assert (
        circle[0].tolist() == [80, 40] and np.allclose(circle[-1], circle[0]) and circle[5, 1] > 40
    )
    ellipse = one('<ellipse cx="50" cy="40" rx="30" ry="10"/>')
    assert np.allclose(np.hypot(*((ellipse - (50, 40)) / (30, 10)).T), 1, atol=0.003)
    rounded = one('<rect x="10" y="20" width="60" height="40" rx="10"/>')
    assert np.allclose([rounded.min(0), rounded.max(0)], [(10, 20), (70, 60)], atol=0.02)
    assert far([(10 + 10 - 10 / 2**0.5, 20 + 10 - 10 / 2**0.5)], rounded) < 0.02
    assert np.allclose(
        np.ptp(one('<rect width="20" height="20" rx="99"/>'), axis=0), 20, atol=0.02
    )  # a circle
    with pytest.raises(DataError, match="draws nothing"):
        read('<rect width="0" height="5"/><circle r="0"/><polyline points="1 1"/><text>hm</text>')


@pytest.mark.parametrize(
    "transform, start, end",
    [
        ("translate(5)", (15, 20), (35, 20)),
        ("translate(5,-5) scale(2)", (25, 35), (65, 35)),
        ("scale(1 2)", (10, 40), (30, 40)),
        ("rotate(90)", (-20, 10), (-20, 30)),
        ("rotate(90, 10, 20)", (10, 20), (10, 40)),
        ("skewX(45)", (30, 20), (50, 20)),
        ("skewY(45)", (10, 30), (30, 50)),
        ("matrix(0 1 -1 0 3 4)", (-17, 14), (-17, 34)),
        ("", (10, 20), (30, 20)),
    ],
)
def test_transforms(transform, start, end):
    for body in (
        f'<path transform="{transform}" d="M10,20H30"/>',
        f'<g transform="{transform}"><path d="M10,20H30"/></g>',
    ):
        line = one(body)
        assert np.allclose([line[0], line[-1]], [start, end])


def test_groups_use_symbols_and_what_is_hidden():
    strokes = read(
        '<defs><path id="a" d="M1,2H3"/><symbol id="s" viewBox="0 0 10 10"><path'
        ' d="M0,0L10,10"/></symbol></defs><g transform="translate(10,0)"><a><path'
        ' d="M0,50H9"/></a><use href="#a" x="5" y="6"/></g><use xlink:href="#a"'
        ' transform="scale(2)"/><use href="#s" x="20" y="30" width="40"'
        ' height="20"/><clipPath><path d="M0,0H1"/></clipPath><path display="none" d="M0,0H1"/><g'
        ' style="fill:red; display : none"><path d="M0,0H1"/></g><image'
        ' href="http://example.org/a.png"/>'
    )
    ends = [[s[0].round(6).tolist(), s[-1].round(6).tolist()] for s in strokes]
    assert ends == [
        [[10, 50], [19, 50]],
        [[16, 8], [18, 8]],
        [[2, 4], [6, 4]],
        [[30, 30], [50, 50]],
    ]


def test_pages_and_nested_view_boxes():
    line = '<line x1="0" y1="0" x2="100" y2="50"/>'
    assert same_line(one(line, head='viewBox="0 0 218 218"'), [(0, 0), (50, 25)])
    assert same_line(
        one(line, head='viewBox="-100 0 200 100"'), [(54.5, 27.25), (109, 54.5)]
    )  # aspect kept, centred
    assert same_line(one(line, head='width="218" height="218"'), [(0, 0), (50, 25)])
    assert same_line(
        one(line, head='width="100mm" height="100mm" viewBox="0 0 218 218"'), [(0, 0), (50, 25)]
    )
    assert same_line(
        one(line, head='width="100%" height="100%" viewBox="0 0 218 218"'), [(0, 0), (50, 25)]
    )
    assert same_line(
        one(line, head='width="50" height="100" viewBox="0 0 100 100" preserveAspectRatio="none"'),
        [(27.25, 0), (81.75, 54.5)],
    )
    assert same_line(
        one(line, head=""), [(3, 54.5 - 51.5 / 2), (106, 54.5 + 51.5 / 2)]
    )  # by its own extent
    inner = '<svg x="10" y="20" width="50" height="50" viewBox="0 0 100 100"{}>' + line + "</svg>"
    assert same_line(one(inner.format("")), [(10, 20), (60, 45)])
    wide = inner.replace('height="50"', 'height="100"')
    assert same_line(one(wide.format("")), [(10, 45), (60, 70)])
    assert same_line(one(wide.format(' preserveAspectRatio="xMinYMax meet"')), [(10, 70), (60, 95)])
    assert same_line(
        one(wide.format(' preserveAspectRatio="xMaxYMin slice"')), [(-40, 20), (60, 70)]
    )
    assert same_line(
        one('<svg x="9" width="50%" height="50%"><line x2="100%" y2="100%"/></svg>'),
        [(9, 0), (63.5, 54.5)],
    )


def test_kanjivg_keeps_its_coordinates():
    picture = svg.read(kanjivg_file("04e00-Kaisho", PATHS).encode())
    assert picture.word == "一" and len(picture.strokes) == 2
    for stroke, path in zip(picture.strokes, PATHS):
        assert np.array_equal(stroke, flatten(path, svg.TOLERANCE))
    bare = kanjivg_file("04e00", ["M10,20L30,40"]).replace(
        'width="109" height="109" viewBox="0 0 109 109"', ""
    )
    assert same_line(svg.read(bare.encode()).strokes[0], [(10, 20), (30, 40)])


def test_writing():
    strokes = [np.array([(1.23456, 2), (30, 40), (50, -0.0)]), np.array([(5, 5), (5, 5)])]
    text = svg.to_svg(strokes, "字", "05b57-Kaisho")
    assert 'id="kvg:StrokePaths_05b57-Kaisho"' in text and 'kvg:element="字"' in text
    assert "L" not in text.split("<path")[1]
    again = svg.read(text.encode())
    assert again.word == "字" and [len(s) for s in again.strokes] == [3, 2]
    assert all(np.abs(a - b).max() <= 6e-4 for a, b in zip(strokes, again.strokes))
    for word, key in (("cat & <dog>", "04e00"), ("", ""), ("a\x00b\ud800", "")):
        again = svg.read(svg.to_svg(strokes, word, key).encode())
        assert (
            again.word == word.replace("\x00", "").replace("\ud800", "") and len(again.strokes) == 2
        )
    assert 'id="kvg:StrokePaths_05b57"' in svg.to_svg(strokes, "字", "05b57")


def test_drawings_that_are_not_kanjivgs_have_ids_of_their_own():
    strokes = [np.array([(1.23456, 2), (30, 40), (50, 0)]), np.array([(5, 5), (5, 5)])]
    moved = [strokes[0] + 0.01, strokes[1]]
    found = {}
    for name, drawing, word, key in (
        ("given", strokes, "字", ""),
        ("again", strokes, "字", "5201136883597312"),
        ("moved", moved, "字", "../../etc"),
        ("swapped", strokes[::-1], "字", ""),
        ("other kanji", strokes, "宇", "05b57-Kaisho"),
    ):
        text = svg.to_svg(drawing, word, key)
        assert svg.read(text.encode()).word == word
        found[name] = re.findall(r'\bid="([^"]+)"', text)
        stem = re.fullmatch(
            rf"kvg:StrokePaths_({ord(word):05x}-Drawn[0-9a-f]{{10}})", found[name][0]
        )
        assert found[name][1:] == [f"kvg:{stem[1]}", f"kvg:{stem[1]}-s1", f"kvg:{stem[1]}-s2"]
    assert found.pop("again") == found["given"]
    assert len(set(sum(found.values(), []))) == 4 * 4


def test_the_same_ink_as_resvg():
    resvg = pytest.importorskip("resvg_py")
    body = (
        '<defs><symbol id="s" viewBox="0 0 10 20"><path d="M1,1A4,8 30 1 0'
        ' 9,12"/></symbol></defs><g transform="rotate(20 30 30) skewX(10)"><rect x="10" y="10"'
        ' width="40" height="25" rx="8" ry="4"/></g><use href="#s" x="60" y="10" width="80"'
        ' height="60"/><svg x="20" y="70" width="90" height="60" viewBox="0 0 30 40"'
        ' overflow="visible" preserveAspectRatio="xMaxYMid"><ellipse cx="15" cy="20" rx="12"'
        ' ry="7"/><path d="M2,2Q9,30 20,5T28,38"/></svg>'
    )
    head = 'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 140" width="109" height="109"'
    style = "<style>*{fill:none;stroke:#000;stroke-width:0.5}</style>"
    png = bytes(
        resvg.svg_to_bytes(svg_string=f"<svg {head}>{style}{body}</svg>", skip_system_fonts=True)
    )
    theirs = np.asarray(Image.open(io.BytesIO(png)))[..., 3] > 8
    strokes = svg.read(f"<svg {head}>{body}</svg>".encode()).strokes
    ours = raster.rasterise(strokes, 109, 0.5) > 8
    assert len(strokes) == 4 and theirs.sum() > 300
    near_ours, near_theirs = raster.rasterise(strokes, 109, 4) > 0, grown(theirs)
    assert (theirs & ~near_ours).sum() == 0 and (ours & ~near_theirs).sum() == 0


def grown(mask):
    padded = np.pad(mask, 1)
    return np.any([padded[y : y + 109, x : x + 109] for y in range(3) for x in range(3)], axis=0)


BOMB = (
    "<!DOCTYPE svg ["
    + '<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    + "]>"
)
DOUBLING = "".join(
    f'<g id="g{i}"><use href="#g{i - 1}"/><use href="#g{i - 1}"/></g>' for i in range(1, 40)
)


@pytest.mark.parametrize(
    "body, head, extra, match",
    [
        ("<text>&a9;</text><path d='M0,0H9'/>", "", BOMB, "entities|XML"),
        ("<path d='M0,0H9'/>", 'id="&a9;"', BOMB, "entities|XML"),
        (
            "<path d='M0,0H9'/>",
            "",
            '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            "entities",
        ),
        (
            "<text>&x;</text>",
            "",
            '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            "entities",
        ),
        (
            "<path d='M0,0H9'/>",
            "",
            '<!DOCTYPE svg [<!ENTITY % x SYSTEM "http://example.org/x"> %x;]>',
            "entities",
        ),
        ("<use href='http://example.org/a.svg#a'/>", "", "", "same file"),
        ("<use href='#no'/>", "", "", "not in the file"),
        ("<g id='a'><use href='#a'/></g>", "", "", "uses itself"),
        ("<svg id='a'><use href='#a'/></svg>", "", "", "uses itself"),
        (f"<path id='g0' d='M0,0H9'/>{DOUBLING}", "", "", "more than"),
        ("<g>" * 400 + "</g>" * 400, "", "", "XML|nested"),
        ("<g>" * 253 + "<path d='M0,0H9'/>" + "</g>" * 253, "", "", "XML|nested"),
        ("<path d='M0,0LNaN,3'/>", "", "", "'N'"),
        ("<path d='M0,0Linf,3'/>", "", "", "neither a path command"),
        ("<path d='M0,0L1e999,3'/>", "", "", "finite"),
        ("<path d='M0,0K3,3'/>", "", "", "'K'"),
        ("<path d='M0,0C1,2,3'/>", "", "", "cannot be read"),
        ("<path d='L1,1'/>", "", "", "start with M"),
        ("<path d='M1L2,2'/>", "", "", "M takes two"),
        ("<path d='M0,0L1 2 3'/>", "", "", "cannot be read"),
        ("<path d='M0,0A5,5 0 0 1'/>", "", "", "cannot be read"),
        ("<path d='M0,0H1e200'/>", "viewBox='0 0 9 9'", "", "finite or lies far"),
        ("<line x2='NaN'/>", "", "", "x2='NaN'"),
        ("<line x2='1e999'/>", "", "", "length"),
        ("<rect width='a'/>", "", "", "width"),
        ("<polyline points='0 0 nan 1'/>", "", "", "points"),
        ("<polyline points='0 0 1'/>", "", "", "pairs"),
        ("<path transform='turn(5)' d='M0,0H9'/>", "", "", "transform"),
        ("<g transform='scale(nan)'/>", "", "", "transform"),
        ("<path transform='scale(1e999)' d='M0,0H9'/>", "", "", "transform"),
        ("<path d='M0,0H9'/>", "viewBox='0 0 0 5'", "", "viewBox"),
        ("<path d='M0,0H9'/>", "viewBox='0 0 nan 5'", "", "viewBox"),
        ("<path d='M0,0H9'/>", "width='0' height='5'", "", "above 0"),
        ("", "", "", "draws nothing"),
        ("<path", "", "", "XML"),
        ("<path d='M0,0" + "h1" * 250_000 + "'/>", "", "", "more than"),
    ],
)
def test_hostile_files(body, head, extra, match):
    with pytest.raises(DataError, match=match) as caught:
        read(body, head, extra)
    assert (
        str(caught.value).startswith("a.svg: ")
        and len(str(caught.value)) < 400
        and "\n" not in str(caught.value)
    )


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff", b"<html/>", b"<svg>" + b" " * (5 << 20) + b"</svg>"]
)
def test_what_is_no_svg(content):
    with pytest.raises(DataError, match="^a.svg: "):
        svg.read(content, "a.svg")
