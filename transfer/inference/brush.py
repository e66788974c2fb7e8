"""The way back: a modern kanji becomes pictures of how old hands may have written it.

z_new of its glyph -> P(z_old | z_new) -> z_old -> the old VAE's pictures. A kanji without any old
image in training is painted like any other, from its z_new.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transfer.models import mdn
from transfer.stages.encoding import MDN_NAMES, load_mdn
from transfer.system.batches import in_batches
from transfer.system.devices import float32
from transfer.training import weights
from transfer.training.weights import WeightsError

SIZES = (12, 120)
"""Numbers of pictures for which programs are compiled: a few, or many at once."""


@dataclasses.dataclass(frozen=True)
class Painted:
    """Pictures of n latents.

    pictures: (n, 64, 64) uint8, ink 255 on paper 0, as `KuzushijiTransfer.transfer` takes them.
    z_old: (n, 64) float32, drawn from the density.
    log_density: (n,) float32, the log density of z_old in nats per dimension.
    """

    pictures: np.ndarray
    z_old: np.ndarray
    log_density: np.ndarray


class Brush:
    """A trained density of z_old given z_new, and the old VAE that paints what is drawn from it.

    characters: (G,) code points that it can paint. z_new: (G, 64), theirs.
    """

    def __init__(self, folder: Path, old_graph, old_params: dict):
        """old_graph, old_params: of the old VAE. Raises WeightsError if there is no density
        back."""
        if not weights.exists(folder, MDN_NAMES["back"]):
            raise WeightsError(
                f"{folder}: holds no density of z_old given z_new "
                f"({MDN_NAMES['back']}.safetensors), "
                "which painting needs; train it (experiments/stage2_mdn.py --direction back), or "
                "give another folder"
            )
        self.graph, self.params, self.gallery, self.characters, _ = load_mdn(folder, "back")
        self.z_new, self._old = np.asarray(self.gallery.mean), old_params
        self.temperature = nnx.merge(self.graph, self.params).config.temperature

        @jax.jit
        def paint(old_params, params, gallery, z_new, keys, temperature):
            density, keys = nnx.merge(self.graph, params), jax.random.wrap_key_data(keys)
            # Each with a key of its own: what is drawn does not depend on its neighbours.
            one = lambda z, key: mdn.sample(density, z[None], gallery, key, temperature)[0]
            z_old = jax.vmap(one)(z_new, keys)
            found = mdn.log_prob(density, z_old, z_new, gallery) / z_old.shape[-1]
            ink = jax.nn.sigmoid(nnx.merge(old_graph, old_params).decode(z_old))
            return jnp.rint(255 * ink).astype(jnp.uint8), z_old, found

        self._paint = paint

    @float32
    def paint(
        self, z_new: np.ndarray, keys: jax.Array, temperature: float | None = None
    ) -> Painted:
        """One picture for each z_new (n, 64). keys: (n,) random keys."""
        temperature = jnp.float32(self.temperature if temperature is None else temperature)
        draw = lambda part: self._paint(self._old, self.params, self.gallery, *part, temperature)
        rows = np.asarray(z_new, np.float32), np.asarray(jax.random.key_data(keys))
        return Painted(*in_batches(draw, rows, SIZES))

    @float32
    def brush(
        self, character: str, samples: int = 12, seed: int = 0, temperature: float | None = None
    ) -> Painted:
        """Pictures of one kanji, as `KuzushijiTransfer.brush` describes them."""
        if not isinstance(character, str) or len(character) != 1:
            raise ValueError(f"{str(character)[:20]!r} is not one character; give one kanji")
        if samples < 1:
            raise ValueError(f"samples is {samples}; give 1 or more")
        if temperature is not None and not 0 < temperature <= 1:
            raise ValueError(f"temperature is {temperature}; give a number above 0 and up to 1")
        place = np.flatnonzero(self.characters == ord(character))
        if not len(place):
            raise ValueError(
                f"{character!r} (U+{ord(character):04X}) has no glyph among the "
                f"{len(self.characters):,} kanji of these weights; give another"
            )
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(samples))
        return self.paint(np.repeat(self.z_new[place], samples, 0), keys, temperature)


_BRUSHES: WeakKeyDictionary = WeakKeyDictionary()


def of(model) -> Brush:
    """The brush of a `KuzushijiTransfer`, loaded on first use. Raises WeightsError."""
    if model not in _BRUSHES:
        _BRUSHES[model] = Brush(model.folder, model.old_graph, model.old_params)
    return _BRUSHES[model]
