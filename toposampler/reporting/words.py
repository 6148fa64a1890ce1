"""The words of a run: a verdict in one sentence, and warnings. Functions of what was found, nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from toposampler.metrics.findings import Findings, Maker
from toposampler.records import Record

SHOWN = 6
"""components and generators that a sentence names, at most"""
BRIDGED = 0.02
"""share of a generator's samples in a second component from which it is said to be on two"""
MISSING = 0.1
"""share of its mass below which a component is said to be missing"""
HOLE = 0.8
"""covered share of a component below which that is said"""
BETWEEN = 0.001
"""share of samples between two components from which that is a warning"""
OFF = 0.03
"""share of samples off the data from which that is a warning; of real points 0.01 are at most"""
COPIED = 0.5
"""share of samples as near to data points as copies would be, from which that is said; 0.05 is expected"""
MOVING = 0.02
"""change of a mass of the prior in the last tenth of a run from which the prior is said to move still"""
LAST = 0.1
"""that share of the run"""
FEW_SAMPLES, FEW_POINTS = 1000, 50
"""samples, and points of a component, below which shares are said to be uncertain"""


def number(value: float) -> str:
    """A share as the papers write it: .59, .002, 1.00."""
    digits = 2 if value >= 0.095 or value == 0 else min(6, 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    text = text.rstrip("0") if digits > 2 else text
    return text[1:] if text.startswith("0.") else text


def percent(share: float) -> str:
    """A share as per cent, with two digits: 12 %, 0.9 %, 0.025 %; 0 % for none."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.3g} %"


def several(n: int, what: str) -> str:
    """`n` and its noun: 1 component, 4 components."""
    return f"{n:,} {what}{'s'[: n != 1]}"


def listed(items: Sequence[object], most: int = SHOWN) -> str:
    """1, 2 and 3; with `most` of many: 1, 2, 3 and 9 more."""
    shown = [str(item) for item in items[:most]]
    if len(items) > most:
        return f"{', '.join(shown)} and {len(items) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def verdict(found: Findings) -> str:
    """What came of the run, in one sentence."""
    parts = [_on_components(found)]
    if missing := _missing(found):
        parts.append(f"{_named(missing, 'is', 'are')} missing")
    if found.between is not None and len(found.components) > 1:
        share = sum(of.share for of in found.between)
        parts.append(f"{percent(share)} of the samples between them" if share else "nothing between them")
    if found.between is None or len(found.components) == 1 or found.off > OFF:
        parts.append(f"{percent(found.off)} of the samples off the data")
    if (error := weights_error(found)) is not None:
        parts.append(f"weights right within {number(error)}")
    return "; ".join(parts)


def _named(components: Sequence[int], one: str, more: str) -> str:
    """`component 3 is`, or `components 3 and 4 are`."""
    return f"components {listed(components)} {more}" if len(components) > 1 else f"component {components[0]} {one}"


def weights_error(found: Findings) -> float | None:
    """The largest error of a component's mass: of the learned prior, or without one of the samples; None: there is one
    component."""
    if len(found.components) < 2:
        return None
    return max(abs((c.samples if c.learned is None else c.learned) - c.mass) for c in found.components)


def _on_components(found: Findings) -> str:
    """The components of the data, and the generators on each."""
    M, makers = len(found.components), found.makers
    what = several(M, "component") + " in the data"
    if found.source == "none":
        what = "data without labels"
    if len(makers) == 1:
        masses = " ".join(number(c.samples) for c in found.components[:SHOWN])
        more = f" and {M - SHOWN} more" if M > SHOWN else ""
        return f"{what}, one generator" + (f" with masses {masses}{more}" if M > 1 else "")
    groups: dict[int, list[Maker]] = {}
    for maker in makers:
        groups.setdefault(maker.component, []).append(maker)
    order = sorted(groups.values(), key=lambda group: -sum(maker.mass for maker in group))
    named = [
        f"{{{', '.join(str(maker.id) for maker in group)}}} {number(sum(maker.mass for maker in group))}"
        for group in order[:SHOWN]
    ]
    more = f" and {len(order) - SHOWN} more" if len(order) > SHOWN else ""
    return f"{what}, {several(len(makers), 'generator')} on {'them' if M > 1 else 'it'}: {', '.join(named)}{more}"


def _missing(found: Findings) -> list[int]:
    return [m for m, c in enumerate(found.components) if c.mass > 0 and c.samples < MISSING * c.mass]


def warnings(found: Findings, records: Sequence[Record] = (), n_data: int | None = None) -> Iterator[str]:
    """What a person should know before the result is used, a sentence each; none where all is well.

    `records` are those of the run: they say whether the prior still moves. `n_data` is the number of data points.
    """
    for maker in found.makers:
        if maker.other is not None and maker.in_other >= BRIDGED:
            yield (
                f"generator {maker.id} is on two components: {maker.component} with {percent(maker.purity)} of its "
                f"samples and {maker.other} with {percent(maker.in_other)}; more generators may part them"
            )
    missing = _missing(found)
    if missing:
        mass, samples = (percent(sum(getattr(found.components[m], of) for m in missing)) for of in ("mass", "samples"))
        yield f"{_named(missing, 'is', 'are')} missing: {mass} of the data, {samples} of samples"
    holes = [m for m, of in enumerate(found.components) if of.mass > 0 and of.covered < HOLE and m not in missing]
    if holes:
        least = percent(min(found.components[m].covered for m in holes))
        place = _named(holes, "has", "have") if len(found.components) > 1 else "the data has"
        of_the_least = "of its points" if len(holes) == 1 else "of the points of one"
        yield f"{place} holes: only {least} {of_the_least} have a sample near"
    for of in (found.between or ())[:SHOWN]:
        if of.share < BETWEEN:
            continue
        a, b = of.components
        yield (
            f"{percent(of.share)} of the samples lie between components {a} and {b}, made by generator"
            f"{'s'[: len(of.generators) > 1]} {listed(of.generators)}"
        )
    if found.off > OFF:
        yield f"{percent(found.off)} of the samples lie off the data; of real points at most 1 % do"
    if found.copies > COPIED:
        yield (
            f"samples may be memorized: {percent(found.copies)} of them are nearer to a data point than 5 % of the "
            "data points are to their nearest other"
        )
    if moved := _moved(records):
        yield moved
    if found.n < FEW_SAMPLES:
        yield f"only {several(found.n, 'sample')} were evaluated: training.evaluation_samples {FEW_SAMPLES:,} or more"
    if n_data is not None:
        few = [m for m, c in enumerate(found.components) if 0 < c.mass * n_data < FEW_POINTS]
        if few:
            yield (
                f"component{'s'[: len(few) > 1]} {listed(few)} of the data {'have' if few[1:] else 'has'} fewer than "
                f"{FEW_POINTS} points: what is said of {'them' if few[1:] else 'it'} is uncertain"
            )


def _moved(records: Sequence[Record]) -> str | None:
    """That the prior still moves, with the generator whose mass has changed most; None if it does not."""
    of_priors = [(r.step, priors) for r in records if (priors := _masses(r.metrics))]
    if len(of_priors) < 2:
        return None
    last, now = of_priors[-1]
    before = next((priors for step, priors in reversed(of_priors) if step <= (1 - LAST) * last), None)
    if before is None:
        return None
    k = max(now, key=lambda name: abs(now[name] - before.get(name, 0.0)))
    if abs(now[k] - before.get(k, 0.0)) <= MOVING:
        return None
    return (
        f"the prior still moves: generator {k} went from {number(before.get(k, 0.0))} to {number(now[k])} in the last "
        "tenth of the run; train longer"
    )


def _masses(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("mass/"): value for name, value in metrics.items() if name.startswith("mass/")}
