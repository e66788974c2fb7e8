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
# A *variational autoencoder* (VAE) squeezes a 64 x 64 picture through 64 numbers and paints it
# again from them. Two of them are trained, one for each domain, and they never meet:
#
# - **z_old** is what the VAE of Kuzushiji images keeps of an image: of the hand, the brush, and the
# character; - **z_new** is what the VAE of modern glyphs keeps of a kanji. It is the address at
# which a kanji lives; what lies between two addresses can be   painted and written as well.
#
# A third network, the density P(z_new | z_old), is the bridge between them
# ([03_transfer](03_transfer.ipynb)). Here we walk through both spaces, with the weights that come
# with the project (or with those that `WEIGHTS` names).

# %%

import ipywidgets
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
from transfer.output.sheet import draw_strokes
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
# The weights bring the addresses of all their kanji along (the *gallery*), so this needs no data.
# UMAP lays 2,000 of them out in a plane. Left: coloured by radical, the part under which a
# dictionary lists a kanji. Right: by the number of strokes. Nobody told the VAE of either.

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
# Of each kanji its five nearest in z_new, as the new VAE paints them.

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
# Ten steps along a straight line between two addresses: what the new VAE paints there, and what the
# decoder writes. Where the picture is half one and half the other, the strokes have to choose.

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
# A unit is *active* when it carries something: when its posterior is far from the prior, measured
# in nats (the KL divergence). Below, the six most active units of z_new, each moved through the
# range that it has over all kanji while the other 63 numbers stay.

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
# ## Drag through latent space and watch the strokes change
#
# From one kanji towards another, and along one unit (this needs a running notebook).


# %%
@ipywidgets.interact(
    start=ipywidgets.Text("花", description="from", continuous_update=False),
    end=ipywidgets.Text("雪", description="to", continuous_update=False),
    way=ipywidgets.FloatSlider(
        0.0, min=0, max=1, step=0.05, description="way", continuous_update=False
    ),
    unit=ipywidgets.IntSlider(
        int(units[0]), 0, z_new.shape[1] - 1, description="unit", continuous_update=False
    ),
    by=ipywidgets.FloatSlider(
        0.0, min=-4, max=4, step=0.25, description="moved by", continuous_update=False
    ),
)
def walk(start, end, way, unit, by):
    if start not in address or end not in address:
        return f"choose two of the {len(characters):,} kanji of the gallery"
    z = address[start] + way * (address[end] - address[start])
    z[unit] += by
    return draw_strokes(model.write(z)[0][0], 240)


walk("花", "雪", 0.3, int(units[0]), 1.0)

# %% [markdown]
# ## The other side: z_old
#
# Now images. Up to 12 training images of each of up to 200 characters are the crowd, one image of
# the val split of each is what we ask about. A neighbour of the same character is what the density
# needs: it can only tell apart what z_old keeps apart.

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
# ## What z_old cannot tell apart
#
# Images whose nearest neighbour in z_old is another character, the closest ones first. Often it is
# the label that is fine and the hand that makes two characters one; often two characters share all
# but a dot.

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
    glyph = {int(corpus.new.code_points[g]): corpus.new.images[g] for g in corpus.new.gallery()}
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
# The same straight line in z_old, as the old VAE paints it, and below it the kanji that the model
# thinks likeliest on the way. z_old is kept for telling characters apart more than for painting, so
# its pictures are blurred.

# %%
graph, parameters, _, _ = encoding.load_vae(WEIGHTS, "old")
density_graph, density_parameters, gallery, code_points, _ = encoding.load_mdn(WEIGHTS)
a, b = z_asked[len(z_asked) // 3], z_asked[len(z_asked) // 2]
line = jnp.asarray(a + np.linspace(0, 1, 10, dtype=np.float32)[:, None] * (b - a))
painted = np.asarray(jax.nn.sigmoid(nnx.merge(graph, parameters).decode(line)))
likeliest = np.asarray(
    mdn.candidate_scores(nnx.merge(density_graph, density_parameters), line, gallery)
).argmax(1)
show.rows(
    {"the old VAE": list(painted), "likeliest kanji": list(paint(z_new[likeliest]))},
    [f"U+{code_points[i]:04X}" for i in likeliest],
)

# %% [markdown]
# Next: [03_transfer](03_transfer.ipynb), one image through the whole path.
