"""The copy of a data folder with glyph pictures of one-pixel lines."""

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from transfer.data import corpus as corpora

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "one_pixel_glyphs.py"


def made(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_lines_are_one_pixel_wide_and_without_grey():
    picture = runpy.run_path(str(SCRIPT))["picture"]
    across = np.array([(10, 54.5), (99, 54.5)], np.float32)
    image = picture([across])
    assert set(np.unique(image)) == {0, 255}
    assert (image > 0).any(1).sum() == 1 and (image > 0).sum() == pytest.approx(
        64 * 89 / 109, abs=2
    )
    # A line without a gap: from each of its pixels the next touches it, at a corner at least.
    rows, columns = np.nonzero(picture([np.array([(5, 3), (40, 105)], np.float32)]))
    assert np.ptp(rows) + 1 == len(set(rows)) and (np.abs(np.diff(columns)) <= 1).all()
    assert picture([np.array([(0, 0)], np.float32)]).sum() == 255
    assert picture([np.array([(-9, 50), (130, 50)], np.float32)])[:, [0, -1]].any(0).all()


def test_all_but_the_pictures_stays_as_it_is(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    sample = corpora.load(quiet=True)
    out = tmp_path / "lines"
    assert made(monkeypatch, "--data", sample.folder, "--out", out) in (0, None)
    lines = corpora.load(out, quiet=True)
    pictures = np.asarray(lines.new.images)
    assert pictures.shape == sample.new.images.shape and pictures.dtype == np.uint8
    assert set(np.unique(pictures)) == {0, 255}
    assert 0.4 < (pictures > 0).sum() / (sample.new.images > 99).sum() < 1
    np.testing.assert_array_equal(lines.old.images, sample.old.images)
    np.testing.assert_array_equal(lines.new.points, sample.new.points)
    assert made(monkeypatch, "--data", sample.folder, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["lines"]
