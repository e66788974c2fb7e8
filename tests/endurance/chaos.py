"""Kill everything that runs for long, at random moments, and see whether anything is lost.

    python tests/endurance/chaos.py --kills 100 --seed 0             # every job, hours on two cores
    python tests/endurance/chaos.py --kills 5 --jobs prepare download # a few minutes

A job is a command of the project on the built-in sample corpus: training of each stage with tiny
settings (a checkpoint after every step), `prepare`, `download` (from a slow server that this script
starts on the loopback address) and `draw` on a folder of pictures. It runs once unbroken. Then it
is started, killed with SIGKILL after a random part of that time, and started again, up to
--in-a-row times, before it may finish. After every kill, each result that is there must be whole,
and equal that of the unbroken run bit for bit. In the end all of them must be there. chaos.json has
the counts of the finished jobs. The exit code is 1 if anything was lost, half written or stuck.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1800.0  # seconds for a run that is left alone


@dataclass(frozen=True)
class Job:
    """before: makes the folder in which `command` runs. results: the patterns of the files that
    must be the same in the end; a whole folder of them where `together` names it: then they appear
    all at once."""

    command: list[str]
    before: Callable[[Path], None]
    results: tuple[str, ...]
    together: str = ""


def script(name: str, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "experiments" / name),
        "--preset",
        "tiny",
        "--runs",
        "runs",
        "--data",
        "data",
        "--checkpoint-seconds",
        "0",
        *more,
    ]


def jobs(work: Path, url: str, steps: int) -> dict[str, Job]:
    """All jobs by name. work: holds `data`, the sample corpus prepared, and `runs`, its trained
    stages as far as they are there."""

    def training(*upstream: str) -> Callable[[Path], None]:
        def before(folder: Path) -> None:
            (folder / "data").symlink_to(work / "data")
            for name in upstream:
                shutil.copytree(
                    work / "runs" / name / "weights", folder / "runs" / name / "weights"
                )

        return before

    def published(folder: Path) -> None:
        (folder / "data").mkdir()
        for path in (work / "data").iterdir():
            if path.is_file():
                shutil.copy(path, folder / "data")

    def pictures(folder: Path) -> None:
        (folder / "scans").mkdir()
        for i in range(2):
            for path in sorted((ROOT / "examples").glob("*.png")):
                shutil.copy(path, folder / "scans" / f"{path.stem}-{i}.png")

    few = ("--steps", str(steps), "--batch", "8")
    data, draw = (
        [sys.executable, "-m", "transfer.data"],
        [sys.executable, "-m", "transfer", "draw", "scans", "--out", "drawings", "--samples", "2"],
    )
    return {
        "vae_old": Job(
            script("stage1_vae.py", "--domain", "old", *few),
            training(),
            ("runs/vae_old/weights/*",),
        ),
        "vae_new": Job(
            script("stage1_vae.py", "--domain", "new", *few),
            training(),
            ("runs/vae_new/weights/*",),
        ),
        "mdn": Job(
            script("stage2_mdn.py", *few), training("vae_old", "vae_new"), ("runs/mdn/weights/*",)
        ),
        "sketch_rnn": Job(
            script("stage3_sketch_rnn.py", *few),
            training("vae_old", "vae_new", "mdn"),
            ("runs/sketch_rnn/weights/*",),
        ),
        "prepare": Job(
            [*data, "prepare", "--data", "data"],
            published,
            ("data/prepared/**/*",),
            "data/prepared",
        ),
        "download": Job(
            [*data, "download", "kkanji.tar", "--data", "data", "--mirror", url],
            lambda folder: None,
            ("data/kkanji.tar",),
        ),
        "draw": Job([*draw, "--format", "svg,json,png,pdf,npz,ndjson"], pictures, ("drawings/*",)),
    }


class Server(BaseHTTPRequestHandler):
    """One file, slowly, from any byte on."""

    protocol_version = "HTTP/1.1"
    content, seconds = b"", 4.0

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        part = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(part)))
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            )
        self.end_headers()
        piece = max(1, len(self.content) // 100)
        try:
            for at in range(0, len(part), piece):
                self.wfile.write(part[at : at + piece])
                time.sleep(self.seconds / 100)
        except OSError:  # the client was killed
            self.close_connection = True

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that were killed."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@contextmanager
def served(content: bytes):
    Server.content = content
    with Quiet(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/kkanji.tar"
        finally:
            server.shutdown()


def found(job: Job, folder: Path) -> dict[str, str]:
    """SHA-256 of the results that are there, by path. Names that begin with a dot are those of
    files in the making."""
    paths = sorted(
        {path for pattern in job.results for path in folder.glob(pattern) if path.is_file()}
    )
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in paths
        if not p.name.startswith(".")
    }


def left(folder: Path) -> int:
    """Files in the making that nobody has cleaned up."""
    return sum(
        p.is_file() and (p.name.endswith((".tmp", ".part")) or "prepared.tmp" in str(p))
        for p in folder.rglob("*")
    )


class Runner:
    """Runs a job's command in a folder, to its end or to its death."""

    def __init__(self, cache: Path):
        self.environment = {k: v for k, v in os.environ.items() if k != "KUZUSHIJI_DATA"} | {
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "XDG_CACHE_HOME": str(cache),
            "JAX_COMPILATION_CACHE_DIR": str(cache / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def run(self, job: Job, folder: Path, seconds: float | None = None) -> tuple[int, float, str]:
        """Exit code (-9: killed after `seconds`), seconds, and the end of what was said."""
        with tempfile.TemporaryFile("w+") as said:
            begun = time.monotonic()
            process = subprocess.Popen(
                job.command,
                cwd=folder,
                env=self.environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            try:
                process.wait(LIMIT if seconds is None else seconds)
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its helpers, too
            except ProcessLookupError:
                pass
            process.wait()
            said.seek(0)
            return process.returncode, time.monotonic() - begun, said.read()[-1500:]


def broken(job: Job, wanted: dict, folder: Path) -> list[str]:
    """Results that are there and are not those of the unbroken run."""
    there = found(job, folder)
    wrong = [name for name, digest in there.items() if wanted.get(name) != digest]
    if job.together and (folder / job.together).exists() and set(there) != set(wanted):
        wrong.append(f"{job.together} is not whole")
    return wrong


def trial(
    job: Job,
    wanted: dict,
    seconds: float,
    kills: int,
    rng,
    runner: Runner,
    folder: Path,
    count: dict,
    update: Callable,
) -> None:
    """Kill the job up to `kills` times, then let it finish; add to `count`."""
    job.before(folder)
    for _ in range(kills):
        code, _, said = runner.run(job, folder, float(rng.uniform(0, seconds)))
        if code == -signal.SIGKILL:
            count["kills"] += 1
            update()
        elif code:
            count["failures"].append(f"exit code {code}: {said}")
        else:
            count["finished_first"] += 1
        for name in broken(job, wanted, folder):
            count["half_written"] += 1
            count["failures"].append(f"{name} after a kill")
        if code == 0:
            break
    code, _, said = runner.run(job, folder)
    there = found(job, folder)
    count["restarts"] += 1
    count["results"] += len(there)
    count["left_over"] += left(folder)
    if code or there != wanted:
        count["lost"] += sum(there.get(name) != digest for name, digest in wanted.items())
        count["failures"].append(
            f"exit code {code}, {[n for n in wanted if there.get(n) != wanted[n]][:5]} are not"
            f" those of the unbroken run: {said}"
        )


def written(chosen: argparse.Namespace, report: dict, start: float) -> dict:
    """The totals of the jobs that are done, after --out was written."""
    total = {
        key: sum(count[key] for count in report.values())
        for key in ("kills", "restarts", "half_written", "lost")
    }
    total["failures"] = sum(len(count["failures"]) for count in report.values())
    described = {
        "seed": chosen.seed,
        "total": total,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "jobs": report,
    }
    chosen.out.write_text(
        json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return total


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--kills", type=int, default=100, help="number of kills of each job [%(default)s]"
    )
    options.add_argument(
        "--in-a-row", type=int, default=4, help="most kills before a job may finish [%(default)s]"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--steps", type=int, default=12, help="number of steps of each training [%(default)s]"
    )
    options.add_argument(
        "--images",
        type=int,
        default=8,
        help="images of each class of the sample corpus [%(default)s]",
    )
    options.add_argument(
        "--jobs",
        nargs="+",
        choices=["vae_old", "vae_new", "mdn", "sketch_rnn", "prepare", "download", "draw"],
        metavar="JOB",
        help="[all]",
    )
    options.add_argument("--out", type=Path, default=Path("chaos.json"))
    chosen = options.parse_args()

    from transfer.data import sample

    report, start = {}, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kuzushiji-chaos-") as temporary:
        work = Path(temporary)
        sample.write(work / "data", images_per_class=chosen.images)
        runner = Runner(work / "cache")
        with served((work / "data" / "kkanji.tar").read_bytes()) as url:
            every = jobs(work, url, chosen.steps)
            names = chosen.jobs or list(every)
            prepared = Job(
                [sys.executable, "-m", "transfer.data", "prepare", "--data", "data"],
                lambda folder: None,
                (),
            )
            code, _, said = runner.run(prepared, work)
            if code:
                raise SystemExit(said)
            with tqdm(
                total=chosen.kills * len(names), unit="kill", disable=None, file=sys.stderr
            ) as bar:
                for name, job in every.items():
                    stages = ("vae_old", "vae_new", "mdn", "sketch_rnn")
                    later = [n for n in stages if n in names]
                    if name not in names and not (
                        name in stages and later and stages.index(name) < stages.index(later[-1])
                    ):
                        continue
                    bar.set_description(name)
                    whole = work / f"whole-{name}"
                    whole.mkdir()
                    job.before(whole)
                    seconds = []
                    for _ in range(
                        1 if name not in names else 2
                    ):  # the second time with everything compiled, as after a kill
                        shutil.rmtree(whole)
                        whole.mkdir()
                        job.before(whole)
                        code, took, said = runner.run(job, whole)
                        seconds.append(took)
                        if code:
                            raise SystemExit(f"{name} does not run unbroken: {said}")
                    wanted = found(job, whole)
                    if name in stages:
                        shutil.copytree(whole / "runs" / name, work / "runs" / name)
                    if name not in names:
                        continue
                    count = {
                        "kills": 0,
                        "restarts": 0,
                        "finished_first": 0,
                        "half_written": 0,
                        "lost": 0,
                        "results": 0,
                        "left_over": 0,
                        "seconds_unbroken": round(seconds[-1], 2),
                        "failures": [],
                    }
                    rng = np.random.default_rng([chosen.seed, len(report)])
                    while count["kills"] < chosen.kills and len(count["failures"]) < 20:
                        row = min(chosen.in_a_row, chosen.kills - count["kills"])
                        with tempfile.TemporaryDirectory(prefix="trial-", dir=work) as folder:
                            trial(
                                job,
                                wanted,
                                seconds[-1],
                                row,
                                rng,
                                runner,
                                Path(folder),
                                count,
                                bar.update,
                            )
                    report[name] = count
                    written(chosen, report, start)
    total = written(chosen, report, start)
    print(json.dumps(total))
    return 1 if total["failures"] or total["lost"] or total["half_written"] else 0


if __name__ == "__main__":
    sys.exit(main())
