"""`kuzushiji-transfer brush`: a modern kanji -> pictures of how old hands may have written it."""

from __future__ import annotations

import json

from transfer.commands import arguments
from transfer.inference import loading
from transfer.system.entry import fail
from transfer.system.files import atomic_write

EXAMPLES = """  kuzushiji-transfer brush 花 --weights runs/small
  kuzushiji-transfer brush 花 --samples 30 --seed 7 --weights runs/small --out flowers
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "brush",
        run,
        "paint how old hands may have written a kanji",
        "Paint cursive forms of one modern kanji: <U+code>-<number>.png (64x64, dark on light), "
        "<U+code>.png (all of them) and\n"
        "<U+code>.json. It needs weights with the density back (mdn_back.safetensors).",
        EXAMPLES,
    )
    parser.add_argument("kanji", metavar="KANJI", help="one character")
    parser.add_argument(
        "--samples",
        type=arguments.integer(1, 1000),
        default=12,
        metavar="N",
        help="number of pictures [%(default)s]",
    )
    arguments.seed(parser, "the same seed gives the same pictures [%(default)s]")
    parser.add_argument(
        "--temperature",
        type=arguments.temperature,
        metavar="T",
        help="above 0 and up to 1; a lower one gives plainer forms [the model's own]",
    )
    arguments.weights(parser)
    arguments.out(parser, "brushed")


def run(chosen) -> int:
    from PIL import Image

    from transfer.inference import brush
    from transfer.output.pictures import image_grid
    from transfer.training.weights import WeightsError

    try:
        painter = brush.of(loading.load_model(chosen.weights))
        painted = painter.brush(chosen.kanji, chosen.samples, chosen.seed, chosen.temperature)
    except (WeightsError, ValueError) as error:
        return fail(str(error))
    if problem := arguments.make_folder(chosen.out):
        return fail(problem)
    name = f"U+{ord(chosen.kanji):04X}"
    base = chosen.out / name
    described = {
        "character": chosen.kanji,
        "code_point": name,
        "seed": chosen.seed,
        "temperature": chosen.temperature or painter.temperature,
        "sheet": f"{name}.png",
        "pictures": [],
    }
    try:
        for number, (picture, log_density) in enumerate(
            zip(painted.pictures, painted.log_density), 1
        ):
            file = f"{name}-{number:0{len(str(chosen.samples))}}.png"
            with atomic_write(chosen.out / file) as part:
                Image.fromarray(255 - picture).save(part, "PNG")
            described["pictures"].append(
                {"file": file, "log_density_per_dimension": round(float(log_density), 4)}
            )
        image_grid([painted.pictures / 255.0], base.with_name(f"{name}.png"), across=6)
        with atomic_write(base.with_name(f"{name}.json")) as part:
            text = json.dumps(described, ensure_ascii=False, indent=1) + "\n"
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        return fail(
            f"{base}: cannot be written ({error.strerror or error}); free some space or choose "
            "another --out"
        )
    print(f"{chosen.kanji} -> {base.with_name(f'{name}.png')}")
    return 0
