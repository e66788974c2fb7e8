import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.evaluation import latents
from transfer.models import vae
from transfer.stages import encoding


class Says(nnx.Module):
    """A decoder with one logit for all pixels."""

    def __init__(self, logit):
        self.logit = nnx.Param(jnp.float32(logit))

    def decode(self, z):
        return jnp.full((len(z), 64, 64), self.logit[...])


def test_probe_separates_what_a_line_separates():
    random = np.random.default_rng(0)
    centres = random.normal(0, 5, (6, 16))
    label = random.integers(0, 6, 600)
    x = (centres[label] + random.normal(0, 0.3, (600, 16))).astype(np.float32)
    names = np.array([9, 4, 77, 5, 30, 2])[label]
    assert (latents.probe(x[:500], names[:500], x[500:], steps=200) == names[500:]).all()
    shuffled = random.permutation(names)
    assert (
        latents.probe(x[:500], shuffled[:500], x[500:], steps=200) == shuffled[500:]
    ).mean() < 0.4  # no leak of labels


def test_units_kl_and_purity(cases, monkeypatch):
    random = np.random.default_rng(1)
    mean = random.normal(0, 1, (4, 64)).astype(np.float32)
    mean[:, 40:] = 0.3  # 24 units that tell nothing
    log_variance = np.full((4, 64), -1.0, np.float32)
    monkeypatch.setattr(
        encoding, "encode_images", lambda folder, domain, images: (mean, log_variance)
    )
    # VAEs that say .25 and .5 of every pixel.
    said = {"old": np.log(0.25 / 0.75), "new": 0.0}
    monkeypatch.setattr(
        encoding, "load_vae", lambda _, domain: (*nnx.split(Says(said[domain])), {}, None)
    )
    cases.__dict__["train_latents"] = mean + 0.01, cases.code_points[[0, 1, 3, 2]]
    found = latents.measure(cases)
    assert found.overall["active units of z_old"] == 40 == found.overall["active units of z_new"]
    # Of an image that is all paper but for a share of ink, at a probability of .25 and of .5.
    ink = cases.images.astype(float).sum((1, 2)) / 255
    expected = -ink * np.log(0.25) - (4096 - ink) * np.log(0.75)
    found_old = found.per_image["reconstruction from z_old, nats"]
    np.testing.assert_allclose(found_old, expected, rtol=1e-5)
    found_new = found.per_image["reconstruction from z_new, nats"]
    np.testing.assert_allclose(found_new, 4096 * np.log(2), rtol=1e-5)
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance)
    np.testing.assert_allclose(found.per_image["KL of z_old, nats"], kl.sum(1), rtol=1e-5)
    np.testing.assert_allclose(
        found.overall["KL of z_new, largest dimension"], kl.mean(0).max(), rtol=1e-5
    )
    assert found.per_image["1-NN in z_old of the plain image, same class"].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(
        np.asarray(vae.kl_divergence(mean, log_variance)), kl, rtol=1e-4, atol=1e-6
    )
