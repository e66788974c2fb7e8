"""Encoder and decoder of the paper's VAE.

Clanuwat et al. 2018 (arXiv 1812.01718, section 4.2) take the network of World Models (Ha and
Schmidhuber 2018, arXiv 1803.10122, appendix A.1): strided convolutions down to a vector, and
transposed ones back up. Weights are initialised as in TensorFlow, biases with 0.
"""

from __future__ import annotations

import jax
from flax import nnx

from transfer.models.layers.convolution import strided, transposed

GLOROT = nnx.initializers.glorot_uniform()


class PaperEncoder(nnx.Module):
    """Images (B, 64, 64) become features (B, 1024).

    Four convolutions of kernel 4 and stride 2 without padding (World Models, appendix A.1).
    """

    def __init__(self, rngs: nnx.Rngs):
        channels = (1, 32, 64, 128, 256)
        self.convs = nnx.List(
            [
                nnx.Conv(a, b, (4, 4), strides=2, padding="VALID", kernel_init=GLOROT, rngs=rngs)
                for a, b in zip(channels, channels[1:])
            ]
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images[..., None]
        for conv in self.convs:
            x = nnx.relu(strided(x, conv.kernel[...], conv.bias[...]))
        return x.reshape(x.shape[0], -1)


class PaperDecoder(nnx.Module):
    """Latents (B, latent) become logits of images (B, 64, 64).

    A linear layer and four transposed convolutions of stride 2.
    """

    def __init__(self, latent: int, rngs: nnx.Rngs):
        channels, kernels = (1024, 128, 64, 32, 1), (5, 5, 6, 6)
        self.dense = nnx.Linear(latent, 1024, kernel_init=GLOROT, rngs=rngs)
        self.convs = nnx.List(
            [
                nnx.ConvTranspose(
                    a, b, (k, k), strides=(2, 2), padding="VALID", kernel_init=GLOROT, rngs=rngs
                )
                for a, b, k in zip(channels, channels[1:], kernels)
            ]
        )

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.dense(z).reshape(-1, 1, 1, 1024)
        for layer, conv in enumerate(self.convs):
            x = transposed(x, conv.kernel[...], conv.bias[...])
            x = x if layer == len(self.convs) - 1 else nnx.relu(x)
        return x[..., 0]
