import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from published_files import image, kkanji_members, png, tar

from transfer.data.published.kkanji import read
from transfer.system.errors import DataError

GOOD = "kkanji2/U+4E00/0123456789abcdef.png"


def test_tar_and_folder_give_names_code_points_and_pixels(tmp_path):
    members = kkanji_members({0x4E00: 2, 0x20B9F: 1})
    for name, content in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    from_tar = {n: (c, i) for c, n, i in read(tar(tmp_path / "kkanji.tar", members))}
    from_folder = {n: (c, i) for c, n, i in read(tmp_path / "kkanji2")}
    assert list(from_tar) == [n.removeprefix("kkanji2/") for n in members] and set(from_tar) == set(
        from_folder
    )
    for name, (code_point, pixels) in from_tar.items():
        assert f"U+{code_point:04X}" == name.split("/")[0]
        assert pixels.dtype == np.uint8 and (pixels == from_folder[name][1]).all()
    assert (from_tar["U+4E00/" + f"{0x4E00 * 1000 + 1:016x}.png"][1] == image(0x4E01)).all()


def test_leftovers_of_file_managers_are_skipped(tmp_path):
    members = {"kkanji2/.DS_Store": b"x", "kkanji2/U+4E00/._a.png": b"x", GOOD: png(image(1))}
    assert [n for _, n, _ in read(tar(tmp_path / "kkanji.tar", members))] == [
        GOOD.removeprefix("kkanji2/")
    ]


def bad_png(mode="L", size=(64, 64)):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png():
    content = bytearray(bad_png())
    content[16:24] = b"\0\1\0\0\0\1\0\0"
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (GOOD, bad_png(size=(64, 63)), "64x63"),
        (GOOD, bad_png("RGB"), "mode RGB"),
        (GOOD, bad_png("1"), "mode 1"),
        (GOOD, bad_png("LA"), "mode LA"),
        (GOOD, huge_png(), "65536x65536"),
        (GOOD, b"hello", "not a PNG"),
        (GOOD, b"", "not a PNG"),
        (
            GOOD,
            png(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))[:900],
            "cannot be decoded",
        ),
        ("kkanji2/4E00/a.png", png(image(1)), "'4E00' is not a code point"),
        ("kkanji2/U+D800/a.png", png(image(1)), "'U+D800' is not a code point"),
        ("kkanji2/U+110000/a.png", png(image(1)), "is not a code point"),
        ("kkanji2/U+4E00/../U+4E01/a.png", png(image(1)), "leads out"),
        ("/U+4E00/a.png", png(image(1)), "leads out"),
        ("a.png", png(image(1)), "not an image"),
        ("kkanji2/U+4E00/a.txt", b"x", "not an image"),
        (GOOD, bytes(70000), "not a small regular file"),
        ("kkanji2/U+4E00/a\nb.png", b"x", "cannot be decoded"),
    ],
)
def test_bad_members_are_named_in_one_line(tmp_path, name, content, words):
    path = tar(tmp_path / "kkanji.tar", {name: content})
    with pytest.raises(DataError) as error:
        list(read(path))
    message = str(error.value)
    assert (
        words in message and str(path) in message and name.split("/")[-1].split("\n")[0] in message
    )
    assert "\n" not in message


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "kkanji.tar", "w") as archive:
        info = tarfile.TarInfo(GOOD)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="is a link"):
        list(read(tmp_path / "kkanji.tar"))


def test_a_name_that_comes_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "kkanji.tar", "w") as archive:
        for value in (1, 2):
            info = tarfile.TarInfo(GOOD)
            content = png(image(value))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(DataError, match="twice"):
        list(read(tmp_path / "kkanji.tar"))


def test_any_cut_is_noticed(tmp_path):
    whole = tar(tmp_path / "whole.tar", kkanji_members({0x4E00: 3})).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as archive:
        last = archive.getmembers()[-1]
        end = last.offset_data + (last.size + 511) // 512 * 512
    path = tmp_path / "kkanji.tar"
    for cut in (0, 100, 512, 600, last.offset, last.offset + 512, end - 1, end):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="kkanji.tar.*download it again"):
            list(read(path))


def test_a_broken_header_is_not_taken_for_the_end(tmp_path):
    path = tar(tmp_path / "kkanji.tar", kkanji_members({0x4E00: 3}))
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset
    content = bytearray(path.read_bytes())
    content[second : second + 8] = b"garbage!"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(read(path))


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(read(tmp_path / "kkanji.tar"))
    (tmp_path / "kkanji.tar").write_text("<html>404</html>" * 100)
    with pytest.raises(DataError, match="web page"):
        list(read(tmp_path / "kkanji.tar"))
    (tmp_path / "kkanji2").mkdir()
    (tmp_path / "kkanji2" / "readme.txt").write_text("x")
    with pytest.raises(DataError, match="not a class folder"):
        list(read(tmp_path / "kkanji2"))
