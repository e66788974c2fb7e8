"""Training on eight devices, or in two processes, equals training on one device: the losses are the
same, and a run may continue with another number of them.

Run as a script (`python test_devices.py FOLDER STEP [COORDINATOR PROCESSES PROCESS]`) this file
trains a small VAE on the sample corpus there, and stops in the group of steps that begins at STEP
(0: not at all).
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
STEPS = 24


def worker(
    folder: Path,
    stop: int,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    from transfer.data import corpus
    from transfer.models import vae
    from transfer.stages import autoencoders
    from transfer.system import devices
    from transfer.training import errors, loop

    devices.connect(coordinator, processes and int(processes), process and int(process))
    if coordinator:
        # Several processes agree on a checkpoint once a group: so there is one at every step.
        loop.GROUP = 1
    config = dataclasses.replace(
        vae.VAEConfig.tiny("new"),
        encoder=(8, 8, 16),
        decoder=(16, 8, 8),
        hidden=16,
        steps=STEPS,
        batch=16,
        warmup=8,
        learning_rate=1e-3,
        ema=0.5,
    )
    task = autoencoders.vae_task(config, corpus.load(quiet=True), "new")

    def variant(group: int) -> int:
        if stop and group == stop // loop.GROUP:
            os.kill(os.getpid(), signal.SIGINT)
        return 0

    task = dataclasses.replace(task, variant=variant, picture=None)
    try:
        loop.train(task, folder, checkpoint_seconds=-1.0)
    except errors.Interrupted:
        pass


def run(folder: Path, devices: int, stop: int = 0, processes: int = 1) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("KUZUSHIJI_DATA", "XLA_FLAGS")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = lambda number: (
        [f"127.0.0.1:{port}", str(processes), str(number)] if processes > 1 else []
    )
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), str(stop), *together(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kept | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)},
        )
        for number in range(processes)
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode == 0 for process in started), said
    assert "trained" not in "".join(out for out, _ in said[1:])  # one speaks for all


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    run(folder, 1)
    return folder


def assert_same(folder: Path, one: Path) -> None:
    assert len(losses(folder)) == STEPS
    np.testing.assert_allclose(losses(folder), losses(one), rtol=1e-5)
    ours, theirs = (load_file(f / "weights" / "vae_new.safetensors") for f in (folder, one))
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
def test_eight_devices_follow_the_losses_of_one(one, tmp_path):
    run(tmp_path / "run", 8)
    assert_same(tmp_path / "run", one)
    # Read on one device, as anybody's weights.
    from transfer.training import weights

    params, _, described = weights.load(weights.find(tmp_path / "run" / "weights", "vae_new"))
    assert (
        all(
            len(leaf.devices()) == 1
            for leaf in jax.tree.leaves(jax.tree.map(jax.numpy.asarray, params))
        )
        and described["seed"] == 0
    )


@pytest.mark.long
def test_a_run_goes_on_from_one_to_eight_devices_and_back(one, tmp_path):
    folder = tmp_path / "run"
    run(folder, 1, stop=1)
    assert 0 < len(losses(folder)) < 10
    run(folder, 8, stop=10)
    assert 10 <= len(losses(folder)) < STEPS
    run(folder, 1)
    assert_same(folder, one)


@pytest.mark.long
def test_two_processes_follow_the_losses_of_one_device(one, tmp_path):
    folder = tmp_path / "run"
    run(folder, 1, stop=10, processes=2)
    assert (
        10 <= len(losses(folder)) < STEPS
    )  # both have stopped at the same step, though each had its own signal
    run(folder, 2, processes=2)
    assert_same(folder, one)


@pytest.mark.parametrize(
    "given, wrong",
    [
        (["--process-id", "1"], "need --coordinator"),
        (["--coordinator", "here"], "HOST:PORT"),
        (["--coordinator", "here:1", "--num-processes", "2"], "from 0"),
    ],
)
def test_processes_that_are_not_told_enough_say_so(given, wrong, monkeypatch, capsys):
    from transfer.models.vae import VAEConfig
    from transfer.training import options

    monkeypatch.setattr(sys, "argv", ["stage", *given])
    monkeypatch.delenv("KUZUSHIJI_DATA", raising=False)
    assert (
        options.run(lambda *_: pytest.fail("it was started"), "", {"small": VAEConfig.tiny()}) == 2
    )
    assert wrong in capsys.readouterr().err


def test_programs_compute_in_float32_whatever_the_flag():
    import jax
    import jax.numpy as jnp

    from transfer.system import devices

    jax.config.update("jax_enable_x64", True)
    try:
        assert (
            devices.float32(lambda: jnp.zeros(2).dtype)() == np.float32
            and jnp.zeros(2).dtype == np.float64
        )
        devices.connect(None)
        assert jnp.zeros(2).dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", False)


def test_what_does_not_divide_stays_whole():
    import jax
    import jax.numpy as jnp

    from transfer.system.devices import shard

    for n in (7, 8):
        x = jnp.arange(n * 3.0).reshape(n, 3)
        np.testing.assert_array_equal(jax.jit(shard)({"x": x})["x"], x)


if __name__ == "__main__":
    worker(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
