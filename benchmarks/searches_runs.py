"""The runs of `benchmarks/searches.py`: its targets, both searches of a repeat, and true scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from populations import Row, go_on, loops_of, stepped

from toposampler.config import ClusterConfig, merge_overrides, to_yaml, validate
from toposampler.data import Dataset
from toposampler.reader import read_yaml
from toposampler.training import RunConfig
from toposampler.training.beside import Drawn, SampleMetrics
from toposampler.training.loop import Loop
from toposampler.training.sampling import draw_samples
from toposampler.tuning.config import Sweep, SweepConfig, load_sweep, trial_config

ROOT = Path(__file__).parent.parent
TRUTH = tuple(range(20))
"""seeds of true scores; those of searches begin with `FIRST_SEED`"""
FIRST_SEED, SEEDS_OF_REPEAT = 10_000, 100
BASE: dict[str, Any] = {}
"""the setting that changes nothing"""
WORST = 3.0
"""the worst score that there is (`metrics/score.py`)"""
LEARNING_RATES = dict.fromkeys(
    ("system.prior.learning_rate", "system.generator.learning_rate", "system.critic.learning_rate"), "ready"
)


def generations(trials: int, fresh: int) -> dict[str, Any]:
    """A race in generations of ten settings with one seed each, in which nothing is stopped early: a model of the
    scores says where later settings are, and which is the best; it and the base have `fresh` seeds."""
    return {
        "trials": trials,
        "repeats": 1,
        "confirm_seeds": fresh,
        "search": {"name": "gp", "startup_trials": 8},
        "scheduler": {"name": "racing", "rungs": 1, "generations": trials // 10},
    }


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


# How trials are divided between search and last word was chosen on simulated races (`searches_simulated.py`): on digits
# settings differ much more than seeds, so that few fresh seeds show it.
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
        race=generations(40, 10),
    ),
    "digits": Target(
        title="DMGAN-PL on digits of 8x8 pixels",
        base="digits_dmgan_pl.yaml",
        overrides={
            "training.generator_steps": 500,
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
        race=generations(50, 5),
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
    settings = 2 + len(comparison.others) if comparison else 0
    return winner, judgment, steps + (settings * len(comparison.seeds) * sweep.steps if comparison else 0)


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
    for values in (BASE, raced["rows"]["winner"], drawn["rows"]["winner"]):
        go_on(out, [about | {"values": values}], lambda trial: true_scores(target, trial["values"]))
