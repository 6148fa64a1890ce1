"""Writes the pages that the code itself says: systems, data sets, metrics, keys of a configuration.

    python docs/reference.py [FOLDER]      default: docs/generated, which `make docs` reads

Nothing is written twice: the text of a system is its module's docstring, keys have the meanings that `--help` shows,
metrics those of `toposampler.metrics.catalog`, and results are read from benchmarks/results/family.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from toposampler.commands.systems import known, text
from toposampler.config import Section, describe, shortened
from toposampler.data.base import SyntheticConfig
from toposampler.metrics.catalog import KINDS
from toposampler.training.config import RunConfig

ROOT = Path(__file__).parents[1]
FAMILY = ROOT / "benchmarks" / "results" / "family"
SHOWN = 2000
"""points of a data set's picture"""


def write(folder: Path) -> None:
    """Write all pages to `folder`: systems/NAME.md and data/NAME.md, metrics.md and keys.md."""
    for kind in ("systems", "data"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    pages = known()
    for name, section in pages["system"].items():
        _put(folder / "systems" / f"{name}.md", [*_docstring(section), *_results(name), *_keys("system", section)])
    for name, section in sorted(pages["data"].items()):
        picture = [] if (plotted := _picture(folder / "data", name, section)) is None else [f"![]({plotted})", ""]
        _put(folder / "data" / f"{name}.md", [f"# {name}", "", *_docstring(section), *picture, *_keys("data", section)])
    _put(folder / "metrics.md", list(_metrics()))
    _put(folder / "keys.md", list(_all_keys()))


def _put(path: Path, lines: Sequence[str]) -> None:
    """Write a page, unless it is there already: an unchanged file is not built again."""
    content = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != content:
        path.write_text(content)


def _docstring(section: type[Section]) -> list[str]:
    return ["\n\n".join(text(section)), ""]


def _keys(prefix: str, section: type[Section]) -> Iterator[str]:
    """The section's keys as a table."""
    yield from ("", "## Keys", "", *_table(["key", "default", "meaning"], _rows(section, prefix)), "")


def _rows(section: type[Section], prefix: str = "") -> Iterator[list[str]]:
    for key, default, meaning in describe(section):
        if key != "name":
            yield [f"`{prefix and prefix + '.'}{key}`", f"`{shortened(default)}`", meaning]


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    for row in ([*head], ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _results(name: str) -> list[str]:
    """The system's row of each data set of the family's benchmark, beside the best of the other systems."""
    rows = [row for path in sorted(FAMILY.glob("*.json")) if (row := _result(name, path)) is not None]
    if not rows:
        return []
    what = (
        "Score of `benchmarks/family.py`: the share of samples off the support, plus the uncovered share of the least "
        "covered component, plus the error of the masses. 0 is perfect, 3 the worst. With one seed there is no spread."
    )
    head = ["data", "score, mean", "worst", "seeds", "best other system, mean"]
    return ["", "## Results", "", what, "", *_table(head, iter(rows))]


def _result(name: str, path: Path) -> list[str] | None:
    """Data set, mean and worst score, number of seeds, and the best other system; None where it has not taken part."""
    scores: dict[str, list[float]] = {}
    for row in json.loads(path.read_text())["rows"]:
        if row.get("score") is not None:
            scores.setdefault(row["system"], []).append(row["score"])
    if name not in scores:
        return None
    means = {other: statistics.mean(values) for other, values in scores.items() if other not in (name, "real data")}
    best = min(means, key=lambda other: means[other])
    own = scores[name]
    return [path.stem, f"{statistics.mean(own):.3f}", f"{max(own):.3f}", f"{len(own)}", f"{best} {means[best]:.3f}"]


def _picture(folder: Path, name: str, section: type[Section]) -> str | None:
    """The name of a picture of the data set's points in the plane, drawn to `folder`; None where it has none."""
    if not issubclass(section, SyntheticConfig) or "root" in section.model_fields:  # `root`: made from files
        return None
    dataset: Any = section(name=name).load()
    if dataset.shape != (2,):
        return None
    path = folder / f"{name}.png"
    if not path.exists():
        figure, axes = plt.subplots(figsize=(4, 4))
        axes.scatter(*dataset.x[:SHOWN].T, s=3, c=dataset.labels[:SHOWN], cmap="tab10")
        axes.set_aspect("equal")
        figure.savefig(path, dpi=100, bbox_inches="tight")
        plt.close(figure)
    return path.name


def _metrics() -> Iterator[str]:
    """Every metric, by the blocks of tables."""
    yield from ("# Metrics, one by one", "", "How they are measured: [what the numbers mean](../metrics.md).", "")
    blocks: dict[str, list[list[str]]] = {}
    for kind in KINDS:
        row = [f"`{kind.name}`", kind.direction, kind.meaning]
        blocks.setdefault(kind.block or "of single components and classes, in files only", []).append(row)
    for block, rows in blocks.items():
        yield from (f"## {block[0].upper()}{block[1:]}", "", *_table(["metric", "better", "meaning"], iter(rows)), "")


def _all_keys() -> Iterator[str]:
    """The keys that every configuration has."""
    yield from ("# Keys of a configuration", "")
    yield (
        "Those of `system` and `data` are on the pages of systems and data sets. "
        "`toposampler train CONFIG --help` shows all."
    )
    plain = [row for row in _rows(RunConfig) if not row[0].startswith(("`system.", "`data."))]
    yield from ("", *_table(["key", "default", "meaning"], iter(plain)))


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "generated")
