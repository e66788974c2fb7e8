"""How commands end whatever their output, their user and their machine are:
`transfer.system.entry`, through the commands themselves."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from transfer.system import entry
from transfer.system.errors import DataError

ROOT = Path(__file__).parents[1]
EXAMPLE = "examples/hana_U+82B1.png"
posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
NO_HOME = """
import os, pwd, runpy, sys
def gone(*_): raise KeyError("no entry")
pwd.getpwuid = gone
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run(
    *words, switches=(), shell="", without=(), cwd=ROOT, **variables
) -> subprocess.CompletedProcess:
    """A command of the project, in bash where the output is sent somewhere; streams as bytes."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("KUZUSHIJI_DATA", "PYTHONUNBUFFERED", *without)
    }
    environment = kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | variables
    command = [sys.executable, *switches, "-m", *map(str, words)]
    if shell:
        import shlex

        command = ["bash", "-c", f"set -o pipefail; {shlex.join(command)} {shell}"]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=300)


def one_line(done, code=2) -> str:
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code and len(lines) == 1 and lines[0].startswith("error: "), (
        done.stderr
    )
    return lines[0]


# Encodings


@pytest.mark.parametrize("encoding", ["cp932", "ascii", "cp1252", "utf-8"])
def test_whatever_the_encoding_lacks_is_escaped_and_json_stays_json(encoding, tmp_path):
    """U+20089, U+5C24 and e with an accent are each in some of the encodings only."""
    program = (
        "import json, sys\nfrom transfer.system.entry import guarded\n@guarded\ndef main():\n    "
        "print(json.dumps(sys.argv[1:], ensure_ascii=False))\n"
        "    print('\\U00020089 \\u5c24 \\u00e9 \\udc8e')\nsys.exit(main())"
    )
    words = ["\U00020089", "尤", "é"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == b""
    document, line = done.stdout.decode(encoding).splitlines()
    assert json.loads(document) == words
    assert line.split() == [
        c if lossless(c, encoding) else escaped
        for c, escaped in zip(
            (*words, "\udc8e"), ("\\ud840\\udc89", "\\u5c24", "\\u00e9", "\\udc8e")
        )
    ]


def lossless(text: str, encoding: str) -> bool:
    try:
        return bool(text.encode(encoding))
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize("encoding", ["cp932", "ascii"])
def test_commands_in_other_encodings(encoding, tmp_path):
    """All in one process: five would import JAX and load the weights five times."""
    commands = [
        ("draw", EXAMPLE, "--out", tmp_path / "o", "--samples", 1),
        ("draw", EXAMPLE, "--json", "--format", "none", "--samples", 1),
        ("candidates", EXAMPLE, "--json"),
        ("candidates", EXAMPLE, "--top", 5),
        ("convert", tmp_path / "o" / "hana_U+82B1.svg", tmp_path / "山.npz"),
    ]
    program = (
        "import json, sys\n"
        "from transfer.cli import main as transfer\n"
        "from transfer.data.__main__ import main as data\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    code = data(words) if words[0] == 'convert' else transfer(words)\n"
        "    print(f'\\n== {code}')\n"
    )
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", program, words],
        cwd=ROOT,
        capture_output=True,
        env={k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
        | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONIOENCODING": encoding},
        timeout=300,
    )
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    drawn, *documents, table, told, rest = done.stdout.decode(encoding).split("\n== 0\n")
    assert "hana_U+82B1.svg" in drawn and len(documents) == 2 and not rest
    for document in documents:
        [image] = json.loads(document)["images"]
        assert "花" in [c["character"] for c in image["candidates"]]
    assert (
        "\\u" not in table
        and ("U+5316(U+4EBBU+5315)" if encoding == "ascii" else "化(U+4EBB匕)") in table
    )
    assert ("\\u5c71.npz" if encoding == "ascii" else "山.npz") in told


def test_what_the_user_chose_for_such_characters_is_kept():
    done = run("transfer.data", "list", PYTHONIOENCODING="ascii:replace")
    assert done.returncode == 0
    program = "from transfer.system.entry import guarded\nguarded(lambda: print('尤'))()"
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii:replace"},
        timeout=60,
    )
    assert said.stdout.split() == [b"?"]


# Closed and full


@posix
@pytest.mark.parametrize(
    "words",
    [
        ("transfer.data", "list"),
        ("transfer.data", "--help"),
        ("transfer", "completion", "bash"),
        ("transfer", "info"),
        ("transfer", "candidates", EXAMPLE, "--top", 1),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_reader_who_leaves_ends_it_quietly(words, unbuffered):
    done = run(*words, shell="| true", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0 and done.stderr == b""


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words",
    [
        ("transfer.data", "list"),
        ("transfer.data", "split"),
        ("transfer.data", "--help"),
        ("transfer", "completion", "bash"),
        ("transfer", "info", "--json"),
    ],
)
def test_a_full_disk_behind_the_output_is_one_line(words):
    assert "the output cannot be written" in one_line(run(*words, shell="> /dev/full"))
    if "--help" not in words:  # argparse says nothing of an error while it writes
        one_line(run(*words, shell="> /dev/full", PYTHONUNBUFFERED="1"))


@posix
def test_closed_streams_are_nobodys_file(tmp_path):
    """The file that is opened first must not get the number of a closed stream: what libraries
    print there would land in it."""
    for closed in (">&-", "<&- >&- 2>&-"):
        done = run(
            "transfer",
            "draw",
            EXAMPLE,
            "--out",
            tmp_path,
            "--samples",
            1,
            "--format",
            "json",
            shell=closed,
        )
        assert done.returncode == 0 and done.stderr == b"", closed
        assert json.loads((tmp_path / "hana_U+82B1.json").read_text("utf-8"))["candidates"]
    assert "empty" in one_line(run("transfer", "candidates", "-", shell="<&-"))
    assert (
        run("transfer.data", "info", "--data", tmp_path / "none", shell="2> /dev/full").returncode
        == 2
    )


# No home, no accelerator


@posix
def test_a_user_without_a_home(tmp_path):
    """As with `docker run --user 1234`: no HOME, and no entry for the user id."""

    def nobody(*words, **variables):
        kept = {
            k: v
            for k, v in os.environ.items()
            if k not in ("HOME", "XDG_CACHE_HOME", "KUZUSHIJI_DATA")
        }
        return subprocess.run(
            [sys.executable, "-c", NO_HOME, *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            timeout=300,
            env=kept | {"PYTHONPATH": str(ROOT)} | variables,
        )

    done = nobody("transfer", "draw", ROOT / EXAMPLE, "--samples", 1, "--format", "svg")
    assert (
        done.returncode == 0 and done.stderr == b"" and sorted(os.listdir(tmp_path)) == ["drawings"]
    )
    for words in (
        ("transfer.data", "--help"),
        ("transfer.data", "list", "--data", tmp_path),
        ("transfer", "train", "--help"),
    ):
        assert nobody(*words).returncode == 0, words
    for words in (
        ("transfer.data", "list"),
        ("transfer.data", "download", "kanjivg"),
        ("transfer", "train"),
    ):
        assert "no home folder" in one_line(nobody(*words)), words
    assert "~" in one_line(nobody("transfer.data", "info", "--data", "~/x"))
    assert nobody("transfer.data", "list", XDG_CACHE_HOME=str(tmp_path / "cache")).returncode == 0


@pytest.mark.parametrize("name", ["cuda", "nonsense"])
def test_an_accelerator_that_is_not_there_is_one_line(name):
    for words in (("transfer", "candidates", EXAMPLE), ("transfer", "info")):
        done = run(*words, JAX_PLATFORMS=name)
        lines = [line for line in done.stderr.decode().splitlines() if "sample corpus" not in line]
        if done.returncode == 0:
            pytest.skip(f"this machine has a device for {name}")
        assert done.returncode == 2 and len(lines) == 1 and f"JAX_PLATFORMS={name}: " in lines[0], (
            done.stderr
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_command_in_a_forked_pool(tmp_path):
    """The package is imported before the fork, and its command run after it, as job systems do."""
    program = (
        "import multiprocessing, sys\n"
        "from transfer import cli\n"
        "import transfer.inference.batch, transfer.output.formats\n"
        "def one(i): return cli.main(['draw', sys.argv[1], '--samples', '1', '--format', "
        "'json', '--out', f'{sys.argv[2]}/{i}'])\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(one, range(2)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, EXAMPLE, tmp_path],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0 and done.stderr == "" and done.stdout.splitlines()[-1] == "[0, 0]"
    first, second = ((tmp_path / str(i) / "hana_U+82B1.json").read_text("utf-8") for i in range(2))
    assert first == second


def test_figures_ask_for_no_japanese_font(tmp_path):
    """Matplotlib warns of a sign that its own font lacks."""
    figures = pytest.importorskip("transfer.baselines.figures")
    pytest.importorskip("matplotlib")
    import numpy as np

    from transfer.evaluation.classification import Answers

    names = ["お", "花", "\U00020b9f", "7"]
    cases = Answers(np.log(np.full((4, 4), 0.25)), np.arange(4), np.ones(4, int), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.matrix(cases, names, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


# Python's own switches


@pytest.mark.parametrize(
    "switches",
    [
        ("-O",),
        ("-OO",),
        ("-W", "error"),
        ("-X", "dev", "-W", "error"),
        ("-b", "-b"),
        ("-X", "warn_default_encoding", "-W", "error"),
    ],
    ids=" ".join,
)
def test_pythons_switches(switches, tmp_path):
    """All commands that need no model, in one process; their parsers are built for each."""
    code = (
        "import sys\n"
        "from transfer.data.__main__ import main as data\n"
        "from transfer.cli import main as transfer\n"
        "for words in (['list'], ['--help'], ['split'], ['info', 'kkanji', '--data', "
        "sys.argv[1]]): data(words)\n"
        "for words in (['--help'], ['completion', 'zsh'], ['draw', '--help'], ['train', "
        "'--help']): transfer(words)\n"
    )
    done = subprocess.run(
        [sys.executable, *switches, "-c", code, tmp_path],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0 and "kkanji.tar missing" in one_line(done, 0), done.stderr


@pytest.mark.parametrize("switch", ["-OO", "-I"])
def test_drawing_with_switches(switch, tmp_path):
    """-I asks for an installed package, not for PYTHONPATH."""
    installed = (
        subprocess.run(
            [sys.executable, "-I", "-c", "import transfer"],
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
        ).returncode
        == 0
    )
    if switch == "-I" and not installed:
        pytest.skip("not installed here")
    done = run("transfer", "draw", EXAMPLE, "--out", tmp_path, "--samples", 1, switches=(switch,))
    assert done.returncode == 0 and done.stderr == b"", done.stderr


def test_no_script_needs_its_docstring():
    """-OO leaves None: all scripts in processes of their own would take minutes."""
    scripts = [
        path
        for folder in ("data", "transfer", "experiments", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert not [
        str(path) for path in scripts if re.search(r"__doc__[.\[]", path.read_text("utf-8"))
    ]


def texts_of_unsaid_encoding(path: Path):
    """Calls that read or write text in whatever encoding the machine prefers: cp932 on a Japanese
    Windows."""
    for call in (
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    ):
        name, owner = (
            getattr(call.func, "attr", getattr(call.func, "id", "")),
            getattr(getattr(call.func, "value", None), "id", ""),
        )
        given = {keyword.arg for keyword in call.keywords}
        modes = [
            a.value
            for a in [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
            if isinstance(a, ast.Constant)
        ]
        if "encoding" not in given and (
            name == "read_text"
            and not call.args
            or name == "write_text"
            and len(call.args) < 2
            or name == "open"
            and owner not in ("Image", "tarfile", "gzip", "os", "archive")
            and not any("b" in str(m) for m in modes)
            or name in ("run", "Popen")
            and "text" in given
        ):
            yield f"{path.name}:{call.lineno}"


def test_texts_are_utf_8_wherever_they_are_read():
    sources = [
        path
        for folder in ("data", "transfer", "experiments", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 90 and not [
        found for path in sources for found in texts_of_unsaid_encoding(path)
    ]


# In this process


def test_what_a_command_raises_becomes_its_exit_code(capsys):
    def raising(error):
        def command():
            raise error

        return entry.guarded(command)()

    for error, code, said in (
        (DataError("a: b"), 2, "error: a: b\n"),
        (SystemExit(3), 3, ""),
        (SystemExit("why"), 2, "error: why\n"),
        (SystemExit(), 0, ""),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (BrokenPipeError(), 0, ""),
        (
            OSError(28, "No space left on device"),
            2,
            "error: the output cannot be written (No space left on device); free some space, or "
            "send it elsewhere\n",
        ),
    ):
        assert raising(error) == code and capsys.readouterr().err == said
    for error in (
        FileNotFoundError(2, "No such file", "a.txt"),
        RuntimeError("an accident"),
        AssertionError(),
        KeyError("x"),
    ):
        with pytest.raises(type(error)):
            raising(error)
    assert entry.guarded(lambda: None)() == 0 and entry.guarded(lambda: 5)() == 5


def test_streams_of_other_programs_are_left_alone(monkeypatch):
    """A notebook's streams cannot be told what to do with characters."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert entry.guarded(lambda: print("花"))() == 0 and sys.stdout.getvalue() == "花\n"
