"""What a sweep ends in: figures, best.yaml, a comparison over fresh seeds, and a registered model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from toposampler.config import to_yaml
from toposampler.files import write_atomically
from toposampler.tracking.champion import Verdict
from toposampler.training import conclusion
from toposampler.training.config import RunConfig
from toposampler.tuning import engine
from toposampler.tuning.champion import register
from toposampler.tuning.config import GPSearch, Racing, Sweep, trial_config
from toposampler.tuning.figures import draw
from toposampler.tuning.ledger import Entry, Ledger, best, ranked
from toposampler.tuning.programs import Outcome, Program, grouped
from toposampler.tuning.racing import Judgment, compare
from toposampler.tuning.recorder import Recorder
from toposampler.tuning.rounds import BASE
from toposampler.tuning.spaces import Values
from toposampler.tuning.surrogate import expected
from toposampler.tuning.trial import Order, Plan, trial_name
from toposampler.tuning.workers import TrainPrograms, run_programs

FRESH = 1000
"""what is added to the base's seed for the comparison: no trial has been trained with these seeds"""


@dataclass(frozen=True)
class Comparison:
    """The best trial's configuration and the base, each trained with the same fresh seeds."""

    seeds: Sequence[int]
    best: Sequence[float]
    """the first objective, by seed"""
    base: Sequence[float]
    others: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """that of the other finalists of a race, by their names"""

    @property
    def complete(self) -> bool:
        """Whether no training has failed."""
        return all(map(isfinite, [*self.best, *self.base]))


@dataclass(frozen=True)
class SweepReport:
    """What has come of a sweep."""

    sweep: Sweep
    entries: list[Entry]
    best: Entry | None
    """None: no trial was trained to its end"""
    front: list[int]
    """trials that none beats in all objectives"""
    comparison: Comparison | None
    verdict: Verdict | None
    """of the registry; None: nothing was registered"""
    judgment: Judgment | None = None
    """of a race: whether `best` is better than the base beyond doubt; if not, `best` is the base"""
    figures: list[Path] = field(default_factory=list)
    """of all trials"""


def end_sweep(sweep: Sweep, ledger: Ledger, recorder: Recorder | None, concurrency: int) -> SweepReport:
    """Bring `sweep`, whose trials have all ended, to its end. It can be done again: what is there is not made twice."""
    entries, front = ledger.entries(), ledger.front()
    races, verdict = isinstance(sweep.config.scheduler, Racing), None
    winner, comparison, judgment = decided(sweep, entries, concurrency)
    figures = draw(sweep, entries, winner, front)
    if winner is not None:
        write_atomically(sweep.folder / "best.yaml", best_yaml(sweep, winner))
        if recorder is not None:
            recorder.refresh()
            for entry in entries:
                recorder.tag(entry.number, {"best": str(entry.number == winner.number).lower()})
            recorder.parent.tag({"best_trial": str(winner.number), "best_run": str(recorder.run_id(winner.number))})
            if sweep.config.register_model and (not races or (judgment and judgment.better)):
                verdict = register(sweep, winner, recorder)
    report = SweepReport(sweep, entries, winner, front, comparison, verdict, judgment, figures)
    content = result(report)
    if winner is not None:
        conclusion.write_page(sweep.folder, json.loads(json.dumps(content)))
    write_atomically(sweep.folder / "result.json", json.dumps(content, indent=2))
    return report


def decided(
    sweep: Sweep, entries: Sequence[Entry], concurrency: int, train: TrainPrograms | None = None
) -> tuple[Entry | None, Comparison | None, Judgment | None]:
    """The best of `entries`, all of which have ended, and over fresh seeds its comparison with the base, as far as the
    sweep asks for one.

    Of a race the best is the base, unless the judgment of the comparison is that its rival is better.
    `train` trains what the comparison needs; by default the connected cluster does.
    """
    racing = sweep.config.scheduler if isinstance(sweep.config.scheduler, Racing) else None
    of_model = racing and isinstance(sweep.config.search, GPSearch)
    order = (by_expectation if of_model else ranked)(sweep, entries)
    rivals = [entry for entry in order if not racing or trial_name(entry.number) != BASE]
    finalists = rivals[: racing.finalists if racing else 1]
    winner, comparison, judgment = next(iter(finalists), None), None, None
    if finalists and sweep.config.confirm_seeds:
        who = "the best" if len(finalists) == 1 else f"the best {len(finalists)}"
        print(f"now {who} against the base, fresh seeds: {sweep.config.confirm_seeds}", flush=True)
        winner, comparison = confirm(sweep, finalists, concurrency, train)
        if racing and comparison.complete:
            judgment = evaluated(sweep, comparison, 1 - (1 - racing.confidence) / len(finalists))
    if racing and not (judgment and judgment.better):  # what is not shown to be better is not taken
        winner = best(sweep, [entry for entry in entries if trial_name(entry.number) == BASE])
    return winner, comparison, judgment


def by_expectation(sweep: Sweep, entries: Sequence[Entry]) -> list[Entry]:
    """The finished trials by what a Gaussian process of their first objective expects of their settings, best first:
    a single seed's score is its setting's mean and luck, and the best of many such scores is mostly luck."""
    finished = ranked(sweep, entries)
    scores = [sweep.sign * (entry.objectives or {})[sweep.metric] for entry in finished]
    means = expected(sweep.space, [entry.values for entry in finished], scores) if finished else []
    return [entry for _, entry in sorted(zip(means, finished, strict=True), key=lambda pair: pair[0])]


def best_yaml(sweep: Sweep, winner: Entry) -> str:
    """The content of `best.yaml`: the best trial's configuration, and in a comment what it comes from."""
    objectives = ", ".join(f"{name} {value:.6g}" for name, value in (winner.objectives or {}).items())
    seeds = f", {sweep.config.aggregate} of {sweep.config.repeats} seeds" if sweep.config.repeats > 1 else ""
    origin = (
        f"# The best trial of the sweep {sweep.config.name}: {trial_name(winner.number)}\n"
        f"# {objectives} after {winner.steps:,} generator steps{seeds}\n"
    )
    return origin + to_yaml(best_config(sweep, winner.values))


def best_config(sweep: Sweep, values: Values) -> RunConfig:
    """The best trial's configuration as a run of its own, beside the sweep."""
    config = trial_config(sweep.base, values)
    return config.model_copy(update={"name": f"{sweep.config.name}-best", "output": str(sweep.folder.parent)})


def confirm(
    sweep: Sweep, finalists: Sequence[Entry], concurrency: int, train: TrainPrograms | None = None
) -> tuple[Entry, Comparison]:
    """Train the configurations of `finalists` and the base with the same fresh seeds, or read what was trained already:
    the best of them there (the first, if none was trained with all seeds), and its comparison with the base. Raises
    StorageError if the disk is full."""
    first = sweep.base.seed + FRESH
    seeds = tuple(range(first, first + sweep.config.confirm_seeds))
    plan = Plan(
        base=sweep.base.model_dump(mode="json"),
        folder=sweep.folder / "comparison",
        seeds=seeds,
        every=sweep.steps,  # only the end counts
        aggregate="mean",
        objectives={sweep.metric: sweep.config.objectives[sweep.metric]},
    )
    theirs = "base"
    named: dict[str, Values] = {trial_name(entry.number): entry.values for entry in finalists} | {theirs: {}}
    orders, folder = [Order(name, of) for name, of in named.items()], sweep.folder / "comparison"
    heard = _Heard()
    if sweep.together:
        one_round = OneRound(plan, orders, sweep.steps, concurrency, heard)
        (train or run_programs)(plan, sweep.base.cluster, one_round, concurrency, folder)
    else:
        engine.run(plan, sweep.base.cluster, orders, heard, concurrency, folder)
    if heard.reason is not None:
        raise engine.out_of_room(heard.reason)
    found = {name: _by_seed(plan.folder / name, seeds, sweep.metric) for name in named}
    complete = [entry for entry in finalists if all(map(isfinite, found[trial_name(entry.number)]))]
    winner = min(complete or finalists[:1], key=lambda entry: sweep.sign * fmean(found[trial_name(entry.number)]))
    base, mine = found.pop(theirs), found.pop(trial_name(winner.number))
    return winner, Comparison(seeds, mine, base, found)


def evaluated(sweep: Sweep, comparison: Comparison, confidence: float) -> Judgment:
    """The comparison's scores, less is better."""
    return compare([sweep.sign * x for x in comparison.best], [sweep.sign * x for x in comparison.base], confidence)


class OneRound:
    """Programs that are trained to their end, once: see `workers.Source`."""

    def __init__(self, plan: Plan, orders: Sequence[Order], steps: int, workers: int, heard: _Heard) -> None:
        parts = grouped(plan, orders, len(orders), workers)
        self._heard = heard
        self._left = [Program(i, steps, tuple(part)) for i, part in enumerate(parts)]

    def take(self) -> Program | None:
        """See `workers.Source`."""
        return self._left.pop(0) if self._left else None

    def done(self, program: Program, outcomes: Mapping[str, Outcome]) -> None:
        """See `workers.Source`."""
        for name, outcome in outcomes.items():
            self._heard.ended(name, outcome["failed"])

    def no_room(self, reason: str) -> None:
        """See `workers.Source`."""
        self._left.clear()
        self._heard.no_room(reason)

    def finished(self) -> bool:
        """See `workers.Source`."""
        return not self._left


class _Heard:
    """Tells of the comparison's trainings only what goes wrong."""

    reason: str | None = None
    """of a training that has left off, as the disk is full"""

    def reported(self, name: str, values: Values, step: int, objectives: Mapping[str, float]) -> None:
        """See `engine.Follower`."""

    def ended(self, name: str, failure: str | None) -> None:
        """See `engine.Follower`."""
        if failure:
            print(f"the comparison's training of the {name} failed: {failure}", flush=True)

    def no_room(self, reason: str) -> None:
        """See `engine.Follower`."""
        self.reason = reason


def _by_seed(folder: Path, seeds: Sequence[int], metric: str) -> list[float]:
    """The final `metric` of the run of each seed; NaN for one that failed."""
    path = folder / "result.json"
    of_seeds = json.loads(path.read_text())["seeds"] if path.exists() else {}
    return [of_seeds[str(s)]["metrics"][metric] if str(s) in of_seeds else float("nan") for s in seeds]


def result(report: SweepReport) -> dict[str, Any]:
    """The content of `result.json`, whose `metrics` MLflow gets as `final/...` of the parent."""
    metrics, comparison = dict((report.best and report.best.objectives) or {}), report.comparison
    if comparison:
        means = {"comparison_best": fmean(comparison.best), "comparison_base": fmean(comparison.base)}
        metrics |= {name: value for name, value in means.items() if value == value}  # a failed training has none
    steps = sum(entry.steps for entry in report.entries) * report.sweep.config.repeats
    return {
        "metrics": metrics,
        "generator_steps": steps,
        "best": None if report.best is None else {"trial": report.best.number, "values": report.best.values},
        "front": report.front,
        "comparison": None if comparison is None else vars(comparison),
        "race": None if report.judgment is None else race_result(report.judgment),
        "model": None if report.verdict is None else vars(report.verdict),
        "trials": [vars(entry) for entry in report.entries],
    }


def race_result(judgment: Judgment) -> dict[str, Any]:
    """What a race ended in, for `result.json`; of the difference less is better, whatever the objective's direction."""
    return {
        "better": judgment.better,
        "confidence": judgment.confidence,
        "difference": vars(judgment.difference),
        "missed": judgment.missed,
    }


def race_line(metric: str, judgment: Judgment) -> str:
    """What a race ended in."""
    found = judgment.difference
    better_by = f"{-found.mean:.4f} ({judgment.confidence:.4g} interval: {-found.high:.4f} to {-found.low:.4f})"
    if judgment.better:
        return f"over fresh seeds the best is better than the base in {metric} by {better_by}"
    return (
        f"nothing better found: over fresh seeds the best other setting is better in {metric} by {better_by}, so that "
        f"an improvement of up to {judgment.missed:.4f} could have been missed"
    )


def told(report: SweepReport) -> Iterator[str]:
    """How the sweep ended, in a few lines."""
    sweep, winner = report.sweep, report.best
    if winner is None:
        yield "no trial was trained to its end, so there is no best one"
        return
    yield f"best      {trial_name(winner.number)}: " + ", ".join(
        f"{k} {v:.4f}" for k, v in (winner.objectives or {}).items()
    )
    if len(sweep.config.objectives) > 1:
        yield f"front     trials {', '.join(map(str, report.front))}: no other beats them in all objectives"
    if report.judgment:
        yield f"race      {race_line(sweep.metric, report.judgment)}"
    elif report.comparison:
        yield f"fresh     {comparison_line(sweep, report.comparison)}"
    if report.verdict:
        yield f"model     {report.verdict.told()}"
    yield f"figures   {', '.join(path.name for path in report.figures)} in {sweep.folder / 'figures'}"
    yield f"config    {sweep.folder / 'best.yaml'}"
    yield f"report    {(sweep.folder / 'figures' / 'report.html').as_uri()}"


def comparison_line(sweep: Sweep, comparison: Comparison) -> str:
    """Whether the best trial's configuration beats the base over fresh seeds, and by how much."""
    mine, theirs = fmean(comparison.best), fmean(comparison.base)
    n = len(comparison.seeds)
    if not (mine == mine and theirs == theirs):
        return "not compared: a training failed"
    better = sweep.sign * mine < sweep.sign * theirs
    wins = sum(sweep.sign * a < sweep.sign * b for a, b in zip(comparison.best, comparison.base, strict=True))
    verdict = "beats" if better else "does NOT beat"
    return (
        f"over {n} fresh seeds the best {verdict} the base: mean {sweep.metric} {mine:.4f} against {theirs:.4f}, "
        f"better with {wins} of {n} seeds"
    )
