"""States in the types of a configuration's fields what they may hold, and checks it.

@dataclasses.dataclass(frozen=True)
class Config:
    steps: Count = 1000
    ema: BelowOne = 0.998

    def __post_init__(self):
        check(self)
"""

from __future__ import annotations

import functools
import math
import numbers
import typing
from typing import Annotated, Any, NamedTuple


class Range(NamedTuple):
    """Numbers from `low` to `high`.

    above: whether `low` itself is left out.
    below: whether `high` itself is left out.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; infinity and NaN never are."""
        return (
            math.isfinite(value)
            and (value > self.low if self.above else value >= self.low)
            and (value < self.high if self.below else value <= self.high)
        )

    def of(self, kind: str) -> str:
        """The range in words, such as "a number above 0 and up to 1" for `kind` "a number"."""
        if self.low == -math.inf:
            return f"{kind} that is finite"
        if self.high == math.inf:
            return f"{kind} above {self.low:g}" if self.above else f"{kind}, {self.low:g} or more"
        start = f"{kind} above {self.low:g} and" if self.above else f"{kind} from {self.low:g}"
        end = "to below" if self.below else "up to" if self.above else "to"
        return f"{start} {end} {self.high:g}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
WarmUp = Annotated[int, Range(-1)]
"""Number of steps; -1 for a constant learning rate."""
Finite = Annotated[float, Range(-math.inf)]
Amount = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(0, 1, above=True)]
"""A share above 0."""
BelowOne = Annotated[float, Range(0, 1, below=True)]


def check(config: Any) -> None:
    """Raise ValueError for the first field of a dataclass whose value its type does not allow.

    It checks numbers with a Range (Count and so on), Literals, bool, and tuples of these. The
    message is one line: the setting as on the command line, its value, and what is allowed.
    """
    for name, hint in _hints(type(config)).items():
        if allowed := _refused(getattr(config, name), hint):
            raise ValueError(f"{_given(config, name)}: give {allowed}")


def check_sum(config: Any, *names: str) -> None:
    """Raise ValueError if settings that are shares of one thing add up to more than 1."""
    if sum(getattr(config, name) for name in names) > 1 + 1e-9:
        given = ", ".join(_given(config, name) for name in names)
        raise ValueError(f"{given}: give shares that add up to at most 1")


def _given(config: Any, name: str) -> str:
    """A setting as on the command line, cut if it is long."""
    value = getattr(config, name)
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"--{name.replace('_', '-')} {text[:80]}"


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _refused(value: Any, hint: Any) -> str:
    """What a type allows, if the value does not fit it; else ""."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        *others, last = map(str, inside)
        return "" if value in inside else f"{', '.join(others)} or {last}" if others else last
    if origin is tuple:
        if not isinstance(value, tuple) or (inside[-1] is not ... and len(value) != len(inside)):
            return "some values" if inside[-1] is ... else f"{len(inside)} values"
        of = inside[:1] * len(value) if inside[-1] is ... else inside
        found = next((text for v, h in zip(value, of) if (text := _refused(v, h))), "")
        return f"for each {found}" if found else ""
    if origin is Annotated:
        allowed = next((e for e in hint.__metadata__ if isinstance(e, Range)), None)
        if allowed is None:
            return ""
        whole = hint.__origin__ is int
        kind = numbers.Integral if whole else numbers.Real
        fits = isinstance(value, kind) and not isinstance(value, bool) and allowed.holds(value)
        return "" if fits else allowed.of("a whole number" if whole else "a number")
    return "True or False" if hint is bool and not isinstance(value, bool) else ""
