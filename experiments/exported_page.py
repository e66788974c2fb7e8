"""Compare the exported page with Python: the same pictures go through both, and every answer is
compared.

    pip install ".[export]" playwright
    kuzushiji-transfer export site
    python experiments/exported_page.py site                # the examples and the built-in sample
    python experiments/exported_page.py site --data DIR     # val images, disturbed in many ways
    python experiments/exported_page.py site --samples 10   # drawings, too
    python experiments/exported_page.py site --times        # times and memory alone

The pictures are the eight examples, images of the built-in sample corpus, and pages made of the
examples (or of val images), disturbed as `disturbances.py` does it. Headless Chromium ($CHROMIUM,
else the one that is installed) opens the folder from a server on this machine; every other address
is blocked. Sizes, times and memory are those of this machine.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import http.server
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import disturbances
import numpy as np
from PIL import Image
from tqdm import tqdm

from transfer import KuzushijiTransfer
from transfer.data import corpus as corpora
from transfer.data import sample
from transfer.inference.images import ImageError, Reading, read_image
from transfer.web.answer import answer

ROOT = Path(__file__).parents[1]
READINGS = 6
"""How many readings with ten drawings are timed."""
UNREADABLE = ("CMYK TIFF", "HEIC")
"""Formats that browsers do not show."""
ASK = """async ([text, settings]) => {
    const {transfer} = await import('/static/engine.js');
    const blob = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
    const begun = performance.now();
    try {
        const answer = await transfer(blob, settings, new AbortController().signal, () => {});
        return [answer, performance.now() - begun];
    } catch (error) {
        return [{refused: error.key + ' ' + error.detail}, performance.now() - begun];
    }
}"""

HANDS = """async ([text, of]) => {
    const {oldHands} = await import('/static/engine.js');
    const blob = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
    const begun = performance.now();
    await oldHands(blob, of);
    return performance.now() - begun;
}"""


def pictures(data: Path | None, drawn: int, disturbed: int) -> Iterator[tuple[str, bytes]]:
    """Kind and file of each picture."""
    examples = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.png"))]
    yield from (("examples", content) for content in examples)
    png = lambda image: disturbances.encoded(Image.fromarray(image), "PNG")
    characters = sorted(sample.class_sizes())
    for i in range(drawn):
        yield "sample corpus", png(sample.render(characters[i % len(characters)], i))
    images = [read_image(content).image for content in examples]
    if data is not None:
        corpus = corpora.load(data, quiet=True)
        chosen = np.random.default_rng(0).permutation(corpus.old.indices("val"))[:disturbed]
        images = [np.array(corpus.old.images[i]) for i in np.sort(chosen)]
        yield from (("val", png(image)) for image in images)
    pages = [disturbances.page_of(image) for image in images]
    for number, (name, disturb) in enumerate(disturbances.KINDS.items()):
        if name in UNREADABLE:
            continue
        rng = np.random.default_rng([0, number])
        for i, page in enumerate(pages):
            made = disturb(rng, page, pages[i - 1])
            made = Image.fromarray(made) if isinstance(made, np.ndarray) else made
            yield name, made if isinstance(made, bytes) else disturbances.encoded(made, "PNG")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `python -m http.server` for a folder, while it is used."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def opened(address: str) -> Iterator[tuple]:
    """A page in a browser that can reach nothing else, and the seconds until its models are
    ready."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(locale="en-GB")
        page.route(
            "**/*",
            lambda route: (
                route.continue_() if route.request.url.startswith(address) else route.abort()
            ),
        )
        begun = time.monotonic()
        page.goto(address)
        page.wait_for_selector("html[data-engine]", timeout=120_000)
        yield page, time.monotonic() - begun
        browser.close()


def renderers() -> tuple[float, float]:
    """The most MB that a page's process has held at once, and the CPU seconds of all page
    processes, for all browsers on this machine (Linux; else NaN)."""
    most, spent = float("nan"), 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" not in (folder / "cmdline").read_bytes():
                continue
            [line] = re.findall(r"VmHWM:\s+(\d+)", (folder / "status").read_text("utf-8"))
            ticks = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
        except (OSError, ValueError):
            continue  # it has ended
        most = float(np.nanmax([most, int(line) / 1000]))
        spent += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return most, spent


def compare(found: dict, wanted: dict) -> dict:
    """Differences of the browser's answer from Python's."""
    if "refused" in found:
        return {"refused": 1.0}
    pixels = np.abs(np.subtract(found["image"], wanted["image"]))
    mine, theirs = (
        {c["character"]: c["probability"] for c in x["candidates"]} for x in (found, wanted)
    )
    first, best = (x["candidates"][0]["character"] for x in (found, wanted))
    strokes = [apart(*pair) for pair in zip(by_sample(found), by_sample(wanted))]
    return {
        "refused": 0.0,
        "pixels": float(pixels.mean()),
        "another first candidate": float(first != best),
        "probability": max(abs(p - theirs[c]) for c, p in mine.items() if c in theirs),
        "another verdict": float(found["verdict"] != wanted["verdict"]),
        "strokes": strokes,
    }


def apart(mine: dict, theirs: dict) -> float:
    """How many units the points of two drawings are apart at most; infinite if they are of other
    kanji or have another number of strokes."""
    if mine["character"] != theirs["character"] or len(mine["strokes"]) != len(theirs["strokes"]):
        return np.inf
    return max(np.abs(np.subtract(a, b)).max() for a, b in zip(mine["strokes"], theirs["strokes"]))


def by_sample(answered: dict) -> list[dict]:
    return sorted(answered["drawings"], key=lambda drawing: drawing["sample"])


def python(weights: Path | None, contents: list[bytes], samples: int) -> list[dict | None]:
    """Python's answers; None for a picture that it refuses."""
    model = KuzushijiTransfer.load(weights)
    reads: list[Reading | None] = []
    for content in contents:
        try:
            reads.append(read_image(content))
        except ImageError:
            reads.append(None)
    images = np.stack([read.image for read in reads if read])
    results = iter(model.transfer(images, samples) if samples else model.read(images))
    return [answer(next(results), read, 0, model.temperature) if read else None for read in reads]


def row(kind: str, rows: list[dict]) -> str:
    """A line of the table."""
    of = lambda name: np.array([r[name] for r in rows if name in r])
    percent = lambda name: f"{100 * of(name).mean():.1f} %" if len(of(name)) else ""
    strokes = np.array([x for r in rows for x in r.get("strokes", ())])
    most = lambda values, digits: f"{values.max():.{digits}f}" if len(values) else ""
    mean = f"{of('pixels').mean():.3f}" if len(of("pixels")) else ""
    over = f"{(strokes > 1).sum()} of {len(strokes)}" if len(strokes) else ""
    return (
        f"| {kind} | {len(rows)} | {percent('refused')} | {mean} | {most(of('pixels'), 2)} |"
        f" {percent('another first candidate')} | {most(of('probability'), 4)} |"
        f" {percent('another verdict')} | {over} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="what `kuzushiji-transfer export` wrote")
    parser.add_argument("--data", type=Path, help="data folder [the examples are disturbed]")
    parser.add_argument("--sample", type=int, default=200, help="images of the built-in sample")
    parser.add_argument("--disturbed", type=int, default=16, help="val images")
    parser.add_argument("--samples", type=int, default=0, help="drawings of each [none]")
    parser.add_argument("--times", action="store_true", help="compare nothing")
    parser.add_argument("--weights", type=Path, help="those of the export [the shipped ones]")
    chosen = parser.parse_args()
    made = list(pictures(chosen.data, chosen.sample, chosen.disturbed)) if not chosen.times else []
    found, times = [], []
    with served(chosen.folder) as address, opened(address) as (page, loading):
        memory, begun = renderers()
        text = base64.b64encode((ROOT / "examples" / "hana_U+82B1.png").read_bytes()).decode()
        for seed in range(READINGS):
            answered, took = page.evaluate(ASK, [text, {"samples": 10, "seed": seed}])
            times.append(took)
        _, spent = renderers()
        of = "".join(candidate["character"] for candidate in answered["candidates"])
        hands = page.evaluate(HANDS, [text, of])
        memory, _ = renderers()
        for _, content in tqdm(made, file=sys.stderr, mininterval=20):
            text = base64.b64encode(content).decode()
            found.append(page.evaluate(ASK, [text, {"samples": chosen.samples, "seed": 0}])[0])
    if made:
        table(made, found, python(chosen.weights, [content for _, content in made], chosen.samples))
    sizes = [p.stat().st_size for p in (chosen.folder / "models").iterdir()]
    print(
        f"models {sum(sizes) / 1e6:.1f} MB; ready {loading:.1f} s after the page was asked for;\n"
        f"a reading with ten drawings: first {times[0] / 1000:.2f} s, median"
        f" {np.median(times) / 1000:.2f} s, slowest {max(times) / 1000:.2f} s,"
        f" {(spent - begun) / READINGS:.2f} s of CPU time; old hands of its candidates"
        f" {hands / 1000:.2f} s;\n"
        f"loading took {begun:.1f} s of CPU time; at most {memory:.0f} MB in the page's process"
    )
    return 0


def table(made: list[tuple[str, bytes]], found: list[dict], wanted: list[dict | None]) -> None:
    """Print what differs, a line for each kind of picture."""
    kinds: dict[str, list[dict]] = {}
    both = 0
    for (kind, _), mine, theirs in zip(made, found, wanted):
        if theirs is None and "refused" in mine:
            both += 1
            continue
        kinds.setdefault(kind, []).append(compare(mine, theirs) if theirs else {"refused": 1.0})
    print(
        "| pictures | number | refused by one | 64x64, mean difference of 255 | its largest |"
        " another first candidate | probability, largest difference | another verdict |"
        " drawings off by more than 1 unit |\n|---|---|---|---|---|---|---|---|---|"
    )
    for kind, rows in kinds.items():
        print(row(kind, rows))
    print(row("**all**", [r for rows in kinds.values() for r in rows]))
    print(f"\n{both} more pictures are refused by both.\n")


if __name__ == "__main__":
    sys.exit(main())
