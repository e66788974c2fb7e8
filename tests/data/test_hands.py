"""transfer.data.writing.hands: brush writing made from strokes: the same for the same seed, of the
right characters, and readable."""

import json

import numpy as np
import pytest
from scipy import ndimage

from transfer.data import corpus
from transfer.data.__main__ import main
from transfer.data.writing import hands
from transfer.system.errors import DataError

CROSS = [np.float32([(15, 55), (95, 55)]), np.float32([(55, 15), (55, 95)])]
PLAIN = hands.Hand(
    cursive=0,
    width=6,
    swing=0,
    nib=0,
    flat=0,
    slant=0,
    turn=0,
    aspect=1,
    bend=0,
    shake=0,
    uneven=0,
    dry=0,
    rough=0,
    soft=0,
)


def written(strokes, seed=0, parts=(), **changed):
    return hands.write(
        strokes,
        list(parts),
        hands.dataclasses.replace(PLAIN, **changed),
        np.random.default_rng(seed),
    )


def test_a_plain_hand_writes_the_strokes_as_they_are():
    image = written(CROSS)
    assert image.shape == (64, 64) and image.dtype == np.uint8
    middle = image[30:34, 30:34]
    assert (middle > 200).mean() > 0.9 and image[:20, :20].max() == 0 and image[44:, 44:].max() == 0
    assert (image[32] > 127).sum() > 58 and (
        image[:, 32] > 127
    ).sum() > 58  # fills the picture, both ways


def test_a_cursive_hand_joins_strokes_that_a_plain_one_keeps_apart():
    apart = [np.float32([(10, y), (95, y)]) for y in (15, 55, 95)]
    pieces = lambda cursive: [
        ndimage.label(written(apart, seed, cursive=cursive) > 60, np.ones((3, 3)))[1]
        for seed in range(12)
    ]
    assert pieces(0.0) == [3] * 12 and np.mean(pieces(1.0)) < 1.8


def test_width_thins_and_thickens_and_dry_takes_ink_away():
    ink = lambda **changed: written(CROSS, **changed).mean()
    assert ink(width=3) < 0.7 * ink(width=6) < 0.6 * ink(width=12)
    assert ink(dry=0.25) < 0.95 * ink()


def test_a_component_that_grows_leaves_the_other_as_it_is():
    box = [np.float32([(10, y), (50, y)]) for y in (20, 90)] + [
        np.float32([(60, y), (100, y)]) for y in (20, 90)
    ]
    varied = hands.vary(
        box, [(2, 4)], hands.dataclasses.replace(PLAIN, uneven=0.3), np.random.default_rng(0)
    )
    np.testing.assert_allclose(np.concatenate(varied[:2]), np.concatenate(box[:2]))
    assert np.abs(varied[2] - box[2]).max() > 1


def test_many_strokes_are_written_thinner_so_that_they_stay_apart():
    many = [np.float32([(10, y), (100, y)]) for y in np.linspace(5, 105, 13)]
    assert ndimage.label(written(many, width=6.5) > 127)[1] == 13


@pytest.fixture(scope="module")
def sample():
    return corpus.load(quiet=True).new


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)


def test_the_collection_is_the_same_for_a_seed_however_many_work_at_it(sample, tmp_path):
    points = sample.code_points[sample.gallery()][:6]
    made = []
    for name, jobs, seed in (("a", 1, 0), ("b", 2, 0), ("c", 1, 1)):
        (tmp_path / name).mkdir()
        hands.prepare(tmp_path / name, sample, points, 3, seed, jobs, progress=False)
        made.append(hands.load(tmp_path / name))
    assert (
        made[0].images.shape == (18, 64, 64)
        and made[0].code_points.tolist() == np.repeat(np.sort(points), 3).tolist()
    )
    np.testing.assert_array_equal(made[0].images, made[1].images)
    assert (made[0].images != made[2].images).any((1, 2)).all()
    assert made[0].source["seed"] == 0 and made[0].source["each"] == 3
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["hands"]


def test_damaged_and_half_written_collections_are_one_line(sample, tmp_path):
    assert hands.load(tmp_path) is None
    hands.prepare(tmp_path, sample, sample.code_points[sample.gallery()][:2], 2, progress=False)
    np.save(tmp_path / "hands" / "code_points.npy", np.zeros(1, np.int32))
    with pytest.raises(DataError, match="differ in length.*data hands --data"):
        hands.load(tmp_path)
    (tmp_path / "hands" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        hands.load(tmp_path)
    with pytest.raises(DataError, match="give 1 or more"):
        hands.prepare(tmp_path, sample, [0x4E00], 0, progress=False)


def test_command_refuses_the_sample_corpus(capsys):
    assert main(["hands"]) == 2
    assert "sample corpus" in capsys.readouterr().err


def test_every_made_image_has_ink_and_a_manifest_that_json_reads(sample, tmp_path):
    points = sample.code_points[sample.gallery()][:40]
    hands.prepare(tmp_path, sample, points, 4, progress=False)
    made = hands.load(tmp_path)
    share = (made.images > 127).mean((1, 2))
    assert share.min() > 0.003 and share.max() < 0.75
    assert json.loads((tmp_path / "hands" / "manifest.json").read_text("utf-8"))["characters"] == 40
