"""Figures of a classifier: its learning curves, what it confuses (with the images), where it looks,
and how its features separate the classes."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from transfer.baselines import discriminant
from transfer.baselines.datasets import Labelled
from transfer.evaluation.classification import Answers, confused
from transfer.models import augment
from transfer.system.files import atomic_write

CELL = 56


def _axes(width: float, height: float, panels: int = 1):
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained", dpi=110)
    return figure, figure.subplots(1, panels)


def _save(figure, path: Path) -> None:
    with atomic_write(path) as part:
        figure.savefig(part, format="png")


def curves(metrics: Path, path: Path) -> None:
    """Training loss, and loss and accuracy on held-out images, by step."""
    lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    figure, (left, right) = _axes(9, 3.4, 2)
    for axes, name in ((left, "cross_entropy"), (right, "accuracy")):
        for prefix, label, style in (
            ("", "training batches", "-"),
            ("val/", "held-out images", "o-"),
        ):
            points = [
                (line["step"], line[prefix + name]) for line in lines if prefix + name in line
            ]
            if points:
                axes.plot(*zip(*points), style, label=label, markersize=4, linewidth=1)
        axes.set(
            xlabel="step",
            ylabel={"cross_entropy": "cross-entropy, nats", "accuracy": "share right"}[name],
        )
        axes.grid(alpha=0.3)
    left.legend()
    _save(figure, path)


def matrix(cases: Answers, names: list[str], path: Path) -> None:
    """Confusion matrix of up to 50 classes. A row is a true class and sums to 1; code points label
    both sides."""
    table = np.zeros((len(names), len(names)))
    np.add.at(table, (cases.labels, cases.chosen), 1)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = 3 + 0.22 * len(names)
    figure, axes = _axes(side + 1, side)
    shown = axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    ticks = [n if n.isascii() else f"U+{ord(n):04X}" for n in names]
    axes.set_xticks(range(len(names)), ticks, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), ticks, fontsize=7)
    axes.set(xlabel="answered", ylabel="true")
    figure.colorbar(shown, label="square root of the share", shrink=0.7)
    _save(figure, path)


def sheet(cases: Answers, data: Labelled, path: Path, rows: int = 14, images: int = 8) -> None:
    """The commonest confusions, one in each row: a typical training image of the true class, one of
    the answered class, then the images that were mistaken."""
    pairs, font = confused(cases)[:rows], ImageFont.load_default(12)
    page = Image.new(
        "RGB", (150 + (images + 2) * (CELL + 6) + 20, 24 + max(1, len(pairs)) * (CELL + 8)), "white"
    )
    pen = ImageDraw.Draw(page)
    for x, text in (
        (150, "true"),
        (150 + CELL + 6, "answered"),
        (150 + 2 * (CELL + 6) + 20, "mistaken images"),
    ):
        pen.text((x, 4), text, (110, 110, 110), font)
    if not pairs:
        pen.text((6, 30), "nothing was mistaken", "black", font)
    for row, (true, answered, wrong) in enumerate(pairs):
        y = 24 + row * (CELL + 8)
        pen.text(
            (6, y + CELL // 2 - 14),
            f"{_name(data, true)} read as\n{_name(data, answered)}: {len(wrong)} times",
            "black",
            font,
        )
        known = [typical(data, c) for c in (true, answered)]
        for column, image in enumerate([*known, *data.test_images[wrong[:images]]]):
            picture = Image.fromarray(255 - np.asarray(image)).resize(
                (CELL, CELL), Image.Resampling.NEAREST
            )
            x = 150 + column * (CELL + 6) + 20 * (column > 1)
            page.paste(picture, (x, y))
            pen.rectangle(
                (x - 1, y - 1, x + CELL, y + CELL),
                outline=(190, 210, 190) if column < 2 else (225, 190, 190),
            )
    with atomic_write(path) as part:
        page.save(part, "PNG")


def typical(data: Labelled, label: int) -> np.ndarray:
    """The training image (S, S) uint8 of the class that is nearest to the mean of its first 500."""
    images = np.asarray(data.train_images[np.flatnonzero(data.train_labels == label)[:500]])
    return images[np.square(images - images.mean(0)).sum((1, 2)).argmin()]


def _name(data: Labelled, label: int) -> str:
    """A class by its code point, so that no Japanese font is needed."""
    name = data.names[label]
    return name if name.isascii() else f"U+{ord(name):04X}"


def choose(data: Labelled, classes: int = 10, images: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and of held-out images of the classes with the most training images, at
    most `images` of each class."""
    common = np.argsort(-data.train_count, kind="stable")[:classes]
    first = lambda labels: np.sort(
        np.concatenate([np.flatnonzero(labels == c)[:images] for c in common])
    )
    return first(data.train_labels), first(data.test_labels)


def embedding(
    train: np.ndarray,
    test: np.ndarray,
    data: Labelled,
    chosen: tuple[np.ndarray, np.ndarray],
    path: Path,
) -> None:
    """Features in the plane that separates the classes best. The plane is found on training images
    (dots); held-out images are shown in it too (rings).

    train, test: features (n, D) of the images chosen = (indices of train, indices of test);
    pictures stand at the classes' means.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    labels = data.train_labels[chosen[0]]
    classes, which = np.unique(labels, return_inverse=True)
    plane = discriminant.fit(train, which, len(classes), 2)
    figure, axes = _axes(8, 7)
    at = train @ plane.kernel + plane.bias
    axes.scatter(
        at[:, 0], at[:, 1], c=[f"C{c % 10}" for c in which], s=6, alpha=0.5, label="training images"
    )
    held, colour = (
        test @ plane.kernel + plane.bias,
        np.searchsorted(classes, data.test_labels[chosen[1]]),
    )
    axes.scatter(
        held[:, 0],
        held[:, 1],
        s=22,
        facecolors="none",
        edgecolors=[f"C{c % 10}" for c in colour],
        linewidths=0.8,
        label="held-out images",
    )
    for c, label in enumerate(classes):
        picture = 255 - typical(data, label)
        axes.add_artist(
            AnnotationBbox(
                OffsetImage(picture, zoom=28 / picture.shape[0], cmap="gray"),
                plane.means[c],
                pad=0.1,
                bboxprops={"edgecolor": f"C{c % 10}", "linewidth": 1.5},
            )
        )
    axes.set(xticks=[], yticks=[])
    axes.legend(loc="lower right")
    _save(figure, path)


def saliency(
    logits,
    cases: Answers,
    data: Labelled,
    path: Path,
    each: int = 8,
    draws: int = 16,
    noise: float = 0.1,
) -> None:
    """Where the answer comes from: the right answers (above) and wrong answers that it is surest
    of, and below each image the mean absolute gradient of the answer's log-probability with respect
    to the pixels, over noisy copies (SmoothGrad, arXiv 1706.03825). logits: (B, S, S) in [0, 1] ->
    (B, C)."""
    sure, right = np.exp(cases.log_probabilities.max(1)), cases.chosen == cases.labels
    order = np.argsort(-sure, kind="stable")
    groups = [order[right[order]][:each], order[~right[order]][:each]]

    @jax.jit
    def gradient(images, chosen, key):
        score = lambda x: jnp.take_along_axis(
            jax.nn.log_softmax(logits(x)), chosen[:, None], 1
        ).sum()
        return jnp.abs(jax.grad(score)(images + noise * jax.random.normal(key, images.shape)))

    figure, panels = _axes(1.1 * each, 4.8)
    panels.remove()
    panels = figure.subplots(4, each, squeeze=False)
    for axes in panels.ravel():
        axes.axis("off")
    for block, group in enumerate(groups):
        if not len(group):
            continue
        images = np.asarray(data.test_images[group])
        filled, chosen = (
            np.zeros((each, *images.shape[1:]), np.uint8),
            np.zeros(each, np.int32),
        )  # both groups in one shape: compiled once
        filled[: len(group)], chosen[: len(group)] = images, cases.chosen[group]
        heat = np.mean(
            [
                gradient(augment.to_float(jnp.asarray(filled)), chosen, jax.random.key(i))
                for i in range(draws)
            ],
            axis=0,
        )
        for column, index in enumerate(group):
            panels[2 * block, column].imshow(255 - images[column], cmap="gray", vmin=0, vmax=255)
            panels[2 * block, column].set_title(
                f"{_name(data, cases.labels[index])}\nread {_name(data, cases.chosen[index])}",
                fontsize=7,
            )
            panels[2 * block + 1, column].imshow(heat[column], cmap="magma")
    _save(figure, path)
