"""Files made to cost time or memory, or to reach other files. Each is refused or read at the cost
that a file of its size may have."""

import bz2
import gzip
import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data import raster, strokes
from transfer.data.formats import convert, pickled_arrays, quickdraw, sketch_npz, svg
from transfer.data.published import catalogue, kanjivg, kkanji, kmnist
from transfer.inference import images
from transfer.system.errors import DataError

ROOT = Path(__file__).parents[2]
SECONDS = 2.0


@pytest.fixture(autouse=True)
def soon():
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def drawing(body: str, head: str = "") -> bytes:
    return (
        f'{head}<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 109 109">{body}</svg>'.encode()
    )


@pytest.mark.parametrize(
    "content, words",
    [
        (drawing('<path d="M0 0' + "c9e3 9e3 0 0 0 0" * 20_000 + '"/>'), "points"),
        (drawing('<line x1="' + "1" * 200_000 + 'x"/>'), "not a finite length"),
        (drawing('<line x1="1' + " " * 200_000 + 'x"/>'), "not a finite length"),
        (drawing('<path d="M0 0' + "a1 1 0 0 0 1 1" * 20_000 + '"/>'), "numbers and letters"),
        (drawing('<path d="' + "M0 0h1z" * 20_000 + '"/>'), "numbers and letters"),
        (
            drawing(
                '<defs><path id="a" d="M0 0'
                + "M0 0" * 2_000
                + '"/></defs>'
                + '<use href="#a"/>' * 5_000
            ),
            "numbers and letters",
        ),
        (
            drawing(
                '<defs><path id="a" d="M0 0c1 1 1 1 1 1'
                + " " * 50_000
                + '"/></defs>'
                + '<use href="#a"/>' * 5_000
            ),
            "MB of attributes",
        ),
        (drawing('<g x="&a;"/>', '<!DOCTYPE svg [<!ENTITY a "b">]>'), "entities"),
        (
            drawing(
                "<g/>" * 90_000, '<!DOCTYPE svg [<!ATTLIST g a CDATA "' + "x" * 40_000 + '">]>'
            ),
            "not well-formed",
        ),
    ],
    ids=[
        "curves",
        "digits",
        "blanks",
        "arcs",
        "subpaths",
        "use of paths",
        "use of blanks",
        "entity in an attribute",
        "default attribute",
    ],
)
def test_svg(content, words):
    with pytest.raises(DataError, match=words):
        svg.read(content)


def test_kanjivg_of_few_bytes_for_many_elements(tmp_path):
    with gzip.open(tmp_path / "kanjivg-1.xml.gz", "wb", compresslevel=1) as file:
        file.write(b"<k>")
        for _ in range(5):
            file.write(b"<g/>" * 1_000_000)
    with pytest.raises(DataError, match="elements"):
        kanjivg.read(tmp_path / "kanjivg-1.xml.gz")


def test_kanjivg_has_no_entities_and_one_encoding(tmp_path):
    body = (
        "<kanjivg><kanji id='kvg:kanji_04e00'><g><path d='M1 1c1 1 2 2 3 3'"
        " id='&a;'/></g></kanji></kanjivg>"
    )
    (tmp_path / "a.xml").write_text('<!DOCTYPE k [<!ENTITY a "b">]>' + body)
    with pytest.raises(DataError, match="entities"):
        kanjivg.read(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_text(
        '<?xml version="1.0" encoding="utf-16"?>' + body.replace("&a;", ""), encoding="utf-16"
    )
    with pytest.raises(DataError, match="not well-formed"):
        kanjivg.read(tmp_path / "a.xml")


def repacked(path: Path, inner: str, content: bytes, kind: int, size: int) -> Path:
    """A zip with one member that says it is packed as `kind` and of `size` bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inner, content)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2")
    struct.pack_into("<H", data, 8, kind)
    struct.pack_into("<H", data, at + 10, kind)
    struct.pack_into("<I", data, at + 24, size)
    path.write_bytes(data)
    return path


READERS = {
    "04e00.svg": ("a.zip", kanjivg.read),
    "4e00.svg": ("a.zip", convert.read),
    "arr_0.npy": ("a.npz", lambda path: kmnist.read(path, 3)),
    "train.npy": ("a.npz", sketch_npz.read),
}


@pytest.mark.parametrize("inner", READERS)
@pytest.mark.parametrize(
    "kind, size, words",
    [(12, 1000, "not packed like"), (14, 1000, "not packed like"), (0, 2**31, "MB")],
)
def test_zip_bombs(tmp_path, inner, kind, size, words):
    name, read = READERS[inner]
    bomb = bz2.compress(bytes(20_000_000)) if kind == 12 else bytes(1000)
    with pytest.raises(DataError, match=words):
        read(repacked(tmp_path / name, inner, bomb, kind, size))


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, ",
        b"{'descr': ('|u1',), 'fortran_order': False, 'shape': (1,1,1)}",
        b"(" * 3000,
        b"-" * 9000 + b"1",
        b"\xff" * 40,
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1e5, 1, 1)}",
    ],
)
def test_npy_headers_are_python_source(tmp_path, header):
    for name, inner, read in (
        ("a.npz", "arr_0.npy", lambda path: kmnist.read(path, 3)),
        ("b.npz", "train.npy", sketch_npz.read),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inner, npy(header))
        with pytest.raises(DataError):
            read(tmp_path / name)


def nested(depth: int) -> bytes:
    """A pickle's tuples of the same tuple twice: a few bytes a level, twice the text."""
    return b"K\1\x94" + b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(depth)
    )


LONG = b"\x8a\xff" + b"\x7f" * 255
PICKLES = {
    "a name of nested tuples": b"\x80\4" + nested(30) + b"K\1\x93.",
    "a type of nested tuples": b"\x80\4" + nested(30) + b"cnumpy\ndtype\nh\x1d\x85R.",
    "a shape of long numbers": (
        b"\x80\4cnumpy.core.multiarray\n_reconstruct\nK\1\x85R(K\1("
        + LONG
        + b"\x94"
        + b"h\0" * 40_000
        + b"tcnumpy\ndtype\n\x8c\1O\x85R(K\1\x8c\1|tb\x89]tb."
    ),
}


@pytest.mark.parametrize("pickled", PICKLES.values(), ids=PICKLES)
def test_pickles_that_grow_when_they_are_looked_at(tmp_path, pickled):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(
            "train.npy", npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", pickled)
        )
    with pytest.raises(DataError, match="nothing of it was run"):
        sketch_npz.read(tmp_path / "a.npz")


def test_pickles_of_too_many_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled_arrays, "_MAX_STEPS", 1000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(
            "train.npy",
            npy(
                b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n",
                b"\x80\4" + b"]" * 2000 + b".",
            ),
        )
    with pytest.raises(DataError, match="instructions"):
        sketch_npz.read(tmp_path / "a.npz")


def test_drawings_without_points_without_end(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(
            "train.npy",
            npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000000, 0, 3)}\n"),
        )
    with pytest.raises(DataError, match="empty drawings"):
        sketch_npz.read(tmp_path / "a.npz")


def test_texts_of_no_characters(tmp_path):
    rows = {
        "rows": np.zeros((2, 3), np.float32),
        "offsets": np.array([0, 2]),
        "split": np.array([0], np.uint8),
    }
    for kind, largest in (
        ("<U1", 0x10FFFF),
        (">U1", 0x10FFFF),
        ("<U1", 0x110000),
        (">U1", 0xFFFFFFFF),
    ):
        words = np.frombuffer(np.array([largest], kind.replace("U1", "u4")).tobytes(), kind)
        np.savez(tmp_path / "a.npz", **rows, words=words)
        if largest == 0x10FFFF:
            assert sketch_npz.read(tmp_path / "a.npz").words == ["\U0010ffff"]
        else:
            with pytest.raises(DataError, match="not text"):
                sketch_npz.read(tmp_path / "a.npz")


def test_a_long_line_of_quickdraw():
    with pytest.raises(DataError, match="longer than"):
        list(
            quickdraw.read(
                io.BytesIO(b'{"drawing":[' + b"[[1],[1]]," * 500_000 + b"[[1],[1]]]}\n"), "x"
            )
        )


def test_polylines_made_against_their_simplification():
    """Each split takes one point off. What is not split any more is kept whole, so that the bound
    holds."""
    n = np.arange(60_000)
    zigzag = np.stack([np.where(n % 2, n, -n), n], 1).astype(float)
    kept = strokes.simplify(zigzag, 0.1)
    assert len(kept) > 50_000
    small = strokes.simplify(zigzag[:300], 0.1)  # few enough to be done properly
    assert len(small) == 300


def test_long_polylines_are_drawn_in_little_memory():
    """In pieces, with the same pixels."""
    rng = np.random.default_rng(0)
    line = np.cumsum(rng.normal(0, 2, (2_000, 2)), 0) % 109
    before = raster._SEGMENTS
    picture = raster.rasterise([line])
    try:
        raster._SEGMENTS = 10**9
        whole = raster.rasterise([line[:500]])
    finally:
        raster._SEGMENTS = before
    assert np.array_equal(raster.rasterise([line[:500]]), whole) and picture.any()


def test_tar_members_without_name_and_headers_in_headers(tmp_path):
    def header(name: bytes, kind: bytes, size: bytes = b"00000000000\0") -> bytes:
        head = bytearray(
            name.ljust(100, b"\0")
            + b"0000644\0" * 3
            + size
            + b"00000000000\0"
            + b" " * 8
            + kind
            + bytes(100)
            + b"ustar\x0000"
            + bytes(247)
        )
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head)

    for content in (
        header(b"", b"0"),
        header(b"a", b"x") * 3000,
        header(b"a", b"L") * 3000,
        header(b"a", b"x", b"\xff" * 12),
        header(b"a", b"0", b"\xff" * 12),
        header(b"a", b"K", b"77777777777\0"),
        header(b"a", b"L", b"\x80" + b"\0" * 3 + b"\x70" + b"\0" * 7),
    ):
        (tmp_path / "kkanji.tar").write_bytes(content + bytes(1024))
        with pytest.raises(DataError):
            list(kkanji.read(tmp_path / "kkanji.tar"))
        assert catalogue.looks_right(tmp_path / "kkanji.tar", "kkanji.tar") in (True, False)


def test_tar_cut_inside_the_map_of_a_file_with_holes(tmp_path):
    head = bytearray(
        b"kkanji2/U+4E00/a.png".ljust(100, b"\0")
        + b"0000644\0" * 3
        + b"00000001000\0" * 2
        + b" " * 8
        + b"S"
        + bytes(100)
        + b"ustar  \0"
        + bytes(247)
    )
    head[482] = 1  # the map goes on in the next block
    head[148:156] = b"%06o\0 " % sum(head)
    for rest in (b"", bytes(10)):
        (tmp_path / "kkanji.tar").write_bytes(head + rest)
        with pytest.raises(DataError, match="cut short or damaged"):
            list(kkanji.read(tmp_path / "kkanji.tar"))
        assert not catalogue.looks_right(tmp_path / "kkanji.tar", "kkanji.tar")


def test_a_downloaded_gz_that_unpacks_without_end_is_not_right(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "_LARGEST_UNPACKED", 5 << 20)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(9 << 20), 1))
    assert not catalogue.looks_right(tmp_path / "a.gz", "a.gz")
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(4 << 20), 1))
    assert catalogue.looks_right(tmp_path / "a.gz", "a.gz")


# Pictures


def png(width: int, height: int, depth: int, colour: int, row: bytes, more: bytes = b"") -> bytes:
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + more
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def test_reducing_by_strips_is_reducing_the_whole():
    rng = np.random.default_rng(0)
    for size in ((3101, 4007), (6145, 40), (3500, 2)):
        for mode, shape, convert_to in (("L", (), "L"), ("RGBA", (4,), "RGBa")):
            picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], *shape), np.uint8))
            found = images._reduced(picture, lambda part: part.convert(convert_to))
            wanted = picture.convert(convert_to).resize(
                found.size, Image.Resampling.BOX, reducing_gap=3.0
            )
            assert max(found.size) == images.WORK_SIDE and found.tobytes() == wanted.tobytes()


def test_large_deep_pictures_are_what_small_ones_are():
    page = np.full((6200, 400), 60_000, np.uint16)
    page[1000:5000, 150:250] = 1_000
    deep = images.read_image(Image.fromarray(page))
    flat = images.read_image(Image.fromarray((page // 257).astype(np.uint8)))
    assert np.abs(deep.image.astype(int) - flat.image).max() <= 2 and deep.box == flat.box
    with pytest.raises(images.ImageError, match="finite"):
        images.read_image(Image.fromarray(np.full((6200, 40), np.nan, np.float32)))


def test_pictures_whose_size_is_a_lie(monkeypatch):
    inside = png(5_000, 4_000, 8, 0, bytes(5_000))
    icon = (
        struct.pack("<HHH", 0, 1, 1)
        + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22)
        + inside
    )
    monkeypatch.setattr(images, "MAX_SIDE", 4_500)
    with pytest.raises(images.ImageError, match="too large"):
        images.read_image(icon)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000"])
def test_formats_that_are_decoded_as_a_whole_may_be_smaller(kind, monkeypatch):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    out = io.BytesIO()
    Image.new("RGB", (300, 300)).save(out, kind)
    monkeypatch.setattr(images, "MAX_WHOLE", 80_000)
    with pytest.raises(images.ImageError, match="too large"):
        images.read_image(out.getvalue())


def test_pictures_written_as_text_are_small():
    with pytest.raises(images.ImageError, match="text"):
        images.read_image(b"P2 1000 1000 255\n" + b"255 " * 1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, colour, width, more", [(8, 6, 4, b""), (16, 0, 2, b""), (8, 2, 3, b"tRNS")]
)
def test_a_hundred_million_pixels_take_less_than_a_gigabyte(tmp_path, depth, colour, width, more):
    if more:
        more = (
            struct.pack(">I", 6)
            + b"tRNS\0\1\0\1\0\1"
            + struct.pack(">I", zlib.crc32(b"tRNS\0\1\0\1\0\1"))
        )
    (tmp_path / "a.png").write_bytes(
        png(9_990, 9_990, depth, colour, b"\x80" * (9_990 * width), more)
    )
    program = (
        "import resource, sys\nfrom transfer.inference.images import ImageError, read_image\n"
        "try:\n    read_image(sys.argv[1])\nexcept ImageError:\n    pass\n"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=True,
    )
    assert int(done.stdout) < 1_000_000
