"""What can a search find in so many steps? Scores of settings drawn at random, and searches simulated on them.

    python benchmarks/searches_settings.py [--targets lines digits] [--settings 40] [--out FOLDER]
    python benchmarks/searches_settings.py --settings 0          simulate on the results that there are

The spaces and trials are those of `searches.py`. Each setting, the base first, is trained with `SEEDS`, which no search
of that benchmark has. A simulated score is one of its setting's; a setting's truth is the mean of all of its scores.
Each search trains `COST` trials.

- random search: settings with one seed each, the best score wins;
- a race without generations: settings with some seeds each, of which the best ones (finalists) are compared with the
  base over fresh seeds, as `scheduler: {name: racing, rungs: 1}` does.

The results are kept setting by setting: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from populations import Row, go_on, kept
from searches_runs import BASE, TARGETS, Target, base_of, true_scores
from table_text import markdown

from toposampler.tuning.racing import Array, compare
from toposampler.tuning.spaces import Values, drawn, parse_space

RESULTS = Path(__file__).parent / "results" / "searches" / "settings"
SEEDS = range(500_000, 500_008)
COST = 48
"""trials of a search, those of its comparison with the base included"""
RACES = [(16, 2, 1, 8), (12, 2, 2, 8), (12, 2, 3, 6), (8, 2, 1, 16), (8, 3, 2, 8), (6, 2, 3, 9)]
"""settings, seeds of each, finalists, fresh seeds"""
TIMES = 1000
"""simulated searches of each kind"""


def settings(target: Target, n: int) -> Iterator[Values]:
    """The base, then n - 1 settings drawn from the target's space: the same ones first, however many."""
    space, rng = parse_space(dict(target.space), base_of(target)), random.Random(12345)
    for i in range(n):
        values = drawn(space, rng)
        yield values if i else BASE


def simulated(scores: Array, search: Callable[[np.random.Generator], int]) -> tuple[float, float]:
    """The truth, in the mean, of the settings (rows of the scores (S, R), the base first) that a search ends in, and in
    what part of the cases it is one worse than the base."""
    truth, rng = scores.mean(axis=1), np.random.default_rng(0)
    found = truth[[search(rng) for _ in range(TIMES)]]
    return float(found.mean()), float((found > truth[0]).mean())


def random_search(scores: Array) -> Callable[[np.random.Generator], int]:
    """With the base as its first trial; settings may come twice."""

    def search(rng: np.random.Generator) -> int:
        tried = np.append(0, rng.integers(1, len(scores), COST - 1))
        return int(tried[scores[tried, rng.integers(0, scores.shape[1], COST)].argmin()])

    return search


def race(
    scores: Array, n: int, seeds: int, finalists: int, fresh: int, confidence: float
) -> Callable[[np.random.Generator], int]:
    """Of n settings, the base one of them; it ends in the base (row 0) where nothing better is found."""

    def drawn(row: int, times: int, rng: np.random.Generator) -> Array:
        return rng.choice(scores[row], times)

    def search(rng: np.random.Generator) -> int:
        rivals = rng.choice(np.arange(1, len(scores)), min(n, len(scores)) - 1, replace=False)
        order = np.argsort([drawn(row, seeds, rng).mean() for row in rivals])
        best, base = rivals[order[:finalists]], drawn(0, fresh, rng)
        again = [drawn(row, fresh, rng) for row in best]
        first = int(np.argmin([of.mean() for of in again]))
        judgment = compare(again[first].tolist(), base.tolist(), 1 - (1 - confidence) / finalists)
        return int(best[first]) if judgment.better else 0

    return search


def table(folder: Path) -> list[str]:
    """What the searches end in, as a Markdown table: true scores, and how often they end in one worse than the base."""
    head = ["", "settings", "base", "best setting", "spread of seeds", "random search"]
    head += [f"race {n} x {seeds}, {finalists} against the base x {fresh}" for n, seeds, finalists, fresh in RACES]
    rows = []
    for name, target in TARGETS.items():
        if not (trials := kept(folder / f"{name}.json")):
            continue
        scores = np.array([trial["rows"]["scores"] for trial in trials])
        truth, spread = scores.mean(axis=1), float(np.sqrt(scores.var(axis=1, ddof=1).mean()))
        cells = [target.title, f"{len(scores)}", *(f"{x:.2f}" for x in (truth[0], truth.min(), spread))]
        cells += [cell(*simulated(scores, random_search(scores)))]
        rows.append(cells + [cell(*simulated(scores, race(scores, *of, confidence=0.95))) for of in RACES])
    return markdown(head, rows)


def cell(mean: float, wrong: float) -> str:
    """A true score, and the part of the searches that end in a setting worse than the base."""
    return f"{mean:.2f} ({wrong:.1%})"


def measure(name: str, n: int, out: Path) -> Sequence[Row]:
    """The scores of n settings of a target, as far as `out` has not kept them."""
    target = TARGETS[name]
    asked = [{"target": name, "setting": i, "values": values} for i, values in enumerate(settings(target, n))]
    return go_on(out / f"{name}.json", asked, lambda trial: true_scores(target, trial["values"], SEEDS))


def main() -> None:
    """Measure what is not measured yet, simulate, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--settings", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.targets if options.settings else ():
        measure(name, options.settings, options.out)
    print(*table(options.out), sep="\n")


if __name__ == "__main__":
    main()
