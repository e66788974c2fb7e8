"""How time and memory grow: with images, drawings of each, strokes and the gallery; and the time of
a training step with devices.

    python benchmarks/scale.py  # ten minutes on two cores; scale.json and scale.svg in this folder
    python benchmarks/scale.py --parts gallery devices --out results

Every size runs in a process of its own, whose peak memory is told; the first step compiles and does
not count. Devices are virtual ones that share this machine's cores: they show what splitting a step
costs, not what more hardware gives. `--cluster` works out the latter on paper.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workers import Worker, ask

GALLERY = 6432
"""Kanji of the gallery, which larger ones repeat."""


# Parts: a size -> a step --------------------------------------------------------------------------


def images(size: str) -> Callable:
    """Read so many images, and draw each once."""
    return _transfer(int(size), 1)


def drawings(size: str) -> Callable:
    """Read sixteen images, and draw each so many times."""
    return _transfer(16, int(size))


def _transfer(count: int, samples: int) -> Callable:
    from transfer import KuzushijiTransfer
    from transfer.data import sample

    model = KuzushijiTransfer.load()
    some = [sample.render(character, i) for i, character in enumerate("山川水火木日月人口田目手")]
    pictures = np.stack([some[i % len(some)] for i in range(count)])
    return lambda number: model.transfer(pictures, samples=samples, seed=number)


def strokes(size: str) -> Callable:
    """A training step of the stroke decoder on 64 drawings with so many strokes."""
    import training

    training.STROKES = int(size)
    return training.step("stroke_decoder", "jax_bfloat16")


def gallery(size: str) -> Callable:
    """Weigh all kanji of a gallery of this size for 64 images."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from transfer.models import mdn

    count = int(size)
    model = mdn.build(mdn.MDNConfig.small(), count, nnx.Rngs(0))
    graph, state = nnx.split(model)
    random = np.random.default_rng(0)
    mean = np.resize(random.standard_normal((GALLERY, 64), np.float32), (count, 64))
    anchors = mdn.Gallery(jnp.asarray(mean), jnp.zeros((count, 64)), jnp.ones(count, bool))
    z_old = jnp.asarray(random.standard_normal((64, 64), np.float32))
    score = jax.jit(lambda state, z, g: mdn.candidate_scores(nnx.merge(graph, state), z, g))
    return lambda number: score(state, z_old, anchors).block_until_ready()


def devices(size: str) -> Callable:
    """A training step of the new VAE of `small`, its batch split over so many virtual devices."""
    import jax

    jax.config.update("jax_num_cpu_devices", int(size))
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from transfer.models import vae
    from transfer.system import devices

    config = vae.VAEConfig.small("new")
    graph, start = nnx.split(vae.VAE(config, 1, nnx.Rngs(0)))
    start, optimizer = nnx.to_pure_dict(start), optax.adam(1e-3)
    labels = jnp.zeros(config.batch, jnp.int32)

    def step(state, pictures, key):
        pictures = devices.shard(pictures)
        loss = lambda p: vae.loss(nnx.merge(graph, p), config, pictures, labels, key)[0]
        value, grads = jax.value_and_grad(loss)(state[0])
        updates, moments = optimizer.update(grads, state[1])
        return (optax.apply_updates(state[0], updates), moments), value

    compiled = jax.jit(
        step,
        donate_argnums=0,
        out_shardings=devices.replicated(),
        compiler_options=devices.compiler_options(),
    )
    state = [devices.everywhere((start, optimizer.init(start)))]
    pictures = np.random.default_rng(0).random((config.batch, 64, 64), np.float32)
    pictures = devices.everywhere(pictures)

    def run(number: int) -> float:
        state[0], value = compiled(state[0], pictures, jax.random.key(number))
        return float(value)

    return run


PARTS = {
    "images": (images, (16, 64, 256, 1024), "images, one drawing each"),
    "drawings": (drawings, (1, 3, 10, 30), "drawings of each of 16 images"),
    "strokes": (strokes, (6, 12, 24, 36), "strokes of a drawing, training step of 64"),
    "gallery": (gallery, (6432, 12864, 25728, 50000), "kanji of the gallery, 64 images"),
    "devices": (devices, (1, 2, 4, 8), "virtual devices, training step of the new VAE"),
}


def measured(part: str, size: int, seconds: float) -> tuple[float, float]:
    """Seconds of a step of a part at a size, the median of three, and the process's peak MB."""
    worker = Worker(seconds, "scale", part, str(size))
    step = statistics.median(1 / worker.rate() for _ in range(3))
    return step, worker.close()


# On paper -----------------------------------------------------------------------------------------


PEAK, LINK, REACHED = 495e12, 450e9, 0.4
"""Of an H100, from its data sheet: FLOP/s in TF32 without sparsity, and bytes/s of NVLink in one
direction; and the share of the former that we suppose a step reaches."""


def cluster(parameters: float, flop: float) -> list[tuple[int, float, float, float, float]]:
    """What a training step should take on 1 to 64 GPUs, the same batch split over them.

    parameters: of the model. flop: of a step.

    Returns (devices, ms of computing, MB that each sends, ms of sending, share of the ideal speed).
    Gradients are summed in float32 around a ring, which sends 2 (n - 1) / n of them, after the
    computing and not during it.
    """
    rows = []
    for count in (1, 2, 4, 8, 16, 64):
        compute, sent = flop / count / (REACHED * PEAK), 8 * (count - 1) / count * parameters
        wait = sent / LINK
        rows.append((count, 1e3 * compute, sent / 1e6, 1e3 * wait, compute / (compute + wait)))
    return rows


def parameters(row: str) -> float:
    """Number of parameters of a row of the training benchmark."""
    import jax
    import training

    return sum(leaf.size for leaf in jax.tree.leaves(training.ROWS[row][0]("jax").params))


def on_paper(row: str) -> str:
    """`cluster` of a row of the training benchmark as Markdown."""
    count, flop = ask("scale", "parameters", row), ask("training", "count_flop", row)
    lines = [
        f"{row}: {count / 1e6:.1f} million parameters, {flop / 1e9:.0f} GFLOP a step\n",
        "| GPUs | computing, ms | each sends, MB | sending, ms | of the ideal speed |",
        "|---|---|---|---|---|",
    ]
    for devices, compute, sent, wait, share in cluster(count, flop):
        lines.append(f"| {devices} | {compute:.3f} | {sent:.1f} | {wait:.3f} | {share:.0%} |")
    return "\n".join(lines)


# Output -------------------------------------------------------------------------------------------


def table(found: dict) -> str:
    """Markdown of what was measured: part -> [(size, seconds, MB)]."""
    lines = [
        "| what grows | size | seconds | × the one before | peak MB |",
        "|---|---|---|---|---|",
    ]
    for part, rows in found.items():
        before = [None, *(seconds for _, seconds, _ in rows)]
        for (size, seconds, memory), last in zip(rows, before):
            times = f"{seconds / last:.2f}" if last else "–"
            lines.append(
                f"| {PARTS[part][2]} | {size:,} | {seconds:.4g} | {times} | {memory:,.0f} |"
            )
    return "\n".join(lines)


def plot(found: dict, path: Path) -> None:
    """Seconds and peak memory against size (logarithmic), as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters, not their outlines: a quarter the size
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(found), figsize=(3.2 * len(found), 5), squeeze=False)
    for column, (part, rows) in zip(axes.T, found.items()):
        sizes, seconds, memory = zip(*rows)
        for axis, values, name in zip(column, (seconds, memory), ("seconds", "peak MB")):
            axis.semilogx(sizes, values, "o-")
            axis.set_ylim(0, 1.1 * max(values))
            axis.set_ylabel(name)
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axis.minorticks_off()
        column[1].set_xlabel(PARTS[part][2].replace(", ", ",\n"), fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--sizes", nargs="+", type=int, help="in place of each part's own")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a repeat [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the results")
    parser.add_argument(
        "--cluster", action="store_true", help="also what several GPUs should take, on paper"
    )
    chosen = parser.parse_args()
    found = {}
    for part in chosen.parts:
        for size in chosen.sizes or PARTS[part][1]:
            found.setdefault(part, []).append((size, *measured(part, size, chosen.seconds)))
            print(f"{part} {size}: {found[part][-1][1]:.4g} s", file=sys.stderr, flush=True)
    if found:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n{table(found)}")
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "scale.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        plot(found, chosen.out / "scale.svg")
    for row in ("vae_old", "stroke_decoder") if chosen.cluster else ():
        print(f"\n{on_paper(row)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
