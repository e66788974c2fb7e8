"""Turns a picture in a format that browsers do not show (TIFF, HEIC, JPEG 2000), or a page of a
PDF, into a PNG that the web page can open."""

from __future__ import annotations

import io
import warnings
from contextlib import closing

from PIL import Image, ImageOps
from starlette.exceptions import HTTPException

from transfer.inference import images

MAX_SIDE = 10_000  # pixels; as static/page/source.js has it


DOTS = 300  # an inch of a PDF's page, as far as MAX_PDF allows
MAX_PDF = 5_000  # pixels of the longer side of a PDF's page


def page_number(query) -> int:
    """The query's `page`, from 1. Raises HTTPException 400."""
    text = query.get("page", "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text)):
        raise HTTPException(400, f"page is {text[:40]!r}; give 1 or more")
    return int(text)


def to_png(content: bytes, number: int = 1) -> tuple[bytes, dict[str, str]]:
    """The picture, upright, as PNG with 8 bits per channel; the header `Pages` says how many pages
    the file has. Raises HTTPException 400 (empty, damaged, no such page), 413 (too many pixels) or
    415 (not a picture).

    number: which page of a PDF or TIFF, from 1.
    """
    if not content:
        raise HTTPException(400, "the file is empty; save the page again")
    if b"%PDF-" in content[:1024]:
        image, pages = _of_pdf(content, number)
    else:
        image, pages = _of_picture(content, number)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue(), {"Pages": str(pages)}


def _of_pdf(content: bytes, number: int) -> tuple[Image.Image, int]:
    """A page of a PDF, RGB, and how many pages there are."""
    try:
        import pypdfium2
    except ImportError:
        raise HTTPException(
            415, "PDF needs one more package; pip install pypdfium2, or save the page as JPEG"
        ) from None
    try:
        with closing(pypdfium2.PdfDocument(content)) as document:
            pages = len(document)
            _within(number, pages)
            page = document[number - 1]
            scale = min(DOTS / 72, MAX_PDF / max(*page.get_size(), 1e-3))
            return page.render(scale=scale).to_pil().convert("RGB"), pages
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise HTTPException(
                400, "the PDF is locked with a password; save it without one"
            ) from None
        raise HTTPException(
            400, "the PDF is damaged or cut short; save it again, or the page as JPEG"
        ) from None


def _within(number: int, pages: int) -> None:
    if number > pages:
        raise HTTPException(400, f"there is no page {number}; the file has {pages}")


def _of_picture(content: bytes, number: int) -> tuple[Image.Image, int]:
    """A picture, upright, RGB or RGBA, and how many pages its file has."""
    if not (formats := images.formats_of(content)):
        raise HTTPException(
            415, "HEIC needs one more package; pip install pillow-heif, or save it as JPEG"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit is ours, metadata warnings help nobody
            with Image.open(io.BytesIO(content), formats=formats) as image:
                pages = getattr(image, "n_frames", 1)
                _within(number, pages)
                if number > 1:
                    image.seek(number - 1)
                if max(image.size) > MAX_SIDE:
                    raise HTTPException(
                        413,
                        f"the page is {image.width} by {image.height} pixels; at most {MAX_SIDE} a"
                        " side can be opened",
                    )
                if image.mode == "F" or image.mode.startswith("I"):
                    image = _eight_bits(image)
                upright = ImageOps.exif_transpose(image)
                mode = "RGBA" if upright.has_transparency_data else "RGB"
                return upright.convert(mode), pages
    except HTTPException:
        raise
    except Image.UnidentifiedImageError:
        raise HTTPException(
            415, "this is not a picture that can be read; give PNG, JPEG, TIFF or WebP"
        ) from None
    except Image.DecompressionBombError:
        raise HTTPException(413, f"the page has more than {MAX_SIDE} pixels a side") from None
    except Exception as error:  # decoders raise anything on broken files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HTTPException(
            400, f"the picture is damaged or cut short ({reason}); save it again"
        ) from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey with more than 8 bits, scaled so that its darkest value is 0 and its brightest 255."""
    low, high = image.getextrema()
    scale = 255.0 / (high - low) if high > low else 0.0
    return image.convert("F").point(lambda v: v * scale - low * scale).convert("L")
