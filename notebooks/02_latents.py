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
# # 2. The two latent spaces
#
# **What you will see:** a map of all kanji, pictures on the way from one kanji to another, what
# each VAE keeps of an image (the paper's Figure 10), and where two cursive characters become one.
# **How long it takes:** about a minute and a half on two idle cores. It needs no download.
#
# A *variational autoencoder* (VAE) squeezes a 64 x 64 picture through 64 numbers and paints it
# again from them. This project trains two of them, one for each domain, without any link between
# them:
#
# - **z_old** is what the VAE of Kuzushiji images keeps of an image: the hand, the brush, and the
#   character;
# - **z_new** is what the VAE of modern glyphs keeps of a kanji. Every kanji has an address in this
#   space, and the points between two addresses can be painted and written as well.
#
# A third network, the density P(z_new | z_old), is the bridge between the two
# ([03_transfer](03_transfer.ipynb)). Here we walk through both spaces with the weights that come
# with the project, or with those that `WEIGHTS` names.

# %%

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import show
from flax import nnx

from transfer import KuzushijiTransfer
from transfer.data import corpus as corpora
from transfer.inference.pipeline import PRETRAINED
from transfer.models import mdn, vae
from transfer.reading_aids import aid
from transfer.stages import encoding
from transfer.system.process import keep_compiled

WEIGHTS = PRETRAINED  # or Path("../runs/small"), what your own training left

keep_compiled()
corpus = corpora.load(quiet=True)
model = KuzushijiTransfer.load(WEIGHTS)
paint = encoding.painter(WEIGHTS)  # z_new (n, 64) -> pictures (n, 64, 64), ink 1
random = np.random.default_rng(0)
print("the built-in sample" if corpus.is_sample else f"the published files in {corpus.folder}")

# %% [markdown]
# ## Where the kanji live: z_new
#
# The weights hold the addresses of all their kanji (the *gallery*), so this map needs no data. UMAP
# arranges 2,000 of them in a plane. On the left the colour shows the radical, the part under which
# a dictionary lists a kanji. On the right it shows the number of strokes.

# %%
characters = np.array(model.characters)
z_new = np.asarray(model.gallery.mean)
address = {c: z_new[i] for i, c in enumerate(characters)}


def maps(vectors, shown, name):
    """Two maps of vectors (N, 64) and the characters (N,) they show, and what a neighbour tells of
    radical and stroke count."""
    radicals, strokes = (
        np.array([getattr(aid(c), field) for c in shown]) for field in ("radical", "strokes")
    )
    common = [
        r for r in sorted(set(radicals), key=lambda r: (-(radicals == r).sum(), r)) if r in address
    ][:8]
    pictures = dict(enumerate(paint(np.stack([address[r] for r in common]))))
    xy = show.flat(vectors)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.8), layout="constrained")
    show.scatter(
        left,
        xy,
        np.array([common.index(r) if r in common else -1 for r in radicals]),
        pictures,
        f"{name}: the eight commonest radicals",
    )
    points = right.scatter(*xy.T, s=5, c=strokes, cmap="viridis")
    right.set(xticks=[], yticks=[])
    right.set_title(f"{name}: strokes", fontsize=9)
    figure.colorbar(points)
    plt.show()
    near, other = (
        show.neighbours(vectors, classes=shown)[:, 0],
        np.random.default_rng(0).permutation(len(vectors)),
    )
    for who, index in (("the nearest of another character", near), ("a random one", other)):
        print(
            f"{who:<33} has the same radical for {np.mean(radicals[index] == radicals):.0%}, and "
            f"{np.abs(strokes[index] - strokes).mean():.1f} strokes more or less"
        )


shown = random.permutation([i for i, c in enumerate(characters) if aid(c)])[:2000]
maps(z_new[shown], characters[shown], "z_new")

# %% [markdown]
# ## What the neighbours are
#
# Each row shows a kanji and its five nearest neighbours in z_new, as the new VAE paints them.

# %%
asked = [c for c in "花春国月神道" if c in address]
place = {c: i for i, c in enumerate(characters)}
near = show.neighbours(z_new, 5)[[place[c] for c in asked]]
show.rows(
    {
        f"U+{ord(c):04X}": list(paint(np.stack([address[c], *z_new[n]])))
        for c, n in zip(asked, near)
    },
    ["itself", *(f"{i + 1}." for i in range(5))],
    0.9,
)

# %% [markdown]
# ## From one kanji to another
#
# We take ten steps along a straight line between two addresses. The upper row shows what the new
# VAE paints there, the lower row what the decoder writes. Halfway, where the picture is a bit of
# both, the strokes have to choose.

# %%
pairs = [("花", "草"), ("休", "体")]
lines = {
    f"U+{ord(a):04X} to U+{ord(b):04X}": (
        address[a] + np.linspace(0, 1, 10)[:, None] * (address[b] - address[a])
    )
    for a, b in pairs
    if a in address and b in address
}
content = {}
for name, line in lines.items():
    content |= {
        name: list(paint(line.astype(np.float32))),
        f"written{' ' * len(content)}": [drawn[0] for drawn in model.write(line)],
    }
show.rows(content)

# %% [markdown]
# ## One number at a time
#
# A unit is *active* when it carries information: when its posterior is far from the prior, measured
# in nats (the KL divergence). Below, each of the six most active units of z_new moves through the
# range that it has over all kanji, while the other 63 numbers stay where they are.

# %%
kl = np.asarray(vae.kl_divergence(model.gallery.mean, model.gallery.log_variance)).mean(0)
units = np.argsort(-kl)[:6]
print(
    f"z_new: {kl.sum():.0f} nats a kanji; {np.sum(z_new.var(0) > 0.01)} of {len(kl)} units are"
    f" active; the most active has {kl.max():.2f} nats, the least {kl.min():.2f}"
)
start = address[asked[0]]
content = {}
for unit in units:
    steps = np.repeat(start[None], 9, 0)
    steps[:, unit] = np.linspace(*np.quantile(z_new[:, unit], (0.005, 0.995)), 9)
    content[f"unit {unit}, {kl[unit]:.1f} nats"] = list(paint(steps))
show.rows(content)

# %% [markdown]
# ## Walk on your own
#
# Change the kanji, the unit and its range, and run the cell again.

# %%
start, end, unit = "春", "雪", int(units[0])
steps = np.linspace(0, 1, 10, dtype=np.float32)[:, None]
line = address[start] + steps * (address[end] - address[start])
moved = line.copy()
moved[:, unit] += np.linspace(-2, 2, 10)
show.rows(
    {
        "written": [drawn[0] for drawn in model.write(line)],
        f"and unit {unit} moved": [drawn[0] for drawn in model.write(moved)],
    }
)

# %% [markdown]
# ## The other side: z_old
#
# Now we turn to images. The crowd is up to 12 training images of each of up to 200 characters. The
# questions are the images of the same characters in the split val. The density can only tell apart
# what z_old keeps apart, so an image should have a neighbour of its own character.

# %%
train, val = (corpus.old.indices(s) for s in ("train", "val"))
points = np.asarray(corpus.old.code_points)
known = [
    p
    for p in np.unique(points[val])
    if chr(p) in address and aid(chr(p)) and np.sum(points[train] == p) >= 3
]
known = np.sort(random.permutation(known)[:200])
crowd = np.concatenate([random.permutation(train[points[train] == p])[:12] for p in known])
asked_images = val[np.isin(points[val], known)]
z_crowd, log_variance = encoding.encode_images(WEIGHTS, "old", corpus.old.images[crowd])
z_asked, _ = encoding.encode_images(WEIGHTS, "old", corpus.old.images[asked_images])
kl_old = np.asarray(vae.kl_divergence(z_crowd, log_variance)).mean(0)
print(
    f"{len(crowd):,} images of {len(known)} characters; z_old: {kl_old.sum():.0f} nats an image,"
    f" {np.sum(z_crowd.var(0) > 0.01)} units active"
)
part = random.permutation(len(crowd))[:1500]
maps(z_crowd[part], np.array([chr(p) for p in points[crowd[part]]]), "z_old")

# %% [markdown]
# ## What the VAEs keep: the paper's Figure 10
#
# The paper's Figure 10 shows images of both domains beside what their VAEs paint of them. Here are
# images of the split val that are chosen by a seed, and their modern glyphs. A reconstruction that
# lacks a stroke tells you what 64 numbers could not hold.

# %%
some = np.sort(np.random.default_rng(1).permutation(asked_images)[:10])
glyph = {int(corpus.new.code_points[g]): corpus.new.images[g] for g in corpus.new.gallery()}
graph, parameters, _, _ = encoding.load_vae(WEIGHTS, "old")
paint_old = lambda z: np.asarray(jax.nn.sigmoid(nnx.merge(graph, parameters).decode(z)))
old_images = corpus.old.images[some]
new_images = np.stack([glyph[int(p)] for p in points[some]])
old_painted = paint_old(jnp.asarray(encoding.encode_images(WEIGHTS, "old", old_images)[0]))
new_painted = paint(encoding.encode_images(WEIGHTS, "new", new_images)[0])
show.rows(
    {
        "old image": list(old_images),
        "the old VAE": list(old_painted),
        "modern glyph": list(new_images),
        "the new VAE": list(new_painted),
    },
    size=0.9,
)
for name, images, painted in (("old", old_images, old_painted), ("new", new_images, new_painted)):
    print(f"mean absolute error a pixel, {name}: {np.abs(images / 255 - painted).mean():.3f}")

# %% [markdown]
# ## What z_old cannot tell apart
#
# These are images whose nearest neighbour in z_old is another character, the closest ones first.
# Often the hand makes two characters look like one. Often two characters differ by a dot.

# %%
distance = np.linalg.norm(z_asked[:, None] - z_crowd[None], axis=2)
nearest = distance.argmin(1)
wrong = np.flatnonzero(points[asked_images] != points[crowd[nearest]])
print(
    f"val: {1 - len(wrong) / len(asked_images):.0%} of the {len(asked_images)} images have a"
    " nearest neighbour of their own character in z_old",
    end="",
)
flat = lambda index: corpus.old.images[index].reshape(len(index), -1).astype(np.float32)
by_pixels = points[
    crowd[((flat(crowd) ** 2).sum(1) / 2 - flat(asked_images) @ flat(crowd).T).argmin(1)]
]
print(
    f", {np.mean(by_pixels == points[asked_images]):.0%} by their pixels; among {len(known)}"
    " characters, not among thousands"
)
wrong = wrong[np.argsort(distance[wrong, nearest[wrong]])][:9]
if len(wrong):
    show.rows(
        {
            "image": [corpus.old.images[asked_images[w]] for w in wrong],
            "its kanji": [glyph[points[asked_images[w]]] for w in wrong],
            "nearest in z_old": [corpus.old.images[crowd[nearest[w]]] for w in wrong],
            "that one's kanji": [glyph[points[crowd[nearest[w]]]] for w in wrong],
        }
    )

# %% [markdown]
# ## Between two images
#
# The same kind of straight line in z_old, as the old VAE paints it. Below it stands the kanji that
# the model finds likeliest at each step. The old VAE is trained to tell characters apart more than
# to paint them, so its pictures are blurred.

# %%
density_graph, density_parameters, gallery, code_points, _ = encoding.load_mdn(WEIGHTS)
a, b = z_asked[len(z_asked) // 3], z_asked[len(z_asked) // 2]
line = jnp.asarray(a + np.linspace(0, 1, 10, dtype=np.float32)[:, None] * (b - a))
likeliest = np.asarray(
    mdn.candidate_scores(nnx.merge(density_graph, density_parameters), line, gallery)
).argmax(1)
show.rows(
    {"the old VAE": list(paint_old(line)), "likeliest kanji": list(paint(z_new[likeliest]))},
    [f"U+{code_points[i]:04X}" for i in likeliest],
)

# %% [markdown]
# Next: [03_transfer](03_transfer.ipynb) follows one image through the whole path.
