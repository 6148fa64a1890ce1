"""What a SWEEP.yaml holds, and every fault that can be found in it before a trial starts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, field_validator

from toposampler.config import (
    Folder,
    Section,
    flatten,
    folder_name,
    merge_overrides,
    parse_overrides,
    registry_name,
    validate,
)
from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.keys import has_key, may, may_branch, may_search, ready_ranges
from toposampler.metrics.evaluate import N_TOPOLOGY, evaluate
from toposampler.reader import read_yaml
from toposampler.training.config import RunConfig
from toposampler.tuning.spaces import READY, Number, Space, Values, active, describe_space, drawn, parse_space

DRAWS = 200
"""random points of a space that are tried as configurations before it is searched"""


class RandomSearch(Section):
    """Every trial is drawn by itself."""

    name: Literal["random"] = "random"


class TPESearch(Section):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), by Optuna; of several objectives, their Pareto front."""

    name: Literal["tpe"] = "tpe"
    startup_trials: int = Field(5, ge=1, le=100_000)
    """trials drawn at random before the estimator is asked"""


class GPSearch(Section):
    """A Gaussian process of the objective over the space, by Optuna: a trial is where it expects most improvement on
    what is finished; those that are still trained count as it expects them to end."""

    name: Literal["gp"] = "gp"
    startup_trials: int = Field(8, ge=2, le=100_000)
    """trials drawn at random before the process is asked"""


class NoScheduler(Section):
    """Every trial is trained to its end."""

    name: Literal["none"] = "none"


class ASHA(Section):
    """Asynchronous successive halving (Li et al. 2018): at each rung only the best part of the trials goes on."""

    name: Literal["asha"] = "asha"
    rungs: int = Field(3, ge=2, le=20)
    """points at which trials are compared; the last is the end of the run, each before it `reduction` times earlier"""
    reduction: int = Field(3, ge=2, le=1000)
    """of so many trials at a rung, one goes on"""


class PBT(Section):
    """Population based training (Jaderberg et al. 2017): now and then the worst resume from the best, elsewhere."""

    name: Literal["pbt"] = "pbt"
    rounds: int = Field(4, ge=2, le=10_000)
    """parts of equal length that a run is cut into; between them the population is compared"""
    quantile: float = Field(0.25, gt=0, le=0.5)
    """share of the population that is replaced, and of that it is replaced by"""
    resample: float = Field(0.25, ge=0, le=1)
    """probability that a constant is drawn anew, where otherwise it moves by a fifth of its range"""


class Racing(Section):
    """Successive halving on the mean over the same seeds; what is worse than the best beyond doubt ends too.

    The base is always in the race. At the end the best settings are compared with it over fresh seeds, and the best of
    them is the winner only if the interval of the difference excludes 0.
    """

    name: Literal["racing"] = "racing"
    rungs: int = Field(3, ge=1, le=20)
    """points at which settings are compared; the last is the end of the run, those before as those of asha; 1: all are
    trained to their ends"""
    reduction: int = Field(3, ge=2, le=1000)
    """of so many settings at a rung, one goes on"""
    confidence: float = Field(0.95, gt=0, lt=1)
    """of the intervals of differences between two settings"""
    generations: int = Field(1, ge=1, le=1000)
    """equal parts in which settings are begun: those of a later one are drawn between the best third of all before, or
    with search gp where that expects the most of them, and compete with them; 1: all are drawn at random, and begin at
    once"""
    finalists: int = Field(1, ge=1, le=100)
    """the best so many settings (with search gp those it expects the best scores of) are compared with the base over
    fresh seeds, and the best of them there is the winner; its interval has the confidence
    1 - (1 - `confidence`) / `finalists`, as one of so many may be better by chance"""


def _the_score() -> dict[str, Literal["minimize", "maximize"]]:
    return {"score": "minimize"}


def _number_or_auto(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal():  # what may be a word is read as one
        value = int(value)
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TRIALS):
        return value
    raise ValueError(f"how many trials, 1 to {MAX_TRIALS:,}, or auto")


MAX_TRIALS = 10_000
TrialsPerWorker = Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)]


class SweepConfig(Section):
    """A sweep: one configuration, a space around it, and how it is searched."""

    name: str
    """name of the sweep: its folder below `output`, its run in MLflow and, unless set otherwise, its model's name"""
    base: Path = Field(json_schema_extra=may(resume=True))
    """configuration that all trials share, as seen from the folder of this file; the best trial is compared with it"""
    overrides: dict[str, Any] = Field(default_factory=dict, json_schema_extra=may(resume=True))
    """dotted keys of the base that all trials have other values of, such as training.generator_steps"""
    output: Folder = Field("runs", json_schema_extra=may(resume=True))
    """folder that holds sweeps and runs"""
    seed: int = Field(0, ge=0, lt=2**31)
    """seed of the search; trials have the base's seed"""
    space: dict[str, Any] | Literal["ready"] = "ready"
    """dotted keys and their ranges: {uniform: [low, high]}, {loguniform: [low, high]}, {int: [low, high]} or
    {choice: [a, b]}, each with `when: {other key: value}` if it exists only then; `ready` in the place of a range, or
    of them all, takes those that the keys themselves state (`toposampler.keys`)"""
    trials: int = Field(12, ge=1, le=100_000, json_schema_extra=may(resume=True))
    """trials in all"""
    total_steps: int | None = Field(None, ge=1, le=10**15, json_schema_extra=may(resume=True))
    """begin no more trials once all together have done so many generator steps"""
    start_with_base: bool = True
    """the first trial has the base's own values, if they are in the space"""
    repeats: int = Field(1, ge=1, le=1000)
    """seeds that every trial is trained with: the base's and those after it"""
    aggregate: Literal["mean", "median", "worst"] = "mean"
    """what of the seeds' metrics a trial is evaluated by"""
    objectives: dict[str, Literal["minimize", "maximize"]] = Field(default_factory=_the_score)
    """evaluation metrics and their directions; of several, the first also guides early stopping and names the best"""
    search: Annotated[RandomSearch | TPESearch | GPSearch, Field(discriminator="name")] = Field(
        default_factory=TPESearch
    )
    scheduler: Annotated[NoScheduler | ASHA | PBT | Racing, Field(discriminator="name")] = Field(default_factory=ASHA)
    trials_per_worker: TrialsPerWorker | None = Field(None, json_schema_extra=may(resume=True))
    """train so many trials, with all their seeds, in each worker at once, those that can be one program step together;
    trials are then compared in rounds. auto: as many as memory has room for; default: one trial a worker, by itself,
    or with racing auto"""
    max_concurrent: int | None = Field(None, ge=1, le=10_000, json_schema_extra=may(resume=True))
    """trials at a time; default: as many as the machines have room for"""
    confirm_seeds: int = Field(3, ge=0, le=1000, json_schema_extra=may(resume=True))
    """fresh seeds that the best trial and the base are trained with at the end, to compare them; 0: no comparison"""
    register_model: bool = Field(True, json_schema_extra=may(resume=True))
    """register the best model on MLflow, as `candidate`, and as `champion` if it beats the present one"""
    model: str | None = Field(None, min_length=1, json_schema_extra=may(resume=True))
    """name of the registered model; default: the sweep's name"""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        return folder_name(name, "sweep")

    @field_validator("model")
    @classmethod
    def _model_can_be_registered(cls, model: str | None) -> str | None:
        return None if model is None else registry_name(model)

    @field_validator("objectives")
    @classmethod
    def _something_is_wanted(cls, objectives: dict[str, str]) -> dict[str, str]:
        if not objectives:
            raise ValueError("at least one metric is needed")
        return objectives


@dataclass(frozen=True)
class Sweep:
    """A sweep whose configuration has been found good."""

    config: SweepConfig
    base: RunConfig
    """with the overrides"""
    space: Space
    folder: Path
    """absolute"""

    @property
    def metric(self) -> str:
        """The first objective."""
        return next(iter(self.config.objectives))

    @property
    def sign(self) -> int:
        """1 if less of the first objective is better, else -1."""
        return 1 if self.config.objectives[self.metric] == "minimize" else -1

    @property
    def steps(self) -> int:
        """Generator steps of a whole trial, for each of its seeds."""
        return self.base.training.generator_steps

    @property
    def parts(self) -> int | None:
        """The equal parts that a trial is cut into, with a look at it after each; None: evaluations are looked at."""
        match self.config.scheduler:
            case ASHA(rungs=rungs, reduction=reduction) | Racing(rungs=rungs, reduction=reduction):
                return int(reduction ** (rungs - 1))
            case PBT(rounds=rounds):
                return rounds
            case _:
                return None

    @property
    def every(self) -> int:
        """Generator steps between two looks at a trial.

        Rounded up: a look just before the end would stop trials that are all but complete.
        """
        if self.parts is None:
            return min(self.steps, self.base.training.evaluate_every)
        return -(-self.steps // self.parts)

    @property
    def generations(self) -> int:
        """In how many parts a race begins its settings; 1 of another search."""
        return self.config.scheduler.generations if isinstance(self.config.scheduler, Racing) else 1

    @property
    def generation(self) -> int:
        """Settings in each part of a race, but for the last, which may have fewer."""
        return -(-self.config.trials // self.generations)

    @property
    def together(self) -> bool:
        """Whether a worker trains several trials at once, and trials are compared in rounds."""
        return self.config.trials_per_worker is not None or isinstance(self.config.scheduler, Racing)

    @property
    def rungs(self) -> list[int]:
        """The generator steps at which rounds end and trials are compared; the last are those of a whole trial."""
        match self.config.scheduler:
            case ASHA(rungs=rungs, reduction=reduction) | Racing(rungs=rungs, reduction=reduction):
                before = [self.every * reduction**k for k in range(rungs - 1)]
            case PBT():
                before = list(range(self.every, self.steps, self.every))
            case _:
                before = []
        return [step for step in before if step < self.steps] + [self.steps]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in the YAML file `path` with `--key value` overrides. Raises UserError naming what is wrong."""
    content = merge_overrides(read_yaml(path), parse_overrides(overrides))
    try:
        config = validate(SweepConfig, content)
        base = _base(config, path.parent)
        space = parse_space(_written(config, base), base)
        sweep = Sweep(config, base, space, Path(config.output).absolute() / config.name)
        _check_keys(sweep)
        _check_values(sweep)
        _check_scheduler(sweep)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return sweep


def check_objectives(sweep: Sweep, dataset: Dataset) -> None:
    """Raises UserError for an objective that the evaluation of `dataset` does not have."""
    n = sweep.base.training.evaluation_samples
    at_rungs, at_the_end = (_metric_names(dataset, sweep.base, min(N_TOPOLOGY, k)) for k in (n // 5, n))
    known = sorted(at_rungs & at_the_end)
    if unknown := [name for name in sweep.config.objectives if name not in known]:
        raise UserError(f"objectives: unknown metric {unknown[0]!r}; this data and system have {', '.join(known)}")


def _metric_names(dataset: Dataset, base: RunConfig, n: int) -> set[str]:
    """What an evaluation on n samples is made of: that of the data against itself."""
    some = dataset.to_units(dataset.x[torch.arange(n) % len(dataset.x)])
    prior = torch.ones(1) if base.system.K > 1 or base.system.asks_the_data else None
    return set(evaluate(dataset, some, torch.zeros(n, dtype=torch.long), prior, seed=0, max_real=n))


def _base(config: SweepConfig, folder: Path) -> RunConfig:
    """The configuration that all trials share."""
    path = folder / config.base
    at_once = {"cluster.evaluate_beside": False}  # a search needs the scores of one report before any trial goes on
    try:
        content = merge_overrides({"output": config.output, **read_yaml(path)}, {**config.overrides, **at_once})
        return validate(RunConfig, content)
    except UserError as error:
        raise UserError(f"base {path}: {error}") from None


def _written(config: SweepConfig, base: RunConfig) -> Mapping[str, Any]:
    """The space as it is written, `ready` written out."""
    ready = ready_ranges(base)
    written = dict.fromkeys(ready, READY) if config.space == READY else config.space
    assert isinstance(written, dict)
    if not written:
        example = "system.critic.learning_rate: {loguniform: [0.0001, 0.01]}"
        can = f"write {READY}, or keys" if ready else f"{base.system.name} has no ready space, so write keys"
        raise UserError(f"space: no key is searched; {can} with their ranges, such as {example}")
    return written


def _check_keys(sweep: Sweep) -> None:
    """Refuse keys that no sweep may search, and those whose constants cannot change within a run, if they would."""
    for key in sweep.space:
        if has_key(sweep.base, key) and not may_search(sweep.base, key):
            flat = flatten(sweep.base.model_dump(mode="json"))
            can = [other for other in flat if may_search(sweep.base, other)]
            raise UserError(f"space.{key}: cannot be searched; what can: {', '.join(can)}")
    if isinstance(sweep.config.scheduler, PBT):
        for key, parameter in sweep.space.items():
            if not may_branch(sweep.base, key) or not isinstance(parameter, Number) or parameter.when:
                raise UserError(
                    f"space.{key}: population based training moves numbers (uniform or loguniform, without `when`) "
                    "that may change within a run: learning rates, weights, and the prior's entropy_* numbers"
                )


def _check_values(sweep: Sweep) -> None:
    """Try the ends of every range, and random points, as configurations."""
    for key, parameter in sweep.space.items():
        for value in parameter.corners():
            given = {other: allowed[0] for other, allowed in parameter.when.items()}
            try:
                config = trial_config(sweep.base, {**given, key: value})
            except UserError as error:
                raise UserError(
                    f"space.{key}: {value!r} is in its range, and no configuration can have it: {error}"
                ) from None
            read_as = flatten(config.model_dump(mode="json")).get(key, value)
            if read_as != value:  # text for a number, say: the base's own value would not be found among the others
                raise UserError(f"space.{key}: {value!r} is in its range, and is read as {read_as!r}; write that")
    rng = random.Random(0)
    for _ in range(DRAWS):
        values = drawn(sweep.space, rng)
        try:
            trial_config(sweep.base, values)
        except UserError as error:
            raise UserError(f"space: {values} is a point of it, and no configuration: {error}") from None


def _check_scheduler(sweep: Sweep) -> None:
    config, several = sweep.config, sweep.base.cluster.num_workers > 1
    if sweep.base.seeds is not None:
        raise UserError(
            f"base: seeds {sweep.base.seeds} is of a run; how many seeds each trial is trained with is the sweep's "
            "`repeats`"
        )
    if sweep.base.training.minutes is not None:
        raise UserError("base: training.minutes: trials are trained to their ends; leave it out")
    if sweep.parts is not None and sweep.steps < sweep.parts:
        raise UserError(f"scheduler: training.generator_steps {sweep.steps} are too few to be cut into so many parts")
    if sweep.together and several:
        key = "scheduler.name racing" if config.trials_per_worker is None else "trials_per_worker"
        raise UserError(
            f"{key} with cluster.num_workers {sweep.base.cluster.num_workers}: a worker that trains several trials at "
            "once is one process; set cluster.num_workers 1"
        )
    if config.repeats > 1 and several and not isinstance(config.scheduler, NoScheduler):
        raise UserError(
            f"repeats {config.repeats} with cluster.num_workers {sweep.base.cluster.num_workers}: the seeds of such a "
            "trial are trained one after the other, so nothing can be stopped early; set scheduler.name none"
        )
    if isinstance(config.scheduler, Racing):
        _check_race(sweep)
    if isinstance(config.scheduler, PBT):
        if isinstance(config.search, TPESearch) and "search" in config.model_fields_set:
            raise UserError("search.name tpe: population based training has its own search; set search.name random")
        if config.trials < 2:
            raise UserError(f"trials: a population has at least 2 members (got {config.trials})")
        if several:
            raise UserError(
                f"scheduler.name pbt with cluster.num_workers {sweep.base.cluster.num_workers}: the members of a "
                "population are paused now and then, which groups of workers cannot be; set cluster.num_workers 1"
            )
        if config.total_steps is not None:
            raise UserError("total_steps: a population is begun as a whole, so there is nothing to end early")


def _check_race(sweep: Sweep) -> None:
    """Raises UserError for what cannot be raced."""
    config = sweep.config
    several = isinstance(config.scheduler, Racing) and config.scheduler.rungs > 1
    for key, given, why in (
        (
            "repeats",
            config.repeats if several else 2,
            "a setting is stopped by its mean over seeds and its uncertainty",
        ),
        ("confirm_seeds", config.confirm_seeds, "the winner is compared with the base over fresh seeds"),
        ("trials", config.trials, "the base is one of them, and needs a rival"),
    ):
        if given < 2:
            raise UserError(f"{key}: racing needs at least 2, as {why} (got {given})")
    if config.aggregate != "mean":
        raise UserError(f"aggregate {config.aggregate}: racing compares means; set aggregate mean")
    if isinstance(config.search, TPESearch) and "search" in config.model_fields_set:
        raise UserError(
            "search.name tpe: a race begins as a whole, so there is nothing to learn; set search.name random"
        )
    if isinstance(config.search, GPSearch) and sweep.generations == 1:
        raise UserError(
            "search.name gp: a race of one generation begins as a whole, so there is nothing to learn; set "
            "scheduler.generations to at least 2, or search.name random"
        )
    if config.trials < 2 * sweep.generations:
        raise UserError(
            f"scheduler.generations {sweep.generations}: each has at least 2 settings, so trials must be at least "
            f"{2 * sweep.generations} (got {config.trials})"
        )
    if isinstance(config.scheduler, Racing) and config.scheduler.finalists >= config.trials:
        raise UserError(
            f"scheduler.finalists {config.scheduler.finalists}: the base is one of the {config.trials} trials, so at "
            f"most {config.trials - 1} can be compared with it"
        )
    if config.total_steps is not None:
        raise UserError("total_steps: a race is begun as a whole, so there is nothing to end early")
    if not config.start_with_base:
        raise UserError("start_with_base false: the base is always in a race; set start_with_base true")
    if base_values(sweep) is None:
        outside = ", ".join(_outside(sweep.space, _base_point(sweep)))
        raise UserError(f"space: the base is always in a race, and is outside the space ({outside}); widen the range")


def trial_config(base: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`base` with the searched `values`. Raises UserError if that is no configuration."""
    return validate(RunConfig, merge_overrides(base.model_dump(mode="json"), values))


def base_values(sweep: Sweep) -> Values | None:
    """The base's own values of the searched keys; None if one is not in the space."""
    values = _base_point(sweep)
    return None if _outside(sweep.space, values) else values


def _base_point(sweep: Sweep) -> Values:
    """What the base has for the searched keys that exist beside each other in it, in the space or not."""
    flat = flatten(sweep.base.model_dump(mode="json"))
    values: Values = {}
    for key, parameter in sweep.space.items():
        if active(parameter, values):
            values[key] = flat.get(key)
    return values


def _outside(space: Space, values: Values) -> list[str]:
    """The keys of `values` that have none of their space, and what they have."""
    return [f"{key} {value}" for key, value in values.items() if not space[key].holds(value)]


def lines(sweep: Sweep) -> Iterator[str]:
    """What will be searched, and how, in a few lines."""
    config = sweep.config
    settings = ", ".join(f"{k} {v}" for k, v in config.scheduler.model_dump().items() if k != "name")
    yield f"sweep      {config.name}: {sweep.base.system.name} on {sweep.base.data.name}"
    yield from (f"{'space' if i == 0 else '':<10} {line}" for i, line in enumerate(describe_space(sweep.space)))
    wanted = ", ".join(f"{direction} {name}" for name, direction in config.objectives.items())
    yield f"objective  {wanted}" + (f" ({config.aggregate} of {config.repeats} seeds)" if config.repeats > 1 else "")
    yield f"trials     {config.trials} of {sweep.steps:,} generator steps, search: {config.search.name}" + (
        f", until all have done {config.total_steps:,} steps" if config.total_steps else ""
    )
    if config.start_with_base:
        outside = ", ".join(_outside(sweep.space, _base_point(sweep)))
        yield "first      " + (
            f"drawn: the base is outside the space ({outside})" if outside else "the base's own values"
        )
    yield f"stopping   {config.scheduler.name}" + (
        f" ({settings}; a look every {sweep.every:,} steps)" if settings else ""
    )
    if sweep.together:
        yield f"rounds     trials step together, and are compared at steps {', '.join(f'{s:,}' for s in sweep.rungs)}"
    yield f"results    {sweep.folder}"
