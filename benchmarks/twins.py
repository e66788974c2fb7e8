"""The models again in PyTorch, as one would write them there: the yardstick of the benchmarks.
`twins_strokes` has the decoders, `twins_baselines` the classifiers of the paper's other half.

`from_flax` copies parameters, so that both frameworks can be shown to compute the same loss.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class PaperVAE(nn.Module):
    """`transfer.models.vae.VAE` of the `paper` preset, without a classifier."""

    def __init__(self, latent: int = 64):
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, 2) for a, b in ((1, 32), (32, 64), (64, 128), (128, 256))
        )
        self.mean, self.log_variance = nn.Linear(1024, latent), nn.Linear(1024, latent)
        self.dense = nn.Linear(latent, 1024)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, k, 2)
            for a, b, k in ((1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 1, 6))
        )

    def loss(
        self, images: torch.Tensor, noise: torch.Tensor, kl_floor: float = 32.0
    ) -> torch.Tensor:
        """images (B, 64, 64) in [0, 1], noise (B, 64) normal: mean of BCE + max(KL, floor)."""
        x = images[:, None]
        for conv in self.down:
            x = F.relu(conv(x))
        x = x.permute(0, 2, 3, 1).flatten(1)
        mean, log_variance = self.mean(x), self.log_variance(x).clamp(-12, 6)
        x = self.dense(mean + torch.exp(0.5 * log_variance) * noise)[..., None, None]
        for i, conv in enumerate(self.up):
            x = conv(x) if i == 3 else F.relu(conv(x))
        bce = F.binary_cross_entropy_with_logits(x[:, 0], images, reduction="none").sum((1, 2))
        kl = 0.5 * (torch.exp(log_variance) + mean**2 - 1 - log_variance).sum(1)
        return (bce + torch.clamp(kl, min=kl_floor)).mean()

    def from_flax(self, params: dict) -> None:
        for conv, (_, p) in zip(self.down, sorted(params["encoder"]["convs"].items())):
            copy(conv.weight, np.asarray(p["kernel"]).transpose(3, 2, 0, 1))
            copy(conv.bias, p["bias"])
        for conv, (_, p) in zip(self.up, sorted(params["decoder"]["convs"].items())):
            # Flax correlates the spread-out input, PyTorch takes the gradient of a correlation:
            # turned by 180 degrees.
            copy(conv.weight, np.asarray(p["kernel"])[::-1, ::-1].transpose(2, 3, 0, 1))
            copy(conv.bias, p["bias"])
        for linear, p in (
            (self.mean, params["mean"]),
            (self.log_variance, params["log_variance"]),
            (self.dense, params["decoder"]["dense"]),
        ):
            copy_linear(linear, p)


class MDN(nn.Module):
    """`transfer.models.mdn.FreeMixture`, factorised."""

    def __init__(self, hidden: int = 1024, layers: int = 3, mixtures: int = 100, latent: int = 64):
        super().__init__()
        self.shape = (3, mixtures, latent)
        widths = [latent] + [hidden] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.out = nn.Linear(hidden, 3 * mixtures * latent)

    def loss(self, z_old, z_new) -> torch.Tensor:
        """(B, 64) each: mean NLL a dimension."""
        x = z_old
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        logits, means, scales = self.out(x).unflatten(-1, self.shape).unbind(1)
        scales = scales.clamp(-7, 7)
        component = (
            -0.5 * ((z_new[:, None] - means) * torch.exp(-scales)) ** 2
            - scales
            - 0.5 * math.log(2 * math.pi)
        )
        return -torch.logsumexp(F.log_softmax(logits, 1) + component, 1).mean()

    def from_flax(self, params: dict) -> None:
        for layer, (_, p) in zip(self.layers, sorted(params["trunk"]["layers"].items())):
            copy_linear(layer, p)
        copy_linear(self.out, params["trunk"]["out"])


class Trunk(nn.Module):
    """`transfer.models.mdn.Trunk`."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int):
        super().__init__()
        widths = [inputs] + [hidden] * layers
        self.layers, self.out = (
            nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:])),
            nn.Linear(hidden, outputs),
        )

    def forward(self, x):
        for layer in self.layers:
            x = F.leaky_relu(layer(x))
        return self.out(x)

    def from_flax(self, params: dict) -> None:
        for layer, (_, p) in zip(self.layers, sorted(params["layers"].items())):
            copy_linear(layer, p)
        copy_linear(self.out, params["out"])


class AnchoredMDN(nn.Module):
    """`transfer.models.mdn.AnchoredMixture`."""

    def __init__(self, config, anchors: int):
        super().__init__()
        self.config = config
        self.query, self.key = (
            Trunk(config.latent, config.hidden, config.layers, config.key),
            Trunk(config.latent, config.hidden, 1, config.key),
        )
        self.offset, self.log_sharpness = (
            nn.Parameter(torch.zeros(anchors, config.key)),
            nn.Parameter(torch.tensor(math.log(16.0))),
        )

    def logits(self, z_old, means, keep=None):
        """z_old (B, 64), anchors' means (G, 64), keep (G,) 0 or 1 -> (B, G)."""
        offset = self.offset if keep is None else self.offset * keep[:, None]
        keys = unit(unit(self.key(means)) + offset)
        return torch.exp(self.log_sharpness) * (unit(self.query(z_old)) @ keys.T)

    def loss(self, z_old, labels, means, seen, keep):
        """z_old (B, 64), labels (B,), anchors' means (G, 64), seen (G,) bool, keep (G,) -> mean NLL
        of the right anchor, smoothed."""
        log_weights = F.log_softmax(
            torch.where(seen, self.logits(z_old, means, keep), -torch.inf), 1
        )
        chosen = log_weights.gather(1, labels[:, None])[:, 0]
        spread = torch.where(seen, log_weights, 0.0).sum(1) / seen.sum()
        smoothing = self.config.label_smoothing
        return -((1 - smoothing) * chosen + smoothing * spread).mean()

    def from_flax(self, params: dict) -> None:
        self.query.from_flax(params["query"])
        self.key.from_flax(params["key"])
        copy(self.offset, params["offset"])
        copy(self.log_sharpness, params["log_sharpness"])


def unit(x):
    return x * torch.rsqrt((x**2).sum(-1, keepdim=True) + 1e-6)


class BatchNorm(nn.Module):
    """`layers.residual.BatchNorm` on (B, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x, kept: bool = False):
        """kept: by the statistics that are kept, else by the batch's own."""
        statistics = (self.mean, self.variance) if kept else (None, None)
        return F.batch_norm(x, *statistics, self.scale, self.bias, training=not kept, eps=1e-5)

    def from_flax(self, params: dict) -> None:
        for name in ("scale", "bias", "mean", "variance"):
            copy(getattr(self, name), params[name])


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of (B, C, H, W) over the channels."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x, kept: bool = False):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def from_flax(self, params: dict) -> None:
        copy(self.weight, params["scale"])
        copy(self.bias, params["bias"])


class Block(nn.Module):
    """`layers.residual.Block`, or with `batch` its `BatchBlock`."""

    def __init__(self, channels: int, batch: bool = False):
        super().__init__()
        norm = BatchNorm if batch else ChannelNorm
        self.norms = nn.ModuleList(norm(channels) for _ in range(2 if batch else 1))
        self.first, self.second = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=not batch) for _ in range(2)
        )

    def forward(self, x, kept: bool = False):
        y = self.first(F.relu(self.norms[0](x, kept)))
        y = self.norms[1](y, kept) if len(self.norms) == 2 else y
        return x + self.second(F.relu(y))

    def from_flax(self, params: dict) -> None:
        copy_conv(self.first, params["first"])
        copy_conv(self.second, params["second"])
        for number, norm in enumerate(self.norms):
            norm.from_flax(params["norms"][number] if "norms" in params else params["norm"])


class Encoder(nn.Module):
    """`layers.residual.ResidualEncoder`."""

    def __init__(self, config):
        super().__init__()
        widths, batch = config.encoder, getattr(config, "norm", "layer") == "batch"
        self.patch, self.rectified, norm = (
            2 ** (5 - len(widths)),
            config.rectified_stem,
            BatchNorm if batch else ChannelNorm,
        )
        self.stem = nn.Conv2d(self.patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in zip(widths, widths[1:]))
        self.enter = nn.ModuleList(BatchNorm(w) for w in widths[:-1]) if batch else None
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(w, batch) for _ in range(n))
            for w, n in zip(widths, config.encoder_blocks)
        )
        self.norm = norm(widths[-1])
        self.dense = nn.Linear(16 * widths[-1], config.hidden)

    def forward(self, images, kept: bool = False):
        """(B, 64, 64) in [0, 1] -> (B, hidden), before its normalisation and ReLU."""
        x = self.stem(F.pixel_unshuffle(images[:, None], self.patch))
        x = F.relu(x) if self.rectified else x
        for level, blocks in enumerate(self.blocks):
            if level:
                x = F.relu(self.enter[level - 1](x, kept)) if self.enter is not None else x
                x = self.down[level - 1](x)
            for block in blocks:
                x = block(x, kept)
        return self.dense(F.relu(self.norm(x, kept)).permute(0, 2, 3, 1).flatten(1))

    def from_flax(self, params: dict) -> None:
        copy_conv(self.stem, params["stem"])
        for layer, (_, p) in zip(self.down, sorted(params["down"].items())):
            kernel = np.asarray(p["kernel"])  # a matrix over 2x2 blocks
            copy(layer.weight, kernel.reshape(2, 2, -1, kernel.shape[1]).transpose(3, 2, 0, 1))
            copy(layer.bias, p["bias"])
        for norm, (_, p) in zip(self.enter or [], sorted(params.get("enter", {}).items())):
            norm.from_flax(p)
        copy_blocks(self.blocks, params["blocks"])
        self.norm.from_flax(params["norm"])
        copy_linear(self.dense, params["dense"])


class PixelDecoder(nn.Module):
    """`layers.residual.ResidualDecoder`."""

    def __init__(self, config):
        super().__init__()
        widths = config.decoder
        self.dense = nn.Linear(config.latent, 16 * widths[0])
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(w) for _ in range(n)) for w, n in zip(widths, config.decoder_blocks)
        )
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in zip(widths, widths[1:]))
        self.norm, self.pixels = ChannelNorm(widths[-1]), nn.Conv2d(widths[-1], 16, 3, padding=1)

    def forward(self, z):
        """(B, latent) -> (B, 64, 64) logits."""
        x = self.dense(z).unflatten(1, (4, 4, -1)).permute(0, 3, 1, 2)
        for level, blocks in enumerate(self.blocks):
            x = F.pixel_shuffle(self.up[level - 1](x), 2) if level else x
            for block in blocks:
                x = block(x)
        return F.pixel_shuffle(self.pixels(F.relu(self.norm(x))), 4)[:, 0]

    def from_flax(self, params: dict) -> None:
        copy_linear(self.dense, params["dense"])
        copy_blocks(self.blocks, params["blocks"])
        for layer, (_, p) in zip(self.up, sorted(params["up"].items())):
            # Ours has a block's four pixels first, then channels; `pixel_shuffle` wants it the
            # other way round.
            order = np.arange(layer.weight.shape[0]).reshape(4, -1).T.ravel()
            copy(layer.weight, np.asarray(p["kernel"]).T[order, :, None, None])
            copy(layer.bias, np.asarray(p["bias"])[order])
        self.norm.from_flax(params["norm"])
        copy_conv(self.pixels, params["pixels"])


class VAE(nn.Module):
    """`transfer.models.vae.VAE` of the `residual` architecture."""

    def __init__(self, config, classes: int):
        super().__init__()
        self.config, self.encoder, self.decoder = config, Encoder(config), PixelDecoder(config)
        self.mean, self.log_variance = (nn.Linear(config.hidden, config.latent) for _ in range(2))
        self.classifier = nn.Linear(config.latent, classes) if config.recognition else None

    def encode(self, images, kept: bool = True):
        """(B, 64, 64) -> mean and log-variance (B, 64). kept: by the statistics that are kept, as
        everywhere but in training."""
        x = self.encoder(images, kept)
        if self.config.norm == "batch" and not kept:
            x = F.batch_norm(x, None, None, training=True, eps=1e-5)
        x = F.relu(x)
        return self.mean(x), self.log_variance(x).clamp(-12, 6)

    def loss(self, images, labels, noise):
        """images (B, 64, 64), labels (B,), noise (B, 64) normal: `transfer.models.vae.loss`."""
        config = self.config
        mean, log_variance = self.encode(images, kept=False)
        z = mean + torch.exp(0.5 * log_variance) * noise
        logits, shown = self.decoder(z[:: config.decode_every]), images[:: config.decode_every]
        bce = F.binary_cross_entropy_with_logits(logits, shown, reduction="none").sum((1, 2)).mean()
        kl = 0.5 * (torch.exp(log_variance) + mean**2 - 1 - log_variance).sum(1)
        recognition = F.cross_entropy(
            self.classifier(z), labels, label_smoothing=config.label_smoothing
        )
        return bce + torch.clamp(kl, min=config.kl_floor).mean() + config.recognition * recognition

    def from_flax(self, params: dict) -> None:
        self.encoder.from_flax(params["encoder"])
        self.decoder.from_flax(params["decoder"])
        for name in (
            "mean",
            "log_variance",
            *(["classifier"] if self.classifier is not None else []),
        ):
            copy_linear(getattr(self, name), params[name])


class Classifier(nn.Module):
    """`transfer.models.classifier.Classifier`."""

    def __init__(self, config, classes: int):
        super().__init__()
        self.config, self.encoder = config, Encoder(config)
        self.scale, self.out = (
            nn.Parameter(torch.ones(config.hidden)),
            nn.Linear(config.hidden, classes),
        )

    def loss(self, images, labels) -> torch.Tensor:
        """images (B, 64, 64) in [0, 1], labels (B,)."""
        features = F.batch_norm(
            self.encoder(images), None, None, self.scale, training=True, eps=1e-5
        )
        return F.cross_entropy(
            self.out(features), labels, label_smoothing=self.config.label_smoothing
        )

    def from_flax(self, params: dict) -> None:
        self.encoder.from_flax(params["encoder"])
        copy(self.scale, params["scale"])
        copy_linear(self.out, params["out"])


def copy_conv(layer: nn.Conv2d, p: dict) -> None:
    copy(layer.weight, np.asarray(p["kernel"]).transpose(3, 2, 0, 1))
    if layer.bias is not None:
        copy(layer.bias, p["bias"])


def copy_blocks(levels: nn.ModuleList, params: dict) -> None:
    for level, blocks in enumerate(levels):
        for number, block in enumerate(blocks):
            block.from_flax(params[level][number])


def copy(parameter: nn.Parameter, value) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(value, np.float32)))


def copy_linear(layer: nn.Linear, p: dict) -> None:
    copy(layer.weight, np.asarray(p["kernel"]).T)
    copy(layer.bias, p["bias"])
