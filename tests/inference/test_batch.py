"""transfer.inference.batch: names become pictures, in order, whatever is among them."""

import numpy as np
import pytest
from PIL import Image

from transfer.inference import batch
from transfer.inference.images import ImageError


def picture(path, shade: int = 0):
    """A black cross on white, its upright at a place that tells pictures apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((80, 80), 255, np.uint8)
    pixels[38:42, 10:70] = 0
    pixels[10:70, 20 + shade : 24 + shade] = 0
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("b.png", "a.PNG", "deep/c.jpg", "a[1].png", ".hidden.png")):
        picture(tmp_path / name, 5 * number)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(folder, *given):
    return [str(found).removeprefix(str(folder) + "/") for found in batch.find(given)]


def test_folders_patterns_and_files(folder):
    assert names(folder, folder) == ["a.PNG", "a[1].png", "b.png"], (
        "its pictures, sorted, no hidden ones, no folders in it"
    )
    assert names(folder, folder / "**" / "*.jpg") == ["deep/c.jpg"]
    assert names(folder, folder / "*.png", folder / "b.png") == ["a[1].png", "b.png", "b.png"]
    assert names(folder, folder / "a[1].png") == ["a[1].png"], "a file of that name is no pattern"
    assert names(folder, folder / "missing.png") == ["missing.png"], "read will say what is wrong"


def test_names_that_give_nothing_are_errors_in_their_place(folder):
    found = list(batch.find([folder / "empty", folder / "b.png", folder / "x*.png"]))
    assert (
        isinstance(found[0], ImageError)
        and "no pictures" in str(found[0])
        and str(folder / "empty") in str(found[0])
    )
    assert isinstance(found[2], ImageError) and "matches no file" in str(found[2])


@pytest.mark.parametrize("jobs, processes", [(1, False), (5, False), (2, True)])
def test_read_all_keeps_the_order_and_the_errors(folder, jobs, processes, monkeypatch):
    monkeypatch.setattr(batch, "MANY", 69)
    good, bad = str(folder / "b.png"), str(folder / "notes.txt")
    sources = [good if n % 3 else bad for n in range(70)]
    chunks = list(batch.read_all(iter(sources), jobs, processes))
    assert [len(chunk) for chunk in chunks] == [32, 32, 6]
    pictures = [picture for chunk in chunks for picture in chunk]
    assert [p.source for p in pictures] == sources
    assert [p.error is None for p in pictures] == [bool(n % 3) for n in range(70)]
    assert all(p.image.shape == (64, 64) for p in pictures if p.error is None)
    assert list(batch.read_all([], jobs)) == []


def test_only_one_chunk_is_read_ahead(folder):
    taken = []

    def endless():
        while True:
            taken.append(str(folder / "b.png"))
            yield taken[-1]

    chunks = batch.read_all(endless(), 2)
    next(chunks)
    assert len(taken) == 2 * batch.CHUNK
    chunks.close()


def test_bytes_are_called_by_their_name(folder):
    good = batch.read(("stdin", (folder / "b.png").read_bytes()))
    assert good.source == "stdin" and np.array_equal(
        good.image, batch.read(str(folder / "b.png")).image
    )
    bad = batch.read(("stdin", b""))
    assert str(bad.error).startswith("stdin: is empty")


def test_folder_through_the_api(model, folder):
    found = list(model.transfer_files([folder, folder / "missing.png"], samples=2, seed=5, top=3))
    assert [path.name for path, _ in found] == ["a.PNG", "a[1].png", "b.png", "missing.png"]
    assert isinstance(found[3][1], ImageError)
    for path, result in found[:3]:
        [alone] = model.transfer(batch.read(str(path)).image, samples=2, seed=5, top=3)
        assert [c for c, _ in result.candidates] == [c for c, _ in alone.candidates] and len(
            result.strokes
        ) == 2
    [(path, result)] = model.transfer_files(folder / "b.png", samples=1)
    assert path == folder / "b.png" and len(result.candidates) == 10
