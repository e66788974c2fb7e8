"""The tree is as CONTRIBUTING.md says: rooms, who imports whom, sizes, and what an import costs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES, MODULES, COLUMNS = 450, 12, 100
FOLDERS = ("transfer", "tests", "experiments", "benchmarks", "notebooks", "data", ".ci")


def table() -> list[str]:
    """The folders that CONTRIBUTING.md lists under "Where things live", in its order."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.partition("## Where things live")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w./]+)/` \|", section, re.M)


def folders() -> set[str]:
    """Every folder of transfer/ that is a room, by its path: each that holds files, but what lies
    in a folder without modules is a part of that one."""
    found = set()
    for folder in (ROOT / "transfer").rglob("*"):
        if folder.is_dir() and folder.name != "__pycache__":
            above = folder.parent
            if above == ROOT / "transfer" or any(above.glob("*.py")):
                found.add(folder.relative_to(ROOT).as_posix())
    return found


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of each module of the package `transfer` in `root`."""
    found = {}
    for path in (root / "transfer").rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it names in an import, wherever it stands: inside
    of functions and under TYPE_CHECKING, too."""
    known = modules(root)
    graph = {}
    for name, path in known.items():
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        named = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                full = {f"{base}.{alias.name}": alias.name for alias in node.names}
                named |= {module if module in known else base for module in full}
        graph[name] = {module for module in named if module in known and module != name}
    return graph


def room(module: str) -> str:
    """The folder of transfer/ in which a module lies: `data` for `transfer.data.formats.svg`, ""
    for the package's own modules and the command line."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "transfer" / parts[1]).is_dir() else ""


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along one circle of a graph, or []."""
    done = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if found := visit(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next(filter(None, (visit(name, []) for name in sorted(graph))), [])


def between(graph: dict[str, set[str]], place) -> dict[str, set[str]]:
    """The graph of places that the graph of modules makes."""
    out: dict[str, set[str]] = {}
    for name, others in graph.items():
        out.setdefault(place(name), set()).update(map(place, others))
    return {name: others - {name} for name, others in out.items()}


def against_the_order(graph: dict[str, set[str]], order: list[str]) -> list[str]:
    """Imports of a room that stands below the importing one in the table."""
    place = {name: number for number, name in enumerate(order)} | {"": len(order)}
    return [
        f"{name} imports {other}"
        for name, others in sorted(graph.items())
        for other in sorted(others)
        if place[room(name)] < place[room(other)]
    ]


def order() -> list[str]:
    return [path.split("/")[1] for path in table() if re.fullmatch(r"transfer/\w+", path)]


def test_the_table_has_every_folder_and_no_other():
    listed = table()
    assert len(listed) == len(set(listed))
    assert {path for path in listed if path.startswith("transfer/")} == folders()
    for path in set(listed):
        assert (ROOT / path).is_dir(), path


def test_arrows_go_one_way():
    assert against_the_order(imports(ROOT), order()) == []


def test_models_know_no_files_and_no_corpus():
    graph = imports(ROOT)
    for name in graph:
        if room(name) == "models":
            assert {room(other) for other in graph[name]} <= {"models", "system"}, name


def test_there_are_no_circles():
    graph = imports(ROOT)
    assert circle(graph) == []
    assert circle(between(graph, room)) == []


def test_wrong_imports_are_noticed(tmp_path):
    """The same checks on a small tree that has each fault."""
    for name, text in {
        "models/net.py": "def f():\n    from transfer.data import corpus\n",
        "data/corpus.py": "from transfer.data.strokes import x\n",
        "data/strokes.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from . import corpus\n",
        "system/errors.py": "import transfer.models.net\n",
        "__init__.py": "",
    }.items():
        (tmp_path / "transfer" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "transfer" / name).write_text(text)
    graph = imports(tmp_path)
    assert graph["transfer.models.net"] == {"transfer.data.corpus"}
    assert circle(graph)[0] in ("transfer.data.corpus", "transfer.data.strokes")
    assert against_the_order(graph, ["system", "data", "models"]) == [
        "transfer.system.errors imports transfer.models.net"
    ]
    graph["transfer.data.strokes"] = {"transfer.system.errors"}
    assert set(circle(between(graph, room))) == {"models", "data", "system"}


def test_modules_and_folders_are_small():
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in modules(ROOT).values()
    }
    assert {path: size for path, size in sizes.items() if size > LINES} == {}
    counts: dict[str, int] = {}
    for path in sizes:
        folder, _, name = path.rpartition("/")
        counts[folder] = counts.get(folder, 0) + (name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MODULES} == {}


def test_lines_are_at_most_100_characters_long():
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert long == []


# What an import costs -----------------------------------------------------------------------------


def cpu_seconds(*arguments: str) -> float:
    """User and system time of Python with these arguments: what the machine does beside does not
    count, or little. The least of three."""
    spent = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        spent.append(usage.ru_utime + usage.ru_stime)
    return min(spent)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no way to measure a process's CPU time")
def test_imports_and_help_are_quick():
    """On an idle machine 0.1 and 0.4 s; here two and a half times as much, and Python's own start
    taken off."""
    bare = cpu_seconds("-c", "pass")
    assert cpu_seconds("-c", "import transfer") - bare < 0.25
    assert cpu_seconds("-m", "transfer", "--help") - bare < 1.0


def test_who_imports_the_package_does_not_wait_for_what_he_does_not_use():
    program = (
        "import sys\nimport transfer\nearly = set(sys.modules)\n"
        "from transfer.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'flax', 'optax', 'orbax', 'scipy', 'lxml', 'PIL', 'tyro', 'matplotlib'}\n"
        "print('\\n' + repr(sorted({'numpy', *heavy} & early) + sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
