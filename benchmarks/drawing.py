"""Drawing: an image's ten drawings with everything warm, many images, reading alone, picture files,
and the command from a cold start to the files."""

from __future__ import annotations

import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workers import HERE, Worker, alternate, ratio

IMAGES, SAMPLES = 1828, 10
"""The authors' test images, and drawings of each."""
EXAMPLE = HERE.parent / "examples" / "hana_U+82B1.png"
HEAD = """\
| drawing | seconds (range) | drawings/s | PyTorch, seconds | PyTorch / ours (range) | peak MB \
| earlier checkout / ours (range); its peak |
|---|---|---|---|---|---|---|"""


def _example() -> np.ndarray:
    from transfer.inference.images import load_image

    return load_image(EXAMPLE)


# Warm ---------------------------------------------------------------------------------------------


def ours(weights: str, samples: str = str(SAMPLES)) -> Callable:
    """A step that reads and draws the example image."""
    from transfer import KuzushijiTransfer

    model, image = KuzushijiTransfer.load(weights or None), _example()
    return lambda number: model.transfer(image, samples=int(samples), seed=number)


def theirs(weights: str, at_once: str = "all") -> Callable:
    """The same in PyTorch, the strokes step by step; at_once: drawings that a step advances, "all"
    or "one"."""
    import torch

    model, image = Pipeline(Path(weights) if weights else None), _example()

    def run(number: int):
        torch.manual_seed(number)
        return model.transfer(image, SAMPLES, SAMPLES if at_once == "all" else 1)

    return run


class Pipeline:
    """What `KuzushijiTransfer.transfer` computes of an image, in PyTorch, from the same weights
    files."""

    def __init__(self, folder: Path | None):
        import jax
        import torch
        import twins
        import twins_strokes

        from transfer.inference.pipeline import PRETRAINED
        from transfer.models import augment, vae
        from transfer.models.mdn import MDNConfig
        from transfer.stages import decoders, encoding
        from transfer.training import weights

        folder = folder or PRETRAINED
        _, old, _, old_config = encoding.load_vae(folder, "old")
        _, new, _, new_config = encoding.load_vae(folder, "new")
        params, arrays, described = weights.load(weights.find(folder, "mdn"))
        decoder = decoders.load_decoder(folder)
        if decoder.unit != "stroke":
            raise SystemExit(
                f"{folder}: its decoder writes point by point; the twin in PyTorch writes stroke by"
                " stroke (give --weights)"
            )
        self.means, self.seen = (
            torch.from_numpy(arrays["gallery_mean"]),
            torch.from_numpy(arrays["seen"]),
        )
        self.config, self.calibration, self.pen = (
            weights.config(MDNConfig, described),
            float(arrays["calibration"][0]),
            decoder.config.temperature,
        )
        if self.config.averaged:
            fields = [
                augment.warping(1, 64, key, vae.VIEW, 0.5)
                for key in vae.view_keys(self.config.averaged)
            ]
            y, x, amount = (
                torch.from_numpy(np.concatenate(part)) for part in zip(*jax.device_get(fields))
            )
            self.places, self.amount = torch.stack([x, y], -1) / 31.5 - 1, amount[:, None]
        self.old, self.new = twins.VAE(old_config, 1), twins.VAE(new_config, 1)
        self.density, self.strokes = (
            twins.AnchoredMDN(self.config, len(self.means)),
            twins_strokes.StrokeRNN(decoder.config, decoder.axes),
        )
        for twin, values in (
            (self.old, old),
            (self.new, new),
            (self.density, params["mdn"]),
            (self.strokes, decoder.params),
        ):
            twin.from_flax(
                values | ({"classifier": _nothing(twin.config)} if "classifier" in values else {})
            )

    def warped(self, images):
        """The forms (V, 64, 64) of an image (1, 64, 64) that `transfer.models.vae.averaged_z`
        encodes too."""
        import torch.nn.functional as F

        forms = F.grid_sample(
            images[:, None].expand(len(self.places), -1, -1, -1), self.places, align_corners=True
        )
        thick, thin = F.max_pool2d(forms, 3, 1, 1), -F.max_pool2d(-forms, 3, 1, 1)
        return (
            forms
            + self.amount.clamp(min=0) * (thick - forms)
            + (-self.amount).clamp(min=0) * (thin - forms)
        )[:, 0]

    def transfer(self, image: np.ndarray, samples: int, at_once: int):
        """image (64, 64) uint8 -> log probabilities of the gallery (G,), pictures (S, 64, 64),
        drawings, uncertainty (64, 64)."""
        import torch

        with torch.no_grad():
            images = torch.from_numpy(image)[None] / 255.0
            mean, _ = self.old.encode(images)
            self.old.decoder(mean)
            if self.config.averaged:
                mean = torch.cat([mean, self.old.encode(self.warped(images))[0]]).mean(
                    0, keepdim=True
                )
            logits = (
                self.density.logits(mean, self.means)
                + torch.where(self.seen, 0.0, self.config.unseen)
            )[0]
            scores = torch.log_softmax(self.calibration * logits, 0)
            drawn = torch.distributions.Categorical(
                logits=logits * (self.calibration / self.config.temperature)
            ).sample((samples - 1,))
            z_new = self.means[torch.cat([scores.argmax()[None], drawn])]
            pictures = torch.sigmoid(self.new.decoder(z_new))
            best = scores.topk(10)
            likely, share = (
                torch.sigmoid(self.new.decoder(self.means[best.indices])),
                torch.softmax(best.values, 0)[:, None, None],
            )
            doubt = torch.sqrt((share * (likely - (share * likely).sum(0)) ** 2).sum(0))
            drawings = []
            for at in range(0, samples, at_once):
                drawings += self.strokes.draw(
                    z_new[at : at + at_once], pictures[at : at + at_once], self.pen
                )
        return scores, pictures, drawings, doubt


def _nothing(config) -> dict:
    """A classifier that no drawing needs."""
    return {"kernel": np.zeros((config.latent, 1)), "bias": np.zeros(1)}


# Many images --------------------------------------------------------------------------------------


def many(weights: str, data: str, count: str) -> Callable:
    """A step that reads and draws `count` held-out images, ten drawings each."""
    from transfer import KuzushijiTransfer

    model, images = KuzushijiTransfer.load(weights or None), held_out(data, int(count))
    return lambda number: model.transfer(images, samples=SAMPLES, seed=number)


def held_out(data: str, count: int) -> np.ndarray:
    """So many images (count, 64, 64) that no training saw, again from the start where there are
    fewer."""
    from transfer.data import corpus

    old = corpus.load(Path(data) if data else None, quiet=True).old
    held = np.concatenate([old.indices("val"), old.indices("zero-shot")])
    return np.asarray(old.images[np.resize(held, count)])


# Reading alone ------------------------------------------------------------------------------------


def read_one(weights: str) -> Callable:
    """A step that reads the example image without drawing it."""
    from transfer import KuzushijiTransfer

    model, image = KuzushijiTransfer.load(weights or None), _example()
    return lambda number: model.read(image)


def read_many(weights: str, data: str, count: str) -> Callable:
    """A step that reads `count` held-out images without drawing them."""
    from transfer import KuzushijiTransfer

    model, images = KuzushijiTransfer.load(weights or None), held_out(data, int(count))
    return lambda number: model.read(images)


def read_files(jobs: str, count: str) -> Callable:
    """A step that reads `count` picture files, the examples again and again, with so many jobs; no
    model sees them."""
    from transfer.inference import batch

    names = [str(path) for path in sorted(EXAMPLE.parent.glob("*.png"))]
    names = (names * (int(count) // len(names) + 1))[: int(count)]

    def step(number: int) -> None:
        found = sum(len(part) for part in batch.read_all(names, int(jobs), processes=True))
        assert found == len(names)

    return step


# The command --------------------------------------------------------------------------------------


def command(weights: str, cache: Path, checkout: Path) -> tuple[float, float]:
    """Seconds and peak MB of one `kuzushiji-transfer draw` of one image by a checkout's code, with
    whatever is in the folder `cache`."""
    with tempfile.TemporaryDirectory() as out:
        given = ["--weights", weights] if weights else []
        begin = time.perf_counter()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "transfer",
                "draw",
                str(EXAMPLE),
                "--quiet",
                "--out",
                out,
                *given,
            ],
            cwd=checkout,
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or len(list(Path(out).iterdir())) != 3:
            raise SystemExit("kuzushiji-transfer draw did not write its files")
    return seconds, used.ru_maxrss / 1024


def imports() -> str:
    """How long the imports of the command take, and which packages they are: one line."""
    code = (
        "from transfer.commands import draw, arguments; import transfer.inference.batch,"
        " transfer.inference.pipeline, transfer.output.sheet"
    )
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    own = Counter()
    for microseconds, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", done.stderr):
        own[name.split(".")[0]] += int(microseconds) / 1e6
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in own.most_common(8))
    return (
        f"imports of the command: {sum(own.values()):.2f} s (of each package's own modules:"
        f" {parts})"
    )


# Table --------------------------------------------------------------------------------------------


def _spread(values: list[float], digits: int = 2) -> str:
    return (
        f"{statistics.median(values):.{digits}f}"
        f" ({min(values):.{digits}f}–{max(values):.{digits}f})"
    )


def _earlier(chosen, seconds: float, function: str, *given: str) -> dict[str, Worker]:
    """The worker of the checkout that ours is measured beside, if there is one that can do this."""
    here = chosen.beside
    if not here or f"def {function}(" not in (here / "drawing.py").read_text("utf-8"):
        return {}
    return {"earlier": Worker(seconds, "drawing", function, *given, here=here)}


def _both(chosen, seconds: float, function: str, *given: str) -> dict[str, Worker]:
    """Our worker, and the earlier checkout's where there is one; each loads its own weights."""
    ours = Worker(seconds, "drawing", function, chosen.weights, *given)
    return {"ours": ours} | _earlier(chosen, seconds, function, "", *given)


def _line(said: str, rates: dict, memory: dict, amount: str, digits: int, torch: str) -> str:
    """A row of the table: ours of `rates`, and beside the earlier checkout where there is one."""
    earlier = "–"
    if "earlier" in rates:
        earlier = f"{ratio(rates['ours'], rates['earlier'])}; {memory['earlier']:,.0f} MB"
    seconds = [1 / rate for rate in rates["ours"]]
    return (
        f"| {said} | {_spread(seconds, digits)} | {amount} | {torch} | {memory['ours']:,.0f} |"
        f" {earlier} |"
    )


def warm(chosen) -> list[str]:
    """Ten drawings of an image, ours and in PyTorch ten at once and one by one."""
    workers = _both(chosen, chosen.seconds, "ours")
    if chosen.twin:
        workers |= {
            how: Worker(chosen.seconds, "drawing", "theirs", chosen.weights, how)
            for how in ("all", "one")
        }
    rates, memory = alternate(workers, chosen.repeats)
    said = "ten drawings of one image, whole pipeline, warm"
    amount = f"{SAMPLES * statistics.median(rates['ours']):,.0f}"
    if not chosen.twin:
        return [_line(said, rates, memory, amount, 3, "– | –")]
    lines = []
    for how, words in (("all", "ten at once"), ("one", "one after another")):
        torch = (
            f"{1 / statistics.median(rates[how]):.3f} ({words}, step by step) |"
            f" {ratio(rates['ours'], rates[how])}"
        )
        lines.append(_line(said, rates, memory, amount, 3, torch))
    return lines


def throughput(chosen) -> list[str]:
    """1,828 images of ten drawings, or as many as asked for."""
    count = min(chosen.images, IMAGES)
    rates, memory = alternate(_both(chosen, 0.0, "many", chosen.data, str(count)), chosen.repeats)
    amount = f"**{count * SAMPLES * statistics.median(rates['ours']):,.0f}**"
    return [_line(f"{count:,} images, {SAMPLES} drawings each", rates, memory, amount, 2, "– | –")]


def cold(chosen) -> list[str]:
    """The command from its start to its files, with an empty cache and with what that run left in
    it."""
    checkouts = {"ours": HERE.parent}
    if chosen.beside:
        checkouts["earlier"] = chosen.beside.parent
    lines = []
    found = {state: {name: [] for name in checkouts} for state in ("without", "with")}
    for _ in range(chosen.repeats):
        for name, checkout in checkouts.items():
            weights = chosen.weights if name == "ours" else ""
            with tempfile.TemporaryDirectory() as cache:
                for state in found:
                    found[state][name].append(command(weights, Path(cache), checkout))
    for state, words in (
        ("without", "nothing compiled yet"),
        ("with", "compiled before (persistent cache)"),
    ):
        rates = {name: [1 / s for s, _ in values] for name, values in found[state].items()}
        memory = {
            name: math.ceil(max(m for _, m in values)) for name, values in found[state].items()
        }
        said = f"`kuzushiji-transfer draw` of one image, process to files, {words}"
        lines.append(_line(said, rates, memory, "–", 2, "– | –"))
    return lines


def reading(chosen) -> list[str]:
    """One image, and many, read without being drawn."""
    count, lines = min(chosen.images, IMAGES), []
    for said, number, seconds, function, given in (
        ("one image read, not drawn, warm", 1, chosen.seconds, "read_one", ()),
        (
            f"{count:,} images read, not drawn",
            count,
            0.0,
            "read_many",
            (chosen.data, str(count)),
        ),
    ):
        rates, memory = alternate(_both(chosen, seconds, function, *given), chosen.repeats)
        amount = f"{number * statistics.median(rates['ours']):,.0f} images"
        lines.append(_line(said, rates, memory, amount, 3, "– | –"))
    return lines


def files(chosen) -> list[str]:
    """Picture files read by one thread and by a process for each core."""
    count, cores = chosen.files, os.cpu_count() or 1
    workers = {
        jobs: Worker(0.0, "drawing", "read_files", str(jobs), str(count))
        for jobs in sorted({1, cores})
    }
    rates, memory = alternate(workers, chosen.repeats)
    lines = []
    for jobs, found in rates.items():
        gain = statistics.median(a / b for a, b in zip(found, rates[1]))
        said = f"{count:,} picture files read, `--jobs {jobs}`: {gain:.2f} times one job"
        amount = f"{count * statistics.median(found):,.0f} files"
        lines.append(_line(said, {"ours": found}, {"ours": memory[jobs]}, amount, 2, "– | –"))
    return lines


ROWS = {"draw": warm, "throughput": throughput, "cold": cold, "reading": reading, "files": files}
