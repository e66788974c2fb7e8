"""`export`: onnxruntime gets the same results from the files as the pipeline from the weights, and
errors come before anything is written. tests/web tests the exported page in a browser."""

import gzip
import json
import shutil
import sys
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, load_file

from transfer import cli
from transfer.inference import acceptance, loading
from transfer.inference.images import load_image
from transfer.system.errors import DataError

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.png"))
FILES = {
    "encoder.onnx",
    "old_painter.onnx",
    "reader.onnx",
    "acceptance.onnx",
    "painter.onnx",
    "stroke_plan.onnx",
    "stroke_step.onnx",
    "kanji.json",
    "stroke_settings.json",
    "z_new.npy",
    "old_hands.safetensors",
}


@pytest.fixture
def run(model, monkeypatch, capsys):
    load = loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda f: model if f is None else load(f))

    def command(*words):
        capsys.readouterr()
        return cli.main(["export", *map(str, words)]), capsys.readouterr().err

    return command


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder that looks like the unpacked npm package."""
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "ort.wasm.bundle.min.mjs").write_text("export {};", "utf-8")
    (folder / "dist" / "ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm\1\0\0\0")
    (folder / "package.json").write_text('{"version": "1.99.0"}', "utf-8")
    return folder


def test_an_image_goes_the_whole_way_without_jax(run, model, tmp_path):
    pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime here")
    folder = tmp_path / "models"
    code, said = run(folder, "--format", "onnx")
    assert code == 0 and len(said.strip().splitlines()) == 7, said
    assert {path.name for path in folder.iterdir()} == FILES
    start = lambda name: onnxruntime.InferenceSession(folder / f"{name}.onnx")
    images = np.stack([load_image(path) for path in EXAMPLES])
    results = model.read(images, top=5)
    names = ["z_old", "views", "log_variance", "features"]
    seen = dict(zip(names, start("encoder").run(names, {"images": images})))
    paint_old = start("old_painter")
    [picture] = paint_old.run(None, {"z_old": seen["views"][:, 0]})
    known = {"images": images, "picture": picture} | {k: seen[k] for k in names[1:3]}
    log_probabilities, kana = start("reader").run(["log_probabilities", "kana"], known)
    assert np.abs(seen["z_old"] - np.stack([r.z_old for r in results])).max() < 1e-3
    old = np.stack([r.old_reconstruction for r in results])
    assert np.abs(picture - old).max() < 1e-3
    ink = {"ink": acceptance.ink_numbers(images), "features": seen["features"]}
    [familiarity] = start("acceptance").run(None, known | ink)
    assert np.abs(familiarity - [r.familiarity for r in results]).max() < 1e-3
    kanji = json.loads((folder / "kanji.json").read_text("utf-8"))
    assert kanji["characters"] == model.characters and len(kanji["attribution"]) > 0
    probabilities = np.exp(log_probabilities)
    assert np.allclose(probabilities.sum(1) + kana.sum(1), 1, atol=1e-4)
    z_new = np.load(folder / "z_new.npy", allow_pickle=False)
    best = [model.characters.index(result.candidates[0][0]) for result in results]
    [pictures] = start("painter").run(["pictures"], {"z_new": z_new[best]})
    for i, result in enumerate(results):
        for (character, probability), others in zip(result.candidates, result.other_forms):
            forms = [character, *(other for other, _ in others)]
            places = [kanji["characters"].index(form) for form in forms]
            assert abs(probabilities[i, places].sum() - probability) < 1e-3
            assert len(places) == 1 or sorted(places) in kanji["groups"]
        assert np.abs(pictures[i] - result.new_reconstruction).max() < 1e-2
    # Old hands beside the candidates: nearest first, painted.
    hands = load_file(folder / "old_hands.safetensors")
    for result, query in zip(results, seen["z_old"]):
        for (character, _), others in zip(result.candidates, result.old_hands):
            rows = np.flatnonzero(hands["code_points"] == ord(character))
            latents = hands["z"][rows] * hands["scale"]
            order = np.argsort(np.linalg.norm(latents - query, axis=1))[: len(others)]
            [painted] = paint_old.run(None, {"z_old": latents[order]})
            wanted = np.array([hand.picture for hand in others])
            assert np.abs(255 * painted - wanted).max(initial=0) < 1
            books = [hand.after == "books" for hand in others]
            assert hands["books"][rows[order]].tolist() == books
    # The decoder plans as many strokes as the program does, and its first step has the sizes told.
    given = {"z_new": z_new[best], "pictures": pictures}
    count, coarse, context, features, h, c = start("stroke_plan").run(None, given)
    planned = np.clip(model.decoder.lengths(*given.values()), 1, model.decoder.config.most)
    assert count.tolist() == planned.tolist()
    settings = json.loads((folder / "stroke_settings.json").read_text("utf-8"))
    assert settings["temperature"] == model.temperature
    number, codes = len(best), 2 * settings["points"]
    weights, means, scales = start("stroke_step").run(
        ["log_weights", "means", "log_scales"],
        {
            "code": np.zeros((number, codes), np.float32),
            "end": np.zeros((number, 2), np.float32),
            "first": np.ones(number, np.float32),
            "count_left": count,
            "ink_left": coarse,
            "h": h,
            "c": c,
            "context": context,
            "features": features,
        },
    )
    assert means.shape == scales.shape == (*weights.shape, codes)
    assert np.allclose(np.exp(weights).sum(-1), 1, atol=1e-4)
    # The likeliest first stroke lies in the box.
    mean = means[0, weights[0].argmax()] * settings["deviation"]
    first = mean @ np.transpose(settings["axes"]) + settings["mean"]
    assert -5 < first.min() and first.max() < settings["box"] + 5
    # One image alone is what it is among others.
    [alone] = start("encoder").run(["z_old"], {"images": images[2:3]})
    assert np.abs(alone[0] - seen["z_old"][2]).max() < 1e-4


def test_places_of_pixels_keep_their_digits_in_half_precision():
    onnx = pytest.importorskip("onnx", reason="no onnx here; pip install '.[export]'")
    from transfer.export import onnx_file

    side = np.linspace(0, 63.999, 64, dtype=np.float32)
    constants = {
        "weight": np.random.default_rng(0).normal(0, 0.1, (64, 64)).astype(np.float32),
        "place": np.tile(side, (64, 1)),
        "bias": np.ones(64, np.float32),
    }
    graph = onnx.helper.make_graph(
        [], "g", [], [], [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    model = onnx.helper.make_model(graph)
    onnx_file.halve(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    full, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert kinds == {"weight_half": half, "place": full, "bias": full}
    assert [list(node.output) for node in model.graph.node] == [["weight"]]


def test_weights_that_know_hiragana_say_so(model, tmp_path, monkeypatch):
    pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime here")
    from transfer.export import onnx_file, programs, tables

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(64, 3)).astype(np.float32)
    monkeypatch.setattr(model, "kana", ["あ", "い", "う"])
    known = {"kernel": kernel, "bias": np.full(3, 14, np.float32)}
    monkeypatch.setattr(model, "kana_params", known)
    images = np.stack([load_image(path) for path in EXAMPLES[:3]])
    _, views, log_variance, _ = jax.jit(programs.encoder(model).function)(images)
    [picture] = jax.jit(programs.old_painter(model).function)(views[:, 0])
    onnx_file.write(tmp_path / "reader.onnx", programs.reader(model), "float16")
    # jax2onnx puts a function of its own there, which refuses this.
    assert jnp.cumsum(images, 1).shape == images.shape
    session = onnxruntime.InferenceSession(tmp_path / "reader.onnx")
    known = {"picture": picture, "views": views, "log_variance": log_variance}
    known = {"images": images} | {name: np.asarray(value) for name, value in known.items()}
    kana, scores = session.run(["kana", "log_probabilities"], known)
    results = model.read(images)
    assert max(result.kana[1] for result in results) > 0.05
    for row, shares, result in zip(scores, kana, results):
        assert result.kana[1] == pytest.approx(shares.sum(), abs=0.01)
        assert result.kana[0] == model.kana[shares.argmax()]
        assert np.exp(row).sum() == pytest.approx(1 - shares.sum(), abs=0.01)
    assert tables.kanji(model)["kana"] == model.kana


def test_the_page_is_written_whole_and_again(run, model, package, tmp_path, monkeypatch):
    """With stand-ins for the graphs: those of an export are tried in a browser, in tests/web."""
    pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
    from transfer.export import onnx_file

    def stand_in(path, program, kind):
        assert kind == "float16"
        path.write_bytes(program.name.encode())
        return 0.0

    monkeypatch.setattr(onnx_file, "write", stand_in)
    folder = tmp_path / "site"
    code, said = run(folder, "--runtime", package)
    assert code == 0 and "python -m http.server" in said, said
    models = {path.name: path for path in (folder / "models").iterdir()}
    assert models.keys() == {n if n.endswith(".json") else f"{n}.packed" for n in FILES}
    # Packed files hold what they held: bytes at even places, then those at odd ones.
    name = "old_hands.safetensors"
    halves = gzip.decompress(models[f"{name}.packed"].read_bytes())
    content = bytearray(len(halves))
    content[::2], content[1::2] = halves[: -(-len(halves) // 2)], halves[-(-len(halves) // 2) :]
    assert (load(bytes(content))["code_points"] == model.old_hands.code_points).all()
    site = json.loads((folder / "site.json").read_text("utf-8"))
    assert site["runtime_version"] == "1.99.0" and len(site["examples"]) == 8
    for file in site["files"]:
        assert (folder / file["path"]).stat().st_size == file["size"]
    listed = {file["path"] for file in site["files"]}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == listed | {"offline.js", "site.json"}
    assert "browser.js" in (folder / "static" / "engine.js").read_text("utf-8")
    assert site["version"] in (folder / "offline.js").read_text("utf-8")
    # An export that fails leaves the earlier one as it was, and nothing beside it.
    before = sorted(tmp_path.iterdir())

    def fail(path, program, kind):
        if program.name == "painter":
            raise DataError("painter: onnxruntime is far from JAX")
        return stand_in(path, program, kind)

    monkeypatch.setattr(onnx_file, "write", fail)
    for name in ("site", "other"):
        code, said = run(tmp_path / name, "--runtime", package, "-q")
        assert code == 2 and "far from JAX" in said and sorted(tmp_path.iterdir()) == before
    assert json.loads((folder / "site.json").read_text("utf-8")) == site
    # Whole again, it takes the earlier one's place.
    monkeypatch.setattr(onnx_file, "write", lambda path, *_: float(path.write_bytes(b"x")))
    assert run(folder, "--runtime", package, "-q") == (0, "")
    assert json.loads((folder / "site.json").read_text("utf-8"))["version"] != site["version"]
    assert sorted(tmp_path.iterdir()) == before


def test_the_runtime_is_found_where_it_may_lie(package, tmp_path):
    from transfer.export import runtime

    wanted = {"ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"}
    for place in (package, package / "dist", package.parent):
        assert runtime.gather(place).files.keys() == wanted
    modules = tmp_path / "project" / "node_modules"
    shutil.copytree(package, modules / "onnxruntime-web")
    assert runtime.gather(modules.parent).version == "1.99.0"
    assert runtime.gather(modules).files.keys() == wanted
    with tarfile.open(tmp_path / "ort.tgz", "w:gz") as archive:
        archive.add(package, "package")
    assert runtime.gather(tmp_path / "ort.tgz") == runtime.gather(package)


def test_what_is_wrong_is_one_line(run, monkeypatch, package, tmp_path):
    for name in ("jax2onnx", "onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    code, said = run(tmp_path / "models")
    assert code == 2 and said.startswith("error: ") and 'install ".[export]"' in said
    assert said.count("\n") == 1 and not (tmp_path / "models").exists()
    monkeypatch.undo()
    pytest.importorskip("jax2onnx", reason="no jax2onnx here; pip install '.[export]'")
    (tmp_path / "taken").write_text("x", "utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x", "utf-8")
    (tmp_path / "empty").mkdir()
    shutil.copytree(package, tmp_path / "cut")
    (tmp_path / "cut" / "dist" / "ort-wasm-simd-threaded.wasm").write_bytes(b"<html>")
    (tmp_path / "old.tgz").write_bytes(b"\x1f\x8b\x08 no archive")
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        archive.add(tmp_path / "taken", "package/taken")
    before = sorted(tmp_path.rglob("*"))
    for words, told in (
        (("taken",), "is a file"),
        (("models", "--weights", "none"), "none"),
        (("full", "--runtime", "package"), "holds other files"),
        (("models", "--runtime", "nowhere"), "no such file or folder"),
        (("models", "--runtime", "empty"), "has no ort.wasm.bundle.min.mjs"),
        (("models", "--runtime", "cut"), "is damaged"),
        (("models", "--runtime", "old.tgz"), "is not an npm package"),
        (("models", "--runtime", "other.tgz"), "has no ort.wasm.bundle.min.mjs"),
        (("models", "--runtime", "taken"), "is not an npm package"),
    ):
        code, said = run(*(word if word.startswith("--") else tmp_path / word for word in words))
        assert code == 2 and told in said and said.count("\n") == 1, said
        assert sorted(tmp_path.rglob("*")) == before, words
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = run(tmp_path / "models")
    assert code == 2 and "npm" in said and "--runtime PATH" in said and said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_the_page_cannot_use_are_refused(model, package, tmp_path, monkeypatch):
    import dataclasses

    from transfer.export import programs, site

    other = dataclasses.replace(programs.density_config(model), density="joint")
    monkeypatch.setattr(programs, "density_config", lambda _: other)
    with pytest.raises(DataError, match="density is joint"):
        site.check(tmp_path / "site", model)
    monkeypatch.undo()
    monkeypatch.setattr(model, "decoder", object())
    with pytest.raises(DataError, match="point by point"):
        site.check(tmp_path / "site", model)
