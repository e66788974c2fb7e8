"""Files as people have them: of other years, renamed or unpacked on the way, with leftovers beside
them, saved or drawn by other programs."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from published_files import PATHS, image, kkanji_members, png, small_set, svg, svg_zip, tar

from transfer.data import prepare, splits
from transfer.data.__main__ import main
from transfer.data.formats import convert, quickdraw, sketch_npz
from transfer.data.formats import svg as svgs
from transfer.data.published import kanjivg, kkanji, kmnist, mnist
from transfer.system.errors import DataError
from transfer.system.folders import is_leftover

PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>" * 9
IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
IDX = {
    3: b"\0\0\x08\3" + struct.pack(">III", 3, 28, 28) + IMAGES.tobytes(),
    1: b"\0\0\x08\1" + struct.pack(">I", 3) + b"\0\1\2",
}


# Of other years


def test_kanjivg_of_before_2015_declares_no_prefix(tmp_path):
    body = (
        '<kanjivg><kanji id="kvg:kanji_04e00"><g id="kvg:04e00" kvg:element="一">'
        f'<path kvg:type="㇐" d="{PATHS[0]}"/></g></kanji></kanjivg>'
    )
    (tmp_path / "kanjivg-20120219.xml.gz").write_bytes(gzip.compress(body.encode()))
    [glyph] = kanjivg.read(tmp_path / "kanjivg-20120219.xml.gz")
    assert glyph.components[0].element == "一" and glyph.strokes[0].type == "㇐"
    for wrong, where in (
        (body.replace("</g>", ""), "Opening and ending tag mismatch"),
        (body.replace("<g id", '<g id="a" id'), "redefined"),
    ):
        (tmp_path / "a.xml").write_text(wrong, encoding="utf-8")
        with pytest.raises(DataError, match=f"not well-formed.*{where}.*line 1"):
            kanjivg.read(tmp_path / "a.xml")


def test_svgs_whose_dtd_is_gone(tmp_path):
    text = svg("04e00", PATHS)
    bare = "<svg" + text.partition("<svg")[2]
    assert "xmlns:kvg" not in bare and "kvg:type" in bare
    (tmp_path / "kanji").mkdir()
    (tmp_path / "kanji" / "04e00.svg").write_text(bare, encoding="utf-8")
    [glyph] = kanjivg.read(tmp_path / "kanji")
    assert [s.type for s in glyph.strokes] == ["㇐", "㇐"]
    with zipfile.ZipFile(tmp_path / "kanjivg-1-all.zip", "w") as archive:
        archive.writestr("kanji/04e00.svg", bare)
    assert kanjivg.read(tmp_path / "kanjivg-1-all.zip") == [glyph]
    for encoding in ("utf-8", "utf-16"):  # any prefix, in any encoding
        other = svgs.read(bare.replace("<g id", '<g inkscape:label="線" id').encode(encoding))
        assert len(other.strokes) == 2 and other.word == "一"


def test_kanji_beyond_the_bmp(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    tar(folder / "kkanji.tar", kkanji_members(dict.fromkeys((0x20B9F, 0x4E00), 3)))
    svg_zip(folder / "kanjivg-20000101-all.zip", {"20b9f": PATHS, "04e00": PATHS})
    prepare.prepare(folder, progress=False)
    assert main(["info", "kkanji", "--data", str(folder)]) == 0
    assert [c for c, *_ in kkanji.read(folder / "kkanji.tar")] == [0x20B9F] * 3 + [0x4E00] * 3
    convert.convert(folder / "kanjivg-20000101-all.zip", tmp_path / "a.npz")
    convert.convert(tmp_path / "a.npz", tmp_path / "a.ndjson")
    assert {d.word for d in convert.read(tmp_path / "a.ndjson")} == {"\U00020b9f", "一"}


# Renamed and unpacked

NAMES = (
    "t10k-images-idx3-ubyte.gz",
    "t10k-images-idx3-ubyte",
    "t10k-images.idx3-ubyte.gz",
    "t10k-images.idx3-ubyte",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_what_their_first_bytes_say(tmp_path, name, packed):
    pack = gzip.compress if packed else bytes
    for folder in (tmp_path, tmp_path / "mnist"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(pack(IDX[3]))
        (folder / name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(
            pack(IDX[1])
        )
    assert np.array_equal(kmnist.load("kmnist", "test", tmp_path).images, IMAGES)
    assert np.array_equal(mnist.load("test", tmp_path).images, IMAGES) and kmnist.present(
        "kmnist", "test", tmp_path
    )


def test_kanjivg_npz_lists_and_tars_are_what_their_first_bytes_say(tmp_path):
    body = (
        "<kanjivg xmlns:kvg='http://kanjivg.tagaini.net'><kanji id='kvg:kanji_04e00'>"
        f"<g id='kvg:04e00'><path d='{PATHS[0]}'/></g></kanji></kanjivg>"
    ).encode()
    svg_zip(tmp_path / "zip", {"04e00": PATHS[:1]})
    for name, content in (
        ("kanjivg-1.xml.gz", body),
        ("kanjivg-1.xml", gzip.compress(body)),
        ("kanjivg-2.xml.gz", (tmp_path / "zip").read_bytes()),
    ):
        (tmp_path / name).write_bytes(content)
        assert [g.id for g in kanjivg.read(tmp_path / name)] == ["kvg:04e00"]
    (tmp_path / "val.txt").write_bytes(gzip.compress(b"U+4E00/a.png\n"))
    (tmp_path / "val.txt.gz").write_bytes(b"U+4E00/a.png\n")
    assert (
        splits.read_names(tmp_path / "val.txt")
        == splits.read_names(tmp_path / "val.txt.gz")
        == ["U+4E00/a.png"]
    )
    tar(tmp_path / "kkanji.tar", kkanji_members({0x4E00: 2}))
    wanted = [name for _, name, _ in kkanji.read(tmp_path / "kkanji.tar")]
    (tmp_path / "kkanji.tar").write_bytes(gzip.compress((tmp_path / "kkanji.tar").read_bytes()))
    assert [name for _, name, _ in kkanji.read(tmp_path / "kkanji.tar")] == wanted
    packed = (tmp_path / "kkanji.tar").read_bytes()
    for spoiled in (
        packed[:-9],
        packed[: len(packed) // 2],
        gzip.compress(gzip.decompress(packed)[:1500]),
    ):
        (tmp_path / "kkanji.tar").write_bytes(spoiled)
        with pytest.raises(DataError, match="cut short or damaged"):
            list(kkanji.read(tmp_path / "kkanji.tar"))


def test_svgz(tmp_path):
    (tmp_path / "s").mkdir()
    for name, content in (
        ("04e00.svgz", gzip.compress(svg("04e00", PATHS).encode())),
        ("04e8c.svg", gzip.compress(svg("04e8c", PATHS).encode())),
        ("04e09.svgz", svg("04e09", PATHS).encode()),
    ):
        (tmp_path / "s" / name).write_bytes(content)
        assert len(convert.read(tmp_path / "s" / name)[0].strokes) == 2
    assert [d.word for d in convert.read(tmp_path / "s")] == ["一", "三", "二"]
    (tmp_path / "bomb.svgz").write_bytes(gzip.compress(bytes(svgs.MAX_BYTES + 5)))
    with pytest.raises(DataError, match="larger than"):
        convert.read(tmp_path / "bomb.svgz")
    with pytest.raises(DataError, match="format not known"):
        convert.write(tmp_path / "out.svgz", convert.read(tmp_path / "s"))


READERS = {
    "t10k-images-idx3-ubyte.gz": lambda p: kmnist.read(p, 3),
    "kmnist-test-imgs.npz": lambda p: kmnist.read(p, 3),
    "kanjivg-1.xml.gz": kanjivg.read,
    "kanjivg-1.xml": kanjivg.read,
    "kanjivg-1-all.zip": kanjivg.read,
    "kkanji.tar": lambda p: list(kkanji.read(p)),
    "a.svg": convert.read,
    "a.svgz": convert.read,
    "a.npz": convert.read,
    "b.zip": convert.read,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_a_web_page_under_the_name_of_a_file_is_called_one(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(PAGE))
    if pack is gzip.compress and name.endswith((".npz", ".zip")):
        with pytest.raises(DataError):
            READERS[name](tmp_path / name)
        return
    with pytest.raises(DataError, match="is a web page") as caught:
        READERS[name](tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


# Leftovers

LEFT = (
    "Thumbs.db",
    "thumbs.db",
    "desktop.ini",
    ".DS_Store",
    "._a.png",
    ".directory",
    "ehthumbs.db",
)


def test_leftovers_of_file_managers_are_skipped(tmp_path):
    members = kkanji_members({0x4E00: 2, 0x4E8C: 1})
    left = {f"kkanji2/U+4E00/{name}": b"x" for name in LEFT} | {
        "kkanji2/Thumbs.db": b"x",
        "__MACOSX/kkanji2/U+4E00/._a.png": b"x" * 70_000,
        "kkanji2/U+4E00/@eaDir/a.png": b"x",
        "kkanji2/desktop.ini": b"x",
    }
    wanted = [(c, name) for c, name, _ in kkanji.read(tar(tmp_path / "kkanji.tar", members))]
    assert [
        (c, name) for c, name, _ in kkanji.read(tar(tmp_path / "kkanji.tar", left | members))
    ] == wanted
    for name, content in members.items():
        (path := tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    before = prepare.fingerprint(tmp_path / "x" / "kkanji2")
    for name, content in left.items():
        (path := tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert [(c, name) for c, name, _ in kkanji.read(tmp_path / "x" / "kkanji2")] == sorted(wanted)
    after = prepare.fingerprint(tmp_path / "x" / "kkanji2")
    same = ("sha256", "bytes", "listing")
    assert [after[k] for k in same] == [before[k] for k in same]
    assert prepare.unchanged(tmp_path / "x" / "kkanji2", before)
    (tmp_path / "x" / "kkanji2" / "U+4E00" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="notes.txt: not an image"):
        list(kkanji.read(tmp_path / "x" / "kkanji2"))


def test_leftovers_by_name():
    assert all(
        map(
            is_leftover,
            (
                *LEFT,
                "a/Thumbs.db",
                "a\\desktop.ini",
                "__MACOSX/a/b.svg",
                "@eaDir/a.svg",
                Path("a/.x.svg"),
            ),
        )
    )
    assert not any(
        map(is_leftover, ("a.png", "kkanji2/U+4E00/a.png", "thumbs.png", "./kkanji2/U+4E00/a.png"))
    )


def test_tar_members_with_a_dot_before_them(tmp_path):
    members = kkanji_members({0x4E00: 2})
    tar(tmp_path / "a.tar", {f"./{name}": content for name, content in members.items()})
    assert [name for _, name, _ in kkanji.read(tmp_path / "a.tar")] == [
        name.partition("/")[2] for name in members
    ]


def test_names_that_are_no_text(tmp_path):
    """Bytes of Shift_JIS, in a tar and in folders."""
    name = b"kkanji2/U+4E00/\x8e\x52.png".decode("utf-8", "surrogateescape")
    members = {name: png(image(1))} | kkanji_members({0x4E00: 8, 0x4E8C: 8})
    folder = tmp_path / "d"
    folder.mkdir()
    with tarfile.open(folder / "kkanji.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    svg_zip(folder / "kanjivg-20000101-all.zip", {"04e00": PATHS, "04e8c": PATHS})
    assert main(["prepare", "--data", str(folder)]) == 0
    other = tmp_path / "e"
    for path, content in members.items():
        (place := other / path).parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    svg_zip(other / "kanjivg-20000101-all.zip", {"04e00": PATHS, "04e8c": PATHS})
    assert main(["prepare", "--data", str(other)]) == 0
    strange = tmp_path / b"\x8e\x52.svg".decode("utf-8", "surrogateescape")
    strange.write_text(svg("04e00", PATHS), encoding="utf-8")
    for target in ("a.npz", "a.ndjson", "a.zip", "a", "b.svg"):
        assert main(["convert", str(strange), str(tmp_path / target)]) == 0
        assert len(convert.read(tmp_path / target)[0].strokes) == 2
    assert main(["convert", str(strange), str(strange.with_suffix(".npz"))]) == 0


def test_names_that_windows_keeps_for_devices_are_not_written():
    drawings = [
        convert.Drawing([], word) for word in ("con", "AUX", "com1", "cone", "a:b", "山川", "")
    ]
    assert convert.file_names(drawings) == [
        "con_.svg",
        "AUX_.svg",
        "com1_.svg",
        "cone.svg",
        "a_b.svg",
        "山川.svg",
        "drawing000006.svg",
    ]


# Arrays as people save them

ROWS = np.array([[1, 2, 0], [3, 4, 1], [5, 6, 0], [7, -8, 1]], np.float32)


def objects(*items) -> np.ndarray:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def saved(path: Path, array: np.ndarray, protocol: int) -> Path:
    """As np.savez, with a protocol of choice."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "|O", "fortran_order": False, "shape": array.shape}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", content.getvalue() + pickle.dumps(array, protocol=protocol))
    return path


AS_SAVED = {
    "a list of arrays": objects(ROWS, ROWS[:2]),
    "one drawing as objects": np.array([ROWS], object),
    "two of one length": np.array([ROWS, ROWS], object),
    "whole numbers": np.array([ROWS.astype(int).tolist()], object),
    "lists of rows": objects(ROWS.tolist(), ROWS[:2].tolist()),
    "arrays of objects": objects(ROWS.astype(object), ROWS[:2].astype(object)),
    "numbers of NumPy": np.array([[[*map(np.int16, row)] for row in ROWS]], object),
    "columns first": objects(np.asfortranarray(ROWS), ROWS[:2]),
    "one drawing": objects(ROWS),
}


@pytest.mark.parametrize("case", AS_SAVED)
@pytest.mark.parametrize("protocol", range(2, 6))
def test_object_arrays_of_every_protocol(tmp_path, case, protocol):
    if case == "numbers of NumPy":
        array = np.empty((1, 4, 3), object)
        for at, value in np.ndenumerate(ROWS):
            array[0, *at] = np.float32(value)
    else:
        array = AS_SAVED[case]
    found = sketch_npz.read(saved(tmp_path / "a.npz", array, protocol)).rows
    assert len(found) == len(array) and np.array_equal(found[0], ROWS)
    assert len(convert.read(tmp_path / "a.npz")) == len(array)


def test_savez_of_one_drawing(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        train=np.array([ROWS], object),
        valid=objects(),
        test=np.array([ROWS, ROWS]),
    )
    assert [len(r) for r in sketch_npz.read(tmp_path / "a.npz").rows] == [4, 4, 4]


@pytest.mark.parametrize(
    "array",
    [
        np.array({"train": 1}, object),
        objects("text", ROWS),
        objects([["a", 1, 2]]),
        np.array([[["x", 1, 2]]], object),
        objects(None),
    ],
)
def test_other_objects_are_refused_with_how_to_save(tmp_path, array):
    with pytest.raises(DataError, match=r"\(n, 3\)"):
        sketch_npz.read(saved(tmp_path / "a.npz", array, 4))


def test_what_protocol_5_could_smuggle_in_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    for array in (objects(Evil()), np.array([[[Evil(), 1, 2]]], object)):
        with pytest.raises(DataError, match="nothing of it was run"):
            sketch_npz.read(saved(tmp_path / "a.npz", array, 5))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    for dump in (
        b"\x80\5cnumpy.core.numeric\n_frombuffer\n(C\4abcdcnumpy\ndtype\n\x8c\2f4\x85R"
        b"(K\x09t\x8c\1Ct\x85R.",
        b"\x80\5\x97.",
        b"\x80\5cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\1O\x85RC\1a\x86R.",
    ):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("train.npy", header.getvalue() + dump)
        with pytest.raises(DataError, match="nothing of it was run"):
            sketch_npz.read(tmp_path / "a.npz")


# One bad record among good ones


def test_strokes_without_points_are_dropped_counted_and_said(tmp_path, capsys):
    good, bad = (
        {"word": "a", "drawing": [[[1, 2], [3, 4]]]},
        {
            "word": "b",
            "drawing": [[[], []], [[1, 2], [3, 4]], [[], [], []]],
        },
    )
    (tmp_path / "a.ndjson").write_text(
        "".join(json.dumps(r) + "\n" for r in (good, bad, good)), encoding="utf-8"
    )
    assert main(["convert", str(tmp_path / "a.ndjson"), str(tmp_path / "a.npz")]) == 0
    done = capsys.readouterr()
    assert (
        "3 drawings" in done.out
        and done.err
        == f"{tmp_path / 'a.ndjson'}: 2 strokes without points left out, the first in line 2\n"
    )
    assert [len(d.strokes) for d in convert.read(tmp_path / "a.ndjson")] == [1, 1, 1]
    for wrong in ([[1], []], [[]], [[], [1]]):
        with pytest.raises(DataError, match="line 1: stroke 1"):
            list(quickdraw.read(io.BytesIO(json.dumps({"drawing": [wrong]}).encode()), "x"))


# Drawn by other programs

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 109 109">'

OUTLINES = ["M10 40L90 38L90 44L10 46Z", "M50 10L56 10L55 90L49 90Z"]
MEDIANS = ["M12 43L88 41", "M53 12L52 88"]


def animcjk() -> str:
    shapes = "".join(f'<path id="z1d{i}" d="{d}"/>' for i, d in enumerate(OUTLINES, 1))
    clips = "".join(f'<clipPath id="z1c{i}"><use xlink:href="#z1d{i}"/></clipPath>' for i in (1, 2))
    lines = "".join(
        f'<path style="--d:{i}s;" pathLength="3333" clip-path="url(#z1c{i})" d="{d}"/>'
        for i, d in enumerate(MEDIANS, 1)
    )
    return (
        '<svg id="z1" class="acjk" version="1.1" viewBox="0 0 109 109" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<style>path {{fill:none}}</style>{shapes}<defs>{clips}</defs>{lines}</svg>"
    )


def makemeahanzi() -> str:
    line = '<line x1="0" y1="0" x2="109" y2="109"></line>'
    grid = f'<g stroke="lightgray" transform="scale(1, 1)">{line}{line}</g>'
    body = "".join(f'<path d="{o}" fill="lightgray"></path>' for o in OUTLINES)
    body += "".join(
        f'<clipPath id="make-me-a-hanzi-clip-{i}"><path d="{o}"></path></clipPath><path '
        f'clip-path="url(#make-me-a-hanzi-clip-{i})" d="{m}" fill="none" '
        f'id="make-me-a-hanzi-animation-{i}"></path>'
        for i, (o, m) in enumerate(zip(OUTLINES, MEDIANS))
    )
    return f"{HEAD}{grid}<g>{body}</g></svg>"


@pytest.mark.parametrize(
    "drawn",
    [
        animcjk(),
        makemeahanzi(),
        animcjk()
        .replace(' clip-path="url(#z1c1)"', "")
        .replace('"--d:1s;"', "\"clip-path:url('#z1c1')\""),
    ],
)
def test_of_outlines_and_medians_the_medians_are_the_strokes(drawn):
    strokes = svgs.read(drawn.encode()).strokes
    assert [s.tolist() for s in strokes] == [[[12, 43], [88, 41]], [[53, 12], [52, 88]]]


def test_a_drawing_that_is_clipped_otherwise_keeps_all_its_strokes():
    window = '<clipPath id="w"><rect width="99" height="99"/></clipPath>'
    for body in (
        f'{window}<path clip-path="url(#w)" d="M1 1L9 9"/><path d="M2 2L8 8"/>',
        '<path clip-path="url(#none)" d="M1 1L9 9"/><path d="M2 2L8 8"/>',
        f'{window}<g clip-path="url(#w)"><path d="M1 1L9 9"/></g><path d="M2 2L8 8"/>',
    ):
        assert len(svgs.read(f"{HEAD}{body}</svg>".encode()).strokes) == 2


@pytest.mark.parametrize(
    "d, end",
    [
        ("M10,20C30,20,60,20,94.,60.08", (94, 60.08)),
        ("M10 20a5 5 0 0110 0", (20, 20)),
        ("M10 20a5 5 0 1110-.5", (20, 19.5)),
        ("M10 20A5 5 0 10.5.5", (0.5, 0.5)),
    ],
)
def test_numbers_as_programs_pack_them(d, end):
    [stroke] = svgs.read(f'{HEAD}<path d="{d}"/></svg>'.encode()).strokes
    assert np.allclose(stroke[-1], end, atol=0.01)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "shift_jis", "euc-jp", "utf-8-sig"])
def test_svg_in_japanese_encodings(encoding):
    text = (
        f'<?xml version="1.0" '
        f'encoding="{encoding.removesuffix("-sig").removesuffix("-le")}"?><svg '
        f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 109 109">'
        '<title>山</title><path d="M1 1L9 9"/></svg>'
    )
    head = b"\xff\xfe" if encoding == "utf-16-le" else b""
    assert svgs.read(head + text.encode(encoding)).word == "山"


def test_the_small_set_is_prepared_from_what_was_unpacked_and_renamed(tmp_path):
    """All of it at once."""
    folder = small_set(tmp_path / "d")
    (folder / "kkanji.tar").write_bytes(gzip.compress((folder / "kkanji.tar").read_bytes()))
    assert prepare.prepare(folder, progress=False).is_dir()
