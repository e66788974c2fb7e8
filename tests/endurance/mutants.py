"""Change the code in one small place at a time, and see whether a test notices.

    pip install "mutmut>=3.8" coverage
    python tests/endurance/mutants.py strokes locks --mutants 60   # of each room; see ROOMS
    python tests/endurance/mutants.py --mutants 60                 # of all: hours on two cores

mutmut makes the changes: it turns a comparison round, changes a number, or leaves out an argument.
The script draws a sample of the changes in a room's functions by seed, and makes each in a copy of
the tree. The room's tests that run the changed line run there, without published data and the
quickest first, until one fails. A change that no test notices
survives. The table has how many were killed, with Wilson's interval of 95 % for all changes of the
room. The script prints survivors as diffs; answer each with a test, or with a reason why nothing
can be wrong. The exit code is 1 if tests notice less than --least of a room's changes.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import difflib
import functools
import gc
import hashlib
import importlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scipy.stats import binomtest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10.0  # times as long as the slowest test of a file takes: then one hangs
TICK = 0.05  # s
MEMORY = 10 << 30  # bytes that the tests of a change may take
HANGS, DIED = 124, 125
FIXTURE = "fixture "
LARGE = ["jax", "flax.nnx", "optax", "scipy.spatial", "scipy.ndimage", "PIL.Image", "lxml.etree"]
OPTIONS = ["-x", "-q", "-p", "xdist.plugin", "-n", "0", "-m", "not slow and not realdata"]
OPTIONS += ["-p", "no:cacheprovider", "-p", "no:unraisableexception", "--durations=0"]
"""No wait for the garbage of a process that ends; no plugins but the one that the project names."""
ROOMS = {
    "splits": (["transfer/data/splits/__init__.py"], ["tests/data/test_splits.py"]),
    "strokes": (["transfer/data/strokes.py"], ["tests/data/test_strokes.py"]),
    "locks": (
        ["transfer/system/locks.py", "transfer/system/files.py", "transfer/system/folders.py"],
        [
            "tests/data/test_locks.py",
            "tests/system/test_files.py",
            "tests/system/test_folders.py",
            "tests/data/test_files_as_they_come.py",
        ],
    ),
    "settings": (["transfer/system/settings.py"], ["tests/system/test_settings.py"]),
    "models": (["transfer/models"], ["tests/models"]),
    "training": (["transfer/training"], ["tests/training"]),
    "evaluation": (["transfer/evaluation"], ["tests/evaluation"]),
    "baselines": (
        ["transfer/baselines"],
        ["tests/baselines", "tests/experiments/test_classify.py"],
    ),
}
"""Name -> the modules and folders that are changed, and the tests that ought to notice."""


@dataclass(frozen=True)
class Mutant:
    """A module with one change in it.

    path: of the module, from the root of the tree.
    before, after: its text without and with the change.
    """

    path: str
    before: str
    after: str

    def diff(self) -> str:
        """The change, with two lines around it."""
        lines = (text.splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(*lines, self.path, self.path, n=2))

    def lines(self) -> set[int]:
        """Lines of the statements that are changed, from 1, without those of statements in them.

        A statement of several lines may run without its first, as `if (` does.
        """
        both = (text.splitlines() for text in (self.before, self.after))
        blocks = difflib.SequenceMatcher(None, *both, autojunk=False).get_opcodes()
        changed = [
            n + 1 for tag, a, b, *_ in blocks if tag != "equal" for n in range(a, max(b, a + 1))
        ]
        owner: dict[int, int] = {}  # line -> first line of the innermost statement
        for s in ast.walk(ast.parse(self.before)):  # outer ones come first
            if isinstance(s, ast.stmt):
                owner |= dict.fromkeys(range(s.lineno, (s.end_lineno or s.lineno) + 1), s.lineno)
        firsts = {owner[n] for n in changed if n in owner}
        return {n for n, first in owner.items() if first in firsts}


def mutants(path: str) -> dict[str, Callable[[], Mutant]]:
    """Every change that mutmut knows of the functions of one module.

    Returns what makes each, by a name that changes elsewhere in the tree leave as it is. To write
    all of them would take minutes.
    """
    from mutmut.mutation.file_mutation import create_mutations, deep_replace

    before = (ROOT / path).read_text("utf-8")
    module, found, *_ = create_mutations(path, before)
    parts = [module.code_for_node(statement) for statement in module.body]
    head, tail = before.split("".join(parts))
    place = {node: n for n, statement in enumerate(module.body) for node in _nodes(statement)}

    def make(change) -> Mutant:
        n = place[change.original_node]
        new = deep_replace(module.body[n], change.original_node, change.mutated_node)
        text = "".join([head, *parts[:n], module.code_for_node(new), *parts[n + 1 :], tail])
        return Mutant(path, before, text)

    made, often = {}, collections.Counter()
    for change in found:
        if change.contained_by_top_level_function is not None:
            nodes = change.original_node, change.mutated_node
            name = "\n".join([path, *map(module.code_for_node, nodes)])
            made[f"{name}\n{often[name]}"] = functools.partial(make, change)
            often[name] += 1
    return made


def _nodes(node):
    yield node
    for child in node.children:
        yield from _nodes(child)


def sample(places: list[str], number: int, seed: int) -> tuple[list[Mutant], int]:
    """Some of the changes of modules and folders, drawn by seed; and how many there are."""
    files = [
        file.relative_to(ROOT).as_posix()
        for place in map(ROOT.joinpath, places)
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
    ]
    found = {name: make for file in files for name, make in mutants(file).items()}
    order = sorted(found, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).digest())
    chosen = (found[name]() for name in order)
    # A change that changes nothing, or the same as another does, does not count.
    chosen = {m.after: m for m in itertools.islice(chosen, number) if m.after != m.before}
    return list(chosen.values()), len(found)


def copy_tree(folder: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


class Plan:
    """A plugin of pytest: which tests run, in which order, what they ran, and what came of it.

    chosen: names of the tests that run, in this order; empty for all.
    notes: a file that gets the name of each test when it begins.
    measured: a coverage.Coverage that has been started; then lines are kept by test, and by
        fixture where several tests share one.
    """

    def __init__(self, chosen: list[str], notes: Path, measured=None):
        self.place = {name: n for n, name in enumerate(chosen)}
        self.notes, self.measured, self.context = notes, measured, ""
        self.failed = ""
        self.seconds: dict[str, float] = {}
        self.uses: dict[str, list[str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        if self.place:
            items[:] = [item for item in items if item.nodeid in self.place]
            items.sort(key=lambda item: self.place[item.nodeid])
        self.uses = {item.nodeid: list(item.fixturenames) for item in items}

    def _switch(self, context: str) -> str:
        before, self.context = self.context, context
        if self.measured:
            self.measured.switch_context(context)
        return before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        with self.notes.open("a") as file:
            file.write(item.nodeid + "\n")
        if self.measured:
            sys.modules["jax"].clear_caches()  # else what it traced for another test leaves no mark
        start = time.monotonic()
        before = self._switch(item.nodeid)
        try:
            return (yield)
        finally:
            self._switch(before)
            self.seconds[item.nodeid] = time.monotonic() - start

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        shared = fixturedef.scope != "function"
        before = self._switch(FIXTURE + fixturedef.argname if shared else self.context)
        try:
            return (yield)
        finally:
            self._switch(before)

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.failed:
            self.failed = report.nodeid


def run_tests(tree: Path, files: list[str], chosen: list[str], limit, measured: bool) -> dict:
    """What came of tests in some files of a tree (`chosen`: of these alone, in this order), which
    end with the first that fails.

    They run in a fork of this process, which has imported what is large and is not changed.
    limit: a function of a test's name ("" while they are collected): the seconds after which it
        counts as hanging. Seconds in which this process is stopped, or does not get a turn, do
        not count.
    measured: whether to keep which lines they run.
    Returns `code` (pytest's; HANGS), `failed` (a test's name), `said`, and `seconds`, `uses` and
    `lines` as Plan and `_lines` have them.
    """
    notes, told, said = (tree / name for name in (".notes", ".told", ".said"))
    for file in (notes, told, said):
        file.write_text("")
    child = os.fork()
    if not child:
        _in_child(tree, files, chosen, measured)  # does not return
    waited, begun = 0.0, [""]
    while not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(TICK)
        waited += TICK
        if len(now := ["", *notes.read_text().splitlines()]) > len(begun):
            waited, begun = 0.0, now
        if waited > limit(begun[-1]):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": HANGS, "failed": begun[-1], "said": "timeout"}
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test has started and left
    found = json.loads(told.read_text() or "{}") or {"code": DIED, "failed": begun[-1]}
    return found | {"said": said.read_text(errors="replace")}


def _in_child(tree: Path, files: list[str], chosen: list[str], measured: bool) -> None:
    code = 3
    try:
        os.setsid()
        with open(tree / ".said", "wb") as said, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.chdir(tree)
        sys.path[0], sys.argv = str(tree), ["pytest"]
        os.environ.pop("KUZUSHIJI_DATA", None)
        os.environ["PYTHONPATH"] = str(tree)
        sys.dont_write_bytecode = not measured
        if not measured:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        cover = None
        if measured:
            from coverage import Coverage

            cover = Coverage(data_file=None, include=[f"{tree}/transfer/*"])
            cover.start()
        plan = Plan(chosen, tree / ".notes", cover)
        code = pytest.main([*OPTIONS, *files], plugins=[plan])
        told = {"code": int(code), "failed": plan.failed}
        if cover:
            cover.stop()
            told |= {"seconds": plan.seconds, "uses": plan.uses, "lines": _lines(cover, tree)}
        (tree / ".told").write_text(json.dumps(told))
        sys.stdout.flush()
    finally:
        os._exit(int(code))


def _lines(cover, tree: Path) -> dict[str, dict[int, list[str]]]:
    """Module -> line -> what ran it: tests, shared fixtures, or "" for an import."""
    data = cover.get_data()
    return {
        Path(file).relative_to(tree).as_posix(): data.contexts_by_lineno(file)
        for file in data.measured_files()
    }


@dataclass(frozen=True)
class Tests:
    """A room's tests, as they run without a change.

    seconds: of each, by name.
    runs: module -> line -> the tests that run it.
    """

    __test__ = False  # for pytest
    seconds: dict[str, float]
    runs: dict[str, dict[int, set[str]]]

    def covering(self, mutant: Mutant) -> list[str]:
        """The tests that run a changed line, file by file and the quickest first."""
        lines = self.runs.get(mutant.path, {})
        found = set().union(*(lines.get(line, set()) for line in mutant.lines()))
        cost = collections.Counter()
        for test in found:
            cost[_file(test)] += self.seconds[test]
        return sorted(found, key=lambda t: (cost[_file(t)], _file(t), self.seconds[t], t))

    def limit(self, test: str) -> float:
        """Seconds after which a test hangs: it may have to set up what others of its file use."""
        slowest = max((s for t, s in self.seconds.items() if _file(t) == _file(test)), default=30.0)
        return PATIENCE * slowest + 30


def _file(test: str) -> str:
    return test.partition("::")[0]


def unchanged(room: str, tree: Path, kept: Path | None) -> Tests:
    """The room's tests, run once without a change.

    kept: a folder that keeps what came of each file of tests, until the code or the file changes.
    """
    tests = Tests({}, {})
    places = [tree / place for place in ROOMS[room][1]]
    files = [f for p in places for f in (sorted(p.rglob("test_*.py")) if p.is_dir() else [p])]
    for file in tqdm(files, desc=f"{room}, unchanged", unit="file", file=sys.stderr):
        name = file.relative_to(tree).as_posix()
        known = kept and kept / f"{_digest(tree, name)}.json"
        if known and known.is_file():
            found = json.loads(known.read_text())
        else:
            found = run_tests(tree, [name], [], lambda test: float("inf"), True)
        if known and found["code"] in (0, 5):
            kept.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(found))
        if found["code"] == 5:
            continue  # all its tests are slow or need published data
        if found["code"]:
            sys.exit(
                f"error: {name}: fails without a change; fix it first\n{found['said'][-3000:]}"
            )
        tests.seconds.update(found["seconds"])
        for path, lines in found["lines"].items():
            for line, by in lines.items():
                names = {test for test in by if test in found["seconds"]}
                shared = {c.removeprefix(FIXTURE) for c in by if c.startswith(FIXTURE)}
                names |= {t for t in found["seconds"] if shared & set(found["uses"][t])}
                names |= set(found["seconds"]) if "" in by else set()  # as it is imported
                tests.runs.setdefault(path, {}).setdefault(int(line), set()).update(names)
    return tests


def _digest(tree: Path, name: str) -> str:
    """Of a file of tests, and of all code but other files of tests."""
    files = [f.relative_to(tree).as_posix() for f in sorted(tree.rglob("*.py"))]
    chosen = [f for f in files if f == name or not Path(f).name.startswith("test_")]
    text = "\0".join(f"{f}\0{(tree / f).read_text('utf-8')}" for f in [name, *chosen])
    return hashlib.sha256(text.encode()).hexdigest()


def try_out(mutant: Mutant, tests: Tests, tree: Path) -> dict | None:
    """What the tests that run the changed lines say of it (see `run_tests`); None without any."""
    chosen = tests.covering(mutant)
    if not chosen:
        return None
    module = tree / mutant.path
    for old in module.parent.glob(f"__pycache__/{module.stem}.*"):
        old.unlink()
    module.write_text(mutant.after, "utf-8")
    found = run_tests(tree, list(dict.fromkeys(map(_file, chosen))), chosen, tests.limit, False)
    module.write_text(mutant.before, "utf-8")
    return found


@dataclass
class Score:
    """How many changes of a room there are, were tried, and were noticed; and those that were not.

    hung: how many of those noticed made a test hang.
    """

    every: int
    tried: int = 0
    hung: int = 0
    left: list[Mutant] = field(default_factory=list)

    def row(self, room: str) -> str:
        killed = self.tried - len(self.left)
        bounds = binomtest(killed, self.tried).proportion_ci(method="wilson")
        return (
            f"| {room} | {self.every:,} | {self.tried} | {killed} | {self.hung} | "
            f"{killed / self.tried:.0%} ({bounds.low:.0%}–{bounds.high:.0%}) |"
        )


def score(room: str, number: int, seed: int, tree: Path, kept: Path | None) -> Score:
    """Try a sample of a room's changes; prints what becomes of each. kept: see `unchanged`."""
    chosen, every = sample(ROOMS[room][0], number, seed)
    tests, result = unchanged(room, tree, kept), Score(every)
    for mutant in tqdm(chosen, desc=room, unit="change", file=sys.stderr):
        start = time.monotonic()
        found = try_out(mutant, tests, tree)
        result.tried += 1
        where = f"{mutant.path}:{min(mutant.lines())}, {time.monotonic() - start:.1f} s"
        if found is None or not found["code"]:
            result.left.append(mutant)
            why = "no test notices" if found else "no test runs it"
            print(f"{where}: survives, {why}\n{mutant.diff()}", flush=True)
            continue
        if found["code"] == pytest.ExitCode.NO_TESTS_COLLECTED:
            sys.exit(f"error: {where}: its tests are not there\n{found['said'][-3000:]}")
        result.hung += found["code"] == HANGS
        how = {HANGS: "hangs in ", DIED: "ends the process in "}.get(found["code"], "")
        print(f"{where}: {how}{found['failed'] or 'import'}", flush=True)
    return result


def prepare(folder: Path) -> None:
    """Import what tests import and no change touches, so that forks need not; JAX keeps compiled
    programs in `folder`, unless the environment names another, and a change compiles its own only.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX; nothing runs yet
    for name in [*LARGE, "xdist.plugin"]:
        importlib.import_module(name)
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"any of {', '.join(ROOMS)} [all]")
    parser.add_argument(
        "--mutants", type=int, default=60, help="number of changes in each room [%(default)s]"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kept",
        type=Path,
        help="folder for what the tests run without a change; another draw need not run them again",
    )
    parser.add_argument(
        "--least",
        type=float,
        default=0.85,
        help="lowest share of changes that tests must notice [%(default)s]",
    )
    chosen = parser.parse_args()
    if unknown := [room for room in chosen.rooms if room not in ROOMS]:
        parser.error(f"{unknown[0]}: no such room; choose from {', '.join(ROOMS)}")
    kept = chosen.kept and chosen.kept.absolute()
    os.chdir(ROOT)  # where mutmut looks for its settings
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / "tree"
        copy_tree(tree)
        prepare(Path(folder))
        for room in chosen.rooms or ROOMS:
            scores[room] = score(room, chosen.mutants, chosen.seed, tree, kept)
    print("| room | changes | tried | killed | of these hung | killed (95 % interval) |")
    print(
        "|---|---|---|---|---|---|",
        *(s.row(room) for room, s in scores.items() if s.tried),
        sep="\n",
    )
    return int(any(len(s.left) > (1 - chosen.least) * s.tried for s in scores.values()))


if __name__ == "__main__":
    sys.exit(main())
