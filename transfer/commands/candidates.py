"""`kuzushiji-transfer candidates`: what an image may be read as, with probabilities and reading
aids, as a table."""

from __future__ import annotations

import json

from transfer.commands import arguments
from transfer.inference import loading
from transfer.system.entry import fail

EXAMPLES = """  kuzushiji-transfer candidates page.jpg
  kuzushiji-transfer candidates scans --top 3
  kuzushiji-transfer candidates - --json < page.jpg
  kuzushiji-transfer candidates page.jpg --json --old-hands 2
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "candidates",
        run,
        "list the likeliest kanji of images",
        "List the likeliest kanji of each image of one character: code point, calibrated "
        "probability, stroke count, radical and\n"
        "components (their own components in brackets; from KanjiVG, (c) Ulrich Apel, CC BY-SA "
        "3.0). The command writes no files.",
        EXAMPLES,
    )
    arguments.images(parser)
    arguments.weights(parser)
    arguments.top(parser)
    arguments.forms(parser)
    arguments.jobs(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of tables"
    )
    parser.add_argument(
        "--old-hands",
        type=arguments.integer(0, 4),
        metavar="N",
        help="with --json, pictures of each candidate as old hands wrote it, painted by the model, "
        "the nearest first [4]",
    )


def run(chosen) -> int:
    from transfer.inference import batch
    from transfer.output.formats import candidates, kana, old_hands
    from transfer.reading_aids import aid
    from transfer.training.weights import WeightsError

    if chosen.images.count("-") > 1:
        return fail("- stands for standard input, which can be read once; give it once")
    if chosen.old_hands is not None and not chosen.json:
        return fail("--old-hands are pictures, which a table cannot show; give --json too")
    model, images, errors = None, [], []
    for pictures in batch.read_all(arguments.sources(chosen.images), chosen.jobs, processes=True):
        if model is None and any(picture.error is None for picture in pictures):
            try:
                model = loading.load_model(chosen.weights)
            except WeightsError as error:
                return fail(str(error))
        for picture, result in zip(
            pictures,
            batch.transfer_pictures(model, pictures, samples=0, top=chosen.top, forms=chosen.forms),
        ):
            if picture.error is not None:
                fail(str(picture.error))
                errors.append({"image": picture.source, "error": str(picture.error)})
                continue
            listed = [
                {
                    **c,
                    "strokes": a and a.strokes,
                    "radical": a and a.radical,
                    "components": a and a.components,
                }
                for c in candidates(result)
                for a in [aid(c["character"])]
            ]
            if chosen.json and chosen.old_hands != 0:
                for candidate, hands in zip(listed, result.old_hands):
                    candidate["old_hands"] = old_hands(hands[: chosen.old_hands])
            described = {
                "image": picture.source,
                "verdict": result.verdict,
                "note": result.note,
                "candidates": listed,
                "kana": kana(result),
            }
            images.append(described)
            if not chosen.json:
                show(described)
    if chosen.json:
        print(json.dumps({"images": images, "errors": errors}, ensure_ascii=False, indent=1))
    return 2 if errors else 0


def show(described: dict) -> None:
    """One image's table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    note = f" ({described['note']})" if described["note"] else ""
    if described["verdict"] == "kana":
        note = f", perhaps {printable(described['kana']['character'], console.encoding)}{note}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (
        ("rank", "right"),
        ("kanji", "left"),
        ("code point", "left"),
        ("probability", "right"),
        ("strokes", "right"),
        ("radical", "left"),
        ("components", "left"),
        ("other forms", "left"),
    ):
        table.add_column(name, justify=justify)
    for rank, c in enumerate(described["candidates"], 1):
        kanji, radical, components = (
            printable(c[name] or "", console.encoding)
            for name in ("character", "radical", "components")
        )
        others = (f"{f['character']} {100 * f['probability']:.1f} %" for f in c["forms"])
        table.add_row(
            *map(
                Text,
                (
                    str(rank),
                    kanji,
                    c["code_point"],
                    f"{100 * c['probability']:.1f} %",
                    str(c["strokes"] or ""),
                    radical,
                    components,
                    printable("  ".join(others), console.encoding),
                ),
            )
        )
    with (
        console.capture() as shown
    ):  # printed by rich itself, it would end the process where the reader has left
        console.print(
            Text(f"{described['image']}: {described['verdict']}{note}", style="bold"),
            soft_wrap=True,
        )
        console.print(table)
    print(shown.get(), end="")


def printable(text: str, encoding: str) -> str:
    """The text with what the terminal's encoding lacks by code point: 厂(白), or U+5382(U+767D)."""
    return "".join(c if c.encode(encoding, "ignore") else f"U+{ord(c):04X}" for c in text)
