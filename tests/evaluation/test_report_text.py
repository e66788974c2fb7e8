"""The report of an evaluation to the letter: every row that it may have, none without a value."""

from pathlib import Path

import numpy as np
import pytest

from transfer.evaluation import report
from transfer.evaluation.cases import Measures

WANTED = Path(__file__).parent / "report.txt"
ABOUT = {
    "weights": "runs/a",
    "split": "val",
    "samples": 10,
    "seed": 7,
    "images": 1234,
    "classes": 1100,
    "left_out": 1000,
    "date": "2026-01-01",
    "machine": "two cores",
    "seconds": 61.7,
    "recogniser": "recogniser over 220 kanji",
    "reader": "recogniser",
    "cross_fitted": True,
}
READ = (
    "true glyph",
    "new VAE of the true glyph",
    "predicted pixels",
    "single drawing",
    "best-ranked drawing",
    "best of 10",
    "majority of 10",
    "mean probability of 10",
    "Kuzushiji image itself",
    "classify, then look up: glyph of the answer",
    "nearest in z_old as it is read, then look up: glyph of the answer",
)
LISTED = (
    "candidates",
    "candidates, any form",
    "classify, then look up: answer",
    "nearest in z_old as it is read, then look up: answer",
)
STROKES = (
    "stroke count exact",
    "stroke count within 1",
    "stroke count error",
    "strokes matched",
    "stroke order agreement",
    "stroke direction agreement",
    "length-independent DTW",
    "AIoU",
    "Chamfer distance",
    "Chamfer distance between two drawings",
)
OTHER = (
    "NLL per stroke",
    "NLL per stroke, another image's z",
    "NLL per point",
    "NLL per point, another image's z",
    "different kanji among 10 drawings",
    "confidence of the best candidate",
    'called "sure"',
    '"sure" readings right',
    '"sure" and wrong',
    "pixel uncertainty, right",
    "pixel uncertainty, wrong",
    "KL of z_old, nats",
    "KL of z_new, nats",
    "1-NN in z_old of the plain image, same class",
    "linear probe of z_old",
)


def full() -> dict:
    """A summary with every metric, each of another value."""
    names = [
        f"{judge}: {read}, top-{k}"
        for judge in ("recogniser", "HOG")
        for read in READ
        for k in (1, 5, 10)
    ]
    names += [f"{name}, top-{k}" for name in LISTED for k in (1, 5, 10)]
    names += [
        f"{name}{which}" for name in STROKES for which in ("", ", right ones", ", wrong kanji")
    ]
    metrics = {
        name: [n / 1000, n / 1000 - 0.001, n / 1000 + 0.001, 9]
        for n, name in enumerate([*names, *OTHER], 1)
    }
    metrics["recogniser: majority of 10, top-5"] = [None, None, None, 0]
    metrics["NLL per point"] = [0.5, None, None, 1]
    band = lambda n: {"n": n} | {name: n / 10000 for name in report.GROUPED[:-1]}
    return {
        "about": ABOUT,
        "metrics": metrics,
        "overall": {
            "active units of z_old": 1040,
            "KL of z_new, largest dimension": 2.0,
            "expected calibration error": [0.02, 0.01, 0.04],
            "AUROC of 1 - confidence for wrong images": 0.9,
            "AURC, area under the risk-coverage curve": None,
            "of no section": 1.0,
        },
        "groups": {"source": {"a": band(1200), "b": {"n": 7, report.GROUPED[0]: None}}},
    }


def test_every_row_of_the_report():
    found = report.markdown(full(), [("a.png", "one"), ("b.png", "two")])
    assert found == WANTED.read_text("utf-8")


def test_with_hog_for_a_reader_its_column_goes():
    summary = full() | {"about": ABOUT | {"reader": "HOG", "cross_fitted": False}}
    lines = report.markdown(summary, []).splitlines()
    assert not any(report.CROSS_FITTED in line for line in lines)
    at = lines.index(
        "| what is read | HOG top-1 | top-5 | top-10 | authors' top-1 / 5 / 10"
        " (recogniser) | authors' HOG |"
    )
    assert lines[at + 1] == "|---|---|---|---|---|---|"
    hog = summary["metrics"]["HOG: single drawing, top-1"]
    [row] = [line for line in lines if line.startswith("| single drawing |")]
    assert row.startswith(f"| single drawing | {report.cell(hog)} | ")
    assert row.endswith(" | 0.140 / 0.174 / 0.197 | 0.130 |")
    [row] = [line for line in lines if line.startswith("| *candidates* ")]
    assert row.endswith("] | – | – |") and row.count("|") == 7


def test_rows_without_a_value_are_left_out():
    lines = report.markdown(full() | {"metrics": {}, "overall": {}, "groups": {}}, []).splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 * 4  # the heads of four tables
    assert not any(line.startswith("## By") for line in lines)


def test_cells():
    cells = {
        (0.8524, 0.836, 0.868, 5): "0.852 [0.836, 0.868]",
        (0.5, None, None, 1): "0.500",
        (0.5,): "0.500",
        (2.66, 1.0): "2.660",
        (None, None, None, 0): "–",
        (): "–",
    }
    for metric, said in cells.items():
        assert report.cell(list(metric)) == said
    assert report.cell(None) == "–"


def test_bands_hold_both_of_their_ends_and_sources_are_told_apart_if_there_are_two(cases):
    hits = np.array([1.0, np.nan, 0.0, 1.0])
    per_image = {"candidates, top-1": hits, "of no group": hits}
    measures = [
        Measures(per_image, {"a": np.float64(1 / 3), "b": 5, "c": np.nan, "d": (0.1, np.inf)})
    ]
    for counts, bands in (
        ([0, 1, 4, 5], {"0": 1, "1–4": 2, "5–9": 1}),
        ([9, 10, 49, 50], {"5–9": 1, "10–49": 2, "50–199": 1}),
        ([199, 200, 201, 9999], {"50–199": 1, "200+": 3}),
    ):
        object.__setattr__(cases, "train_count", np.array(counts))
        found = report.summarise(cases, measures, {})["groups"]["training images of the class"]
        assert {band: values["n"] for band, values in found.items()} == bands
    object.__setattr__(cases, "truth", [[None] * n for n in (1, 4, 5, 17)])
    for sources, wanted in (
        (None, None),
        (["a"] * 4, None),
        (["b", "a", "b", "b"], {"a": (1, None), "b": (3, 0.66667)}),
    ):
        object.__setattr__(cases, "sources", None if sources is None else np.array(sources))
        found = report.summarise(cases, measures, {"x": 1})
        groups = found["groups"]
        assert ("source" in groups) == bool(wanted)
        if wanted:
            assert {
                name: (values["n"], values["candidates, top-1"])
                for name, values in groups["source"].items()
            } == wanted
            assert list(groups["source"]) == ["a", "b"]
    strokes = groups["strokes of the kanji"]
    assert {band: values["n"] for band, values in strokes.items()} == {"1–4": 2, "5–8": 1, "17+": 1}
    assert strokes["5–8"] == {"n": 1, "candidates, top-1": 0.0}
    assert found["about"] == {"x": 1} and set(found) == {"about", "metrics", "overall", "groups"}
    assert found["overall"] == {"a": 0.33333, "b": 5, "c": None, "d": [0.1, None]}
    assert found["metrics"]["of no group"][0] == 0.66667
    assert found["metrics"]["of no group"][3] == 3


def test_intervals_are_of_the_seed():
    values = {"a": np.random.default_rng(0).normal(size=50)}
    one, two = report.intervals(values, 1)["a"], report.intervals(values, 2)["a"]
    assert one[0] == two[0] == round(float(values["a"].mean()), 5) and one[1:3] != two[1:3]
    assert report.intervals(values) == report.intervals(values, 0)


def test_both_files_are_written(tmp_path):
    summary = full()
    report.write(summary, [("a.png", "花")], tmp_path)
    text = (tmp_path / "evaluation.json").read_text("utf-8")
    assert text.startswith('{\n "about": {\n  "weights": "runs/a",') and text.endswith("\n}\n")
    report.write_both({"花": 1}, "text", tmp_path, "b.json", "b.md")
    assert (tmp_path / "b.json").read_text("utf-8") == '{\n "花": 1\n}\n'
    assert (tmp_path / "b.md").read_text("utf-8") == "text"
    with pytest.raises(OSError):
        report.write(summary, [], tmp_path / "missing")
