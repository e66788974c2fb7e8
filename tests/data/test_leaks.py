import csv

import numpy as np
import pytest
from PIL import Image
from published_files import small_set

from transfer.data import corpus, leaks
from transfer.data.__main__ import main
from transfer.system.errors import DataError


def writing(seed: int) -> np.ndarray:
    """A (64, 64) picture of a few thick strokes, another one for every seed."""
    rng = np.random.default_rng(seed)
    out = np.zeros((64, 64), np.uint8)
    for _ in range(6):
        y, x = rng.integers(8, 48, 2)
        out[y : y + rng.integers(3, 20), x : x + rng.integers(3, 12)] = 255
    return out


def moved(image, down, right):
    return np.roll(image, (down, right), (0, 1))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-6, 5), (8, 8)])
def test_a_shifted_image_is_found_with_its_shift(down, right):
    image = np.zeros((64, 64), np.uint8)
    image[12:52, 12:52] = writing(1)[12:52, 12:52]
    others = np.stack([*(writing(i) for i in range(2, 30)), moved(image, down, right)])
    index, score, shift = leaks.best_match(image, others)
    assert index == 28 and score > 0.95 and shift == (down, right)


def test_other_margins_are_found():
    image = writing(1)
    cropped = np.array(Image.fromarray(image).crop((2, 1, 62, 61)).resize((64, 64), Image.BICUBIC))
    index, score, _ = leaks.best_match(image, np.stack([writing(5), cropped]))
    assert index == 1 and score > leaks.THRESHOLD


def test_different_writings_are_not():
    others = np.stack([writing(i) for i in range(2, 60)])
    assert leaks.best_match(writing(1), others)[1] < leaks.THRESHOLD
    assert leaks.best_match(np.zeros((64, 64), np.uint8), others)[1] < leaks.THRESHOLD


def old(names):
    """12 classes of one val and five train images; in classes 3 and 7 one train image is the val
    image, shifted."""
    images, code_points, split = [], [], []
    for c in range(12):
        mine = [writing(100 * c + i) for i in range(6)]
        if c in (3, 7):
            mine[4] = moved(np.pad(mine[0][8:56, 8:56], 8), 2, 1)
            mine[0] = np.pad(mine[0][8:56, 8:56], 8)
        images += mine
        code_points += [0x4E00 + c] * 6
        split += [1] + [0] * 5
    return corpus.Old(
        np.array(images),
        np.array(code_points, np.int32),
        np.array(names),
        np.array(split, np.uint8),
    )


def test_the_search_finds_what_was_put_there_and_writes_it(tmp_path):
    names = [f"U+{0x4E00 + i // 6:04X}/{i:016x}.png" for i in range(72)]
    seen = []
    pairs, searched = leaks.search(old(names), threshold=0.95, progress=lambda *a: seen.append(a))
    assert searched == {"val": 12, "test": 0} and seen[-1] == (12, 12)
    found = {(p.name, p.train_name, p.shift) for p in pairs}
    assert found == {(names[6 * c], names[6 * c + 4], (2, 1)) for c in (3, 7)}
    leaks.write(pairs, tmp_path / "pairs.csv")
    with open(tmp_path / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        [r["name"] for r in rows] == [p.name for p in pairs]
        and rows[0]["split"] == "val"
        and rows[0]["down"] == "2"
    )
    with pytest.raises(DataError, match="cannot be written"):
        leaks.write(pairs, tmp_path)


def test_the_command_tells_the_counts(tmp_path, capsys):
    folder = small_set(tmp_path / "d")
    assert main(["leaks", "--data", str(folder), "--out", str(tmp_path / "pairs.csv")]) == 0
    out = capsys.readouterr().out
    assert "val: 19 images searched" in out and "test: 19 images searched" in out
    assert (tmp_path / "pairs.csv").read_text().startswith("split,name,train_name,score")
    assert main(["leaks", "--data", str(folder), "--control"]) == 0
    assert capsys.readouterr().out.count("19 images") == len(leaks.CONTROLS)


@pytest.mark.realdata
def test_true_duplicates_pass_the_threshold(real_data):
    scores = leaks.controls(corpus.load(real_data, quiet=True).old, count=100)
    assert all((s >= leaks.THRESHOLD).mean() >= 0.95 for s in scores.values())


def few(images, code_points, split):
    names = np.array([f"U+{c:04X}/{i:016x}.png" for i, c in enumerate(code_points)])
    return corpus.Old(
        np.stack(images), np.array(code_points, np.int32), names, np.array(split, np.uint8)
    )


def test_pairs_are_those_that_reach_the_threshold():
    image = np.pad(writing(1)[8:56, 8:56], 8)
    worn = image.copy()
    worn[20:30, 20:32] = 255 - worn[20:30, 20:32]
    given = few([image, worn], [0x4E00, 0x4E00], [1, 0])
    [pair], _ = leaks.search(given, ("val",), 0.0)
    assert 0.5 < pair.score < 0.95
    assert leaks.search(given, ("val",), pair.score)[0] == [pair]
    assert leaks.search(given, ("val",), pair.score + 1e-6)[0] == []


def test_only_train_images_of_the_same_class_are_compared():
    image, other = (np.pad(writing(i)[8:56, 8:56], 8) for i in (1, 2))
    # The copy is of another class; and the class's own train image is another.
    given = few([image, image, other, image], [0x4E00, 0x4E01, 0x4E00, 0x4E00], [1, 0, 0, 2])
    pairs, searched = leaks.search(given, ("val",), 0.9)
    assert pairs == [] and searched == {"val": 1}
    assert (
        leaks.search(
            few([image, image, other], [0x4E00, 0x4E00, 0x4E00], [1, 0, 0]), ("val",), 0.9
        )[0][0].score
        > 0.99
    )


@pytest.mark.parametrize("larger", [1.06, 0.94])
def test_a_copy_of_another_size_is_met_at_that_size(larger, monkeypatch):
    """Fine lines all over the page: enlarged by a twentieth, they lie beside each other at its
    borders."""
    image = np.zeros((64, 64), np.uint8)
    image[6:58:6, 6:58] = 255
    image[6:58, 6:58:9] = 255
    side = round(64 * larger)
    resized = Image.fromarray(image).resize((side, side), Image.BICUBIC)
    margin = (side - 64) / 2
    copy = np.array(resized.crop((margin, margin, margin + 64, margin + 64)))
    _, score, _ = leaks.best_match(image, copy[None])
    monkeypatch.setattr(leaks, "SCALES", (1.0,))
    _, alone, _ = leaks.best_match(image, copy[None])
    assert score > leaks.THRESHOLD > alone
