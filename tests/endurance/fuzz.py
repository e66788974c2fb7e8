"""Feed every parser of the project broken, hostile and random input, and count what becomes of it.

    python tests/endurance/fuzz.py --executions 10000 --seed 0 --target all  # seconds to minutes
    python tests/endurance/fuzz.py --executions 1000000 --out fuzz                    # the long run
    python tests/endurance/fuzz.py --target npz --only 4711          # one again, with its traceback

Each target makes small valid files and spoils them: bits, bytes, numbers, cuts, repetitions, pieces
of other files, and, inside of archives and pictures, the content before it is packed again,
checksums right. Execution i of a target is a function of (seed, target, i) alone. An execution is
good when it returns what the parser's documentation says, or raises the one exception that stands
there. It is counted as a crash when it does anything else, as a hang when it takes more than 2 s of
processor time, and as over memory when the process grows by more than 1 GB. It keeps the inputs
of those in --out, beside fuzz.json with the counts. The exit code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import gzip
import io
import json
import multiprocessing
import os
import re
import resource
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from transfer.data import strokes
from transfer.data.curves import flatten, parse_path
from transfer.data.formats import convert, quickdraw, sketch_npz, svg
from transfer.data.published import catalogue, kanjivg, kkanji, kmnist
from transfer.inference import images
from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.models.vae import VAEConfig
from transfer.system import markup
from transfer.system.entry import ESCAPED, guarded
from transfer.system.errors import DataError
from transfer.training import checkpoints, errors, metrics, weights

SECONDS, MEGABYTES = 2.0, 1000.0
STUCK = 60.0  # seconds without an answer, after which an execution is ended by force
LARGEST = 1 << 16  # bytes of an input: faults of size are looked for by the tests
NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"255",
    b"256",
    b"65535",
    b"-32769",
    b"2147483648",
    b"4294967295",
    b"-9223372036854775809",
    b"1e9",
    b"1e308",
    b"-1e400",
    b"nan",
    b"inf",
    b"1e-400",
    b"0x10",
    b"1_0",
    b"\xd9\xa3",
    b"9" * 40,
]
BYTES = [0, 1, 9, 10, 13, 32, 34, 39, 44, 45, 46, 60, 62, 91, 93, 123, 125, 127, 128, 192, 224, 255]


# Mutations ----------------------------------------------------------------------------------------


def mutate(
    rng: np.random.Generator, content: bytes, words: tuple[bytes, ...], others: list[bytes]
) -> bytes:
    """Spoil content in one way, half the time in several."""
    data = bytearray(content)
    for _ in range(int(rng.geometric(0.5))):
        at, length = int(rng.integers(0, len(data) + 1)), int(1 + rng.geometric(0.1))
        match int(rng.integers(0, 11)):
            case 0 if data:
                data[at % len(data)] ^= 1 << int(rng.integers(8))
            case 1 if data:
                data[at % len(data)] = BYTES[int(rng.integers(len(BYTES)))]
            case 2 if data:
                data[at % len(data)] = int(rng.integers(256))
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = rng.bytes(min(length, 40))
            case 5:
                data[at:at] = data[at : at + length] * int(rng.integers(1, 60))
            case 6 if words:
                data[at : at + int(rng.integers(2)) * length] = words[int(rng.integers(len(words)))]
            case 7 if found := list(re.finditer(rb"-?\d+(?:\.\d+)?", bytes(data[:4000]))):
                number = found[int(rng.integers(len(found)))]
                data[number.start() : number.end()] = NUMBERS[int(rng.integers(len(NUMBERS)))]
            case 8 if others:
                other = others[int(rng.integers(len(others)))]
                begin = int(rng.integers(0, len(other) + 1))
                data[at:] = other[begin:]
            case 9:
                del data[at:]
            case 10 if len(data) > 8:
                width = (2, 4, 8)[int(rng.integers(3))]
                half = 2 ** (8 * width - 1)
                value = (0, 1, half - 1, half, 2 * half - 1, half // 256)[int(rng.integers(6))]
                data[at : at + width] = value.to_bytes(
                    width, "big" if rng.integers(2) else "little"
                )
    return bytes(data[:LARGEST])


# Targets ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """make: () -> valid inputs. spoil: (generator, one of them, all of them) -> a spoiled one. run:
    (input, folder to write to) -> None, or raises `refuses`; AssertionError where what is returned
    is not what was promised."""

    make: Callable[[], list[bytes]]
    run: Callable[[bytes, Path], None]
    refuses: tuple = (DataError,)
    words: tuple[bytes, ...] = ()
    spoil: Callable | None = None

    def input(self, rng: np.random.Generator) -> bytes:
        """A spoiled input; one in fifty is whole."""
        valid = self.valid()
        chosen = valid[int(rng.integers(len(valid)))]
        if rng.integers(50) == 0:
            return chosen
        if self.spoil and rng.integers(4):
            return self.spoil(rng, chosen, lambda content: mutate(rng, content, self.words, []))[
                : 4 * LARGEST
            ]
        return mutate(rng, chosen, self.words, valid)

    def valid(self) -> list[bytes]:
        return _valid(self.make)


@cache
def _valid(make) -> list[bytes]:
    return make()


def check(right: bool) -> None:
    if not right:
        raise AssertionError("what was returned is not what was promised")


def sound(polylines, least: int = 2) -> None:
    check(
        all(
            p.ndim == 2 and p.shape[1] == 2 and len(p) >= least and np.isfinite(p).all()
            for p in polylines
        )
    )


def file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# Paths and drawings

PATHS = ["M10,20C30,20,60,20,95,20", "M50,10c0,20,0,50,0,80s3-4,5.5-.5", "m1 2 c1e1-2,3.5.25 7,8"]
PATH_WORDS = (
    b"M",
    b"m",
    b"c",
    b"C",
    b"s",
    b"S",
    b"z",
    b"Z",
    b"l",
    b"h",
    b"A",
    b"a",
    b"q",
    b"t",
    b",",
    b" ",
    b"-",
    b".",
    b"e",
    b"E",
    b"+",
    b",,",
)


def run_path(content: bytes, folder: Path) -> None:
    text = content.decode("latin1")
    curves = parse_path(text)
    check(
        curves.ndim == 3
        and curves.shape[1:] == (4, 2)
        and len(curves) >= 1
        and curves.dtype == np.float64
    )
    # Relative numbers may add up to infinity, which whoever reads a file looks for.
    if np.abs(curves).max() < 1e5:
        sound([flatten(curves)])


SVG_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.0//EN"'
    ' "http://www.w3.org/TR/2001/REC-SVG-20010904/DTD/svg10.dtd" [\n<!ATTLIST g xmlns:kvg CDATA'
    ' #FIXED "http://kanjivg.tagaini.net"\nkvg:element CDATA #IMPLIED >\n<!ATTLIST path xmlns:kvg'
    ' CDATA #FIXED "http://kanjivg.tagaini.net" >\n]>\n'
)
XML_WORDS = (
    b"<g>",
    b"</g>",
    b'<path d="M1 1c1 1 2 2 3 3"/>',
    b'<!ENTITY a "b">',
    b"&a;",
    b"&lt;",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<?x ?>",
    b'"',
    b"'",
    b'xmlns="x"',
    b'<use href="#a"/>',
    b'id="a"',
    b'transform="matrix(1 0 0 1 9 9)"',
    b"<svg>",
    b"</svg>",
    b"\xff\xfe",
    b"<symbol>",
    b'viewBox="0 0 1 1"',
    b"100%",
    b"1e9",
    *PATH_WORDS,
)


def kanjivg_svg(stem="04e00") -> str:
    paths = "".join(
        f'<path id="kvg:{stem}-s{i}" kvg:type="㇐" d="{d}"/>' for i, d in enumerate(PATHS[:2], 1)
    )
    return (
        f'{SVG_HEAD}<svg xmlns="http://www.w3.org/2000/svg" width="109" height="109" viewBox="0 0'
        f' 109 109">\n<g id="kvg:StrokePaths_{stem}"><g id="kvg:{stem}" kvg:element="一"'
        f' kvg:part="1" kvg:radical="general">{paths}</g></g></svg>'
    )


def make_svg() -> list[bytes]:
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    return [
        text.encode()
        for text in (
            kanjivg_svg(),
            (
                f'{head}viewBox="0 0 100 50"><g transform="translate(1,2) rotate(30)"><path d="M0'
                ' 0L10 10h5v5H3V2q1 1 2 2t3 3a4 3 20 0 1 5 5z"/></g></svg>'
            ),
            (
                f'{head}width="5cm" height="3in"><rect x="1" y="2" width="30" height="20"'
                ' rx="4"/><circle cx="20" cy="20" r="9"/><ellipse cx="9" cy="9" rx="2"'
                ' ry="3"/><line x1="0" y1="0" x2="100%" y2="5mm"/><polyline points="1,2 3,4 5'
                ' 6"/><polygon points="0 0 9 0 9 9"/></svg>'
            ),
            (
                f'{head}><defs><symbol id="a" viewBox="0 0 9 9"><path id="b" d="M1 1 9 9M3 3l1'
                ' 1"/></symbol></defs><use xlink:href="#a" x="3" width="20" height="10"/><use'
                ' href="#b"/><switch><a><svg x="3" y="3" width="9" height="9" viewBox="0 0 5 5"'
                ' preserveAspectRatio="xMinYMax slice"><path d="M0 0 5'
                ' 5"/></svg></a></switch><title>kanji</title></svg>'
            ),
        )
    ]


def run_svg(content: bytes, folder: Path) -> None:
    picture = svg.read(content)
    sound(picture.strokes)
    check(len(picture.curved) == len(picture.strokes))
    written = svg.to_svg(picture.strokes, picture.word, "x-" + picture.word)
    harmless(written)
    check(len(svg.read(written.encode()).strokes) == len(picture.strokes))


ACTIVE = re.compile(
    r"<\s*(script|foreignObject|iframe|image|use|a|animate|set|handler|embed|object)\b"
    r"|\son\w+\s*=|javascript:|href|url\(|<!|<\?",
    re.I,
)


def harmless(text: str) -> None:
    """Nothing in a written SVG runs, links or loads."""
    check(not ACTIVE.search(re.sub(r"<title>[^<]*</title>", "", text)))


def make_xml() -> list[bytes]:
    body = "".join(
        f'<kanji id="kvg:kanji_{stem}"><g id="kvg:{stem}" kvg:element="{chr(int(stem, 16))}">'
        + "".join(
            f'<path id="kvg:{stem}-s{i}" kvg:type="㇐" d="{d}"/>' for i, d in enumerate(PATHS, 1)
        )
        + "</g></kanji>"
        for stem in ("04e00", "04e8c")
    )
    return [
        "<?xml version='1.0' encoding='UTF-8'?>\n<kanjivg"
        f" xmlns:kvg='http://kanjivg.tagaini.net'>{body}</kanjivg>".encode()
    ]


def run_xml(content: bytes, folder: Path, name: str = "kanjivg-1.xml") -> None:
    glyphs = kanjivg.read(file(folder, name, content))
    check(
        len(glyphs) > 0
        and all(
            g.strokes and all(c.first <= c.last <= len(g.strokes) for c in g.components)
            for g in glyphs
        )
    )
    points, bounds = kanjivg.polylines_many(glyphs)
    check(
        bounds[-1] == len(points)
        and len(bounds) == sum(len(g.strokes) for g in glyphs) + 1
        and points.dtype == np.float32
    )


def spoil_gz(rng, content, change) -> bytes:
    return gzip.compress(change(gzip.decompress(content)), 1)


def zipped(members: dict[str, bytes], kind=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return out.getvalue()


def spoil_zip(rng, content, change) -> bytes:
    """Members changed and packed again; now and then the kind of packing and the directory, too."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = list(members)[int(rng.integers(len(members)))]
    members[chosen] = change(members[chosen])
    kinds = [zipfile.ZIP_DEFLATED] * 20 + [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    packed = bytearray(zipped(members, kinds[int(rng.integers(len(kinds)))]))
    if rng.integers(4) == 0:
        at = packed.rfind(b"PK\1\2") + int(rng.integers(4, 46))
        packed[at : at + 2] = rng.bytes(2)
    return bytes(packed)


def make_kanjivg_zip() -> list[bytes]:
    return [
        zipped(
            {
                "kanji/04e00.svg": kanjivg_svg().encode(),
                "kanji/04e8c-Kaisho.svg": kanjivg_svg("04e8c-Kaisho").encode(),
            }
        )
    ]


def run_kanjivg_zip(content: bytes, folder: Path) -> None:
    run_xml(content, folder, "kanjivg-1-all.zip")


def run_convert_zip(content: bytes, folder: Path) -> None:
    for drawing in convert.read(file(folder, "drawings.zip", content)):
        sound(drawing.strokes)


# Arrays


def make_idx() -> list[bytes]:
    pictures = np.arange(3 * 28 * 28, dtype=np.uint8)
    return [
        gzip.compress(b"\0\0\x08\3" + struct.pack(">III", 3, 28, 28) + pictures.tobytes(), 1),
        gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 3) + b"\0\1\2", 1),
    ]


def run_idx(content: bytes, folder: Path) -> None:
    read_either(file(folder, "t10k-images-idx3-ubyte.gz", content))


def read_either(path: Path) -> None:
    """Images, or else labels."""
    for ndim in (3, 1):
        try:
            array = kmnist.read(path, ndim)
            check(array.dtype == np.uint8 and array.ndim == ndim)
            return
        except DataError as error:
            refused = error
    raise refused


def npy(array) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), allow_pickle=False)
    return out.getvalue()


def make_npz() -> list[bytes]:
    return [
        zipped({"arr_0.npy": npy(np.zeros((3, 28, 28), np.uint8))}),
        zipped({"arr_0.npy": npy(np.arange(3, dtype=np.uint8))}),
    ]


def run_npz(content: bytes, folder: Path) -> None:
    read_either(file(folder, "kmnist-test-imgs.npz", content))


def make_csv() -> list[bytes]:
    return [
        (
            "index,codepoint,char\n"
            + "".join(
                f"{i},U+{ord(c):04X},{c}\n" for i, c in enumerate(kmnist.CHARACTERS["kmnist"])
            )
        ).encode()
    ]


def run_csv(content: bytes, folder: Path) -> None:
    file(folder, "kmnist_classmap.csv", content)
    csv.field_size_limit(131072)
    code_points, characters = kmnist.class_map("kmnist", folder)
    check(len(code_points) == len(characters) == 10)


def drawings() -> sketch_npz.Set:
    rows = [
        np.array([[1, 2, 0], [3, 4, 1], [5, 6, 0], [7, -8, 1]], np.float32),
        np.array([[1, 1, 0], [1, 1, 1]], np.float32),
    ]
    return sketch_npz.Set(
        rows * 2,
        ["train", "valid", "test", "train"],
        ["一", "b", "", "c"],
        ["04e00", "x", "y", ""],
        2.0,
    )


def make_sketch() -> list[bytes]:
    out = []
    for layout in ("sketch-rnn", "flat"):
        content = io.BytesIO()
        sketch_npz.write(content, drawings(), layout)
        out.append(content.getvalue())
    return out


def run_sketch(content: bytes, folder: Path) -> None:
    for drawing in convert.read(file(folder, "set.npz", content)):
        sound(drawing.strokes)


PICKLE_WORDS = (
    b"cnumpy\nndarray\n",
    b"cos\nsystem\n",
    b"(",
    b")",
    b"]",
    b"R",
    b"b",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"h\0",
    b"q\0",
    b"\x94",
    b"\x93",
    b".",
    b"K\1",
    b"e",
    b"a",
    b"C\4abcd",
    b"X\4\0\0\0abcd",
    b"'descr'",
    b"'|O'",
    b"'<f4'",
    b"(9999999999,)",
    b"(0, 0, 3)",
    b"True",
)


def make_ndjson() -> list[bytes]:
    lines = quickdraw.line(
        "一", "1", [np.array([[0, 0], [9, 9.5]]), np.array([[3, 3], [4, 4], [5, 6]])], 2
    ).encode()
    return [
        lines * 2,
        b'{"word":"a","key_id":"7","drawing":[[[1,2,3],[4,5,6],[0,10,20]],[[7],[8],[9]]]}\n',
    ]


def run_ndjson(content: bytes, folder: Path) -> None:
    for drawing in convert.read(file(folder, "a.ndjson", content)):
        sound(drawing.strokes)


def make_rows() -> list[bytes]:
    return [
        np.array([[1, 2, 0], [3, 4, 1], [5, 6, 0], [7, 8, 1]], "<f4").tobytes(),
        np.eye(5, dtype="<f4").tobytes(),
    ]


def run_rows(content: bytes, folder: Path) -> None:
    numbers = np.frombuffer(content[: len(content) // 4 * 4], "<f4")
    refused = 0
    for columns, read in ((3, strokes.from_stroke3), (5, strokes.from_stroke5)):
        try:
            read(numbers[: len(numbers) // columns * columns].reshape(-1, columns))
        except DataError:
            refused += 1
    try:
        with np.errstate(all="ignore"):
            rows = strokes.to_stroke3([numbers[: len(numbers) // 2 * 2].reshape(-1, 2)])
            strokes.to_stroke5(np.nan_to_num(rows, posinf=0, neginf=0), 60)
            check(len(strokes.simplify(numbers[: len(numbers) // 2 * 2].reshape(-1, 2), 0.5)) >= 2)
    except DataError:
        refused += 1
    if refused == 3:
        raise DataError("none of the three")


# Archives


def tarred(members: dict[str, bytes], format=tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_tar() -> list[bytes]:
    picture = np.zeros((64, 64), np.uint8)
    picture[9:19] = 255
    content = encoded(Image.fromarray(picture), "PNG")
    members = {f"kkanji2/U+{c:04X}/{c:016x}.png": content for c in (0x4E00, 0x4E8C)}
    long = {"kkanji2/" + "x" * 120 + "/U+4E00/0123456789abcdef.png": content}
    return [
        tarred(members),
        tarred(members | long, tarfile.GNU_FORMAT),
        tarred(members | long, tarfile.PAX_FORMAT),
    ]


def spoil_tar(rng, content, change) -> bytes:
    """A header changed, its checksum right again."""
    data = bytearray(content)
    heads = [at for at in range(0, len(data) - 512, 512) if data[at + 257 : at + 262] == b"ustar"]
    for at in (
        rng.choice(heads, min(len(heads), int(rng.integers(1, 3))), replace=False) if heads else []
    ):
        head = bytearray(data[at : at + 512])
        match int(rng.integers(5)):
            case 0:
                head[156] = int(rng.choice(list(b"0123457gxLKSZ\0")))
            case 1:
                head[124:136] = [
                    b"00000000000\0",
                    b"77777777777\0",
                    b"\x80" + bytes(10) + b"\x01",
                    b"\xff" * 12,
                    b"-0000000001\0",
                    b"00000000777\0",
                ][int(rng.integers(6))]
            case 2:
                name = [
                    b"/etc/passwd",
                    b"../../x.png",
                    b"kkanji2/U+4E00/a.png",
                    b"kkanji2/U+110000/a.png",
                    b"U+4E00/..",
                    b"a\nb.png",
                    b"",
                ][int(rng.integers(7))]
                head[:100] = name.ljust(100, b"\0")
            case _:
                head = bytearray(change(bytes(head)).ljust(512, b"\0")[:512])
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        data[at : at + 512] = head
    return bytes(data)


def run_tar(content: bytes, folder: Path) -> None:
    for code_point, name, image in kkanji.read(file(folder, "kkanji.tar", content)):
        check(
            image.shape == (64, 64)
            and image.dtype == np.uint8
            and 0 <= code_point <= 0x10FFFF
            and ".." not in name.split("/")
        )


def run_form(content: bytes, folder: Path) -> None:
    """What a download is, judged by its form alone: never an exception."""
    found = [
        catalogue.looks_right(file(folder, name, content), name)
        for name in ("a.zip", "a.gz", "a.tar", "a.csv")
    ]
    if not any(found):
        raise DataError("nothing of the kind")


# Pictures


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def make_images() -> list[bytes]:
    rng = np.random.default_rng(0)
    grey = np.full((40, 50), 230, np.uint8)
    grey[8:30, 20:26] = 20
    grey[15:20, 8:44] = 30
    grey = Image.fromarray((grey + rng.integers(0, 9, grey.shape)).astype(np.uint8))
    colour, alpha = grey.convert("RGB"), grey.convert("LA")
    exif = Image.Exif()
    exif[274] = 6
    made = [
        encoded(grey, "PNG"),
        encoded(colour.convert("P"), "PNG"),
        encoded(alpha, "PNG"),
        encoded(grey.convert("1"), "PNG"),
        encoded(grey.convert("I;16"), "PNG"),
        encoded(colour, "JPEG", exif=exif),
        encoded(colour.convert("CMYK"), "JPEG"),
        encoded(grey, "JPEG", progressive=True),
        encoded(grey, "TIFF"),
        encoded(colour, "TIFF", compression="tiff_lzw"),
        encoded(grey.convert("F"), "TIFF"),
        encoded(grey.convert("1"), "TIFF", compression="group4"),
        encoded(colour, "BMP"),
        encoded(colour, "GIF"),
        encoded(colour, "PPM"),
        encoded(grey, "PPM"),
        encoded(grey, "ICO", sizes=[(32, 32)]),
        encoded(colour, "TGA", compression="tga_rle"),
        b"P2 4 4 255\n" + b"0 255 0 255 " * 4,
    ]
    for kind in ("WEBP", "JPEG2000", "AVIF"):  # some builds of Pillow lack them
        if kind in Image.SAVE:
            made.append(encoded(colour, kind))
    return made


def spoil_image(rng, content, change) -> bytes:
    """Chunks of a PNG changed, their checksums right again; other formats in their first bytes,
    where the sizes stand."""
    if not content.startswith(b"\x89PNG"):
        head = int(rng.integers(8, 200))
        return change(content[:head]) + content[head:]
    at, out = 8, content[:8]
    chunks = []
    while at + 12 <= len(content):
        [length] = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = int(rng.integers(len(chunks)))
    name, body = chunks[chosen]
    if name == b"IDAT" and rng.integers(2):
        body = zlib.compress(change(zlib.decompress(body)))
    else:
        body = change(body)
    chunks[chosen] = name, body
    if rng.integers(6) == 0:
        kind = [b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"gAMA", b"acTL", b"fdAT"][
            int(rng.integers(8))
        ]
        chunks.insert(
            int(rng.integers(1, len(chunks) + 1)), (kind, rng.bytes(int(rng.integers(0, 60))))
        )
    return out + b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks
    )


def run_image(content: bytes, folder: Path) -> None:
    reading = images.read_image(content)
    check(
        reading.image.shape == (64, 64)
        and reading.image.dtype == np.uint8
        and reading.image.any()
        and "\n" not in reading.note
    )
    left, top, right, bottom = reading.box
    check(0 <= left < right and 0 <= top < bottom)


# What is around the pixels

PNG_KINDS = (
    b"eXIf",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"iCCP",
    b"pHYs",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"bKGD",
    b"hIST",
    b"tIME",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"sPLT",
    b"caBX",
    b"abCd",
)
JPEG_KINDS = (*range(0xE0, 0xEE), 0xEF, 0xFE)  # not Adobe's 0xEE, which tells the colours
TIFF_KINDS = (
    270,
    305,
    700,
    33723,
    34377,
    34675,
    37724,
)  # description, software, XMP, IPTC, Photoshop, profile, layers


@cache
def carriers() -> list[tuple[Callable[[bytes], bytes], list[np.ndarray]]]:
    """(rubbish -> a picture with it, what the picture is read as, turned and mirrored in all ways),
    for every place that has room for it."""
    page = Image.open(io.BytesIO(make_images()[0])).convert("RGB")
    plain = {
        kind: encoded(page, kind)
        for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP")
        if kind in Image.SAVE or kind != "WEBP"
    }
    end = plain["PNG"].rindex(b"IEND") - 4
    chunk = lambda at, kind, crc: (
        lambda body: b"".join(
            (
                plain["PNG"][:at],
                struct.pack(">I", len(body)),
                kind,
                body,
                crc or struct.pack(">I", zlib.crc32(kind + body)),
                plain["PNG"][at:],
            )
        )
    )
    segment = lambda kind: (
        lambda body: b"".join(
            (
                plain["JPEG"][:2],
                b"\xff",
                bytes([kind]),
                struct.pack(">H", len(body[:65_000]) + 2),
                body[:65_000],
                plain["JPEG"][2:],
            )
        )
    )
    found = {
        "PNG": [
            chunk(at, kind, crc) for at in (33, end) for kind in PNG_KINDS for crc in (b"", b"none")
        ],
        "JPEG": [segment(kind) for kind in JPEG_KINDS],
        "TIFF": [
            lambda body, tag=tag: encoded(page, "TIFF", tiffinfo={tag: body}) for tag in TIFF_KINDS
        ],
        "GIF": [lambda body: encoded(page, "GIF", comment=body[:255])],
        "WEBP": [
            lambda body, name=name: encoded(page, "WEBP", **{name: body})
            for name in ("exif", "xmp", "icc_profile")
        ],
    }
    pages = {kind: Image.open(io.BytesIO(content)) for kind, content in plain.items()}
    views = {
        kind: [images.read_image(p).image for p in (page, *map(page.transpose, Image.Transpose))]
        for kind, page in pages.items()
    }
    return [(carry, views[kind]) for kind in plain for carry in found[kind]]


def make_metadata() -> list[bytes]:
    """The number of a place, and what is put there."""
    exif = Image.Exif()
    exif[274] = 6
    bodies = [
        exif.tobytes(),
        exif.tobytes()[6:],
        b"\1\2wrong!",
        b"Raw profile type exif\0\nexif\n 8\nnohex\n",
        b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\nzz"),
        b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>',
        b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>',
        b"ICC_PROFILE\0\1\1rubbish",
        b"MPF\0II*\0\x08\0\0\0\1\0",
        b"JFIF\0\1\1\0\0\1\0\1\0\0",
        b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\4abcd",
        b"Comment\0\0" + zlib.compress(bytes(99_999)),
    ]
    return [
        bytes([place]) + body
        for place in range(0, len(carriers()), 3)
        for body in bodies[place % 2 :: 2]
    ]


def run_metadata(content: bytes, folder: Path) -> None:
    """No metadata can make a picture unreadable, or another one: at most turned or mirrored, for an
    orientation is obeyed."""
    place = content[0] if content else 0
    carry, wanted = carriers()[place % len(carriers())]
    reading = images.read_image(carry(content[1:]))
    check(any(np.array_equal(view, reading.image) for view in wanted))
    check("\n" not in reading.note)


# Names and encodings

ENCODINGS = (
    "ascii",
    "cp932",
    "cp1252",
    "euc_jp",
    "iso2022_jp",
    "utf-8",
    "utf-16",
    "gb18030",
    "cp437",
    "koi8_r",
    "shift_jis",
    "big5",
    "cp037",
)


def make_names() -> list[bytes]:
    return [
        b"hana",
        "山 川".encode(),
        b"\x8e\x52",
        "\U00020b9f".encode(),
        b"a\nb",
        b"%s: {0} $HOME ~ * ? [a]",
        "e\u0301\u202e".encode(),
        b"con",
        b"<b>&amp;",
        b"-",
        b"-x",
    ]


def run_names(content: bytes, folder: Path) -> None:
    """A picture of this name is read, and all that is made of it is written and can be shown."""
    from transfer.commands.arguments import judgement
    from transfer.inference import batch
    from transfer.output import formats

    name = content.replace(b"/", b"").replace(b"\0", b"")[:120] or b"x"
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".png"))
    path.write_bytes(make_images()[0])
    made = [path]
    try:
        picture = batch.read(str(path))
        check(picture.error is None and next(iter(batch.find([str(path)]))) == str(path))
        [result] = Stub().transfer(picture.image, samples=1)
        made += [
            formats.save(
                result, path.with_name(f"{path.name[:-4]}.{kind}"), about={"image": picture.source}
            )
            for kind in ("svg", "json", "ndjson", "npz")
        ]
        check(json.loads(made[2].read_text("utf-8"))["image"] == str(path))
        check(len(convert.read(made[1])[0].strokes) == len(convert.read(made[3])[0].strokes) == 1)
        show(f"{path} -> {made[1]} {judgement(result)}", "ascii")
        missing = batch.read(f"{path}.none")
        check("\n" not in str(missing.error) and str(missing.error).isprintable())
        for kind in ("ndjson", "npz", "svg"):
            target = folder / f"converted.{kind}"
            convert.convert(made[1], target)
            check(len(convert.read(target)[0].strokes) == 1)
    finally:
        for file in made:
            file.unlink(missing_ok=True)


def show(text: str, encoding: str) -> bytes:
    """What the guard's streams make of a text."""
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, encoding, errors=ESCAPED, newline="")
    stream.write(text)
    stream.flush()
    return out.getvalue()


def make_texts() -> list[bytes]:
    return [
        bytes([place]) + text
        for place in range(len(ENCODINGS))
        for text in (
            "花 \u00e9 \U00020b9f \ufffd".encode(),
            b"\x8e\x52\xff",
            b'"\\/\b\n\x7f{}[]',
            "\u203e\u301c\uff5e".encode(),
        )
    ]


def run_texts(content: bytes, folder: Path) -> None:
    """Whatever is printed, in whatever encoding: it is written, and JSON stays JSON."""
    from transfer.commands.candidates import printable

    encoding = ENCODINGS[(content[0] if content else 0) % len(ENCODINGS)]
    text = content[1:].decode("utf-8", "surrogateescape")
    if encoding in ("shift_jis", "euc_jp"):  # Python's write a yen sign as a backslash
        text = text.replace("\u00a5", "").replace("\u203e", "")
    document = json.loads(show(json.dumps([text], ensure_ascii=False), encoding).decode(encoding))
    lossless = (
        "".join(c if _survives(c, encoding) else d for c, d in zip(text, document[0]))
        if len(document[0]) == len(text)
        else document[0]
    )
    check(len(document) == 1 and lossless == document[0])
    show(text, encoding)
    check("\\u" not in show(printable("花\U00020b9f", encoding), encoding).decode(encoding))


def _survives(character: str, encoding: str) -> bool:
    """Whether the encoding has the character, and gives it back."""
    try:
        return character.encode(encoding).decode(encoding) == character
    except UnicodeError:
        return True  # it is escaped


# Weights and runs


def make_weights() -> list[bytes]:
    out = []
    params = {
        "encoder": {0: np.ones((3, 4), np.float32), 1: {"kernel": np.zeros((2, 2), np.float32)}},
        "bias": np.ones(4, np.float32),
    }
    arrays = {"code_points": np.array([0x4E00], np.int32), "seen": np.array([True])}
    with tempfile.TemporaryDirectory() as folder:
        for config, kind in (
            (VAEConfig.tiny("old"), np.float32),
            (MDNConfig.tiny(), np.int8),
            (SketchRNNConfig.paper(), np.float16),
            (StrokeRNNConfig.tiny(), np.float32),
        ):
            path = Path(folder) / "a.safetensors"
            weights.save(
                path, params, arrays, {"stage": "vae_old", "config": vars(config), "seed": 1}, kind
            )
            out.append(path.read_bytes())
    return out


def spoil_weights(rng, content, change) -> bytes:
    """The header changed, its length right again."""
    [length] = struct.unpack("<Q", content[:8])
    head, body = content[8 : 8 + length], content[8 + length :]
    if rng.integers(3):
        head = change(head)
    else:
        head = head.replace(
            *[
                (b"F32", b"BF16"),
                (b"params/", b"scales/params/"),
                (b"params/bias", b"params/encoder/0/x"),
                (b'"shape":[', b'"shape":[0,'),
                (b"F32", b"F64"),
                (b"tiny", b"huge"),
                (b'latent\\": ', b'latent\\": -'),
                (b"0.", b"1e999"),
            ][int(rng.integers(8))]
        )
    return struct.pack("<Q", len(head)) + head + body


def run_weights(content: bytes, folder: Path) -> None:
    params, arrays, described = weights.load(file(folder, "a.safetensors", content))
    check(isinstance(params, dict) and isinstance(arrays, dict))
    for kind in (VAEConfig, MDNConfig, SketchRNNConfig, StrokeRNNConfig):
        with contextlib.suppress(weights.WeightsError):  # the settings are one kind's, at the most
            weights.config(kind, described)


def make_run() -> list[bytes]:
    described = {
        "stage": "vae_old",
        "config": vars(VAEConfig.tiny("old")),
        "seed": 0,
        "data": {"sources": {"a": {"sha256": "0" * 64}}},
    }
    recorded = "".join(
        json.dumps({"step": i, "loss": 1.0 / (i + 1), "val/a": 2}) + "\n" for i in range(3)
    )
    return [(json.dumps(described, indent=2, sort_keys=True) + "\0" + recorded).encode()]


def run_run(content: bytes, folder: Path) -> None:
    config, _, recorded = content.partition(b"\0")
    file(folder, "config.json", config)
    lines = metrics.MetricsFile(file(folder, "metrics.jsonl", recorded), 2)
    check(
        all(
            isinstance(json.loads(line), dict)
            for line in (
                (folder / "metrics.jsonl")
                .read_text(errors="replace", encoding="utf-8")
                .splitlines()
            )
        )
    )
    check(lines.first_loss is None or isinstance(lines.first_loss, float))
    described = {
        "stage": "vae_old",
        "config": vars(VAEConfig.tiny("old")),
        "seed": 0,
        "data": {"sources": {"a": {"sha256": "0" * 64}}},
    }
    checkpoints.claim(folder, json.loads(json.dumps(described)), VAEConfig)


# The server


class Stub:
    """In the place of the model: what the server does with a request, without the drawing."""

    temperature = 0.1
    source, attribution = "painted", ""

    @property
    def old_hands(self):
        return self

    def of(self, characters, z_old):
        from transfer.output.drawn import OldHand

        check(1 <= len(characters) <= 60)
        return [(OldHand(np.zeros((64, 64), np.uint8), 1.0, "books"),)] * len(characters)

    def read(self, image, top):
        return self.transfer(image, 1)

    def transfer(self, image, samples=10, seed=0, temperature=None, top=10, forms="as-read"):
        from transfer.inference.result import Result
        from transfer.reading_aids import FORM_CHOICES

        check(forms in FORM_CHOICES)
        flat = np.zeros((64, 64), np.float32)
        line = [np.array([[1, 2], [3, 4]], np.float32)]
        return [
            Result(
                image,
                [line] * samples,
                ["一"] * samples,
                np.zeros(samples, np.float32),
                flat,
                [("一", 0.5)],
                flat,
                flat,
                flat[0],
                flat[0],
                flat,
                np.arange(samples),
            )
        ]


@cache
def application():
    from transfer.web import app

    return app(Stub(), max_bytes=50_000)


def make_requests() -> list[bytes]:
    """HTTP messages; body after the empty line."""
    picture = make_images()[0]
    form = (
        b'--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type:'
        b" image/png\r\n\r\n" + picture + b"\r\n--xx--\r\n"
    )
    start = (
        b"POST /api/transfer?samples=2&seed=1&top=3&temperature=0.5 HTTP/1.1\r\nhost:"
        b" 127.0.0.1:8000\r\n"
    )
    return [
        start + b"origin: http://127.0.0.1:8000\r\nsec-fetch-site: same-origin\r\ncontent-length:"
        b" 99\r\n\r\n" + picture,
        start + b"content-type: multipart/form-data; boundary=xx\r\n\r\n" + form,
        b"POST /api/transfer?pixels=1&samples=1 HTTP/1.1\r\nhost: localhost\r\n\r\n"
        + bytes(range(256)) * 16,
        b"POST /api/transfer?forms=modern&samples=1 HTTP/1.1\r\nhost: localhost\r\n\r\n" + picture,
        b"POST /api/old-hands?of=%E5%9B%BD%E5%9C%8B HTTP/1.1\r\nhost: localhost\r\n\r\n" + picture,
        (
            b"GET /static/main.js HTTP/1.1\r\nhost: [::1]:8000\r\nrange:"
            b' bytes=0-9\r\nif-none-match: "a"\r\nif-modified-since: Sun, 06 Nov 1994 08:49:37'
            b" GMT\r\n\r\n"
        ),
        b"GET /static/../server.py HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    ]


REQUEST_WORDS = (
    b"../",
    b"..%2f",
    b"%00",
    b"%2e%2e/",
    b"\\",
    b"//",
    b"/static/",
    b"/api/transfer",
    b"host: evil.example\r\n",
    b"origin: http://[\r\n",
    b"origin: null\r\n",
    b"sec-fetch-site: cross-site\r\n",
    b"content-type: multipart/form-data; boundary=xx\r\n",
    b"boundary=",
    b"&seed=",
    b"samples=51",
    b"&forms=old",
    b"forms=as-read",
    b"&of=",
    b"/api/old-hands",
    b"filename*=utf-8''a",
    b"--xx\r\n",
    b"\r\n\r\n",
    b"content-length: -1\r\n",
    b"range: bytes=-1,5-4\r\n",
    b"HEAD ",
    b"PUT ",
    b"?",
    b"&",
    b"=",
    b"%",
)


def spoil_request(rng, content, change) -> bytes:
    head, _, body = content.partition(b"\r\n\r\n")
    return change(head) + b"\r\n\r\n" + (body if rng.integers(3) else change(body))


def run_request(content: bytes, folder: Path) -> None:
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.rpartition(b" ")[0].partition(b"?")
    headers = [
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in lines)
    ]
    from urllib.parse import unquote_to_bytes

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.decode("latin1").upper(),
        "scheme": "http",
        "root_path": "",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    messages, sent = (
        [
            {"type": "http.request", "body": body[:30_000], "more_body": True},
            {"type": "http.request", "body": body[30_000:], "more_body": False},
        ],
        [],
    )

    async def receive():
        return messages.pop(0) if messages else await asyncio.Event().wait()  # nobody hangs up

    async def send(message):
        sent.append(message)

    asyncio.run(application()(scope, receive, send))
    status, answered = sent[0]["status"], {name: value for name, value in sent[0]["headers"]}
    check(status < 500 or status == 503)
    check(
        answered.get(b"x-content-type-options") == b"nosniff"
        and b"default-src 'self'" in answered.get(b"content-security-policy", b"")
    )
    served = b"".join(m.get("body", b"") for m in sent)
    check(
        b"Starlette(" not in served and b"root:" not in served
    )  # neither the server's source nor another file of the machine
    if status >= 400:
        if answered.get(b"content-type") == b"application/json":
            described = json.loads(served) if method.upper() != b"HEAD" else {"error": ""}
            check(list(described) == ["error"] and "\n" not in described["error"])
        else:  # Starlette's own word on a range of a file that it has not
            check(
                served.count(b"\n") == 0
                and answered.get(b"content-type", b"text/plain").startswith(b"text/plain")
            )
        raise DataError("refused")


# The writer


def make_drawing() -> list[bytes]:
    return [
        np.array([3, 10, 20, 50, 60, 70, 80], "<f4").tobytes() + "花".encode(),
        np.linspace(0, 109, 40, dtype="<f4").tobytes() + b"<",
    ]


def run_drawing(content: bytes, folder: Path) -> None:
    from transfer.output.svg import drawing_to_svg

    numbers = np.frombuffer(content[: len(content) // 8 * 8], "<f4").reshape(-1, 2)[:60]
    cut = np.split(numbers, [len(numbers) // 3]) if len(numbers) > 3 else [numbers]
    word = content[-4:].decode("utf-8", "ignore")[-1:] or None
    if word and not word.isprintable():
        word = None
    polylines = [np.clip(c, -1e4, 1e4) if np.isfinite(c).all() else c for c in cut if len(c)]
    text = drawing_to_svg(polylines, character=word, animate=bool(len(content) % 2))
    harmless(text.replace(f'element="{word}"', ""))
    check(markup.parse(text.encode(), "x") is not None)


TARGETS = {
    "path": Target(lambda: [p.encode() for p in PATHS], run_path, words=PATH_WORDS),
    "svg": Target(make_svg, run_svg, words=XML_WORDS),
    "kanjivg": Target(make_xml, run_xml, words=XML_WORDS),
    "kanjivg-gz": Target(
        lambda: [gzip.compress(c, 1) for c in make_xml()],
        lambda c, f: run_xml(c, f, "kanjivg-1.xml.gz"),
        words=XML_WORDS,
        spoil=spoil_gz,
    ),
    "kanjivg-zip": Target(make_kanjivg_zip, run_kanjivg_zip, words=XML_WORDS, spoil=spoil_zip),
    "svg-zip": Target(make_kanjivg_zip, run_convert_zip, words=XML_WORDS, spoil=spoil_zip),
    "idx": Target(make_idx, run_idx, spoil=spoil_gz),
    "npz": Target(make_npz, run_npz, words=PICKLE_WORDS, spoil=spoil_zip),
    "classmap": Target(make_csv, run_csv, words=(b",", b'"', b"U+", b"\r", b"\n", b"index")),
    "sketch": Target(make_sketch, run_sketch, words=PICKLE_WORDS, spoil=spoil_zip),
    "quickdraw": Target(
        make_ndjson,
        run_ndjson,
        words=(b"[", b"]", b"{", b"}", b",", b'"', b"null", b"true", b'"drawing":', b"\\ud800"),
    ),
    "strokes": Target(make_rows, run_rows),
    "tar": Target(make_tar, run_tar, spoil=spoil_tar),
    "form": Target(lambda: make_tar()[:1] + make_npz()[:1] + make_idx()[:1] + make_csv(), run_form),
    "image": Target(make_images, run_image, spoil=spoil_image),
    "metadata": Target(
        make_metadata,
        run_metadata,
        words=(
            b"II*\0",
            b"MM\0*",
            b"Exif\0\0",
            b"\x12\1\3\0\1\0\0\0\6\0\0\0",
            b'tiff:Orientation="3"',
            b"\0\0",
            b"\xff\xff\xff\xff",
            b"\xff\xd9",
        ),
    ),
    "names": Target(
        make_names,
        run_names,
        words=(
            b"\x8e",
            b"\xff",
            b"\n",
            b"\r",
            b"\x1b[2J",
            b"\xe2\x80\xae",
            b"*",
            b"[",
            b"~",
            b"%",
            b":",
            b"..",
            b" ",
            b".svg",
            b"\xf0\xa0\xae\x9f",
        ),
    ),
    "encodings": Target(
        make_texts,
        run_texts,
        words=(
            "花".encode(),
            "\U00020b9f".encode(),
            b"\xed\xa0\x80",
            b"\xff",
            b"\\",
            b'"',
            b"\x1b$B",
            b"\x0e",
            b"\xc2\xa5",
            b"\xe2\x80\xbe",
        ),
    ),
    "weights": Target(
        make_weights,
        run_weights,
        (weights.WeightsError,),
        words=(
            b'"',
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b"params/",
            b"scales/",
            b"/",
            b'\\"',
            b"null",
            b"BF16",
            b"I8",
        ),
        spoil=spoil_weights,
    ),
    "run": Target(
        make_run,
        run_run,
        (errors.TrainingError,),
        words=(
            b'"',
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b"null",
            b"\n",
            b'"step"',
            b"NaN",
            b"[" * 3000,
        ),
    ),
    "web": Target(make_requests, run_request, words=REQUEST_WORDS, spoil=spoil_request),
    "writer": Target(make_drawing, run_drawing, (DataError, ValueError)),
}


# Execution ----------------------------------------------------------------------------------------


def input_of(name: str, seed: int, i: int) -> bytes:
    return TARGETS[name].input(np.random.default_rng([seed, zlib.crc32(name.encode()), i]))


def execute(name: str, content: bytes, folder: Path) -> str:
    """taken, or refused with the exception that the documentation names; any other is let
    through."""
    target = TARGETS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.run(content, folder)
        return "taken"
    except target.refuses as error:
        check(
            bool(str(error))
            and "\n" not in str(error)
            and (isinstance(error, ValueError) or len(str(error)) < 3000)
        )
        return "refused"


COUNTED = (
    "executions",
    "taken",
    "refused",
    "crashes",
    "hangs",
    "over_memory",
    "slowest_seconds",
    "megabytes",
)


def _work(name: str, seed: int, first: int, last: int, folder: str, shared, faults) -> None:
    """Executions first to last in a process of its own. shared: the counts, the execution now and
    when it began; faults: a pipe."""
    import logging

    logging.disable(logging.CRITICAL)  # Pillow and the form parser say what is wrong with each file
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # and so does libtiff
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    execute(name, TARGETS[name].valid()[0], Path(folder))  # imports
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    count = dict.fromkeys(COUNTED, 0)
    for i in range(first, last + 1):
        shared[:2] = i, time.time()
        content = input_of(name, seed, i)
        fault, start = None, time.process_time()
        try:
            count[execute(name, content, Path(folder))] += 1
        except BaseException as error:
            fault = (
                f"{type(error).__name__}:"
                f" {error}\n{''.join(traceback.format_tb(error.__traceback__)[-4:])}"
            )
            count["crashes"] += 1
        took, grown = (
            time.process_time() - start,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - base,
        )
        count["executions"] += 1
        count["hangs"] += took > SECONDS
        count["over_memory"] += grown > MEGABYTES
        count["slowest_seconds"], count["megabytes"] = (
            max(count["slowest_seconds"], took),
            max(count["megabytes"], grown),
        )
        shared[2:] = list(count.values())
        if fault or took > SECONDS or grown > MEGABYTES:
            faults.send((i, fault or f"{took:.1f} s, {grown:.0f} MB"))
        if grown > MEGABYTES:  # memory is counted as the most there was: on with a new process
            break
    faults.send(None)


def campaign(
    name: str, executions: int, seed: int, update: Callable[[int], None], batch: int = 2000
) -> dict:
    """All executions of a target, in processes that can be ended from outside. The counts, and
    [(execution, what was wrong)] as "faults"."""
    context, at = multiprocessing.get_context("fork"), 0
    total = dict.fromkeys(COUNTED, 0) | {"faults": []}
    TARGETS[name].valid()
    while at < executions and len(total["faults"]) < 200:
        shared = context.RawArray("d", 2 + len(COUNTED))
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            worker = context.Process(
                target=_work,
                args=(name, seed, at, min(at + batch, executions) - 1, folder, shared, theirs),
            )
            worker.start()
            theirs.close()
            ended = None
            while ended is None:
                try:
                    if ours.poll(0.5):
                        fault = ours.recv()
                        if fault is None:
                            ended = ""
                        else:
                            total["faults"].append(fault)
                    elif shared[1] and time.time() - shared[1] > STUCK:
                        worker.kill()
                        ended = "hangs"
                except EOFError:
                    ended = "crashes"
            worker.join()
        counts, reached = dict(zip(COUNTED, shared[2:])), int(shared[0]) + 1
        if ended:
            what = (
                f"no answer in {STUCK:.0f} s"
                if ended == "hangs"
                else f"the process ended with {worker.exitcode}"
            )
            total["faults"].append((reached - 1, what))
            counts[ended] += 1
            counts["executions"] += 1
        for key, value in counts.items():
            total[key] = (
                round(max(total[key], value), 3) if key in COUNTED[-2:] else int(total[key] + value)
            )
        update(reached - at)
        at = reached
    return total


@guarded
def main() -> int:
    warnings.filterwarnings(
        "ignore", message=r"os\.fork\(\)"
    )  # JAX is imported, but nothing here makes it start its threads
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--executions",
        type=int,
        default=10_000,
        help="number of executions, of all targets together [%(default)s]",
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--target", default="all", choices=["all", *TARGETS])
    options.add_argument(
        "--only", type=int, metavar="I", help="run only execution I, in this process"
    )
    options.add_argument(
        "--out",
        type=Path,
        default=Path("fuzz"),
        help="folder for fuzz.json and the inputs of faults [%(default)s]",
    )
    chosen = options.parse_args()
    names = list(TARGETS) if chosen.target == "all" else [chosen.target]
    if chosen.only is not None:
        content = input_of(names[0], chosen.seed, chosen.only)
        print(f"{len(content)} bytes: {content[:200]!r}")
        with tempfile.TemporaryDirectory() as folder:
            print(execute(names[0], content, Path(folder)))
        return 0
    share = [
        chosen.executions // len(names) + (i < chosen.executions % len(names))
        for i in range(len(names))
    ]
    report, start = {}, time.time()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tqdm(
        total=chosen.executions, unit="exec", unit_scale=True, disable=None, file=sys.stderr
    ) as bar:
        for name, number in zip(names, share):
            bar.set_description(name)
            counts = campaign(name, number, chosen.seed, bar.update)
            for i, fault in counts["faults"]:
                (chosen.out / f"{name}-{chosen.seed}-{i}").write_bytes(
                    input_of(name, chosen.seed, i)
                )
                bar.write(f"{name} {i}: {fault}", file=sys.stderr)
            report[name] = counts
    total = {
        key: sum(r[key] for r in report.values())
        for key in ("executions", "taken", "refused", "crashes", "hangs", "over_memory")
    }
    described = {
        "seed": chosen.seed,
        "total": total,
        "minutes": round((time.time() - start) / 60, 1),
        "python": sys.version.split()[0],
        "targets": report,
    }
    (chosen.out / "fuzz.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(total))
    return 1 if total["crashes"] or total["hangs"] or total["over_memory"] else 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
