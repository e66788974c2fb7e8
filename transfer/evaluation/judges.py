"""The two classifiers of the evaluation: how they are trained, and how they answer.

- The *recogniser* is trained on KanjiVG's glyphs alone, with varied strokes. It never sees
  Kuzushiji or a generated drawing. It says which kanji a drawing is, as does the HOG judge (`hog`),
  which is not trained.
- The *baseline* is trained on the Kuzushiji images of the train split. Looking its answer up in
  KanjiVG is the honest alternative to drawing.

Whatever the recogniser sees is fitted to its bounding box, since placement should neither help nor
harm.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image
from tqdm import tqdm

from transfer.data.corpus import Corpus
from transfer.data.raster import rasterise
from transfer.data.strokes import BOX
from transfer.models import augment, classifier, distance_raster
from transfer.models.classifier import ClassifierConfig
from transfer.stages.encoding import corpus_provenance, new_examples, old_examples
from transfer.system.batches import in_batches
from transfer.system.devices import compiler_options
from transfer.training import weights
from transfer.training.examples import class_table, draw
from transfer.training.loop import Task

PRETRAINED = Path(__file__).parent / "pretrained"
MARGIN = 7.0
"""Margin around what is fitted, in box units."""
_SMALLEST = 4.0
"""Smallest extent in box units, so that a dot is not enlarged to a page."""


# Fitting to the bounding box ----------------------------------------------------------------------


def fit_strokes(strokes: list[np.ndarray]) -> list[np.ndarray]:
    """The drawing in its proportions, with its larger side filling the box up to the margin.

    strokes: (n, 2) polylines in box units. The fitted ones are float32.
    """
    if not strokes:
        return []
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = (BOX - 2 * MARGIN) / max(float((high - low).max()), _SMALLEST)
    return [((s - (low + high) / 2) * scale + BOX / 2).astype(np.float32) for s in strokes]


def strokes_image(strokes: list[np.ndarray]) -> np.ndarray:
    """The fitted drawing as (64, 64) uint8, ink 255 on paper 0; blank if there is no stroke."""
    return rasterise(fit_strokes(strokes))


def fit_image(picture: np.ndarray, ink: float = 0.35) -> np.ndarray:
    """A picture fitted as `fit_strokes` fits a drawing, (64, 64) uint8; a blank one stays blank.

    picture: (64, 64) float in [0, 1], ink 1.
    ink: pixels above it count as ink.
    """
    picture = np.clip(np.nan_to_num(np.asarray(picture, np.float32)), 0, 1)
    rows, columns = np.flatnonzero((picture > ink).any(1)), np.flatnonzero((picture > ink).any(0))
    if not len(rows):
        return np.zeros(picture.shape, np.uint8)
    size = picture.shape[0]
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    # Strokes are fitted by their middle line, pictures by their ink: one stroke's width more.
    scale = (size * (1 - (2 * MARGIN - 3.0) / BOX)) / max(height, width, size * _SMALLEST / BOX)
    middle = np.array([columns[0] + width / 2, rows[0] + height / 2])
    offset = middle - size / 2 / scale
    fitted = Image.fromarray(np.uint8(np.round(255 * picture))).transform(
        (size, size),
        Image.Transform.AFFINE,
        (1 / scale, 0, offset[0], 0, 1 / scale, offset[1]),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(fitted)


# The recogniser's glyphs --------------------------------------------------------------------------


def render_views(
    corpus: Corpus, glyphs: np.ndarray, views: int, seed: int, progress: str = ""
) -> np.ndarray:
    """Every glyph drawn several times, as another hand would write it.

    Each stroke is moved, turned and scaled a little. The glyph is turned, sheared, stretched and
    bent, and fitted to its bounding box. The pen is 2 to 6 units wide.

    glyphs: (G,) int, indices into corpus.new.
    views: how often each is drawn.
    progress: what the bar is called; none without it.

    Returns (G, views, 64, 64) uint8, ink 255 on paper 0.
    """
    random = np.random.default_rng(seed)
    drawings = [corpus.new.strokes(int(g)) for g in glyphs]
    lengths = [len(s) for d in drawings for s in d]
    points = np.concatenate([s for d in drawings for s in d]).astype(np.float64)
    stroke = np.repeat(np.arange(len(lengths)), lengths)
    glyph = np.repeat(np.arange(len(drawings)), [sum(map(len, d)) for d in drawings])
    stroke_start, glyph_start = (np.flatnonzero(np.diff(a, prepend=-1)) for a in (stroke, glyph))
    out = np.zeros((len(glyphs), views, 64, 64), np.uint8)
    _, mask = distance_raster.pad(drawings)
    place = np.concatenate([np.arange(sum(map(len, d))) for d in drawings])

    def turned(offset, angle, scale, which):
        cos, sin = np.cos(angle)[which], np.sin(angle)[which]
        x, y = offset[:, 0] * scale[which, 0], offset[:, 1] * scale[which, 1]
        return np.stack([cos * x - sin * y, sin * x + cos * y], 1)

    bar = tqdm(
        total=views * len(glyphs), desc=progress, unit="glyph", disable=None if progress else True
    )
    for view in range(views):
        strokes_n, glyphs_n = len(lengths), len(drawings)
        middle = (np.add.reduceat(points, stroke_start) / np.array(lengths)[:, None])[stroke]
        moved = middle + turned(
            points - middle,
            random.normal(0, 0.05, strokes_n),
            np.exp(random.normal(0, 0.06, (strokes_n, 2))),
            stroke,
        )
        moved += random.normal(0, 1.3, (strokes_n, 2))[stroke] - BOX / 2
        moved[:, 0] += random.normal(0, 0.1, glyphs_n)[glyph] * moved[:, 1]
        moved = turned(
            moved,
            random.normal(0, 0.06, glyphs_n),
            np.exp(random.normal(0, 0.1, (glyphs_n, 2))),
            glyph,
        )
        for _ in range(2):
            wave = random.normal(0, 0.6, (glyphs_n, 2))[glyph]
            phase = (
                random.uniform(0, 2 * np.pi, glyphs_n)[glyph]
                + 2 * np.pi * (wave * moved).sum(1) / BOX
            )
            moved = moved + random.normal(0, 1.5, (glyphs_n, 2))[glyph] * np.sin(phase)[:, None]
        low, high = np.minimum.reduceat(moved, glyph_start), np.maximum.reduceat(moved, glyph_start)
        scale = (BOX - 2 * MARGIN) / np.maximum((high - low).max(1), _SMALLEST)
        moved = (moved - ((low + high) / 2)[glyph]) * scale[glyph, None] + BOX / 2
        padded = np.zeros((glyphs_n, mask.shape[1] + 1, 2), np.float32)
        padded[glyph, place] = moved
        width = random.uniform(2.0, 6.0, (glyphs_n, 1, 1)).astype(np.float32)
        for at in range(0, glyphs_n, 128):
            index = np.minimum(
                np.arange(at, at + 128), glyphs_n - 1
            )  # the last one again fills the batch
            drawn = distance_raster.rasterise(padded[index], mask[index], width=width[index])
            out[at : at + 128, view] = np.uint8(np.round(255 * np.asarray(drawn)))[: glyphs_n - at]
            bar.update(min(128, glyphs_n - at))
    bar.close()
    return out


def clean_images(corpus: Corpus, glyphs: np.ndarray) -> np.ndarray:
    """The published glyphs, fitted to their bounding boxes.

    glyphs: (G,) int, indices into corpus.new.

    Returns (G, 64, 64) uint8, ink 255 on paper 0.
    """
    return np.stack([strokes_image(corpus.new.strokes(int(g))) for g in glyphs])


def recogniser_task(config: ClassifierConfig, corpus: Corpus, seed: int = 0) -> Task:
    """The training of the recogniser, of every kanji of KanjiVG.

    It is measured on the published glyphs, and on a rendering of each by a hand that is not trained
    on, as it is and warped.
    """
    gallery = corpus.new.gallery()
    held = render_views(corpus, gallery, 1, seed + 1_000_003, "held-out glyphs")[:, 0]
    images = render_views(corpus, gallery, config.views, seed, "glyphs")
    labels = np.repeat(np.arange(len(gallery), dtype=np.int32), config.views)
    tests = {
        "clean": (clean_images(corpus, gallery), np.arange(len(gallery))),
        "held_out": (held, np.arange(len(gallery))),
    }
    warped = jax.jit(lambda batch, key: augment.augment(batch, key, "warp", config.warp))
    parts = [
        np.asarray(warped(held[at : at + 128], jax.random.key(at)))
        for at in range(0, len(held), 128)
    ]
    tests["held_out_warped"] = (
        np.uint8(np.round(255 * np.concatenate(parts))),
        np.arange(len(gallery)),
    )
    return _task(
        "recogniser",
        config,
        corpus,
        images.reshape(-1, 64, 64),
        labels,
        corpus.new.code_points[gallery],
        tests,
    )


def baseline_task(config: ClassifierConfig, corpus: Corpus) -> Task:
    """The training of the baseline, of the kanji of the train split. It is measured on val."""
    chosen, points = old_examples(corpus, "train")
    known = np.isin(points, corpus.new.code_points[new_examples(corpus, False)])
    classes, labels = np.unique(points[known], return_inverse=True)
    held, held_points = old_examples(corpus, "val")
    seen = np.isin(held_points, classes)
    tests = {"val": (corpus.old.images[held[seen]], np.searchsorted(classes, held_points[seen]))}
    return _task(
        "baseline", config, corpus, corpus.old.images[chosen[known]], labels, classes, tests
    )


def _task(name, config, corpus, images, labels, classes, tests) -> Task:
    graph, _ = nnx.split(
        nnx.eval_shape(lambda: classifier.Classifier(config, len(classes), nnx.Rngs(0)))
    )

    def init(key):
        return nnx.to_pure_dict(
            nnx.split(classifier.Classifier(config, len(classes), nnx.Rngs(params=key)))[1]
        )

    def loss(params, data, key, variant):
        draw_key, augment_key = jax.random.split(key)
        index, label = draw(data["table"], config.batch, draw_key)
        batch = augment.augment(data["images"][index], augment_key, "warp", config.warp)
        return classifier.loss(nnx.merge(graph, params), config, batch, label)

    # What the trained network standardises with: training images as it has met them.
    known = np.random.default_rng(0).choice(len(images), min(2048, len(images)), replace=False)
    known = jnp.asarray(images[np.sort(known)])

    @jax.jit
    def measured(params):
        seen = augment.augment(known, jax.random.key(0), "warp", config.warp)
        return classifier.statistics(nnx.merge(graph, params).features(seen))

    @jax.jit
    def answer(params, norm, images):
        model = nnx.merge(graph, params)
        return model.read(model.features(augment.to_float(images)), *norm).argmax(-1)

    def evaluate(params):
        values, norm = {}, measured(params)
        for test, (held, label) in (
            (name, found) for name, found in tests.items() if len(found[1])
        ):
            answers = in_batches(lambda part: answer(params, norm, part), held, (256,))
            values[f"{test}_accuracy"] = float((answers == label).mean())
        return values

    def export(params):
        mean, variance = measured(params)
        return {
            "classes": np.asarray(classes, np.int32),
            "feature_mean": np.asarray(mean),
            "feature_variance": np.asarray(variance),
        }

    return Task(
        name,
        config,
        init,
        loss,
        {"images": images, "table": class_table(labels, config.balance)},
        evaluate,
        export=export,
        provenance=corpus_provenance(corpus),
    )


# Asking them --------------------------------------------------------------------------------------


class Judge:
    """A trained classifier.

    classes: (C,) int32, the code points that it tells apart, ascending.
    sample: whether it was trained on the built-in sample corpus.
    """

    def __init__(self, folder: Path, name: str):
        """Load the classifier `name` ("recogniser" or "baseline") from a weights or runs folder.

        Raises WeightsError if the folder has no such weights.
        """
        self.name = name
        params, arrays, described = weights.load(weights.find(folder, name))
        self.params = jax.device_put(params)
        config = weights.config(ClassifierConfig, described)
        self.classes, self.sample = arrays["classes"], bool(described.get("data", {}).get("sample"))
        graph, _ = nnx.split(
            nnx.eval_shape(lambda: classifier.Classifier(config, len(self.classes), nnx.Rngs(0)))
        )
        norm = arrays["feature_mean"], arrays["feature_variance"]

        @partial(jax.jit, compiler_options=compiler_options())
        def ask(params, images):
            model = nnx.merge(graph, params)
            return jax.nn.log_softmax(model.read(model.features(augment.to_float(images)), *norm))

        self._ask = ask

    def log_probabilities(self, images: np.ndarray) -> np.ndarray:
        """The natural logarithm of each class's probability, (n, C) float32.

        images: (n, 64, 64) uint8, ink 255 on paper 0.
        """
        return in_batches(lambda part: self._ask(self.params, part), images, (64,))
