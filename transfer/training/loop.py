"""One training loop for every model: a `Task` and a run folder become trained weights.

A run folder holds ``config.json`` (everything that decides the result), ``metrics.jsonl``,
``checkpoints/`` (Orbax), ``samples/`` (PNG) and, when it is finished,
``weights/<name>.safetensors``. A run that was stopped at any instant continues from its last
checkpoint to bitwise the same weights, because every random number is a function of (seed, step)
and nothing else. If several processes train together (`devices.connect`), all see the same run
folder, and the first one writes.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from transfer.system import devices
from transfer.system.files import atomic_write, sweep
from transfer.system.locks import locked
from transfer.training import weights
from transfer.training.bfloat16 import with_bfloat16_products
from transfer.training.checkpoints import (
    check_writable,
    claim,
    in_all_processes,
    restore,
    save,
    unwritable,
)
from transfer.training.errors import Interrupted, TrainingError
from transfer.training.metrics import MetricsFile
from transfer.training.optimizers import adamw
from transfer.training.stopping import Stopping

GROUP = 10
"""Steps that share one compiled variant, and that an accelerator runs in one dispatch."""
WINDOW = 50
"""Steps whose losses are checked and recorded together."""
DIVERGED = 10.0
"""A run has diverged if half of its last WINDOW losses exceed the mean of its first losses by this
many times their size (at least 1)."""
OFTEN = 2_500
"""The most steps between evaluations; a run has at least eight evaluations."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One model's training problem.

    name: the stage's name, which is the stem of the weights file too.
    config: a frozen dataclass with at least `steps`, `batch`, `learning_rate`, `warmup`,
    `weight_decay` and `ema`; and `products`, if products may be of bfloat16.
    init: key -> params, a pytree of float32 arrays.
    loss: (params, data, key, variant) -> (scalar, {name: scalar}). It draws and augments its batch.
    data: a pytree of arrays that stays on the device.
    evaluate: params -> {name: float}, measured on held-out data.
    picture: (params, path) -> None, which writes a PNG of samples.
    export: params -> {name: array}, what the weights file holds besides the parameters.
    provenance: what decides the result besides the config: data checksums, earlier stages' weights.
    variant: step group -> the static argument of `loss`, such as a length bucket.
    optimizer: replaces AdamW with warm-up and cosine decay. An optimizer with extra arguments gets
    value, grad and value_fn.
    finalize: params as trained -> params as evaluated and exported, of the same structure.
    feed: (data, step number) -> what `loss` gets as data, for batches that go through the data in a
    fixed order.
    """

    name: str
    config: Any
    init: Callable
    loss: Callable
    data: Any
    evaluate: Callable
    picture: Callable | None = None
    export: Callable = lambda params: {}
    provenance: dict = dataclasses.field(default_factory=dict)
    variant: Callable[[int], Any] = lambda group: 0
    optimizer: optax.GradientTransformation | None = None
    finalize: Callable = lambda params: params
    feed: Callable = lambda data, number: data


def train(task: Task, folder: Path, seed: int = 0, checkpoint_seconds: float = 90.0) -> Path:
    """Run `task` in `folder` to its last step, from wherever it stopped; returns the weights file.
    A checkpoint is saved every `checkpoint_seconds`, which does not influence the result.

    Raises TrainingError if the folder was started with other settings, is in use by another process
    or cannot be written, or if the loss is not finite or has diverged; then the last good
    checkpoint stays, and ``failure.json`` records step, random key and losses. Raises Interrupted
    after Ctrl-C or SIGTERM, with the state saved.
    """
    folder = Path(folder).absolute()
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if devices.first():
                stack.enter_context(locked(folder))
                for place in (folder, *filter(Path.is_dir, folder.iterdir())):
                    sweep(place)
        except BlockingIOError:
            raise TrainingError(
                f"{folder}: another process is training in it; wait for it, "
                "or choose another folder with --runs"
            ) from None
        except OSError as error:
            raise unwritable(folder, error) from None
        return _train(task, folder, seed, checkpoint_seconds)


def _train(task: Task, folder: Path, seed: int, checkpoint_seconds: float) -> Path:
    import orbax.checkpoint as ocp

    config = task.config
    say = print if devices.first() else lambda line: None
    described = {
        "stage": task.name,
        "config": dataclasses.asdict(config),
        "seed": seed,
        **task.provenance,
    }
    in_all_processes(claim, folder, described, type(config))
    done = folder / "weights" / f"{task.name}.safetensors"
    if not devices.alone():
        # By now it is there for all: whoever was started with other settings is found out.
        in_all_processes(claim, folder, described, type(config))
    if done.exists():
        say(
            f"{task.name}: already trained, {done} is there "
            f"(delete the folder {folder} to start again)"
        )
        return done

    in_all_processes(check_writable, folder)
    optimizer = optax.with_extra_args_support(task.optimizer or adamw(config))
    root = jax.random.key(seed)
    params = jax.jit(task.init)(jax.random.fold_in(root, 0))
    # Copies: L-BFGS remembers the parameters themselves, and no buffer may be donated twice.
    state = {
        "params": params,
        "optimizer": jax.tree.map(jnp.copy, optimizer.init(params)),
        "average": jax.tree.map(jnp.copy, params) if config.ema else {},
    }
    state, data = devices.everywhere(state), devices.everywhere(task.data)
    step_key = jax.random.fold_in(root, 1)
    bfloat16 = getattr(config, "products", "float32") == "bfloat16"

    def value_and_grad(params, fed, key, variant):
        slope = jax.value_and_grad(_named_loss, has_aux=True)
        compute = lambda params, fed, key: slope(params, task.loss, fed, key, variant)
        return (with_bfloat16_products(compute) if bfloat16 else compute)(params, fed, key)

    def step(state, data, number, variant):
        key = jax.random.fold_in(step_key, number)
        fed = task.feed(data, number)
        (value, parts), grads = value_and_grad(state["params"], fed, key, variant)
        # The last three are for optimisers that search along a line, such as L-BFGS.
        updates, optimizer_state = optimizer.update(
            grads,
            state["optimizer"],
            state["params"],
            value=value,
            grad=grads,
            value_fn=lambda params: task.loss(params, fed, key, variant)[0],
        )
        params = optax.apply_updates(state["params"], updates)
        average = state["average"]
        if config.ema:
            # Early on the average follows faster, so that it never holds on to the random start.
            decay = jnp.minimum(config.ema, (1.0 + number) / (10.0 + number))
            average = jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), average, params)
        return {"params": params, "optimizer": optimizer_state, "average": average}, parts

    stride = 1 if devices.on_cpu() else GROUP

    def dispatch(state, data, first, variant):
        # XLA's CPU backend runs convolutions inside a loop up to 50 times slower: there, one step a
        # dispatch.
        if devices.on_cpu():
            return step(state, data, first, variant)
        state, parts = jax.lax.scan(
            lambda s, n: step(s, data, n, variant), state, first + jnp.arange(stride)
        )
        return state, jax.tree.map(lambda p: p.mean(), parts)

    dispatch = jax.jit(
        dispatch,
        donate_argnums=0,
        static_argnums=3,
        out_shardings=devices.replicated(),
        compiler_options=devices.compiler_options(bfloat16),
    )
    steps = -(-config.steps // stride) * stride

    chosen = lambda: task.finalize(
        devices.here(state["average"] if config.ema else state["params"])
    )
    evaluate_every = max(stride, min(config.steps // 8, OFTEN) // stride * stride)

    def evaluate(reached: int) -> None:
        finalized = chosen()
        values = task.evaluate(finalized)
        if task.picture and devices.first():
            (folder / "samples").mkdir(exist_ok=True)
            task.picture(finalized, folder / "samples" / f"step_{reached:07d}.png")
        metrics.write(step=reached, **{f"val/{k}": v for k, v in values.items()})
        if devices.first():
            bar.write(
                f"{task.name} step {reached}: "
                + ", ".join(f"{k} {v:.4g}" for k, v in values.items()),
                file=sys.stderr,
            )

    try:
        with ExitStack() as stack:
            # Not asynchronous: the state is donated to the next step, and a full disk is an error
            # at once instead of a wait for minutes.
            manager = stack.enter_context(
                ocp.CheckpointManager(
                    folder / "checkpoints",
                    options=ocp.CheckpointManagerOptions(
                        max_to_keep=2, enable_async_checkpointing=False
                    ),
                )
            )
            state, start = restore(manager, state, task.name)
            metrics = MetricsFile(folder / "metrics.jsonl", start)
            bar = stack.enter_context(
                tqdm(
                    total=steps,
                    initial=start,
                    desc=task.name,
                    unit="step",
                    disable=None if devices.first() else True,
                    smoothing=0.05,
                    file=sys.stderr,
                )
            )
            stop = stack.enter_context(Stopping(task.name))
            stopped = lambda at: Interrupted(
                f"{task.name}: stopped at step {at}, saved; run the same command again to go on"
            )
            saved, pending, recent = time.monotonic(), [], deque(maxlen=WINDOW // stride)

            def look(reached: int, saving: bool) -> None:
                """Check the losses since the last check, and the weights before they are saved, and
                record the losses' means."""
                # A loss is of the weights before its step: what is saved is looked at itself.
                recent.extend(float(p["loss"]) for p in pending)
                if wrong := _wrong(
                    pending, recent, reached, stride, metrics.first_loss, saving and state["params"]
                ):
                    raise _failure(
                        folder,
                        task.name,
                        seed,
                        *wrong,
                        stride,
                        step_key,
                        pending,
                        manager.latest_step(),
                    )
                if pending:
                    means = {k: float(np.mean([float(p[k]) for p in pending])) for k in pending[0]}
                    rate = bar.format_dict["rate"] or 0.0
                    bar.set_postfix_str(
                        f"loss {means['loss']:.4g}, {rate * config.batch:.0f} examples/s"
                    )
                    metrics.write(step=reached, **means)
                    pending.clear()

            # Of several processes none leaves an evaluation that the others wait for.
            during = stop.during if devices.alone() else lambda work: work() is None
            due = lambda at: at == steps or at and at % evaluate_every == 0
            if (
                due(start)
                and start not in metrics.evaluated
                and not during(lambda: evaluate(start))
            ):
                raise stopped(start)
            for at in range(start, steps, stride):
                state, parts = dispatch(state, data, np.int32(at), task.variant(at // GROUP))
                jax.block_until_ready(
                    parts
                )  # else many steps queue up, and a stop would wait for all of them
                stop.alive()
                pending.append(parts)
                bar.update(stride)
                reached = at + stride
                requested = late = False
                # Clocks and signals are each process's own: several agree, but not at every step.
                if devices.alone() or reached % GROUP == 0:
                    requested, late = devices.agreed(
                        stop.requested, time.monotonic() - saved > checkpoint_seconds
                    )
                saving = reached == steps or requested or late
                if len(pending) * stride >= WINDOW or saving:
                    look(reached, saving)
                # A run that is to stop leaves the evaluation to whoever goes on with it.
                evaluated = not due(reached) or during(lambda: evaluate(reached))
                requested = (
                    requested or devices.alone() and stop.requested
                )  # by now, in the evaluation
                if saving or requested:
                    if not saving:
                        look(reached, True)
                    with stop.saving():
                        save(manager, reached, state)
                    saved = time.monotonic()
                if requested and (reached < steps or not evaluated):
                    raise stopped(reached)
        final = chosen()
        if devices.first():
            weights.save(done, final, task.export(final), described)
    except OSError as error:
        raise unwritable(folder, error) from error
    if devices.first():
        (folder / "failure.json").unlink(missing_ok=True)
    devices.meet(f"{done} written")  # the next stage reads them
    say(f"{task.name}: trained, weights in {done}")
    return done


def _wrong(
    pending: list[dict], recent: deque, reached: int, stride: int, first: float | None, params
) -> tuple[str, int] | None:
    """What is wrong with the losses before step `reached`, or with the weights, and in which step.

    pending: the results of the steps since the last check.
    recent: the last WINDOW losses.
    first: the mean of the first window's losses, None before there is one.
    params: the weights to check, or nothing.

    Returns None if nothing is wrong.
    """
    losses = np.array([float(p["loss"]) for p in pending])
    step = lambda index: reached - (len(losses) - 1 - int(index)) * stride
    if not np.isfinite(losses).all():
        return "the loss is not finite", step(np.argmin(np.isfinite(losses)))
    if params and not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
        return "weights are not finite", reached
    if (
        first is not None
        and len(recent) == recent.maxlen
        and np.median(recent) > first + DIVERGED * max(abs(first), 1.0)
    ):
        return f"the loss has diverged, from {first:.4g} to {np.median(recent):.4g}", reached
    return None


def _failure(
    folder: Path,
    name: str,
    seed: int,
    what: str,
    step: int,
    stride: int,
    step_key,
    pending,
    checkpoint: int | None,
) -> TrainingError:
    """Write failure.json, and say where a run went wrong and how to reproduce it."""
    first = step - stride  # steps are counted from 1, their random numbers from 0
    key = [int(v) for v in np.ravel(jax.random.key_data(jax.random.fold_in(step_key, first)))]
    losses = [{k: repr(float(v)) for k, v in p.items()} for p in pending]
    text = json.dumps(
        {
            "stage": name,
            "wrong": what,
            "step": step,
            "seed": seed,
            "key": key,
            "last good checkpoint": checkpoint or 0,
            "losses up to where it was noticed": losses,
        },
        indent=1,
    )
    try:
        if devices.first():
            with atomic_write(folder / "failure.json") as part:
                part.write_text(text + "\n", encoding="utf-8")
    except OSError:
        pass  # the line below says the most of it
    where = f"step {step}" if stride == 1 else f"steps {first + 1} to {step}"
    return TrainingError(
        f"{folder}: {what} in {where} (seed {seed}, key {key} of its batch, see failure.json); "
        f"the checkpoint of step {checkpoint or 0} is kept, and the same command comes to it again "
        "from there; lower --learning-rate and start in a new folder"
    )


def _named_loss(params, loss, data, key, variant):
    value, parts = loss(params, data, key, variant)
    return value, {"loss": value, **parts}
