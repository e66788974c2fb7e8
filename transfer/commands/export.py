"""`kuzushiji-transfer export`: the trained models as files for other programs.

`export DIR --format onnx` writes, for programs without Python or JAX:

| file | takes | gives |
|---|---|---|
| `old_encoder.onnx` | `images` (n, 64, 64) uint8, ink 255 on paper 0, framed as \
`transfer.inference.images.load_image` does it | `z_old` (n, 64) float32, averaged over warped \
forms of the image as the weights ask for it |
| `density.onnx` | `z_old` | `probabilities` (n, k) float32 of the k kanji, each row sums to 1; \
forms of one character (国 and 國) have one each, which `transfer` adds up |
| `new_decoder.onnx` | `z_new` (n, 64) float32 | `pictures` (n, 64, 64) float32 in 0 to 1, ink 1, \
of the modern kanji |
| `kanji.json` | | `characters`, k of them in the order of `probabilities`; `weights`: SHA-256 of \
the files that this was made from; `attribution` |
| `z_new.npy` | | (k, 64) float32, the z_new of each kanji, in the same order |

The files are float32. Each is run with onnxruntime on random input before it is in its place, and
compared with JAX. The decoder of strokes and the verdict are not among them.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import shtab

from transfer.commands import arguments
from transfer.system.entry import fail
from transfer.system.errors import DataError
from transfer.system.files import atomic_write

EXAMPLES = """  kuzushiji-transfer export models --format onnx
  kuzushiji-transfer export models --format onnx --weights runs/small
"""
CLOSE = 1e-3
"""How far onnxruntime may be from JAX, of the largest value."""
TRIED = 3
"""Inputs that each file is tried with: the number is another than the one it was made with."""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "export",
        run,
        "write the models as ONNX",
        "Write encoder, density and picture decoder as ONNX files for other programs. Needs the"
        ' extra: python -m pip install ".[export]"',
        EXAMPLES,
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder to write into; made where there is none"
    ).complete = shtab.DIRECTORY
    parser.add_argument(
        "--format", choices=("onnx",), default="onnx", help="what is written [%(default)s]"
    )
    arguments.weights(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")


def run(chosen) -> int:
    try:
        import jax2onnx  # noqa: F401
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise DataError(f'export needs {error.name}; python -m pip install ".[export]"') from None
    folder = chosen.folder
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; name another")
    from transfer.inference import loading
    from transfer.training.weights import WeightsError

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of its own intermediate values
    try:
        model = loading.load_model(chosen.weights)
    except WeightsError as error:
        return fail(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    for name, (function, sides, names) in programs(model).items():
        path = folder / f"{name}.onnx"
        difference = write(path, function, sides, names)
        if not chosen.quiet:
            size = path.stat().st_size / 1e6
            print(f"{path}  {size:.1f} MB  within {difference:.0e} of JAX", file=sys.stderr)
    write_kanji(folder, model, chosen.weights)
    return 0


def programs(model) -> dict:
    """Name -> (function of JAX, (type, sides of one input), (name of input, name of output))."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from transfer.models import augment, mdn, vae

    old = nnx.merge(model.old_graph, model.old_params)
    new = nnx.merge(model.new_graph, model.new_params)
    density = nnx.merge(model.mdn_graph, model.mdn_params)
    latent = int(np.shape(model.gallery.mean)[1])
    # What the warps do is known beforehand: ONNX has none of JAX's random numbers.
    views = density.config.averaged
    warps = [
        augment.warping(1, 64, key, vae.VIEW, 0.5)
        for key in (vae.view_keys(views) if views else ())
    ]

    def encode(images):
        plain = augment.to_float(images)
        seen = [plain, *(warped(plain, *warp) for warp in warps)]
        # All at once, one below the other: else the weights would be in the file each time.
        z = old.encode(jnp.concatenate(seen, axis=1).reshape(-1, 64, 64))[0]
        return z.reshape(-1, len(seen), latent).mean(1)

    def probabilities(z_old):
        scores = mdn.candidate_scores(density, z_old, model.gallery)
        return jax.nn.softmax(model.calibration * scores)

    def paint(z_new):
        return jax.nn.sigmoid(new.decode(z_new))

    return {
        "old_encoder": (encode, (jnp.uint8, 64, 64), ("images", "z_old")),
        "density": (probabilities, (jnp.float32, latent), ("z_old", "probabilities")),
        "new_decoder": (paint, (jnp.float32, latent), ("z_new", "pictures")),
    }


def warped(images, y, x, amount):
    """`transfer.models.augment.warp` of images (n, 64, 64) float32 in [0, 1] by one known warp, in
    operations that jax2onnx has for any n: no padding, and fixed places to take pixels from."""
    import jax.numpy as jnp
    import numpy as np

    size = images.shape[1]
    flat, out = images.reshape(-1, size * size), 0.0
    y, x = (np.clip(np.asarray(v)[0] + 1.0, 0.0, size + 0.999) for v in (y, x))
    for down in (0, 1):
        for right in (0, 1):
            row, column = np.floor(y).astype(int) + down, np.floor(x).astype(int) + right
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            inside = (row >= 1) & (row <= size) & (column >= 1) & (column <= size)  # else paper
            place = np.clip(row - 1, 0, size - 1) * size + np.clip(column - 1, 0, size - 1)
            weight = np.where(inside, share, 0.0).astype(np.float32).ravel()
            out = out + jnp.take(flat, place.ravel(), axis=1) * weight
    out = out.reshape(-1, size, size)

    def around(pick):
        rows = jnp.concatenate([out[:, :1], out, out[:, -1:]], 1)
        rows = pick(pick(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
        both = jnp.concatenate([rows[:, :, :1], rows, rows[:, :, -1:]], 2)
        return pick(pick(both[:, :, :-2], both[:, :, 1:-1]), both[:, :, 2:])

    amount = float(np.asarray(amount)[0, 0, 0])
    heavy = around(jnp.maximum if amount > 0 else jnp.minimum)
    return out + abs(amount) * (heavy - out)


def write(path: Path, function, sides, names) -> float:
    """Convert one program, try it, and put it in its place.

    Returns the largest difference from JAX over the largest value. Raises DataError where that is
    no rounding any more.
    """
    import jax
    import numpy as np
    import onnx
    import onnxruntime
    from jax2onnx import to_onnx

    kind, *shape = sides
    converted = to_onnx(
        function,
        [jax.ShapeDtypeStruct((*jax.export.symbolic_shape("n"), *shape), kind)],
        model_name=path.stem,
        input_names=[names[0]],
        output_names=[names[1]],
    )
    random = np.random.default_rng(0)
    given = (
        random.integers(0, 256, (TRIED, *shape), np.uint8)
        if kind == np.uint8
        else random.normal(size=(TRIED, *shape)).astype(np.float32)
    )
    with atomic_write(path) as part:
        onnx.save(converted, part)
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        [found] = session.run([names[1]], {names[0]: given})
        with jax.default_matmul_precision("float32"):
            wanted = np.asarray(jax.jit(function)(given))
        difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        if not difference <= CLOSE:
            raise DataError(
                f"{path}: onnxruntime is {difference:.1e} from JAX; try other versions of jax2onnx"
                " and onnxruntime"
            )
    return difference


def write_kanji(folder: Path, model, weights: Path | None) -> None:
    """`kanji.json` and `z_new.npy`."""
    import numpy as np

    from transfer.commands.info import describe

    about = describe(weights)
    described = {
        "characters": model.characters,
        "weights": {k: v["sha256"] for k, v in about["weights"]["models"].items()},
        "attribution": about["attribution"],
    }
    with atomic_write(folder / "kanji.json") as part:
        part.write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", "utf-8")
    with atomic_write(folder / "z_new.npy") as part, open(part, "wb") as file:
        np.save(file, np.asarray(model.gallery.mean, np.float32))
