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
# # 3. One image through the whole path
#
#     Kuzushiji image ──► old VAE ──► z_old ──► P(z_new | z_old) ──► z_new ──┬─► new VAE: the
# kanji's picture                         (64 numbers)          mixture density      (64)    └─►
# decoder: its strokes, one after another
#
# First by hand, with the arrays at each step; then as one call.

# %%
import time
from pathlib import Path

import ipywidgets
import jax
import jax.numpy as jnp
import numpy as np
import show
from flax import nnx
from IPython.display import HTML, display

from transfer import KuzushijiTransfer
from transfer.data import corpus as corpora
from transfer.data.strokes import to_stroke3
from transfer.inference.images import read_image
from transfer.inference.pipeline import PRETRAINED
from transfer.models import mdn, vae
from transfer.stages import encoding
from transfer.system.process import keep_compiled

WEIGHTS = PRETRAINED  # or Path("../runs/small"), what your own training left
EXAMPLES = next(
    p / "examples"
    for p in (Path.cwd(), *Path.cwd().parents)
    if (p / "examples" / "README.md").is_file()
)

keep_compiled()
model = KuzushijiTransfer.load(WEIGHTS)
tell = lambda name, array: print(
    f"{name:<34}{str(array.shape):<16}{array.dtype}   from {array.min():.2f} to {array.max():.2f}"
)

# %% [markdown]
# ## 1. Any picture becomes the model's image
#
# Dark on light or light on dark, colour, alpha, uneven light: `read_image` finds the ink, crops it,
# and frames it as the data set frames its characters.

# %%
reading = read_image(EXAMPLES / "kami_U+795E.png")
image = reading.image
tell("image, ink 255 on paper 0", image)
print("what had to be said about it:", reading.note or "nothing")

# %% [markdown]
# ## 2. The old VAE: image to z_old
#
# Not one point but a Gaussian: a mean and a variance for each of the 64 numbers. These weights look
# at an image more than once: the mean is averaged with those of a few forms of it that are warped a
# little, the same ones for every image.

# %%
mean, log_variance = encoding.encode_images(WEIGHTS, "old", image[None])
tell("mean of z_old", mean)
tell("its standard deviations", np.exp(log_variance / 2))
graph, parameters, gallery, code_points, calibration = encoding.load_mdn(WEIGHTS)
density = nnx.merge(graph, parameters)
old_graph, old_parameters, _, _ = encoding.load_vae(WEIGHTS, "old")
average = jax.jit(
    lambda images: vae.averaged_z(
        nnx.merge(old_graph, old_parameters), images, density.config.averaged
    )
)
z_old = np.asarray(average(image[None]))
tell(f"z_old, averaged over {density.config.averaged + 1} forms", z_old)

# %% [markdown]
# ## 3. The mixture density network (MDN): which z_new go with this z_old
#
# One cursive form may be several kanji, so the answer is not a point but a density with several
# peaks. Each peak is the address of a kanji in z_new, and its weight is the probability of that
# kanji: this is where the ranked candidates come from.

# %%
scores = np.asarray(mdn.candidate_scores(density, jnp.asarray(z_old), gallery))[
    0
]  # log probabilities
scores = calibration * scores - np.logaddexp.reduce(
    calibration * scores
)  # as often right as they say, on held-out images
best = np.argsort(-scores)[:8]
tell("log probability of every kanji", scores)
z_new = np.asarray(gallery.mean)[best[:1]]
tell("z_new, the highest peak", z_new)
paint = encoding.painter(WEIGHTS)
show.rows(
    {"candidates": list(paint(np.asarray(gallery.mean)[best]))},
    [f"U+{code_points[i]:04X}  {np.exp(scores[i]):.1%}" for i in best],
)

# %% [markdown]
# ## 4. From z_new the picture, and the strokes
#
# The new VAE paints z_new; the decoder writes it, with the picture before its eyes. Drawing is
# random: a seed gives the same drawing again.

# %%
picture = paint(z_new)[0]
tell("picture, ink 1 on paper 0", picture)
[drawings] = model.write(z_new, samples=4, seed=0)
stroke3 = to_stroke3(drawings[0])
tell("the first drawing as stroke-3", stroke3)
print(f"{len(drawings[0])} strokes, of these points: {[len(s) for s in drawings[0]]}")
show.rows(
    {"": [image, picture, *drawings]},
    ["image", "picture of z_new", *(f"drawing {i + 1}" for i in range(4))],
)

# %% [markdown]
# ## The same as one call
#
# `transfer` does all of it, for many images at once, and its candidates are those above. Every
# drawing sets out from a z_new of its own, drawn from the density; they are ranked by how probable
# their kanji is and how well they keep to its picture.

# %%
began = time.perf_counter()
[result] = model.transfer(image, samples=8, seed=0)
print(f"{time.perf_counter() - began:.2f} s, of which the first call compiles")
show.rows({"drawings, best first": result.strokes})
np.testing.assert_allclose([p for _, p in result.candidates[:8]], np.exp(scores[best]), atol=1e-4)
result  # in a notebook a result shows itself

# %% [markdown]
# ## How sure is it?
#
# Three answers. The **verdict** in a word: *sure*, *not sure*, or *not a kanji*. The
# **probabilities** of the candidates. And where in the picture the plausible readings differ: the
# **uncertainty** map, which every stroke of a drawing can be tinted by.

# %%
files = sorted(EXAMPLES.glob("*.png"))
images = np.stack([read_image(f).image for f in files])
results = model.transfer(images, samples=1, seed=0)
true = [chr(int(f.stem.rpartition("U+")[2], 16)) for f in files]
show.rows(
    {
        "image": list(images),
        "best drawing": [r.strokes[0] for r in results],
        "where readings differ": [r.heatmap() for r in results],
    },
    [
        f"{r.candidates[0][1]:.0%}, {'right' if r.candidates[0][0] == c else 'wrong'}\n{r.verdict}"
        for r, c in zip(results, true)
    ],
)

# %%
unsure = min(results, key=lambda r: r.candidates[0][1])
display(
    HTML(f'<div style="zoom: 2">{unsure.svg(uncertainty=True, animate=True)}</div>')
)  # the less sure a stroke, the fainter
print("uncertainty along each stroke:", unsure.stroke_uncertainty().round(2))

# %% [markdown]
# ## Where it fails
#
# Not hand-picked: of the val split (the sample's own, where there is no real data), the wrong
# readings of which the model is surest, and after them the right ones of which it is least sure.
# The weights have never seen the sample's brush, which a program moves.

# %%
corpus = corpora.load(quiet=True)
gallery_characters = set(model.characters)
held = [
    i for i in corpus.old.indices("val") if chr(corpus.old.code_points[i]) in gallery_characters
]
held = np.sort(np.random.default_rng(0).permutation(held)[:128])
read = model.read(corpus.old.images[held])
truth = [chr(c) for c in corpus.old.code_points[held]]
right = np.array([r.candidates[0][0] == c for r, c in zip(read, truth)])
among = np.array([c in [k for k, _ in r.candidates] for r, c in zip(read, truth)])
stated = np.array([r.candidates[0][1] for r in read])
print(
    f"{'the sample' if corpus.is_sample else 'val'}, {len(held)} images: first candidate right"
    f" {right.mean():.0%}, among ten {among.mean():.0%}, mean probability of the first"
    f" {stated.mean():.0%}"
)
surest = np.argsort(-stated)
for name, some in (
    ("wrong, and surest of it", surest[~right[surest]][:8]),
    ("right, and least sure", surest[::-1][right[surest[::-1]]][:8]),
):
    if len(some):
        glyph = {chr(corpus.new.code_points[g]): corpus.new.images[g] for g in corpus.new.gallery()}
        drawn = model.transfer(corpus.old.images[held[some]], samples=1)
        print(name)
        show.rows(
            {
                "image": [r.image for r in drawn],
                "drawing": [r.strokes[0] for r in drawn],
                "predicted picture": [r.pixels for r in drawn],
                "where readings differ": [r.heatmap() for r in drawn],
                "its label": [glyph[truth[i]] for i in some],
            },
            [f"{stated[i]:.0%}" for i in some],
        )

# %% [markdown]
# Some of the wrong ones are no errors of reading: the label is another form of the same character.
# Others are one stroke apart, and no reader could tell them without the text around. The model
# knows no context.
#
# ## What is no kanji at all

# %%
noise = np.uint8(np.random.default_rng(0).random((64, 64)) * 255)
ring = np.uint8(255 * (abs(np.hypot(*(np.mgrid[:64, :64] - 32)) - 22) < 3))
stripes = np.uint8(255 * (np.mgrid[:64, :64][1] % 16 < 5))
odd = model.read(np.stack([noise, ring, stripes]))
show.rows(
    {"": [r.image for r in odd]}, [f"{r.verdict}\n(familiarity {r.familiarity:.2f})" for r in odd]
)

# %% [markdown]
# ## Keep it
#
# `result.save("kami.svg")`, or `.json`, `.png`, `.pdf`, `.ndjson`, `.npz`. Choose a picture of your
# own (this needs a running notebook):

# %%
upload = ipywidgets.FileUpload(accept="image/*", description="a character")
shown = ipywidgets.Output()


@shown.capture(clear_output=True)
def read_upload(change):
    display(
        HTML(
            model.transfer(read_image(bytes(upload.value[0].content)).image, samples=8)[
                0
            ]._repr_html_()
        )
    )


upload.observe(read_upload, "value")
ipywidgets.VBox([upload, shown])

# %% [markdown]
# Next: [04_train_your_own](04_train_your_own.ipynb).
