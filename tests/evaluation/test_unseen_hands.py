"""transfer.evaluation.unseen_hands: the split "hands" holds only images that nothing was trained
on."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from transfer.data.writing.fonts import Fonts
from transfer.evaluation import cases, unseen_hands
from transfer.system.errors import DataError


def fonts(known):
    """Two faces of one unseen family, another unseen one and one that is trained on; a character
    outside the gallery in the second."""
    records = [
        {"name": name, "role": role}
        for name, role in (
            ("@fontsource/yuji-boku", "unseen"),
            ("@fontsource/yuji-mai", "unseen"),
            ("@fontsource/zhi-mang-xing", "unseen"),
            ("kouzan.ttf", "train"),
        )
    ]
    points = np.array([*known[:3], *known[1:4], *known[:2], 0x10FFFF, *known[:4]], np.int32)
    font = np.array([0] * 3 + [1] * 3 + [2] * 3 + [3] * 4, np.uint8)
    images = np.tile(np.arange(len(points), dtype=np.uint8)[:, None, None], (1, 64, 64))
    return Fonts(images, points, font, [r["name"] for r in records], records)


@pytest.fixture
def corpus(sample_corpus, tmp_path):
    known = np.asarray(sample_corpus.new.code_points[sample_corpus.new.gallery()])
    return dataclasses.replace(
        sample_corpus, folder=tmp_path, is_sample=False, fonts=fonts(known)
    ), known


def test_a_family_gives_each_of_its_characters_once_and_trained_hands_none(corpus, monkeypatch):
    given, known = corpus
    found = cases.images_of(given, "hands")
    by = lambda name: found.code_points[found.sources == name].tolist()
    assert sorted(set(found.sources)) == ["font yuji", "font zhi-mang-xing"]
    assert sorted(by("font yuji")) == sorted(known[:4].tolist())
    assert sorted(by("font zhi-mang-xing")) == sorted(known[:2].tolist())
    # Each image is of its code point: image i is grey i.
    assert (given.fonts.code_points[found.images[:, 0, 0]] == found.code_points).all()
    monkeypatch.setattr(unseen_hands, "EACH", 2)
    assert (cases.images_of(given, "hands").sources == "font yuji").sum() == 2


def letter(folder, rows):
    place = folder / unseen_hands.LETTER
    place.mkdir(parents=True)
    with open(place / "labels.csv", "w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "character"])
        writer.writerows(rows)
    return place


def test_characters_of_the_letter_are_read_as_pictures_are(corpus):
    given, known = corpus
    place = letter(given.folder, [["a.png", chr(known[5])], ["b.png", "🍵"]])
    page = np.full((40, 30, 3), 230, np.uint8)
    page[10:30, 12:18] = 20
    Image.fromarray(page).save(place / "a.png")
    found = cases.images_of(given, "hands")
    [row] = np.flatnonzero(found.sources == "letter")
    assert found.code_points[row] == known[5]
    assert found.images[row].max() > 200 and found.images[row, 0, 0] == 0


@pytest.mark.parametrize("row", [["", "山"], ["a.png", "山川"], ["missing.png", None]])
def test_a_letter_with_a_bad_line_is_one_line(corpus, row):
    given, known = corpus
    letter(given.folder, [[row[0], row[1] or chr(known[0])]])
    with pytest.raises(DataError, match=r"labels\.csv: cannot be used"):
        cases.images_of(given, "hands")


def test_a_folder_without_hands_says_how_to_get_them(corpus):
    given, _ = corpus
    with pytest.raises(DataError, match="transfer.data fonts"):
        cases.images_of(dataclasses.replace(given, fonts=None), "hands")


def test_in_the_sample_corpus_its_test_images_stand_in(sample_corpus):
    found = cases.images_of(sample_corpus, "hands")
    chosen = sample_corpus.old.indices("test")
    assert set(found.sources) == {"sample corpus"} and 0 < len(found.images) <= len(chosen)
