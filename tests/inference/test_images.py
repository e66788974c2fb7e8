"""transfer.inference.images: whatever file a character comes in, the same 64x64 picture comes out,
or one clear line."""

import io
import os
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from transfer.inference import images
from transfer.inference.images import MAX_PIXELS, ImageError, load_image, read_image
from transfer.inference.ink import components, find_ink, ink_box
from transfer.system.errors import DataError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


@pytest.fixture(scope="module")
def ink() -> np.ndarray:
    """A made-up character, (170, 130) uint8, ink 255, unlike itself in any mirror or rotation."""
    big = Image.new("L", (520, 680))
    pen = ImageDraw.Draw(big)
    for line, width in [
        ([(90, 120), (440, 100)], 40),
        ([(250, 60), (240, 420), (110, 600)], 36),
        ([(250, 300), (420, 380), (400, 590), (300, 610)], 30),
        ([(110, 250), (150, 330)], 44),
    ]:
        pen.line(line, 255, width, joint="curve")
        for x, y in line:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), 255)
    return np.asarray(big.resize((130, 170), Image.Resampling.BOX))


@pytest.fixture(scope="module")
def expected(ink) -> np.ndarray:
    return load_image(255 - ink)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def painted(ink: np.ndarray, paper, pigment) -> np.ndarray:
    cover = ink[..., None] / 255.0
    return np.rint(cover * np.array(pigment) + (1 - cover) * np.array(paper)).astype(np.uint8)


def assert_same(picture, expected, mean=2.5):
    assert picture.shape == (64, 64) and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - expected).mean() < mean


def rgba_ink(ink, colour):
    return np.dstack([np.broadcast_to(np.array(colour, np.uint8), (*ink.shape, 3)), ink])


def rounded_card(ink):
    corner = Image.new("L", ink.shape[::-1])
    ImageDraw.Draw(corner).rounded_rectangle((0, 0, ink.shape[1] - 1, ink.shape[0] - 1), 18, 255)
    return np.dstack([painted(ink, (20, 20, 40), (250, 250, 240)), np.asarray(corner)])


def palette_with_transparency(ink):
    image = Image.fromarray((ink > 127).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 10, 20, 30] + [0] * 762)
    return encoded(image, "PNG", transparency=0)


def rotated(ink):
    image = Image.fromarray(255 - ink).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it clockwise again
    return encoded(image, "JPEG", exif=exif, quality=95)


def animated(ink):
    first, second = Image.fromarray(255 - ink), Image.fromarray(np.rot90(255 - ink, 2).copy())
    return encoded(first, "GIF", save_all=True, append_images=[second], duration=50)


def stained(ink):
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]] / 170
    blots = sum(
        0.3 / (1 + np.exp((np.hypot(x - a, y - b) - r) * 60))
        for a, b, r in [(0.1, 0.2, 0.3), (0.6, 0.8, 0.25), (0.7, 0.1, 0.2)]
    )
    return np.uint8((235 - 190 * (ink / 255.0)) * (1 - blots))


def lined(ink):
    page = np.pad(255 - ink, 40, constant_values=255)
    page[:, 6:8] = page[:, -9:-7] = 40
    return page


def shaded(ink):
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]] / 170
    light = 1 - 0.55 * x - 0.2 * y
    grain = np.random.default_rng(0).normal(0, 3, ink.shape)
    return np.clip((215 - 170 * (ink / 255.0)) * light + grain, 0, 255).astype(np.uint8)


FORMS = {
    "light on dark": lambda ink: ink,
    "bool": lambda ink: ink < 128,
    "mask of integers": lambda ink: (ink < 128).astype(int),
    "grey + channel": lambda ink: (255 - ink)[..., None],
    "faint grey on grey": lambda ink: painted(ink, (190,), (110,)),
    "coloured": lambda ink: painted(ink, (214, 190, 140), (60, 30, 30)),
    "white on blue": lambda ink: painted(ink, (30, 50, 120), (250, 250, 250)),
    "float": lambda ink: 1 - ink.astype(np.float32) / 255,
    "float to 255": lambda ink: 255.0 - ink,
    "int64": lambda ink: 255 - ink.astype(np.int64),
    "uint16": lambda ink: 65535 - ink.astype(np.uint16) * 257,
    "12 bits in 16": lambda ink: ink.astype(np.uint16) * 16,
    "grey + alpha": lambda ink: np.dstack([np.zeros_like(ink), ink]),
    "black ink alone on alpha": lambda ink: rgba_ink(ink, (0, 0, 0)),
    "white ink alone on alpha": lambda ink: rgba_ink(ink, (255, 255, 255)),
    "opaque alpha": lambda ink: np.dstack(
        [painted(ink, (255, 255, 255), (0, 0, 0)), np.full_like(ink, 255)]
    ),
    "card with transparent corners": rounded_card,
    "PIL 1": lambda ink: Image.fromarray(ink < 128),
    "PIL I;16": lambda ink: Image.fromarray(65535 - ink.astype(np.uint16) * 257),
    "PIL F": lambda ink: Image.fromarray(1 - ink.astype(np.float32) / 255),
    "PIL LA": lambda ink: Image.fromarray(np.dstack([np.zeros_like(ink), ink]), "LA"),
    "16-bit PNG": lambda ink: encoded(Image.fromarray(65535 - ink.astype(np.uint16) * 257), "PNG"),
    "palette PNG": lambda ink: encoded(
        Image.fromarray(painted(ink, (230, 210, 170), (30, 20, 20))).quantize(16), "PNG"
    ),
    "palette with transparency": palette_with_transparency,
    "CMYK JPEG": lambda ink: encoded(
        Image.fromarray(painted(ink, (255, 250, 240), (20, 20, 30))).convert("CMYK"),
        "JPEG",
        quality=95,
    ),
    "CMYK TIFF": lambda ink: encoded(
        Image.fromarray(255 - ink).convert("RGB").convert("CMYK"), "TIFF"
    ),
    "EXIF-rotated JPEG": rotated,
    "TIFF": lambda ink: encoded(Image.fromarray(255 - ink), "TIFF", compression="tiff_lzw"),
    "WebP": lambda ink: encoded(Image.fromarray(255 - ink).convert("RGB"), "WEBP", quality=90),
    "BMP": lambda ink: encoded(Image.fromarray(255 - ink), "BMP"),
    "animated GIF": animated,
    "wide margins": lambda ink: np.pad(255 - ink, ((40, 300), (200, 90)), constant_values=255),
    "no margins": lambda ink: (255 - ink)[
        np.ix_(*(np.flatnonzero((ink > 64).any(axis)) for axis in (1, 0)))
    ],
    "four times as large": lambda ink: np.asarray(Image.fromarray(255 - ink).resize((520, 680))),
    "large enough to be reduced": lambda ink: np.asarray(
        Image.fromarray(255 - ink).resize((1560, 2040))
    ),
    "large 16-bit": lambda ink: (
        np.asarray(Image.fromarray(255 - ink).resize((1560, 2040))).astype(np.uint16) * 257
    ),
    "large ink alone on alpha": lambda ink: Image.fromarray(rgba_ink(ink, (0, 0, 0))).resize(
        (1560, 2040)
    ),
    "uneven light": shaded,
    "stains": stained,
    "between ruled lines": lined,
}


@pytest.mark.parametrize("form", FORMS)
def test_same_character_in_any_form(form, ink, expected):
    assert_same(load_image(FORMS[form](ink)), expected)


def test_large_jpeg(ink, expected):
    big = Image.fromarray(255 - ink).resize((3900, 5100))
    assert_same(load_image(encoded(big, "JPEG", quality=85)), expected)


def test_small_picture_is_enlarged(ink, expected):
    small = Image.fromarray(255 - ink).resize((26, 34), Image.Resampling.BOX)
    assert_same(load_image(small), expected, mean=14)


def test_path_str_and_bytes_are_alike(tmp_path, ink, expected):
    path = tmp_path / "字 1.png"
    Image.fromarray(255 - ink).save(path)
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(load_image(source), expected)


def test_framing_is_the_data_sets(ink, expected):
    """Long side fills the frame, aspect ratio is kept, short side is centred, paper is 0 and ink
    255."""
    rows, cols = np.flatnonzero((expected > 64).any(1)), np.flatnonzero((expected > 64).any(0))
    source_rows, source_cols = np.flatnonzero((ink > 64).any(1)), np.flatnonzero((ink > 64).any(0))
    assert (rows[0], rows[-1]) == (0, 63)
    assert abs(cols[0] - (63 - cols[-1])) <= 1
    assert np.ptp(cols) + 1 == pytest.approx(
        64 * (np.ptp(source_cols) + 1) / (np.ptp(source_rows) + 1), abs=1.5
    )
    assert np.median(expected) == 0 and expected.max() == 255 and (expected == 255).mean() > 0.05
    assert ((expected > 32) & (expected < 224)).any()


def test_a_wide_character_is_centred_vertically():
    picture = np.full((200, 300), 255, np.uint8)
    picture[95:110, 40:260] = 0
    out = load_image(picture)
    rows = np.flatnonzero((out > 128).any(1))
    assert (out > 128)[30:34].all() and len(rows) in (4, 5, 6) and abs(rows[0] + rows[-1] - 63) <= 1


def test_specks_do_not_move_the_frame(ink, expected):
    picture = np.pad(255 - ink, 60, constant_values=255)
    for y, x in [(5, 5), (280, 240), (20, 230), (275, 12)]:
        picture[y : y + 2, x : x + 2] = 0
    assert_same(load_image(picture), expected)


@pytest.mark.parametrize("how", ["array", "png", "rgb png", "pil"])
def test_published_pictures_pass_unchanged(how, expected, tmp_path):
    rng = np.random.default_rng(0)
    moved = np.zeros((64, 64), np.uint8)
    moved[5:55, 3:53] = expected[:50, 7:57]  # not as load_image would frame it
    for picture in (
        expected,
        moved,
        np.where(rng.random((64, 64)) < 0.02, 90, moved).astype(np.uint8),
    ):
        source = {
            "array": lambda: picture,
            "png": lambda: encoded(Image.fromarray(picture), "PNG"),
            "rgb png": lambda: encoded(Image.fromarray(picture).convert("RGB"), "PNG"),
            "pil": lambda: Image.fromarray(picture),
        }[how]()
        out = load_image(source)
        assert np.array_equal(out, picture)
        assert out.flags.writeable and not np.shares_memory(out, picture)


@pytest.mark.parametrize("paper", [20, 60, 120])
def test_light_ink_on_grey_is_no_published_picture(expected, paper):
    """64x64 as well, but a photograph: its paper must become black."""
    photo = np.maximum(expected, paper)
    out = load_image(photo)
    assert np.median(out) == 0 and (out <= 8).mean() > 0.5
    assert np.corrcoef(out.ravel(), expected.ravel())[0, 1] > 0.8


def test_negative_of_a_published_picture_is_turned(expected):
    assert_same(load_image(255 - expected), expected)


def test_examples_are_read():
    assert len(EXAMPLES) == 8
    for path in EXAMPLES:
        out = load_image(path)
        box = np.ptp(np.argwhere(out > 64), axis=0) + 1
        assert box.max() >= 62 and 0.05 < (out > 128).mean() < 0.5 and np.median(out) < 8, path.name


def column(*characters, gap):
    """Characters (H, W) ink 255 under each other, dark on white, `gap` pixels of paper between
    them."""
    width = max(c.shape[1] for c in characters)
    rows = [
        np.pad(255 - c, ((0, gap), (0, width - c.shape[1])), constant_values=255)
        for c in characters
    ]
    return np.pad(np.concatenate(rows), 20, constant_values=255)


def test_of_several_characters_the_largest_is_used_and_said(ink, expected):
    small = np.asarray(Image.fromarray(ink).resize((78, 102)))
    reading = read_image(column(small, ink, small, gap=30))
    assert_same(reading.image, expected)
    assert (
        "largest of 3 pieces" in reading.note
        and "\n" not in reading.note
        and len(reading.note) < 120
    )
    left, top, right, bottom = reading.box
    assert 20 <= left < right <= 150 and 20 + 102 + 30 <= top < bottom <= 20 + 102 + 30 + 170


def test_a_neighbour_that_the_edge_cuts_off_is_left_out(ink, expected):
    page = np.pad(255 - ink, ((40, 20), (40, 40)), constant_values=255)
    reading = read_image(np.concatenate([page, 255 - ink[:50].repeat(2, 1)[:, 40:250]]))
    assert_same(reading.image, expected)
    assert reading.note


@pytest.mark.parametrize(
    "boxes",
    [
        [(20, 10, 180, 30), (10, 90, 190, 112)],  # two bars, as in ni (two)
        [(30, 20, 170, 36), (40, 80, 160, 96), (10, 140, 190, 160)],  # as in san (three)
        [(20, 20, 40, 180), (95, 30, 112, 160), (170, 10, 190, 190)],  # as in kawa (river)
        [(85, 10, 115, 190), (20, 70, 50, 120), (150, 70, 180, 120)],  # as in ko (small)
    ],
)
def test_the_parts_of_one_character_stay_together(boxes):
    page = np.full((200, 200), 255, np.uint8)
    for left, top, right, bottom in boxes:
        page[top:bottom, left:right] = 0
    reading = read_image(page)
    assert reading.note == ""
    assert reading.box == (
        min(b[0] for b in boxes),
        min(b[1] for b in boxes),
        max(b[2] for b in boxes),
        max(b[3] for b in boxes),
    )


def test_box_is_in_pixels_of_the_picture_as_it_is_shown(ink):
    page = np.pad(255 - ink, ((30, 400), (200, 100)), constant_values=255)
    expected = np.array(read_image(page).box)
    exif = Image.Exif()
    exif[0x0112] = 6
    big = (
        Image.fromarray(page)
        .resize((page.shape[1] * 8, page.shape[0] * 8))
        .transpose(Image.Transpose.ROTATE_90)
    )
    assert (
        np.abs(np.array(read_image(encoded(big, "JPEG", exif=exif)).box) / 8 - expected).max()
        <= 1.5
    )


def test_a_published_picture_has_no_note(expected):
    reading = read_image(expected)
    assert reading.note == "" and reading.box == (0, 0, 64, 64)


@pytest.mark.realdata
def test_published_characters_are_almost_never_parted(real_data):
    from transfer.data import corpus

    old = corpus.load(real_data, quiet=True).old
    chosen = old.indices("val")[::4]
    parted = 0
    for i in chosen:
        page = np.asarray(
            Image.fromarray(255 - old.images[i]).resize((128, 128), Image.Resampling.BICUBIC)
        )
        parted += (
            ink_box(find_ink(np.pad(page, 16, constant_values=255) / np.float32(255))[0])[1] > 1
        )
    assert parted <= 0.01 * len(chosen) + 1


def test_heic(ink, expected):
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    assert images.heif_can_be_read()
    assert_same(
        load_image(encoded(Image.fromarray(255 - ink).convert("RGB"), "HEIF", quality=90)), expected
    )


def test_heic_without_its_package_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(images, "heif_can_be_read", lambda: False)
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        load_image(b"\0\0\0\x18ftypheic" + bytes(100))


def png_claiming(width: int, height: int, rows: bytes = bytes(10)) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big")
            + kind
            + content
            + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def noise_png() -> bytes:
    return encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80), np.uint8)), "PNG"
    )


BAD = {
    "empty": (b"", "0 bytes"),
    "text": (b"hello, this is no picture", "not a picture"),
    "svg": (
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "SVG is not supported",
    ),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
    "truncated png": (noise_png()[:2000], "damaged or cut short"),
    "broken png": (noise_png()[:60] + b"\x00" * 3000, "damaged or cut short"),
    "truncated jpeg": (encoded(Image.new("RGB", (300, 300)), "JPEG")[:700], "damaged or cut short"),
    "bomb": (png_claiming(20_000, 20_000), "too large"),
    "worse bomb": (png_claiming(2_000_000_000, 2_000_000_000), "too large"),
    "just over": (png_claiming(MAX_PIXELS // 10_000 + 1, 10_000), "too large"),
    "100,000 px wide": (png_claiming(100_000, 3), "too large"),
    "no pixels": (png_claiming(0, 10), ""),
    "no pixels at all": (png_claiming(0, 0), ""),
    "a true bomb": (png_claiming(30_001, 30_001, bytes(30_000_000)), "too large"),
    "100,000 px wide and whole": (encoded(Image.new("1", (100_000, 2)), "PNG"), "too large"),
    "damaged heic": (b"\0\0\0\x18ftypheic" + bytes(100), ""),
    "blank white": (encoded(Image.new("L", (90, 90), 255), "PNG"), "no ink"),
    "blank black": (encoded(Image.new("L", (64, 64), 0), "PNG"), "no ink"),
    "fully transparent": (encoded(Image.new("RGBA", (90, 90)), "PNG"), "no ink"),
    "one pixel": (encoded(Image.new("L", (1, 1), 255), "PNG"), "no ink"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_give_one_line(case, tmp_path):
    content, says = BAD[case]
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            load_image(path)
    message = str(caught.value)
    assert str(path) in message and says in message and "\n" not in message
    assert isinstance(caught.value, DataError) and isinstance(caught.value, ValueError)
    with pytest.raises(ImageError):
        load_image(content)


def test_bad_paths_give_one_line(tmp_path):
    for path, says in [
        (tmp_path, "folder"),
        (tmp_path / "none.png", "no such file"),
        ("a\0b.png", "cannot be read"),
    ]:
        with pytest.raises(ImageError, match=says) as caught:
            load_image(path)
        assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_one_clear_line(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(noise_png())

    def refuse(self):  # root may read whatever its mode says
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match="Permission denied.*permissions") as caught:
        load_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="ordinary file"):
        load_image(tmp_path / "pipe.png")


BAD_ARRAYS = {
    "one dimension": np.zeros(10),
    "five channels": np.zeros((9, 9, 5)),
    "no pixels": np.zeros((0, 9)),
    "not a number": np.full((9, 9), np.nan),
    "negative": np.full((9, 9), -1),
    "complex": np.zeros((9, 9), complex),
    "blank": np.full((90, 90), 7, np.uint8),
    "noise": None,
    "None": None,
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(case):
    array = BAD_ARRAYS[case]
    if case == "noise":  # paper grain without a stroke
        array = np.clip(np.random.default_rng(0).normal(200, 4, (200, 200)), 0, 255).astype(
            np.uint8
        )
    with pytest.raises(ImageError) as caught:
        load_image(array)
    assert "\n" not in str(caught.value)


def test_components_count_blobs_as_flood_fill_does():
    mask = np.random.default_rng(3).random((30, 40)) < 0.35
    labels, areas, boxes = components(mask)
    seen = np.zeros_like(mask)
    blobs = 0
    for y, x in np.argwhere(mask):
        if seen[y, x]:
            continue
        blobs, stack, found = blobs + 1, [(y, x)], []
        seen[y, x] = True
        while stack:
            v, u = stack.pop()
            found.append((v, u))
            for b in range(max(v - 1, 0), min(v + 2, 30)):
                for a in range(max(u - 1, 0), min(u + 2, 40)):
                    if mask[b, a] and not seen[b, a]:
                        seen[b, a] = True
                        stack.append((b, a))
        k = labels[y, x] - 1
        v, u = np.array(found).T
        assert areas[k] == len(found) and (labels[v, u] == k + 1).all()
        assert boxes[k].tolist() == [u.min(), v.min(), u.max() + 1, v.max() + 1]
    assert blobs == len(areas) and (labels > 0).sum() == mask.sum()


# Files around good pixels


def with_chunk(
    content: bytes, kind: bytes, body: bytes, crc: bytes | None = None, last: bool = False
) -> bytes:
    """A PNG with one chunk more, after its header or before its end."""
    at = content.rindex(b"IEND") - 4 if last else 33
    return (
        content[:at]
        + len(body).to_bytes(4, "big")
        + kind
        + body
        + (crc or zlib.crc32(kind + body).to_bytes(4, "big"))
        + content[at:]
    )


def with_segment(content: bytes, marker: int, body: bytes) -> bytes:
    return (
        content[:2]
        + bytes([0xFF, marker])
        + (len(body) + 2).to_bytes(2, "big")
        + body
        + content[2:]
    )


PROFILE = b"Raw profile type exif\0"
RUBBISH = {
    "eXIf of 8 bytes": lambda png, jpeg: with_chunk(png, b"eXIf", b"\x01\x02wrong!"),
    "eXIf at the end": lambda png, jpeg: with_chunk(
        png, b"eXIf", b"II*\0\xff\xff\xff\xff", last=True
    ),
    "text without hex": lambda png, jpeg: with_chunk(
        png, b"tEXt", PROFILE + b"\nexif\n      8\nnohexatall\n"
    ),
    "packed text without hex": lambda png, jpeg: with_chunk(
        png, b"zTXt", PROFILE + b"\0" + zlib.compress(b"\nexif\n 8\nzz\n")
    ),
    "text bomb": lambda png, jpeg: with_chunk(
        png, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)
    ),
    "text of no packing": lambda png, jpeg: with_chunk(png, b"zTXt", b"Comment\0\1xyz"),
    "colour profile": lambda png, jpeg: with_chunk(png, b"iCCP", b"x\0\0rubbish"),
    "checksum of a comment": lambda png, jpeg: with_chunk(png, b"tEXt", b"Comment\0x", crc=b"none"),
    "animation of no frames": lambda png, jpeg: with_chunk(png, b"acTL", b"\0"),
    "resolution": lambda png, jpeg: with_chunk(png, b"pHYs", b"\0"),
    "XMP": lambda png, jpeg: with_chunk(
        png, b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="99"/>'
    ),
    "JPEG: Exif": lambda png, jpeg: with_segment(jpeg, 0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "JPEG: Exif of nothing": lambda png, jpeg: with_segment(jpeg, 0xE1, b"Exif\0\0"),
    "JPEG: colour profile": lambda png, jpeg: with_segment(jpeg, 0xE2, b"ICC_PROFILE\0"),
    "JPEG: other pictures": lambda png, jpeg: with_segment(
        jpeg, 0xE2, b"MPF\0II*\0\xff\xff\xff\xff"
    ),
    "JPEG: JFIF of nothing": lambda png, jpeg: with_segment(jpeg, 0xE0, b"JFIF"),
    "JPEG: Photoshop": lambda png, jpeg: with_segment(jpeg, 0xED, b"Photoshop 3.0\0008BIM\x04"),
}


@pytest.mark.parametrize("case", RUBBISH)
def test_no_metadata_can_make_a_picture_unreadable(case, ink, expected):
    png, jpeg = (encoded(Image.fromarray(255 - ink), kind) for kind in ("PNG", "JPEG"))
    reading = read_image(RUBBISH[case](png, jpeg))
    assert_same(reading.image, expected)
    assert reading.note == ""


def test_an_orientation_beside_rubbish_is_obeyed(ink, expected):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(255 - ink).transpose(Image.Transpose.ROTATE_90)
    png, jpeg = encoded(turned, "PNG", exif=exif), encoded(turned, "JPEG", exif=exif)
    for content in (
        with_chunk(png, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)),
        with_segment(jpeg, 0xE2, b"MPF\0\xff"),
    ):
        assert_same(load_image(content), expected)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_is_turned_upright(orientation, kind, ink, expected):
    """Against Pillow's own way; 9 is none."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    page = Image.fromarray(255 - ink)
    content = encoded(page, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert_same(load_image(content), load_image(np.asarray(upright)), mean=0.01)


@pytest.mark.parametrize(
    "form",
    [{}, {"progressive": True}, {"optimize": True, "quality": 40}],
    ids=["baseline", "progressive", "optimised"],
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_lacks_its_end_marker_only_is_read(form, mode, ink, expected):
    page = Image.fromarray(255 - ink).convert(mode)
    content = encoded(page, "JPEG", **form)
    for cut in (content[:-1], content[:-2]):
        reading = read_image(cut)
        assert (
            np.array_equal(reading.image, load_image(content))
            and reading.note == "the file lacks its end; all of the picture is there"
        )
    for share in (0.02, 0.1, 0.5):
        with pytest.raises(ImageError, match="damaged or cut short"):
            load_image(content[: -round(share * len(content))])


def test_other_files_without_their_end(ink):
    page = Image.fromarray(255 - ink)
    for kind, cuts in (("PNG", (8, 12)), ("JPEG2000", (1, 2))):
        if kind not in Image.SAVE:
            continue
        content = encoded(page, kind)
        for cut in cuts:
            reading = read_image(content[:-cut])
            assert (
                np.array_equal(reading.image, load_image(content))
                and "lacks its end" in reading.note
            )
        with pytest.raises(ImageError, match="damaged or cut short"):
            load_image(content[: -len(content) // 10])
    broken = encoded(page, "JPEG2000")
    with pytest.raises(ImageError, match="damaged or cut short"):
        load_image(broken[:-40])
    small = np.asarray(Image.fromarray(ink).resize((78, 102)))
    both = read_image(encoded(Image.fromarray(column(small, ink, small, gap=30)), "JPEG")[:-2])
    assert "largest of 3 pieces" in both.note and "lacks its end" in both.note


def test_a_web_page_is_called_one():
    for head in (
        b"<!DOCTYPE html><title>404</title>",
        b"\xef\xbb\xbf\r\n<html>",
        b"<!-- x -->\n<html lang='en'>",
    ):
        with pytest.raises(ImageError, match="web page"):
            load_image(head)


def test_kanji_beyond_the_bmp_in_a_name(tmp_path, expected, ink):
    path = tmp_path / "\U00020b9f.png"
    Image.fromarray(255 - ink).save(path)
    assert np.array_equal(load_image(path), expected)
