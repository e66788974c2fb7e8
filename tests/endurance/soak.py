"""The server, or the model alone, at work for a long time: does memory stay flat, and is every
answer the right kind?

    pip install ".[serve]"
    python tests/endurance/soak.py --minutes 120    # the server under mixed load, bad inputs too
    python tests/endurance/soak.py --drawings 10000 # 10,000 drawings in one process

The server gets, from several clients at once and in an order that --seed decides: pictures as
`benchmarks/serve_load.py` makes them, and one time in three something bad: nothing, text, cut and
spoiled files, pictures that claim too many pixels, blank paper, too much at once, wrong numbers,
forms without files, other sites' origins, paths out of the static folder, and clients that hang up.
soak.json has the counts of answers by their status, those that are not the one expected, latencies,
and the process's memory, sampled all the time; of the drawings from when every size of batch has
been compiled, which a random order would come to late. The exit code is 1 if an answer was wrong,
or if memory in the last tenth exceeds that of the second tenth by more than --growth MB.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from serve_load import memory, pictures

LIMIT = 20_000_000  # bytes of an upload that the server takes


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is large."""
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def bad(rng: np.random.Generator, good: bytes) -> tuple[str, str, dict, bytes, tuple[int, ...]]:
    """(method, path, headers, body, the status codes that are right) of a request that must be
    refused, or may be."""
    form = {"content-type": "multipart/form-data; boundary=x"}
    spoiled = bytearray(good)
    for at in rng.integers(0, len(good), 20):
        spoiled[at] = int(rng.integers(256))
    kinds = [
        ("POST", "/api/transfer", {}, b"", (400,)),
        ("POST", "/api/transfer", {}, "神".encode() * 99, (415,)),
        ("POST", "/api/transfer", {}, good[: len(good) // 3], (200, 400, 415)),
        ("POST", "/api/transfer?samples=2", {}, bytes(spoiled), (200, 400, 413, 415)),
        ("POST", "/api/transfer", {}, claiming(60_000, 60_000), (413,)),
        ("POST", "/api/transfer", {}, claiming(9_000, 9_000), (400,)),
        ("POST", "/api/transfer", {}, bytes(LIMIT + 1), (413,)),
        ("POST", "/api/transfer?samples=0", {}, good, (400,)),
        ("POST", "/api/transfer?pixels=1", {}, good, (400,)),
        ("POST", "/api/transfer?pixels=1&samples=1", {}, rng.bytes(4096), (200,)),
        (
            "POST",
            "/api/transfer",
            form,
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhi\r\n--x--\r\n',
            (400,),
        ),
        ("POST", "/api/transfer", form, rng.bytes(500), (400,)),
        ("POST", "/api/transfer", {"origin": "https://evil.example"}, good, (403,)),
        ("POST", "/api/transfer", {"origin": "http://["}, good, (403,)),
        ("GET", "/static/../server.py", {}, b"", (404,)),
        ("GET", "/static/%2e%2e/%2e%2e/weights.py", {}, b"", (404,)),
        ("GET", "/" + "a" * 4000, {}, b"", (404,)),
        ("DELETE", "/api/transfer", {}, b"", (405,)),
        ("GET", "/api/health", {"host": "evil.example"}, b"", (400,)),
        ("GET", "/api/health", {}, b"", (200,)),
        ("GET", "/", {}, b"", (200,)),
        ("GET", "/api/examples", {}, b"", (200,)),
        ("HANG", "/api/transfer", {}, good, ()),
    ]
    return kinds[int(rng.integers(len(kinds)))]


def ask(address: tuple[str, int], method: str, path: str, headers: dict, body: bytes) -> int:
    """The answer's status, 0 for a client that hangs up without waiting for one."""
    connection = http.client.HTTPConnection(*address, timeout=600)
    try:
        connection.request("POST" if method == "HANG" else method, path, body or None, headers)
        if method == "HANG":
            return 0
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


class Report:
    """What has been seen, by several threads."""

    def __init__(self):
        self.lock, self.start = threading.Lock(), time.monotonic()
        self.status, self.wrong, self.seconds, self.samples = {}, [], [], []

    def answered(self, what: str, status: int, expected: tuple[int, ...], seconds: float) -> None:
        with self.lock:
            self.status[str(status)] = self.status.get(str(status), 0) + 1
            if status == 200:
                self.seconds.append(seconds)
            if expected and status not in (*expected, 503) and len(self.wrong) < 100:
                self.wrong.append(f"{what}: {status} instead of {expected}")

    def sample(self, megabytes: float) -> None:
        self.samples.append((round(time.monotonic() - self.start, 1), round(megabytes, 1)))

    def growth(self) -> float:
        """Mean of the last tenth of the samples less that of the second tenth, MB: the first has
        what is made once."""
        values = [value for _, value in self.samples]
        tenth = max(1, len(values) // 10)
        return statistics.mean(values[-tenth:]) - statistics.mean(
            values[tenth : 2 * tenth] or values[:1]
        )


def client(
    address, made: list[bytes], seed: int, until: float, pause: float, report: Report, update
) -> None:
    rng = np.random.default_rng(seed)
    while time.monotonic() < until:
        time.sleep(pause * rng.random() * 2)
        good = made[int(rng.integers(len(made)))]
        request = (
            (
                "POST",
                f"/api/transfer?samples={int(rng.integers(1, 11))}&seed={int(rng.integers(1000))}",
                {},
                good,
                (200,),
            )
            if rng.integers(3)
            else bad(rng, good)
        )
        method, path, headers, body, expected = request
        begun = time.monotonic()
        try:
            status = ask(address, method, path, headers, body)
        except OSError as error:
            # Refused while it sends too much, a client may see the connection closed instead of the
            # answer.
            status, expected = (413, expected) if len(body) > LIMIT else (-1, (0,))
            if status < 0:
                report.answered(f"{method} {path} ({type(error).__name__})", status, expected, 0.0)
                continue
        report.answered(f"{method} {path[:80]}", status, expected, time.monotonic() - begun)
        update(1)


def serve(chosen) -> Report:
    """Start the server and let the clients at it."""
    made, report = pictures(64, chosen.seed), Report()
    command = [sys.executable, "-m", "transfer", "serve", "--port", "0"]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as server:
        try:
            found = re.search(r"http://([\d.]+):(\d+)/", server.stdout.readline())
            if not found:
                raise SystemExit("the server did not start")
            address = found[1], int(found[2])
            until = time.monotonic() + 60 * chosen.minutes
            with tqdm(unit="request", disable=None, file=sys.stderr) as bar:
                clients = [
                    threading.Thread(
                        target=client,
                        args=(
                            address,
                            made,
                            1000 * chosen.seed + i,
                            until,
                            chosen.pause,
                            report,
                            bar.update,
                        ),
                    )
                    for i in range(chosen.clients)
                ]
                for thread in clients:
                    thread.start()
                while any(thread.is_alive() for thread in clients):
                    report.sample(memory(server.pid)[0])
                    bar.set_postfix_str(f"{report.samples[-1][1]:.0f} MB")
                    time.sleep(chosen.every)
            if server.poll() is not None:
                report.wrong.append(f"the server ended with {server.returncode}")
        finally:
            server.terminate()
    return report


def draw(chosen) -> Report:
    """Drawings in this process, pages of different pictures, seeds and numbers of samples."""
    from transfer.inference.images import read_image
    from transfer.inference.loading import load_model

    model, report, rng = load_model(None), Report(), np.random.default_rng(chosen.seed)
    images, done = np.stack([read_image(content).image for content in pictures(64, chosen.seed)]), 0
    for some in (
        *images[:, None],
        images,
    ):  # alone and together, one drawing and ten, of few strokes and of many: every size there is
        for samples in (1, 10):
            model.transfer(some, samples=samples)
    with tqdm(total=chosen.drawings, unit="drawing", disable=None, file=sys.stderr) as bar:
        while done < chosen.drawings:
            some, samples = (
                images[rng.choice(64, int(rng.integers(1, 17)), replace=False)],
                int(rng.integers(1, 11)),
            )
            begun = time.monotonic()
            results = model.transfer(some, samples=samples, seed=int(rng.integers(1000)))
            for result in results:
                right = len(result.strokes) == samples and all(
                    np.isfinite(stroke).all() for drawing in result.strokes for stroke in drawing
                )
                report.answered(
                    "a drawing",
                    200 if right else 500,
                    (200,),
                    (time.monotonic() - begun) / len(some),
                )
                result.svg()
            done += len(some) * samples
            bar.update(len(some) * samples)
            now = memory(os.getpid())[0]
            report.sample(
                now if now == now else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            )
    return report


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--minutes", type=float, default=120.0, help="minutes of load on the server [%(default)s]"
    )
    options.add_argument(
        "--drawings",
        type=int,
        metavar="N",
        help="make N drawings in this process, without a server",
    )
    options.add_argument("--clients", type=int, default=4, help="number of clients [%(default)s]")
    options.add_argument(
        "--pause",
        type=float,
        default=0.0,
        metavar="S",
        help="mean seconds a client waits before each request [%(default)s]",
    )
    options.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds between samples of memory [%(default)s]",
    )
    options.add_argument(
        "--growth",
        type=float,
        default=50.0,
        metavar="MB",
        help="growth of memory that still counts as flat [%(default)s]",
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("soak.json"))
    chosen = options.parse_args()
    report = draw(chosen) if chosen.drawings else serve(chosen)
    ordered = sorted(report.seconds) or [float("nan")]
    found = {
        "minutes": round((time.monotonic() - report.start) / 60, 1),
        "answers": sum(report.status.values()),
        "by status": report.status,
        "wrong": report.wrong,
        "p50 s": round(statistics.median(ordered), 3),
        "p99 s": round(ordered[int(0.99 * (len(ordered) - 1))], 3),
        "MB at the start": report.samples[0][1],
        "MB at most": max(v for _, v in report.samples),
        "MB at the end": report.samples[-1][1],
        "growth MB": round(report.growth(), 1),
        "drawings": chosen.drawings,
        "seed": chosen.seed,
    }
    chosen.out.write_text(
        json.dumps(found | {"memory (s, MB)": report.samples}, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    print(json.dumps(found, indent=1, ensure_ascii=False))
    return 1 if report.wrong or report.growth() > chosen.growth else 0


if __name__ == "__main__":
    sys.exit(main())
