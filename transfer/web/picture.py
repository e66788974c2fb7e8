"""A picture in a format that browsers do not show (TIFF, HEIC, JPEG 2000) -> PNG, for the page to
open."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps
from starlette.exceptions import HTTPException

from transfer.inference import images

MAX_SIDE = 10_000  # pixels; as static/page/source.js has it


def to_png(content: bytes) -> bytes:
    """The picture upright, its first page, as PNG of 8 bits a channel. Raises HTTPException 400
    (empty, damaged), 413 (too many pixels) or 415 (no picture)."""
    if not content:
        raise HTTPException(400, "the file is empty; save the page again")
    if not (formats := images.formats_of(content)):
        raise HTTPException(
            415, "HEIC needs one more package; pip install pillow-heif, or save it as JPEG"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit is ours, metadata warnings help nobody
            with Image.open(io.BytesIO(content), formats=formats) as image:
                if max(image.size) > MAX_SIDE:
                    raise HTTPException(
                        413,
                        f"the page is {image.width} by {image.height} pixels; at most {MAX_SIDE} a"
                        " side can be opened",
                    )
                if image.mode == "F" or image.mode.startswith("I"):
                    image = _eight_bits(image)
                upright = ImageOps.exif_transpose(image)
                upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except HTTPException:
        raise
    except Image.UnidentifiedImageError:
        raise HTTPException(
            415, "this is no picture that can be read; give PNG, JPEG, TIFF or WebP"
        ) from None
    except Image.DecompressionBombError:
        raise HTTPException(413, f"the page has more than {MAX_SIDE} pixels a side") from None
    except Exception as error:  # decoders raise anything on broken files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HTTPException(
            400, f"the picture is damaged or cut short ({reason}); save it again"
        ) from None
    file = io.BytesIO()
    upright.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, its darkest 0 and its brightest 255."""
    low, high = image.getextrema()
    scale = 255.0 / (high - low) if high > low else 0.0
    return image.convert("F").point(lambda v: v * scale - low * scale).convert("L")
