"""Learning rates and AdamW as the configurations ask for them."""

from __future__ import annotations

import optax


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
