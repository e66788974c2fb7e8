import gzip
import hashlib
import io
import shutil
import struct
import zipfile

import numpy as np
import pytest

from transfer.data.__main__ import main
from transfer.data.published import catalogue, kmnist
from transfer.system.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def npz(path, array, **more):
    np.savez_compressed(path, array, **more)


def idx(path, array, magic=None, shape=None):
    header = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    path.write_bytes(
        gzip.compress(
            header + struct.pack(f">{array.ndim}I", *(shape or array.shape)) + array.tobytes()
        )
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kmnist").mkdir()
    (tmp_path / "k49").mkdir()
    for name, place in (("kmnist", "kmnist"), ("k49", "k49")):
        npz(tmp_path / place / f"{name}-test-imgs.npz", IMAGES)
        npz(tmp_path / place / f"{name}-test-labels.npz", LABELS)
    idx(tmp_path / "t10k-images-idx3-ubyte.gz", IMAGES)
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "form"), [("kmnist", None), ("kmnist", "npz"), ("kmnist", "idx"), ("k49", None)]
)
def test_both_formats_give_the_documented_arrays(folder, name, form):
    kana = kmnist.load(name, "test", folder, form)
    assert (kana.images == IMAGES).all() and (kana.labels == LABELS).all()
    assert kana.images.dtype == kana.labels.dtype == np.uint8 and kana.images.shape == (20, 28, 28)
    assert kana.code_points.dtype == np.int32
    assert len(kana.code_points) == len(kana.characters) == {"kmnist": 10, "k49": 49}[name]
    assert "".join(map(chr, kana.code_points)) == "".join(kana.characters)
    kana.images[0] = 0  # they are the caller's own


def test_the_class_map_is_read_where_it_is(folder):
    rows = [f"{i},U+{ord(c):04X},{c}" for i, c in enumerate("abcdefghij")]
    (folder / "kmnist_classmap.csv").write_text(
        "\n".join(["index,codepoint,char", *rows]), encoding="utf-8"
    )
    assert kmnist.load("kmnist", "test", folder).characters == tuple("abcdefghij")
    for bad in (
        rows[:9],
        rows[::-1],
        ["0,U+0041,x", *rows[1:]],
        ["0,0041,A", *rows[1:]],
        [*rows[:9], "9,U+006A"],
        [],
        ["x"],
    ):
        (folder / "kmnist_classmap.csv").write_text(
            "\n".join(["index,codepoint,char", *bad]), encoding="utf-8"
        )
        with pytest.raises(DataError, match="kmnist_classmap.csv"):
            kmnist.load("kmnist", "test", folder)
    (folder / "kmnist_classmap.csv").write_bytes(b"index,codepoint,char\n0,\xff\n")
    with pytest.raises(DataError, match="kmnist_classmap.csv"):
        kmnist.class_map("kmnist", folder)


def test_missing_files_are_named_with_the_command_that_gets_them(folder, tmp_path, monkeypatch):
    with pytest.raises(
        DataError,
        match="kmnist-train-imgs.npz and kmnist-train-labels.npz missing; "
        "`python -m transfer.data download kmnist",
    ):
        kmnist.load("kmnist", "train", folder)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        (folder / "t10k-labels-idx1-ubyte.gz").read_bytes()
    )
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz missing"):
        kmnist.load("kmnist", data=folder)
    monkeypatch.setenv("KUZUSHIJI_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataError, match="k49-train-imgs.npz"):
        kmnist.load("k49")
    for arguments in (("mnist", "test"), ("kmnist", "val"), ("k49", "test", folder, "idx")):
        with pytest.raises(DataError, match="published as|no such data set"):
            kmnist.load(*arguments)


class Bomb:
    def __reduce__(self):
        return print, ("a pickle was run",)


def pickled(path):
    npz(path, np.array([Bomb()] * 20, object))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def announces(shape, size=100, descr="|u1"):
    def write(path):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": descr, "fortran_order": False, "shape": shape}
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("arr_0.npy", header.getvalue() + bytes(size))

    return write


def other_member(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../arr_0.npy", b"x")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (pickled, "pickled objects"),
        (truncated, "cut short or damaged"),
        (flipped, "cut short or damaged"),
        (lambda p: p.write_bytes(b""), "cut short or damaged"),
        (lambda p: p.write_text("<html>"), "web page"),
        (announces((10**9, 28, 28)), "instead of bytes with 3 axes"),
        (announces((20, 28, 28)), "announces an array of"),
        (announces((0,), 0), "instead of bytes with 3 axes"),
        (announces((20, 28, 28), 20 * 784 * 4, "<f4"), "holds float32"),
        (announces((-1, 28, 28)), "k49-test-imgs.npz"),
        (announces((20, 27, 28), 20 * 27 * 28), "do not fit"),
        (lambda p: npz(p, np.asfortranarray(IMAGES)), "instead of bytes with 3 axes"),
        (lambda p: npz(p, IMAGES, more=LABELS), "instead of the one array arr_0"),
        (other_member, "instead of the one array"),
        (lambda p: npz(p, IMAGES[:19]), "do not fit"),
        (lambda p: npz(p, LABELS), "instead of bytes with 3 axes"),
    ],
)
def test_a_bad_npz_is_one_line_that_names_it(folder, capsys, spoil, words):
    path = folder / "k49" / "k49-test-imgs.npz"
    spoil(path)
    with pytest.raises(DataError, match=words) as error:
        kmnist.load("k49", "test", folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert "pickle was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated, "cut short or damaged"),
        (flipped, "t10k-images"),
        (lambda p: p.write_bytes(b"\x1f\x8b"), "cut short or damaged"),
        (lambda p: p.write_bytes(IMAGES.tobytes()), "does not begin as an idx file"),
        (lambda p: idx(p, IMAGES, b"\x00\x00\x08\x01"), "does not begin as an idx file"),
        (
            lambda p: idx(p, IMAGES, b"\x03\x08\x00\x00"),
            "does not begin as an idx file",
        ),  # little-endian
        (lambda p: idx(p, IMAGES, shape=(21, 28, 28)), "less than the array"),
        (lambda p: idx(p, IMAGES, shape=(19, 28, 28)), "more than"),
        (lambda p: idx(p, IMAGES, shape=(2**32 - 1,) * 3), "instead of bytes with 3 axes"),
    ],
)
def test_a_bad_idx_is_one_line_that_names_it(folder, spoil, words):
    path = folder / "t10k-images-idx3-ubyte.gz"
    spoil(path)
    with pytest.raises(DataError, match=words) as error:
        kmnist.load("kmnist", "test", folder, "idx")
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_label_without_a_class(folder):
    npz(folder / "kmnist" / "kmnist-test-labels.npz", LABELS + 1)
    with pytest.raises(DataError, match="label 10 where there are 10 classes"):
        kmnist.load("kmnist", "test", folder)


def test_info_counts_what_is_there(folder, capsys):
    assert main(["info", "kmnist", "--data", str(folder)]) == 0
    out = capsys.readouterr().out
    assert (
        "test: 20 images, 10 classes" in out
        and "お 2 き 2" in out
        and "train: the labels are not here" in out
    )
    shutil.rmtree(folder / "k49")
    assert main(["info", "k49", "--data", str(folder)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.realdata
def test_the_published_files(real_data):
    first = kmnist.load("kmnist", "test", real_data)
    second = kmnist.load("kmnist", "test", real_data, "idx")
    assert (
        first.images.shape == (10_000, 28, 28) and np.bincount(first.labels).tolist() == [1000] * 10
    )
    assert (first.images == second.images).all() and (first.labels == second.labels).all()
    assert 40 < first.images.mean() < 60  # ink is bright
    for (name, split), count in kmnist.COUNTS.items():
        labels = kmnist.load_labels(name, split, real_data)
        assert len(labels) == count and len(np.unique(labels)) == len(kmnist.CHARACTERS[name])
        assert "".join(kmnist.class_map(name, real_data)[1]) == kmnist.CHARACTERS[name]


@pytest.mark.realdata
def test_the_published_checksums_and_sizes(real_data):
    from transfer.data.published import download

    checked = 0
    for file in catalogue.files():
        path = download.find(real_data, file)
        if path and file.hash and file.hash.startswith("md5:"):
            content = path.read_bytes()
            assert "md5:" + hashlib.md5(content).hexdigest() == file.hash, path
            assert not file.exact or len(content) == file.size, path
            checked += 1
    assert checked >= 7
