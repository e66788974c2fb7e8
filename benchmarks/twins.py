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


class KerasCNN(nn.Module):
    """`transfer.baselines.networks.CNN` of width 32."""

    def __init__(self, classes: int, width: int = 32, size: int = 28):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, width, 3), nn.Conv2d(width, 2 * width, 3)
        self.dense = nn.Linear(((size - 4) // 2) ** 2 * 2 * width, 4 * width)
        self.out = nn.Linear(4 * width, classes)

    def forward(self, images, masks, mix=None):
        """images (B, S, S) in [0, 1]; masks: of both dropouts, (B, h, w, C) and (B, units), scaled; mix: see `mixup`."""
        x = F.relu(self.second(F.relu(self.first(mixup(images, mix, 0)[:, None]))))
        x = F.max_pool2d(x, 2).permute(0, 2, 3, 1) * masks[0]
        return self.out(mixup(F.relu(self.dense(mixup(x, mix, 1).flatten(1))) * masks[1], mix, 2))

    def from_flax(self, params: dict) -> None:
        for name in ("first", "second"):
            _conv(getattr(self, name), params[name])
        for name in ("dense", "out"):
            _linear(getattr(self, name), params[name])


class PreActBlock(nn.Module):
    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(before), nn.BatchNorm2d(channels)])
        self.convs = nn.ModuleList([nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.Conv2d(channels, channels, 3, 1, 1, bias=False)])
        self.shortcut = nn.Conv2d(before, channels, 1, stride, bias=False) if stride > 1 or before != channels else None

    def forward(self, x):
        y = F.relu(self.norms[0](x))
        x = x if self.shortcut is None else self.shortcut(y)
        return x + self.convs[1](F.relu(self.norms[1](self.convs[0](y))))


class PreActResNet(nn.Module):
    """`transfer.baselines.networks.PreActResNet`."""

    def __init__(self, blocks: tuple, width: int, stride: int, classes: int):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride, 1, bias=False)
        widths = [width] + [width * 2**i for i in range(len(blocks))]
        self.stages = nn.ModuleList(nn.ModuleList(PreActBlock(widths[i] if j == 0 else widths[i + 1], widths[i + 1], 2 if i and j == 0 else 1)
                                                  for j in range(count)) for i, count in enumerate(blocks))
        self.out = nn.Linear(widths[-1], classes)

    def forward(self, images, masks=None, mix=None):
        x = self.stem(mixup(images, mix, 0)[:, None])
        for depth, blocks in enumerate(self.stages, 1):
            for block in blocks:
                x = block(x)
            x = mixup(x, mix, depth)
        return self.out(x.mean((2, 3)))

    def from_flax(self, params: dict) -> None:
        _conv(self.stem, params["stem"])
        _linear(self.out, params["out"])
        for i, blocks in enumerate(self.stages):
            for j, block in enumerate(blocks):
                p = params["stages"][i][j]
                for k in range(2):
                    _conv(block.convs[k], p["convs"][k])
                    _set(block.norms[k].weight, p["norms"][k]["scale"])
                    _set(block.norms[k].bias, p["norms"][k]["bias"])
                if block.shortcut is not None:
                    _conv(block.shortcut, p["shortcut"])


def mixup(x, mix, depth: int):
    """mix = (depth, share, partner (B,)): the share of x and the rest of the partners' at that depth; None leaves x alone."""
    if mix is None or mix[0] != depth:
        return x
    return mix[1] * x + (1 - mix[1]) * x[mix[2]]


def mixed_cross_entropy(logits, labels, mix=None, smoothing: float = 0.0):
    """As the programs of mixup write it: the two labels' cross-entropies by their shares."""
    own = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    return own if mix is None else mix[1] * own + (1 - mix[1]) * F.cross_entropy(logits, labels[mix[2]], label_smoothing=smoothing)


def _conv(layer, p: dict) -> None:
    _set(layer.weight, np.asarray(p["kernel"]).transpose(3, 2, 0, 1))
    if layer.bias is not None:
        _set(layer.bias, p["bias"])


def _set(parameter: nn.Parameter, value) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(value, np.float32)))


def _linear(layer: nn.Linear, p: dict) -> None:
    _set(layer.weight, np.asarray(p["kernel"]).T)
    _set(layer.bias, p["bias"])
