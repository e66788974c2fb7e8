"""Training speed on this machine against PyTorch: the same models, losses and optimiser, side by side.

    pip install ".[benchmark]"
    python benchmarks/run.py                          # all rows, about five minutes on two cores
    python benchmarks/run.py --rows paper_vae --repeats 9

Each framework runs a row in a process of its own, which waits while the other works; repeats alternate, and the ratio is the median of
the pairs' ratios. Nothing else should run on the machine. FLOP are counted from the layers, three times the forward pass.
"""
from __future__ import annotations

import argparse
import datetime
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

CLASSES = 6432


def _random(*shape) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def _ours(loss: Callable, params) -> Callable:
    """A training step of ours: loss(params, key) minimised by Adam."""
    import jax
    import optax

    optimizer = optax.adam(1e-3)

    def step(state, key):
        value, grads = jax.value_and_grad(loss)(state[0], key)
        updates, moments = optimizer.update(grads, state[1])
        return (optax.apply_updates(state[0], updates), moments), value

    compiled = jax.jit(step, donate_argnums=0)
    state = [(params, optimizer.init(params))]

    def run(number: int) -> float:
        state[0], value = compiled(state[0], jax.random.key(number))
        return float(value)

    return run


def _theirs(model, loss: Callable) -> Callable:
    import torch

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def run(number: int) -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss(model)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return run


# Rows: build(framework) -> step; examples a step; forward FLOP an example ------------------------------------------------

def paper_vae(framework: str) -> Callable:
    images = _random(100, 64, 64)
    if framework == "torch":
        import torch
        import twins

        batch = torch.from_numpy(images)
        return _theirs(twins.PaperVAE(), lambda m: m.loss(batch, torch.randn(100, 64)))
    import jax
    from flax import nnx

    from transfer import convolution, vae

    if framework == "xla":
        convolution.on_cpu = lambda: False
    config = vae.VAEConfig.paper()
    graph, state = nnx.split(vae.VAE(config, 1, nnx.Rngs(0)))
    return _ours(lambda p, key: vae.elbo(nnx.merge(graph, p), config, jax.numpy.asarray(images), key)[0], nnx.to_pure_dict(state))


def decoder(units: int) -> Callable:
    def build(framework: str) -> Callable:
        import jax
        from flax import nnx

        from transfer import sketch_rnn

        config = sketch_rnn.SketchRNNConfig(units=units, glimpse=False, embed=0, head=0, noise=0.0)
        rows = np.concatenate([_random(64, 133, 2) * 20 - 10, (_random(64, 133, 1) < 0.2).astype(np.float32)], -1)
        count, z = np.full(64, 133, np.int32), _random(64, 64)
        if framework == "torch":
            import torch
            import twins

            movement, _, _, target, valid = (torch.from_numpy(np.array(a)) for a in sketch_rnn.teacher(config, jax.numpy.asarray(rows), count))
            return _theirs(twins.Decoder(units), lambda m: m.loss(movement, target, valid, torch.from_numpy(z)))
        graph, state = nnx.split(sketch_rnn.SketchRNN(config, nnx.Rngs(0)))
        loss = lambda p, key: sketch_rnn.loss(nnx.merge(graph, p), jax.numpy.asarray(rows), count, {"z": jax.numpy.asarray(z)}, key)[0]
        return _ours(loss, nnx.to_pure_dict(state))

    return build


def mdn(framework: str) -> Callable:
    z_old, z_new = np.random.default_rng(0).standard_normal((2, 3000, 64), np.float32)
    if framework == "torch":
        import torch
        import twins

        return _theirs(twins.MDN(), lambda m: m.loss(torch.from_numpy(z_old), torch.from_numpy(z_new)))
    import jax.numpy as jnp
    from flax import nnx

    from transfer import mdn

    graph, state = nnx.split(mdn.build(mdn.MDNConfig.paper(), 10, nnx.Rngs(0)))
    loss = lambda p, key: -mdn.log_prob(nnx.merge(graph, p), jnp.asarray(z_old), jnp.asarray(z_new), None).mean() / 64
    return _ours(loss, nnx.to_pure_dict(state))


def recogniser(framework: str) -> Callable:
    images, labels = _random(128, 64, 64), np.arange(128) % CLASSES
    if framework == "torch":
        import torch
        import twins

        batch, answers = torch.from_numpy(images), torch.from_numpy(labels)
        return _theirs(twins.Classifier(CLASSES), lambda m: m.loss(batch, answers))
    import jax.numpy as jnp
    from flax import nnx

    from transfer import classifier

    config = classifier.ClassifierConfig.recogniser()
    graph, state = nnx.split(classifier.Classifier(config, CLASSES, nnx.Rngs(0)))
    return _ours(lambda p, key: classifier.loss(nnx.merge(graph, p), config, jnp.asarray(images), jnp.asarray(labels))[0],
                 nnx.to_pure_dict(state))


def _conv(pixels: int, kernel: int, a: int, b: int) -> float:
    return 2.0 * pixels * kernel**2 * a * b


VAE_FLOP = (_conv(31**2, 4, 1, 32) + _conv(14**2, 4, 32, 64) + _conv(36, 4, 64, 128) + _conv(4, 4, 128, 256) + 2 * 1024 * 192
            + _conv(1, 5, 1024, 128) + _conv(25, 5, 128, 64) + _conv(13**2, 6, 64, 32) + _conv(30**2, 6, 32, 1))
CLASSIFIER_FLOP = (_conv(256, 3, 16, 32) + _conv(64, 2, 32, 128) + 4 * _conv(64, 3, 128, 128) + _conv(16, 2, 128, 256)
                   + 2 * _conv(16, 3, 256, 256) + 2 * 4096 * 256 + 2 * 256 * CLASSES)
ROWS = {
    "paper_vae": (paper_vae, 100, VAE_FLOP, "the paper's VAE, batch 100, images/s"),
    "decoder_512": (decoder(512), 64, 134 * 2.0 * (69 * 2048 + 512 * 2048 + 512 * 123), "LSTM-512 decoder, 133 steps, batch 64, sequences/s"),
    "decoder_1024": (decoder(1024), 64, 134 * 2.0 * (69 * 4096 + 1024 * 4096 + 1024 * 123), "LSTM-1024 decoder, the same"),
    "mdn": (mdn, 3000, 2.0 * (64 * 1024 + 2 * 1024**2 + 1024 * 19200), "the paper's MDN, batch 3,000, pairs/s"),
    "recogniser": (recogniser, 128, CLASSIFIER_FLOP, "the evaluation's recogniser, batch 128, images/s"),
}


# Processes ------------------------------------------------------------------------------------------------------------

def matrix_product() -> Callable:
    import jax

    a = jax.numpy.asarray(_random(2048, 2048))
    product = jax.jit(lambda a: a @ a)
    return lambda number: product(a).block_until_ready()


def work(row: str, framework: str) -> None:
    """Be the process of one framework: for each number on stdin run so many steps and print the seconds; at the end peak MB."""
    step, number = (matrix_product() if row == "matrix_product" else ROWS[row][0](framework)), 0
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            number += 1
            step(number)
        print(time.perf_counter() - begin, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


class Worker:
    def __init__(self, row: str, framework: str, seconds: float):
        self.process = subprocess.Popen([sys.executable, __file__, "--work", row, framework], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.time(1)  # compiles
        self.time(1)
        self.steps = max(1, round(seconds / self.time(1)))

    def time(self, steps: int) -> float:
        """Seconds for so many steps."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a benchmark process ended early, see its message above")
        return float(line)

    def rate(self) -> float:
        """Steps a second."""
        return self.steps / self.time(self.steps)

    def close(self) -> float:
        """Ends the process; its peak memory, MB."""
        return float(self.process.communicate()[0].split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="about so long a repeat")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        work(*chosen.work)
        return 0
    product = Worker("matrix_product", "jax", 1.0)
    peak = max(product.rate() for _ in range(5)) * 2 * 2048**3
    product.close()
    print(f"{datetime.date.today()}, {platform.machine()}, matrix product {peak / 1e9:.0f} GFLOP/s, medians of {chosen.repeats} alternating repeats\n")
    print("| training | ours | PyTorch | ours / PyTorch (range) | ours of the matrix product | XLA's own convolutions | peak MB ours / PyTorch |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in chosen.rows:
        _, batch, flop, title = ROWS[row]
        frameworks = ["jax", "torch"] + (["xla"] if row == "paper_vae" else [])
        workers = {f: Worker(row, f, chosen.seconds) for f in frameworks}
        rates = {f: [] for f in frameworks}
        for _ in range(chosen.repeats):
            for f in frameworks:
                rates[f].append(workers[f].rate() * batch)
        memory = {f: w.close() for f, w in workers.items()}
        ratios = [a / b for a, b in zip(rates["jax"], rates["torch"])]
        ours, theirs = (statistics.median(rates[f]) for f in ("jax", "torch"))
        own = f"{statistics.median(rates['xla']):,.0f}" if "xla" in rates else "–"
        print(f"| {title} | {ours:,.0f} | {theirs:,.0f} | **{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f}) | "
              f"{100 * ours * 3 * flop / peak:.0f} % | {own} | {memory['jax']:,.0f} / {memory['torch']:,.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
