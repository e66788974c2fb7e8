"""Predictions of another program: what the CSV may hold, what is refused, and that the scores are
those of the evaluation."""

import json

import numpy as np
import pytest

from transfer.cli import main
from transfer.data.formats.svg import to_svg
from transfer.data.splits import class_of, read_lists
from transfer.evaluation.predictions import score, table
from transfer.system.errors import DataError


@pytest.fixture(scope="module")
def names(sample_corpus):
    return table.names_of(sample_corpus, "val")[1]


def kanji(name: str) -> str:
    return chr(int(class_of(name)[2:], 16))


def written(path, rows, header="image,candidates"):
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


@pytest.fixture
def perfect(tmp_path, names):
    return written(tmp_path / "perfect.csv", [f"{name},{kanji(name)}" for name in names])


def test_numbers_and_names_mean_the_same_images(tmp_path, names, perfect, sample_corpus):
    numbered = written(
        tmp_path / "numbered.csv",
        [f"{number}, {kanji(name)} " for number, name in reversed(list(enumerate(names)))],
    )
    read = table.read(perfect, sample_corpus, "val")
    assert read == table.read(numbered, sample_corpus, "val")
    assert read.names == names and read.drawings is None and len(names) > 100


def test_places_of_candidates_are_counted(tmp_path, names, sample_corpus):
    """Right at once, fifth, sixth, eleventh, not listed, no answer; all others right."""
    others = "亜唖娃阿哀愛挨姶逢葵茜穐悪握渥"
    assert not set(map(kanji, names[:6])) & set(others)
    answers = [kanji(name) for name in names]
    answers[1] = others[:4] + answers[1]
    answers[2] = " ".join(others[:5] + answers[2])
    answers[3] = others[:10] + answers[3]
    answers[4] = others
    answers[5] = ""
    file = written(tmp_path / "a.csv", map(",".join, zip(names, answers)))
    measured, left_out = score.measure(table.read(file, sample_corpus, "val"), sample_corpus)
    assert left_out == 0
    wrong = {name: len(names) - int(hits.sum()) for name, hits in measured.items()}
    assert wrong == {"candidates, top-1": 5, "candidates, top-5": 4, "candidates, top-10": 3}
    assert measured["candidates, top-1"][:6].tolist() == [1, 0, 0, 0, 0, 0]


def test_drawings_are_read_and_compared(tmp_path, names, sample_corpus):
    """KanjiVG's own strokes are right in everything; another kanji's, and none, are not."""
    new = sample_corpus.new
    glyph_of = {chr(new.code_points[g]): g for g in new.gallery()}
    folder = tmp_path / "drawn"
    folder.mkdir()
    rows = []
    for number, name in enumerate(names):
        shown = kanji(names[1]) if number == 0 else kanji(name)
        file = folder / f"{number}.svg"
        file.write_text(to_svg(new.strokes(int(glyph_of[shown])), shown), "utf-8")
        rows.append(f"{name},{kanji(name)},{'' if number == 2 else f'drawn/{number}.svg'}")
    file = written(tmp_path / "a.csv", rows, "image,candidates,svg")
    read = table.read(file, sample_corpus, "val")
    assert read.drawings[2] == [] and len(read.drawings[1]) > 0
    measured, _ = score.measure(read, sample_corpus)
    hog = measured["HOG: drawing, top-1"]
    assert hog[0] == hog[2] == 0 and hog[1] == 1 and hog.mean() > 0.95
    assert measured["recogniser: drawing, top-1"][2] == 0
    assert measured["stroke count exact"][2] == 0 and measured["stroke count exact"][3:].all()
    assert measured["stroke order agreement"][3:] == pytest.approx(1)
    assert np.isnan(measured["stroke order agreement"][2])
    assert measured["Chamfer distance"][3:].max() < 0.01 < measured["Chamfer distance"][0]


def test_the_command_writes_a_report(tmp_path, perfect, monkeypatch, capsys):
    monkeypatch.setenv("KUZUSHIJI_DATA", "")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--predictions", str(perfect)]) == 0
    out = tmp_path / "evaluation" / "val-perfect"
    told = json.loads((out / "predictions.json").read_text("utf-8"))
    assert told["metrics"]["candidates, top-1"][:3] == [1, 1, 1]
    assert "| candidates, top-1 | 1.000 [1.000, 1.000] |" in (out / "predictions.md").read_text()
    assert "candidates, top-10" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda text: text.replace("image,", "picture,", 1), "must name the columns"),
        (lambda text: "\n".join(text.splitlines()[:-2]), "2 of"),
        (lambda text: text + text.splitlines()[3], "already has a row"),
        (lambda text: text + "U+0041/0.png,神", "is not in val"),
        (lambda text: text + "999999,神", "numbered from 0"),
        (lambda text: text.replace("png,", "png,U+795E;", 1), "line 2: candidates"),
        (lambda text: text.replace("png,", "png,神袖神", 1), "line 2: candidate 神 appears twice"),
        (lambda text: text.replace("\n", ",袖\n").replace(",袖", "", 1), "has 3 columns, not 2"),
        (lambda text: text + '"', "is not CSV"),
        (lambda text: text.encode("utf-16"), "is not UTF-8"),
        (lambda text: "", "must name the columns"),
    ],
)
def test_bad_files_give_one_line(tmp_path, perfect, change, said, monkeypatch, capsys):
    monkeypatch.setenv("KUZUSHIJI_DATA", "")
    bad = change(perfect.read_text("utf-8"))
    perfect.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
    assert main(["evaluate", "--predictions", str(perfect), "--out", str(tmp_path / "o")]) == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("Using")]
    assert said in line and str(perfect) in line
    assert not (tmp_path / "o").exists()


def test_missing_files_and_options_without_meaning_give_one_line(
    tmp_path, perfect, names, monkeypatch, capsys
):
    monkeypatch.setenv("KUZUSHIJI_DATA", "")
    rows = [f"{name},{kanji(name)}," for name in names]
    blank = written(tmp_path / "blank.csv", rows, "image,candidates,svg")
    drawn = written(
        tmp_path / "drawn.csv", [row + "none.svg" for row in rows], "image,candidates,svg"
    )
    for arguments, said in (
        ([str(tmp_path / "none.csv")], "none.csv: cannot be read"),
        ([str(drawn)], "none.svg: cannot be read"),
        ([str(perfect), "--limit", "3"], "--limit has no meaning"),
        ([str(blank), "--judges", str(tmp_path)], "recogniser"),
        ([str(perfect), "--out", str(perfect)], "the report cannot be written"),
    ):
        assert main(["evaluate", "--predictions", *arguments]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_published_lists_number_the_images_and_need_no_images(sample_corpus):
    """A copy of the published set that holds two val images and none of test."""

    class Old:
        names = np.array([*sorted(read_lists()["val"])[5:7], sorted(read_lists()["train"])[0]])

        def indices(self, split):
            return np.arange(2) if split == "val" else np.arange(0)

    class Copy:
        folder, is_sample, old, new = "copy", False, Old(), sample_corpus.new

    numbered, scored = table.names_of(Copy(), "val")
    assert len(numbered) == 2060 and scored == numbered[5:7]
    numbered, scored = table.names_of(Copy(), "test")
    assert len(numbered) == len(scored) == 1828
    Old.names = np.array(["U+4E00/0.png"])
    Old.indices = lambda self, split: np.arange(0)
    with pytest.raises(DataError, match="no images of the split 'test'"):
        table.names_of(Copy(), "test")
