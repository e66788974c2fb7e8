"""`export`: what onnxruntime makes of the files is what the pipeline makes of the weights."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from transfer import cli
from transfer.inference import loading
from transfer.inference.images import load_image

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))


@pytest.fixture
def run(model, monkeypatch, capsys):
    load = loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda f: model if f is None else load(f))

    def command(*words):
        capsys.readouterr()
        return cli.main(["export", *map(str, words)]), capsys.readouterr().err

    return command


def test_an_image_goes_the_whole_way_without_jax(run, model, tmp_path):
    pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime here")
    code, said = run(tmp_path / "models")
    assert code == 0 and len(said.strip().splitlines()) == 3, said
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        "old_encoder.onnx",
        "density.onnx",
        "new_decoder.onnx",
        "kanji.json",
        "z_new.npy",
    }
    start = lambda name: onnxruntime.InferenceSession(tmp_path / "models" / f"{name}.onnx")
    images = np.stack([load_image(path) for path in EXAMPLES])
    results = model.read(images, top=5)
    [z_old] = start("old_encoder").run(["z_old"], {"images": images})
    assert np.abs(z_old - np.stack([r.z_old for r in results])).max() < 1e-3
    [probabilities] = start("density").run(["probabilities"], {"z_old": z_old})
    assert np.allclose(probabilities.sum(1), 1, atol=1e-4)
    kanji = json.loads((tmp_path / "models" / "kanji.json").read_text("utf-8"))
    assert kanji["characters"] == model.characters and len(kanji["attribution"]) > 0
    z_new = np.load(tmp_path / "models" / "z_new.npy", allow_pickle=False)
    best = probabilities.argmax(1)
    [pictures] = start("new_decoder").run(["pictures"], {"z_new": z_new[best]})
    for i, result in enumerate(results):
        for (character, probability), others in zip(result.candidates, result.other_forms):
            forms = [character, *(other for other, _ in others)]
            found = sum(probabilities[i, kanji["characters"].index(form)] for form in forms)
            assert abs(found - probability) < 2e-3
        assert kanji["characters"][best[i]] == result.candidates[0][0]
        assert np.abs(pictures[i] - result.new_reconstruction).max() < 1e-2
    # One image alone is what it is among others.
    [alone] = start("old_encoder").run(["z_old"], {"images": images[2:3]})
    assert np.abs(alone[0] - z_old[2]).max() < 1e-4


def test_what_is_wrong_is_one_line(run, monkeypatch, tmp_path):
    for name in ("jax2onnx", "onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    code, said = run(tmp_path / "models")
    assert code == 2 and said.startswith("error: ") and 'install ".[export]"' in said
    assert said.count("\n") == 1 and not (tmp_path / "models").exists()
    monkeypatch.undo()
    pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
    (tmp_path / "taken").write_text("x", "utf-8")
    code, said = run(tmp_path / "taken")
    assert code == 2 and "is a file" in said and said.count("\n") == 1
    code, said = run(tmp_path / "models", "--weights", tmp_path / "none")
    assert code == 2 and said.count("\n") == 1 and not (tmp_path / "models").exists()
