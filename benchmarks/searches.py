"""Does the winner of a search win? Races and random searches at equal total steps, scored over 20 fresh seeds.

    python benchmarks/searches.py [--targets lines digits] [--repeats 10] [--first 0] [--out FILE] [--runs FOLDER]
    python benchmarks/searches.py --repeats 0                the figure of the results that there are, in docs/
    python benchmarks/tables.py --write                      their tables

For each target and repeat (a seed of the search, with training seeds of its own):

- a race, as `scheduler: {name: racing}` runs it, its confirmation over fresh seeds included;
- random search with one seed for each trial: each is trained to its end, the best single score wins. It trains as many
  trials as the race's steps allow, rounded up, so that it has never fewer steps and at most one trial more.

Both search the same space, have the base as their first trial, and draw the same first settings. The true score of a
setting is its mean over `TRUTH` seeds that no search has seen, the same for all settings, in whole trials; one that
ends without finite samples counts as the worst score. A race that finds nothing better ends in the base.

Everything is trained in this process, on one thread. Searches are kept in `--runs`, scores in `--out`: the benchmark
resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from populations import Row, go_on, kept, loops_of, stepped
from table_text import markdown

from toposampler.config import ClusterConfig, merge_overrides, to_yaml, validate
from toposampler.data import Dataset
from toposampler.plots.style import GRAY, OKABE_ITO, new_figure
from toposampler.reader import read_yaml
from toposampler.training import RunConfig
from toposampler.training.beside import Drawn, SampleMetrics
from toposampler.training.loop import Loop
from toposampler.training.sampling import draw_samples
from toposampler.tuning.config import Sweep, SweepConfig, load_sweep, trial_config

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "searches.json"
FIGURE = ROOT / "docs" / "sweep_true_scores.png"
TRUTH = tuple(range(20))
"""seeds of true scores; those of searches begin with `FIRST_SEED`"""
FIRST_SEED, SEEDS_OF_REPEAT = 10_000, 100
WORST = 3.0
"""the worst score that there is (`metrics/score.py`)"""
LEARNING_RATES = dict.fromkeys(
    ("system.prior.learning_rate", "system.generator.learning_rate", "system.critic.learning_rate"), "ready"
)

GENERATIONS: dict[str, Any] = {
    "trials": 16,
    "repeats": 2,
    "confirm_seeds": 8,
    "scheduler": {"name": "racing", "rungs": 1, "generations": 2},
}
"""a race in two generations, in which nothing is stopped early: halfway through trials as short as these, their order
says little about that at the end (chosen on repeats from 100 on)"""


@dataclass(frozen=True)
class Target:
    """What is searched."""

    title: str
    base: str
    """file in configs/"""
    overrides: Mapping[str, Any]
    """of the base: shorter trials, cheaper iterations"""
    space: Mapping[str, Any]
    race: Mapping[str, Any]
    """of the race's sweep: settings, seeds of each, fresh seeds, scheduler"""


TARGETS = {
    "lines": Target(
        title="Topo-DMGAN on unbalanced lines",
        base="lines_topo_dmgan.yaml",
        overrides={
            "training.generator_steps": 1000,
            "training.batch_growth": 1,
            "training.evaluation_samples": 2500,
        },
        space={
            "system.n_generators": {"int": [4, 16]},
            "system.prior.entropy_decay": "ready",
            "system.topology_weight": "ready",
            **LEARNING_RATES,
        },
        race=GENERATIONS,
    ),
    "digits": Target(
        title="DMGAN-PL on digits of 8x8 pixels",
        base="digits_dmgan_pl.yaml",
        overrides={
            "training.generator_steps": 600,
            "training.evaluation_samples": 1500,
            "system.n_generators": 12,
            "system.generator_network": "mlp",
            "system.critic_network": "mlp",
        },
        space={
            "system.n_generators": {"int": [4, 16]},
            "system.prior.entropy_decay": "ready",
            "system.information_weight": "ready",
            **LEARNING_RATES,
        },
        race=GENERATIONS,
    ),
}
RACE, RANDOM = "race", "random search"


def sweep_of(target: Target, name: str, repeat: int, output: Path, changes: Mapping[str, Any]) -> Sweep:
    """The sweep `name` of a repeat, of random draws; `changes` say how trials are compared, and how many there are."""
    content = {
        "name": name,
        "base": str(ROOT / "configs" / target.base),
        "overrides": {
            **target.overrides,
            "seed": FIRST_SEED + SEEDS_OF_REPEAT * repeat,
            "training.log_every": target.overrides["training.generator_steps"],
            "tracking.enabled": False,
        },
        "output": str(output),
        "seed": repeat,
        "space": dict(target.space),
        "search": {"name": "random"},
        "trials_per_worker": "auto",
        **changes,
    }
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{name}.yaml"
    path.write_text(to_yaml(validate(SweepConfig, content)))
    return load_sweep(path)


def train_here(plan: Any, cluster: ClusterConfig, source: Any, workers: int, folder: Path) -> None:
    """Train the programs of `source` in this process, one after the other: see `workers.TrainPrograms`."""
    from toposampler.tuning.programs import train_program

    load = cache(validate(RunConfig, plan.base).data.load)
    while (program := source.take()) is not None:
        source.done(program, train_program(plan, program, load))


def searched(sweep: Sweep) -> tuple[Any, Any, int]:
    """A sweep to its end, in this process: its best trial (an Entry), the judgment of a race (None of another search),
    and the generator steps of all that was trained for it.

    Raises RuntimeError if no trial came to its end.
    """
    from toposampler.tuning.driver import Driver, prepared, sweep_plan, written
    from toposampler.tuning.ledger import Ledger
    from toposampler.tuning.report import decided

    sweep = prepared(sweep, resume=True)
    for name, text in written(sweep).items():
        (sweep.folder / name).write_text(text)
    ledger = Ledger(sweep)
    Driver(sweep, sweep_plan(sweep), ledger, None, 1).search(train_here)
    entries = ledger.entries()
    winner, comparison, judgment = decided(sweep, entries, 1, train_here)
    if winner is None:
        raise RuntimeError(f"{sweep.folder}: no trial was trained to its end")
    steps = sum(entry.steps for entry in entries) * sweep.config.repeats
    return winner, judgment, steps + (2 * len(comparison.seeds) * sweep.steps if comparison else 0)


def race(target: Target, repeat: int, output: Path) -> Row:
    """What a race ends in."""
    winner, judgment, steps = searched(sweep_of(target, f"race-{repeat}", repeat, output, target.race))
    better = judgment is not None and judgment.better
    difference = None if judgment is None else vars(judgment.difference)
    return {"winner": winner.values if better else {}, "better": better, "difference": difference, "steps": steps}


def random_search(target: Target, repeat: int, output: Path, steps: int) -> Row:
    """What random search ends in, with no fewer than `steps`."""
    trials = math.ceil(steps / target.overrides["training.generator_steps"])
    changes = {"trials": trials, "scheduler": {"name": "none"}, "confirm_seeds": 0}
    winner, _, done = searched(sweep_of(target, f"random-{repeat}", repeat, output, changes))
    values = {} if winner.number == 0 else winner.values
    return {"winner": values, "score": winner.objectives["score"], "trials": trials, "steps": done}


def base_of(target: Target) -> RunConfig:
    """The base with its overrides."""
    content = read_yaml(ROOT / "configs" / target.base)
    return validate(RunConfig, merge_overrides(content, target.overrides))


def true_scores(target: Target, values: Mapping[str, Any], seeds: Sequence[int] = TRUTH) -> Row:
    """The scores of the setting `values` with each of `seeds`: whole trials, trained together and scored as runs are.

    `WORST` where samples are not finite.
    """
    config = trial_config(base_of(target), values)
    dataset = config.data.load()
    loops = loops_of(config, dataset, seeds)
    list(stepped(loops, [config.training.generator_steps]))
    return {"scores": [score_of(loop, dataset, config, seed) for loop, seed in zip(loops, seeds, strict=True)]}


def score_of(loop: Loop, dataset: Dataset, config: RunConfig, seed: int) -> float:
    """The score of a trained run's averaged weights, `WORST` if their samples are not finite."""
    with loop.averaged() as system:
        samples, ids = draw_samples(system, config.training.evaluation_samples, seed)
    samples, prior = dataset.to_units(samples.float()), loop.system.prior()
    if not torch.isfinite(samples).all():
        return WORST
    drawn = Drawn(samples, ids, None if prior is None else prior.detach())
    return SampleMetrics(dataset, seed, loop.system.least_active).metrics(drawn)["score"]


def go(target_name: str, repeat: int, out: Path, runs: Path) -> None:
    """One repeat of a target: its race, its random search, and the true scores of both winners and of the base."""
    target = TARGETS[target_name]
    output = runs / target_name
    about = {"target": target_name, "generator_steps": target.overrides["training.generator_steps"]}
    asked = about | {"repeat": repeat}
    (raced,) = go_on(out, [asked | {"search": RACE}], lambda _: race(target, repeat, output))
    steps = raced["rows"]["steps"]
    (drawn,) = go_on(out, [asked | {"search": RANDOM}], lambda _: random_search(target, repeat, output, steps))
    for values in ({}, raced["rows"]["winner"], drawn["rows"]["winner"]):
        go_on(out, [about | {"values": values}], lambda trial: true_scores(target, trial["values"]))


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
        found = [truth(values) for values in (raced["winner"], drawn["winner"], {})]
        if any(of is None for of in found):
            continue
        mine, theirs, base = (of or [] for of in found)
        complete.append(
            Outcome(repeat, mine, theirs, base, raced["better"], raced["steps"], drawn["steps"], drawn["score"])
        )
    return complete


def table(results: Mapping[str, Any]) -> list[str]:
    """For each target the true scores, and how often the race is better, as a Markdown table."""
    head = ["", "repeats", "race", "random search", "base", "race better than random search"]
    head += ["race better than base", "nothing better found"]
    rows = []
    for name, target in TARGETS.items():
        if not (found := outcomes(results["trials"], name)):
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


def repeats_table(results: Mapping[str, Any]) -> list[str]:
    """Every repeat as a row: true scores with their standard errors over seeds, and what the searches said."""
    head = ["", "repeat", "race", "random search", "base", "race said", "random search's own score", "steps of each"]
    rows = []
    for name in TARGETS:
        for o in outcomes(results["trials"], name):
            cells = [f"{fmean(of):.3f} ± {error(of):.3f}" for of in (o.race, o.random, o.base)]
            said = "better" if o.better else "nothing better found"
            steps = f"{o.steps:,} and {o.random_steps:,}"
            rows.append([name, f"{o.repeat}", *cells, said, f"{o.promised:.3f}", steps])
    return markdown(head, rows)


def error(scores: Sequence[float]) -> float:
    """The standard error of their mean."""
    return stdev(scores) / math.sqrt(len(scores))


def figure_of(trials: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel for each target: of each repeat the true scores of race and random search, and the base's as a line."""
    targets = {name: found for name in TARGETS if (found := outcomes(trials, name))}
    figure = new_figure(7.2, 0.9 + 2.7 * len(targets), "True scores of what two searches find at equal steps")
    panels = figure.subplots(len(targets), 1, squeeze=False)[:, 0]
    for axes, (name, found) in zip(panels, targets.items(), strict=True):
        places = list(range(len(found)))
        base, spread = fmean(found[0].base), error(found[0].base)
        axes.axhspan(base - spread, base + spread, color=GRAY, alpha=0.35, linewidth=0)
        axes.axhline(base, color="0.35", linewidth=1.2, label="base")
        for place, o in zip(places, found, strict=True):
            axes.plot([place - 0.13, place + 0.13], [fmean(o.race), fmean(o.random)], color="0.8", zorder=1)
        for label, color, marker, shift, of in (
            ("race", OKABE_ITO[2], "o", -0.13, [o.race for o in found]),
            ("random search", OKABE_ITO[3], "s", 0.13, [o.random for o in found]),
        ):
            axes.errorbar(
                [place + shift for place in places], list(map(fmean, of)), yerr=list(map(error, of)), fmt=marker,
                color=color, markersize=6, capsize=2.5, linewidth=1.2, label=label,
            )  # fmt: skip
        hollow = [(place - 0.13, fmean(o.race)) for place, o in zip(places, found, strict=True) if not o.better]
        if hollow:
            axes.plot(*zip(*hollow, strict=True), "o", color=OKABE_ITO[2], markerfacecolor="white", markersize=6,
                      linestyle="none", label="race: nothing better found", zorder=4)  # fmt: skip
        wins = sum(o.beats_random for o in found)
        axes.set_title(f"{TARGETS[name].title}: race better in {wins} of {len(found)}", fontsize=10, loc="left")
        axes.set_xticks(places, [str(o.repeat) for o in found])
        axes.set_ylabel(f"score, mean of {len(found[0].base)} seeds", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("repeat: seed of the search", fontsize=9)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False
    )
    return figure


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
            go(name, repeat, options.out, options.runs)
            print("", *repeats_table({"trials": kept(options.out)}), sep="\n", flush=True)
    if not (trials := kept(options.out)):
        sys.exit(f"{options.out} holds no results")
    print("", *table({"trials": trials}), sep="\n")
    figure_of(trials).savefig(options.figure)


if __name__ == "__main__":
    main()
