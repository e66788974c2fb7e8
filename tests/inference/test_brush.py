"""transfer.inference.brush and its command, with the shipped old VAE and a density back that was
never trained."""

import copy
import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from transfer import cli
from transfer.inference import brush, loading
from transfer.models import mdn
from transfer.training import weights
from transfer.training.weights import WeightsError

CONFIG = mdn.MDNConfig(
    density="flow",
    direction="back",
    hidden=8,
    layers=1,
    mixtures=3,
    couplings=2,
    width=8,
    noise=1.0,
)


@pytest.fixture(scope="module")
def painting(model, tmp_path_factory):
    """The shipped model, with a density back beside it."""
    folder = tmp_path_factory.mktemp("brush")
    number, random = len(model.characters), np.random.default_rng(0)
    params = nnx.to_pure_dict(nnx.split(mdn.build(CONFIG, number, nnx.Rngs(0)))[1])
    params = jax.tree.map(
        lambda p: p + jnp.asarray(random.normal(0, 0.1, p.shape), p.dtype), params
    )
    arrays = {
        "code_points": np.array([ord(c) for c in model.characters], np.int32),
        "gallery_mean": np.asarray(model.gallery.mean),
        "gallery_log_variance": np.asarray(model.gallery.log_variance),
        "seen": np.ones(number, bool),
        "calibration": np.ones(1, np.float32),
    }
    weights.save(
        folder / "mdn_back.safetensors",
        {"mdn": params},
        arrays,
        {"config": dataclasses.asdict(CONFIG)},
    )
    other = copy.copy(model)
    other.folder = folder
    return other


@pytest.fixture
def run(painting, monkeypatch, capsys, tmp_path):
    """Run the command line with that model -> (exit code, standard output, standard error)."""
    monkeypatch.setattr(loading, "load_model", lambda folder: painting)
    monkeypatch.chdir(tmp_path)

    def command(*words):
        capsys.readouterr()
        code = cli.main(["brush", *map(str, words)])
        return SimpleNamespace(code=code, **dict(zip(("out", "err"), capsys.readouterr())))

    return command


def test_same_seed_same_pictures_whatever_their_number(painting):
    three, five = painting.brush("花", 3), painting.brush("花", 5)
    assert three.shape == (3, 64, 64) and three.dtype == np.uint8
    np.testing.assert_array_equal(three, five[:3])
    assert len({picture.tobytes() for picture in five}) == 5
    assert not np.array_equal(three, painting.brush("花", 3, seed=1))
    assert not np.array_equal(three, painting.brush("山", 3))


def test_pictures_are_the_old_vae_s_of_draws_of_the_density(painting):
    painter = brush.of(painting)
    assert brush.of(painting) is painter
    painted = painter.brush("花", 4)
    z_new = painter.z_new[painter.characters == ord("花")].repeat(4, 0)
    density = nnx.merge(painter.graph, painter.params)
    wanted = mdn.log_prob(density, painted.z_old, jnp.asarray(z_new), painter.gallery) / 64
    np.testing.assert_allclose(painted.log_density, wanted, rtol=1e-3)
    old = nnx.merge(painting.old_graph, painting.old_params)
    ink = 255 * np.asarray(jax.nn.sigmoid(old.decode(painted.z_old)))
    assert np.abs(painted.pictures - ink).max() < 1
    # At a low temperature only components are left, of which there are three.
    cold = painter.brush("花", 30, temperature=1e-6).z_old
    alike = np.abs(cold[:, None] - cold).max(-1) < 0.05  # noise has a deviation of about 0.001
    assert len(np.unique(alike, axis=0)) <= 3


@pytest.mark.parametrize(
    "given, said",
    [
        ({"character": "花見"}, "not one character"),
        ({"character": ""}, "not one character"),
        ({"character": "A"}, "U+0041) has no glyph among the"),
        ({"character": "花", "samples": 0}, "samples is 0"),
        ({"character": "花", "temperature": 1.5}, "temperature is 1.5"),
    ],
)
def test_what_cannot_be_painted_is_said(painting, given, said):
    with pytest.raises(ValueError, match=said.replace("+", r"\+").replace(")", r"\)")) as error:
        painting.brush(**given)
    assert "\n" not in str(error.value)


def test_weights_without_a_density_back_are_named(painting, tmp_path):
    bare = copy.copy(painting)
    bare.folder = tmp_path
    with pytest.raises(WeightsError, match="holds no density of z_old given z_new") as error:
        bare.brush("花")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_the_command_writes_pictures_a_sheet_and_what_they_are(run, painting, tmp_path):
    done = run("花", "--samples", 3, "--seed", 2, "--out", "flowers")
    assert done.code == 0 and done.out.startswith("花 -> ") and not done.err
    folder = tmp_path / "flowers"
    described = json.loads((folder / "U+82B1.json").read_text("utf-8"))
    assert (described["character"], described["seed"], described["temperature"]) == ("花", 2, 1.0)
    files = [picture["file"] for picture in described["pictures"]]
    assert files == ["U+82B1-1.png", "U+82B1-2.png", "U+82B1-3.png"]
    assert {p.name for p in folder.iterdir()} == {*files, "U+82B1.png", "U+82B1.json"}
    for file, wanted in zip(files, painting.brush("花", 3, 2)):
        np.testing.assert_array_equal(255 - np.asarray(Image.open(folder / file)), wanted)
    assert Image.open(folder / described["sheet"]).size[0] > 3 * 64
    assert all(np.isfinite(p["log_density_per_dimension"]) for p in described["pictures"])


def test_the_command_says_in_a_line_what_is_wrong(run, tmp_path):
    (tmp_path / "file").write_text("")
    for words in (["花見"], ["A"], ["花", "--out", "file"]):
        done = run(*words)
        lines = done.err.splitlines()
        assert done.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.err
    assert {p.name for p in tmp_path.iterdir()} == {"file"}
