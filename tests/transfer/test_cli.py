"""`kuzushiji-transfer draw` as a user runs it."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lxml import etree
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))[:2]


def run(*arguments, cwd=ROOT):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, "-m", "transfer", *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=300)


def one_line(done):
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn")
    broken = out / "broken.png"
    broken.write_bytes(EXAMPLES[0].read_bytes()[:200])
    done = run("draw", *EXAMPLES, broken, EXAMPLES[0], "--out", out, "--samples", 2, "--seed", 3, "--top", 4)
    return done, out


def test_draw_writes_three_files_an_image(drawn):
    done, out = drawn
    for stem in [p.stem for p in EXAMPLES] + [EXAMPLES[0].stem + "-2"]:
        described = json.loads((out / f"{stem}.json").read_text())
        assert len(described["candidates"]) == 4 and len(described["drawings"]) == 2 and described["seed"] == 3
        strokes = described["drawings"][0]["strokes"]
        paths = etree.parse(out / f"{stem}.svg").findall(".//{http://www.w3.org/2000/svg}path")
        assert len(paths) == len(strokes) > 0
        with Image.open(out / f"{stem}.png") as sheet:
            assert sheet.width > 300 and np.asarray(sheet.convert("L")).min() < 100


def test_same_input_twice_gives_the_same_drawing(drawn):
    _, out = drawn
    assert (out / f"{EXAMPLES[0].stem}.svg").read_text() == (out / f"{EXAMPLES[0].stem}-2.svg").read_text()


def test_bad_file_is_one_line_and_does_not_stop_the_others(drawn):
    done, out = drawn
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "broken.png" in errors[0]
    assert not list(out.glob("broken.svg")) and not list(out.glob(".*"))


def test_bad_arguments_are_one_line(tmp_path):
    assert "--samples" in one_line(run("draw", EXAMPLES[0], "--samples", 0, "--out", tmp_path))
    missing = tmp_path / "missing.png"
    assert "missing.png" in one_line(run("draw", missing, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert "vae_old" in one_line(run("draw", EXAMPLES[0], "--weights", tmp_path, "--out", tmp_path / "out"))


def test_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    assert "--out" in one_line(run("draw", EXAMPLES[0], "--out", tmp_path / "out"))
