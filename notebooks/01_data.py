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
# # 1. The data
#
# **What you will see:** both kinds of data side by side, how rare most characters are, what a
# stroke is, and why cursive characters are hard to tell apart. **How long it takes:** less than a
# minute. It needs `pip install ".[notebooks]"` in a checkout of the project, and no download.
#
# Until about 1900 Japanese was written in *Kuzushiji*, a cursive hand. Hardly anybody can read it
# today. This project takes the image of one Kuzushiji character and draws the modern kanji, stroke
# by stroke. It learns from two data sets that are not connected:
#
# - the **old domain**: [Kuzushiji-Kanji](http://codh.rois.ac.jp/kmnist/), 140,424 images of
#   characters from old books, each with its label;
# - the **new domain**: [KanjiVG](https://kanjivg.tagaini.net), a drawing of each modern kanji, as
#   strokes in writing order.
#
# If `$KUZUSHIJI_DATA` names a folder with the published files, everything below describes them.
# Otherwise it describes a built-in sample of 220 kanji. A program painted its old images, so the
# sample is good for a rehearsal only. The outputs that are stored here come from the sample.

# %%

import matplotlib.pyplot as plt
import numpy as np
import show
from PIL import Image
from sklearn.datasets import load_digits

from transfer.data import corpus as corpora
from transfer.data import splits
from transfer.data.published import kmnist
from transfer.data.strokes import to_stroke3
from transfer.system.errors import DataError

corpus = corpora.load(quiet=True)
gallery = corpus.new.gallery()  # the standard form of every kanji
modern = {int(corpus.new.code_points[g]): int(g) for g in gallery}
print("the built-in sample" if corpus.is_sample else f"the published files in {corpus.folder}")
print(
    f"old: {len(corpus.old.images):,} images of {len(np.unique(corpus.old.code_points)):,}"
    f" characters, {corpus.old.images.shape[1:]} {corpus.old.images.dtype}, ink 255 on paper 0"
)
print(
    f"new: {len(corpus.new.images):,} glyphs, {len(gallery):,} of them kanji in their standard form"
)

# %% [markdown]
# ## Two hands, one character
#
# The upper row has the modern forms. The rows below it have images of the old domain with the same
# labels. The old forms are not careless modern ones: writers joined strokes, left some out, or
# wrote an older shape of the character.

# %%
points, count = np.unique(corpus.old.code_points, return_counts=True)
random = np.random.default_rng(1)
common = [int(p) for p, n in zip(points, count) if n >= 4 and int(p) in modern]
chosen = [common[i] for i in sorted(random.permutation(len(common))[:9])]
old_of = {p: random.permutation(np.flatnonzero(corpus.old.code_points == p))[:4] for p in chosen}
show.rows(
    {"modern": [corpus.new.images[modern[p]] for p in chosen]}
    | {f"old, {i + 1}": [corpus.old.images[old_of[p][i]] for p in chosen] for i in range(4)},
    [f"U+{p:04X}" for p in chosen],
)

# %% [markdown]
# ## Most characters are rare
#
# The plot shows the class sizes of the whole published set. They come from the lists of file names
# in this project, so the plot needs no image. Every training lets you choose how to handle rare
# classes: the option `--balance` sets how often they are drawn.

# %%
names = splits.read_lists()
sizes = {}
for listed in names.values():
    for name in listed:
        sizes[splits.class_of(name)] = sizes.get(splits.class_of(name), 0) + 1
sizes = np.sort(list(sizes.values()))[::-1]
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.loglog(np.arange(1, len(sizes) + 1), sizes, label="published")
axis.loglog(np.arange(1, len(count) + 1), np.sort(count)[::-1], "--", label="here")
axis.set(xlabel="rank of the class", ylabel="images")
axis.legend()
plt.show()
print(
    f"{len(sizes):,} classes, {sizes.sum():,} images; the largest class has {sizes[0]:,},"
    f" {np.mean(sizes <= 6):.0%} of the classes have 6 or fewer, {np.mean(sizes == 1):.0%} have one"
)
print(f"the 100 largest classes hold {sizes[:100].sum() / sizes.sum():.0%} of all images")
print(f"\n{'split':<10}{'published':>28}{'here':>28}")
for split in splits.SPLITS:
    here = corpus.old.indices(split)
    print(
        f"{split:<10}{len(names[split]):>9,} of"
        f" {len({splits.class_of(n) for n in names[split]}):>5,} characters{len(here):>9,} of"
        f" {len(np.unique(corpus.old.code_points[here])):>5,} characters"
    )

# %% [markdown]
# The split *zero-shot* holds characters that no training sees. The model has to find their modern
# forms without having met an image of them.
#
# ## Strokes and rasters
#
# A modern glyph is a list of strokes in writing order. Each stroke is a line of points in KanjiVG's
# box of 109 x 109 units. The models read it in two other forms. The picture models read a
# **raster** of 64 x 64 pixels. The writing model reads **stroke-3** rows: how far the pen moves,
# and whether it is lifted.

# %%
glyph = modern[next(ord(c) for c in "雪花春" if ord(c) in modern)]
strokes = corpus.new.strokes(glyph)
show.rows(
    {"": [strokes[:n] for n in range(1, len(strokes) + 1)][-9:] + [corpus.new.images[glyph]]},
    [f"{n} strokes" for n in range(1, len(strokes) + 1)][-9:] + ["64 x 64"],
)
rows = to_stroke3(strokes)
print(
    f"{len(strokes)} strokes, {sum(map(len, strokes))} points; stroke-3 is {rows.shape}"
    f" {rows.dtype}, its first rows (dx, dy, lift):"
)
print(rows[:6].round(1))

# %%
per_kanji = np.diff(corpus.new.glyph_bounds)[gallery]
figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
axis.hist(per_kanji, np.arange(0.5, per_kanji.max() + 1))
axis.set(xlabel="strokes of a kanji", ylabel="kanji")
plt.show()
print(f"{per_kanji.mean():.1f} strokes on average, {per_kanji.max()} at most")

# %% [markdown]
# Any other kanji: change the character, and run the cell again.

# %%
kanji = "道"
glyph = modern.get(ord(kanji), int(gallery[0]))
strokes = corpus.new.strokes(glyph)
show.rows({"": [strokes[:n] for n in range(1, len(strokes) + 1)]}, size=0.8)

# %% [markdown]
# ## How hard are cursive characters?
#
# The publishers of Kuzushiji-MNIST compare a map of it with one of MNIST: ten digits lie apart, ten
# cursive kana overlap. We make the same comparison, and put a number on it. The digits are those of
# scikit-learn (8 x 8 pixels), which need no download. The cursive characters are Kuzushiji-MNIST
# where the data folder has it, and otherwise ten kanji of the sample. All images are reduced to
# 8 x 8, and each class has equally many, so that neither resolution nor numbers decide.


# %%
def small(images):
    """(N, H, W) uint8 -> (N, 64) in [0, 1]: reduced to 8 x 8."""
    return (
        np.stack(
            [
                np.asarray(
                    Image.fromarray(i).resize((8, 8), Image.Resampling.BOX), np.float32
                ).ravel()
                for i in images
            ]
        )
        / 255
    )


try:
    kana = kmnist.load("kmnist", "test")
    cursive, labels, which = kana.images, kana.labels.astype(int), "Kuzushiji-MNIST"
except DataError:
    print(
        "Kuzushiji-MNIST is not in the data folder and is left out (`python -m transfer.data"
        " download kmnist`); ten kanji of the corpus stand in.\n"
    )
    largest = points[np.argsort(-count, kind="stable")[:10]]
    inside = np.flatnonzero(np.isin(corpus.old.code_points, largest))
    cursive, labels = (
        np.asarray(corpus.old.images[inside]),
        np.searchsorted(np.sort(largest), corpus.old.code_points[inside]),
    )
    which = "ten cursive kanji" + (" of the sample" if corpus.is_sample else "")

digits = load_digits()
each = min(150, np.bincount(labels).min(), np.bincount(digits.target).min())
take = lambda classes: np.concatenate(
    [np.random.default_rng(0).permutation(np.flatnonzero(classes == c))[:each] for c in range(10)]
)
sets = {
    "digits": (np.uint8(digits.images * 255 / 16), digits.target, take(digits.target)),
    which: (cursive, labels, take(labels)),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
print(f"{each} images of each of 10 classes, reduced to 8 x 8")
print(f"{'':<28}{'1-NN error: pixels':>20}{'map':>8}{'silhouette: pixels':>22}{'map':>8}")
for axis, (name, (images, classes, index)) in zip(axes, sets.items()):
    pixels, classes = small(images[index]), classes[index]
    xy = show.flat(pixels)
    thumbnails = {c: images[index[np.flatnonzero(classes == c)[0]]] for c in range(10)}
    show.scatter(axis, xy, classes, thumbnails, name)
    (error, silhouette), (map_error, map_silhouette) = (
        show.overlap(pixels, classes),
        show.overlap(xy, classes),
    )
    print(f"{name:<28}{error:>20.1%}{map_error:>8.1%}{silhouette:>22.2f}{map_silhouette:>8.2f}")
plt.show()

# %% [markdown]
# The *1-NN error* is the share of images whose nearest neighbour belongs to another class. The
# *silhouette* is 1 if every class is a clump of its own, and 0 if clumps touch. Real cursive
# classes overlap more than digits: one class holds several shapes (kana even descend from different
# mother characters), and shapes of different classes look alike. The sample's brush is tamer than
# that. And these are only ten classes. Kuzushiji-Kanji has 3,832, most of them with a handful of
# images.
#
# Next: [02_latents](02_latents.ipynb) shows what 64 numbers keep of such an image.
