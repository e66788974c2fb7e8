"""Find the fastest form of each convolution of the paper's VAE on this machine. The rule of
`transfer.models.layers.convolution.form` comes from it.

    python benchmarks/convolutions.py                 # a minute

It measures forward pass and all gradients of each layer alone, with a batch of 100. The forms take
turns. It prints the shortest time of each, in ms.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from transfer.models.layers import convolution
from transfer.system.entry import guarded

LAYERS = [
    (convolution.strided, 64, 1, 32, 4),
    (convolution.strided, 31, 32, 64, 4),
    (convolution.strided, 14, 64, 128, 4),
    (convolution.strided, 6, 128, 256, 4),
    (convolution.transposed, 1, 1024, 128, 5),
    (convolution.transposed, 5, 128, 64, 5),
    (convolution.transposed, 13, 64, 32, 6),
    (convolution.transposed, 30, 32, 1, 6),
]
"""Function, size of the image, channels, channels out, size of the kernel."""
FORMS = {convolution.strided: ("gather", "half"), convolution.transposed: ("half", "sum")}


def compiled(function, form: str, x, kernel, bias):
    """A function without arguments that computes a layer and its gradients, in one form; "xla":
    XLA's own convolution."""

    def layer(*inputs):
        return jax.nn.relu(function(*inputs))

    def both(x, kernel, bias, grad):
        value, back = jax.vjp(layer, x, kernel, bias)
        grads = back(grad)
        return value, grads if x.shape[-1] > 1 else grads[
            1:
        ]  # nobody asks for the gradient of the image

    usual = convolution.form, convolution.on_cpu
    convolution.form, convolution.on_cpu = lambda *shape: form, lambda: form != "xla"
    grad = jnp.asarray(
        np.random.default_rng(1).standard_normal(
            jax.eval_shape(layer, x, kernel, bias).shape, np.float32
        )
    )
    run = jax.jit(both).lower(x, kernel, bias, grad).compile()
    convolution.form, convolution.on_cpu = usual
    return lambda: jax.block_until_ready(run(x, kernel, bias, grad))


@guarded
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--xla",
        action="store_true",
        help="also measure XLA's own convolutions, some of which take seconds",
    )
    chosen = parser.parse_args()
    random = np.random.default_rng(0)
    for function, size, channels, out, kernel in LAYERS:
        inputs = [
            jnp.asarray(random.standard_normal(s, np.float32))
            for s in ((100, size, size, channels), (kernel, kernel, channels, out), (out,))
        ]
        runs = {
            form: compiled(function, form, *inputs)
            for form in FORMS[function] + (("xla",) if chosen.xla else ())
        }
        best = dict.fromkeys(runs, float("inf"))
        for run in runs.values():
            run()
        for _ in range(chosen.repeats):
            for form, run in runs.items():
                begin = time.perf_counter()
                run()
                best[form] = min(best[form], time.perf_counter() - begin)
        print(
            f"{function.__name__} {size}x{size}, {channels} -> {out}, kernel {kernel}: "
            + ", ".join(f"{form} {1000 * seconds:.1f}" for form, seconds in best.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
