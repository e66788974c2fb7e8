"""transfer.training.weights: what is saved is loaded, and a file that cannot be used is one line
that names it."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from transfer.models.mdn import MDNConfig
from transfer.models.sketch_rnn import SketchRNNConfig
from transfer.models.stroke_rnn import StrokeRNNConfig
from transfer.models.vae import VAEConfig
from transfer.training import weights

ARRAYS = {
    "code_points": np.array([0x4E00, 0x20089], np.int32),
    "seen": np.array([True, False]),
    "scale": np.array([0.1], np.float32),
}
DESCRIBED = {
    "stage": "vae_old",
    "config": {"latent": 64, "encoder": [1, 2, 3]},
    "seed": 3,
    "kanji": "一",
}


class Layers(nnx.Module):
    """nnx.List gives the parameters integer keys."""

    def __init__(self, rngs):
        self.blocks = nnx.List(
            [
                nnx.List([nnx.Linear(2, 3, rngs=rngs)]),
                nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(11)]),
            ]
        )
        self.scalar = nnx.Param(np.float32(2.5))


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


def test_a_file_gives_back_what_was_saved(tmp_path):
    graph, state = nnx.split(Layers(nnx.Rngs(0)))
    params = nnx.to_pure_dict(state)
    path = tmp_path / "deep" / "vae_old.safetensors"
    weights.save(path, params, ARRAYS, DESCRIBED)
    assert [p.name for p in path.parent.iterdir()] == ["vae_old.safetensors"]
    got, arrays, described = weights.load(path)
    assert jax.tree.structure(got) == jax.tree.structure(params) and set(got["blocks"][1]) == set(
        range(11)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(params)):
        assert a.dtype == np.float32 and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    assert described == DESCRIBED and set(arrays) == set(ARRAYS)
    assert all(
        np.array_equal(arrays[k], v) and arrays[k].dtype == v.dtype for k, v in ARRAYS.items()
    )
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(
        nnx.merge(graph, got).blocks[0][0](x), nnx.merge(graph, state).blocks[0][0](x)
    )


def test_the_same_weights_are_the_same_bytes(tmp_path):
    for name in "ab":
        weights.save(
            tmp_path / name,
            {"b": np.ones(2, np.float32), "a": {0: np.zeros(3, np.float32)}},
            ARRAYS,
            DESCRIBED,
        )
    assert weights.checksum(tmp_path / "a") == weights.checksum(tmp_path / "b")
    assert len(weights.checksum(tmp_path / "a")) == 64


def test_int8_quarters_the_file_and_is_off_by_half_a_step_of_its_column(tmp_path):
    random = np.random.default_rng(0)
    params = {
        "w": {
            0: (random.normal(0, 1, (3, 3, 40, 50)) * 10.0 ** random.uniform(-2, 2, 50)).astype(
                np.float32
            )
        },
        "zero": np.zeros((4, 5), np.float32),
        "bias": random.normal(0, 1, 50).astype(np.float32),
    }
    weights.save(tmp_path / "full", params, ARRAYS, DESCRIBED)
    weights.save(tmp_path / "small", params, ARRAYS, DESCRIBED, np.int8)
    assert (tmp_path / "small").stat().st_size < 0.3 * (tmp_path / "full").stat().st_size
    got, arrays, _ = weights.load(tmp_path / "small")
    assert jax.tree.structure(got) == jax.tree.structure(params) and set(arrays) == set(ARRAYS)
    step = np.abs(params["w"][0]).max((0, 1, 2)) / 127
    assert (
        np.abs(got["w"][0] - params["w"][0]) <= 0.57 * step
    ).all()  # the scale itself is a float16
    assert got["w"][0].dtype == np.float32 and not got["zero"].any()
    np.testing.assert_allclose(got["bias"], params["bias"], rtol=1e-3)


def test_float16_halves_the_file_and_loads_as_float32(tmp_path):
    params = {"w": np.random.default_rng(0).normal(0, 1, (200, 50)).astype(np.float32)}
    weights.save(tmp_path / "full", params, ARRAYS, DESCRIBED)
    weights.save(tmp_path / "half", params, ARRAYS, DESCRIBED, np.float16)
    assert (tmp_path / "half").stat().st_size < 0.55 * (tmp_path / "full").stat().st_size
    got, arrays, _ = weights.load(tmp_path / "half")
    assert got["w"].dtype == arrays["scale"].dtype == np.float32
    np.testing.assert_allclose(got["w"], params["w"], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(
        arrays["code_points"], ARRAYS["code_points"]
    )  # integers are not rounded


def test_a_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    weights.save(path, {"w": np.ones(2, np.float32)}, {}, DESCRIBED)
    before = path.read_bytes()

    def full_disk(tensors, part, metadata):
        part.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", full_disk)
    with pytest.raises(OSError):
        weights.save(path, {"w": np.zeros(2, np.float32)}, {}, DESCRIBED)
    assert path.read_bytes() == before


def test_a_missing_file_is_one_line(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(weights.WeightsError) as error:
            weights.load(path)
        assert str(path) in one_line(error)


@pytest.mark.parametrize(
    "damage",
    ["truncated", "empty", "text", "header", "no config", "not JSON", "other JSON", "list"],
)
def test_a_damaged_or_foreign_file_is_one_line(tmp_path, damage):
    path = tmp_path / "m.safetensors"
    weights.save(path, {"w": np.ones((50, 50), np.float32)}, ARRAYS, DESCRIBED)
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("just some text that is no weights file\n" * 10)
    elif damage == "header":
        path.write_bytes(whole[:20] + b"\xff" * 40 + whole[60:])
    elif damage == "no config":
        save_file({"params/w": np.ones(2, np.float32)}, path)
    elif damage == "not JSON":
        save_file({"params/w": np.ones(2, np.float32)}, path, metadata={"config": "{"})
    else:
        save_file(
            {"params/w": np.ones(2, np.float32)},
            path,
            metadata={"config": '{"lr": 1}' if damage == "other JSON" else "[]"},
        )
    with pytest.raises(weights.WeightsError) as error:
        weights.load(path)
    assert str(path) in one_line(error)


def test_find_looks_in_weights_folders_and_runs_folders(tmp_path):
    inside = tmp_path / "vae_old" / "weights" / "vae_old.safetensors"
    flat = tmp_path / "vae_old.safetensors"
    flat.touch()
    assert weights.find(tmp_path, "vae_old") == flat
    inside.parent.mkdir(parents=True)
    inside.touch()
    assert weights.find(tmp_path, "vae_old") == inside
    with pytest.raises(weights.WeightsError) as error:
        weights.find(tmp_path, "mdn")
    assert str(tmp_path) in one_line(error) and "mdn.safetensors" in str(error.value)


def test_config_comes_back_from_its_json():
    config = VAEConfig.paper()
    assert (
        weights.config(VAEConfig, json.loads(json.dumps({"config": dataclasses.asdict(config)})))
        == config
    )
    # What a file does not have, keeps its default.
    assert weights.config(VAEConfig, {"config": {"latent": 7}}) == VAEConfig(latent=7)


def test_a_setting_that_is_not_known_is_one_line():
    with pytest.raises(
        weights.WeightsError, match="a_later_setting = '1', which this version does not know"
    ) as error:
        weights.config(
            VAEConfig, {"config": dataclasses.asdict(VAEConfig.paper()) | {"a_later_setting": 1}}
        )
    one_line(error)


def test_a_setting_that_no_model_can_have_is_one_line():
    with pytest.raises(
        weights.WeightsError, match=r"VAEConfig cannot have \(--latent 0: give a whole number"
    ) as error:
        weights.config(VAEConfig, {"config": {"latent": 0}})
    one_line(error)


@pytest.mark.parametrize(
    "kind, off, on",
    [
        (VAEConfig, {"pretrained": False}, {"pretrained": True}),
        (MDNConfig, {"together": False, "likelihood": 3000.0}, {"together": True}),
        (
            SketchRNNConfig,
            {
                "joint_pen": False,
                "glimpse": False,
                "plan": False,
                "plan_batch": 1024,
                "particles": 1,
                "embed": 0,
                "head": 0,
                "noise": 0.0,
            },
            {"glimpse": True},
        ),
        (SketchRNNConfig, {"particles": 1}, {"particles": 8}),
        (SketchRNNConfig, {"noise": 0.0}, {"noise": 0.7}),
    ],
)
def test_retired_settings_are_taken_where_they_were_off(kind, off, on):
    config = kind.paper()
    assert weights.config(kind, {"config": dataclasses.asdict(config) | off}) == config
    with pytest.raises(weights.WeightsError, match=f"{list(on)[0]} = .*no longer has") as error:
        weights.config(kind, {"config": dataclasses.asdict(config) | off | on})
    one_line(error)


def test_settings_of_one_model_are_not_retired_from_another():
    """The decoder of whole strokes has a `noise` and a `plan_batch` of its own."""
    config = StrokeRNNConfig.small()
    described = {"config": dataclasses.asdict(config) | {"noise": 0.0, "plan_batch": 3}}
    assert weights.config(StrokeRNNConfig, described) == dataclasses.replace(
        config, noise=0.0, plan_batch=3
    )


def test_earlier_names_of_settings_and_parameters_are_read(tmp_path):
    config = dataclasses.replace(StrokeRNNConfig.small(), attempts=7)
    settings = dataclasses.asdict(config)
    earlier = {"ways" if k == "attempts" else k: v for k, v in settings.items()}
    assert weights.config(StrokeRNNConfig, {"config": earlier}) == config
    with pytest.raises(weights.WeightsError, match="ways = '7', which this version does not know"):
        weights.config(StrokeRNNConfig, {"config": settings | earlier})
    with pytest.raises(weights.WeightsError, match="ways"):
        weights.config(VAEConfig, {"config": {"ways": 7}})
    path = tmp_path / "mdn.safetensors"
    weights.save(path, {"mdn": {"told": np.ones(3, np.float32)}}, {}, DESCRIBED)
    params, _, _ = weights.load(path)
    assert list(params["mdn"]) == ["known"] and params["mdn"]["known"].tolist() == [1, 1, 1]


def foreign(tensors: dict, config: str = '{"config": {}}'):
    return lambda path: save_file(
        {name: np.asarray(value) for name, value in tensors.items()},
        path,
        metadata={"config": config},
    )


@pytest.mark.parametrize(
    "write, words",
    [
        (foreign({"params/" + "a/" * 40 + "b": np.ones(1)}), "deeper"),
        (foreign({"params/a": np.ones(1), "params/a/b": np.ones(1)}), "inside"),
        (foreign({"params/0": np.ones(1), "params/00": np.ones(1)}), "twice"),
        (
            foreign(
                {
                    "params/w": np.ones((1, 50), np.float32),
                    "scales/params/w": np.ones((50, 1), np.float16),
                }
            ),
            "scale",
        ),
        (foreign({"params/w": np.ones(1)}, "[" * 100_000), "recursion"),
        (
            lambda path: path.write_bytes(
                b"A\0\0\0\0\0\0\0"
                + b'{"params/w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}   '
                + b"\0\0"
            ),
            "m.safetensors",
        ),
    ],
    ids=[
        "deep",
        "an array in an array",
        "one index twice",
        "a scale that broadcasts",
        "deep JSON",
        "bfloat16",
    ],
)
def test_a_hostile_file_is_one_line(tmp_path, write, words):
    write(tmp_path / "m.safetensors")
    with pytest.raises(weights.WeightsError, match=words) as error:
        weights.load(tmp_path / "m.safetensors")
    assert "m.safetensors" in one_line(error)


@pytest.mark.parametrize(
    "field, value",
    [
        ("latent", "64"),
        ("latent", 1.5),
        ("latent", True),
        ("decoder", [1, 2]),
        ("encoder", [1, 2, "3"]),
        ("architecture", "other"),
        ("architecture", ["paper"]),
        ("kl_floor", float("nan")),
        ("rectified_stem", 1),
        ("latent", 10**400),
    ],
)
def test_a_config_of_other_types_is_one_line(field, value):
    described = {"config": dataclasses.asdict(VAEConfig.paper()) | {field: value}}
    with pytest.raises(weights.WeightsError, match=field) as error:
        weights.config(VAEConfig, described)
    one_line(error)
