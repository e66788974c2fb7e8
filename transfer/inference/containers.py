"""Rewrites PNG, JPEG and JPEG 2000 files around their pixels, without metadata and with a lost end
marker restored.

Formats: PNG (third edition), section 5; JPEG (ITU T.81), annex B.
"""

import zlib
from collections.abc import Iterator

from transfer.system.untrusted import is_web_page

__all__ = ["continued", "is_web_page", "mended", "missing_end"]
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
JPEG2000 = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
END = b"\xff\xd9"  # of a JPEG, and of a JPEG 2000
LOST = "the file lacks its end; all of the picture is there"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_FILLED = [END, *(bytes([byte]) * 512 + END for byte in (0x00, 0x55, 0xAA, 0xFE))]


def missing_end(content: bytes) -> str:
    """A note on a PNG or JPEG that was read although its end is missing; else ""."""
    lost = (
        content.startswith(PNG)
        and b"IEND" not in content
        or content.startswith(JPEG)
        and content.rfind(END) < content.rfind(b"\xff\xda")
    )  # others are in thumbnails
    return LOST if lost else ""


def mended(content: bytes) -> Iterator[tuple[bytes, str]]:
    """What might be read instead of a file that could not be read: (content, note), the least
    changed first."""
    if content.startswith(PNG):
        yield _png(content, exif=True), missing_end(content)
        yield _png(content, exif=False), missing_end(content)
    elif content.startswith(JPEG):
        for bare in (content, _jpeg(content, exif=True), _jpeg(content, exif=False)):
            if bare is not content:
                yield bare, ""
            if not content.endswith(END):
                yield bare.rstrip(b"\xff") + END, LOST
    elif content.startswith(JPEG2000) and not content.endswith(END):
        yield content.removesuffix(b"\xff") + END, LOST


def continued(content: bytes) -> Iterator[bytes]:
    """A JPEG without an end marker, with several endings; nothing for other files."""
    if not content.startswith(JPEG):
        return iter(())
    bare = _jpeg(content, exif=False).rstrip(b"\xff")
    return (bare + filled for filled in _FILLED)


def _png(content: bytes, exif: bool) -> bytes:
    """The chunks that hold pixels, unchanged, and the orientation's if it is whole."""
    at, kept = len(PNG), [PNG]
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        chunk = content[at : at + 12 + length]
        if (
            kind in _PIXELS
            or exif
            and kind == b"eXIf"
            and zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        ):
            kept.append(chunk)
        at += 12 + length
    return b"".join(kept)


def _jpeg(content: bytes, exif: bool) -> bytes:
    """The segments that hold pixels. Comments are left out, and so are programs' own segments
    (APPn) except Adobe's, which states the colours, and on request the orientation's."""
    at, kept = 2, [content[:2]]
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0xDA:  # from here on it is coded pixels
            break
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at:end]
        if (
            not (0xE0 <= marker <= 0xEF or marker == 0xFE)
            or marker == 0xEE
            or exif
            and marker == 0xE1
            and segment[4:8] == b"Exif"
        ):
            kept.append(segment)
        at = end
    return b"".join(kept) + content[at:]
