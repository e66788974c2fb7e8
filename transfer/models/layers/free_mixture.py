"""The densities that generate latents: mixtures from a network, with or without a flow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from transfer.models.layers.flow import Couplings
from transfer.models.layers.mixture import Trunk, mixture_log_prob


class FreeMixture(nnx.Module):
    """A mixture whose weights, means and scales all come from the network (`factorised`, `joint`,
    and the base of `flow`).

    config: an `mdn.MDNConfig`. anchors: the number of kanji in the gallery.
    """

    def __init__(self, config, anchors: int, rngs: nnx.Rngs):
        self.config = config
        k, d = config.mixtures, config.latent
        outputs = 3 * k * d if config.density == "factorised" else k + 2 * k * d
        flow = config.density == "flow"
        self.trunk = Trunk(
            d,
            config.hidden,
            config.layers,
            outputs + flow * config.width,
            rngs,
            config.slope,
            config.init,
        )
        self.couplings = (
            Couplings(config.couplings, d, config.width, config.width, rngs) if flow else None
        )
        direct = config.direct and config.direction == "forward"
        # Not trained here: the classifier's rows.
        self.direct = nnx.Linear(d, anchors, rngs=rngs) if direct else None
        # Of each kanji: what its probability adds to the sums of the trunk's first layer.
        scale = nnx.initializers.normal(0.1)
        self.meaning = (
            nnx.Linear(anchors, config.hidden, use_bias=False, kernel_init=scale, rngs=rngs)
            if direct
            else None
        )

    def __call__(self, given: jax.Array) -> tuple:
        """The parameters of the density given each latent (B, 64).

        Mixture logits (B, K, 64) or (B, K, 1), means (B, K, 64) and log_scales (B, K, 64); for
        `flow` also what each coupling is conditioned on, (B, width) each.
        """
        k, d = self.config.mixtures, self.config.latent
        beside = 0.0
        if self.direct is not None:
            beside = self.meaning(jax.nn.softmax(self.direct(given)))
        out = self.trunk(given, beside)
        if self.couplings is not None:
            context, out = out[:, : self.config.width], out[:, self.config.width :]
            return (*self.joint(out), self.couplings.conditions(context))
        if self.config.density == "factorised":
            logits, means, log_scales = jnp.split(out.reshape(-1, 3, k, d), 3, axis=1)
            return logits[:, 0], means[:, 0], jnp.clip(log_scales[:, 0], -7.0, 7.0)
        return self.joint(out)

    def joint(self, out: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """One mixture over the vector, from a network's output (B, K + 2 K D)."""
        k, d = self.config.mixtures, self.config.latent
        logits, rest = out[:, :k, None], out[:, k:].reshape(-1, 2, k, d)
        return logits, rest[:, 0], jnp.clip(rest[:, 1], -7.0, 7.0)

    def log_density(self, parts: tuple, x: jax.Array) -> jax.Array:
        """Log density (B,) of latents x (B, 64). parts: what the network returns for each."""
        if self.couplings is None:
            return mixture_log_prob(*parts, x)
        u, log_determinant = self.couplings.to_base(x, parts[3])
        return mixture_log_prob(*parts[:3], u) + log_determinant

    def draw(self, parts: tuple, key: jax.Array, temperature: float, noise: float) -> jax.Array:
        """One latent for each row of `parts`, (B, 64), as `sample` describes it."""
        logits, means, log_scales = parts[:3]
        # (B, 64) or (B, 1)
        chosen = jax.random.categorical(key, logits / temperature, axis=1)[:, None, :]
        z = jnp.take_along_axis(means, chosen, axis=1)[:, 0]
        if noise:
            scale = noise * jnp.sqrt(temperature) * jnp.exp(log_scales)
            scale = jnp.take_along_axis(scale, chosen, axis=1)[:, 0]
            z = z + scale * jax.random.normal(jax.random.fold_in(key, 1), z.shape)
        return z if self.couplings is None else self.couplings.from_base(z, parts[3])
