# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Train your own
#
# **What you will see:** all stages of a training on the built-in sample, its curves and its
# drawings, and how to train on the real data, on a font, or on your own hand. **How long it
# takes:** about two minutes on two idle cores. It needs no download.
#
# **This is a rehearsal.** `STEPS` are so few that the models have hardly begun to learn, and you
# will see it. With `None` a stage takes the numbers of the preset `tiny` (400 to 600 steps, 10 to
# 15 minutes in all), which is still a rehearsal.

# %%
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import show
from PIL import Image, ImageFont

from transfer import KuzushijiTransfer
from transfer.data import corpus as corpora
from transfer.data import sample, splits
from transfer.data.prepare import prepare
from transfer.data.writing import fonts
from transfer.inference.images import read_image

STEPS = {"stage1_vae.py": 40, "stage2_mdn.py": 60, "stage3_sketch_rnn.py": 20}  # or None each
WORK = Path(
    tempfile.mkdtemp(prefix="kuzushiji-notebook-")
)  # a folder of your own keeps what was trained
RUNS = WORK / "runs"
ROOT = next(
    p for p in (Path.cwd(), *Path.cwd().parents) if (p / "examples" / "README.md").is_file()
)


def python(*arguments):
    """Run `python …` as in a terminal, and show the last lines that it prints, with short paths."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    lines = (done.stdout + ("" if done.returncode == 0 else done.stderr)).splitlines()[-8:]
    text = "\n".join([" ".join(["python", *map(str, arguments)]), *lines])
    print(text.replace(str(WORK), "WORK").replace(str(ROOT), "."))
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed")


# %% [markdown]
# ## The data: a folder with two files
#
# `kkanji.tar` holds the old images, and KanjiVG's file holds the modern strokes. The sample has the
# same layout. To be quick, we write at most 8 images of each character.

# %%
sample.write(WORK / "sample", images_per_class=8)
corpus = corpora.load(WORK / "sample", quiet=True)
print(sorted(p.name for p in (WORK / "sample").iterdir()))
print(
    {split: len(corpus.old.indices(split)) for split in splits.SPLITS},
    "images;",
    len(corpus.new.gallery()),
    "modern kanji",
)

# %% [markdown]
# ## All stages, one after another
#
# 1. the VAE of the old domain and the VAE of the new one, which gives z_old and z_new;
# 2. the density P(z_new | z_old) between them;
# 3. the decoder that writes strokes for z_new.
#
# You can stop each of them at any time, and a power cut does no harm: the same command continues
# where it stopped. `kuzushiji-transfer train` runs all of them.

# %%
for script, steps in STEPS.items():
    python(
        f"experiments/{script}",
        "--data",
        WORK / "sample",
        "--runs",
        RUNS,
        *(["--steps", steps] if steps else []),
    )

# %% [markdown]
# Each stage leaves a folder with `config.json` (everything that decides the result),
# `metrics.jsonl`, `samples/` (pictures), `checkpoints/` and `weights/`.

# %%
stages = {
    p.parent.name: [json.loads(line) for line in p.read_text().splitlines()]
    for p in sorted(RUNS.glob("*/metrics.jsonl"))
}
stages = dict(
    sorted(stages.items(), key=lambda item: (RUNS / item[0] / "config.json").stat().st_mtime)
)  # in the order of training
figure, axes = plt.subplots(1, len(stages), figsize=(3 * len(stages), 2.4), layout="constrained")
for axis, (stage, lines) in zip(np.atleast_1d(axes), stages.items()):
    keys = [key for line in lines for key in line if key.startswith("val/")]
    measured = next((key for key in keys if key in ("val/reconstruction", "val/top10")), keys[0])
    axis.plot(
        *zip(*[(line["step"], line[measured]) for line in lines if measured in line]), marker="."
    )
    axis.set_title(f"{stage}\n{measured.removeprefix('val/')}, held out", fontsize=8)
    axis.set_xlabel("step", fontsize=8)
plt.show()
for stage, lines in stages.items():
    print(
        f"{stage:<12}{lines[-1]['seconds']:>6.0f} s  ",
        ", ".join(
            f"{k.removeprefix('val/')} {v:.3g}"
            for k, v in lines[-1].items()
            if k.startswith("val/")
        ),
    )

# %% [markdown]
# ## What it can do
#
# These are the same calls as with the shipped weights, now with your own. The model learns to tell
# the 220 kanji apart first: `top10` above is the share of held-out images that have the right one
# among ten candidates. It needs longer to learn painting and writing, so expect smears.

# %%
model = KuzushijiTransfer.load(RUNS)
held = corpus.old.indices("val")[:8]
results = model.transfer(corpus.old.images[held], samples=1)
glyph = {int(corpus.new.code_points[g]): corpus.new.images[g] for g in corpus.new.gallery()}
show.rows(
    {
        "image": [r.image for r in results],
        "first candidate": [glyph[ord(r.candidates[0][0])] for r in results],
        "old VAE": [r.old_reconstruction for r in results],
        "predicted picture": [r.pixels for r in results],
        "drawing": [r.strokes[0] for r in results],
        "its kanji": [glyph[int(p)] for p in corpus.old.code_points[held]],
    }
)

# %% [markdown]
# ## With the real data
#
# Run this in a terminal. It takes an hour and a half on two CPU cores, and minutes on a GPU. The
# data sets' pages and licences are in [data/README.md](../data/README.md).
#
#     python -m transfer.data download kkanji kanjivg --data DIR
#     python -m transfer.data prepare --data DIR
#     kuzushiji-transfer train --data DIR
#     kuzushiji-transfer evaluate --data DIR --weights runs/small
#     kuzushiji-transfer draw examples/*.png --weights runs/small --out drawings
#
# You can change single settings stage by stage. `python experiments/stage2_mdn.py --help` lists
# them all:
#
#     python experiments/stage1_vae.py --data DIR --preset small --runs runs/mine --kl-floor 16
#     python experiments/stage2_mdn.py --data DIR --preset small --runs runs/mine --density joint
#     python experiments/stage3_sketch_rnn.py --data DIR --preset small --runs runs/mine
#
# ## Another old domain: your own hand, or a font
#
# The old domain consists of 64 x 64 images in folders named by code point: `kkanji2/U+82B1/<any
# name>.png`. So any hand will do. Write some characters several times each (five or more, so that
# one of each can be held out), photograph them one by one, and name the files by character, like
# the examples. `read_image` frames them. Here the eight examples, turned a little, stand in for six
# writings of each. Set `FONT` to a Japanese font file to take a font's characters instead.

# %%
FONT = None  # e.g. "/usr/share/fonts/truetype/kouzan-mouhitsu/KouzanBrushFontSousyo.ttf"
MINE = WORK / "mine"


def old_domain(folder, pictures):
    """Write (character, (64, 64) uint8 with ink 255) pairs into a data folder as its old domain."""
    for number, (character, image) in enumerate(pictures):
        place = folder / "kkanji2" / f"U+{ord(character):04X}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:016x}.png")


def handwriting(files, times=6):
    random = np.random.default_rng(0)
    for file in files:
        picture = Image.open(file).convert("RGBA")
        picture = (
            Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")
            if file.stem != "ame_U+96E8"
            else picture
        )
        for _ in range(times):
            turned = picture.rotate(
                random.uniform(-6, 6),
                Image.Resampling.BICUBIC,
                fillcolor=255 if picture.mode == "L" else None,
            )
            yield chr(int(file.stem.rpartition("U+")[2], 16)), read_image(turned).image


def from_font(path, characters):
    font = ImageFont.truetype(path, 160)
    return ((c, image) for c in characters if (image := fonts.draw(font, c)) is not None)


kanji = [chr(p) for p in corpus.new.code_points[corpus.new.gallery()]]
old_domain(
    MINE, from_font(FONT, kanji) if FONT else handwriting(sorted((ROOT / "examples").glob("*.png")))
)
shutil.copy(
    WORK / "sample" / sample.XML, MINE
)  # for all 6,432 kanji, put KanjiVG's published file here instead
prepare(MINE, progress=False)
mine = corpora.load(MINE, quiet=True)
print(
    {split: len(mine.old.indices(split)) for split in splits.SPLITS},
    "images of",
    len(np.unique(mine.old.code_points)),
    "characters",
)
show.rows(
    {"": [mine.old.images[i] for i in np.linspace(0, len(mine.old.images) - 1, 12).astype(int)]},
    size=0.9,
)

# %% [markdown]
# This is now a data folder like any other: `kuzushiji-transfer train --data MINE`. A few dozen
# characters are enough for a trial, but not for reading. You can also *add* a font's characters to
# the real images, for rare kanji and for those without any image:
#
#     python -m transfer.data fonts FONT.ttf --data DIR
#     python experiments/stage1_vae.py --data DIR --fonts 0.2
