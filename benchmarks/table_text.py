"""Text of the benchmarks' tables: Markdown, and cells over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table. Raises ValueError if a row has not a cell for each heading."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} cells under {len(head)} headings: {row}")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def mean_sd(values: Sequence[float], form: str) -> str:
    """`mean ± standard deviation` over the seeds, the latter if there are two seeds and it is not 0; `-` of none."""
    if not values:
        return "-"
    spread = stdev(values) if len(values) > 1 else 0.0
    return f"{fmean(values):{form}}" + (f" ± {spread:{form}}" if spread else "")


def mean_worst(values: Sequence[float], worst: Callable[[Sequence[float]], float], form: str = ".4f") -> str:
    """`mean (worst)` over the seeds, where `worst` is max or min; `-` of none."""
    return f"{fmean(values):{form}} ({worst(values):{form}})" if values else "-"


def mean_range(values: Sequence[float], form: str) -> str:
    """`mean (least to largest)` over the seeds."""
    return f"{fmean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def seeds(rows: Iterable[object]) -> str:
    """`1 seed`, `3 seeds`: how many different ones `rows` has."""
    n = len(set(rows))
    return f"{n} seed" + "s" * (n > 1)
