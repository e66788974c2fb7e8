"""One training loop for every model: a `Task` and a run folder become trained weights.

A run folder holds ``config.json`` (everything that decides the result), ``metrics.jsonl``,
``checkpoints/`` (Orbax), ``samples/`` (PNG) and, when it is finished,
``weights/<name>.safetensors``. A run stopped at any instant goes on from its last checkpoint to
bitwise the same weights: every random number is a function of (seed, step) and nothing else. Where
several processes train together (`devices.connect`), all see the same run folder, and the first one
writes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
import time
import types
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

from data.locks import locked
from transfer import devices, weights
from transfer.files import sweep, whole
from transfer.stopping import Stopping

GROUP = 10
"""Steps that share one compiled variant, and that an accelerator runs in one dispatch."""
WINDOW = 50
"""Steps whose losses are looked at and written down together."""
DIVERGED = 10.0
"""A run has diverged when half its last WINDOW losses exceed the mean of its first by so many times
their size (at least 1)."""


OFTEN = 2_500
"""Steps between evaluations at most; a run has at least eight."""


class TrainingError(Exception):
    """A run that cannot start or go on; the message is one line: which run, what is wrong, what to
    do."""


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C or SIGTERM) and has saved its state."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One model's training problem.

    name: stage name and stem of the weights file.
    config: frozen dataclass with at least `steps`, `batch`, `learning_rate`, `warmup`,
    `weight_decay`, `ema`.
    init: key -> params, a pytree of float32 arrays.
    loss: (params, data, key, variant) -> (scalar, {name: scalar}); draws and augments its own
    batch.
    data: pytree of arrays that stays on the device.
    evaluate: params -> {name: float}, on held-out data.
    picture: (params, path) -> None, writes a PNG of samples.
    export: params -> {name: array}, what the weights file holds beside the parameters (may be
    empty).
    provenance: what decides the result beside the config: data checksums, earlier stages' weights.
    variant: step group -> static argument of `loss` (Sketch-RNN's length bucket).
    optimizer: overrides AdamW with warm-up and cosine decay; one with extra arguments is given
    value, grad and value_fn.
    settle: params as they are trained -> as they are evaluated and exported, of the same structure.
    feed: (data, step number) -> what `loss` gets as data: for batches that go through the data in
    an order.
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
    settle: Callable = lambda params: params
    feed: Callable = lambda data, number: data


def learning_rate(config) -> optax.Schedule:
    """Linear warm-up, then cosine decay to 1 % over the last `cooldown` share of the steps [all of
    them], and constant before."""
    warmup, cooldown = min(config.warmup, config.steps // 2), getattr(config, "cooldown", 1.0)
    if cooldown >= 1:
        return optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, warmup, config.steps, 0.01 * config.learning_rate
        )
    start = constant_until(config)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, warmup),
            optax.constant_schedule(config.learning_rate),
            optax.cosine_decay_schedule(config.learning_rate, config.steps - start, 0.01),
        ],
        [warmup, start],
    )


def constant_until(config) -> int:
    """The step to which the number of `steps` has no influence on a run: where the learning rate
    begins to fall."""
    cooldown = getattr(config, "cooldown", 1.0)
    return (
        0
        if cooldown >= 1 or config.warmup < 0
        else max(int(config.steps * (1 - cooldown)), min(config.warmup, config.steps // 2))
    )


def adamw(config) -> optax.GradientTransformation:
    """AdamW at `learning_rate`. `warmup` = -1 gives plain Adam at a constant learning rate, as the
    paper trains."""
    if config.warmup < 0:
        return optax.adam(config.learning_rate)
    return optax.adamw(learning_rate(config), b2=0.99, weight_decay=config.weight_decay)


def train(task: Task, folder: Path, seed: int = 0, checkpoint_seconds: float = 90.0) -> Path:
    """Run `task` in `folder` to its last step, from wherever it stands; returns the weights file. A
    checkpoint is kept every `checkpoint_seconds`, which has no influence on the result.

    Raises TrainingError for a folder started with other settings, one that another process trains
    in or that cannot be written, or a loss that is not finite or has diverged: then the last good
    checkpoint stays, and ``failure.json`` tells step, random key and losses. Interrupted after
    Ctrl-C or SIGTERM, with the state saved.
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
                f"{folder}: another process is training in it; wait for it, or choose another folder with --runs"
            ) from None
        except OSError as error:
            raise _unwritable(folder, error) from None
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
    _in_all(_claim, folder, described, type(config))
    done = folder / "weights" / f"{task.name}.safetensors"
    if not devices.alone():
        # By now it is there for all: whoever was started with other settings is found out.
        _in_all(_claim, folder, described, type(config))
    if done.exists():
        say(
            f"{task.name}: already trained, {done} is there (delete the folder {folder} to start again)"
        )
        return done

    _in_all(_check_writable, folder)
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

    def step(state, data, number, variant):
        key = jax.random.fold_in(step_key, number)
        fed = task.feed(data, number)
        (value, parts), grads = jax.value_and_grad(_named_loss, has_aux=True)(
            state["params"], task.loss, fed, key, variant
        )
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
        compiler_options=devices.compiler_options(),
    )
    steps = -(-config.steps // stride) * stride

    chosen = lambda: task.settle(devices.here(state["average"] if config.ema else state["params"]))
    evaluate_every = max(stride, min(config.steps // 8, OFTEN) // stride * stride)

    def evaluate(reached: int) -> None:
        settled = chosen()
        values = task.evaluate(settled)
        if task.picture and devices.first():
            (folder / "samples").mkdir(exist_ok=True)
            task.picture(settled, folder / "samples" / f"step_{reached:07d}.png")
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
            state, start = _restore(manager, state, task.name)
            metrics = _Metrics(folder / "metrics.jsonl", start)
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
                """Judge the losses since the last look, and the weights before they are saved, and
                write the losses' means."""
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
                asked = late = False
                if (
                    devices.alone() or reached % GROUP == 0
                ):  # clocks and signals are each process's own: several agree, but not at every step
                    asked, late = devices.agreed(
                        stop.asked, time.monotonic() - saved > checkpoint_seconds
                    )
                saving = reached == steps or asked or late
                if len(pending) * stride >= WINDOW or saving:
                    look(reached, saving)
                # A run that is asked to stop leaves the evaluation to whoever goes on with it.
                evaluated = not due(reached) or during(lambda: evaluate(reached))
                asked = asked or devices.alone() and stop.asked  # by now, in the evaluation
                if saving or asked:
                    if not saving:
                        look(reached, True)
                    with stop.saving():
                        _save(manager, reached, state)
                    saved = time.monotonic()
                if asked and (reached < steps or not evaluated):
                    raise stopped(reached)
        final = chosen()
        if devices.first():
            weights.save(done, final, task.export(final), described)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if devices.first():
        (folder / "failure.json").unlink(missing_ok=True)
    devices.meet(f"{done} written")  # the next stage reads them
    say(f"{task.name}: trained, weights in {done}")
    return done


def _wrong(
    pending: list[dict], recent: deque, reached: int, stride: int, first: float | None, params
) -> tuple[str, int] | None:
    """What is wrong with the losses before step `reached`, or with the weights (if given), and the
    step it came up in; None: nothing.

    pending: what the steps since the last look said; recent: the last losses, as many as a window
    has; first: the mean of the first ones.
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
    """Write failure.json, and say where a run went wrong and how to see it again."""
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
            with whole(folder / "failure.json") as part:
                part.write_text(text + "\n", encoding="utf-8")
    except OSError:
        pass  # the line below says the most of it
    where = f"step {step}" if stride == 1 else f"steps {first + 1} to {step}"
    return TrainingError(
        f"{folder}: {what} in {where} (seed {seed}, key {key} of its batch, see failure.json); the checkpoint of step "
        f"{checkpoint or 0} is kept, and the same command comes to it again from there; lower --learning-rate and start "
        "in a new folder"
    )


def _digest(state) -> str:
    """SHA-256 of all arrays of a state: Orbax does not notice changed bytes in the middle of a
    large array."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(devices.here(state)):
        array = np.asarray(leaf)
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _save(manager, step: int, state) -> None:
    import orbax.checkpoint as ocp

    try:
        manager.save(
            step, args=ocp.args.StandardSave(state), custom_metadata={"sha256": _digest(state)}
        )
        manager.wait_until_finished()
    except ValueError as error:  # TensorStore's way to say that the disk is full
        if not (number := re.search(r"os_error_code='(\d+)'", str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _named_loss(params, loss, data, key, variant):
    value, parts = loss(params, data, key, variant)
    return value, {"loss": value, **parts}


def _in_all(check: Callable, *given) -> None:
    """Run a check in every process; where it fails in one, all stop. Who went on would wait for
    those who did not."""
    problem = None
    try:
        check(*given)
    except TrainingError as error:
        problem = error
    if devices.agreed(problem is not None)[0]:
        raise problem or TrainingError("another of the processes cannot take part, see its message")


def _claim(folder: Path, described: dict, kind: type) -> None:
    """Write config.json, or check that the folder was started with the same settings; kind: the
    configuration's class."""
    text = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path = folder / "config.json"
    try:
        if path.exists():
            try:
                there = json.loads(path.read_text("utf-8"))
                if isinstance(there, dict) and isinstance(there.get("config"), dict):
                    there["config"] = weights.without_retired(kind, there["config"])
                there = _flat(there)
            except (ValueError, RecursionError) as error:
                raise TrainingError(
                    f"{path}: not valid JSON ({error}); delete the folder to start again"
                ) from None
            mine = _flat(json.loads(text))
            differing = sorted(k for k in there | mine if there.get(k) != mine.get(k))
            if differing == ["config.steps"] and _may_change_steps(folder, there, mine):
                differing = []
                if devices.first():
                    with whole(path) as part:
                        part.write_text(text)
            if differing:
                key = differing[0]
                was, now = (repr(values.get(key))[:80] for values in (there, mine))
                raise TrainingError(
                    f"{folder}: this run was started with {key[:80]} = {was}, now it is {now}; use the same settings, another --runs folder, or delete it"
                )
            return
        if not devices.first():
            return
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from None


def _may_change_steps(folder: Path, there: dict, mine: dict) -> bool:
    """Whether a run may go on with another number of steps: its learning rate has not begun to fall
    in either (`constant_until`)."""
    reached = max(
        (int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdecimal()), default=0
    )
    constant = lambda flat: constant_until(
        types.SimpleNamespace(**{k: flat[f"config.{k}"] for k in ("steps", "cooldown", "warmup")})
    )
    return "config.cooldown" in mine and reached <= min(constant(there), constant(mine))


def _check_writable(folder: Path) -> None:
    """Find out now what would else come out at the first checkpoint."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8; TensorStore takes text only
        raise TrainingError(
            f"{ascii(str(folder))[1:-1]}: checkpoints need a folder whose name is text; choose "
            "another with --runs"
        ) from None
    try:
        (folder / "checkpoints").mkdir(exist_ok=True)
        probe = folder / "checkpoints" / f"probe-{jax.process_index()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"{folder}: cannot write the run folder ({error.strerror or error}); free space, or choose another with --runs"
    )


def _flat(tree, prefix="") -> dict:
    if isinstance(tree, dict):
        return {
            k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}{name}.").items()
        }
    return {prefix[:-1]: tree}


def _restore(manager, state, name: str):
    """The newest checkpoint that can be read, or the given state; and its step."""
    import orbax.checkpoint as ocp

    steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        try:
            restored = manager.restore(
                step,
                args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state)),
            )
            kept = (manager.metadata(step).custom_metadata or {}).get(
                "sha256"
            )  # None: saved by an earlier version
            if kept is not None and kept != _digest(restored):
                raise ValueError("its checksum is another")
        except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
            print(
                f"{name}: checkpoint {step} cannot be read ({type(error).__name__}); trying an older one",
                file=sys.stderr,
            )
            manager.delete(step)
            continue
        # Fresh buffers: what Orbax hands out may be shared, and the loop donates its state.
        return jax.tree.map(jnp.copy, restored), step
    return state, 0


@dataclasses.dataclass(frozen=True)
class History:
    """What a run's metrics.jsonl tells: seconds of all its starts together, and its last
    measurement on held-out data."""

    seconds: float
    held_out: dict[str, float]


def history(path: Path) -> History:
    """Read a run's metrics.jsonl; lines that were being written when the run was killed are passed
    over."""
    seconds = last = 0.0
    held_out = {}
    for line in path.read_text(errors="replace").splitlines():
        try:
            found = json.loads(line)
            now = float(found["seconds"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        # Runs of earlier versions counted every start's seconds from 0.
        seconds += now - last if now >= last else now
        last = now
        values = {
            name.removeprefix("val/"): value
            for name, value in found.items()
            if name.startswith("val/")
        }
        held_out = values or held_out
    return History(seconds, held_out)


class _Metrics:
    """metrics.jsonl, of the process that writes: one JSON object a line; lines beyond the resumed
    step are dropped.

    first_loss: mean loss of the run's first window, None before it. evaluated: steps whose
    evaluation is written.
    """

    def __init__(self, path: Path, start: int):
        self.path, self.first_loss, self.evaluated = path, None, set()
        kept = []
        if path.exists():
            for line in path.read_text(errors="replace", encoding="utf-8").splitlines():
                try:
                    found = json.loads(line)
                    if found["step"] <= start:
                        kept.append(line)
                        self._note(found)
                except (ValueError, KeyError, TypeError, RecursionError):
                    pass  # the line that was being written when the run was killed
        if devices.first():
            with whole(path) as part:
                part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        # Seconds go on from where the run stood.
        self.begin = time.time() - (history(path).seconds if path.exists() else 0.0)

    def _note(self, values: dict) -> None:
        if self.first_loss is None and "loss" in values:
            self.first_loss = float(values["loss"])
        if any(name.startswith("val/") for name in values):
            self.evaluated.add(values["step"])

    def write(self, **values) -> None:
        self._note(values)
        if not devices.first():
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**values, "seconds": round(time.time() - self.begin, 2)}) + "\n")
