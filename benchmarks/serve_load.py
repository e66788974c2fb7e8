"""Load on the web server: 8 clients send 500 pictures; every answer is compared with what the model
gives that picture alone.

    pip install ".[serve]"
    python benchmarks/serve_load.py                         # a few minutes on two cores
    python benchmarks/serve_load.py --images 60 --clients 4

The pictures are the eight examples, scaled, turned and cropped at random and saved as PNG or JPEG,
and brush strokes drawn at random. Each client sends its next picture as soon as it has an answer,
so that clients - 1 requests are always waiting. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]


def pictures(number: int, seed: int) -> list[bytes]:
    """Files of `number` different pictures: three of four from the examples, one of four
    synthetic."""
    random = np.random.default_rng(seed)
    sources = [Image.open(path) for path in sorted((ROOT / "examples").glob("*.png"))]
    made = []
    for i in range(number):
        picture = strokes(random) if i % 4 == 3 else varied(sources[i % len(sources)], random)
        file = io.BytesIO()
        if i % 3 == 0:
            picture.convert("RGB").save(file, "JPEG", quality=88)
        else:
            picture.save(file, "PNG")
        made.append(file.getvalue())
    return made


def varied(source: Image.Image, random: np.random.Generator) -> Image.Image:
    ground = Image.new("RGBA", source.size, "white")
    picture = Image.alpha_composite(ground, source.convert("RGBA")).convert("RGB")
    scale = random.uniform(0.4, 2.5)
    size = tuple(max(16, round(s * scale)) for s in picture.size)
    picture = picture.resize(size, Image.Resampling.BICUBIC).rotate(
        random.uniform(-6, 6),
        Image.Resampling.BICUBIC,
        fillcolor=picture.getpixel((picture.width // 2, 3)),
    )
    left, top, right, bottom = random.uniform(0, 0.06, 4)
    return picture.crop(
        (
            round(left * size[0]),
            round(top * size[1]),
            round((1 - right) * size[0]),
            round((1 - bottom) * size[1]),
        )
    )


def strokes(random: np.random.Generator) -> Image.Image:
    picture = Image.new("L", (256, 256), 0)
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(2, 9)):
        points = random.uniform(20, 236, (random.integers(2, 4), 2))
        pen.line(
            [tuple(p) for p in points], fill=255, width=int(random.integers(8, 20)), joint="curve"
        )
    return picture.resize((64, 64), Image.Resampling.LANCZOS)


def memory(process: int) -> tuple[float, float]:
    """Resident memory now and at most, MB; NaN where the system does not say."""
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return float("nan"), float("nan")
    return tuple(
        int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1000 for name in ("VmRSS", "VmHWM")
    )


def ask(address: tuple[str, int], content: bytes, seed: int) -> tuple[bytes, float, int]:
    """The answer, the seconds until it was there, and how often the server was too busy."""
    start, refused = time.perf_counter(), 0
    while True:
        connection = http.client.HTTPConnection(*address, timeout=600)
        connection.request("POST", f"/api/transfer?seed={seed}", content)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 503:
            break
        refused += 1
        time.sleep(int(response.headers["Retry-After"]))
    if response.status != 200:
        raise SystemExit(f"the server answered {response.status}: {body.decode()}")
    return body, time.perf_counter() - start, refused


def right(made: list[bytes], answers: list[bytes], weights: Path | None) -> int:
    """How many answers are, byte for byte, what the model gives that picture in this process."""
    from transfer.inference.images import read_image
    from transfer.inference.loading import load_model
    from transfer.web.answer import answer, encode

    model, count = load_model(weights), 0
    for i, (content, found) in enumerate(zip(made, answers, strict=True)):
        read = read_image(content)
        [result] = model.transfer(read.image, seed=i)
        count += found == encode(answer(result, read, i, model.temperature))
    return count


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--images", type=int, default=500)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--seed", type=int, default=0, help="random seed of the pictures")
    options.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder of runs or weights [the shipped weights]",
    )
    chosen = options.parse_args()
    made = pictures(chosen.images, chosen.seed)
    command = [sys.executable, "-m", "transfer", "serve", "--port", "0"] + (
        ["--weights", str(chosen.weights)] if chosen.weights else []
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as server:
        try:
            found = re.search(r"http://([\d.]+):(\d+)/", server.stdout.readline())
            if not found:
                raise SystemExit("the server did not start")
            address = found[1], int(found[2])
            ask(address, made[0], 0)
            before, _ = memory(server.pid)
            start = time.perf_counter()
            with ThreadPoolExecutor(chosen.clients) as pool:
                answers, seconds, refused = zip(
                    *pool.map(lambda i: ask(address, made[i], i), range(chosen.images))
                )
            took = time.perf_counter() - start
            after, most = memory(server.pid)
        finally:
            server.terminate()
    correct = right(made, answers, chosen.weights)
    ordered = sorted(seconds)
    print(
        f"{chosen.images} pictures, {chosen.clients} clients, 10 drawings each, {os.cpu_count()}"
        f" cores\nright answers       {correct} of {chosen.images}\nturned away first  "
        f" {sum(refused)}\nlatency, p50        {statistics.median(ordered):.2f} s\nlatency, p95    "
        f"    {ordered[int(0.95 * (len(ordered) - 1))]:.2f} s\nthroughput         "
        f" {chosen.images / took:.2f} pictures a second\nresident memory     {before:.0f} MB"
        f" before, {after:.0f} MB after, {most:.0f} MB at most"
    )
    return 0 if correct == chosen.images else 1


if __name__ == "__main__":
    raise SystemExit(main())
