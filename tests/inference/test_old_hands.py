"""transfer.inference.old_hands: which old hands are shown beside a candidate, and the scripts that
make and ship their prototypes."""

import base64
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer import KuzushijiTransfer
from transfer.data import corpus as corpora
from transfer.inference import old_hands
from transfer.inference.images import load_image
from transfer.inference.old_hands import Prototypes, TrainingImages
from transfer.inference.pipeline import PRETRAINED
from transfer.training import weights
from transfer.training.weights import WeightsError

ROOT = Path(__file__).parents[2]
KUNI = ROOT / "examples" / "kuni_U+56FD.png"


def script(name, *arguments):
    kept = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"}
    return subprocess.run(
        [sys.executable, ROOT / "experiments" / name, *map(str, arguments)],
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The shipped weights with prototypes of kanji of the sample corpus, 国 among them."""
    made = tmp_path_factory.mktemp("weights")
    for path in PRETRAINED.glob("*.safetensors"):
        if path.stem != old_hands.FILE:
            shutil.copy(path, made)
    done = script("make_prototypes.py", "--weights", made)
    assert done.returncode == 0, done.stderr
    assert "prototypes: " in done.stdout and "more than" not in done.stdout
    return made


@pytest.fixture(scope="module")
def corpus():
    """What the script reads: the sample, also where $KUZUSHIJI_DATA names the published files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KUZUSHIJI_DATA", raising=False)
        return corpora.load(quiet=True)


@pytest.fixture(scope="module")
def loaded(folder):
    return KuzushijiTransfer.load(folder)


@pytest.fixture(scope="module")
def result(loaded):
    return loaded.read(load_image(KUNI))[0]


def test_the_script_takes_train_images_of_the_gallery_only(folder, corpus):
    arrays, described = old_hands.read(folder / "prototypes.safetensors")
    points, count = np.unique(arrays["code_points"], return_counts=True)
    of = lambda split: np.asarray(corpus.old.code_points)[corpus.old.indices(split)]
    wanted = np.intersect1d(of("train"), corpus.new.code_points[corpus.new.gallery()])
    assert points.tolist() == wanted.tolist() and len(points) > 100
    assert (np.diff(arrays["code_points"]) >= 0).all() and arrays["books"].all()
    assert (count <= np.minimum(4, [(of("train") == p).sum() for p in points])).all()
    assert described["config"]["vae_old"] == weights.checksum(folder / "vae_old.safetensors")
    assert described["data"]["sample"] is True
    assert (folder / "prototypes.safetensors").stat().st_size < 2e6


def test_few_images_are_their_own_prototypes(folder, loaded, corpus):
    """Rounded to a 127th of the widest z_old of each axis."""
    arrays, _ = old_hands.read(folder / "prototypes.safetensors")
    rows = corpus.old.indices("train")
    points, count = np.unique(np.asarray(corpus.old.code_points)[rows], return_counts=True)
    few = next(p for p, n in zip(points, count) if n <= 4 and p in arrays["code_points"])
    images = corpus.old.images[rows[np.asarray(corpus.old.code_points)[rows] == few]]
    z = TrainingImages(corpus, loaded.old_graph, loaded.old_params)
    [found] = z.of([chr(few)], np.zeros(64, np.float32))
    kept = arrays["z"][arrays["code_points"] == few] * arrays["scale"]
    far = sorted(np.sqrt((kept**2).sum(1)))
    assert len(found) == len(images) == len(kept)
    assert np.allclose(far, [hand.distance for hand in found], rtol=0.02)


def test_the_nearest_comes_first_and_is_painted_by_the_old_vae(loaded, result):
    hands = dict(zip([c for c, _ in result.candidates], result.old_hands))
    assert len(result.old_hands) == len(result.candidates)
    assert 1 <= len(hands["国"]) <= 4
    for found in result.old_hands:
        assert [h.distance for h in found] == sorted(h.distance for h in found)
        assert all(h.painted and h.picture.shape == (64, 64) for h in found)
        assert all(h.picture.dtype == np.uint8 and h.picture.max() > 100 for h in found)
    rows = loaded.old_hands.code_points == ord("国")
    far = np.linalg.norm(loaded.old_hands.z_old[rows] - result.z_old, axis=1)
    assert np.isclose(hands["国"][0].distance, far.min())
    # What is painted does not depend on what else is, nor on how often it is asked for.
    again = Prototypes.load(loaded.folder, loaded.old)
    [alone] = again.of(["国"], result.z_old)
    assert all((a.picture == b.picture).all() for a, b in zip(alone, hands["国"]))
    far = [[h.distance for h in found] for found in again.of(["国", "A", "国"], result.z_old, 1)]
    assert far == [[alone[0].distance], [], [alone[0].distance]]


def test_they_are_kept_where_a_result_goes_elsewhere(result):
    again = pickle.loads(pickle.dumps(result))
    assert again.nearest is None and again.candidates == result.candidates
    assert [[h.distance for h in found] for found in again.old_hands] == [
        [h.distance for h in found] for found in result.old_hands
    ]


def test_candidates_as_json(folder, capsys):
    from transfer.cli import main

    assert main(["candidates", str(KUNI), "--json", "--top", "3", "--weights", str(folder)]) == 0
    [image] = json.loads(capsys.readouterr().out)["images"]
    [kuni] = [c for c in image["candidates"] if c["character"] == "国"]
    first = kuni["old_hands"][0]
    assert first["painted"] is True and first["name"] == "" and first["after"] == "books"
    kind, _, data = first["picture"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png;base64" and picture.size == (64, 64) and picture.mode == "L"
    assert np.asarray(picture).mean() > 128, "black on white"
    command = ["candidates", str(KUNI), "--top", "1", "--weights", str(folder)]
    assert main([*command, "--json", "--old-hands", "0"]) == 0
    assert "old_hands" not in capsys.readouterr().out
    assert main([*command, "--old-hands", "2"]) == 2
    assert "--json" in capsys.readouterr().err


def test_without_the_file_there_are_none(model, tmp_path):
    for path in PRETRAINED.glob("*.safetensors"):
        if path.stem != old_hands.FILE:
            (tmp_path / path.name).symlink_to(path)
    assert Prototypes.load(tmp_path, model.old) is None
    plain = KuzushijiTransfer.load(tmp_path).read(load_image(KUNI), top=3)[0]
    assert plain.old_hands == [(), (), ()]


def test_prototypes_of_other_weights_are_not_used(folder, model, tmp_path):
    for path in folder.glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    params, arrays, described = weights.load(folder / "vae_old.safetensors")
    params["mean"]["bias"] += 1
    weights.save(tmp_path / "vae_old.safetensors", params, arrays, described, np.float16)
    with pytest.warns(UserWarning, match="prototypes.safetensors: belongs to another vae_old"):
        assert Prototypes.load(tmp_path, model.old) is None
    done = script("ship_weights.py", "--runs", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 0 and "left out" in done.stderr
    assert not (tmp_path / "out" / "prototypes.safetensors").exists()


def test_damaged_prototypes_are_one_line(folder, loaded, tmp_path):
    good, described = old_hands.read(folder / "prototypes.safetensors")
    shutil.copy(folder / "vae_old.safetensors", tmp_path)
    path = tmp_path / "prototypes.safetensors"
    load = lambda: Prototypes.load(tmp_path, loaded.old)
    for wrong in (
        {"z": good["z"][:-1]},
        {"z": good["z"].astype(np.float32)},
        {"scale": good["scale"] * np.nan},
        {"scale": good["scale"][:5], "z": good["z"][:, :5]},
        {"books": None},
    ):
        arrays = {k: v for k, v in (good | wrong).items() if v is not None}
        weights.save(path, {}, arrays, described)
        with pytest.raises(WeightsError, match="no prototypes of old hands") as error:
            load()
        assert "\n" not in str(error.value)
    whole = (folder / "prototypes.safetensors").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a weights file"):
        load()


def test_they_ship_with_the_weights(folder, tmp_path):
    """The shipped VAE is another file (float16, without its classifier): the prototypes name it."""
    done = script("ship_weights.py", "--runs", folder, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    arrays, described = old_hands.read(tmp_path / "prototypes.safetensors")
    before, _ = old_hands.read(folder / "prototypes.safetensors")
    assert all((arrays[k] == before[k]).all() for k in before)
    assert described["config"]["vae_old"] == weights.checksum(tmp_path / "vae_old.safetensors")


def test_the_script_says_what_is_wrong(tmp_path):
    done = script("make_prototypes.py", "--weights", tmp_path)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "vae_old" in done.stderr
    done = script("make_prototypes.py", "--data", tmp_path / "none")
    assert done.returncode == 2 and "no such folder" in done.stderr
    done = script("make_prototypes.py", "--classes", 0)
    assert done.returncode == 2 and "--classes" in done.stderr


def test_clusters_are_told_apart():
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        from make_prototypes import clusters
    finally:
        sys.path.pop(0)
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(4, 64)).astype(np.float32)
    sizes = (5, 40, 10, 20)
    z = np.concatenate([c + rng.normal(0, 0.1, (n, 64)) for c, n in zip(centres, sizes)])
    found = clusters(z.astype(np.float32), 4)
    assert np.allclose(found, centres[[1, 3, 2, 0]], atol=0.2)
    assert clusters(z[:3], 4) is not None and len(clusters(z[:3], 4)) == 3
    same = np.ones((9, 64), np.float32)
    assert np.allclose(clusters(same, 4), 1)


def test_training_images_are_named_and_only_of_the_train_split(loaded, result, corpus):
    images = TrainingImages(corpus, loaded.old_graph, loaded.old_params)
    assert images.attribution == "", "the sample corpus is not the published data"
    [found] = images.of(["国"], result.z_old)
    [first] = images.of(["国"], result.z_old, most=1)
    train = corpus.old.indices("train")
    names = np.asarray(corpus.old.names)
    for hand in found:
        [row] = np.flatnonzero(names == hand.name)
        assert row in train and corpus.old.code_points[row] == ord("国") and not hand.painted
        assert (corpus.old.images[row] == hand.picture).all()
    assert first[0].name == found[0].name
    assert [h.distance for h in found] == sorted(h.distance for h in found)
    assert images.of(["A"], result.z_old) == [()]
