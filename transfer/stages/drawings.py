"""What both stroke decoders share: batches by length, for training and for writing, and measurement
on held-out drawings.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from flax import nnx

from transfer.models import mdn
from transfer.stages.encoding import encode_images, new_examples, old_latents
from transfer.system.batches import in_batches
from transfer.system.devices import float32

DRAWINGS = (10, 160)
"""Numbers of drawings for which programs are compiled: a few, or many at once."""
MEASURED = 64
"""How many drawings' likelihoods are measured at once."""


WRITERS = 2
"""How many batches of drawings are written at once: a compiled loop keeps a CPU's cores busy only
during its matrix products."""


def write_drawings(
    decoder,
    z: np.ndarray,
    pictures: np.ndarray,
    keys: np.ndarray,
    temperature: float,
    sizes: tuple[int, ...] = DRAWINGS,
    total: int | None = None,
) -> tuple[list, np.ndarray]:
    """A drawing of each z (n, 64), and its likeness to its picture, (n,) float32.

    decoder: from `decoders.load_decoder`.
    pictures: (n, 64, 64). keys: (n, 2) uint32, the data of random keys.
    sizes: batch sizes for which programs are compiled, ascending.
    total: the number of drawings by which one of them is chosen [n].
    """
    number = len(z)
    drawings, alike = [None] * number, np.zeros(number, np.float32)
    size = next((s for s in sizes if s >= (total or number)), sizes[-1])
    # Drawings that take alike long go together.
    lengths = decoder.lengths(z, pictures)
    order = np.argsort(lengths, kind="stable")

    @float32
    def write(chosen: np.ndarray) -> None:
        # The last drawing again fills the batch.
        index = np.concatenate([chosen, np.repeat(chosen[-1:], size - len(chosen))])
        part, found = decoder.draw(
            z[index], pictures[index], keys[index], temperature, lengths[index]
        )
        for i, drawing, value in zip(chosen, part, found):
            drawings[i], alike[i] = drawing, value

    parts = [order[at : at + size] for at in range(0, number, size)]
    if len(parts) == 1:
        write(parts[0])
    else:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, parts))
    return drawings, alike


def bucketed(count: np.ndarray, buckets: int, most: int, seed: int):
    """Examples by length, as training draws them.

    count: (N,), each example's length.
    buckets: the number of buckets.
    most: the longest length for which a program may be compiled.

    Returns the examples of each bucket, a list of (n,) int32; the length for which each is
    compiled; and step group -> bucket.
    """
    order = np.argsort(count, kind="stable")
    ends = [len(order) * (b + 1) // buckets for b in range(buckets)]
    members = [order[a:b].astype(np.int32) for a, b in zip([0, *ends], ends)]
    share = np.array([len(b) for b in members]) / len(order)
    lengths = [min(int(-(-count[b].max() // 2) * 2), most) for b in members]
    return (
        members,
        lengths,
        lambda group: int(np.random.default_rng([seed, group]).choice(buckets, p=share)),
    )


def held_out_drawings(
    corpus, folder, forms, density, picture_of, strokes_of, limit: int = 256
) -> dict:
    """Drawings that a decoder is measured on, by name.

    variants: KanjiVG's variant forms, on their own z_new.
    gallery: kanji that are trained on, on their own z_new.
    val: if there is a density, the kanji of val images, on the z_new predicted for them.

    picture_of: z_new (n, 64) -> pictures (n, 64, 64), for a decoder that needs them.
    strokes_of: glyphs (n,) -> what the decoder writes of them, and its lengths (n,).
    limit: the most drawings of each kind.

    Returns name -> (strokes, lengths, condition).
    """

    def conditions(z):
        return {"z": z} | ({"picture": picture_of(z)} if picture_of else {})

    random = np.random.default_rng(0)
    gallery, held = corpus.new.gallery(), {}
    others = np.setdiff1d(new_examples(corpus, True), gallery)
    others = random.permutation(others)[:limit]
    if len(others):
        mean, _ = encode_images(folder, "new", corpus.new.images[others])
        held["variants"] = (*strokes_of(others), conditions(mean))
    sample = np.sort(random.permutation(len(gallery))[:limit])
    held["gallery"] = (*strokes_of(gallery[sample]), conditions(forms.mean[sample]))
    z_old, label = np.zeros((0, 0)), ()
    if density:
        graph, params, anchors, _, _ = density
        z_old, _, label = old_latents(folder, corpus, "val", forms.code_points)
    if len(label):
        chosen = random.permutation(len(label))[:limit]
        model = nnx.merge(graph, params)
        z_new = np.asarray(
            mdn.sample(
                model,
                z_old[chosen],
                anchors,
                jax.random.key(0),
                min(0.25, model.config.temperature),
            )
        )
        held["val"] = (*strokes_of(gallery[label[chosen]]), conditions(z_new))
    return held


def likelihoods(measure: Callable, held: dict, unit: str) -> dict[str, float]:
    """NLL per point or stroke of held-out drawings, with their own condition and with another's.

    measure: (strokes, lengths, condition) -> NLL of each drawing.
    held: from `held_out_drawings`.
    unit: what the lengths count.
    """
    values = {}
    for name, (rows, count, condition) in held.items():
        for suffix, shift in (("", 0), ("_wrong_z", 1)):
            shifted = {k: np.roll(v, shift, 0) for k, v in condition.items()}
            nll = in_batches(lambda part: measure(*part), (rows, count, shifted), (MEASURED,))
            values[f"{name}_nll_per_{unit}{suffix}"] = float(nll.sum() / count.sum())
    return values
