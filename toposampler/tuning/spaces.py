"""What a key may be: typed parameters, and how they are written in a SWEEP.yaml or stated at the key itself.

uniform: [low, high]       a number, evenly
loguniform: [low, high]    a number, its logarithm evenly
int: [low, high]           a whole number, evenly, both ends included
choice: [a, b, ...]        one of these
when: {key: value}         beside one of them: the key exists only where another has that value (or one of a list)
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from toposampler.config import flatten, shortened
from toposampler.errors import UserError
from toposampler.keys import new_name, ready_ranges

if TYPE_CHECKING:
    import optuna

Conditions = Mapping[str, tuple[Any, ...]]
Values = dict[str, Any]

STEP = 0.2
"""how far population based training moves a number: this share of its range, up or down"""
READY = "ready"
"""written in the place of a parameter: the range that the key states itself (`toposampler.keys`)"""


@dataclass(frozen=True)
class Number:
    """A real number in [low, high], spread evenly, or with `log` by its logarithm."""

    low: float
    high: float
    log: bool = False
    when: Conditions = field(default_factory=dict)

    def suggest(self, trial: optuna.Trial, key: str) -> float:
        """The value that `trial` is to have for `key`."""
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def corners(self) -> list[Any]:
        """Values that between them show whether the whole range is allowed."""
        return [self.low, self.high]

    def holds(self, value: object) -> bool:
        """Whether `value` is in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def moved(self, value: float, rng: random.Random) -> float:
        """`value` moved up or down by `STEP` of the range, but not out of it."""
        to, back = (math.log, math.exp) if self.log else (float, float)
        low, high = to(self.low), to(self.high)
        place = to(value) + rng.choice((-STEP, STEP)) * (high - low)
        return min(self.high, max(self.low, back(place)))

    def drawn(self, rng: random.Random) -> float:
        """A value from all of the range."""
        to, back = (math.log, math.exp) if self.log else (float, float)
        return min(self.high, max(self.low, back(rng.uniform(to(self.low), to(self.high)))))


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high, both included."""

    low: int
    high: int
    when: Conditions = field(default_factory=dict)

    def suggest(self, trial: optuna.Trial, key: str) -> int:
        """See `Number.suggest`."""
        return trial.suggest_int(key, self.low, self.high)

    def corners(self) -> list[Any]:
        """See `Number.corners`."""
        return [self.low, self.high]

    def holds(self, value: object) -> bool:
        """See `Number.holds`."""
        return isinstance(value, int) and self.low <= value <= self.high

    def drawn(self, rng: random.Random) -> int:
        """See `Number.drawn`."""
        return rng.randint(self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of some plain values."""

    options: tuple[Any, ...]
    when: Conditions = field(default_factory=dict)

    def suggest(self, trial: optuna.Trial, key: str) -> Any:
        """See `Number.suggest`."""
        return trial.suggest_categorical(key, self.options)

    def corners(self) -> list[Any]:
        """See `Number.corners`."""
        return list(self.options)

    def holds(self, value: object) -> bool:
        """See `Number.holds`."""
        return value in self.options

    def drawn(self, rng: random.Random) -> Any:
        """See `Number.drawn`."""
        return rng.choice(self.options)


Parameter = Number | Whole | Choice
Space = dict[str, Parameter]


def parse_space(written: Mapping[str, Any], config: BaseModel) -> Space:
    """The space that a SWEEP.yaml wrote, every key behind those it depends on; `config` is its base.

    Raises UserError naming the key that is wrong.
    """
    base, ready = flatten(config.model_dump(mode="json")), ready_ranges(config)
    space: Space = {}
    for asked, content in written.items():
        key = new_name(asked, base)
        if content == READY:
            if key not in ready:
                raise UserError(
                    f"space.{key}: {base['system.name']} has no ready range for it; there are {', '.join(ready)}"
                )
            space[key] = widened(parse_parameter(key, ready[key]), base[key])
        else:
            space[key] = parse_parameter(key, content)
    return _in_order({key: _settled(key, parameter, space, base) for key, parameter in space.items()})


def parse_parameter(key: str, content: Any) -> Parameter:
    """One key's parameter. Raises UserError naming the key, what is wrong with it, and what would be right."""
    if not isinstance(content, Mapping):
        raise UserError(
            f"space.{key}: {shortened(repr(content))} is no range: write {READY}, or {{uniform: [low, high]}}; {_KINDS}"
        )
    kinds = [kind for kind in content if kind != "when"]
    if len(kinds) != 1 or kinds[0] not in ("uniform", "loguniform", "int", "choice"):
        raise UserError(f"space.{key}: {_KINDS} (got {shortened(', '.join(map(str, kinds))) or 'none'})")
    kind, values, when = kinds[0], content[kinds[0]], _parse_when(key, content.get("when", {}))
    if not isinstance(values, list) or not values:
        raise UserError(f"space.{key}.{kind}: a list of at least one value is needed (got {shortened(repr(values))})")
    if kind == "choice":
        if any(not isinstance(value, str | int | float | bool | None) for value in values):
            raise UserError(f"space.{key}.choice: options are plain values (got {shortened(repr(values))})")
        if len({repr(value) for value in values}) < len(values):
            raise UserError(f"space.{key}.choice: an option is given twice (got {shortened(repr(values))})")
        return Choice(tuple(values), when)
    if len(values) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in values):
        raise UserError(f"space.{key}.{kind}: two numbers are needed, [low, high] (got {shortened(repr(values))})")
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"space.{key}.{kind}: low must be less than high, and both finite (got {shortened(repr(values))})"
        )
    if kind == "int":
        if low != int(low) or high != int(high):
            raise UserError(f"space.{key}.int: both ends must be whole numbers (got {shortened(repr(values))})")
        if max(-low, high) > 2**53:
            raise UserError(f"space.{key}.int: both ends must be within 2**53 of 0 (got {shortened(repr(values))})")
        return Whole(int(low), int(high), when)
    if kind == "loguniform" and low <= 0:
        raise UserError(f"space.{key}.loguniform: low must be positive (got {low!r})")
    return Number(float(low), float(high), kind == "loguniform", when)


def widened(parameter: Parameter, value: Any) -> Parameter:
    """`parameter`, which its key states for all, with the base's own `value` in it: a sweep can begin there.

    A number of 0 stays outside a range of logarithms, and a value of another kind (`auto`, say) outside of any range.
    """
    if parameter.holds(value):
        return parameter
    match parameter:
        case Choice(options):
            return replace(parameter, options=(value, *options))
        case Whole(low, high) if isinstance(value, int):
            return replace(parameter, low=min(low, value), high=max(high, value))
        case Number(low, high, log) if isinstance(value, int | float) and (value > 0 or not log):
            return replace(parameter, low=min(low, float(value)), high=max(high, float(value)))
    return parameter


_KINDS = "a range is one of uniform, loguniform, int, choice, and may have a `when`"


def _parse_when(key: str, when: Any) -> Conditions:
    if not isinstance(when, Mapping) or any(value == [] for value in when.values()):
        raise UserError(
            f"space.{key}.when: write {{key: value}} or {{key: [value, value]}} (got {shortened(repr(when))})"
        )
    return {other: tuple(value) if isinstance(value, list) else (value,) for other, value in when.items()}


def _settled(key: str, parameter: Parameter, space: Space, base: Mapping[str, Any]) -> Parameter:
    """`parameter` with only the conditions that the sweep decides; the others must hold in the base."""
    for other in parameter.when.keys() - space.keys():
        if other not in base:
            raise UserError(f"space.{key}.when: {other} is neither in the space nor a key of the base")
        if base[other] not in parameter.when[other]:
            raise UserError(f"space.{key}.when: {other} is always {base[other]!r}, so this key would never exist")
    return replace(parameter, when={other: allowed for other, allowed in parameter.when.items() if other in space})


def _in_order(space: Space) -> Space:
    """`space` with every key behind those that its conditions name."""
    ordered: Space = {}
    waiting = dict(space)
    while waiting:
        free = [key for key, parameter in waiting.items() if parameter.when.keys() <= ordered.keys()]
        if not free:
            raise UserError(f"space.{next(iter(waiting))}.when: it depends on itself")
        ordered |= {key: waiting.pop(key) for key in free}
    for key, parameter in ordered.items():
        for other, allowed in parameter.when.items():
            if never := [value for value in allowed if not ordered[other].holds(value)]:
                raise UserError(f"space.{key}.when: {other} is never {', '.join(map(repr, never))}")
    return ordered


def active(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Whether a key exists beside the `values` of the keys before it."""
    return all(values.get(other) in allowed for other, allowed in parameter.when.items())


def drawn(space: Space, rng: random.Random) -> Values:
    """Values from all of their ranges, of all keys that exist beside those before them."""
    values: Values = {}
    for key, parameter in space.items():
        if active(parameter, values):
            values[key] = parameter.drawn(rng)
    return values


def suggest(space: Space, trial: optuna.Trial) -> Values:
    """The values that `trial` is to have: those of all keys that exist in it."""
    values: Values = {}
    for key, parameter in space.items():
        if active(parameter, values):
            values[key] = parameter.suggest(trial, key)
    return values


def describe_space(space: Space) -> list[str]:
    """One line for each key."""
    lines = []
    for key, parameter in space.items():
        match parameter:
            case Choice(options):
                text = "one of " + ", ".join(map(str, options))
            case Whole(low, high):
                text = f"whole number from {low} to {high}"
            case Number(low, high, log):
                text = f"{low:g} to {high:g}" + (", by its logarithm" if log else "")
        conditions = [f"{other} is {' or '.join(map(str, allowed))}" for other, allowed in parameter.when.items()]
        lines.append(f"{key:<36} {text}" + (f", where {' and '.join(conditions)}" if conditions else ""))
    return lines
