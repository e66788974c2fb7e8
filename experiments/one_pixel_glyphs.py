"""Make a data folder whose glyph pictures have lines of one pixel without grey, as `create_image`
of the authors' program draws them (kanji2kanji.py in hardmaru/kanji2kanji).

    python experiments/one_pixel_glyphs.py --data DIR --out DIR-one-pixel
    python experiments/stage1_vae.py --domain new --preset paper --data DIR-one-pixel \
        --runs runs/one-pixel

All else in the folder is the same, and links to --data.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from transfer.data import corpus as corpora
from transfer.data.strokes import BOX
from transfer.system.entry import fail, guarded
from transfer.system.errors import DataError

PAGE = 256  # places a line's points can have along an axis in the authors' program


def picture(strokes, size: int = 64) -> np.ndarray:
    """Strokes, a list of (n, 2) in box units, as (size, size) uint8: ink 255 wherever one of a
    line's points lies, which are taken one place apart on a page of `PAGE`; paper 0."""
    image = np.zeros((size, size), np.uint8)
    for stroke in strokes:
        places = np.rint(np.asarray(stroke, np.float64) * (PAGE - 1) / BOX).clip(0, PAGE - 1)
        for start, end in zip(places, places[1:] if len(places) > 1 else places):
            along = np.linspace(0, 1, int(abs(end - start).max()) + 1)[:, None]
            columns, rows = np.rint(start + along * (end - start)).astype(int).T * size // PAGE
            image[rows, columns] = 255
    return image


@guarded
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder that is made")
    chosen = parser.parse_args()
    out, part = chosen.out, chosen.out.with_name(chosen.out.name + ".part")
    if out.exists():
        parser.error(f"{out}: exists already; give another --out, or remove it")
    try:
        corpus = corpora.load(chosen.data)
        shutil.rmtree(part, ignore_errors=True)
        for path in sorted(corpus.folder.resolve().iterdir()):
            if path.name != "prepared":
                link(path, part / path.name)
        prepared = corpus.folder.resolve() / "prepared"
        for path in sorted([*prepared.iterdir(), *(prepared / "kanjivg").iterdir()]):
            if path.name not in ("kanjivg", "images.npy", "manifest.json", ".started"):
                link(path, part / path.relative_to(prepared.parent))
        images = np.stack(
            [picture(corpus.new.strokes(i)) for i in tqdm(range(len(corpus.new.images)))]
        )
        np.save(part / "prepared" / "kanjivg" / "images.npy", images)
        manifest = corpus.manifest | {"glyph pictures": "lines of one pixel without grey"}
        (part / "prepared" / "manifest.json").write_text(json.dumps(manifest, indent=2), "utf-8")
        os.replace(part, out)
    except DataError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{part}: cannot be written ({error.strerror}); choose another --out")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{out}: {len(images):,} glyphs, {(images > 0).mean():.1%} of the pixels are ink")
    return 0


def link(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(path)


if __name__ == "__main__":
    raise SystemExit(main())
