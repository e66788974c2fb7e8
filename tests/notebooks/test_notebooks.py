"""The notebooks: text and .ipynb say the same, the outputs are those of this code and these
weights, and each runs from top to bottom without any download."""

import copy
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.py"))
FIGURES = {"01_data": 5, "02_latents": 8, "03_transfer": 8, "04_train_your_own": 3}

_spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)


def outputs(book) -> list:
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def figures(book) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(book))


def printed(book) -> str:
    return "".join(output.text for output in outputs(book) if output.output_type == "stream")


def stored(path: Path):
    return nbformat.read(path.with_suffix(".ipynb"), 4)


def test_there_are_the_four_of_the_tour():
    assert [p.stem for p in NOTEBOOKS] == list(FIGURES)
    assert sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb")) == list(FIGURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_text_and_notebook_are_a_pair_with_outputs(path):
    """If it fails: `python notebooks/execute.py`, or with --text after a change of prose alone."""
    text, book = jupytext.read(path), stored(path)
    nbformat.validate(book)
    pairs = [[(cell.cell_type, cell.source) for cell in b.cells] for b in (text, book)]
    assert pairs[0] == pairs[1]
    assert execute.problems(book) == []
    assert figures(book) >= FIGURES[path.stem]
    assert "widgets" not in book.metadata and "ipywidgets" not in path.read_text("utf-8")
    assert "the published files in" not in printed(book)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_of_this_code_and_these_weights(path):
    """If it fails: `python notebooks/execute.py`."""
    assert execute.outdated(path) == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cell_says_what_comes_and_how_long_it_takes(path):
    first = " ".join(jupytext.read(path).cells[0].source.split())
    assert first.startswith(f"# {int(path.stem[:2])}. ")
    assert "**What you will see:**" in first and "**How long it takes:**" in first


def test_another_text_other_weights_and_no_notebook_are_noticed(tmp_path, monkeypatch):
    """In a small tree of the same layout."""
    for name in ("notebooks", "transfer/pretrained", "tests/golden/files"):
        (tmp_path / name).mkdir(parents=True)
    path, weights = tmp_path / "notebooks/01_a.py", tmp_path / "transfer/pretrained/a.safetensors"
    golden = tmp_path / "tests/golden/files/outputs.json"
    for file in (path, weights, golden):
        file.write_text("1")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    assert execute.outdated(path) == "is missing"
    execute.store(path, nbformat.v4.new_notebook())
    assert execute.outdated(path) == ""
    for file in (path, weights, golden):
        file.write_text("2")
        assert "was run with other code" in execute.outdated(path)
        file.write_text("1")
        assert execute.outdated(path) == ""
    assert sorted(p.name for p in path.parent.iterdir()) == ["01_a.ipynb", "01_a.py"]


def test_prose_can_change_without_a_run(tmp_path, monkeypatch):
    path = tmp_path / "01_a.py"
    path.write_text("# %% [markdown]\n# Old.\n\n# %%\nprint(1)\n")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    book = jupytext.read(path)
    book.cells[1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    execute.store(path, book)
    path.write_text(path.read_text().replace("Old.", "New."))
    found = execute.reworded(path)
    assert [cell.source for cell in found.cells] == ["New.", "print(1)"]
    assert found.cells[1].outputs == book.cells[1].outputs
    path.write_text(path.read_text().replace("print(1)", "print(2)"))
    assert execute.reworded(path) is None


def test_what_a_stored_notebook_must_not_hold_is_noticed():
    v4 = nbformat.v4
    fine = v4.new_notebook(
        cells=[v4.new_code_cell("print(1)", outputs=[v4.new_output("stream", text="runs/x 1/2")])]
    )
    assert execute.problems(fine) == []
    for output, said in (
        ([], "has no output"),
        ([v4.new_output("stream", text="in /home/me/runs")], "a path of this machine"),
        ([v4.new_output("stream", text="in C:\\me")], "a path of this machine"),
        ([v4.new_output("stream", name="stderr", text="careful")], "stderr"),
        ([v4.new_output("error", ename="E", evalue="", traceback=[])], "failed"),
        (
            [v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})],
            "widget",
        ),
        ([v4.new_output("display_data", {"image/png": "A" * 1_500_000})], "are allowed"),
    ):
        book = copy.deepcopy(fine)
        book.cells[0].outputs = output
        [found] = execute.problems(book)
        assert said in found


def test_names_of_notebooks_are_checked():
    done = subprocess.run(
        [sys.executable, ROOT / "notebooks" / "execute.py", "7"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr == "error: no notebook begins with 7\n"


def words(book) -> list[str]:
    """What the cells print, without numbers: those change with the processor's rounding."""
    return re.findall(r"[A-Za-z_]{3,}", printed(book))


def needed() -> None:
    for package in ("nbclient", "matplotlib", "sklearn", "umap"):
        pytest.importorskip(package)


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_shows_what_is_stored(path):
    """On the sample corpus and the shipped weights; whatever wants to download fails."""
    needed()
    book = execute.execute(path)
    assert execute.problems(book) == []
    assert figures(book) == figures(stored(path))
    assert words(book) == words(stored(path))


@pytest.mark.slow
@pytest.mark.realdata
def test_the_data_notebook_runs_on_the_real_data(real_data):
    needed()
    book = execute.execute(ROOT / "notebooks" / "01_data.py", {"KUZUSHIJI_DATA": str(real_data)})
    said = printed(book)
    assert figures(book) >= FIGURES["01_data"]
    assert str(real_data) in said and ("Kuzushiji-MNIST is not in the data folder" in said) == (
        not (real_data / "kmnist").is_dir()
    )


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
