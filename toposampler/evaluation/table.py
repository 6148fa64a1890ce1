"""The table in the terminal: a block for each question, a line for each row, the data itself first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from toposampler.evaluation.results import Estimate, Row
from toposampler.metrics.catalog import by_block, direction, is_detail, kind_of

WIDTH = 120
"""longest line; columns that do not fit go on below"""
BETTER = "better"
"""name of the line that says which values are better"""
LEGEND = (
    f"{BETTER}: the lesser or the greater value, the one nearer to the row real, or nearer to a number; -: neither\n"
    "metrics of single components and classes are in evaluation.json and evaluation.csv"
)
MOST_DRAWS = 100
"""draws beyond which no advice goes: a mean that takes more is not told from 0"""
ROUNDING = 5e-7
"""half width below which draws agree: rounding leaves 1e-17"""
NAMED = 4
"""metrics that a warning names"""


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table. A metric's column has below its name which values of it are better."""
    label = max(len(BETTER), *(len(row.name) for row in rows))
    names = {name: None for row in rows for name in row.metrics}  # a set in order
    for title, columns in by_block(names).items():
        yield f"\n{title}"
        cells = [[name, direction(name), *(text(row.metrics.get(name)) for row in rows)] for name in columns]
        for part in _that_fit(cells, WIDTH - label):
            for line, name in enumerate(["", BETTER, *(row.name for row in rows)]):
                yield "".join([name.ljust(label), *(column[line] for column in part)])
    yield f"\n{LEGEND}"


def _that_fit(columns: Sequence[Sequence[str]], room: int) -> Iterator[list[list[str]]]:
    """`columns`, each padded to one width, in groups that are no wider together than `room`, if one column fits."""
    group: list[list[str]] = []
    for column in columns:
        width = 2 + max(map(len, column))
        if group and sum(len(other[0]) for other in group) + width > room:
            yield group
            group = []
        group.append([cell.rjust(width) for cell in column])
    yield group


def text(value: Estimate | None) -> str:
    """`0.0123 ± 0.0004`: two digits of the half width, and the mean to the same place; `-` if there is no value."""
    if value is None:
        return "-"
    if value.half_width is None or value.half_width < ROUNDING:
        return f"{value.mean:.4g}"
    places = min(6, max(0, 1 - math.floor(math.log10(value.half_width))))
    return f"{value.mean:.{places}f} ± {value.half_width:.{places}f}"


def warnings(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence for each row with means whose half interval is larger than they are, and what makes it smaller."""
    for row in rows:
        wide = {name: value for name, value in row.metrics.items() if not is_detail(name) and _is_wide(name, value)}
        if not wide:
            continue
        n, what = len(next(iter(wide.values())).values), "draws" if row.findings else "models"
        named = ", ".join([*list(wide)[:NAMED], *([f"{len(wide) - NAMED} more"] if len(wide) > NAMED else [])])
        needed = max(value.needed(MOST_DRAWS) for value in wide.values())
        draws = f"{'at least ' if needed == MOST_DRAWS else ''}--draws {needed} makes it smaller, if they scatter alike"
        advice = draws if row.findings else "models of more seeds make it smaller"
        yield f"{row.name}: {n} {what} are few for {named}: the ± is larger than the mean; {advice}"


def _is_wide(name: str, value: Estimate) -> bool:
    """Whether half of the interval of `value` is larger than its mean, where a mean of 0 is not what is hoped for."""
    kind = kind_of(name)
    if value.half_width is None or value.half_width < ROUNDING or (kind is not None and kind.signed):
        return False
    return value.half_width > abs(value.mean)


def generators(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each generator with samples in the first draw: its share, and what the classifier takes it for."""
    for row in rows:
        seen = row.findings[0].by_class if row.findings else None
        if seen is not None and seen.makers:
            yield f"\ngenerators of {row.name}: share, class of most of its samples, share of them in it"
            yield from (f"  G{m.generator:<3} {m.share:6.1%}  {m.majority:>3} {m.purity:6.1%}" for m in seen.makers)
