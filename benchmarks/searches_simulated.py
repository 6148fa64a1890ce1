"""How should a race by a model divide its trials between search and last word? Races on functions that are drawn.

    python benchmarks/searches_simulated.py [--targets lines digits] [--functions 30] [--out FOLDER]
    python benchmarks/tables.py --write                      their table

The scores that `searches_settings.py` has measured (settings x seeds) are what is known of a target. Functions of the
space are drawn from a Gaussian process that has seen them: each could be the target's mean score. A score of one seed
is the function's value and normal noise with the spread of the seeds. On each function

- a race by a model has n trials of one seed, as `search: {name: gp}` and generations draw them; its candidate is the
  setting that has the best score, or the one that the model expects most of. The candidate and the base are compared
  over the fresh seeds that `COST` trials leave to each;
- random search has `COST` trials of one seed, the base first; the best score wins.

The true score of what a search ends in is the function's value. A race that finds nothing better ends in the base.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from numpy.random import Generator
from populations import Row, go_on, kept
from searches_runs import TARGETS, Target, base_of
from searches_settings import RESULTS as MEASURED
from table_text import markdown

from toposampler.config import flatten
from toposampler.tuning.racing import Array, compare
from toposampler.tuning.spaces import Number, Space, Values, parse_space
from toposampler.tuning.surrogate import coordinates, expected, process_of

RESULTS = Path(__file__).parent / "results" / "searches" / "simulated"
COST = 60
"""trials of a search, those of its last word included"""
SPLITS = (32, 36, 40, 44, 48, 50)
"""trials of a race before its last word"""
GENERATION, STARTUP = 6, 8
FEATURES = 2000
"""cosines that a drawn function is made of"""
LAST_WORDS = 40
"""simulated last words of each race"""
RANDOM_SEARCHES = 20
"""simulated random searches on each function"""

Function = Callable[[Array], Array]
"""values (n,) at places (n, D) of the unit cube"""


def drawn_function(x: Array, y: Array, rng: Generator) -> Function:
    """A function that agrees with mean scores y (n,) at places x (n, D), drawn from a Gaussian process of them.

    By Matheron's rule (Wilson et al. 2020, arXiv 2002.09309): a draw from the prior, of random cosines (Rahimi and
    Recht 2007), moved to the data by the process's own update.
    """
    center, scale = float(y.mean()), float(y.std())
    known = (y - center) / scale
    fitted = process_of(x, known).kernel_
    matern, noise = fitted.k1, fitted.k2.noise_level
    # The spectral density of a Matern 5/2 kernel is a Student's t of five degrees of freedom.
    frequencies = rng.standard_normal((FEATURES, x.shape[1])) / matern.k2.length_scale
    frequencies /= np.sqrt(rng.chisquare(5, (FEATURES, 1)) / 5)
    phases = rng.uniform(0, 2 * np.pi, FEATURES)
    weights = rng.standard_normal(FEATURES) * math.sqrt(2 * matern.k1.constant_value / FEATURES)

    def prior(at: Array) -> Array:
        values: Array = np.cos(at @ frequencies.T + phases) @ weights
        return values

    residual = known - prior(x) - math.sqrt(noise) * rng.standard_normal(len(x))
    moved = np.linalg.solve(matern(x) + noise * np.eye(len(x)), residual)

    def function(at: Array) -> Array:
        values: Array = np.maximum(center + scale * (prior(at) + matern(at, x) @ moved), 0.0)
        return values

    return function


def searched(score: Function, base: Array, n: int, rng: Generator) -> tuple[Array, Array]:
    """The places (n, D) that a race by a model has tried, the base (D,) first, and their scores (n,)."""
    study = optuna.create_study()
    names = [f"{i:03}" for i in range(len(base))]
    study.enqueue_trial(dict(zip(names, map(float, base), strict=True)))
    places: list[Array] = []
    while len(places) < n:
        asked = []
        for _ in range(min(GENERATION, n - len(places))):
            study.sampler = optuna.samplers.GPSampler(seed=int(rng.integers(2**31)), n_startup_trials=STARTUP)
            asked.append(study.ask({name: optuna.distributions.FloatDistribution(0, 1) for name in names}))
        for trial in asked:
            places.append(np.array([trial.params[name] for name in names]))
            study.tell(trial, float(score(places[-1][None])[0]))
    return np.array(places), np.array([trial.value for trial in study.trials])


def by_expectation(places: Array, scores: Array) -> int:
    """The row that the model of `tuning/surrogate.py` expects most of."""
    space: Space = {f"{i}": Number(0.0, 1.0) for i in range(places.shape[1])}
    settings: list[Values] = [{f"{i}": value for i, value in enumerate(place)} for place in places]
    return int(np.argmin(expected(space, settings, scores.tolist())))


def simulate(target: Target, trials: Sequence[Row], index: int) -> Row:
    """On the drawn function `index`: values of the base and of what random searches end in; for each number of trials
    of a race, by both ways to choose, the candidate's value, the part of last words that find nothing better, and how
    often the race beats random search."""
    config = base_of(target)
    space, written = parse_space(dict(target.space), config), flatten(config.model_dump(mode="json"))
    settings = [{key: trial["values"].get(key, written[key]) for key in space} for trial in trials]
    all_scores = np.array([trial["rows"]["scores"] for trial in trials])
    x, rng = coordinates(space, settings), np.random.default_rng(index)
    function, base = drawn_function(x, all_scores.mean(axis=1), rng), x[0]
    spread = math.sqrt(float(all_scores.var(axis=1, ddof=1).mean()))

    def score(at: Array) -> Array:
        return function(at) + spread * rng.standard_normal(len(at))

    def random_search() -> float:
        places = np.vstack([base, rng.random((COST - 1, len(base)))])
        return float(function(places[[score(places).argmin()]])[0])

    of_base, found = float(function(base[None])[0]), [random_search() for _ in range(RANDOM_SEARCHES)]
    places, scores = searched(score, base, SPLITS[-1], rng)
    rows: Row = {"base": of_base, "random": found, "races": []}
    for n in SPLITS:
        for way, choose in (("score", lambda p, s: int(np.argmin(s))), ("model", by_expectation)):
            chosen = places[1 + choose(places[1:n], scores[1:n])][None]
            value, fresh = float(function(chosen)[0]), (COST - n) // 2
            better = [
                compare(
                    score(chosen.repeat(fresh, 0)).tolist(), score(base[None].repeat(fresh, 0)).tolist(), 0.95
                ).better
                for _ in range(LAST_WORDS)
            ]
            wins = [(value if of else of_base) < other for of in better for other in found]
            rows["races"].append(
                {"trials": n, "by": way, "candidate": value, "nothing": 1 - np.mean(better), "wins": np.mean(wins)}
            )
    return rows


def table(folder: Path) -> list[str]:
    """Means over the functions, for each target and number of trials, as a Markdown table."""
    head = ["", "functions", "trials before the last word", "fresh seeds of each", "candidate by", "base"]
    head += ["random search", "candidate", "nothing better found", "race better than random search"]
    rows = []
    for name, target in TARGETS.items():
        found = [trial["rows"] for trial in kept(folder / f"{name}.json")]
        for races in zip(*(row["races"] for row in found), strict=True):
            base, random = np.mean([row["base"] for row in found]), np.mean([row["random"] for row in found])
            value, nothing, wins = (np.mean([race[key] for race in races]) for key in ("candidate", "nothing", "wins"))
            n, way = races[0]["trials"], races[0]["by"]
            cells = [target.title, f"{len(found)}", f"{n}", f"{(COST - n) // 2}", way]
            rows.append([*cells, *(f"{of:.2f}" for of in (base, random, value)), f"{nothing:.0%}", f"{wins:.0%}"])
    return markdown(head, rows)


def main() -> None:
    """Simulate what is not done yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--functions", type=int, default=30)
    parser.add_argument("--settings", type=Path, default=MEASURED, help="folder of the scores measured")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in options.targets:
        asked = [{"target": name, "function": index} for index in range(options.functions)]
        simulation = partial(simulate, TARGETS[name], kept(options.settings / f"{name}.json"))
        go_on(options.out / f"{name}.json", asked, lambda trial, of=simulation: of(trial["function"]))  # type: ignore[misc]
    print(*table(options.out), sep="\n")


if __name__ == "__main__":
    main()
