"""transfer.training.optimizers: learning rates as the configurations define them, and when a run
may get another number of steps."""

import dataclasses

import pytest

from transfer.training.optimizers import constant_until, learning_rate


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 1000
    warmup: int = 100
    learning_rate: float = 2.0
    weight_decay: float = 0.0


def test_warm_up_is_linear_and_the_whole_rest_a_cosine():
    rate = learning_rate(Config())
    assert float(rate(0)) == 0 and float(rate(50)) == pytest.approx(1) and float(rate(100)) == 2
    assert float(rate(550)) == pytest.approx(2 * (0.01 + 0.99 / 2), rel=1e-5)
    assert float(rate(1000)) == pytest.approx(0.02, rel=1e-5)


def test_with_a_cooldown_the_rate_is_constant_before_it():
    rate = learning_rate(Config(), 0.3)
    assert float(rate(50)) == pytest.approx(1)
    assert {float(rate(n)) for n in (100, 400, 700)} == {2.0}
    assert float(rate(850)) == pytest.approx(2 * (0.01 + 0.99 / 2), rel=1e-5)
    assert float(rate(1000)) == pytest.approx(0.02, rel=1e-5)


def test_the_number_of_steps_has_no_influence_until_the_rate_falls():
    short, long = Config(), Config(steps=4000)
    assert constant_until(1000, 100, 0.5) == 500 and constant_until(4000, 100, 0.5) == 2000
    for step in (0, 30, 100, 499):
        assert float(learning_rate(short, 0.5)(step)) == float(learning_rate(long, 0.5)(step))
    assert constant_until(1000, 100, 1.0) == 0 and constant_until(1000, -1, 0.5) == 0
