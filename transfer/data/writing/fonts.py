"""Brush and pen fonts as more images of the old domain: every kanji and hiragana that a font has,
drawn as Kuzushiji-Kanji draws them.

    fonts/  images (F, 64, 64) uint8 · code_points (F,) int32 ·
            font (F,) uint8 into the manifest's list
    fonts/manifest.json  of each font its name, files with sha256 and bytes, licence, version
                         and role

Debian's packages fonts-kouzan-mouhitsu, fonts-aoyagi-soseki and fonts-aoyagi-kouzan-t hold five
brush fonts by Aoyagi Kouzan, in the public domain: kaisho, gyosho (行書) and the cursive sosho (草書).
Each has about 6,400 of KanjiVG's kanji. Fontsource publishes Google's fonts as npm packages of many
small files, one for each subset of the characters (`npm pack @fontsource/long-cang`).

Roles keep some hands out of training, whatever folder they are in. "unseen" fonts measure how well
unknown hands are read, "choose" fonts serve to choose settings and to calibrate, and all others are
"train".
"""

from __future__ import annotations

import glob
import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from transfer.data.prepare import fingerprint
from transfer.data.writing import stored
from transfer.data.writing.framing import framed
from transfer.system.errors import DataError

ROLES = ("train", "choose", "unseen")
UNSEEN = ("zhimangxing", "yuji")
"""Families, by the beginning of their names, that serve neither training nor any choice."""
CHOOSE = ("mashanzheng",)
"""Families that are never trained on, but serve to choose settings and to fit probabilities."""
LICENCES = (
    ("SIL Open Font License", "OFL-1.1"),
    ("SIL OPEN FONT LICENSE", "OFL-1.1"),
    ("ARPHIC PUBLIC LICENSE", "Arphic-Public-License"),
    ("Open Government Data License", "OGDL-Taiwan-1.0"),
    ("public domain", "public domain"),
    ("Public Domain", "public domain"),
    ("BSD", "BSD-3-Clause"),
    ("Apache License", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("GNU GENERAL PUBLIC", "GPL"),
)
_LARGE = 160  # pixels an em that glyphs are drawn at before they are reduced


@dataclass(frozen=True)
class Fonts:
    """images (F, 64, 64) uint8, ink 255; code_points (F,) int32; font (F,) uint8 into names;
    records: what the manifest says of each name."""

    images: np.ndarray
    code_points: np.ndarray
    font: np.ndarray
    names: list[str]
    records: list[dict]

    @property
    def sources(self) -> dict[str, dict]:
        """Font's name -> {sha256, bytes} of the file it came in."""
        return {r["name"]: {"sha256": r["sha256"], "bytes": r["bytes"]} for r in self.records}

    def of(self, role: str) -> np.ndarray:
        """(n,) int64 indices of the images whose font has `role`, one of ROLES."""
        return np.flatnonzero(
            np.isin(self.font, [i for i, r in enumerate(self.records) if r["role"] == role])
        )


@dataclass(frozen=True)
class Source:
    """A published font. name: its file or package. files: the bytes of its parts, which together
    have all its characters. ranges: for each part the (first, last) code points that it covers, or
    None if it does not say."""

    name: str
    files: list[bytes]
    ranges: list[list[tuple[int, int]] | None]
    licence: str
    version: str
    fingerprint: dict

    @property
    def role(self) -> str:
        """Its role, one of ROLES, by the family's name."""
        family = re.sub(r"[^a-z]", "", (self.family + self.name).lower())
        return next(
            (
                role
                for role, families in (("unseen", UNSEEN), ("choose", CHOOSE))
                if any(f in family for f in families)
            ),
            "train",
        )

    @property
    def family(self) -> str:
        return ImageFont.truetype(io.BytesIO(self.files[0]), 16).getname()[0] or ""


def read(path: Path, licence: str | None = None) -> Source:
    """Read a font file (.ttf, .otf, .ttc, .woff, .woff2), or a Fontsource package, as `npm pack`
    delivers it (.tgz) or unpacked.

    licence: what to record for a font file without a licence file beside it. Raises DataError if
    the file is not a font, if a package lacks one of the files it lists, or if no licence is found.
    """
    path = Path(path)
    try:
        if path.is_dir() or path.name.endswith((".tgz", ".tar.gz")):
            return _package(path)
        content = path.read_bytes()
        ImageFont.truetype(io.BytesIO(content), _LARGE)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be read as a font ({' '.join(str(error).split())}); "
            "give a .ttf, .otf or .woff2 file, or a Fontsource package"
        ) from None
    if licence is None and (found := _licence_beside(path)) is None:
        raise DataError(
            f"{path}: there is no licence file beside it; put LICENSE there, or name the licence "
            "with --licence"
        )
    return Source(path.name, [content], [None], licence or found, "", fingerprint(path))


def _licence_beside(path: Path) -> str | None:
    """The licence of a font file: from LICENSE, OFL.txt or the like beside it, or from the
    copyright file of its Debian package."""
    beside = [
        p
        for p in sorted(path.parent.iterdir())
        if re.match(r"(licen[cs]e|ofl|copying|copyright)", p.name, re.I) and p.is_file()
    ]
    for debian in sorted(
        Path("/usr/share/doc").glob(f"fonts-{glob.escape(path.parent.name)}*/copyright")
    ):
        text = debian.read_text("utf-8", errors="replace")
        named = re.search(r"^License: *(\S.*)$", text, re.M)
        return named[1].strip() if named else licence_name(text)
    return licence_name(beside[0].read_text("utf-8", errors="replace")) if beside else None


def licence_name(text: str) -> str:
    """A short name for a licence's text; its first line if it is none of LICENCES."""
    return next(
        (name for mark, name in LICENCES if mark in text),
        next((line.strip()[:80] for line in text.splitlines() if line.strip()), "?"),
    )


def _package(path: Path) -> Source:
    """A Fontsource package: the regular weight's files, as its style sheet lists them."""
    if path.is_dir():
        inside = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
        get = lambda name: inside[name].read_bytes()
    else:
        with tarfile.open(path) as archive:
            inside = {
                m.name.partition("/")[2]: archive.extractfile(m).read()
                for m in archive
                if m.isfile() and m.size < 50_000_000
            }
        get = inside.__getitem__
    try:
        about = json.loads(get("package.json"))
        name, version = str(about["name"]), str(about["version"])
    except (KeyError, ValueError, TypeError):
        raise DataError(
            f"{path}: is not a Fontsource package: no package.json names it; give what"
            " `npm pack @fontsource/NAME` brings"
        ) from None
    licences = sorted(n for n in inside if re.match(r"(licen[cs]e|ofl)", n, re.I))
    if not licences:
        raise DataError(
            f"{path}: has no licence file; fetch the package again with `npm pack {name}`"
        )
    sheet = next((s for s in ("400.css", "index.css") if s in inside), None)
    faces = (
        re.findall(r"@font-face *{(.*?)}", get(sheet).decode(errors="replace"), re.S)
        if sheet
        else []
    )
    listed = {
        found[1]: face for face in faces if (found := re.search(r"(files/[\w.-]+?\.woff2)", face))
    }
    if not listed:
        raise DataError(
            f"{path}: its style sheet lists no .woff2 files; give what `npm pack @fontsource/NAME`"
            " brings"
        )
    if missing := [f for f in listed if f not in inside]:
        raise DataError(
            f"{path}: {missing[0]} is missing, and {len(missing) - 1} more of its {len(listed)}"
            f" subsets; fetch the package again with `npm pack {name}`"
        )
    files, ranges = [], []
    for file, face in listed.items():
        content = get(file)
        try:
            ImageFont.truetype(io.BytesIO(content), _LARGE)
        except OSError as error:
            raise DataError(
                f"{path}: {file} cannot be read as a font ({error}); fetch the package again with"
                f" `npm pack {name}`"
            ) from None
        files.append(content)
        stated = re.search(r"unicode-range:([^;]*)", face)
        ranges.append(
            [
                (int(a, 16), int(b or a, 16))
                for a, b in re.findall(r"U\+([0-9a-fA-F]+)(?:-([0-9a-fA-F]+))?", stated[1])
            ]
            if stated
            else None
        )
    return Source(
        name,
        files,
        ranges,
        str(about.get("license") or licence_name(get(licences[0]).decode(errors="replace"))),
        version,
        fingerprint(path),
    )


def covers(ranges: list[tuple[int, int]] | None, code_point: int) -> bool:
    """Whether a part of a `Source` may have a character, by what it says of itself."""
    return ranges is None or any(first <= code_point <= last for first, last in ranges)


def ink(font: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """The character at the font's size, ink 255, cropped to its ink. None for a blank glyph."""
    left, top, right, bottom = font.getbbox(character)
    if right <= left or bottom <= top:
        return None
    sheet = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(sheet).text((-left, -top), character, 255, font)
    box = sheet.getbbox()
    return None if box is None else sheet.crop(box)


def draw(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray | None:
    """(64, 64) uint8, ink 255. The longer side fills the picture, as in the published crops. None
    for a blank glyph."""
    sheet = ink(font, character)
    return None if sheet is None else np.asarray(framed(sheet))


def drawn(source: Source, code_points: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(code point, (64, 64) uint8 image) of every character that the font has.

    Characters that a font lacks are left out: fonts show one sign for all of them, and a private
    code point reveals which.
    """
    for content, ranges in zip(source.files, source.ranges):
        wanted = [c for c in code_points if covers(ranges, c)]
        if not wanted:
            continue
        font = ImageFont.truetype(io.BytesIO(content), _LARGE)
        absent = draw(font, "\U0010fffd")
        for code_point in wanted:
            image = draw(font, chr(int(code_point)))
            if image is not None and not (absent is not None and np.array_equal(image, absent)):
                yield int(code_point), image


def prepare(
    folder: Path,
    paths: list[Path],
    code_points: np.ndarray,
    licence: str | None = None,
    progress: bool = True,
) -> Path:
    """Draw `code_points` with every font and write <folder>/fonts/, whole or not at all; returns
    that path.

    paths, licence: see `read`. Raises DataError as `read` does, and if a font has none of the
    characters, is given twice, or if the folder cannot be written. Then the earlier images stay.
    """
    fonts = [read(path, licence) for path in paths]
    for at, font in enumerate(fonts):
        if any(font.name == other.name for other in fonts[:at]):
            raise DataError(f"{paths[at]}: {font.name} is given twice; name each font once")
    images, points, number, records = [], [], [], []
    for at, (path, source) in enumerate(zip(paths, fonts)):
        known = {}
        bar = tqdm(
            drawn(source, code_points),
            desc=source.name,
            unit="characters",
            disable=not progress,
            leave=False,
        )
        with closing(bar):
            for point, image in bar:
                known.setdefault(point, image)
        if not known:
            raise DataError(
                f"{path}: none of the {len(code_points):,} kanji and kana is in it; give a"
                " Japanese or Chinese font"
            )
        images += known.values()
        points += known
        number += [at] * len(known)
        records.append(
            {
                "name": source.name,
                **source.fingerprint,
                "licence": source.licence,
                "version": source.version,
                "role": source.role,
            }
        )
    with stored.written(folder, "fonts", "the fonts' images") as part:
        np.save(part / "images.npy", np.stack(images))
        np.save(part / "code_points.npy", np.array(points, np.int32))
        np.save(part / "font.npy", np.array(number, np.uint8))
        stored.write_manifest(part, {"fonts": records})
    return folder / "fonts"


def load(folder: Path) -> Fonts | None:
    """What `prepare` left in <folder>/fonts, memory-mapped; None if there is nothing. Raises
    DataError if it is damaged."""
    return stored.opened(
        folder, "fonts", ("images", "code_points", "font"), _described, "fonts FONT…"
    )


def _described(manifest, images, code_points, font) -> Fonts:
    records = manifest["fonts"]
    names = [record["name"] for record in records]
    if not all({"sha256", "bytes", "role"} <= set(record) for record in records):
        raise ValueError("its manifest lacks a font's checksum, size or role")
    return Fonts(images, code_points, font, names, records)
