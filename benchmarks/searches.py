"""Does the winner of a search win? Races and random searches at equal total steps, scored over 20 fresh seeds.

    python benchmarks/searches.py [--targets lines digits] [--repeats 10] [--first 0] [--out FOLDER] [--runs FOLDER]
    python benchmarks/searches.py --repeats 0                the figure of the results that there are, in docs/
    python benchmarks/tables.py --write                      their tables

For each target and repeat (a seed of the search, with training seeds of its own):

- a race, as `scheduler: {name: racing}` runs it, its confirmation over fresh seeds included;
- random search with one seed for each trial: each is trained to its end, the best single score wins. It trains as many
  trials as the race's steps allow, rounded up, so that it has never fewer steps and at most one trial more.

Both search the same space and have the base as their first trial. The true score of a
setting is its mean over `TRUTH` seeds that no search has seen, the same for all settings, in whole trials; one that
ends without finite samples counts as the worst score. A race that finds nothing better ends in the base.

Everything is trained in this process, on one thread. Searches are kept in `--runs`, scores in `--out`, a file for each
target: the benchmark resumes where it was stopped, and several commands may measure targets side by side.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from populations import Row, kept
from searches_runs import BASE, RACE, RANDOM, ROOT, TARGETS, go
from table_text import markdown

from toposampler.plots.style import GRAY, OKABE_ITO, new_figure

RESULTS = ROOT / "benchmarks" / "results" / "searches"
FIGURE = ROOT / "docs" / "sweep_true_scores.png"


@dataclass(frozen=True)
class Outcome:
    """What one repeat has come to: true scores (seeds,) of what each search ended in, and of the base."""

    repeat: int
    race: Sequence[float]
    random: Sequence[float]
    base: Sequence[float]
    better: bool
    """whether the race said that it had found something better than the base"""
    steps: int
    """generator steps of the race"""
    random_steps: int
    promised: float
    """the single score by which random search chose its winner"""

    @property
    def beats_random(self) -> bool:
        """Whether the race's setting is better in truth than random search's."""
        return fmean(self.race) < fmean(self.random)

    @property
    def beats_base(self) -> bool:
        """Whether the race's setting is better in truth than the base."""
        return fmean(self.race) < fmean(self.base)


def outcomes(trials: Sequence[Mapping[str, Any]], target: str) -> list[Outcome]:
    """The repeats of `target` that are complete in `trials`, in their order."""
    of_target = [trial for trial in trials if trial["target"] == target]
    searches = {(t["repeat"], t["search"]): t["rows"] for t in of_target if "search" in t}
    scores = [(t["values"], t["rows"]["scores"]) for t in of_target if "values" in t]

    def truth(values: Mapping[str, Any]) -> Sequence[float] | None:
        return next((found for of, found in scores if of == values), None)

    complete = []
    for repeat in sorted({repeat for repeat, _ in searches}):
        raced, drawn = (searches.get((repeat, search)) for search in (RACE, RANDOM))
        if raced is None or drawn is None:
            continue
        found = [truth(values) for values in (raced["winner"], drawn["winner"], BASE)]
        if any(of is None for of in found):
            continue
        mine, theirs, base = (of or [] for of in found)
        complete.append(
            Outcome(repeat, mine, theirs, base, raced["better"], raced["steps"], drawn["steps"], drawn["score"])
        )
    return complete


def measured(folder: Path) -> list[Row]:
    """The trials of all targets that have results in `folder`."""
    return [trial for name in TARGETS for trial in kept(folder / f"{name}.json")]


def table(folder: Path) -> list[str]:
    """For each target the true scores, and how often the race is better, as a Markdown table."""
    head = ["", "repeats", "race", "random search", "base", "race better than random search"]
    head += ["race better than base", "nothing better found"]
    rows = []
    for name, target in TARGETS.items():
        if not (found := outcomes(measured(folder), name)):
            continue
        of_each = [[fmean(o.race) for o in found], [fmean(o.random) for o in found], [fmean(found[0].base)]]
        n = len(found)
        counts = [
            sum(o.beats_random for o in found),
            sum(o.beats_base for o in found),
            sum(not o.better for o in found),
        ]
        means = (f"{fmean(of):.3f}" for of in of_each)
        rows.append([target.title, f"{n}", *means, *(f"{count} of {n}" for count in counts)])
    return markdown(head, rows)


def repeats_table(folder: Path) -> list[str]:
    """Every repeat as a row: true scores with their standard errors over seeds, and what the searches said."""
    head = ["", "repeat", "race", "random search", "base", "race said", "random search's own score", "steps of each"]
    rows = []
    for name in TARGETS:
        for o in outcomes(measured(folder), name):
            cells = [f"{fmean(of):.3f} ± {error(of):.3f}" for of in (o.race, o.random, o.base)]
            said = "better" if o.better else "nothing better found"
            steps = f"{o.steps:,} and {o.random_steps:,}"
            rows.append([name, f"{o.repeat}", *cells, said, f"{o.promised:.3f}", steps])
    return markdown(head, rows)


def error(scores: Sequence[float]) -> float:
    """The standard error of their mean."""
    return stdev(scores) / math.sqrt(len(scores))


def figure_of(trials: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel for each target: of each repeat the true scores of what both searches found, and the single score by
    which random search chose; the base as a line."""
    targets = {name: found for name in TARGETS if (found := outcomes(trials, name))}
    figure = new_figure(7.2, 0.9 + 2.8 * len(targets), "True scores of what two searches find at equal steps")
    panels = figure.subplots(len(targets), 1, squeeze=False)[:, 0]
    for axes, (name, found) in zip(panels, targets.items(), strict=True):
        _panel(axes, TARGETS[name].title, found)
    panels[-1].set_xlabel("repeat: seed of the search", fontsize=9)
    marks = {label: mark for axes in panels for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _panel(axes: Axes, title: str, found: Sequence[Outcome]) -> None:
    race, random = OKABE_ITO[2], OKABE_ITO[3]
    left, right = ([place + shift for place in range(len(found))] for shift in (-0.13, 0.13))
    for at, then, o in zip(left, right, found, strict=True):
        axes.plot([at, then], [fmean(o.race), fmean(o.random)], color="0.8", zorder=1)
    scores, spread = [fmean(o.race) for o in found], [error(o.race) for o in found]
    axes.errorbar(left, scores, spread, fmt="o", color=race, capsize=2.5, linewidth=1.2, label="race")
    kept_base = [(place, score) for place, score, o in zip(left, scores, found, strict=True) if not o.better]
    axes.plot(*(zip(*kept_base, strict=True) if kept_base else ([], [])), "o", color=race, markerfacecolor="white",
              linestyle="none", label="race: nothing better found, so the base", zorder=4)  # fmt: skip
    scores, spread = [fmean(o.random) for o in found], [error(o.random) for o in found]
    axes.errorbar(right, scores, spread, fmt="s", color=random, capsize=2.5, linewidth=1.2, label="random search")
    axes.plot(
        right,
        [o.promised for o in found],
        "x",
        color=random,
        alpha=0.6,
        label="random search: the single score that it chose by",
    )
    base, spread_of_base = fmean(found[0].base), error(found[0].base)
    axes.axhspan(base - spread_of_base, base + spread_of_base, color=GRAY, alpha=0.35, linewidth=0)
    axes.axhline(base, color="0.35", linewidth=1.2, label="base")
    n, wins, said = len(found), sum(o.beats_random for o in found), sum(not o.better for o in found)
    axes.set_title(
        f"{title}: race better than random search in {wins} of {n}, nothing better found in {said}",
        fontsize=9, loc="left",
    )  # fmt: skip
    axes.set_xticks(range(n), [str(o.repeat) for o in found])
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylabel(f"score, mean of {len(found[0].base)} seeds", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Do what is not done yet, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--first", type=int, default=0, help="the first repeat; the constants were chosen on 100 and up"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark-searches"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.targets:
        for repeat in range(options.first, options.first + options.repeats):
            go(name, repeat, options.out / f"{name}.json", options.runs)
            print("", *repeats_table(options.out), sep="\n", flush=True)
    if not (trials := measured(options.out)):
        sys.exit(f"{options.out} holds no results")
    print("", *table(options.out), sep="\n")
    figure_of(trials).savefig(options.figure)


if __name__ == "__main__":
    main()
