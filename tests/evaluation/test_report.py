import json

import numpy as np
import pytest
from lxml import etree
from PIL import Image

from transfer.evaluation import figures, report, stroke_quality
from transfer.evaluation.cases import Measures

ABOUT = {
    "weights": "w",
    "split": "val",
    "samples": 10,
    "seed": 0,
    "images": 4,
    "classes": 4,
    "left_out": 1,
    "date": "2026-01-01",
    "machine": "m",
    "seconds": 3.0,
    "recogniser": "recogniser over 220 kanji",
    "reader": "recogniser",
}


@pytest.fixture
def summary(cases):
    hits = np.array([1.0, 1.0, 0.0, 0.0])
    measures = [
        Measures(
            {
                "recogniser: single drawing, top-1": hits,
                "recogniser: single drawing, top-5": hits,
                "candidates, top-1": hits,
                "stroke count exact": np.array([1.0, np.nan, 0.0, 0.0]),
            }
        ),
        Measures(
            {}, {"expected calibration error": (0.02, 0.01, 0.04), "active units of z_old": 40}
        ),
    ]
    return report.summarise(cases, measures, ABOUT)


def test_means_intervals_and_groups(summary):
    mean, low, high, n = summary["metrics"]["recogniser: single drawing, top-1"]
    assert (mean, n) == (0.5, 4) and 0 <= low < 0.5 < high <= 1
    assert (
        summary["metrics"]["stroke count exact"][0] == pytest.approx(1 / 3, abs=1e-4)
        and summary["metrics"]["stroke count exact"][3] == 3
    )
    bands = summary["groups"]["training images of the class"]
    assert {band: (v["n"], v["candidates, top-1"]) for band, v in bands.items()} == {
        "0": (1, 1.0),
        "1–4": (1, 1.0),
        "10–49": (1, 0.0),
        "200+": (1, 0.0),
    }
    assert bands["1–4"]["stroke count exact"] is None
    assert sum(v["n"] for v in summary["groups"]["strokes of the kanji"].values()) == 4
    assert summary["overall"]["expected calibration error"] == [0.02, 0.01, 0.04]


def test_report_has_the_authors_row_and_is_written_whole(summary, tmp_path):
    report.write(summary, [("a.png", "a figure")], tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text("utf-8")) == summary
    text = (tmp_path / "report.md").read_text("utf-8")
    [row] = [line for line in text.splitlines() if line.startswith("| single drawing |")]
    assert "0.140 / 0.174 / 0.197" in row and row.startswith("| single drawing | 0.500 [")
    assert (
        "| stroke count exact | 0.333" in text
        and "| 0.225 |" in text
        and "![a figure](a.png)" in text
    )
    assert "| expected calibration error | 0.020 [0.010, 0.040] |" in text
    for block in text.split("\n\n"):  # every row of a table has as many cells as its head
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1, block
    assert "| active units of z_old | 40 |" in text
    assert not list(tmp_path.glob(".*"))
    by_hog = report.markdown(summary | {"about": summary["about"] | {"reader": "HOG"}}, [])
    assert (
        len(
            {
                line.count("|")
                for line in by_hog.split("## Strokes")[0].splitlines()
                if line.startswith("|")
            }
        )
        == 1
    )


def test_stroke_quality_sets_true_beside_wrong(cases):
    found = stroke_quality.measure(cases).per_image
    assert found["stroke count exact"].tolist()[:2] == [1, 1] and found["stroke count error"][
        3
    ] == len(cases.truth[3])
    assert found["stroke order agreement"][0] == 1 and found["Chamfer distance"][
        0
    ] == pytest.approx(0, abs=1e-4)
    assert found["Chamfer distance, wrong kanji"][0] > 0.02
    assert (
        np.isnan(found["Chamfer distance, right ones"][2:]).all()
        and np.isfinite(found["Chamfer distance, right ones"][:2]).all()
    )
    assert found["Chamfer distance between two drawings"][0] == pytest.approx(
        0, abs=1e-4
    ) and np.isnan(found["Chamfer distance between two drawings"][3])


def test_figures_hold_panels_strokes_and_captions(cases, tmp_path):
    index = np.array([1, 3])
    figures.table(cases, index, tmp_path / "t.png")
    figures.table_svg(cases, index, tmp_path / "t.svg")
    with Image.open(tmp_path / "t.png") as image:
        assert image.size[0] > 9 * 112 and len(image.getcolors(1 << 20)) > 20
    root = etree.parse(tmp_path / "t.svg").getroot()
    strokes = (
        sum(len(s) for s in cases.results[1].strokes) + len(cases.truth[1]) + len(cases.truth[3])
    )
    assert len(root.findall(".//{*}path")) == strokes and len(root.findall(".//{*}image")) == 8
    texts = [t.text for t in root.findall(".//{*}text")]
    assert any(f"true U+{cases.code_points[1]:04X} (3 training images)" in t for t in texts)
    figures.reliability_plot(np.array([0.9, 0.2]), np.array([True, False]), tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as image:
        assert image.size == (550, 550)
