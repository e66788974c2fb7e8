"""Any picture of one brushed character becomes (64, 64) uint8, ink 255 on paper 0.

It is framed as Kuzushiji-Kanji frames its characters, which was measured on 6,205 of its images
(ink > 64). Crops are tight and keep their aspect ratio. The longer side of the ink's box fills the
frame (median 64 px; at least 62 px in 94 %). The shorter side (median 51 px, 5th percentile 29) is
centred on black to within a pixel. Paper is exactly 0 on 67 % of all pixels, ink saturates at 255,
and edges are about one pixel of grey. Strokes are 3.5 px wide (median; 1.8 to 7 from 5 % to 95 %).
"""

import dataclasses
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from transfer.data.writing.framing import SIZE, framed
from transfer.inference import containers
from transfer.inference.ink import find_ink, ink_box
from transfer.system.errors import DataError

MAX_PIXELS = 100_000_000
MAX_SIDE = 30_000  # pixels; nothing written by hand is this long, and resizing such strips is slow
MAX_WHOLE = (
    40_000_000  # pixels of WebP and JPEG 2000, whose decoders hold the picture several times over
)
MAX_PLAIN = 1_000_000  # bytes of PNM written as text, which is read number by number
WORK_SIDE = 1024  # pixels; larger pictures are reduced to this before the ink is looked for
# Raster formats only: Pillow would hand EPS to an external program.
FORMATS = "PNG JPEG TIFF WEBP BMP DIB GIF PPM ICO JPEG2000 TGA AVIF".split()
TURNS = dict(
    enumerate(
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        2,
    )
)
"""EXIF's orientation -> the turn that makes the picture upright."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class ImageError(DataError, ValueError):
    """A picture that cannot be used. One line says which it is, what is wrong and what to do."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """One picture as it was read.

    image: (64, 64) uint8, ink 255 on paper 0.
    note: one line on what a user should know, or "".
    box: (left, top, right, bottom) of what was used, in pixels of the picture as a viewer shows it,
    right and bottom exclusive.
    """

    image: np.ndarray
    note: str
    box: tuple[int, int, int, int]


def load_image(source: str | os.PathLike | bytes | np.ndarray | Image.Image) -> np.ndarray:
    """One picture as the models take it, (64, 64) uint8, ink 255 on paper 0.

    Source and errors are those of `read_image`, which also returns a note and the box.

    >>> load_image("examples/hana_U+82B1.png").shape
    (64, 64)
    """
    return read_image(source).image


def read_image(source: str | os.PathLike | bytes | np.ndarray | Image.Image) -> Reading:
    """One picture as the models take it, with a note and the box that was used.

    source: path or bytes of a raster file, a PIL image, or an array. An array is (H, W) or
    (H, W, channels) with 1 channel for grey, 2 for grey and alpha, 3 for RGB, 4 for RGBA. It holds
    bool, integers (8-bit, or 16-bit where the type or a value needs it) or floats (in [0, 1], or up
    to 255).

    Ink may be dark on light paper or light on dark. The function copes with uneven light, alpha and
    EXIF rotation. It uses the first frame of an animation, and the character with the most ink if
    there are several. It ignores rubbish in metadata. If a file lacks only its end marker, the note
    says so. A 64x64 8-bit picture with ink on black, as the data set publishes it,
    comes back unchanged. (Three of the data set's pictures are mostly white; they count as dark ink
    on white.)

    Raises ImageError, which names the source, what is wrong and what to do.
    """
    name, note = "image", ""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        source = _read(Path(source), name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        pixels, size, note = _decode(bytes(source), name)
    elif isinstance(source, Image.Image):
        _check_size(source.size, name)
        pixels, size = _pixels(source, name), _upright_size(source)
    elif isinstance(source, np.ndarray):
        pixels, size = _from_array(source, name), source.shape[1::-1]
    else:
        raise ImageError(
            f"{name}: cannot read a {type(source).__name__}; give a path, bytes, array or PIL image"
        )

    published = _as_published(pixels)
    if published is not None:
        return Reading(published, note, (0, 0, SIZE, SIZE))
    ink, _ = find_ink(_grey(pixels))
    box, count = ink_box(ink)
    if box is None:
        raise ImageError(
            f"{name}: no ink found, the picture is blank or too faint; crop it to one character"
        )
    if count > 1:
        several = (
            f"used the largest of {count} pieces of ink that stand apart; crop to one "
            "character to choose another"
        )
        note = f"{several}; {note}" if note else several
    scale = size[0] / pixels.shape[1], size[1] / pixels.shape[0]
    strength = Image.fromarray(np.ascontiguousarray(ink, np.float32))
    small = np.asarray(framed(strength, box, Image.Resampling.BICUBIC))
    # The bicubic filter overshoots at edges.
    image = np.clip(np.rint(small * 255), 0, 255).astype(np.uint8)
    return Reading(image, note, tuple(round(v * scale[i % 2]) for i, v in enumerate(box)))


def _read(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise ImageError(f"{name}: is a folder, not a picture; name the files in it")
        if path.exists() and not path.is_file():
            raise ImageError(f"{name}: is not an ordinary file; save the picture to a file first")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{name}: cannot be read ({reason}); check the path and its permissions"
        ) from None


def formats_of(content: bytes) -> list[str]:
    """Pillow's formats that a file may have; none for HEIC if the package for it is missing."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
        return ["HEIF"] if heif_can_be_read() else []
    Image.init()
    # Some builds of Pillow lack AVIF, WebP or JPEG 2000.
    return [f for f in FORMATS if f in Image.OPEN]


def _decode(content: bytes, name: str) -> tuple[np.ndarray, tuple[int, int], str]:
    """What the bytes of a file hold.

    Returns pixels as `_pixels` gives them, the size (width, height) as a viewer shows the picture,
    and a note on what was wrong with the file, or "".
    """
    if not content:
        raise ImageError(f"{name}: is empty (0 bytes); save the picture again")
    if not (formats := formats_of(content)):
        raise ImageError(
            f"{name}: HEIC needs one more package; run `pip install pillow-heif`, "
            "or save the picture as JPEG"
        )
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<") and b"<svg" in head:
        raise ImageError(f"{name}: SVG is not supported; export the picture as PNG")
    if content[:2] in (b"P1", b"P2", b"P3") and len(content) > MAX_PLAIN:
        raise ImageError(f"{name}: is too large for a picture written as text; save it as PNG")
    try:
        try:
            return *_opened(content, name, formats), containers.missing_end(content)
        except (ImageError, Image.DecompressionBombError):
            raise
        except Exception:
            for mended, note in containers.mended(content):
                try:
                    found = _opened(mended, name, formats)
                    if note and not _is_complete(content, name, formats):
                        break
                    return *found, note
                except (ImageError, Image.DecompressionBombError):
                    raise
                except Exception:
                    pass
            raise
    except ImageError:
        raise
    except UnidentifiedImageError:
        if containers.is_web_page(content):
            raise ImageError(
                f"{name}: is a web page, not a picture; save the picture that it shows"
            ) from None
        raise ImageError(
            f"{name}: is not a picture that can be read; give PNG, JPEG, TIFF, WebP, BMP or GIF"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name)) from None
    except (
        Exception
    ) as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, … on broken files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(
            f"{name}: is damaged or cut short ({reason}); save or download it again"
        ) from None


def _opened(content: bytes, name: str, formats: list[str]) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels and size; whatever Pillow raises is let through."""
    with warnings.catch_warnings():
        # Pillow warns from 89 Mpixel on; the limit here is ours, and metadata warnings help nobody.
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _check_size(image.size, name, most_pixels(image.format))
            if image.format == "ICO":  # a PNG inside may be larger than the file says
                image.load()
                _check_size(image.size, name)
            size = _upright_size(image)
            image.draft(None, (WORK_SIDE, WORK_SIDE))
            return _pixels(image, name), size


def _is_complete(content: bytes, name: str, formats: list[str]) -> bool:
    """Whether a JPEG without an end marker has all of its picture. Some decoders make up what is
    missing; then different bytes after the file's end give different pictures. Other decoders
    refuse a cut file."""
    seen = [_opened(continued, name, formats)[0] for continued in containers.continued(content)]
    return all(np.array_equal(one, other) for one, other in zip(seen, seen[1:]))


def most_pixels(format: str | None) -> int:
    """How many pixels a picture in a format (Pillow's name) may have."""
    return MAX_WHOLE if format in ("WEBP", "JPEG2000") else MAX_PIXELS


def heif_can_be_read() -> bool:
    """Whether pillow-heif is installed; Pillow knows HEIF from then on."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return image.size[::-1] if _orientation(image) in (5, 6, 7, 8) else image.size


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1 if there is none, or if it is rubbish."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # SyntaxError, ValueError, struct.error, …: Pillow takes them as they come
        return 1


def _check_size(size: tuple[int, int], name: str, most: int = MAX_PIXELS) -> None:
    if min(size) < 1:
        raise ImageError(
            f"{name}: has no pixels ({size[0]}x{size[1]}); give a picture of one character"
        )
    if size[0] * size[1] > most or max(size) > MAX_SIDE:
        raise ImageError(_too_large(name, f" ({size[0]}x{size[1]})", most))


def _too_large(name: str, size: str = "", most: int = MAX_PIXELS) -> str:
    return (
        f"{name}: is too large{size}: at most {most // 1_000_000} million pixels "
        f"and {MAX_SIDE} a side;"
        " crop it to one character"
    )


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    """Pixels of a PIL image, (H, W, C) with C 1, 3 or 4.

    They are uint8 as stored, or float32 in [0, 1] if they were deeper.
    """
    if _orientation(image) in TURNS:
        image.load()  # a TIFF is turned by this, and has no orientation any more
        if (orientation := _orientation(image)) in TURNS:
            image = image.transpose(TURNS[orientation])
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        _check_size(image.size, name)
        return _deep(image, name)
    if image.has_transparency_data:
        # Reducing RGBA would mix in the colour hidden under transparent pixels; premultiplied RGBa
        # does not.
        if max(image.size) > WORK_SIDE:
            image = _reduced(image, lambda part: part.convert("RGBA").convert("RGBa"))
        image = image.convert("RGBA")
    elif image.mode in ("1", "L"):
        image = _reduced(image, lambda part: part.convert("L"))
    else:
        image = _reduced(image, lambda part: part.convert("RGB"))
    return np.atleast_3d(np.asarray(image))


def _deep(image: Image.Image, name: str) -> np.ndarray:
    """Pixels of a picture of more than 8 bits, as `_pixels` gives them.

    A large one is never held in memory as floats.
    """
    if max(image.size) <= 6 * WORK_SIDE:
        return _from_array(np.asarray(image), name, deep=True)
    low, high = np.inf, -np.inf
    for part in map(np.asarray, _strips(image, 256)):
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        if not np.isfinite(part).all():
            low = -np.inf
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name}: pixel values must be finite and lie in 0 to 1, or 0 to 65535; "
            "rescale the picture"
        )
    white = 1.0 if high <= 1 else max(high, 255.0)
    image = _reduced(
        image, lambda part: Image.fromarray(np.asarray(part).astype(np.float32) / np.float32(white))
    )
    return np.atleast_3d(np.asarray(image))


def _strips(image: Image.Image, height: int) -> Iterator[Image.Image]:
    for top in range(0, image.height, height):
        yield image.crop((0, top, image.width, min(top + height, image.height)))


def _reduced(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The converted picture, with a longer side of at most WORK_SIDE pixels.

    It is what `Image.resize` with reducing_gap=3 makes, but strip by strip: a picture of a few kB
    can unpack to 100 million pixels, and several copies of those take gigabytes.
    """
    if max(image.size) <= WORK_SIDE:
        return convert(image)
    scale = WORK_SIDE / max(image.size)
    size = tuple(max(1, round(s * scale)) for s in image.size)
    factor = tuple(int(s / new / 3) or 1 for s, new in zip(image.size, size))
    if max(factor) == 1:
        return convert(image).resize(size, Image.Resampling.BOX)
    parts = [convert(strip).reduce(factor) for strip in _strips(image, 64 * factor[1])]
    small = Image.new(parts[0].mode, (parts[0].width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        small.paste(part, (0, top))
        top += part.height
    return small.resize(
        size, Image.Resampling.BOX, (0, 0, image.width / factor[0], image.height / factor[1])
    )


def _from_array(array: np.ndarray, name: str, deep: bool = False) -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(
            f"{name}: an array of shape {array.shape} is not a picture; "
            "give (H, W), (H, W, 3) or (H, W, 4)"
        )
    _check_size(array.shape[1::-1], name)
    array = np.atleast_3d(array)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 65535:
            raise ImageError(
                f"{name}: pixel values from {low} to {high}; "
                "give 0 to 255 (8-bit) or 0 to 65535 (16-bit)"
            )
        if high == 1:  # a mask
            array = array.astype(np.uint8) * 255
        elif not deep and array.dtype != np.uint16 and high <= 255:
            array = array.astype(np.uint8)
        else:
            # Scanners store 10 or 12 bits in 16: the brightest pixel stands for white.
            array = array.astype(np.float32) / max(high, 255)
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 65535:
            raise ImageError(
                f"{name}: pixel values must be finite and lie in 0 to 1, or 0 to 255; "
                "rescale the array"
            )
        high = float(array.max())
        array = array.astype(np.float32) / (1.0 if high <= 1 else max(high, 255.0))
    else:
        raise ImageError(
            f"{name}: an array of {array.dtype} is not a picture; give uint8, uint16, float32, bool"
        )
    if array.shape[2] == 2:
        array = array[..., [0, 0, 0, 1]]
    if array.dtype == np.uint8:
        return _pixels(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array), name)
    return np.stack(
        [
            np.asarray(_reduced(Image.fromarray(c), lambda part: part))
            for c in np.moveaxis(array, 2, 0)
        ],
        axis=2,
    )


def _as_published(pixels: np.ndarray) -> np.ndarray | None:
    """The picture itself if it looks like one of the data set, else None.

    It must be 64x64, 8-bit, grey and opaque, with light ink on paper that is black where bare.
    """
    if pixels.shape[:2] != (SIZE, SIZE) or pixels.dtype != np.uint8:
        return None
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        return None
    grey = pixels[..., 0]
    if any((pixels[..., c] != grey).any() for c in range(min(pixels.shape[2], 3))):
        return None
    # Every published image with ink has at least 11 % of pixels this dark.
    if not grey.any() or np.mean(grey <= 8) < 0.1 or not find_ink(grey / np.float32(255))[1]:
        return None
    return grey.copy()


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance, (H, W) float32 in [0, 1]; transparent parts are filled with paper."""
    pixels = pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 1)
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    if pixels.shape[2] == 3 or pixels[..., 3].max() == 0:
        return grey if pixels.shape[2] == 3 else np.ones_like(grey)
    alpha = pixels[..., 3] / pixels[..., 3].max()
    visible = alpha > 0.5
    # A mostly opaque picture shows its own paper; a mostly transparent one is the ink alone, on its
    # opposite.
    inside = float(np.median(grey[visible]))
    paper = inside if visible.mean() > 0.6 else float(inside < 0.5)
    return grey * alpha + paper * (1 - alpha)
