"""The table in the terminal: a block for each question, a line for each row, the data itself first."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence

from toposampler.evaluation.results import Estimate, Row

BLOCKS = {
    "on the support, and all of it": r"score|off_manifold.*|off_support_nn99|coverage_(0\.05|k5)_(min|mean)",
    "modes": r"high_quality_3sd|modes_covered_3sd|modes_of_1000|mode_kl_nats",
    "masses": r"jsd_nats(_nn1)?|mass_tv(_nn1)?|prior_tv|prior_error_max|active_generators",
    "distances": r"energy_distance_root|sliced_wasserstein_2|wasserstein_2_\d+|mmd2_\d+|fd_classifier_\d+|fid_\d+",
    "shape": r"components_found|diagram0_w1_\d+|mtop_div_\d+_\d+",
    "fidelity and variety": r"(precision_k3|recall_k3|density_k5|coverage_k5)(_classifier)?|acceptance_rate",
    "classes": r"jsd_nats_conf0\.8|confident_0\.8|jsd_nats_argmax|quality_0\.9|purity",
    "variety within classes": r"msd_ratio_(min|max|class_\d+)|msd_unreachable_max",
    "copies of training points": r"memorised_q0\.05|closer_than_test",
}
"""what is printed, by what it tells"""
FURTHER = "further metrics"
"""the last block: what is in none of the others, such as registered metrics"""
IN_FILES = r".*(component|class)_\d+|mode_mass.*|components_found_real"
"""what is in the files only: of single components and classes there may be dozens, and the row `real` has the last"""
WIDTH = 120
"""longest line; columns that do not fit go on below"""


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table."""
    label = max(len(row.name) for row in rows)
    names = {name: None for row in rows for name in row.metrics}  # a set in order
    for title, columns in _blocks(names):
        yield f"\n{title}"
        cells = [[column, *(text(row.metrics.get(column)) for row in rows)] for column in columns]
        for part in _that_fit(cells, WIDTH - label):
            for line, name in enumerate(["", *(row.name for row in rows)]):
                yield "".join([name.ljust(label), *(column[line] for column in part)])


def _blocks(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """The titles of the blocks that hold some of the metrics `names`, and which."""
    left = list(names)
    for title, pattern in BLOCKS.items():
        if columns := [name for name in left if re.fullmatch(pattern, name)]:
            yield title, columns
        left = [name for name in left if name not in columns]
    if columns := [name for name in left if not re.fullmatch(IN_FILES, name)]:
        yield FURTHER, columns


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
    if value.half_width is None or value.half_width < 5e-7:  # rounding leaves 1e-17 where all draws agree
        return f"{value.mean:.4g}"
    places = min(6, max(0, 1 - math.floor(math.log10(value.half_width))))
    return f"{value.mean:.{places}f} ± {value.half_width:.{places}f}"


def generators(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each generator with samples in the first draw: its share, and what the classifier takes it for."""
    for row in rows:
        seen = row.findings[0].by_class if row.findings else None
        if seen is not None and seen.makers:
            yield f"\ngenerators of {row.name}: share, class of most of its samples, share of them in it"
            yield from (f"  G{m.generator:<3} {m.share:6.1%}  {m.majority:>3} {m.purity:6.1%}" for m in seen.makers)
