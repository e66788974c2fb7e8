"""The figures of the documents, as SVG for light and dark pages, from what `draw` leaves.

    kuzushiji-transfer draw examples/*.png --out drawings
    python experiments/make_figures.py drawings

It writes docs/figures/architecture.svg and docs/figures/examples.svg, which shows every picture in
the folder: its image, its best drawing, the first candidate and whether it is right. The name of a
picture gives its right kanji: kami_U+795E.png. Run both commands again when the shipped weights
change.
"""

import argparse
import base64
import io
import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from transfer.inference.images import load_image
from transfer.system.entry import guarded
from transfer.system.errors import DataError
from transfer.system.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
IN_THE_MIDDLE = "kami_U+795E"
"""The picture that the figure of the architecture follows."""
STYLE = """
text { font: 13px system-ui, "Hiragino Sans", "Yu Gothic", "Noto Sans CJK JP", sans-serif;
  fill: #1f2328; text-anchor: middle }
.kanji { font-size: 22px } .small { font-size: 11px; fill: #59636e } .name { font-weight: 600 }
.right { fill: #1a7f37 } .wrong { fill: #d1242f } .ink { fill: #1f2328 }
.box { fill: #f6f8fa; stroke: #d1d9e0 } .model { fill: #ddf4ff; stroke: #54aeff }
.arrow { stroke: #59636e; stroke-width: 1.5; fill: none } .head { fill: #59636e }
.peak { fill: #54aeff } .label text { text-anchor: start }
.line { stroke: #d1d9e0; fill: none } .curve { stroke-width: 2; fill: none }
.c0 { stroke: #bc4c00 } .c1 { stroke: #8250df } .c2 { stroke: #0969da }
.dot.c0 { fill: #bc4c00 } .dot.c1 { fill: #8250df } .dot.c2 { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 } .right { fill: #3fb950 } .wrong { fill: #f85149 }
  .ink { fill: #f0f6fc } .box { fill: #151b23; stroke: #3d444d }
  .model { fill: #0c2d5e; stroke: #1f6feb } .arrow { stroke: #9198a1 } .head { fill: #9198a1 }
  .peak { fill: #1f6feb } .line { stroke: #3d444d }
  .c0 { stroke: #f0883e } .c1 { stroke: #ab7df8 } .c2 { stroke: #4493f8 }
  .dot.c0 { fill: #f0883e } .dot.c1 { fill: #ab7df8 } .dot.c2 { fill: #4493f8 }
}
"""


def page(width: int, height: int, title: str, parts: list[str]) -> str:
    """The text of an SVG that follows the reader's colour scheme."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(content)}</text>'


def image(x: float, y: float, size: float, name: str, pixels: np.ndarray) -> str:
    """A (64, 64) uint8 image, ink 255, painted in the page's own colour of ink."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    place = f'x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}"'
    return (
        f'<mask id="{name}"><image {place} href="data:image/png;base64,{data}"/></mask>'
        f'<rect {place} class="box"/><rect {place} class="ink" mask="url(#{name})"/>'
    )


def drawing(x: float, y: float, size: float, strokes: list) -> str:
    """Strokes in the 109x109 box; the colour goes with the order, from blue to red."""
    paths = []
    for number, stroke in enumerate(strokes):
        hue = 210 + 140 * number / max(len(strokes) - 1, 1)
        points = " L".join(f"{px:.1f},{py:.1f}" for px, py in stroke)
        paths.append(f'<path d="M{points}" stroke="hsl({hue:.0f},75%,55%)"/>')
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}" class="box"/>'
        f'<g transform="translate({x:g},{y:g}) scale({size / 109:.4f})" fill="none"'
        ' stroke-width="4.5" stroke-linecap="round" stroke-linejoin="round">'
        + "".join(paths)
        + "</g>"
    )


def percent(probability: float) -> str:
    return ">99 %" if 0.995 <= probability < 1 else f"{100 * probability:.0f} %"


def examples(results: dict[str, dict], images: dict[str, np.ndarray]) -> str:
    """All pictures beside each other. results: stem -> what draw's JSON says; images: stem ->
    (64, 64) uint8."""
    cell, size, parts = 100, 88, []
    for column, (stem, result) in enumerate(results.items()):
        left, middle = column * cell + (cell - size) / 2, column * cell + cell / 2
        true = truth(stem)
        first = result["candidates"][0]
        right = first["character"] == true
        parts += [
            image(left, 6, size, f"image{column}", images[stem]),
            drawing(left, 102, size, result["drawings"][0]["strokes"]),
            text(middle, 214, first["character"], "kanji"),
            text(middle, 234, percent(first["probability"])),
            text(
                middle, 252, "right" if right else f"wrong: {true}", "right" if right else "wrong"
            ),
            text(middle, 268, result["verdict"], "small"),
        ]
    return page(cell * len(results), 278, "Pictures, drawings and first candidates", parts)


def truth(stem: str) -> str:
    """The kanji that a file's name ends with. Raises DataError."""
    try:
        return chr(int(stem.rpartition("U+")[2], 16))
    except ValueError:
        raise DataError(f"{stem}: names no kanji; call it like {IN_THE_MIDDLE}.png") from None


def architecture(result: dict, picture: np.ndarray) -> str:
    """The way of one picture through the models, and what each model is trained on."""

    def box(x: float, y: float, name: str, what: str, style: str = "model") -> list[str]:
        return [
            f'<rect x="{x:g}" y="{y:g}" width="116" height="56" rx="8" class="{style}"/>',
            text(x + 58, y + 25, name, "name"),
            text(x + 58, y + 43, what, "small"),
        ]

    def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
        middle = (x + to_x) / 2
        return (
            f'<path class="arrow" d="M{x:g},{y:g} C{middle:g},{y:g} {middle:g},{to_y:g}'
            f' {to_x - 7:g},{to_y:g}"/><path class="head" d="M{to_x:g},{to_y:g} l-8,-4 v8 z"/>'
        )

    best = result["candidates"][:3]
    parts = [
        image(8, 72, 88, "picture", picture),
        text(52, 178, "Kuzushiji image"),
        text(52, 194, "64 x 64", "small"),
        arrow(98, 116, 124, 116),
        *box(126, 88, "old VAE", "encoder"),
        arrow(244, 116, 270, 116),
        *box(272, 88, "z_old", "64 numbers", "box"),
        arrow(390, 116, 416, 116),
        *box(418, 88, "MDN", "P(z_new | z_old)"),
        arrow(536, 116, 562, 116),
        *box(564, 88, "z_new", "64 numbers", "box"),
        arrow(682, 116, 712, 54),
        arrow(682, 116, 712, 180),
        *box(714, 26, "new VAE", "decoder"),
        *box(714, 152, "stroke decoder", "Sketch-RNN"),
        arrow(832, 54, 862, 54),
        arrow(832, 180, 862, 180),
        *box(864, 26, "picture", "64 x 64 pixels", "box"),
        drawing(878, 136, 88, result["drawings"][0]["strokes"]),
        text(922, 240, "strokes, in order"),
        text(184, 166, "trained on", "small"),
        text(184, 182, "Kuzushiji images", "small"),
        text(476, 166, "trained on pairs:", "small"),
        text(476, 182, "image and its kanji", "small"),
        text(772, 98, "trained on modern", "small"),
        text(772, 114, "glyphs (KanjiVG)", "small"),
        text(772, 224, "trained on the", "small"),
        text(772, 240, "glyphs' strokes", "small"),
    ]
    for place, candidate in enumerate(best):
        x = 572 + 36 * place
        height = max(1.5, 44 * candidate["probability"])
        parts += [
            f'<rect x="{x:g}" y="{216 - height:.1f}" width="28" height="{height:.1f}"'
            ' class="peak"/>',
            text(x + 14, 234, candidate["character"]),
        ]
    parts.append(text(622, 250, "candidates", "small"))
    return page(
        990, 258, "From the image of a Kuzushiji character to the strokes of a kanji", parts
    )


def read(folder: Path) -> dict[str, dict]:
    """Stem -> what `draw` wrote as JSON, in the order of the names. Raises DataError."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text("utf-8"))
            result["candidates"][0]["character"], result["drawings"][0]["strokes"]
        except (OSError, ValueError, LookupError, TypeError):
            raise DataError(f"{path}: is no result of `kuzushiji-transfer draw`") from None
        found[path.stem] = result
    if not found:
        raise DataError(
            f"{folder}: holds no results; run `kuzushiji-transfer draw examples/*.png --out"
            f" {folder}`"
        )
    return found


def write(results: dict[str, dict], pictures: Path, out: Path) -> None:
    """Both figures. pictures: the folder of the PNG files that were drawn."""
    images = {stem: load_image(pictures / f"{stem}.png") for stem in results}
    shown = IN_THE_MIDDLE if IN_THE_MIDDLE in results else next(iter(results))
    out.mkdir(parents=True, exist_ok=True)
    for name, svg in (
        ("examples", examples(results, images)),
        ("architecture", architecture(results[shown], images[shown])),
    ):
        with atomic_write(out / f"{name}.svg") as part:
            part.write_text(svg, "utf-8")


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("drawings", type=Path, help="the folder that `draw` wrote to")
    parser.add_argument("--pictures", type=Path, default=ROOT / "examples", metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures", metavar="DIR")
    chosen = parser.parse_args()
    try:
        write(read(chosen.drawings), chosen.pictures, chosen.out)
    except (DataError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{chosen.out / 'examples.svg'}, {chosen.out / 'architecture.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
