"""Every parser, on small valid files that are spoiled in ways that hypothesis chooses (and reduces
when one of them matters)."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import fuzz
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
EXAMPLES = 200


@pytest.fixture(autouse=True, scope="module")
def quiet():
    """Pillow and the form parser say what is wrong with each file."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def changes(words: tuple[bytes, ...]):
    """A list of changes: (kind, where in 0 to 1, how much, bytes)."""
    place = st.floats(0, 1)
    piece = st.sampled_from(words) if words else st.binary(max_size=8)
    return st.lists(
        st.one_of(
            st.tuples(st.just("put"), place, st.integers(1, 8), st.binary(min_size=1, max_size=8)),
            st.tuples(st.just("insert"), place, st.just(0), piece),
            st.tuples(st.just("replace"), place, st.integers(1, 30), piece),
            st.tuples(st.just("cut"), place, st.integers(1, 400), st.just(b"")),
            st.tuples(st.just("repeat"), place, st.integers(1, 40), st.just(b"")),
            st.tuples(st.just("number"), place, st.just(0), st.sampled_from(fuzz.NUMBERS)),
        ),
        min_size=1,
        max_size=4,
    )


def changed(content: bytes, chosen) -> bytes:
    data = bytearray(content)
    for kind, where, length, piece in chosen:
        at = int(where * len(data))
        match kind:
            case "put" | "replace":
                data[at : at + (length if kind == "replace" else len(piece))] = piece
            case "insert":
                data[at:at] = piece
            case "cut":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length] * 20
            case "number":
                found = list(re.finditer(rb"-?\d+(?:\.\d+)?", bytes(data[:4000])))
                if found:
                    number = found[int(where * (len(found) - 1))]
                    data[number.start() : number.end()] = piece
    return bytes(data)


@st.composite
def spoiled(draw, name: str) -> bytes:
    """One valid input of a target, changed as it is or, in a container, inside of it."""
    target = fuzz.TARGETS[name]
    content = draw(st.sampled_from(target.valid()))
    chosen = draw(changes(target.words))
    if target.spoil and draw(st.booleans()):
        return target.spoil(
            np.random.default_rng(draw(st.integers(0, 2**32))),
            content,
            lambda inside: changed(inside, chosen),
        )
    return changed(content, chosen)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_spoiled_input_is_read_or_refused_as_documented(name, tmp_path):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )
    @given(spoiled(name))
    def check(content):
        assert fuzz.execute(name, content, tmp_path) in ("taken", "refused")

    check()


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_valid_input_is_read(name, tmp_path):
    """Else the fuzzing would look at the refusals alone."""
    outcomes = []
    for content in fuzz.TARGETS[name].valid():
        outcomes.append(fuzz.execute(name, content, tmp_path))
    assert outcomes.count("taken") >= 0.8 * len(outcomes)


def test_the_same_seed_gives_the_same_inputs():
    for name in fuzz.TARGETS:
        first, again, other = (fuzz.input_of(name, seed, 5) for seed in (0, 0, 1))
        assert first == again and first != other, name


def test_a_fault_is_counted_and_kept(tmp_path):
    """The campaign with a target that does everything wrong now and then."""
    program = (
        "import sys, time\nimport fuzz\nfuzz.STUCK, fuzz.MEGABYTES = 8, 200\n"
        "def run(content, folder):\n"
        "    i = int(content)\n"
        "    if i == 3: raise KeyError('crash')\n"
        "    if i == 5: import os; os._exit(9)\n"
        "    if i == 7: bytearray(b'x') * 300_000_000\n"
        "    if i == 8: time.sleep(60)\n"
        "    if i == 9: raise fuzz.DataError('no')\n"
        "class Target(fuzz.Target):\n"
        "    def input(self, rng): return b'0'\n"
        "fuzz.TARGETS.clear()\n"
        "fuzz.TARGETS['bad'] = Target(lambda: [b'0'], run)\n"
        "fuzz.input_of = lambda name, seed, i: str(i).encode()\n"
        "sys.argv = ['fuzz', '--executions', '12', '--out', sys.argv[1]]\nsys.exit(fuzz.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    total = fuzz.json.loads(done.stdout)
    assert total == {
        "executions": 12,
        "taken": 8,
        "refused": 1,
        "crashes": 2,
        "hangs": 1,
        "over_memory": 1,
    }, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "fuzz.json",
        "bad-0-3",
        "bad-0-5",
        "bad-0-7",
        "bad-0-8",
    }
