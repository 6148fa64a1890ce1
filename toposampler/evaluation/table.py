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
    f"\n{BETTER}: the lesser or the greater value, the one nearer to the row real, or nearer to a number; -: neither",
    "metrics of single components and classes are in evaluation.json and evaluation.csv",
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
    yield from LEGEND


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
    """A sentence on the means whose half interval is larger than they are, and on what makes it smaller: one for rows
    of draws, one for rows over seeds."""
    if wide := _wide([row for row in rows if row.findings]):
        needed = max(value.needed(MOST_DRAWS) for _, _, value in wide)
        least = "at least " if needed == MOST_DRAWS else ""
        yield f"few draws: {_named(wide)}; {least}--draws {needed} would do, if they scatter alike"
    if wide := _wide([row for row in rows if not row.findings]):
        yield f"few seeds: {_named(wide)}; give models of more seeds"


def _wide(rows: Sequence[Row]) -> list[tuple[str, str, Estimate]]:
    """Metric, row and value where half of the interval is larger than the mean; none of a single component, and none
    whose expectation is hoped to be 0."""
    return [
        (name, row.name, value)
        for row in rows
        for name, value in row.metrics.items()
        if not is_detail(name) and not ((kind := kind_of(name)) and kind.signed)
        if (half := value.half_width) is not None and half > max(abs(value.mean), ROUNDING)
    ]


def _named(wide: Sequence[tuple[str, str, Estimate]]) -> str:
    """Which means, by their metrics."""
    rows: dict[str, list[str]] = {}
    for metric, row, _ in wide:
        rows.setdefault(metric, []).append(row)
    named = [f"{metric} ({', '.join(of)})" for metric, of in rows.items()]
    more = [f"{len(named) - NAMED} other metrics"] if len(named) > NAMED else []
    return f"the ± is larger than the mean of {', '.join([*named[:NAMED], *more])}"


def generators(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each generator with samples in the first draw: its share, and what the classifier takes it for."""
    for row in rows:
        seen = row.findings[0].by_class if row.findings else None
        if seen is not None and seen.makers:
            yield f"\ngenerators of {row.name}, first draw: share, class of most of its samples, share of them in it"
            yield from (f"  G{m.generator:<3} {m.share:6.1%}  {m.majority:>3} {m.purity:6.1%}" for m in seen.makers)
