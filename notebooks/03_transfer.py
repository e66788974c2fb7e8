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
# **What you will see:** the arrays at each step, the same as one call, how sure the model is, where
# it fails, the paper's Figures 3 and 9, and the other densities, trained here for some seconds
# each. **How long it takes:** about three minutes on two idle cores. It needs no download.
#
#     Kuzushiji image ─► old VAE ─► z_old ─► P(z_new | z_old) ─► z_new ─┬─► new VAE: a picture
#         64 x 64                (64 numbers)   mixture density  (64)   └─► decoder: strokes
#
# We go through it by hand first, then in one call.

# %%
import contextlib
import io
import shutil
import tempfile
from pathlib import Path

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
from transfer.models.mdn import MDNConfig
from transfer.stages import encoding
from transfer.stages.density import mdn_task
from transfer.system.process import keep_compiled
from transfer.training import loop

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
# The picture may be dark on light or light on dark, in colour, transparent or unevenly lit.
# `read_image` finds the ink, crops it, and frames it as the data set frames its characters.

# %%
reading = read_image(EXAMPLES / "kami_U+795E.png")
image = reading.image
tell("image, ink 255 on paper 0", image)
print("note about the picture:", reading.note or "none")

# %% [markdown]
# ## 2. The old VAE: image to z_old
#
# The VAE gives a Gaussian rather than a point: a mean and a variance for each of the 64 numbers.
# These weights look at an image more than once. They warp it a little in a few fixed ways, and
# average the means of all these forms.

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
# One cursive form may stand for several kanji, so the answer is a density with several peaks. The
# density of the shipped weights is the **default, `anchored`**: each of its peaks is the address of
# a kanji in z_new, and the weight of a peak is the probability of that kanji. The ranked candidates
# are these weights. Further below you will see densities that generate z_new instead.

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
# The new VAE paints z_new. The decoder writes it, and looks at the picture while it writes. Drawing
# is random; the same seed gives the same drawing.

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
# `transfer` does all of this for many images at once. Weights may bring more knowledge of how sure
# a reading is, so its probabilities can differ from those above. Every drawing starts from its own
# z_new, drawn from the density. The drawings are ranked: the more probable their kanji and the
# better they fit its picture, the higher.

# %%
[result] = model.transfer(image, samples=8, seed=0)
show.rows({"drawings, best first": result.strokes})
result  # in a notebook a result shows itself

# %% [markdown]
# ## How sure is it?
#
# The model gives three answers. The **verdict** is *sure*, *not sure*, *kana* or *not a kanji*.
# Every candidate has a **probability**. The **uncertainty** map shows where in the picture the
# plausible readings differ, and can tint every stroke of a drawing.

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
# Nobody picked these by hand. They are images of the split val: first the wrong readings of which
# the model is surest, then the right ones of which it is least sure. Without real data they come
# from the sample, whose painted images the weights have never seen.

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
# Some of the wrong ones are not misread: the label is another form of the same character. Others
# are one stroke apart, and no reader could tell them apart without the text around them. The model
# knows no context.
#
# ## The paper's Figures 3 and 9
#
# The paper's Figure 3 shows inputs beside the kanji that its model draws. Figure 9 shows the way
# between them: input, reconstruction, predicted picture, and several drawings. Here are both in one
# table, for images that a seed chooses. `kuzushiji-transfer evaluate` makes the same table as
# `figure.svg`, from any split.

# %%
chosen = np.sort(np.random.default_rng(9).permutation(held)[:8])
drawn = model.transfer(corpus.old.images[chosen], samples=4, seed=0)
glyph = {chr(corpus.new.code_points[g]): corpus.new.images[g] for g in corpus.new.gallery()}
labels = [chr(p) for p in corpus.old.code_points[chosen]]
show.rows(
    {
        "input": [r.image for r in drawn],
        "the old VAE": [r.old_reconstruction for r in drawn],
        "predicted picture": [r.pixels for r in drawn],
        "uncertainty": [r.heatmap() for r in drawn],
        **{f"drawing {n + 1}": [r.strokes[n] for r in drawn] for n in range(4)},
        "truth": [glyph[c] for c in labels],
    },
    ["right" if r.candidates[0][0] == c else "wrong" for r, c in zip(drawn, labels)],
    0.8,
)

# %% [markdown]
# ## The other densities
#
# `anchored` chooses among the kanji that it knows. Three other forms *generate* z_new, as the paper
# does:
#
# - `factorised`, the paper's program: each of the 64 numbers has a mixture of its own, so that a
#   sample may mix two kanji;
# - `joint`, the paper's text: one mixture over the whole vector;
# - `flow`: a joint mixture that a normalising flow bends.
#
# The command line trains them with `python experiments/stage2_mdn.py --density flow`. Below, each
# is trained on the sample corpus for a few seconds, on the latents of the shipped VAEs. **These are
# toys:** they show that all forms share one interface, and how their samples differ. Their figures
# say nothing about real data.


# %%
def toy(density, direction="forward"):
    """A density that is trained on the sample for some seconds: its weights file."""
    config = mdn.suited(MDNConfig.tiny(), density, direction)
    config = MDNConfig(
        density=density,
        direction=direction,
        hidden=128,
        width=64,
        couplings=4,
        mixtures=10,
        noise=config.noise,
        temperature=0.5,
        batch=128,
        steps=200,
        warmup=20,
        ema=0.98,
    )
    task = mdn_task(config, corpus, WEIGHTS)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return loop.train(task, WORK / density / task.name)


WORK = Path(tempfile.mkdtemp(prefix="kuzushiji-notebook-"))
few = corpus.old.images[chosen[:6]]
z_few = jnp.asarray(encoding.encode_images(WEIGHTS, "old", few)[0])
drawn = {"input": list(few)}
print(
    f"{'density':<12}{'nats a dimension':>18}{'top 1':>8}{'top 10':>8}   (held-out, of the sample)"
)
for name in ("factorised", "joint", "flow"):
    weights_file = toy(name)
    measured = show.measured(weights_file)
    print(
        f"{name:<12}{measured['nll_per_dimension']:>18.2f}"
        f"{measured['top1']:>8.0%}{measured['top10']:>8.0%}"
    )
    graph, parameters, toy_gallery, _, _ = encoding.load_mdn(weights_file.parent)
    trained = nnx.merge(graph, parameters)
    for n in range(2):
        z = mdn.sample(trained, z_few, toy_gallery, jax.random.key(n), 0.5)
        drawn[f"{name}, {n + 1}"] = list(paint(np.asarray(z)))
drawn["truth"] = [glyph[c] for c in labels[:6]]
show.rows(drawn, size=0.9)

# %% [markdown]
# ## The way back
#
# Turned round, the density says how an old hand may have written a modern kanji: P(z_old | z_new).
# The command line trains it with `python experiments/stage2_mdn.py --direction back`, and the
# command `brush` paints with it. In Python it is `model.brush`. **Again this is a toy**: it has
# learned for some seconds how a program paints 220 kanji.

# %%
OWN = WORK / "weights"
shutil.copytree(WEIGHTS, OWN)
shutil.copy(toy("flow", "back"), OWN / "mdn_back.safetensors")
painter = KuzushijiTransfer.load(OWN)
brushed = [c for c in "花春山道" if c in glyph]
show.rows(
    {f"U+{ord(c):04X}": [glyph[c], *painter.brush(c, samples=8, seed=0)] for c in brushed},
    ["modern", *(f"brush {n + 1}" for n in range(8))],
    0.9,
)

# %% [markdown]
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
# `result.save("kami.svg")` writes a drawing. Other endings write other formats: `.json`, `.png`,
# `.pdf`, `.ndjson`, `.npz`. To read a picture of your own, change the path and run the cell again.

# %%
mine = EXAMPLES / "hana_U+82B1.png"
[result] = model.transfer(read_image(mine).image, samples=4)
result.save(WORK / f"{mine.stem}.svg")
result

# %% [markdown]
# Next: [04_train_your_own](04_train_your_own.ipynb) trains all stages.
