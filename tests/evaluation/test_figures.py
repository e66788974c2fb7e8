"""transfer.evaluation.figures: where each panel, stroke and word stands."""

import base64
import io
import types

import numpy as np
import pytest
from flax import nnx
from lxml import etree
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from transfer.evaluation import figures
from transfer.evaluation.calibration import reliability
from transfer.output.sheet import draw_strokes, grey
from transfer.output.svg import path_data

HEAD = ["input", "old VAE", "predicted pixels", "uncertainty"]
HEAD += ["drawing 1", "drawing 2", "drawing 3", "drawing 4", "truth"]


@pytest.fixture
def said(monkeypatch):
    """Every text that is written into a picture, with its place and colour."""
    found, write = [], ImageDraw.ImageDraw.text

    def text(self, at, words, fill=None, font=None, **given):
        found.append((words, at, fill))
        return write(self, at, words, fill, font, **given)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


def described(cases, i):
    """The caption of an image, in the test's own words."""
    read = [f"U+{ord(c):04X} {round(100 * p)} %" for c, p in cases.results[i].candidates[:3]]
    return (
        f"true U+{cases.code_points[i]:04X} ({[0, 3, 20, 500][i]} training images);"
        f" read {', '.join(read)}"
    )


def rasters(cases, i):
    """Input, reconstruction, prediction and uncertainty of an image, (64, 64, 3) uint8 each."""
    result = cases.results[i]
    doubt = min(1, 2 * 0.1 * i)
    red = [round(255 * (1 - doubt * (1 - c))) for c in (0.75, 0.1, 0.1)]
    pictures = result.image, result.old_reconstruction, result.pixels
    return [np.asarray(grey(p, 64)) for p in pictures] + [np.full((64, 64, 3), red, np.uint8)]


def test_the_table_has_a_row_an_image(cases, tmp_path, said):
    cases.results[1].strokes.extend(cases.results[0].strokes * 2)  # of nine four are shown
    figures.table(cases, np.array([1, 3]), tmp_path / "t.png")
    heads = [(w, at, fill) for w, at, fill in said if w in HEAD]
    assert heads == [(w, (8 + 120 * n, 3), (110, 110, 110)) for n, w in enumerate(HEAD)]
    captions = [(w, at, fill) for w, at, fill in said if w.startswith("true")]
    assert captions == [
        (described(cases, 1), (8, 20 + 117), "black"),
        (described(cases, 3), (8, 162 + 117), "black"),
    ]
    with Image.open(tmp_path / "t.png") as image:
        page = np.asarray(image.convert("RGB"))
    assert page.shape == (20 + 2 * 142, 8 + 9 * 120, 3)
    for row, i in enumerate((1, 3)):
        y = 20 + 142 * row
        grown = [
            Image.fromarray(r).resize((112, 112), Image.Resampling.NEAREST)
            for r in rasters(cases, i)
        ]
        drawn = [draw_strokes(s, 112) for s in cases.results[i].strokes[:4]]
        blank = [Image.new("RGB", (112, 112), "white")] * (4 - len(drawn))
        panels = [*grown, *drawn, *blank, draw_strokes(cases.truth[i], 112)]
        for n, panel in enumerate(panels):
            x = 8 + 120 * n
            np.testing.assert_array_equal(page[y : y + 112, x : x + 112], np.asarray(panel))
            for at in ((y - 1, x - 1), (y + 112, x + 112), (y - 1, x + 112), (y + 112, x - 1)):
                assert tuple(page[at]) == (220, 220, 220)


def test_the_same_table_as_svg(cases, tmp_path):
    figures.table_svg(cases, np.array([1, 3]), tmp_path / "t.svg")
    root = etree.parse(tmp_path / "t.svg").getroot()
    width, height = 8 + 9 * 120, 20 + 2 * 142
    assert (root.get("width"), root.get("height")) == (str(width), str(height))
    assert root.get("viewBox") == f"0 0 {width} {height}"
    [paper] = root.findall("./{*}rect")
    size = paper.get("width"), paper.get("height"), paper.get("fill")
    assert size == (str(width), str(height), "white")
    texts = root.findall("./{*}text")
    places = [(t.text, t.get("x"), t.get("y"), t.get("fill")) for t in texts]
    assert places == [(w, str(8 + 120 * n), "14", "#6e6e6e") for n, w in enumerate(HEAD)] + [
        (described(cases, i), "8", str(20 + 142 * row + 129), None) for row, i in ((0, 1), (1, 3))
    ]
    assert {(t.get("font-size"), t.get("font-family")) for t in texts} == {("12", "sans-serif")}
    images = root.findall("./{*}image")
    address = "{http://www.w3.org/1999/xlink}href"
    wanted = [(n, row, r) for row, i in ((0, 1), (1, 3)) for n, r in enumerate(rasters(cases, i))]
    for image, (n, row, raster) in zip(images, wanted, strict=True):
        assert (image.get("x"), image.get("y")) == (str(8 + 120 * n), str(20 + 142 * row))
        assert (image.get("width"), image.get("height")) == ("112", "112")
        assert image.get("style") == "image-rendering:pixelated"
        kind, _, packed = image.get(address).partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(packed))) as picture:
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), raster)
    groups = root.findall("./{*}g")
    shown = [
        (n, row, strokes)
        for row, i in ((0, 1), (1, 3))
        for n, strokes in [*enumerate(cases.results[i].strokes[:4], 4), (8, cases.truth[i])]
    ]
    for group, (n, row, strokes) in zip(groups, shown, strict=True):
        assert group.get("transform") == f"translate({8 + 120 * n},{20 + 142 * row}) scale(1.02752)"
        assert [p.get("d") for p in group] == [path_data(s) for s in strokes]
        names = ("fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin")
        assert [group.get(n) for n in names] == ["none", "black", "3", "round", "round"]


@pytest.fixture
def plots(monkeypatch):
    """The figures of matplotlib that are saved."""
    found, save = [], Figure.savefig

    def savefig(self, path, **given):
        found.append(self)
        assert given == {"format": "png"}
        return save(self, path, **given)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def test_the_reliability_diagram_has_the_filled_bins(tmp_path, plots):
    confidence = np.array([0.05, 0.5, 0.52, 0.97])
    hit = np.array([False, True, False, True])
    figures.reliability_plot(confidence, hit, tmp_path / "r.png")
    upper, lower = plots[0].axes
    diagonal, curve = upper.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    mean, rate, count = reliability(confidence, hit)
    wanted = np.stack([mean, rate], 1)[count > 0]
    np.testing.assert_allclose(curve.get_xydata(), wanted)
    assert curve.get_marker() == "o" and (*upper.get_xlim(), *upper.get_ylim()) == (0, 1, 0, 1)
    assert upper.get_ylabel() == "share that is right" and lower.get_ylabel() == "images"
    assert lower.get_xlabel() == "stated probability of the best candidate"
    assert [bar.get_height() for bar in lower.patches] == count.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["r.png"]


def test_the_risk_coverage_curve(tmp_path, plots):
    figures.risk_coverage_plot(
        np.array([0.9, 0.2, 0.5]), np.array([True, False, False]), tmp_path / "r.png"
    )
    [axes] = plots[0].axes
    [curve] = axes.lines
    np.testing.assert_allclose(curve.get_xydata(), [[1 / 3, 0], [2 / 3, 1 / 2], [1, 2 / 3]])
    assert axes.get_xlabel() == "share that is read" and axes.get_xlim() == (0, 1)
    assert axes.get_ylabel() == "share of these that is wrong" and axes.get_ylim()[0] == 0
    with Image.open(tmp_path / "r.png") as image:
        assert image.size == (550, 385)


class Painter(nnx.Module):
    """Paints the first number of z, as a logit, times a factor."""

    def __init__(self, factor):
        self.factor = nnx.Param(np.float32(factor))

    def decode(self, z):
        return (
            np.float32(1) * self.factor[...] * z[:, 0, None, None] * np.ones((64, 64), np.float32)
        )


def test_interpolations_lead_from_one_image_to_the_other(cases, tmp_path, monkeypatch):
    graphs = [nnx.split(Painter(factor)) for factor in (1.0, -1.0)]
    model = types.SimpleNamespace(
        new_graph=graphs[0][0],
        new_params=graphs[0][1],
        old_graph=graphs[1][0],
        old_params=graphs[1][1],
    )
    object.__setattr__(cases, "model", model)
    written = []
    monkeypatch.setattr(
        figures, "image_grid", lambda columns, path, across: written.append((columns, path, across))
    )
    figures.interpolation(cases, tmp_path / "i.png", pairs=3, steps=4)
    [([pictures], path, across)] = written
    assert pictures.shape == (3 * 2 * 4, 64, 64) and across == 4 and path == tmp_path / "i.png"
    chosen = np.random.default_rng(cases.seed + 1).integers(0, 4, (3, 2))
    wanted = [
        1 / (1 + np.exp(-factor * np.linspace(a, b, 4))) for a, b in chosen for factor in (1, -1)
    ]
    np.testing.assert_allclose(pictures[:, 5, 5], np.concatenate(wanted), rtol=1e-5)
    figures.interpolation(cases, tmp_path / "i.png")
    assert written[1][0][0].shape == (4 * 2 * 10, 64, 64) and written[1][2] == 10


def test_which_images_are_shown_is_chosen_by_seed_and_by_the_models_own_numbers(
    cases, tmp_path, monkeypatch
):
    tables = {}
    for name in ("table", "table_svg"):
        monkeypatch.setattr(
            figures, name, lambda cases, index, path: tables.update({path.name: index.tolist()})
        )
    others = []
    for name in ("reliability_plot", "risk_coverage_plot"):
        monkeypatch.setattr(
            figures, name, lambda c, h, path: others.append((path.name, list(c), list(h)))
        )
    monkeypatch.setattr(figures, "interpolation", lambda cases, path: others.append(path.name))
    found = figures.write(cases, tmp_path, rows=2)
    confidence = [r.candidates[0][1] for r in cases.results]
    random = sorted(np.random.default_rng(cases.seed).permutation(4)[:2].tolist())
    wanted = {"figure": random, "failures": [1, 2], "most_certain": [0, 1], "least_certain": [3, 2]}
    assert tables == {f"{n}.{end}": i for n, i in wanted.items() for end in ("png", "svg")}
    assert others == [
        ("reliability.png", confidence, [True, False, False, False]),
        ("risk_coverage.png", confidence, [True, False, False, False]),
        "interpolation.png",
    ]
    panels = ": input | old reconstruction | predicted pixels | uncertainty | drawings | truth"
    assert found == [
        ("figure.png", "2 images chosen by seed 0" + panels),
        (
            "failures.png",
            "the worst failures: the wrong readings that it is most certain of" + panels,
        ),
        ("most_certain.png", "the most certain cases" + panels),
        ("least_certain.png", "the least certain cases" + panels),
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
    assert figures.write(cases, tmp_path)[0][1].startswith("12 images chosen")
    monkeypatch.setattr(figures, "confidences", lambda c: (np.array(confidence), np.ones(4, bool)))
    assert [name for name, _ in figures.write(cases, tmp_path)][:2] == [
        "figure.png",
        "most_certain.png",
    ]
