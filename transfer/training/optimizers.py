"""Learning rates and AdamW as the configurations define them."""

from __future__ import annotations

import optax


def learning_rate(config, cooldown: float = 1.0) -> optax.Schedule:
    """Linear warm-up, a constant learning rate, and cosine decay to 1 % of it.

    config: has `steps`, `warmup` and `learning_rate`.
    cooldown: share of the steps, at the end, in which the learning rate falls.
    """
    warmup = min(config.warmup, config.steps // 2)
    if cooldown >= 1:
        return optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, warmup, config.steps, 0.01 * config.learning_rate
        )
    start = constant_until(config.steps, config.warmup, cooldown)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, warmup),
            optax.constant_schedule(config.learning_rate),
            optax.cosine_decay_schedule(config.learning_rate, config.steps - start, 0.01),
        ],
        [warmup, start],
    )


def constant_until(steps: int, warmup: int, cooldown: float) -> int:
    """The step at which the learning rate begins to fall.

    Until then the number of steps does not influence a run.
    """
    if cooldown >= 1 or warmup < 0:
        return 0
    return max(int(steps * (1 - cooldown)), min(warmup, steps // 2))


def adamw(config, cooldown: float = 1.0) -> optax.GradientTransformation:
    """AdamW at `learning_rate`, or plain Adam at a constant rate if `warmup` is -1, as in the
    paper.

    config: has `steps`, `warmup`, `learning_rate` and `weight_decay`.
    cooldown: see `learning_rate`.
    """
    if config.warmup < 0:
        return optax.adam(config.learning_rate)
    return optax.adamw(learning_rate(config, cooldown), b2=0.99, weight_decay=config.weight_decay)
