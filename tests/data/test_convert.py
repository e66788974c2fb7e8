import argparse
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from published_files import PATHS, svg, svg_zip, xml_gz

from transfer.data import sample
from transfer.data.curves import flatten
from transfer.data.formats import command as conversion
from transfer.data.formats import convert, sketch_npz
from transfer.data.published import kanjivg
from transfer.data.strokes import distance_to_segment, from_stroke3
from transfer.system.errors import DataError

GLYPHS = {
    "04e00": PATHS,
    "04e00-Kaisho": PATHS[:1],
    "03042": ["M10,90C-5,0,60,-5,95,20S10,50,20,100"],
    "0002e": ["M50.5,90c0,0,0,0,0,0"],
}


@pytest.fixture
def release(tmp_path):
    return svg_zip(tmp_path / "kanjivg-20000101-all.zip", GLYPHS)


def far(a, b):
    """The largest distance between two polylines, either way."""

    def one_way(points, line):
        return np.min(
            [distance_to_segment(points, p, q) for p, q in zip(line, line[1:])], axis=0
        ).max()

    a, b = np.asarray(a, float), np.asarray(b, float)
    return max(one_way(a, b), one_way(b, a))


def check(drawings, glyphs, limit=0.25):
    """Every glyph is there with its label and its curves."""
    found = {d.key: d for d in drawings}
    assert sorted(found) == sorted(g.id[4:] for g in glyphs)
    worst = 0
    for glyph in glyphs:
        drawing = found[glyph.id[4:]]
        assert drawing.word == chr(glyph.code_point) and len(drawing.strokes) == len(glyph.strokes)
        for stroke, drawn in zip(glyph.strokes, drawing.strokes):
            assert drawn.dtype == np.float32 and len(drawn) >= 2
            curve = flatten(stroke.path, 0.001)
            assert np.hypot(*(drawn[[0, -1]] - curve[[0, -1]]).T).max() <= limit
            worst = max(worst, far(curve, drawn))
    assert worst <= limit, worst
    return worst


ROUTES = [
    ["a.npz"],
    ["a.npz", "b.ndjson", "c.zip", "d.npz"],
    ["a.ndjson", "folder", "b.ndjson"],
    ["folder", "a.npz", "b.zip", "c.ndjson", "d.npz", "e.zip"],
    ["a.zip", "b.zip", "c.zip"],
]


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_round_trips(release, tmp_path, route):
    source = release
    for name in route:
        assert convert.convert(source, tmp_path / name) == 4
        source = tmp_path / name
    assert check(convert.read(source), kanjivg.read(release)) <= 0.17


def test_round_trips_of_the_sample(tmp_path):
    sample.write(tmp_path, images_per_class=1)
    source = tmp_path / "kanjivg-00000000.xml.gz"
    convert.convert(source, tmp_path / "a.npz", dtype="int16")
    convert.convert(tmp_path / "a.npz", tmp_path / "b.ndjson")
    convert.convert(tmp_path / "b.ndjson", tmp_path / "c.zip")
    check(convert.read(tmp_path / "c.zip"), kanjivg.read(source))


@pytest.mark.parametrize("layout", ["sketch-rnn", "flat"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_layouts_and_types(release, tmp_path, layout, dtype):
    convert.convert(
        release, tmp_path / "a.npz", layout=layout, dtype=dtype, split=(0.5, 0.25, 0.25)
    )
    drawings = convert.read(tmp_path / "a.npz")
    check(drawings, kanjivg.read(release))
    assert [sum(d.split == s for d in drawings) for s in sketch_npz.SPLITS] == [2, 1, 1]
    rows = sketch_npz.read(tmp_path / "a.npz").rows
    assert {r.dtype for r in rows} == {np.dtype(dtype)}


def test_sketch_rnn_programs_can_load_it(release, tmp_path):
    convert.convert(release, tmp_path / "a.npz", dtype="int16", split=(0.5, 0.25, 0.25))
    data = np.load(tmp_path / "a.npz", encoding="latin1", allow_pickle=True)  # as they do
    for split, count in (("train", 2), ("valid", 1), ("test", 1)):
        assert data[split].dtype == object and len(data[split]) == count
        for rows in data[split]:
            assert (
                rows.dtype == np.int16 and rows.shape[1] == 3 and set(rows[:, 2].tolist()) <= {0, 1}
            )
            assert rows[-1, 2] == 1 and abs(rows).max() < 1000 and rows.flags.c_contiguous
            from_stroke3(rows)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert b"numpy.core.multiarray" in archive.read(
            "train.npy"
        ) and b"numpy._core" not in archive.read("train.npy")


def test_the_flat_layout_needs_no_pickle(release, tmp_path):
    convert.convert(release, tmp_path / "a.npz", layout="flat")
    data = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert data["rows"].shape == (data["offsets"][-1], 3) and data["words"].tolist() == [
        ".",
        "あ",
        "一",
        "一",
    ]
    assert (
        len(data["split"]) == 4
        and data["keys"].tolist()[3] == "04e00-Kaisho"
        and data["scale"] == 1
    )


@pytest.mark.parametrize("scale, digits", [(9, 0), (50, 0), (2, 0)])
def test_rounding_is_what_is_said(release, tmp_path, scale, digits):
    exact = {d.key: d for d in convert.read(release, epsilon=0)}
    convert.convert(release, tmp_path / "a.npz", epsilon=0, dtype="int16", scale=scale)
    for d in convert.read(tmp_path / "a.npz"):
        for a, b in zip(exact[d.key].strokes, d.strokes):
            assert np.hypot(*(a - b).T).max() <= 0.5 * 2**0.5 / scale + 1e-4
    with pytest.raises(DataError, match="does not fit int16"):
        convert.convert(release, tmp_path / "a.npz", dtype="int16", scale=1000)


def test_published_sets_without_our_keys(tmp_path):
    rows = [
        np.array([(100, 50, 0), (50, 100, 1), (0, -20, 0), (9, 0, 1)], np.int16),
        np.array([(0, 0, 0), (7, 0, 1)], np.int16),
    ]
    objects = np.empty(2, object)
    objects[:] = rows
    same = np.empty(1, object)
    same[0] = rows[0]
    np.savez(tmp_path / "a.npz", train=objects, valid=same, test=np.array([rows[1], rows[1]]))
    drawings = convert.read(tmp_path / "a.npz")
    assert [d.split for d in drawings] == ["train", "train", "valid", "test", "test"]
    points = np.concatenate(drawings[0].strokes)
    assert np.allclose([points.min(0)[1], points.max(0)[1]], [3, 106])  # fitted into the box
    assert np.allclose(np.diff(drawings[0].strokes[0], axis=0)[0] * 100 / 103, [50, 100])
    points = np.concatenate(convert.read(tmp_path / "a.npz", scale=2)[0].strokes)
    assert np.allclose(points[0], [50, 25])
    convert.convert(tmp_path / "a.npz", tmp_path / "b.npz")
    assert [d.split for d in convert.read(tmp_path / "b.npz")] == [
        "train",
        "train",
        "valid",
        "test",
        "test",
    ]
    convert.convert(tmp_path / "a.npz", tmp_path / "folder")
    assert sorted(os.listdir(tmp_path / "folder")) == [f"drawing{i:06d}.svg" for i in range(5)]


def test_arrays_in_fortran_order_are_read_as_what_they_are(tmp_path):
    rows = [
        np.array([(100, 50, 0), (50, 100, 1), (0, -20, 0), (9, 0, 1)], np.int16),
        np.array([(1, 2, 0), (7, 3, 1)], np.int16),
    ]
    objects = np.empty(2, object)
    objects[:] = [np.asfortranarray(r) for r in rows]
    three = np.asfortranarray(np.array([rows[1], rows[1] * [3, 5, 1]]))
    flat = {
        "rows": np.asfortranarray(np.concatenate(rows)),
        "offsets": np.array([0, 4, 6]),
        "split": np.zeros(2, int),
    }
    np.savez(
        tmp_path / "objects.npz", train=objects, test=three
    )  # pickled, and as an array of its own
    np.savez(tmp_path / "flat.npz", **flat)
    for name, wanted in (("objects", [*rows, *three]), ("flat", rows)):
        for found, row in zip(sketch_npz.read(tmp_path / f"{name}.npz").rows, wanted, strict=True):
            np.testing.assert_array_equal(found, row)


def test_sets_written_by_python_2(tmp_path):
    rows = np.array([(1, 2, 0), (3, 4, 1)], "<i2")
    text = rows.tobytes().decode("latin1").encode("latin1")
    dump = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"
        b"K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x01\x85"
        b"cnumpy\ndtype\nq\x04U\x02O8K\x00K\x01\x87R(K\x03U\x01|"
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]"
        b"h\x01h\x02K\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86"
        b"h\x04U\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(text)]) + text + b"tbatb."
    )
    assert np.array_equal(pickle.loads(dump, encoding="latin1")[0], rows)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train.npy", header.getvalue() + dump)
    assert np.array_equal(sketch_npz.read(tmp_path / "a.npz").rows[0], rows)


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def member(payload, shape=(1,)):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|O", "fortran_order": False, "shape": shape}
    )
    return header.getvalue() + payload


HEAD = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


@pytest.mark.parametrize(
    "payload, match",
    [
        (pickle.dumps([Evil(os.system, ("touch {0}/ran",))]), "asks for"),
        (pickle.dumps(Evil(eval, ("1",)), 2), "asks for"),
        (pickle.dumps(Evil(np.load, ("{0}/x",)), 4), "asks for"),
        (b"cos\nsystem\n(S'touch {0}/ran'\ntR.", "asks for"),
        (b"(S'touch {0}/ran'\nios\nsystem\n.", "instruction INST"),
        (pickle.dumps({"a": 1}), "instruction"),
        (pickle.dumps([1, 2]), "no array"),
        (b"cnumpy\ndtype\n(S'V8'\ntR.", "type 'V8'"),
        (b"", "damaged"),
        (b"\x80\x02", "damaged"),
        (HEAD + b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02i2\x85R\x89U\x02abtb.", "no plain array"),
        (b".", "no plain array"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "no plain array"),
        (b"\x8e" + b"\xff" * 7 + b"\x7f.", "no plain array"),
        (HEAD + b"b.", "no plain array"),
        (HEAD + b"(K\x01J\xff\xff\xff\xff\x85Nt" + b"b.", "no plain array"),
        (b"(" * 100_000 + b".", "no plain array"),
        (b"]" + b"(h\x00" + b"e.", "no plain array"),
    ],
)
def test_pickles_of_anything_else_are_not_run(tmp_path, payload, match):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train.npy", member(payload.replace(b"{0}", os.fsencode(tmp_path))))
    with pytest.raises(DataError, match=match) as caught:
        convert.read(tmp_path / "a.npz")
    assert str(caught.value).startswith(f"{tmp_path / 'a.npz'}: train") and "\n" not in str(
        caught.value
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "arrays, match",
    [
        ({"a": np.zeros(3)}, "train, valid and test"),
        ({"train": np.zeros((2, 5, 2))}, "stroke-3"),
        ({"train": np.zeros(3)}, "stroke-3"),
        ({"train": np.full((1, 2, 3), np.nan)}, "NaN"),
        ({"train": np.full((1, 2, 3), 0.5)}, "lift"),
        ({"train": np.ones((1, 2, 3)), "scale": np.float64(-1)}, "scale"),
        ({"train": np.ones((1, 2, 3)), "scale": np.zeros(2)}, "scale"),
        ({"train": np.ones((1, 2, 3)), "train_words": np.array(["a", "b"])}, "train_words"),
        ({"train": np.zeros((0, 2, 3))}, "no drawings"),
        (
            {"rows": np.zeros((3, 3)), "offsets": np.array([0, 4]), "split": np.zeros(1, int)},
            "offsets",
        ),
        (
            {
                "rows": np.zeros((3, 3)),
                "offsets": np.array([0, 2, 1, 3]),
                "split": np.zeros(3, int),
            },
            "offsets",
        ),
        ({"rows": np.zeros((3, 3)), "offsets": np.array([0, 3]), "split": np.full(1, 3)}, "split"),
        ({"rows": np.zeros((3, 3)), "offsets": np.array([0, 3])}, "split"),
        ({"train": np.full((1, 2, 3), 1e300)}, "lift"),
        ({"train": np.array([[(1e300, 0, 1)]]), "scale": np.float64(1)}, "too large"),
    ],
)
def test_sets_that_are_no_sets(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=match) as caught:
        convert.read(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(caught.value)


def test_damaged_sets(release, tmp_path):
    convert.convert(release, tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for spoilt in (
        content[: len(content) // 2],
        content[:200] + b"\xff" * 40 + content[240:],
        b"",
        b"PK",
    ):
        (tmp_path / "b.npz").write_bytes(spoilt)
        with pytest.raises(DataError, match="b.npz"):
            convert.read(tmp_path / "b.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)}
    )
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("train.npy", header.getvalue())
    with pytest.raises(DataError, match="size or type"):
        convert.read(tmp_path / "b.npz")


def test_quickdraw_simplified_and_raw(tmp_path):
    simplified = {
        "word": "cat",
        "countrycode": "JP",
        "timestamp": "2017-03-01",
        "recognized": True,
        "key_id": "5891796615823360",
        "drawing": [[[0, 255], [0, 51]], [[10], [20]]],
    }
    raw = {
        "word": "cat",
        "key_id": "7",
        "recognized": False,
        "drawing": [[[100.5, 300.5], [40, 80], [0, 17]], [[150, 160], [50, 50], [40, 60]]],
    }
    (tmp_path / "a.ndjson").write_text(json.dumps(simplified) + "\n\n" + json.dumps(raw) + "\n")
    first, second = convert.read(tmp_path / "a.ndjson")
    assert (first.word, first.key) == ("cat", "5891796615823360")
    assert np.allclose(first.strokes[0], [(0, 0), (109, 21.8)]) and first.strokes[1].shape == (2, 2)
    assert np.allclose(second.strokes[0], [(3, 54.5 - 10.3), (106, 54.5 + 10.3)], atol=1e-4)
    assert np.allclose(
        convert.read(tmp_path / "a.ndjson", scale=2)[1].strokes[0], [(50.25, 20), (150.25, 40)]
    )
    convert.convert(tmp_path / "a.ndjson", tmp_path / "b.ndjson", dtype="int16")
    written = [json.loads(line) for line in (tmp_path / "b.ndjson").read_text().splitlines()]
    assert written[0]["drawing"] == [[[0, 255], [0, 51]], [[10, 10], [20, 20]]]
    assert {k: v for k, v in written[0].items() if k != "drawing"} == {
        "word": "cat",
        "key_id": first.key,
        "recognized": True,
    }
    convert.convert(tmp_path / "b.ndjson", tmp_path / "c.zip")
    again = convert.read(tmp_path / "c.zip")
    assert [(d.word, d.key) for d in again] == [("cat", "5891796615823360"), ("cat", "7")]


@pytest.mark.parametrize(
    "line, match",
    [
        ("{", "not JSON"),
        ("[]", "no drawing"),
        ("{}", "no drawing"),
        ('{"drawing": [[[1, 2]]]}', "stroke 1 is not"),
        ('{"drawing": [[[1, 2], [1]]]}', "2 x and 1 y"),
        ('{"drawing": [[[1], [NaN]]]}', "finite"),
        ('{"drawing": [[["1"], [2]]]}', "finite"),
        ('{"drawing": [[[true], [2]]]}', "finite"),
        ('{"drawing": [[[1e999], [2]]]}', "finite"),
        ("[" * 100_000, "not JSON"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not JSON"),
        ('{"drawing": [7]}', "stroke 1 is not"),
    ],
)
def test_bad_quickdraw(tmp_path, line, match):
    good = b'{"drawing": [[[1, 2], [3, 4]]]}\n'
    (tmp_path / "a.ndjson").write_bytes(
        good + (line if isinstance(line, bytes) else line.encode()) + b"\n"
    )
    with pytest.raises(DataError, match=f"a.ndjson: line 2.*{match}"):
        convert.read(tmp_path / "a.ndjson")


def test_one_svg_in_and_out(tmp_path):
    (tmp_path / "a.svg").write_text(svg("04e00", PATHS))
    convert.convert(tmp_path / "a.svg", tmp_path / "b.npz")
    convert.convert(tmp_path / "b.npz", tmp_path / "c.svg")
    (drawing,) = convert.read(tmp_path / "c.svg")
    assert drawing.word == "一" and drawing.key == "c"
    (tmp_path / "04e00.svg").write_bytes((tmp_path / "c.svg").read_bytes())
    (glyph,) = (g for g in kanjivg.read(svg_zip(tmp_path / "k.zip", {"04e00": PATHS})))
    check(convert.read(tmp_path / "04e00.svg"), [glyph])
    (tmp_path / "svgs").mkdir()
    (tmp_path / "svgs" / "04e00.svg").write_bytes((tmp_path / "c.svg").read_bytes())
    assert len(kanjivg.read(tmp_path / "svgs")[0].strokes) == 2  # readers of KanjiVG can read ours
    with pytest.raises(DataError, match="one drawing"):
        convert.convert(
            xml_gz(tmp_path / "k.xml.gz", {"04e00": PATHS, "04e01": PATHS}), tmp_path / "d.svg"
        )


def test_epsilon(tmp_path):
    source = xml_gz(tmp_path / "k.xml.gz", {"04e00": GLYPHS["03042"]})
    counts = [sum(map(len, convert.read(source, epsilon=e)[0].strokes)) for e in (0, None, 0.25, 5)]
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == 4
    convert.convert(source, tmp_path / "a.npz", epsilon=0)
    assert sum(map(len, convert.read(tmp_path / "a.npz")[0].strokes)) == counts[0]
    assert sum(map(len, convert.read(tmp_path / "a.npz", epsilon=5)[0].strokes)) == counts[3]
    with pytest.raises(DataError, match="epsilon"):
        convert.read(tmp_path / "a.npz", epsilon=-1)


def test_names_of_files():
    names = [
        ("", "04e00"),
        ("", "04E00"),
        ("一", ""),
        ("", "../../etc/passwd"),
        ("cat & dog", ""),
        ("", ""),
        ("", "a" * 300),
    ]
    files = convert.file_names([convert.Drawing([], w, k) for w, k in names])
    assert files == [
        "04e00.svg",
        "04E00-2.svg",
        "04e00-3.svg",
        "_etc_passwd.svg",
        "cat_dog.svg",
        "drawing000005.svg",
        "a" * 80 + ".svg",
    ]


def test_the_split_is_drawn_the_same_each_time():
    drawings = [convert.Drawing([], "a", str(i)) for i in range(100)]
    first = convert.split_of(drawings)
    assert first == convert.split_of(drawings) != convert.split_of(drawings, seed=1)
    assert [first.count(s) for s in sketch_npz.SPLITS] == [90, 5, 5]
    assert convert.split_of(drawings, (0, 0, 1)) == ["test"] * 100
    for bad in ((0.5, 0.5), (1, 1, -1), (0.5, 0.2, 0.2), (np.nan, 0, 1)):
        with pytest.raises(DataError, match="--split"):
            convert.split_of(drawings, bad)


def test_a_failed_write_leaves_what_was_there(release, tmp_path, monkeypatch):
    target = tmp_path / "room" / "a.npz"
    target.parent.mkdir()
    target.write_bytes(b"earlier")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sketch_npz, "write", full)
    with pytest.raises(DataError, match="a.npz: cannot be written .No space left"):
        convert.convert(release, target)
    assert os.listdir(target.parent) == ["a.npz"] and target.read_bytes() == b"earlier"
    for place in (tmp_path / "nowhere" / "a.npz", tmp_path / "nowhere" / "folder"):
        with pytest.raises(DataError, match="cannot be written"):
            convert.convert(release, place)
    with pytest.raises(DataError, match="files in it"):
        convert.convert(release, target.parent)
    assert (
        convert.convert(release, tmp_path / "b.ndjson"),
        convert.convert(release, tmp_path / "b.ndjson"),
    ) == (4, 4)


@pytest.mark.parametrize(
    "source, target, match",
    [
        ("no.npz", "a.npz", "no such file"),
        ("no", "a.npz", "no such"),
        ("no.svg", "a.npz", "no such"),
        ("no.zip", "a.npz", "no such"),
        ("no.xml.gz", "a.npz", "no such"),
        ("k.zip", "a.pdf", "format not known"),
        ("k.zip", "a.xml.gz", "format not known"),
        ("text.txt", "a.npz", "format not known"),
        ("empty", "a.npz", "no drawings"),
        ("bad.zip", "a.npz", "damaged"),
        ("bad.ndjson", "a.npz", "line 1"),
        ("bad.svg", "a.npz", "bad.svg: not well-formed"),
    ],
)
def test_bad_names(tmp_path, source, target, match):
    svg_zip(tmp_path / "k.zip", GLYPHS)
    (tmp_path / "empty").mkdir()
    for name in ("text.txt", "bad.zip", "bad.ndjson", "bad.svg"):
        (tmp_path / name).write_text("nothing of the kind")
    with pytest.raises(DataError, match=match) as caught:
        convert.convert(tmp_path / source, tmp_path / target)
    assert "\n" not in str(caught.value) and not (tmp_path / target).exists()


def command(*arguments):
    parser = argparse.ArgumentParser()
    conversion.add_parser(parser.add_subparsers())
    args = parser.parse_args(["convert", *map(str, arguments)])
    args.run(args)


def test_command_line(release, tmp_path, capsys):
    command(
        release,
        tmp_path / "a.npz",
        "--split",
        "0.5,0.25,0.25",
        "--dtype",
        "int16",
        "--scale",
        "20",
        "--epsilon",
        "0.1",
    )
    assert capsys.readouterr().out == f"{tmp_path / 'a.npz'}: 4 drawings\n"
    assert sketch_npz.read(tmp_path / "a.npz").scale == 20
    command(tmp_path / "a.npz", tmp_path / "b.npz", "--layout", "flat", "--input-scale", "40")
    half, whole = convert.read(tmp_path / "b.npz")[0], convert.read(tmp_path / "a.npz")[0]
    assert np.allclose(half.strokes[0] * 2, whole.strokes[0], atol=1e-3)
    for wrong in (
        ["--scale", "0"],
        ["--scale", "nan"],
        ["--input-scale", "-1"],
        ["--epsilon", "nan"],
        ["--split", "1,1,1"],
    ):
        with pytest.raises(DataError):
            command(tmp_path / "a.npz", tmp_path / "c.npz", *wrong)
    with pytest.raises(DataError, match="--scale"):
        command(tmp_path / "a.npz", tmp_path / "c.zip", "--scale", "2")
    with pytest.raises(DataError, match="--input-scale"):
        command(release, tmp_path / "c.npz", "--input-scale", "2")
    with pytest.raises(SystemExit):
        command(release, tmp_path / "c.npz", "--split", "a")


@pytest.mark.realdata
def test_kanjivg_round_trip(real_data, tmp_path):
    from transfer.data.prepare import kanjivg_source

    glyphs = [g for g in kanjivg.read(kanjivg_source(real_data)) if not g.variant][::200]
    small = xml_gz(tmp_path / "k.xml.gz", {g.id[4:]: [s.path for s in g.strokes] for g in glyphs})
    for source, target, dtype in (
        (small, "a.npz", "int16"),
        (tmp_path / "a.npz", "b.ndjson", "float32"),
        (tmp_path / "b.ndjson", "c.zip", "float32"),
        (tmp_path / "c.zip", "d.npz", "float32"),
    ):
        convert.convert(source, tmp_path / target, dtype=dtype)
    check(convert.read(tmp_path / "d.npz"), kanjivg.read(small))
