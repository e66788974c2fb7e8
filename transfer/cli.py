"""Command line `kuzushiji-transfer`: image files in, SVG, JSON and PNG out."""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from transfer.files import whole

EXAMPLES = """examples:
  kuzushiji-transfer draw examples/*.png --out drawings
  kuzushiji-transfer draw page.jpg --samples 20 --seed 7 --weights runs/small
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="kuzushiji-transfer", description="From an image of one Kuzushiji character to modern strokes.",
                                  epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    draw = commands.add_parser("draw", help="draw the modern kanji of images", epilog=EXAMPLES,
                               formatter_class=argparse.RawDescriptionHelpFormatter,
                               description="Write <stem>.svg (the best drawing, in KanjiVG's structure), <stem>.json (candidates and all "
                                           "drawings) and <stem>.png (a sheet of every step) for each image of one character.")
    draw.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="any common image file, dark on light or light on dark")
    draw.add_argument("--out", type=Path, default=Path("drawings"), metavar="DIR", help="folder for the results [%(default)s]")
    draw.add_argument("--weights", type=Path, metavar="DIR", help="runs or weights folder [the shipped weights]")
    draw.add_argument("--samples", type=int, default=10, help="drawings an image [%(default)s]")
    draw.add_argument("--seed", type=int, default=0, help="same seed, same drawings [%(default)s]")
    draw.add_argument("--temperature", type=float, help="of the pen, above 0 to 1 [the model's own]")
    draw.add_argument("--top", type=int, default=10, help="candidates listed [%(default)s]")
    draw.set_defaults(run=draw_command)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input (one line on stderr), 130 after Ctrl-C."""
    chosen = parser().parse_args(arguments)
    try:
        return chosen.run(chosen)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def draw_command(chosen) -> int:
    problems = [f"--samples is {chosen.samples}; give 1 to 1000" if not 1 <= chosen.samples <= 1000 else "",
                f"--top is {chosen.top}; give 1 or more" if chosen.top < 1 else "",
                f"--temperature is {chosen.temperature}; give a number above 0 and up to 1"
                if chosen.temperature is not None and not 0 < chosen.temperature <= 1 else "",
                f"--seed is {chosen.seed}; give 0 to {2**31 - 1}" if not 0 <= chosen.seed < 2**31 else ""]
    for problem in filter(None, problems):
        return fail(problem)
    from transfer.images import ImageError, load_image

    loaded, failed = [], 0
    for path in chosen.images:
        try:
            loaded.append((path, load_image(path)))
        except ImageError as error:
            failed = fail(str(error))
    if not loaded:
        return failed
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
        if not os.access(chosen.out, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        return fail(f"{chosen.out}: cannot write there ({error.strerror}); choose another folder with --out")

    import numpy as np

    keep_compiled()
    from tqdm import tqdm

    from transfer.pipeline import KuzushijiTransfer
    from transfer.weights import WeightsError

    try:
        model = KuzushijiTransfer.load(chosen.weights)
    except WeightsError as error:
        return fail(str(error))
    stems = unique_stems([path for path, _ in loaded])
    bar = tqdm(total=len(loaded), unit="image", disable=None if len(loaded) > 8 else True, file=sys.stderr)
    with bar:
        for at in range(0, len(loaded), 32):
            part = loaded[at:at + 32]
            results = model.transfer(np.stack([image for _, image in part]), chosen.samples, chosen.seed, chosen.temperature, chosen.top)
            for (path, _), stem, result in zip(part, stems[at:], results):
                try:
                    save(result, chosen.out / stem, path, chosen, model)
                except OSError as error:
                    return fail(f"{chosen.out / stem}: cannot be written ({error.strerror}); free some space or choose another --out")
                best = "  ".join(f"{character} {100 * p:.0f}%" for character, p in result.candidates[:5])
                bar.write(f"{path} -> {chosen.out / stem}.svg   {best}")
                bar.update()
    return failed


def fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def unique_stems(paths: list[Path]) -> list[str]:
    """File stems, numbered where two inputs share one: a.png, b/a.png -> a, a-2."""
    seen: dict[str, int] = {}
    stems = []
    for path in paths:
        number = seen[path.stem] = seen.get(path.stem, 0) + 1
        stems.append(path.stem if number == 1 else f"{path.stem}-{number}")
    return stems


def save(result, base: Path, source: Path, chosen, model) -> None:
    """Write base.svg, base.json and base.png, each whole or not at all."""
    from transfer.sheet import save_sheet

    write(base.with_name(base.name + ".svg"), result.svg())
    described = {
        "image": str(source),
        "candidates": [{"character": c, "code_point": f"U+{ord(c):04X}", "probability": round(p, 6)} for c, p in result.candidates],
        "drawings": [{"character": character, "score": round(float(score), 4),
                      "strokes": [[[round(float(v), 2) for v in point] for point in stroke] for stroke in strokes]}
                     for character, score, strokes in zip(result.written, result.scores, result.strokes)],
        "box": 109, "seed": chosen.seed, "temperature": chosen.temperature or model.sketch_config.temperature,
    }
    write(base.with_name(base.name + ".json"), json.dumps(described, ensure_ascii=False, indent=1) + "\n")
    save_sheet(result, base.with_name(base.name + ".png"))


def write(path: Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def keep_compiled() -> None:
    """Let XLA keep what it compiled in the user's cache: the second run starts in a fraction of the time."""
    import jax
    from platformdirs import user_cache_path

    jax.config.update("jax_compilation_cache_dir", str(user_cache_path("kuzushiji") / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
