"""What the notebooks share: pictures in rows, 2-d maps with pictures for labels, and two numbers
for overlap.

Dark ink on white paper everywhere. Kanji are shown as pictures, so that no Japanese font is asked
for.
"""

import json
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from transfer.output.sheet import draw_strokes, grey

plt.rcParams["figure.dpi"] = 72  # a notebook with its pictures stays small


def panel(thing) -> np.ndarray:
    """(H, W, 3) uint8 of an image with ink 255 or 1, of a drawing (a list of polylines), or of a
    picture that is one already."""
    if isinstance(thing, list):
        return np.asarray(draw_strokes(thing))
    thing = np.asarray(thing)
    return thing if thing.ndim == 3 else np.asarray(grey(thing, len(thing)))


def rows(content: dict[str, list], titles: list[str] | None = None, size: float = 1.15) -> None:
    """One row of panels for each entry, its name at the left; None leaves a place empty. size:
    inches a panel."""
    across = max(len(r) for r in content.values())
    figure, axes = plt.subplots(
        len(content),
        across,
        figsize=(size * across + 0.8, size * len(content) + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for line, (name, things) in zip(axes, content.items()):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for axis, thing in zip(line, [*things, *[None] * (across - len(things))]):
            axis.set(xticks=[], yticks=[])
            if thing is None:
                axis.spines[:].set_visible(False)
            else:
                axis.spines[:].set_color("#dddddd")
                axis.imshow(panel(thing))
    for axis, title in zip(axes[0], titles or []):
        axis.set_title(title, fontsize=8)
    plt.show()


def measured(weights_file: Path) -> dict[str, float]:
    """The last figures that a run measured on held-out data.

    weights_file: what `loop.train` returned.
    """
    lines = (weights_file.parents[1] / "metrics.jsonl").read_text("utf-8").splitlines()
    found = [line for line in map(json.loads, lines) if any(k.startswith("val/") for k in line)][-1]
    return {k.removeprefix("val/"): v for k, v in found.items() if k.startswith("val/")}


def flat(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N, D) -> (N, 2) by UMAP (McInnes et al. 2018): what is near stays near, as far as a plane
    allows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tqdm's looks in notebooks
        import umap

        return umap.UMAP(random_state=seed, n_jobs=1).fit_transform(np.asarray(vectors, np.float32))


def scatter(
    axis, xy: np.ndarray, classes: np.ndarray, pictures: dict | None = None, title: str = ""
) -> None:
    """Points (N, 2) coloured by class (N,), -1 in light grey; a class's picture, where there is
    one, stands by the middle of its points."""
    axis.scatter(*xy[classes < 0].T, s=3, color="#dddddd")
    for number, own in enumerate(c for c in np.unique(classes) if c >= 0):
        colour = plt.cm.tab10(number % 10)
        axis.scatter(*xy[classes == own].T, s=6, color=colour)
        if pictures and own in pictures:
            picture = OffsetImage(panel(pictures[own]), zoom=22 / len(panel(pictures[own])))
            # Beside the middle of its points, not on them.
            axis.add_artist(
                AnnotationBbox(
                    picture,
                    np.median(xy[classes == own], 0),
                    (18, 14),
                    boxcoords="offset points",
                    bboxprops={"edgecolor": colour, "lw": 2},
                    pad=0.1,
                )
            )
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)


def neighbours(
    vectors: np.ndarray, count: int = 1, classes: np.ndarray | None = None
) -> np.ndarray:
    """The nearest others of each vector, (N, count) indices; with classes (N,) the nearest of other
    classes."""
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    if classes is None:
        return (
            NearestNeighbors(n_neighbors=count).fit(vectors).kneighbors(return_distance=False)
        )  # without the vector itself
    distance = pairwise_distances(vectors)
    distance[classes == classes[:, None]] = np.inf
    return np.argsort(distance, 1, kind="stable")[:, :count]


def overlap(vectors: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """How much classes overlap: the share of examples whose nearest other example is of another
    class (0 is best), and the silhouette (1: every class a clump of its own; 0: clumps that touch;
    below: examples lie among another class)."""
    from sklearn.metrics import silhouette_score

    return float((classes[neighbours(vectors)[:, 0]] != classes).mean()), float(
        silhouette_score(vectors, classes)
    )
