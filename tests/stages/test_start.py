"""transfer.stages.autoencoders: a training begins with trained weights, shipped ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transfer.models import vae
from transfer.models.vae import VAEConfig
from transfer.stages import autoencoders, density
from transfer.training import weights
from transfer.training.errors import TrainingError

POINTS = np.array([0x3042, 0x4E00, 0x4E8C], np.int32)


@pytest.fixture
def shipped(tmp_path):
    """A folder as `ship_weights.py` leaves it: no classifier beside the old VAE, its columns in the
    density, a kanji among them that the classifier does not know."""
    trained = {
        "encoder": {"dense": {"kernel": np.full((4, 3), 7.0)}},
        "mean": {"bias": np.full(3, 5.0)},
        "decoder": {"dense": {"kernel": np.full((2, 2), 9.0)}},
    }
    classifier = {"kernel": np.arange(9.0).reshape(3, 3), "bias": np.array([0.1, 0.2, 0.3])}
    old = trained | {"classifier": classifier}
    rows = density.classifier_rows(old, POINTS, np.array([0x4E00, 0x4E01, 0x4E8C]))
    arrays = {"code_points": np.array([0x4E00, 0x4E01, 0x4E8C], np.int32)}
    arrays |= density.kana_columns(old, POINTS)
    described = {"config": {}}
    weights.save(tmp_path / "vae_old.safetensors", trained, {"classes": POINTS}, described)
    weights.save(tmp_path / "mdn.safetensors", {"mdn": rows}, arrays, described)
    return tmp_path


def test_shipped_weights_give_back_the_classifier_with_kana(shipped):
    params, points = autoencoders.earlier(shipped, "old")
    assert points.tolist() == POINTS.tolist()
    np.testing.assert_allclose(params["classifier"]["kernel"], np.arange(9.0).reshape(3, 3))
    np.testing.assert_allclose(params["classifier"]["bias"], [0.1, 0.2, 0.3], rtol=1e-6)


def test_a_training_begins_with_what_fits_and_new_characters_keep_their_own(shipped):
    fresh = {
        "encoder": {"dense": {"kernel": jnp.zeros((4, 3))}},
        "mean": {"bias": jnp.zeros(3)},
        "decoder": {"dense": {"kernel": jnp.zeros((8, 2))}},
        "classifier": {"kernel": jnp.full((3, 4), -1.0), "bias": jnp.full(4, -1.0)},
    }
    classes = np.array([0x4E00, 0x4E03, 0x4E8C, 0x4E8D])
    begin = jax.jit(
        lambda params: autoencoders.begun(params, classes, *autoencoders.earlier(shipped, "old"))
    )
    got = begin(fresh)
    assert (got["encoder"]["dense"]["kernel"] == 7).all() and (got["mean"]["bias"] == 5).all()
    assert (got["decoder"]["dense"]["kernel"] == 0).all()  # of another shape
    np.testing.assert_allclose(got["classifier"]["bias"], [0.2, -1, 0.3, -1], rtol=1e-6)
    np.testing.assert_allclose(got["classifier"]["kernel"][:, 2], [2, 5, 8])


def test_another_encoder_is_refused(shipped):
    fresh = {"encoder": {"dense": {"kernel": jnp.zeros((4, 5))}}}
    with pytest.raises(TrainingError, match="--start"):
        autoencoders.begun(fresh, POINTS, *autoencoders.earlier(shipped, "old"))


def test_views_are_averaged_into_what_is_read():
    """Compiled as a whole: one operation at a time takes several times as long."""
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64), np.uint8)

    @jax.jit
    def found():
        model = vae.VAE(VAEConfig.tiny(), 3, nnx.Rngs(0))
        plain, _ = model.encode(images / 255.0)
        return plain, vae.viewed_z(model, images, 3), vae.averaged_z(model, images, 3)

    plain, views, averaged = found()
    assert views.shape == (4, 2, 64)
    np.testing.assert_allclose(views[0], plain, atol=1e-5)
    np.testing.assert_allclose(averaged, views.mean(0), atol=1e-6)
    assert float(abs(views[1] - views[0]).max()) > 1e-3
