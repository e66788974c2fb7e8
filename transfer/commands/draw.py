"""`kuzushiji-transfer draw`: pictures of characters -> drawings, candidates and sheets, as
files."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from transfer.commands import arguments
from transfer.inference import loading
from transfer.output import formats
from transfer.output.formats import FORMATS, describe, quickdraw_lines
from transfer.system.entry import ESCAPED, fail
from transfer.system.files import atomic_write

EXAMPLES = """  kuzushiji-transfer draw examples/*.png --out drawings
  kuzushiji-transfer draw page.jpg --samples 20 --seed 7 --weights runs/small
  kuzushiji-transfer draw scans 'more/**/*.tif' --format svg,ndjson --jobs 8
  kuzushiji-transfer draw hana.png --format svg --animate --uncertainty
  curl -s https://example.org/kanji.jpg | kuzushiji-transfer draw - --json --format none
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "draw",
        run,
        "draw the modern kanji of images",
        "Read each image of one character, and draw its kanji. Each image gets <stem>.svg (the "
        "best drawing, in KanjiVG's structure),\n"
        "<stem>.json (candidates and all drawings) and <stem>.png (a sheet of every step). "
        "--format adds <stem>.pdf (the drawing as\n"
        "a page), <stem>.npz (all arrays) and one drawings.ndjson (all drawings of all images, in "
        "QuickDraw's format).",
        EXAMPLES,
    )
    arguments.images(parser)
    arguments.out(parser, "drawings")
    parser.add_argument(
        "--format",
        type=chosen_formats,
        default=("svg", "json", "png"),
        metavar="LIST",
        help=f"any of {','.join(FORMATS)}; none writes no files [svg,json,png]",
    )
    arguments.weights(parser)
    arguments.samples(parser)
    arguments.seed(parser, "the same seed gives the same drawings [%(default)s]")
    parser.add_argument(
        "--temperature",
        type=arguments.temperature,
        metavar="T",
        help="how freely the pen moves, above 0 and up to 1 [the model's own]",
    )
    arguments.top(parser)
    arguments.forms(parser)
    parser.add_argument(
        "--animate", action="store_true", help="make SVGs that draw themselves in stroke order"
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="make strokes fainter where plausible readings differ (SVG, PDF)",
    )
    arguments.jobs(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead of a line for each image",
    )
    arguments.loudness(parser)


def chosen_formats(text: str) -> tuple[str, ...]:
    """An argument's type: "svg,png", or "none"."""
    if text == "none":
        return ()
    chosen = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    unknown = [part for part in chosen if part not in FORMATS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FORMATS)}, none")
    return chosen


class Stopped(Exception):
    """The work cannot go on; the message is one line."""


def run(chosen) -> int:
    if chosen.images.count("-") > 1:
        return fail("- stands for standard input, which can be read once; give it once")
    try:
        with progress(chosen) as bar:
            images, errors = work(chosen, bar)
    except Stopped as stopped:
        return fail(str(stopped))
    if chosen.json:
        document = {
            "images": images,
            "errors": errors,
            "seed": chosen.seed,
            "samples": chosen.samples,
        }
        print(json.dumps(document, ensure_ascii=False, indent=1))
    return 2 if errors else 0


def work(chosen, bar) -> tuple[list[dict], list[dict]]:
    """Read, draw and write everything; returns what --json prints of the images, and of those that
    cannot be used. Raises Stopped."""
    from transfer.inference import batch

    started, model, lines, images, errors = time.monotonic(), None, None, [], []
    names, counts = Names(), dict.fromkeys(("sure", "not sure", "kana", "not a kanji"), 0)
    with ExitStack() as stack:
        writers = stack.enter_context(ThreadPoolExecutor(chosen.jobs))
        for pictures in batch.read_all(counted(chosen.images, bar), chosen.jobs, processes=True):
            for picture in (p for p in pictures if p.error is not None):
                bar.write(f"error: {picture.error}", file=sys.stderr)
                bar.update()
                errors.append({"image": picture.source, "error": str(picture.error)})
            pictures = [picture for picture in pictures if picture.error is None]
            if not pictures:
                continue
            if model is None:
                model = ready(chosen)
                if chosen.verbose:
                    bar.write(
                        f"weights: {model.folder}; ready after {time.monotonic() - started:.1f} s",
                        file=sys.stderr,
                    )
                if "ndjson" in chosen.format:
                    part = stack.enter_context(atomic_write(chosen.out / "drawings.ndjson"))
                    lines = stack.enter_context(part.open("w", encoding="utf-8", errors=ESCAPED))
            results = batch.transfer_pictures(
                model,
                pictures,
                chosen.samples,
                chosen.seed,
                chosen.temperature,
                chosen.top,
                chosen.forms,
            )
            about = {"seed": chosen.seed, "temperature": chosen.temperature or model.temperature}
            bases = [chosen.out / names.new(Path(picture.source).stem) for picture in pictures]
            tasks = [
                writers.submit(save, result, base, {"image": picture.source} | about, chosen)
                for picture, base, result in zip(pictures, bases, results)
            ]
            for picture, base, result, task in zip(pictures, bases, results, tasks):
                try:
                    files = task.result()
                    if lines is not None:
                        lines.writelines(quickdraw_lines(result, base.name))
                except OSError as error:
                    for other in tasks:
                        other.cancel()
                    raise Stopped(
                        f"{base}: cannot be written ({error.strerror or error}); free some space or"
                        " choose another --out"
                    ) from None
                counts[result.verdict] += 1
                if chosen.json:
                    images.append(
                        {"image": picture.source, "files": [str(file) for file in files]}
                        | describe(result)
                    )
                elif not chosen.quiet:
                    bar.write(
                        f"{picture.source}{f' -> {files[0]}' if files else ''}  "
                        f" {arguments.judgement(result)}",
                        file=sys.stdout,
                    )
                bar.update()
    if chosen.verbose:
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        print(
            f"{sum(counts.values())} images ({said}), {len(errors)} that cannot be used, in"
            f" {time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )
    return images, errors


def ready(chosen):
    """The model, loaded, and the output folder, made. Raises Stopped."""
    from transfer.training.weights import WeightsError

    try:
        model = loading.load_model(chosen.weights)
    except WeightsError as error:
        raise Stopped(str(error)) from None
    model.prepare()
    if chosen.format and (problem := arguments.make_folder(chosen.out)):
        raise Stopped(problem)
    return model


def progress(chosen):
    """The progress bar: only on a terminal, and only if there is something to wait for."""
    from tqdm import tqdm

    several = len(chosen.images) > 8 or any(
        name != "-" and (Path(name).is_dir() or "*" in name) for name in chosen.images
    )
    return tqdm(
        total=0,
        unit="image",
        disable=None if several and not chosen.quiet else True,
        file=sys.stderr,
    )


def counted(names: list[str], bar) -> Iterator:
    """The sources; the bar counts them as they are found."""
    for source in arguments.sources(names):
        bar.total = (bar.total or 0) + 1
        yield source


def save(result, base: Path, about: dict, chosen) -> list[Path]:
    """Write base.svg, base.json, …, each whole or not at all; runs in a thread."""
    return [
        formats.save(
            result, base.with_name(f"{base.name}.{kind}"), chosen.animate, chosen.uncertainty, about
        )
        for kind in chosen.format
        if kind != "ndjson"
    ]


class Names:
    """Stems for the results, all different, also on file systems where a and A are the same: a.png,
    b/a.png -> a, a-2."""

    def __init__(self):
        self.used: set[str] = set()

    def new(self, stem: str) -> str:
        name, number = stem, 1
        while name.casefold() in self.used:
            number += 1
            name = f"{stem}-{number}"
        self.used.add(name.casefold())
        return name
