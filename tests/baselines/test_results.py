"""transfer.baselines.results: what stands in the files and tables of a run, to the letter."""

import json

import numpy as np
import pytest

from transfer.baselines import results
from transfer.evaluation.classification import Answers

ABOUT = {
    "dataset": "k49",
    "split": "test",
    "data": "the published files",
    "model": "knn",
    "regulariser": "none",
    "preset": "published",
    "train_images": 232365,
    "images": 38547,
    "classes": 1049,
    "seed": 3,
    "date": "2026-01-02",
    "machine": "two cores",
    "parameters": 0,
    "epochs": 0,
    "epochs_published": 0,
    "steps": 0,
    "batch": 0,
    "training_seconds": 0.0,
    "asking_seconds": 61.26,
}
NETWORK = ABOUT | {
    "model": "cnn",
    "regulariser": "input_mixup",
    "preset": "best",
    "changed": {"learning_rate": 0.5, "mix_alpha": 1.0},
    "machine": "a card",
    "parameters": 1234567,
    "epochs": 11.5,
    "epochs_published": 12,
    "steps": 21000,
    "batch": 1280,
    "training_seconds": 600.0,
    "asking_seconds": 90.0,
}
METRICS = {
    "accuracy": [0.83651, 0.83, 0.84],
    "top-5": [0.95, 0.94, 0.96],
    "cross-entropy": [0.5004, 0.49, 0.51],
}
OVERALL = {
    "balanced accuracy": [0.8, None, None],
    "accuracy as classes occur": [None, None, None],
    "expected calibration error": 0.0312,
}
BANDS = {
    "5–9": {"images": 1200, "classes": 1100, "accuracy": 0.5, "balanced accuracy": 0.25},
    "200+": {"images": 7, "classes": 2, "accuracy": 1.0, "balanced accuracy": None},
}


def summary(about, metrics=METRICS, bands=BANDS):
    groups = {"training images of the class": bands}
    return {"about": about, "metrics": metrics, "overall": OVERALL, "groups": groups}


TABLE = """\
# k49: test

232,365 training images, 38,547 test images, 1,049 classes: the published files. In brackets 95 % \
bootstrap intervals over the test images. Nothing was chosen by these figures: every row is the \
last step of its run.

| model | right | balanced over classes | as classes occur | in the first five | cross-entropy, \
nats | calibration error | parameters | epochs | training | asking | seed, date | published |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
| knn | 83.65 [83.00, 84.00] | 80.00 | – | 95.00 | – | 0.031 | 0 | 0 | – | 61.3 s | 3, \
2026-01-02 | 86.01 (83.65) |
| cnn input_mixup (best), learning rate 0.5, mix alpha 1.0 | 83.65 [83.00, 84.00] | 80.00 | – | – \
| 0.500 | 0.031 | 1,234,567 | 11.5 (not all) | 10.0 min | 1.5 min | 3, 2026-01-02 | – |

*training*, *asking*: wall-clock time on the machine of the run, a card; two cores. *published*: \
per cent right in arXiv 1812.01718 on the published split, after training on all of its images.

## Accuracy by training images of the class

| model | 5–9 (1,200 images of 1,100 classes) | 200+ (7 images of 2 classes) |
|---|---|---|
| knn | 50.00 | 100.00 |
| cnn input_mixup (best), learning rate 0.5, mix alpha 1.0 | – | 100.00 |

## Balanced accuracy by training images of the class

| model | 5–9 (1,200 images of 1,100 classes) | 200+ (7 images of 2 classes) |
|---|---|---|
| knn | 25.00 | – |
| cnn input_mixup (best), learning rate 0.5, mix alpha 1.0 | – | – |
"""


def test_the_table_of_all_runs():
    few = {name: METRICS[name] for name in ("accuracy", "cross-entropy")}
    network = summary(NETWORK, few, {"200+": BANDS["200+"]})
    assert results.table([summary(ABOUT), network]) == TABLE
    short = results.table([network])
    assert "## " not in short.partition("\n")[2]  # one band says what the row above says
    assert short.endswith("all of its images.\n")


@pytest.mark.parametrize(
    "changed, published",
    [
        ({"model": "cnn"}, "89.25 (89.36)"),
        ({"model": "preact_resnet18", "regulariser": "manifold_mixup"}, "97.33"),
        ({"model": "cnn", "preset": "best"}, "–"),
        ({"model": "mlp"}, "–"),
        ({"dataset": "kkanji"}, "–"),
        ({"dataset": "unheard of"}, "–"),
    ],
)
def test_what_was_published_stands_beside_the_published_recipe_alone(changed, published):
    [row] = [
        line
        for line in results.table([summary(ABOUT | changed)]).splitlines()
        if line.startswith(f"| {(ABOUT | changed)['model']}")
    ][:1]
    assert row.endswith(f" | {published} |")


def test_all_epochs_are_no_fewer_than_the_published_ones():
    for epochs, shared in ((12, "12"), (11.999, "11.999 (not all)"), (0, "0")):
        table = results.table([summary(NETWORK | {"epochs": epochs})])
        assert f" | {shared} | 10.0 min |" in table


REPORT = """\
# cnn input_mixup (best), learning rate 0.5, mix alpha 1.0 on k49

the published files; 11.5 epochs (21,000 steps of 1,280), seed 3; 2026-01-02, a card.

| | |
|---|---|
| accuracy | 0.837 [0.830, 0.840] |
| top-5 | 0.950 [0.940, 0.960] |
| cross-entropy | 0.500 [0.490, 0.510] |
| balanced accuracy | 0.800 [–, –] |
| accuracy as classes occur | – [–, –] |
| expected calibration error | 0.031 |

| training images of the class | images | classes | accuracy | balanced accuracy |
|---|---|---|---|---|
| 5–9 | 1,200 | 1,100 | 50.00 | 25.00 |
| 200+ | 7 | 2 | 100.00 | – |

![one](a.png)

*one*

![two](b.png)

*two*

"""


def test_the_report_of_a_run():
    assert results.markdown(summary(NETWORK), [("a.png", "one"), ("b.png", "two")]) == REPORT


def test_a_summary_has_rounded_numbers_and_none_for_what_is_no_number():
    log = np.log(
        np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]], np.float32)
    )
    found = results.summarise(
        Answers(log, np.array([0, 1, 0, 1]), np.array([7, 300, 0]), seed=5), {"a": 1}
    )
    assert found["about"] == {"a": 1} and json.loads(json.dumps(found)) == found
    assert set(found) == {"about", "metrics", "overall", "groups"}
    estimate, low, high = found["metrics"]["accuracy"]
    assert estimate == 0.5 and 0 <= low < 0.5 < high <= 1
    right = [0.7, 0.6, 0.3, 0.25]
    assert found["metrics"]["cross-entropy"][0] == round(float(-np.log(right).mean()), 5)
    assert found["overall"]["balanced accuracy"][0] == 0.5
    assert isinstance(found["overall"]["expected calibration error"], float)
    bands = {"images": 2, "classes": 1, "accuracy": 0.5, "balanced accuracy": 0.5}
    assert found["groups"] == {"training images of the class": {"5–9": bands, "200+": bands}}
    again = results.summarise(
        Answers(log, np.array([0, 1, 0, 1]), np.array([7, 300, 0]), seed=6), {"a": 1}
    )
    assert again != found  # the seed is that of the intervals
    none = results.summarise(Answers(log[:0], np.zeros(0, int), np.array([7, 300, 0])), {})
    assert none["metrics"]["accuracy"] == [None] * 3


def test_runs_are_listed_by_model_preset_and_regulariser(tmp_path):
    wanted = []
    for model in ("knn", "cnn", "preact_resnet18"):
        for preset in ("best", "published"):
            for regulariser in ("input_mixup", "none"):
                wanted.append((model, preset, regulariser))
    for n, (model, preset, regulariser) in enumerate(reversed(wanted)):
        about = NETWORK | {"model": model, "preset": preset, "regulariser": regulariser}
        folder = tmp_path / f"{n}" / "evaluation" / "test"
        folder.mkdir(parents=True)
        results.write(summary(about), [("a.png", "花")], folder)
        assert json.loads((folder / "evaluation.json").read_text("utf-8")) == summary(about)
        assert "*花*" in (folder / "report.md").read_text("utf-8")
    (tmp_path / "0" / "evaluation" / "val").mkdir()
    path = results.write_table(tmp_path, "test")
    assert path == tmp_path / "report-test.md"
    listed = json.loads((tmp_path / "results-test.json").read_text("utf-8"))
    keys = ("model", "preset", "regulariser")
    assert [tuple(s["about"][k] for k in keys) for s in listed] == wanted
    assert path.read_text("utf-8") == results.table(listed)
    text = (tmp_path / "results-test.json").read_text("utf-8")
    assert "5–9" in text and text == json.dumps(listed, indent=1, ensure_ascii=False) + "\n"


def test_times_and_percentages_in_words():
    assert [results._time(s) for s in (0, 0.04, 89.96, 90, 5400)] == [
        "–",
        "0.0 s",
        "90.0 s",
        "1.5 min",
        "90.0 min",
    ]
