"""The tables of README.md and docs/, made from the committed results of the benchmarks.

    python benchmarks/tables.py                 lists the tables, and the documents that hold them
    python benchmarks/tables.py NAME [NAME ...] prints these
    python benchmarks/tables.py --write         puts all into the documents

A document holds a table between two marks, each a line of its own: `<!-- table: NAME -->` and `<!-- end -->`. A table
is made by a function of the benchmark that measured it, which prints the same at its end. `tests/test_tables_made.py`
fails if a document has another table than the results, or a table of numbers without marks that is not in `OUTSIDE`.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BEGIN, END = re.compile(r"<!-- table: (\S+) -->"), "<!-- end -->"


@dataclass(frozen=True)
class Table:
    """A function of a benchmark that gives the lines of a Markdown table."""

    module: str
    """imported when the table is made: some take seconds"""
    function: str
    results: str = ""
    """what is its first argument: the content of this file in `RESULTS`, or the path of this folder; none if empty"""
    arguments: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The table, made anew."""
        function = getattr(importlib.import_module(self.module), self.function)
        content = (_content(RESULTS / self.results),) if self.results else ()
        made: list[str] = function(*content, *self.arguments)
        return made


TABLES = {
    "summary": Table("summary", "table"),
    "lines": Table("lines", "table", "lines.json"),
    "ensemble": Table("ensemble", "table", "ensemble.json"),
    "mnist": Table("mnist", "table", "mnist.csv"),
    "mnist_variety": Table("mnist", "variety", "mnist.csv"),
    "rejection": Table("rejection", "table", "rejection.json"),
    "scaling_ray": Table("scaling", "ray_table", "scaling.json"),
    "scaling_wire": Table("scaling", "wire_table", "scaling.json"),
    "scaling_memory": Table("scaling", "memory_table", "scaling.json"),
    "scaling_model": Table("scaling", "model_table", "scaling.json"),
    "sweep": Table("sweep", "table", "sweep.json"),
    "fitted_start": Table("fitted_start", "kept_table", "fitted_start/fitted_start.json"),
    "r3gan_grid": Table("r3gan_grid", "kept_table", "r3gan_grid/r3gan_grid.json"),
    "searches": Table("searches", "table", "searches"),
    "searches_repeats": Table("searches", "repeats_table", "searches"),
    "searches_settings": Table("searches_settings", "table", "searches/settings"),
    "searches_simulated": Table("searches_simulated", "table", "searches/simulated"),
    "spheres_noise": Table("spheres", "noise_table", "spheres.json"),
    "spheres": Table("spheres", "table", "spheres.json"),
    "spheres_bounds": Table("spheres", "bounds_table", "spheres.json"),
    "spheres_maps": Table("spheres", "maps_table", "spheres.json"),
    "topology": Table("topology", "loss_table", "topology.json"),
    "topology_large": Table("topology", "large_table", "topology.json"),
    "topology_components": Table("topology", "components_table", "topology.json"),
    "image_costs": Table("image_costs", "table", "image_costs.json"),
    "ablation_counting": Table("ablation", "table", "ablation.json", ("counting",)),
    "ablation_training": Table("ablation", "table", "ablation.json", ("training",)),
    "ablation_weights": Table("ablation", "table", "ablation.json", ("weights",)),
    "family": Table("family_report", "scores_table", "family", ("../benchmarks/results/family/",)),
    "family_tenth": Table("family_report", "scores_table", "family_tenth", ("../benchmarks/results/family_tenth/",)),
    "family_places": Table("family_report", "places_table", "family_tenth", ("component_gan", "family")),
    "family_tenth_solved": Table("family_report", "solved_table", "family_tenth", ("component_gan",)),
}


@dataclass(frozen=True)
class Outside:
    """Tables of numbers that stand in a document without marks, and why."""

    document: str
    begins: str
    """how the first lines of the tables begin"""
    reason: str


OUTSIDE = (
    Outside("ARCHITECTURE.md", "| failure |", "seconds that tests/test_faults.py measures and prints"),
    Outside(
        "docs/bad_starts.md",
        "|",
        "benchmarks/bad_starts.py writes it to results/bad_starts/bad_starts.md, with its text",
    ),
    Outside("docs/component_gan.md", "|", "from benchmarks/ablation.py, family.py and single runs"),
    Outside("docs/damage.md", "|", "a part of what benchmarks/damage.py prints: two degrees of each damage"),
    Outside("docs/images.md", "|", "sizes of data sets"),
    Outside("docs/lines.md", "| authors' program", "the authors' program, run once outside this repository"),
    Outside("docs/movement.md", "|", "a part of results/movement/movement.md, which benchmarks/movement.py writes"),
    Outside("docs/mnist.md", "| reported", "reported by the paper"),
    Outside("docs/r3gan.md", "| data |", "constants and costs reported by the authors"),
    Outside("docs/r3gan.md", "| pixels |", "operations, counted by `toposampler train --dry-run`"),
    Outside("docs/r3gan.md", "| gamma |", "printed by benchmarks/gamma.py, which keeps runs and no results"),
    Outside("docs/r3gan.md", "| start |", "two single runs, not committed"),
    Outside("docs/versions.md", "| package | lowest |", "versions that .ci/lowest installed and its tests ran with"),
    Outside("docs/spectral_labels.md", "| digits |", "of results/spectral_labels, by benchmarks/spectral_labels.py"),
    Outside("docs/spectral_labels.md", "| MNIST |", "of results/spectral_labels, by benchmarks/spectral_labels.py"),
    Outside("docs/sweeps.md", "| trial |", "one run of `make sweep`, which prints such a table at its end"),
)
"""each must still be there: the list grows and shrinks with the documents"""


def _content(path: Path) -> Any:
    """What is at `path`: a folder itself, a parsed JSON file, or the rows of a CSV file."""
    if path.is_dir():
        return path
    with path.open(newline="") as file:
        return json.load(file) if path.suffix == ".json" else list(csv.DictReader(file))


def documents() -> list[Path]:
    """README, ARCHITECTURE and all pages of docs/ that are not generated."""
    made = {"_build", "generated"}
    pages = [path for path in sorted((ROOT / "docs").rglob("*.md")) if not made & set(path.relative_to(ROOT).parts)]
    return [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *pages]


def put(text: str) -> str:
    """`text`, a document, with today's tables between its marks.

    Raises ValueError if a mark names no table, stands within another's marks, is indented, or has no end.
    """
    out: list[str] = []
    inside = ""
    for line in text.splitlines():
        if line.lstrip().startswith("<!-- table"):
            mark = BEGIN.fullmatch(line)
            if inside or not mark or mark[1] not in TABLES:
                known = f"a line of its own must be <!-- table: NAME -->, with a NAME of {', '.join(TABLES)}"
                raise ValueError(f"{line}: {f'the table {inside} must end first' if inside else known}")
            inside = mark[1]
            out += [line, *TABLES[inside].lines()]
        elif line == END:
            if not inside:
                raise ValueError(f"{END} without <!-- table: NAME --> before it")
            inside = ""
            out.append(line)
        elif not inside:
            out.append(line)
    if inside:
        raise ValueError(f"<!-- table: {inside} --> has no {END}")
    return "\n".join(out) + "\n"


def outside(text: str) -> Iterator[str]:
    """The first lines of the tables of numbers that stand without marks in `text`, a document.

    Such a table has a column of numbers that is not its first: of its cells that are neither empty nor `-`, at least
    half have a digit, and no more letters than digits.
    """
    unmarked = re.sub(rf"{BEGIN.pattern}\n.*?^{END}$", "", text, flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^ *\|.*\n?)+", unmarked, re.MULTILINE):
        head, *rows = (re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines())
        columns = itertools.zip_longest(*rows[1:], fillvalue="")
        if any(map(_has_numbers, itertools.islice(columns, 1, None))):
            yield f"|{'|'.join(head)}|"


def _has_numbers(column: Sequence[str]) -> bool:
    filled = [cell for cell in column if cell.strip() not in ("", "-")]
    numbers = [cell for cell in filled if 0 < sum(map(str.isdigit, cell)) >= sum(map(str.isalpha, cell))]
    return bool(filled) and 2 * len(numbers) >= len(filled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="tables to print")
    parser.add_argument("--write", action="store_true", help="put all tables into the documents")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in TABLES]:
        parser.error(f"there is no table {', '.join(unknown)}; choose from {', '.join(TABLES)}")
    texts = {path: path.read_text() for path in documents()}
    if options.names:
        print("\n\n".join("\n".join(TABLES[name].lines()) for name in options.names))
    elif options.write:
        for path, text in texts.items():
            try:
                new = put(text)
            except ValueError as error:
                sys.exit(f"{path.relative_to(ROOT)}: {error}")
            if new != text:
                path.write_text(new)
                print(f"{path.relative_to(ROOT)}: new tables")
    else:
        for name, table in TABLES.items():
            held = [str(path.relative_to(ROOT)) for path, text in texts.items() if f"<!-- table: {name} -->\n" in text]
            print(f"{name:22}{', '.join(held) or '-':24}made by benchmarks/{table.module}.py")


if __name__ == "__main__":
    main()
