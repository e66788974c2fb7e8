"""The decoders of strokes again in PyTorch: point by point (`Decoder`), and stroke by stroke with
its drawing (`StrokeRNN`)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from twins import copy, copy_conv, copy_linear

BOX, GRID, INK_WIDTH, MOST_STROKES = 109.0, 16, 3.0, 40
PAGE, SAMPLES, STAY, MOMENTUM = 32, 2, 1e-3, 0.85


class Decoder(nn.Module):
    """`transfer.models.sketch_rnn.SketchRNN`: one LSTM layer, z at every input, bivariate
    mixtures."""

    def __init__(self, units: int, mixtures: int = 20, latent: int = 64):
        super().__init__()
        self.mixtures = mixtures
        self.start = nn.Linear(latent, 2 * units)
        self.lstm = nn.LSTM(5 + latent, units, batch_first=True)
        self.out = nn.Linear(units, 3 + 6 * mixtures)

    def loss(self, movement, target, valid, z) -> torch.Tensor:
        """movement (B, T, 5), target (B, T, 3) offsets and pen class, valid (B, T) bool, z (B, 64):
        mean NLL per point."""
        h, c = torch.tanh(self.start(z)).chunk(2, -1)
        told = z[:, None].expand(-1, movement.shape[1], -1)
        x, _ = self.lstm(
            torch.cat([movement, told], -1), (h[None].contiguous(), c[None].contiguous())
        )
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
        copy_linear(self.start, params["start"])
        copy_linear(self.out, params["out"])
        inputs, told = (np.asarray(params[k][0]["kernel"]) for k in ("inputs", "conditions"))
        copy(self.lstm.weight_ih_l0, np.concatenate([inputs, told]).T)
        copy(self.lstm.weight_hh_l0, np.asarray(params["kernels"][0]).T)
        units = self.lstm.hidden_size
        bias = np.array(params["inputs"][0]["bias"])
        bias[units : 2 * units] += 1.0  # ours adds 1 to the forget gate
        copy(self.lstm.bias_ih_l0, bias)
        copy(self.lstm.bias_hh_l0, np.zeros_like(bias))


def fourier(position):
    """(…, 2) -> (…, 16): `transfer.models.stroke_rnn.fourier`."""
    angle = position[..., None] * (math.pi / BOX) * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return torch.cat([torch.sin(angle), torch.cos(angle)], -1).flatten(-2)


def strokes_left(left):
    """(…) int64 -> (…, 5): `transfer.models.stroke_rnn.strokes_left`."""
    few = F.one_hot(left.clamp(max=4), 5)[..., :4].float()
    return torch.cat([left[..., None] / 10.0, few], -1)


def ink_of(strokes, samples: int = 4, grid: int = GRID):
    """`stroke_forms.ink_of`."""
    start, end = strokes[..., :-1, :], strokes[..., 1:, :]
    t = ((torch.arange(samples) + 0.5) / samples)[:, None]
    points = start[..., None, :] + t * (end - start)[..., None, :]
    length = torch.sqrt(((end - start) ** 2).sum(-1) + 1e-12)[..., None] / samples
    place = points.flatten(-3, -2) * (grid / BOX) - 0.5
    near = F.relu(1.0 - (place[..., None] - torch.arange(grid)).abs())
    amount = length.expand(points.shape[:-1]).flatten(-2) * (INK_WIDTH * (grid / BOX) ** 2)
    return ((near[..., 1, :] * amount[..., None]).transpose(-1, -2) @ near[..., 0, :]).flatten(-2)


def likeness(strokes, picture):
    """`stroke_forms.likeness`."""
    page = F.avg_pool2d(picture[:, None], 2).flatten(1)
    written = ink_of(strokes, -(-22 // (strokes.shape[-2] - 1)), 32).sum(1).clamp(max=1.0)
    return (written * page).sum(-1) * torch.rsqrt((written**2).sum(-1) * (page**2).sum(-1) + 1e-6)


def blurred(pages):
    """`stroke_forms.blurred`, of (B, 1, S, S)."""
    line = torch.tensor([0.25, 0.5, 0.25])
    return F.conv2d(pages, torch.outer(line, line)[None, None], padding=1)


class Look(nn.Module):
    """`transfer.models.stroke_rnn.Look`."""

    def __init__(self, config):
        super().__init__()
        self.heads, width, inner = config.heads, config.width, config.heads * 32
        self.norm, self.norm_dense = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.pull, self.back = (
            nn.Linear(width, inner),
            nn.Linear(width, config.heads),
            nn.Linear(inner, width),
        )
        self.key, self.value = nn.Linear(config.channels, inner), nn.Linear(config.channels, inner)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def prepare(self, features):
        return tuple(
            layer(features).unflatten(-1, (self.heads, 32)).transpose(1, 2)
            for layer in (self.key, self.value)
        )

    def forward(self, x, left, keys, values):
        inner = self.norm(x)
        query = self.query(inner).unflatten(-1, (self.heads, 32)).transpose(1, 2)
        mask = self.pull(inner).transpose(1, 2)[..., None] * left[:, None]
        x = x + self.back(
            F.scaled_dot_product_attention(query, keys, values, mask).transpose(1, 2).flatten(-2)
        )
        return x + self.second(F.relu(self.first(self.norm_dense(x))))

    def from_flax(self, params: dict) -> None:
        for norm in ("norm", "norm_dense"):
            copy(getattr(self, norm).weight, params[norm]["scale"])
            copy(getattr(self, norm).bias, params[norm]["bias"])
        for name in ("query", "pull", "back", "key", "value", "first", "second"):
            copy_linear(getattr(self, name), params[name])


class StrokeRNN(nn.Module):
    """`transfer.models.stroke_rnn.StrokeRNN` with its loss and its drawing. axes: mean (2P,), axes
    (2P, 2P), deviation (2P,)."""

    def __init__(self, config, axes):
        super().__init__()
        self.config, units, codes = config, config.units, 2 * config.stroke_points
        self.axes_mean, self.axes, self.deviation = (
            torch.from_numpy(np.array(a)) for a in (axes.mean, axes.axes, axes.deviation)
        )
        self.plan_hidden, self.plan_out = (
            nn.Linear(config.latent, config.plan_hidden),
            nn.Linear(config.plan_hidden, MOST_STROKES + 1),
        )
        self.first_layer = nn.Conv2d(16, config.channels, 3, padding=1)
        self.second_layer = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(GRID**2, config.channels))
        self.context, self.start = (
            nn.Linear(config.latent + GRID**2, 256),
            nn.Linear(256, 2 * units),
        )
        self.embed = nn.Linear(codes + 16 + 1 + 5 + GRID**2 + 256, config.embed)
        self.lstm = nn.LSTM(config.embed, units, batch_first=True)
        self.enter = nn.Linear(units + config.embed, config.width)
        self.looks = nn.ModuleList(Look(config) for _ in range(config.blocks))
        self.norm, self.out = (
            nn.LayerNorm(config.width, eps=1e-6),
            nn.Linear(config.width, config.mixtures * (1 + 2 * codes)),
        )

    def encode(self, strokes):
        return (strokes.flatten(-2) - self.axes_mean) @ self.axes / self.deviation

    def decode(self, codes):
        return ((codes * self.deviation) @ self.axes.T + self.axes_mean).unflatten(-1, (-1, 2))

    def plan(self, z):
        return self.plan_out(F.relu(self.plan_hidden(z)))

    def see(self, z, picture):
        features = F.relu(
            self.second_layer(F.relu(self.first_layer(F.pixel_unshuffle(picture[:, None], 4))))
        )
        features = features.flatten(2).transpose(1, 2) + self.place
        coarse = F.avg_pool2d(picture[:, None], 4).flatten(1)
        context = torch.tanh(self.context(torch.cat([z, 3.0 * coarse], -1)))
        h, c = torch.tanh(self.start(context)).chunk(2, -1)
        return (
            context,
            coarse,
            (h[None].contiguous(), c[None].contiguous()),
            [look.prepare(features) for look in self.looks],
        )

    def embedded(self, before, end, first, count_left, left, context):
        told = context[:, None].expand(-1, before.shape[1], -1)
        return F.relu(
            self.embed(
                torch.cat(
                    [
                        before,
                        fourier(end),
                        first[..., None],
                        strokes_left(count_left),
                        2.0 * left,
                        told,
                    ],
                    -1,
                )
            )
        )

    def mixture(self, hidden, embedded, left, seen):
        """Log weights (B, T, M), means and log standard deviations (B, T, M, 2P)."""
        x = self.enter(torch.cat([hidden, embedded], -1))
        for look, (keys, values) in zip(self.looks, seen):
            x = look(x, 2.0 * left, keys, values)
        codes = 2 * self.config.stroke_points
        out = self.out(self.norm(x)).unflatten(-1, (self.config.mixtures, 1 + 2 * codes))
        finest = torch.log(self.config.finest / self.deviation).clamp(max=-0.5)
        return (
            F.log_softmax(out[..., 0], -1),
            out[..., 1 : 1 + codes],
            finest + (0.5 - finest) * torch.sigmoid(out[..., 1 + codes :] + 1.0),
        )

    def loss(self, strokes, count, z, picture, noise, plan_z, plan_count):
        """strokes (B, T, P, 2), count (B,), z (B, 64), picture (B, 64, 64), noise (B, T, P, 2)
        added to the strokes before in box units; plan_z (N, 64), plan_count (N,): mean NLL a
        stroke, and of the plan."""
        number = torch.arange(strokes.shape[1])
        valid = number < count[:, None]
        before = F.pad((strokes + noise)[:, :-1], (0, 0, 0, 0, 1, 0))
        first = (number == 0).expand(valid.shape)
        told = torch.where(first[..., None], 0.0, self.encode(before))
        done = torch.where(first[..., None], 0.0, ink_of(before)).cumsum(1)
        context, coarse, state, seen = self.see(z, picture)
        left = coarse[:, None] - done
        embedded = self.embedded(
            told,
            before[:, :, -1],
            first.float(),
            (count[:, None] - number).clamp(min=0),
            left,
            context,
        )
        hidden, _ = self.lstm(embedded, state)
        weights, means, log_scales = self.mixture(hidden, embedded, left, seen)
        distance = (self.encode(strokes)[..., None, :] - means) * torch.exp(-log_scales)
        component = (
            -0.5 * (distance**2).sum(-1)
            - log_scales.sum(-1)
            - 0.5 * math.log(2 * math.pi) * distance.shape[-1]
        )
        nll = -(torch.logsumexp(weights + component, -1) * valid).sum() / count.sum()
        return nll + F.cross_entropy(self.plan(plan_z), plan_count)

    @torch.no_grad()
    def draw(self, z, picture, temperature: float) -> list:
        """z (B, 64), picture (B, 64, 64) -> B drawings, (strokes, P, 2) each: the first attempt
        that is like enough to the picture, or the best of `attempts`, fitted to the picture."""
        strokes, count = self.write(z, picture, temperature)
        alike, more = likeness(strokes, picture), self.config.attempts - 1
        again = torch.nonzero(alike < self.config.enough)[:, 0]
        if more and len(again):
            rows = again.repeat_interleave(more)
            others, _ = self.write(z[rows], picture[rows], temperature)
            found, best = likeness(others, picture[rows]).unflatten(0, (-1, more)).max(-1)
            others = others.unflatten(0, (-1, more))[torch.arange(len(again)), best]
            better = found > alike[again]
            strokes[again[better], others.shape[1] :] = 0.0
            strokes[again[better], : others.shape[1]] = others[better]
        if self.config.fit_steps:
            strokes = self.fit(strokes, count, picture)
        return [drawing[:n] for drawing, n in zip(strokes, count.tolist())]

    def write(self, z, picture, temperature: float):
        """Strokes (B, T, P, 2), 0 where there are none, and their number (B,); one stroke of all
        drawings a step."""
        wanted = self.plan(z).argmax(-1).clamp(1, self.config.most)
        context, coarse, state, seen = self.see(z, picture)
        batch, strokes = len(z), []
        code, end, done = (
            torch.zeros(batch, len(self.deviation)),
            torch.zeros(batch, 2),
            torch.zeros(batch, GRID**2),
        )
        for number in range(int(wanted.max())):
            left = (coarse - done)[:, None]
            first = torch.full((batch, 1), float(number == 0))
            embedded = self.embedded(
                code[:, None],
                end[:, None],
                first,
                (wanted - number).clamp(min=0)[:, None],
                left,
                context,
            )
            hidden, state = self.lstm(embedded, state)
            weights, means, log_scales = (
                a[:, 0] for a in self.mixture(hidden, embedded, left, seen)
            )
            chosen = torch.distributions.Categorical(logits=weights / temperature).sample()
            row = torch.arange(batch)
            code = means[row, chosen] + math.sqrt(temperature) * torch.exp(
                log_scales[row, chosen]
            ) * torch.randn_like(code)
            strokes.append(self.decode(code))
            end, done = strokes[-1][:, -1], done + ink_of(strokes[-1])
        there = torch.arange(len(strokes)) < wanted[:, None]
        return torch.stack(strokes, 1) * there[..., None, None], wanted

    def fit(self, strokes, count, picture):
        """`stroke_fitting.fit`, by PyTorch's own gradient."""
        steps, rate = self.config.fit_steps, self.config.fit_rate
        codes, there = (
            self.encode(strokes),
            (torch.arange(strokes.shape[1]) < count[:, None])[..., None],
        )
        page = blurred(F.avg_pool2d(picture[:, None], picture.shape[1] // PAGE))[:, 0]
        moved, momentum, longest = (
            torch.zeros_like(codes),
            torch.zeros_like(codes),
            torch.zeros(len(codes), 1, 1),
        )
        for number in range(steps):
            with torch.enable_grad():
                free = moved.requires_grad_()
                ink = (
                    (ink_of(self.decode(codes + free), SAMPLES, PAGE) * there)
                    .sum(1)
                    .unflatten(-1, page.shape[1:])
                )
                loss = ((blurred(ink[:, None])[:, 0] - page) ** 2).sum((1, 2)) / (page**2).sum(
                    (1, 2)
                ).clamp(min=1e-6)
                (gradient,) = torch.autograd.grad(loss.sum() + STAY * (free**2).sum(), free)
            moved = moved.detach()
            momentum = MOMENTUM * momentum + gradient * there
            longest = torch.maximum(
                longest,
                torch.sqrt((momentum**2).sum((1, 2), keepdim=True) / count[:, None, None] + 1e-12),
            )
            moved = moved - rate * (1 - number / steps) * momentum / longest
        return self.decode(codes + moved) * there[..., None]

    def from_flax(self, params: dict) -> None:
        for name in ("plan_hidden", "plan_out", "context", "start", "embed", "enter", "out"):
            copy_linear(getattr(self, name), params[name])
        copy_conv(self.first_layer, params["first_layer"])
        copy_conv(self.second_layer, params["second_layer"])
        copy(self.place, params["place"])
        for look, (_, p) in zip(self.looks, sorted(params["looks"].items())):
            look.from_flax(p)
        copy(self.norm.weight, params["norm"]["scale"])
        copy(self.norm.bias, params["norm"]["bias"])
        copy(self.lstm.weight_ih_l0, np.asarray(params["inputs"]["kernel"]).T)
        copy(self.lstm.weight_hh_l0, np.asarray(params["kernel"]).T)
        units = self.lstm.hidden_size
        bias = np.array(params["inputs"]["bias"])
        bias[units : 2 * units] += 1.0  # ours adds 1 to the forget gate
        copy(self.lstm.bias_ih_l0, bias)
        copy(self.lstm.bias_hh_l0, np.zeros_like(bias))
