"""The notebooks: text and .ipynb say the same, no outputs are kept, and each runs from top to
bottom without any download."""

import os
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.py"))
FIGURES = {"01_data": 5, "02_latents": 7, "03_transfer": 7, "04_train_your_own": 3}


def test_there_are_the_four_of_the_tour():
    assert [p.stem for p in NOTEBOOKS] == list(FIGURES)
    assert sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb")) == list(FIGURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_text_and_notebook_are_a_pair_without_outputs(path):
    """If it fails: `jupytext --sync notebooks/0*.py`, and `nbstripout`, or clear the outputs, where
    there are some."""
    text, stored = jupytext.read(path), nbformat.read(path.with_suffix(".ipynb"), 4)
    nbformat.validate(stored)
    pairs = [[(cell.cell_type, cell.source) for cell in book.cells] for book in (text, stored)]
    assert pairs[0] == pairs[1]
    for cell in stored.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert "widgets" not in stored.metadata


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path):
    """On the sample corpus and the shipped weights, with a proxy that leads nowhere: whatever wants
    to download fails."""
    run(path, {"KUZUSHIJI_DATA": ""})


@pytest.mark.slow
@pytest.mark.realdata
def test_the_data_notebook_runs_on_the_real_data(real_data):
    said = run(ROOT / "notebooks" / "01_data.py", {"KUZUSHIJI_DATA": str(real_data)})
    assert str(real_data) in said and ("Kuzushiji-MNIST is not in the data folder" in said) == (
        not (real_data / "kmnist").is_dir()
    )


def run(path: Path, environment: dict[str, str]) -> str:
    """Execute a notebook with its folder as working directory; returns what it printed."""
    nbclient = pytest.importorskip("nbclient")
    for package in ("ipywidgets", "matplotlib", "sklearn", "umap"):
        pytest.importorskip(package)
    book = jupytext.read(path)
    client = nbclient.NotebookClient(
        book, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    nowhere = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    client.execute(env=os.environ | nowhere | {"PYTHONPATH": str(ROOT)} | environment)
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) >= FIGURES[path.stem]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_the_numbers_for_overlap(monkeypatch):
    """Two clumps that lie apart do not overlap, labels at random overlap by half; the nearest of
    another class is of another class."""
    import numpy as np

    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    import show

    random = np.random.default_rng(0)
    classes = np.repeat([0, 1], 100)
    vectors = random.normal(size=(200, 8)) + 20 * classes[:, None]
    error, silhouette = show.overlap(vectors, classes)
    assert error == 0 and silhouette > 0.8
    error, silhouette = show.overlap(vectors, random.permutation(classes))
    assert 0.3 < error < 0.7 and abs(silhouette) < 0.1
    near = show.neighbours(vectors, 2, classes)
    assert near.shape == (200, 2) and (classes[near] != classes[:, None]).all()
    distance = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    assert all(
        distance[i, near[i, 0]] == distance[i, classes != classes[i]].min()
        for i in range(0, 200, 17)
    )
    assert (show.neighbours(vectors)[:, 0] != np.arange(200)).all()
