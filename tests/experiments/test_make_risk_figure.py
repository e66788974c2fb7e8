"""experiments/make_risk_figure.py: the curve of wrong readings, and the figure in RESULTS."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

ROOT = Path(__file__).parents[2]
SVG = {"s": "http://www.w3.org/2000/svg"}
TOLD = r"all: ([\d.]+) % wrong; the (\d+) % called sure: ([\d.]+) %"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    yield importlib.import_module("make_risk_figure")
    sys.modules.pop("make_figures", None)


def test_a_curve_begins_with_the_most_certain_and_ends_with_all(script):
    confidence = np.array([0.2, 0.9, 0.6, 0.8])
    hit = np.array([False, True, True, False])
    found = script.curve(confidence, hit, confidence > 0.7)
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert found.sure == (0.5, 0.5)
    assert script.curve(confidence, hit, confidence > 1).sure == (0.0, 0.0)


def test_the_figure_shows_the_numbers_at_their_places(script):
    rng = np.random.default_rng(0)
    confidence = rng.random(1000)
    curves = {
        split: script.curve(confidence, rng.random(1000) < 0.7 + 0.1 * n, confidence > 0.5)
        for n, split in enumerate(script.SPLITS)
    }
    text = script.figure(curves)
    root = etree.fromstring(text.encode())
    x = lambda share: script.LEFT + script.WIDTH * share
    y = lambda share: script.TOP + script.HEIGHT * (1 - share / script.MOST)
    lines = root.findall("s:path[@class]", SVG)
    lines = [line.get("d") for line in lines if "curve" in line.get("class")][::2]
    dots = root.findall("s:circle", SVG)
    for line, dot, told, found in zip(
        lines, dots, re.findall(TOLD, text), curves.values(), strict=True
    ):
        points = np.array([p.split(",") for p in line[1:].split(" L")], float)
        assert (np.diff(points[:, 0]) > 0).all() and len(points) <= script.POINTS
        np.testing.assert_allclose(points[-1], [x(1), y(found.risk[-1])], atol=0.06)
        place = [float(dot.get("cx")), float(dot.get("cy"))]
        np.testing.assert_allclose(place, [x(found.sure[0]), y(found.sure[1])], atol=0.06)
        wanted = (100 * found.risk[-1], 100 * found.sure[0], 100 * found.sure[1])
        np.testing.assert_allclose(np.array(told, float), wanted, atol=0.51)


def test_labels_stay_near_and_apart(script):
    assert script.apart([10, 200, 100]) == [10, 200, 100]
    found = np.array(script.apart([100, 110, 300, 105]))
    assert found[1] == found[3] + script.APART == found[0] + 2 * script.APART
    assert found[2] == 300 and abs(found[[0, 1, 3]].mean() - 105) < 1


def test_the_kept_figure_and_the_tables_of_results_say_the_same(script):
    """If it fails: the weights are others; `python experiments/make_risk_figure.py --data DIR`."""
    kept = (ROOT / "docs" / "figures" / "risk-coverage.svg").read_text("utf-8")
    assert "prefers-color-scheme: dark" in kept and len(kept) < 30_000 and "base64" not in kept
    told = dict(zip(script.SPLITS, re.findall(TOLD, kept), strict=True))
    results = (ROOT / "RESULTS.md").read_text("utf-8")
    row = lambda name: re.findall(
        r"\.\d{3}", re.search(rf"^\| {name}.*?\|(.*?)\|", results, re.M)[1]
    )
    wrong = lambda share: f"{100 - 100 * float(share):.1f}"
    assert told["val"][0] == wrong(row("val, any form: candidates")[0])
    assert told["zero-shot"][0] == wrong(row("zero-shot, any form")[0])
    sure = row('"sure" readings right: val / hands / zero-shot')
    assert [told[split][2] for split in ("val", "hands", "zero-shot")] == [wrong(s) for s in sure]
