"""The reference pages fit today's commands and docstrings, and their examples run."""

import doctest
import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from transfer.cli import COMMANDS, parser

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_spec = importlib.util.spec_from_file_location(
    "make_reference", ROOT / "experiments" / "make_reference.py"
)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)
RUN = ("draw", "candidates", "data", "info", "completion")
"""Commands whose example takes seconds. The others have tests of their own in tests/commands."""


def bare(text: str) -> list[str]:
    """The words of a page: versions of Python break the lines of help differently."""
    return text.split()


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_current(name, monkeypatch):
    """If it fails: `python experiments/make_reference.py`."""
    monkeypatch.setenv("COLUMNS", "120")
    assert bare(reference.PAGES[name]()) == bare((DOCS / name).read_text("utf-8"))


def test_the_glossary_has_a_dozen_words_each_told_in_both_languages():
    words = reference.glossary()
    assert len(words) >= 12
    for tag in ("en", "ja"):
        assert len({word[tag]["term"] for word in words}) == len(words)
        for word in words:
            assert word[tag].keys() == {"term", "meaning"} and word.keys() == {"en", "ja"}
            assert word[tag]["term"].strip() and word[tag]["meaning"][-1] in ".。"
            japanese = re.search("[ぁ-ヶ]", word[tag]["meaning"])
            assert bool(japanese) == (tag == "ja"), word[tag]["meaning"]


def test_every_command_has_a_page_and_an_example_that_is_taken():
    text = (DOCS / "reference" / "commands.md").read_text("utf-8")
    names = [command.__name__.rpartition(".")[2] for command in COMMANDS]
    assert re.findall(r"^## (\w+)$", text, re.M) == names == list(reference.EXAMPLES)
    for name in names:
        parser().parse_args([name, *shlex.split(reference.EXAMPLES[name])])


def test_every_public_name_has_a_docstring_and_its_module_an_example():
    for module_name, names in reference.API.items():
        module = importlib.import_module(module_name)
        for name in names:
            assert (getattr(module, name).__doc__ or "").strip(), name
        where = "transfer.inference.pipeline" if module_name == "transfer" else module_name
        found = doctest.DocTestFinder().find(importlib.import_module(where))
        assert any(test.examples for test in found)


def test_docstrings_become_lists_and_code():
    text = "What it does.\n\nsize: of a thing,\nin units.\nseed, top: more.\n\n>>> 1 + 1\n2"
    assert reference.markdown(text) == (
        "What it does.\n\n- `size`: of a thing,\n  in units.\n- `seed`, `top`: more.\n\n"
        "```python\n>>> 1 + 1\n2\n```"
    )


def check(module_name: str, folder: Path, monkeypatch) -> None:
    """Run the examples of a module's docstrings in a folder that has the pictures."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KUZUSHIJI_DATA", "")
    found = doctest.testmod(importlib.import_module(module_name))
    assert found.attempted and not found.failed


@pytest.mark.parametrize(
    "name", ["transfer.data.strokes", "transfer.data.corpus", "transfer.inference.images"]
)
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    check(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transfer", "transfer.inference.pipeline"])
def test_examples_that_draw(name, tmp_path, monkeypatch):
    check(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_examples_of_commands(name, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-m", "transfer", name, *shlex.split(reference.EXAMPLES[name])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    assert name != "draw" or (tmp_path / "runs/drawings/hana_U+82B1.svg").is_file()
