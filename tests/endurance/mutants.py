"""Change the code in one small place at a time, and see whether a test notices.

    pip install "mutmut>=3.8" coverage
    python tests/endurance/mutants.py strokes locks --mutants 60   # of each room; see ROOMS
    python tests/endurance/mutants.py --mutants 60                 # of all: hours on two cores

mutmut makes the changes: it turns a comparison round, changes a number, or leaves out an argument.
The script draws a sample of the changes in a room's functions by seed, and makes each in a copy of
the tree. Those of the room's test files that run the changed line run there, without published
data and the quickest first, until one fails. A change that no test notices survives. The table has
how many were killed, with Wilson's interval of 95 % for all changes of the room. The script prints
survivors as diffs; answer each with a test, or with a reason why nothing can be wrong. The exit
code is 1 if tests notice less than --least of a room's changes.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10.0  # times as long as the tests take without a change: then they hang
ROOMS = {
    "splits": (["transfer/data/splits/__init__.py"], ["tests/data/test_splits.py"]),
    "strokes": (["transfer/data/strokes.py"], ["tests/data/test_strokes.py"]),
    "locks": (
        ["transfer/system/locks.py", "transfer/system/files.py", "transfer/system/folders.py"],
        ["tests/data/test_locks.py", "tests/system/test_files.py"],
    ),
    "settings": (["transfer/system/settings.py"], ["tests/system/test_settings.py"]),
    "models": (["transfer/models"], ["tests/models"]),
    "training": (["transfer/training"], ["tests/training"]),
    "evaluation": (["transfer/evaluation"], ["tests/evaluation"]),
    "baselines": (["transfer/baselines"], ["tests/baselines"]),
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
        """First lines of the statements that are changed, from 1."""
        both = (text.splitlines() for text in (self.before, self.after))
        blocks = difflib.SequenceMatcher(None, *both, autojunk=False).get_opcodes()
        changed = [
            n + 1 for tag, a, b, *_ in blocks if tag != "equal" for n in range(a, b or a + 1)
        ]
        statements = [n for n in ast.walk(ast.parse(self.before)) if isinstance(n, ast.stmt)]
        return {
            max(s.lineno for s in statements if s.lineno <= n <= (s.end_lineno or s.lineno))
            for n in changed
        }

    def key(self, seed: int) -> str:
        """Its place in a random order, which changes elsewhere in the tree leave as it is."""
        lines = [line for line in self.diff().splitlines() if not line.startswith("@@")]
        return hashlib.sha256("\n".join([str(seed), *lines]).encode()).hexdigest()


def mutants(path: str) -> list[Mutant]:
    """Every change that mutmut knows of the functions of one module."""
    from mutmut.mutation.file_mutation import create_mutations, deep_replace

    before = (ROOT / path).read_text("utf-8")
    module, found, *_ = create_mutations(path, before)
    inside = [m for m in found if m.contained_by_top_level_function is not None]
    after = {deep_replace(module, m.original_node, m.mutated_node).code for m in inside}
    return [Mutant(path, before, text) for text in sorted(after - {before})]


def sample(places: list[str], number: int, seed: int) -> tuple[list[Mutant], int]:
    """Some of the changes of modules and folders, drawn by seed; and how many there are."""
    files = [
        file.relative_to(ROOT).as_posix()
        for place in map(ROOT.joinpath, places)
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
    ]
    found = [mutant for file in files for mutant in mutants(file)]
    return sorted(found, key=lambda m: m.key(seed))[:number], len(found)


def copy_tree(folder: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@dataclass(frozen=True)
class TestFile:
    """A test file of a room: which lines of which modules it runs, and how long it takes, in s."""

    __test__ = False  # for pytest
    path: str
    runs: dict[str, set[int]]
    seconds: float


def run_tests(tree: Path, test: str, timeout: float | None, measured: bool) -> tuple[int, str]:
    """Exit code (124 where it hangs) and output of a test file in a tree.

    measured: also which lines it runs, into the tree's `.coverage`.
    """
    environment = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
    environment |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *(["coverage", "run", "--source=transfer", "-m"] * measured)]
    command += ["pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, "-m", "not slow and not realdata", test],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with the processes that a test has started
            return 124, "timeout"
    return process.returncode, said


def test_files(room: str, tree: Path) -> list[TestFile]:
    """The room's test files, the quickest first, run once without a change."""
    found = []
    places = [tree / place for place in ROOMS[room][1]]
    files = [f for p in places for f in (sorted(p.rglob("test_*.py")) if p.is_dir() else [p])]
    for file in tqdm(files, desc=f"{room}, unchanged", unit="file", file=sys.stderr):
        start, name = time.monotonic(), file.relative_to(tree).as_posix()
        code, said = run_tests(tree, name, None, True)
        seconds = time.monotonic() - start
        if code == 5:
            continue  # all its tests are slow or need published data
        if code:
            sys.exit(f"error: {name}: fails without a change; fix it first\n{said[-3000:]}")
        report = [sys.executable, "-m", "coverage", "json", "-q", "-o", "lines.json"]
        subprocess.run(report, cwd=tree, check=True)
        files_run = json.loads((tree / "lines.json").read_text("utf-8"))["files"]
        runs = {path: set(lines["executed_lines"]) for path, lines in files_run.items()}
        found.append(TestFile(name, runs, seconds))
    return sorted(found, key=lambda file: file.seconds)


def survivors(room: str, number: int, seed: int, tree: Path) -> tuple[list[Mutant], int, int]:
    """Changes of a room that no test notices, how many were tried, and how many there are."""
    chosen, every = sample(ROOMS[room][0], number, seed)
    tests, left = test_files(room, tree), []
    for mutant in tqdm(chosen, desc=room, unit="change", file=sys.stderr):
        (tree / mutant.path).write_text(mutant.after, "utf-8")
        noticed = False
        for test in tests:
            if mutant.lines() & test.runs.get(mutant.path, set()):
                code, said = run_tests(tree, test.path, PATIENCE * test.seconds + 30, False)
                if code not in (0, 1, 2, 124):  # failed, or not even imported
                    sys.exit(f"error: {room}: pytest ended with {code}\n{said[-3000:]}")
                if noticed := bool(code):
                    break
        (tree / mutant.path).write_text(mutant.before, "utf-8")
        if not noticed:
            left.append(mutant)
    return left, len(chosen), every


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
        "--least",
        type=float,
        default=0.85,
        help="lowest share of changes that tests must notice [%(default)s]",
    )
    chosen = parser.parse_args()
    if unknown := [room for room in chosen.rooms if room not in ROOMS]:
        parser.error(f"{unknown[0]}: no such room; choose from {', '.join(ROOMS)}")
    os.chdir(ROOT)  # where mutmut looks for its settings
    rows, found, few = [], [], False
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        for room in chosen.rooms or ROOMS:
            left, tried, every = survivors(room, chosen.mutants, chosen.seed, Path(folder))
            if not tried:
                continue
            killed = tried - len(left)
            bounds = binomtest(killed, tried).proportion_ci(method="wilson")
            rows.append(
                f"| {room} | {every:,} | {tried} | {killed} | {len(left)} | {killed / tried:.0%} "
                f"({bounds.low:.0%}–{bounds.high:.0%}) |"
            )
            found += left
            few |= killed < chosen.least * tried
    for mutant in found:
        print(mutant.diff())
    print("| room | changes | tried | killed | survived | killed (95 % interval) |")
    print("|---|---|---|---|---|---|", *rows, sep="\n")
    return int(few)


if __name__ == "__main__":
    sys.exit(main())
