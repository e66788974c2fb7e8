"""The figures of an evaluation.

These are the paper's figures 3, 9 and 10 for any split, the worst failures, the most and the least
certain cases, a reliability diagram, and interpolations between latents.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import svgwrite
from flax import nnx
from PIL import Image, ImageDraw, ImageFont

from transfer.evaluation.calibration import reliability
from transfer.evaluation.cases import Cases
from transfer.evaluation.distribution import confidences, risk_coverage
from transfer.output.pictures import image_grid
from transfer.output.sheet import draw_strokes, grey
from transfer.output.svg import path_data
from transfer.system.files import atomic_write

CELL, GAP, LABEL, DRAWINGS = 112, 8, 30, 4
HEAD = (
    "input",
    "old VAE",
    "predicted pixels",
    "uncertainty",
    *(f"drawing {i + 1}" for i in range(DRAWINGS)),
    "truth",
)


def write(cases: Cases, out: Path, rows: int = 12) -> list[tuple[str, str]]:
    """Write all figures into a folder.

    rows: images in a table.

    Returns (file name, caption) of each figure of the report. Raises OSError.
    """
    confidence, hit = confidences(cases)
    order = np.argsort(-confidence, kind="stable")
    chosen = {
        "figure": (
            np.sort(np.random.default_rng(cases.seed).permutation(len(hit))[:rows]),
            f"{rows} images chosen by seed {cases.seed}",
        ),
        "failures": (
            order[~hit[order]][:rows],
            "the worst failures: the wrong readings that it is most certain of",
        ),
        "most_certain": (order[:rows], "the most certain cases"),
        "least_certain": (order[::-1][:rows], "the least certain cases"),
    }
    figures = []
    for name, (index, caption) in chosen.items():
        if len(index):
            table(cases, index, out / f"{name}.png")
            table_svg(cases, index, out / f"{name}.svg")
            figures.append(
                (
                    f"{name}.png",
                    (
                        f"{caption}: input | old reconstruction | predicted pixels | uncertainty |"
                        " drawings | truth"
                    ),
                )
            )
    reliability_plot(confidence, hit, out / "reliability.png")
    risk_coverage_plot(confidence, hit, out / "risk_coverage.png")
    interpolation(cases, out / "interpolation.png")
    return figures + [
        (
            "reliability.png",
            "stated probability of the best candidate against how often it is right",
        ),
        (
            "risk_coverage.png",
            "share of wrong readings among those with the highest stated probabilities",
        ),
        (
            "interpolation.png",
            "z_new (upper of each pair of rows) and z_old (lower) between two images of the split",
        ),
    ]


def caption(cases: Cases, i: int) -> str:
    """The true kanji, and the model's first candidates with their probabilities.

    They are named by code point, as there may be no Japanese font.
    """
    listed = ", ".join(
        f"U+{ord(c):04X} {100 * p:.0f} %" for c, p in cases.results[i].candidates[:3]
    )
    return (
        f"true U+{cases.code_points[i]:04X} ({cases.train_count[i]} training images); read {listed}"
    )


def _rasters(cases: Cases, i: int) -> list[Image.Image]:
    """Input, old reconstruction, predicted pixels and uncertainty, 64x64 RGB on white."""
    result = cases.results[i]
    doubt = np.clip(result.uncertainty * 2, 0, 1)[..., None]
    red = 255 * (1 - doubt * (1 - np.array([0.75, 0.1, 0.1])))
    return [
        *(grey(p, 64) for p in (result.image, result.old_reconstruction, result.pixels)),
        Image.fromarray(np.uint8(np.round(red))),
    ]


def table(cases: Cases, index: np.ndarray, path: Path) -> None:
    """Write a table of images and their results as PNG, one image in each row.

    index: (n,) int, of the images.
    """
    width, height = GAP + len(HEAD) * (CELL + GAP), 20 + len(index) * (CELL + LABEL)
    page = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for c, text in enumerate(HEAD):
        pen.text((GAP + c * (CELL + GAP), 3), text, (110, 110, 110), font)
    for r, i in enumerate(index):
        y = 20 + r * (CELL + LABEL)
        panels = [p.resize((CELL, CELL), Image.Resampling.NEAREST) for p in _rasters(cases, i)]
        panels += [draw_strokes(s, CELL) for s in cases.results[i].strokes[:DRAWINGS]]
        panels += [Image.new("RGB", (CELL, CELL), "white")] * (len(HEAD) - 1 - len(panels)) + [
            draw_strokes(cases.truth[i], CELL)
        ]
        for c, panel in enumerate(panels):
            x = GAP + c * (CELL + GAP)
            page.paste(panel, (x, y))
            pen.rectangle((x - 1, y - 1, x + CELL, y + CELL), outline=(220, 220, 220))
        pen.text((GAP, y + CELL + 5), caption(cases, i), "black", font)
    with atomic_write(path) as part:
        page.save(part, "PNG")


def table_svg(cases: Cases, index: np.ndarray, path: Path) -> None:
    """Write the table that `table` writes as SVG, with strokes as paths."""
    width, height = GAP + len(HEAD) * (CELL + GAP), 20 + len(index) * (CELL + LABEL)
    drawing = svgwrite.Drawing(size=(width, height), viewBox=f"0 0 {width} {height}")
    drawing.add(drawing.rect((0, 0), (width, height), fill="white"))
    for c, text in enumerate(HEAD):
        drawing.add(
            drawing.text(
                text,
                (GAP + c * (CELL + GAP), 14),
                font_size=12,
                fill="#6e6e6e",
                font_family="sans-serif",
            )
        )
    for r, i in enumerate(index):
        y = 20 + r * (CELL + LABEL)
        for c, raster in enumerate(_rasters(cases, i)):
            packed = io.BytesIO()
            raster.save(packed, "PNG")
            drawing.add(
                drawing.image(
                    "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode(),
                    (GAP + c * (CELL + GAP), y),
                    (CELL, CELL),
                    style="image-rendering:pixelated",
                )
            )
        drawn = dict(enumerate(cases.results[i].strokes[:DRAWINGS], 4)) | {
            len(HEAD) - 1: cases.truth[i]
        }
        for c, strokes in drawn.items():
            x = GAP + c * (CELL + GAP)
            group = drawing.g(
                transform=f"translate({x},{y}) scale({CELL / 109:.5f})",
                fill="none",
                stroke="black",
                stroke_width=3,
                stroke_linecap="round",
                stroke_linejoin="round",
            )
            for stroke in strokes:
                group.add(drawing.path(d=path_data(stroke)))
            drawing.add(group)
        drawing.add(
            drawing.text(
                caption(cases, i), (GAP, y + CELL + 17), font_size=12, font_family="sans-serif"
            )
        )
    with atomic_write(path) as part:
        part.write_text(drawing.tostring(), "utf-8")


def reliability_plot(confidence: np.ndarray, hit: np.ndarray, path: Path) -> None:
    """Write a reliability diagram (Guo et al. 2017) and the number of images in each bin as PNG.

    confidence, hit: as `confidences` gives them.
    """
    from matplotlib.figure import Figure

    mean, rate, count = reliability(confidence, hit)
    figure = Figure(figsize=(5, 5), dpi=110, layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="grey", linewidth=1)
    filled = np.asarray(count) > 0
    upper.plot(np.asarray(mean)[filled], np.asarray(rate)[filled], marker="o")
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    lower.hist(confidence, np.linspace(0, 1, len(count) + 1))
    lower.set(xlabel="stated probability of the best candidate", ylabel="images")
    with atomic_write(path) as part:
        figure.savefig(part, format="png")


def risk_coverage_plot(confidence: np.ndarray, hit: np.ndarray, path: Path) -> None:
    """The risk-coverage curve, as PNG."""
    from matplotlib.figure import Figure

    coverage, risk = risk_coverage(confidence, hit)
    figure = Figure(figsize=(5, 3.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(coverage, risk)
    axes.set(xlabel="share that is read", ylabel="share of these that is wrong", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    with atomic_write(path) as part:
        figure.savefig(part, format="png")


def interpolation(cases: Cases, path: Path, pairs: int = 4, steps: int = 10) -> None:
    """Write what the VAEs paint on straight lines between latents of random images as PNG.

    pairs: of images. Each has a row for z_new and one for z_old.
    steps: pictures in a row.
    """
    model = cases.model
    chosen = np.random.default_rng(cases.seed + 1).integers(0, len(cases.results), (pairs, 2))
    line = lambda a, b: a + np.linspace(0, 1, steps, dtype=np.float32)[:, None] * (b - a)
    rows = []
    for a, b in chosen:
        for graph, params, key in (
            (model.new_graph, model.new_params, "z_new"),
            (model.old_graph, model.old_params, "z_old"),
        ):
            z = jnp.asarray(line(getattr(cases.results[a], key), getattr(cases.results[b], key)))
            rows.append(np.asarray(jax.nn.sigmoid(nnx.merge(graph, params).decode(z))))
    image_grid([np.concatenate(rows)], path, across=steps)
