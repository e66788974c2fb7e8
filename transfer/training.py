"""One training loop for every model: a `Task` and a run folder become trained weights.

A run folder holds ``config.json`` (everything that decides the result), ``metrics.jsonl``, ``checkpoints/`` (Orbax), ``samples/``
(PNG) and, when it is finished, ``weights/<name>.safetensors``. A run stopped at any instant goes on from its last checkpoint to
bitwise the same weights: every random number is a function of (seed, step) and nothing else. Where several processes train together
(`devices.connect`), all see the same run folder, and the first one writes.
"""
from __future__ import annotations

import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from transfer import devices, weights
from transfer.files import whole

GROUP = 10
"""Steps that share one compiled variant, and that an accelerator runs in one dispatch."""


class TrainingError(Exception):
    """A run that cannot start or go on; the message is one line: which run, what is wrong, what to do."""


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C or SIGTERM) and has saved its state."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One model's training problem.

    name: stage name and stem of the weights file.
    config: frozen dataclass with at least `steps`, `batch`, `learning_rate`, `warmup`, `weight_decay`, `ema`.
    init: key -> params, a pytree of float32 arrays.
    loss: (params, data, key, variant) -> (scalar, {name: scalar}); draws and augments its own batch.
    data: pytree of arrays that stays on the device.
    evaluate: params -> {name: float}, on held-out data.
    picture: (params, path) -> None, writes a PNG of samples.
    export: params -> {name: array}, what the weights file holds beside the parameters (may be empty).
    provenance: what decides the result beside the config: data checksums, earlier stages' weights.
    variant: step group -> static argument of `loss` (Sketch-RNN's length bucket).
    optimizer: overrides AdamW with warm-up and cosine decay.
    settle: params as they are trained -> as they are evaluated and exported, of the same structure.
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


def adamw(config) -> optax.GradientTransformation:
    """AdamW with linear warm-up and cosine decay to 1 %.

    `warmup` = -1 gives plain Adam at a constant learning rate, as the paper trains.
    """
    if config.warmup < 0:
        return optax.adam(config.learning_rate)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, min(config.warmup, config.steps // 2),
                                                  config.steps, 0.01 * config.learning_rate)
    return optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay)


def train(task: Task, folder: Path, seed: int = 0, checkpoint_seconds: float = 90.0) -> Path:
    """Run `task` in `folder` to its last step, from wherever it stands; returns the weights file. A checkpoint is kept every
    `checkpoint_seconds`, which has no influence on the result.

    Raises TrainingError for a folder started with other settings, one that cannot be written, or a loss that is not finite;
    Interrupted after Ctrl-C or SIGTERM, with the state saved.
    """
    import orbax.checkpoint as ocp

    folder, config = Path(folder).absolute(), task.config
    say = print if devices.first() else lambda line: None
    described = {"stage": task.name, "config": dataclasses.asdict(config), "seed": seed, **task.provenance}
    _in_all(_claim, folder, described)
    done = folder / "weights" / f"{task.name}.safetensors"
    if not devices.alone():
        _in_all(_claim, folder, described)  # by now it is there for all: whoever was started with other settings is found out
    if done.exists():
        say(f"{task.name}: already trained, {done} is there (delete the folder {folder} to start again)")
        return done

    _in_all(_check_writable, folder)
    optimizer = task.optimizer or adamw(config)
    root = jax.random.key(seed)
    params = jax.jit(task.init)(jax.random.fold_in(root, 0))
    state = {"params": params, "optimizer": optimizer.init(params),
             "average": jax.tree.map(jnp.copy, params) if config.ema else {}}
    state, data = devices.everywhere(state), devices.everywhere(task.data)
    step_key = jax.random.fold_in(root, 1)

    def step(state, data, number, variant):
        key = jax.random.fold_in(step_key, number)
        (_, parts), grads = jax.value_and_grad(_named_loss, has_aux=True)(state["params"], task.loss, data, key, variant)
        updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        average = state["average"]
        if config.ema:
            # Early on the average follows faster, so that it never holds on to the random start.
            decay = jnp.minimum(config.ema, (1.0 + number) / (10.0 + number))
            average = jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), average, params)
        return {"params": params, "optimizer": optimizer_state, "average": average}, parts

    stride = 1 if devices.on_cpu() else GROUP

    def dispatch(state, data, first, variant):
        # XLA's CPU backend runs convolutions inside a loop up to 50 times slower: there, one step a dispatch.
        if devices.on_cpu():
            return step(state, data, first, variant)
        state, parts = jax.lax.scan(lambda s, n: step(s, data, n, variant), state, first + jnp.arange(stride))
        return state, jax.tree.map(lambda p: p.mean(), parts)

    dispatch = jax.jit(dispatch, donate_argnums=0, static_argnums=3, out_shardings=devices.replicated())
    steps = -(-config.steps // stride) * stride

    # Not asynchronous: the state is donated to the next step, and a full disk is an error at once instead of a wait for minutes.
    manager = ocp.CheckpointManager(folder / "checkpoints", options=ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False))
    state, start = _restore(manager, state, task.name)
    save = lambda at: (manager.save(at, args=ocp.args.StandardSave(state)), manager.wait_until_finished())
    chosen = lambda: task.settle(devices.here(state["average"] if config.ema else state["params"]))
    metrics = _Metrics(folder / "metrics.jsonl", start)
    evaluate_every = max(stride, config.steps // 8 // stride * stride)
    stop, handlers = [], {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            handlers[number] = signal.signal(number, lambda *_: stop.append(1))
        except ValueError:  # not in the main thread, e.g. in a notebook's executor
            pass
    saved, pending = time.monotonic(), []
    bar = tqdm(total=steps, initial=start, desc=task.name, unit="step", disable=None if devices.first() else True, smoothing=0.05, file=sys.stderr)
    try:
        for at in range(start, steps, stride):
            state, parts = dispatch(state, data, np.int32(at), task.variant(at // GROUP))
            jax.block_until_ready(parts)  # else many steps queue up, and a stop would wait for all of them
            pending.append(parts)
            bar.update(stride)
            reached = at + stride
            stopping = due = False
            if devices.alone() or reached % GROUP == 0:  # clocks and signals are each process's own: several agree, but not at every step
                stopping, due = devices.agreed(bool(stop), time.monotonic() - saved > checkpoint_seconds)
            saving = reached == steps or stopping or due
            if len(pending) * stride >= 50 or saving:
                means = {k: float(np.mean([float(p[k]) for p in pending])) for k in pending[0]}
                # A loss is of the weights before its step: what is saved is looked at itself.
                if not np.isfinite(means["loss"]) or saving and not _finite(state["params"]):
                    raise TrainingError(f"{folder}: loss or weights are not finite near step {reached} (seed {seed}); the last good "
                                        f"checkpoint is kept; lower --learning-rate and start in a new folder")
                rate = bar.format_dict["rate"] or 0.0
                bar.set_postfix_str(f"loss {means['loss']:.4g}, {rate * config.batch:.0f} examples/s")
                metrics.write(step=reached, **means)
                pending = []
            if reached == steps or reached % evaluate_every == 0:
                settled = chosen()
                values = task.evaluate(settled)
                metrics.write(step=reached, **{f"val/{k}": v for k, v in values.items()})
                if devices.first():
                    bar.write(f"{task.name} step {reached}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items()), file=sys.stderr)
                if task.picture and devices.first():
                    (folder / "samples").mkdir(exist_ok=True)
                    task.picture(settled, folder / "samples" / f"step_{reached:07d}.png")
            if saving:
                save(reached)
                saved = time.monotonic()
            if stopping and reached < steps:
                raise Interrupted(f"{task.name}: stopped at step {reached}, saved; run the same command again to go on")
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        bar.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        manager.close()
    try:
        final = chosen()
        if devices.first():
            weights.save(done, final, task.export(final), described)
    except OSError as error:
        raise _unwritable(folder, error) from error
    devices.meet(f"{done} written")  # the next stage reads them
    say(f"{task.name}: trained, weights in {done}")
    return done


def _finite(params) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))


def _named_loss(params, loss, data, key, variant):
    value, parts = loss(params, data, key, variant)
    return value, {"loss": value, **parts}


def _in_all(check: Callable, *given) -> None:
    """Run a check in every process; where it fails in one, all stop. Who went on would wait for those who did not."""
    problem = None
    try:
        check(*given)
    except TrainingError as error:
        problem = error
    if devices.agreed(problem is not None)[0]:
        raise problem or TrainingError("another of the processes cannot take part, see its message")


def _claim(folder: Path, described: dict) -> None:
    """Write config.json, or check that the folder was started with the same settings."""
    text = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path = folder / "config.json"
    try:
        if path.exists():
            try:
                there = json.loads(path.read_text())
            except ValueError as error:
                raise TrainingError(f"{path}: not valid JSON ({error}); delete the folder to start again") from None
            mine = json.loads(text)
            differing = sorted(k for k in _flat(there) | _flat(mine) if _flat(there).get(k) != _flat(mine).get(k))
            if differing:
                key = differing[0]
                raise TrainingError(f"{folder}: this run was started with {key} = {_flat(there).get(key)!r}, now it is "
                                    f"{_flat(mine).get(key)!r}; use the same settings, another --runs folder, or delete it")
            return
        if not devices.first():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_text(text)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _check_writable(folder: Path) -> None:
    """Find out now what would else come out at the first checkpoint."""
    try:
        (folder / "checkpoints").mkdir(exist_ok=True)
        probe = folder / "checkpoints" / f"probe-{jax.process_index()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> TrainingError:
    return TrainingError(f"{folder}: cannot write the run folder ({error.strerror or error}); free space, or choose another with --runs")


def _flat(tree, prefix="") -> dict:
    if isinstance(tree, dict):
        return {k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}{name}.").items()}
    return {prefix[:-1]: tree}


def _restore(manager, state, name: str):
    """The newest checkpoint that can be read, or the given state; and its step."""
    import orbax.checkpoint as ocp

    steps = sorted(manager.all_steps(), reverse=True)
    for step in steps:
        try:
            restored = manager.restore(step, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state)))
        except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
            print(f"{name}: checkpoint {step} cannot be read ({type(error).__name__}); trying an older one", file=sys.stderr)
            manager.delete(step)
            continue
        # Fresh buffers: what Orbax hands out may be shared, and the loop donates its state.
        return jax.tree.map(jnp.copy, restored), step
    return state, 0


class _Metrics:
    """metrics.jsonl, of the process that writes: one JSON object a line; lines beyond the resumed step are dropped."""

    def __init__(self, path: Path, start: int):
        self.path, self.begin = path, time.time()
        if not devices.first():
            return
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= start:
                        kept.append(line)
                except (ValueError, KeyError):
                    pass  # the line that was being written when the run was killed
        path.write_text("".join(line + "\n" for line in kept))

    def write(self, **values) -> None:
        if not devices.first():
            return
        with self.path.open("a") as file:
            file.write(json.dumps({**values, "seconds": round(time.time() - self.begin, 2)}) + "\n")
