"""transfer.data.writing.kana: hiragana of Kuzushiji-MNIST and -49 as images of the old domain; kept
images are never trained on."""

import numpy as np
import pytest

from transfer.data.published import kmnist
from transfer.data.writing import kana


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Kuzushiji-MNIST's test images, 50 of them: a bar whose length tells which one it is."""
    monkeypatch.setitem(kmnist.COUNTS, ("kmnist", "test"), 50)
    images = np.zeros((50, 28, 28), np.uint8)
    for i, image in enumerate(images):
        image[10:14, : 4 + i % 24] = 255
    np.savez(tmp_path / "kmnist-test-imgs.npz", images)
    np.savez(tmp_path / "kmnist-test-labels.npz", np.arange(50, dtype=np.uint8) % 10)
    rows = [f"{i},U+{ord(c):04X},{c}" for i, c in enumerate(kmnist.CHARACTERS["kmnist"])]
    (tmp_path / "kmnist_classmap.csv").write_text(
        "\n".join(["index,codepoint,char", *rows]), "utf-8"
    )
    return tmp_path


def test_four_fifths_are_learned_from_and_the_others_are_kept(folder):
    learned, kept = kana.learned(folder), kana.kept(folder)
    assert len(learned.images) == 40 and len(kept.images) == 10
    assert set(map(chr, learned.code_points)) <= set(kmnist.CHARACTERS["kmnist"])
    chosen, rest = kmnist.divided(50)
    assert sorted([*chosen, *rest]) == list(range(50))
    wanted = [ord(kmnist.CHARACTERS["kmnist"][i % 10]) for i in rest]
    assert kept.code_points.tolist() == wanted


def test_nothing_is_there_where_the_folder_has_no_images(tmp_path):
    assert kana.learned(tmp_path) is None and kana.kept(tmp_path) is None


def test_ink_fills_the_picture_and_keeps_its_aspect():
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = 255  # five times as high as it is wide
    images[1, 13, 13] = 40  # haze, no ink
    tall, none = kana.framed(images)
    assert tall.dtype == np.uint8 and tall.shape == (64, 64)
    rows, columns = np.flatnonzero((tall > 127).any(1)), np.flatnonzero((tall > 127).any(0))
    assert len(rows) >= 63 and 12 <= len(columns) <= 14 and abs(columns.mean() - 31.5) <= 1
    assert none.max() == 0
