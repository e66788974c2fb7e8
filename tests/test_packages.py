"""Packages built from this repository install and draw outside it."""

import hashlib
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = (
    "import sys, setuptools.build_meta as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"
)


def run(*command, cwd, **environment):
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONPATH", "KUZUSHIJI_DATA", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def python_of(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist) of the tracked files, and what the sdist's own wheel is."""
    work = tmp_path_factory.mktemp("built")
    try:
        tracked = (
            subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
            .stdout.decode()
            .split("\0")
        )
    except (OSError, subprocess.CalledProcessError):
        tracked = [
            str(p.relative_to(ROOT))
            for p in ROOT.rglob("*")
            if p.is_file() and not set(p.parts) & {".git", "runs", "build"}
        ]
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (work / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "clone" / name).write_bytes((ROOT / name).read_bytes())
    python = python_of(work / "builder")
    run(python, "-m", "pip", "install", "-q", "setuptools>=77", "wheel", cwd=work)
    sdist = work / run(python, "-c", BUILD, "sdist", work, cwd=work / "clone").splitlines()[-1]
    wheel = work / run(python, "-c", BUILD, "wheel", work, cwd=work / "clone").splitlines()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(
            work / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )  # Python 3.11.4
    [inside] = (work / "unpacked").iterdir()
    (work / "again").mkdir()
    again = (
        work
        / "again"
        / run(python, "-c", BUILD, "wheel", work / "again", cwd=inside).splitlines()[-1]
    )
    return wheel, sdist, again


def contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if not name.endswith("RECORD")
        }


@pytest.mark.long
def test_the_sdist_makes_the_same_wheel(built):
    wheel, _, again = built
    assert contents(wheel) == contents(again)
    packed = set(contents(wheel))
    for needed in (
        "transfer/pretrained/mdn.safetensors",
        "transfer/data/splits/README.md",
        "transfer/web/static/index.html",
        "transfer/web/static/page/worker.js",
        "transfer/web/static/engine/worker.js",
        "transfer/reading_aids/kanji.tsv",
        "transfer/py.typed",
    ):
        assert needed in packed
    assert {name.partition("/")[0].partition("-")[0] for name in packed} == {
        "transfer",
        "kuzushiji_transfer",  # its metadata
    }


@pytest.mark.slow
def test_the_wheel_installs_and_draws_in_another_environment(built, tmp_path):
    """What it depends on is that of this environment: that pip finds all of it shows `.ci/run`."""
    python = python_of(tmp_path / "other")
    run(python, "-m", "pip", "install", "-q", "--no-deps", built[0], cwd=tmp_path)
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    place = run(python, "-c", where, cwd=tmp_path).strip()
    ours = sysconfig.get_paths()["purelib"]
    (Path(place) / "lent.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    (tmp_path / "hana.png").write_bytes((ROOT / "examples" / "hana_U+82B1.png").read_bytes())
    program = python.parent / "kuzushiji-transfer"
    said = run(
        program,
        "draw",
        "hana.png",
        "--format",
        "svg,json",
        cwd=tmp_path,
    )
    assert (
        "drawings/hana.svg" in said and "<path" in (tmp_path / "drawings" / "hana.svg").read_text()
    )
    # Where somebody's own package has a name that one of ours had once.
    for name in ("data", "models", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not mine')\n")
    where = run(
        python,
        "-c",
        "import transfer, transfer.data; from transfer import KuzushijiTransfer;"
        "KuzushijiTransfer.load(); print(transfer.__file__, transfer.data.__file__)",
        cwd=tmp_path,
    )
    assert str(ROOT) not in where and where.count(str(tmp_path)) == 2
    assert "kkanji.tar" in run(
        python,
        "-m",
        "transfer.data",
        "list",
        cwd=tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )


def test_the_constraints_name_what_the_project_needs():
    """On the Python that they were written with; others need others."""
    first = (ROOT / "constraints.txt").read_text().splitlines()[0]
    if f"Python {sys.version_info.major}.{sys.version_info.minor}." not in first:
        pytest.skip(first)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "dependencies.py", "--check"],
        capture_output=True,
        text=True,
    )
    if "is not installed here" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
