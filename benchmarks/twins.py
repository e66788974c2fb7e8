"""The models again in PyTorch, as one would write them there: the yardstick of the training benchmarks.

`from_flax` copies parameters, so that both frameworks can be shown to compute the same loss.
"""
from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class PaperVAE(nn.Module):
    """`transfer.vae.VAE` of the `paper` preset, without a classifier."""

    def __init__(self, latent: int = 64):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2) for a, b in ((1, 32), (32, 64), (64, 128), (128, 256)))
        self.mean, self.log_variance = nn.Linear(1024, latent), nn.Linear(1024, latent)
        self.dense = nn.Linear(latent, 1024)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, k, 2) for a, b, k in ((1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 1, 6)))

    def loss(self, images: torch.Tensor, noise: torch.Tensor, kl_floor: float = 32.0) -> torch.Tensor:
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
            _set(conv.weight, np.asarray(p["kernel"]).transpose(3, 2, 0, 1))
            _set(conv.bias, p["bias"])
        for conv, (_, p) in zip(self.up, sorted(params["decoder"]["convs"].items())):
            # Flax correlates the spread-out input, PyTorch takes the gradient of a correlation: turned by 180 degrees.
            _set(conv.weight, np.asarray(p["kernel"])[::-1, ::-1].transpose(2, 3, 0, 1))
            _set(conv.bias, p["bias"])
        for linear, p in ((self.mean, params["mean"]), (self.log_variance, params["log_variance"]), (self.dense, params["decoder"]["dense"])):
            _linear(linear, p)


class Decoder(nn.Module):
    """`transfer.sketch_rnn.SketchRNN` without glimpse: one LSTM layer, z at every input, bivariate mixtures."""

    def __init__(self, units: int, mixtures: int = 20, latent: int = 64):
        super().__init__()
        self.mixtures = mixtures
        self.start = nn.Linear(latent, 2 * units)
        self.lstm = nn.LSTM(5 + latent, units, batch_first=True)
        self.out = nn.Linear(units, 3 + 6 * mixtures)

    def loss(self, movement, target, valid, z) -> torch.Tensor:
        """movement (B, T, 5), target (B, T, 3) offsets and pen class, valid (B, T) bool, z (B, 64): mean NLL per point."""
        h, c = torch.tanh(self.start(z)).chunk(2, -1)
        told = z[:, None].expand(-1, movement.shape[1], -1)
        x, _ = self.lstm(torch.cat([movement, told], -1), (h[None].contiguous(), c[None].contiguous()))
        out = self.out(x)
        pen, rest = out[..., :3], out[..., 3:].unflatten(-1, (self.mixtures, 6))
        weight, rho = F.log_softmax(rest[..., 0], -1), 0.95 * torch.tanh(rest[..., 1])
        scale = rest[..., 4:6].clamp(-6, 4)
        u = (target[..., None, :2] - rest[..., 2:4]) * torch.exp(-scale)
        free = 1 - rho**2
        quadratic = (u[..., 0] ** 2 + u[..., 1] ** 2 - 2 * rho * u[..., 0] * u[..., 1]) / free
        component = -0.5 * quadratic - scale.sum(-1) - 0.5 * torch.log(free) - math.log(2 * math.pi)
        state = target[..., 2].long()
        move = -torch.logsumexp(weight + component, -1) * (valid & (state != 2))
        pens = F.cross_entropy(pen.transpose(1, 2), state, reduction="none") * valid
        return (move.sum() + pens.sum()) / (valid & (state != 2)).sum()

    def from_flax(self, params: dict) -> None:
        _linear(self.start, params["start"])
        _linear(self.out, params["out"])
        inputs, told = (np.asarray(params[k][0]["kernel"]) for k in ("inputs", "conditions"))
        _set(self.lstm.weight_ih_l0, np.concatenate([inputs, told]).T)
        _set(self.lstm.weight_hh_l0, np.asarray(params["kernels"][0]).T)
        units = self.lstm.hidden_size
        bias = np.array(params["inputs"][0]["bias"])
        bias[units:2 * units] += 1.0  # ours adds 1 to the forget gate
        _set(self.lstm.bias_ih_l0, bias)
        _set(self.lstm.bias_hh_l0, np.zeros_like(bias))


class MDN(nn.Module):
    """`transfer.mdn.FreeMixture`, factorised."""

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
            x = F.leaky_relu(layer(x))
        logits, means, scales = self.out(x).unflatten(-1, self.shape).unbind(1)
        scales = scales.clamp(-7, 7)
        component = -0.5 * ((z_new[:, None] - means) * torch.exp(-scales)) ** 2 - scales - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(F.log_softmax(logits, 1) + component, 1).mean()

    def from_flax(self, params: dict) -> None:
        for layer, (_, p) in zip(self.layers, sorted(params["trunk"]["layers"].items())):
            _linear(layer, p)
        _linear(self.out, params["trunk"]["out"])


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = F.relu(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x + self.second(F.relu(self.first(y)))


class Classifier(nn.Module):
    """`transfer.classifier.Classifier`."""

    def __init__(self, classes: int, widths=(32, 128, 256), blocks=(0, 2, 1), hidden: int = 256):
        super().__init__()
        self.stem = nn.Conv2d(16, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in zip(widths, widths[1:]))
        self.blocks = nn.ModuleList(nn.ModuleList(Block(w) for _ in range(n)) for w, n in zip(widths, blocks))
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.dense = nn.Linear(16 * widths[-1], hidden)
        self.scale, self.out = nn.Parameter(torch.ones(hidden)), nn.Linear(hidden, classes)

    def loss(self, images, labels, smoothing: float = 0.02) -> torch.Tensor:
        """images (B, 64, 64) in [0, 1], labels (B,)."""
        b = len(images)
        x = images.reshape(b, 16, 4, 16, 4).permute(0, 2, 4, 1, 3).reshape(b, 16, 16, 16)
        x = F.relu(self.stem(x))
        for level, blocks in enumerate(self.blocks):
            x = self.down[level - 1](x) if level else x
            for block in blocks:
                x = block(x)
        x = F.relu(self.norm(x.permute(0, 2, 3, 1)))
        features = F.batch_norm(self.dense(x.flatten(1)), None, None, self.scale, training=True, eps=1e-5)
        return F.cross_entropy(self.out(features), labels, label_smoothing=smoothing)

    def from_flax(self, params: dict) -> None:
        encoder = params["encoder"]
        conv = lambda layer, p: (_set(layer.weight, np.asarray(p["kernel"]).transpose(3, 2, 0, 1)), _set(layer.bias, p["bias"]))
        conv(self.stem, encoder["stem"])
        for layer, (_, p) in zip(self.down, sorted(encoder["down"].items())):
            kernel = np.asarray(p["kernel"])  # a matrix over 2x2 blocks
            _set(layer.weight, kernel.reshape(2, 2, -1, kernel.shape[1]).transpose(3, 2, 0, 1))
            _set(layer.bias, p["bias"])
        for level, ours in enumerate(self.blocks):
            for number, block in enumerate(ours):
                theirs = encoder["blocks"][level][number]
                conv(block.first, theirs["first"])
                conv(block.second, theirs["second"])
                _set(block.norm.weight, theirs["norm"]["scale"])
                _set(block.norm.bias, theirs["norm"]["bias"])
        _set(self.norm.weight, encoder["norm"]["scale"])
        _set(self.norm.bias, encoder["norm"]["bias"])
        _linear(self.dense, encoder["dense"])
        _set(self.scale, params["scale"])
        _linear(self.out, params["out"])


def _set(parameter: nn.Parameter, value) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(value, np.float32)))


def _linear(layer: nn.Linear, p: dict) -> None:
    _set(layer.weight, np.asarray(p["kernel"]).T)
    _set(layer.bias, p["bias"])
