"""The content of README, CONTRIBUTING, the other documents and the notebooks: links lead somewhere,
commands are accepted, examples run."""

import csv
import dataclasses
import datetime
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
import unicodedata
from pathlib import Path
from urllib.parse import urlsplit

import jupytext
import numpy as np
import pytest
import yaml
from lxml import etree

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0*.py"))
FINDINGS = ROOT / "docs" / "findings"
DOCUMENTS = sorted(
    path
    for folder in (ROOT, *(ROOT / name for name in ("data", "docs", "examples", "transfer")))
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
"""Every Markdown file of the project."""
TOLD = [path for path in DOCUMENTS if FINDINGS not in path.parents]
"""Those that a reader follows today. Findings tell of the commands of their day."""
OTHERS = {".ci/run", "cd", "git", "source", "jupyter", "jupytext", "apt-get"}
"""Programs that are not ours and may stand in a document."""


def text_of(path: Path) -> str:
    """A document's Markdown; of a notebook its Markdown cells."""
    if path.suffix == ".md":
        return path.read_text("utf-8")
    return "\n\n".join(
        cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown"
    )


# Links --------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """The text without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives the headings of a Markdown file."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.S | re.M), re.M
    )
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", h).lower()).replace(" ", "-")
        for h in headings
    }


def targets(text: str) -> list[str]:
    text = prose(text)
    return [
        *re.findall(r"\]\(([^)\s]+)\)", text),
        *re.findall(r'src="([^"]+)"', text),
        *re.findall(r"<(https?:[^>\s]+)>", text),
    ]


def wrong_link(target: str, document: Path) -> str:
    """What is wrong with a link, or ""."""
    if target.startswith(("http:", "https:")):
        parts = urlsplit(target)
        fine = re.fullmatch(
            r"[a-z0-9.-]+\.[a-z]{2,}|127\.0\.0\.1(:[0-9]+)?", parts.netloc
        ) and not re.search(r"[\s<>\"]", target)
        return "" if fine else "is no well-formed address"
    name, _, anchor = target.partition("#")
    path = (document.parent / name).resolve() if name else document
    if not path.exists():
        return "is not there"
    if ROOT not in (path, *path.parents):
        return "leads out of the project"
    return "" if not anchor or anchor in anchors(path) else "has no such heading"


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *NOTEBOOKS], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_lead_somewhere(document):
    wrong = {
        target: reason
        for target in targets(text_of(document))
        if (reason := wrong_link(target, document))
    }
    assert not wrong, wrong


def test_a_wrong_link_is_noticed():
    for target in (
        "docs/none.png",
        "#no-such-heading",
        "RESULTS.md#none",
        "../../etc",
        "https://no host/",
        "http://nodots/x",
    ):
        assert wrong_link(target, ROOT / "README.md"), target
    assert targets('[a](b.md) `[c](d)` <img src="e.png"> <https://f.org>\n```\n[g](h)\n```\n') == [
        "b.md",
        "e.png",
        "https://f.org",
    ]


@pytest.mark.parametrize("document", TOLD, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_named_in_passing_exist(document):
    """`transfer/models/mdn.py` and the like, in backticks."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|tsv|txt|gz|png))`", text_of(document))
    known = [
        n
        for n in named
        if n.startswith(
            (
                "data/",
                "transfer/",
                "experiments/",
                "benchmarks/",
                "notebooks/",
                "tests/",
                "examples/",
                "docs/",
            )
        )
    ]
    assert not [n for n in known if not (ROOT / n).exists()]


STAMP = r"\*(\d{4}-\d\d-\d\d) · [^*]+\*"
"""The line *date · machine · … · command* under a heading."""


def test_results_are_one_page_dated_and_newest_first():
    """Under every heading of RESULTS.md a stamp and what to expect of the figures."""
    text = (ROOT / "RESULTS.md").read_text("utf-8")
    assert len(text.split()) <= 1200
    sections = re.split(r"^## .+\n\n", text, flags=re.M)[1:]
    dates = [found[1] for part in sections if (found := re.match(STAMP, part))]
    assert len(dates) == len(sections) >= 5
    assert dates == sorted(dates, reverse=True)
    for part in sections:
        assert "`" in part.partition("\n\n")[0] or "](" in part.partition("\n\n")[0]
        assert "docs/findings/" in part


def test_findings_are_questions_with_a_date_an_answer_and_a_line_in_the_index():
    index = (FINDINGS / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (\d{4}-\d\d-\d\d) \|", index, re.M)
    told = []
    for page in sorted(FINDINGS.glob("*.md")):
        if page.name != "README.md":
            text = page.read_text("utf-8")
            found = re.match(rf"# (.+\?)\n\n{STAMP}\n\n\*\*In short\.\*\* ", text)
            assert found, page.name
            told.append((found[1], page.name, found[2]))
    assert sorted(listed) == sorted(told)


# Length and figures -------------------------------------------------------------------------------


def columns(line: str) -> int:
    """As a terminal shows it: a Japanese character takes two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line)


def long_lines(text: str) -> list[str]:
    """Lines of prose above 120 columns: tables, code and HTML are none."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    lines = [line for line in plain.splitlines() if not re.match(r" {4}\S|\s*[|<]", line)]
    return [line for line in lines if columns(line) > 120]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_lines_of_prose_are_at_most_120_columns_long(document):
    assert long_lines(document.read_text("utf-8")) == []


def test_a_long_line_is_noticed():
    assert long_lines("字" * 60 + "\n| " + "x" * 200 + "\n    " + "y" * 200) == []
    assert long_lines("字" * 60 + "x") and long_lines("- " + "word " * 30)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 1200


def percentages(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table whose head begins with `heading`, percentages alone, without
    intervals."""
    table = re.search(rf"^\| {re.escape(heading)}.*\n\|[-:| ]+\n((?:\|.*\n)+)", text, re.M)
    assert table, heading
    found = [
        re.findall(r"\d+\.\d %", re.sub(r"\[[^]]*\]", "", row)) for row in table[1].splitlines()
    ]
    return [row for row in found if row]


def test_the_same_figures_stand_everywhere():
    """README, Japanese README, model card, leaderboard and RESULTS: who replaces the figures of the
    shipped weights in one of them is led to the others."""
    read = lambda name: (ROOT / name).read_text("utf-8")
    results = percentages(read("RESULTS.md"), "share of images")
    readme = percentages(read("README.md"), "share of images with")
    assert len(readme) == 6
    for row in readme:
        assert row in results, row
    assert percentages(read("README.ja.md"), "次のようになった画像の割合") == readme
    card = percentages(read("transfer/pretrained/README.md"), "share of images with")
    assert card == [row[:2] for row in readme[:5]]
    board = re.findall(
        r"^\| kuzushiji-transfer, .*? \| (val|zero-shot) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|"
        r" [\d.]+ \| ([\d.]+) \|$",
        read("docs/leaderboard.md"),
        re.M,
    )
    first, ten, count = readme[2], readme[3], readme[4]
    best = next(
        row for row in results if row[0] == f"{board[0][3]} %" and row[1] == f"{board[1][3]} %"
    )
    for column, row in enumerate(board):
        told = [f"{figure} %" for figure in row[1:]]
        assert told == [first[column], ten[column], best[column], count[column]]


def test_the_numbers_of_the_splits_stand_with_the_lists_alone():
    from transfer.data.splits import class_of, read_lists

    page = ROOT / "transfer" / "data" / "splits" / "README.md"
    for split, names in read_lists().items():
        images, classes = f"{len(names):,}", f"{len({class_of(n) for n in names}):,}"
        told = f"`{split}.txt.gz` | {images} | {classes} |"
        assert told in page.read_text("utf-8")
        row = re.compile(rf"^\|.*{split}.*\b{images}\b.*\b{classes}\b", re.M)
        assert [p for p in TOLD if row.search(p.read_text("utf-8"))] == [page], split


# The figures' pictures ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures():
    """experiments/make_figures.py, and what `draw` makes of the examples, by tests/golden."""
    spec = importlib.util.spec_from_file_location(
        "make_figures", ROOT / "experiments" / "make_figures.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    golden = sorted((ROOT / "tests" / "golden" / "files" / "drawings").glob("*.json"))
    return module, {path.stem: json.loads(path.read_text("utf-8"))["json"] for path in golden}


def without_pixels(svg: str) -> str:
    """Compressed differently by another zlib, the embedded pictures are left out."""
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", svg)


def test_figures_are_of_the_shipped_weights(figures, tmp_path):
    """If it fails: `kuzushiji-transfer draw examples/*.png --out drawings`, then `python
    experiments/make_figures.py drawings`."""
    module, results = figures
    module.write(results, ROOT / "examples", tmp_path)
    for name in ("examples.svg", "architecture.svg"):
        kept = (ROOT / "docs" / "figures" / name).read_text("utf-8")
        assert without_pixels((tmp_path / name).read_text("utf-8")) == without_pixels(kept), name
        assert "prefers-color-scheme: dark" in kept and len(kept) < 100_000
        assert kept.count("base64,") == (8 if name == "examples.svg" else 1)
        etree.fromstring(kept.encode())


def test_every_figure_is_shown_and_has_a_caption():
    shown = set()
    findings = ("docs/findings/speed.md", "docs/findings/what-made-the-difference.md")
    for name in ("README.md", "README.ja.md", "RESULTS.md", *findings):
        text = (ROOT / name).read_text("utf-8").replace('"../figures/', '"docs/figures/')
        found = re.findall(r'^<img src="(docs/figures/.+?)" width="\d+" alt=".+">$', text, re.M)
        captions = re.findall(r"^<img [^\n]+>\n\n\*[^*\n][^*]+\*$", text, re.M)
        assert found and len(captions) == len(found) == text.count("<img "), name
        shown |= set(found)
    kept = {p.relative_to(ROOT).as_posix() for p in (ROOT / "docs" / "figures").iterdir()}
    assert shown == kept


def test_the_caption_counts_the_right_ones(figures):
    module, results = figures
    right = sum(r["candidates"][0]["character"] == module.truth(s) for s, r in results.items())
    for name in ("README.md", "README.ja.md"):
        assert f"{right} of {len(results)}" in (ROOT / name).read_text("utf-8"), name


def test_a_folder_without_drawings_gives_one_line(tmp_path):
    script = ROOT / "experiments" / "make_figures.py"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.json").write_text("[]")
    for folder, said in (("none", "holds no results"), ("full", "a.json: is no result")):
        done = subprocess.run(
            [sys.executable, script, tmp_path / folder, "--out", tmp_path / "out"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()
    assert "](findings/README.md)" in index


# Commands -----------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """Every command of the fenced bash and the indented blocks, and of the backticks that begin
    like one, as words."""
    lines = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    plain = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M).replace("\\\n", " ")
    indented = [line[4:] for line in plain.splitlines() if re.match(r" {4}\S", line)]
    own = (
        r"(?:python|kuzushiji-transfer|pip|\.ci/run|git|source|jupyter|jupytext|apt-get|[A-Z_]+=\S+"
        r" (?:python|kuzushiji-transfer))\b"
    )
    lines += [line for line in indented if re.match(own, line)]
    lines += re.findall(rf"(?<!`)`({own} [^`\n]+)`(?!`)", plain)
    split = [
        shlex.split(part, comments=True)
        for line in lines
        for part in re.split(r"&&|\|(?!\|)", line)
    ]
    return [
        words[next(i for i, w in enumerate(words) if not re.fullmatch(r"[A-Z_]+=\S*", w)) :]
        for words in split
        if words
    ]


@functools.cache
def help_of(script: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "COLUMNS": "200",
        },
    )
    assert done.returncode == 0, f"{script} --help: {done.stderr}"
    return done.stdout


def parsed(parser, arguments: list[str]) -> str:
    """What a parser has against arguments, or ""."""
    try:
        parser.parse_args(arguments)
    except SystemExit as finished:
        return f"not taken: {arguments}" if finished.code else ""
    return ""


def wrong_command(words: list[str], run_help: bool) -> str:
    """What is wrong with a command, or "". run_help: start scripts with --help, to compare their
    options."""
    program, arguments = words[0], words[1:]
    if program == "kuzushiji-transfer":
        from transfer.cli import parser

        return parsed(parser(), arguments)
    if program == "pip" or arguments[:2] == ["-m", "pip"]:
        known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
            "optional-dependencies"
        ]
        extras = [e for a in arguments for e in re.findall(r"^\.\[(.+)\]$", a)]
        return (
            ""
            if "install" in arguments and all(e in known for x in extras for e in x.split(","))
            else f"extras {extras}"
        )
    if program != "python":
        return (
            ""
            if program in OTHERS and (not program.startswith(".") or (ROOT / program).is_file())
            else f"what is {program}?"
        )
    if arguments[:2] == ["-m", "transfer.data"]:
        from transfer.data.__main__ import _parser

        return parsed(_parser(), arguments[2:])
    if arguments[:2] == ["-m", "pytest"]:
        return "".join(
            f"{a} is not there" for a in arguments[2:] if "/" in a and not (ROOT / a).exists()
        )
    if arguments[:1] == ["-m"]:
        known = arguments[1] in ("venv", "pdoc", "http.server")
        return "" if known else f"what is python -m {arguments[1]}?"
    if not arguments or not (ROOT / arguments[0]).is_file():
        return f"{' '.join(words)}: no such script"
    options = [a.partition("=")[0] for a in arguments[1:] if a.startswith("--")]
    if run_help:
        return "".join(
            f"{arguments[0]} has no {o}"
            for o in options
            if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", help_of(arguments[0]))
        )
    return ""


def test_the_japanese_readme_has_the_same_commands():
    english, japanese = (
        [" ".join(words) for words in commands((ROOT / name).read_text("utf-8"))]
        for name in ("README.md", "README.ja.md")
    )
    assert english == japanese


def check_commands(document: Path, run_help: bool) -> None:
    found = commands(text_of(document))
    wrong = [reason for words in found if (reason := wrong_command(words, run_help))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("document", [*TOLD, *NOTEBOOKS], ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_are_taken(document):
    check_commands(document, run_help=False)


@pytest.mark.slow
@pytest.mark.parametrize("document", [*TOLD, *NOTEBOOKS], ids=lambda p: str(p.relative_to(ROOT)))
def test_scripts_have_the_options_that_are_told(document):
    check_commands(document, run_help=True)


def test_commands_are_found_and_wrong_ones_noticed(capsys):
    text = (
        "Say `python -m transfer.data info` or `python experiments/none.py`.\n\n"
        "    python -m transfer.data download kkanji \\\n      --data DIR   # a word\n\n"
        "```bash\npython -m pip install . && kuzushiji-transfer draw a.png --out b\n```\n\n"
        "    CUDA_VISIBLE_DEVICES=0 python x.py\n    old ──► new\n"
    )
    assert sorted(map(" ".join, commands(text))) == [
        "kuzushiji-transfer draw a.png --out b",
        "python -m pip install .",
        "python -m transfer.data download kkanji --data DIR",
        "python -m transfer.data info",
        "python experiments/none.py",
        "python x.py",
    ]
    for line in (
        "kuzushiji-transfer draw",
        "kuzushiji-transfer paint a.png",
        "python -m transfer.data prepare --none",
        "python experiments/none.py",
        'python -m pip install ".[none]"',
        "python -m pytest tests/none.py",
        "rm -r x",
        "python -m none",
    ):
        assert wrong_command(shlex.split(line), False), line
    assert len(commands((ROOT / "README.md").read_text("utf-8"))) > 12


# Examples -----------------------------------------------------------------------------------------

EXAMPLES = dict(
    re.findall(
        r"<!-- test: ([a-z]+) -->\n```python\n(.*?)^```",
        (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
        re.S | re.M,
    )
)


def run(code: str, folder: Path, monkeypatch) -> dict:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KUZUSHIJI_DATA", "")
    names = {"__name__": "example"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names


def test_contributing_has_three_examples_of_less_than_40_lines():
    assert list(EXAMPLES) == ["data", "model", "metric"]
    for name, code in EXAMPLES.items():
        lines = [line for line in code.splitlines() if line.strip()]
        assert sum(not line.startswith(("import ", "from ")) for line in lines) < 40, name
        assert max(map(len, lines)) <= 100, name


def test_example_of_a_data_set(tmp_path, monkeypatch):
    names = run(EXAMPLES["data"], tmp_path, monkeypatch)
    club = names["club"]
    assert (
        len(club.old.images) == 12
        and set(club.old.code_points.tolist()) == {ord("山"), ord("川")}
        and len(club.old.indices("val")) == 2
    )
    (tmp_path / "other.npz").write_bytes(b"no")
    with pytest.raises(names["DataError"], match="other.npz: cannot be read"):
        list(names["read"](tmp_path / "other.npz"))


def test_example_of_a_model(tmp_path, monkeypatch):
    names = run(EXAMPLES["model"], tmp_path, monkeypatch)
    assert names["described"]["config"]["hidden"] == 64
    lines = [
        json.loads(line)
        for line in (tmp_path / "runs" / "direct" / "metrics.jsonl").read_text().splitlines()
    ]
    measured = [line["val/pixels"] for line in lines if "val/pixels" in line]
    assert measured[-1] < measured[0]


@pytest.mark.slow
def test_example_of_a_metric(tmp_path, monkeypatch):
    found = run(EXAMPLES["metric"], tmp_path, monkeypatch)["found"]
    ratio = found.per_image["ink drawn over ink asked for"]
    assert (
        ratio.shape == (4,)
        and (ratio > 0).all()
        and 0 <= found.overall["drawings with too little ink"] <= 1
    )


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "scans").mkdir()
    shutil.copy(ROOT / "examples" / "hana_U+82B1.png", tmp_path / "scans")
    (tmp_path / "scans" / "bad.png").write_bytes(b"no")
    [code] = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.S | re.M
    )
    assert len(code.splitlines()) <= 14
    names = run(code, tmp_path, monkeypatch)
    assert len(names["result"].candidates) == 10 and (tmp_path / "hana.svg").stat().st_size > 200


def block(page: str, marked: str = "") -> str:
    """The Python of a page, the first or that under the comment <!-- test: MARKED -->."""
    text = (ROOT / page).read_text("utf-8")
    before = rf"<!-- test: {marked} -->\n" if marked else ""
    return textwrap.dedent(re.search(rf"{before}^ *```python\n(.*?)^ *```", text, re.S | re.M)[1])


def test_the_japanese_readmes_python_is_the_same():
    bare = lambda name: re.sub(r" *#.*", "", block(name))
    assert bare("README.md") == bare("README.ja.md")


def test_the_pages_own_hand_becomes_a_data_folder(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    run(block("docs/own-hand.md"), tmp_path, monkeypatch)
    from transfer.data import corpus, sample
    from transfer.data.prepare import prepare

    sample.write(tmp_path / "sample", images_per_class=1)
    (tmp_path / "sample" / sample.XML).rename(tmp_path / "mine" / sample.XML)
    prepare(tmp_path / "mine", progress=False)
    assert corpus.load(tmp_path / "mine", quiet=True).old.code_points.tolist() == [ord("花")]


@pytest.mark.slow
def test_the_leaderboards_example_is_scored(tmp_path, monkeypatch):
    """On twelve images of the sample corpus; their candidates are the model's own."""
    from transfer.data import corpus
    from transfer.evaluation.predictions import score, table

    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    data = corpus.load(quiet=True)
    kept = data.old.indices("val")[:12]
    fewer = np.full(len(data.old.split), 0, np.uint8)
    fewer[kept] = 1
    data = dataclasses.replace(data, old=dataclasses.replace(data.old, split=fewer))
    monkeypatch.setattr(corpus, "load", lambda: data)
    model = run(block("docs/leaderboard.md", "predictions"), tmp_path, monkeypatch)["model"]
    with open(tmp_path / "mine.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 13
    measured, _ = score.measure(table.read(tmp_path / "mine.csv", data, "val"), data)
    own = [r.candidates[0][0] for r in model.transfer(np.array(data.old.images[kept]), samples=1)]
    order = np.argsort(data.old.names[kept].astype(str))
    right = [own[i] == chr(data.old.code_points[kept[i]]) for i in order]
    assert measured["candidates, top-1"].tolist() == right
    assert "HOG: drawing, top-1" in measured


# Citation -----------------------------------------------------------------------------------------


def test_the_citation_file_is_valid_and_of_this_version():
    """The fields that schema 1.2.0 (https://github.com/citation-file-format) asks for, and what
    must agree with pyproject.toml."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert told["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= told.keys()
    assert (told["version"], told["license"], told["type"]) == (
        project["version"],
        project["license"],
        "software",
    )
    allowed = {
        "cff-version",
        "message",
        "title",
        "authors",
        "abstract",
        "commit",
        "contact",
        "date-released",
        "doi",
        "identifiers",
        "keywords",
        "license",
        "license-url",
        "preferred-citation",
        "references",
        "repository",
        "repository-artifact",
        "repository-code",
        "type",
        "url",
        "version",
    }
    assert told.keys() <= allowed
    for entry in (told, *told["references"]):
        assert entry["title"] and entry["type"] in ("software", "article", "data")
        for author in entry["authors"]:
            assert author.keys() == {"name"} or {"family-names", "given-names"} <= author.keys()
        assert re.fullmatch(r"10\.\d{4,9}(\.\d+)?/\S+", entry.get("doi", "10.0000/x"))
        assert not wrong_link(entry.get("url", "https://example.org/"), ROOT / "CITATION.cff")
        assert 1900 < entry.get("year", 2018) <= datetime.date.today().year
    assert {"KanjiVG", "KMNIST Dataset"} <= {r["title"] for r in told["references"]}
