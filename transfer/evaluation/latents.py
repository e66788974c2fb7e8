"""Evaluator: what the two latent spaces hold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from transfer.evaluation.cases import Cases, Measures
from transfer.evaluation.recognition import nearest
from transfer.models import vae
from transfer.stages import encoding

ACTIVE = 0.01
"""A unit is active if the variance of its posterior mean over the data is larger than this (Burda
et al. 2016)."""


def measure(cases: Cases) -> Measures:
    """Measures of the latents of both VAEs.

    - Reconstruction from the posterior mean (binary cross-entropy) and KL, in nats an image.
    - Active units.
    - Whether the nearest training image in z_old shows the same kanji.
    - The accuracy of a linear probe of z_old.

    z_old is the encoder's, of the image as it is. When an image is read, z_old is averaged over
    warped forms of it.
    """
    found, overall = {}, {}
    old = encoding.encode_images(cases.folder, "old", cases.images)
    glyphs = np.asarray(cases.corpus.new.images[cases.glyphs])
    for domain, images, (mean, log_variance) in (
        ("old", cases.images, old),
        ("new", glyphs, cases.new_posterior),
    ):
        found[f"reconstruction from z_{domain}, nats"] = encoding.reconstruction(
            cases.folder, domain, mean, images
        )
        kl = np.asarray(vae.kl_divergence(mean, log_variance))
        found[f"KL of z_{domain}, nats"] = kl.sum(1)
        overall[f"active units of z_{domain}"] = int((mean.var(0) > ACTIVE).sum())
        overall |= {
            f"KL of z_{domain}, {name} dimension": float(value)
            for name, value in zip(
                ("smallest", "median", "largest"), np.quantile(kl.mean(0), (0, 0.5, 1))
            )
        }
    z_old = old[0]
    latents, points = cases.train_latents
    found["1-NN in z_old of the plain image, same class"] = (
        points[nearest(z_old, latents)] == cases.code_points
    ).astype(float)
    found["linear probe of z_old"] = (
        probe(latents, points, z_old, cases.seed) == cases.code_points
    ).astype(float)
    return Measures(found, overall)


def probe(
    latents: np.ndarray,
    classes: np.ndarray,
    queries: np.ndarray,
    seed: int = 0,
    steps: int = 1500,
    batch: int = 1024,
) -> np.ndarray:
    """The class of each query by multinomial logistic regression on standardised latents, (N,).

    latents: (M, D) float32, the training examples.
    classes: (M,) int.
    queries: (N, D) float32.
    seed: of the batches.
    steps: of Adam, whose learning rate decays to 0 along a cosine.
    batch: latents in a step.
    """
    known, label = np.unique(classes, return_inverse=True)
    centre, deviation = latents.mean(0), latents.std(0) + 1e-6
    x, label = jnp.asarray((latents - centre) / deviation), jnp.asarray(label)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, steps))
    params = {"w": jnp.zeros((x.shape[1], len(known))), "b": jnp.zeros(len(known))}

    def step(state, key):
        params, moments = state
        index = jax.random.randint(key, (min(batch, len(x)),), 0, len(x))
        loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(
            x[index] @ p["w"] + p["b"], label[index]
        ).mean()
        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return (optax.apply_updates(params, updates), moments), None

    keys = jax.random.split(jax.random.key(seed), steps)
    (params, _), _ = jax.jit(lambda state: jax.lax.scan(step, state, keys))(
        (params, optimizer.init(params))
    )
    return known[
        np.asarray((((queries - centre) / deviation) @ params["w"] + params["b"]).argmax(1))
    ]
