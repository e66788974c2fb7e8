"""The baselines' networks (`transfer.baselines.networks`) again in PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn
from twins import copy, copy_conv, copy_linear


class KerasCNN(nn.Module):
    """`transfer.baselines.networks.CNN` of width 32."""

    def __init__(self, classes: int, width: int = 32, size: int = 28):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, width, 3), nn.Conv2d(width, 2 * width, 3)
        self.dense = nn.Linear(((size - 4) // 2) ** 2 * 2 * width, 4 * width)
        self.out = nn.Linear(4 * width, classes)

    def forward(self, images, masks, mix=None):
        """images (B, S, S) in [0, 1]; masks: of both dropouts, (B, h, w, C) and (B, units), scaled;
        mix: see `mixup`."""
        x = F.relu(self.second(F.relu(self.first(mixup(images, mix, 0)[:, None]))))
        x = F.max_pool2d(x, 2).permute(0, 2, 3, 1) * masks[0]
        return self.out(mixup(F.relu(self.dense(mixup(x, mix, 1).flatten(1))) * masks[1], mix, 2))

    def from_flax(self, params: dict) -> None:
        for name in ("first", "second"):
            copy_conv(getattr(self, name), params[name])
        for name in ("dense", "out"):
            copy_linear(getattr(self, name), params[name])


class PreActBlock(nn.Module):
    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(before), nn.BatchNorm2d(channels)])
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(before, channels, 3, stride, 1, bias=False),
                nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            ]
        )
        self.shortcut = (
            nn.Conv2d(before, channels, 1, stride, bias=False)
            if stride > 1 or before != channels
            else None
        )

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
        self.stages = nn.ModuleList(
            nn.ModuleList(
                PreActBlock(
                    widths[i] if j == 0 else widths[i + 1], widths[i + 1], 2 if i and j == 0 else 1
                )
                for j in range(count)
            )
            for i, count in enumerate(blocks)
        )
        self.out = nn.Linear(widths[-1], classes)

    def forward(self, images, masks=None, mix=None):
        x = self.stem(mixup(images, mix, 0)[:, None])
        for depth, blocks in enumerate(self.stages, 1):
            for block in blocks:
                x = block(x)
            x = mixup(x, mix, depth)
        return self.out(x.mean((2, 3)))

    def from_flax(self, params: dict) -> None:
        copy_conv(self.stem, params["stem"])
        copy_linear(self.out, params["out"])
        for i, blocks in enumerate(self.stages):
            for j, block in enumerate(blocks):
                p = params["stages"][i][j]
                for k in range(2):
                    copy_conv(block.convs[k], p["convs"][k])
                    copy(block.norms[k].weight, p["norms"][k]["scale"])
                    copy(block.norms[k].bias, p["norms"][k]["bias"])
                if block.shortcut is not None:
                    copy_conv(block.shortcut, p["shortcut"])


def mixup(x, mix, depth: int):
    """mix = (depth, share, partner (B,)): the share of x and the rest of the partners' at that
    depth; None leaves x alone."""
    if mix is None or mix[0] != depth:
        return x
    return mix[1] * x + (1 - mix[1]) * x[mix[2]]


def mixed_cross_entropy(logits, labels, mix=None, smoothing: float = 0.0):
    """As the programs of mixup write it: the two labels' cross-entropies by their shares."""
    own = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    return (
        own
        if mix is None
        else mix[1] * own
        + (1 - mix[1]) * F.cross_entropy(logits, labels[mix[2]], label_smoothing=smoothing)
    )


def mixed_binary(logits, labels, mix=None, smoothing: float = 0.0):
    """As manifold mixup's program writes it: BCELoss of the softmax and the mixed target."""
    classes = logits.shape[1]
    target = (1 - smoothing) * F.one_hot(labels, classes).float() + smoothing / classes
    if mix is not None:
        target = mix[1] * target + (1 - mix[1]) * target[mix[2]]
    return F.binary_cross_entropy(logits.softmax(1), target)
