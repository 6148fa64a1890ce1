"""A whole sweep, seen from its driver: begun or resumed, followed, and brought to its end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import yaml

from toposampler.background import Periodic
from toposampler.config import ClusterConfig, flatten, to_yaml
from toposampler.distributed.cluster import cluster
from toposampler.distributed.driver import absolute, check_tracking
from toposampler.errors import UserError
from toposampler.files import write_atomically
from toposampler.keys import may_resume
from toposampler.records import RecordWriter
from toposampler.tracking.uri import tracking_uri
from toposampler.training.lock import locked
from toposampler.training.run import check
from toposampler.tuning import engine
from toposampler.tuning.config import PBT, Sweep, check_objectives
from toposampler.tuning.console import Board
from toposampler.tuning.ledger import Ledger, best
from toposampler.tuning.recorder import Recorder
from toposampler.tuning.report import SweepReport, end_sweep
from toposampler.tuning.room import trials_at_once
from toposampler.tuning.rounds import Rounds
from toposampler.tuning.schedulers import scheduler
from toposampler.tuning.spaces import Values
from toposampler.tuning.trial import Order, Plan, trial_name
from toposampler.tuning.workers import TrainPrograms, run_programs

DELIVER_EVERY_S, SHOW_EVERY_S = 2.0, 30.0


def run_sweep(sweep: Sweep, resume: bool, since: float | None = None) -> SweepReport:
    """Run `sweep`, or with `resume` continue what its folder holds of it.

    `since` is when the command was given (seconds since 1970): how long it took to the first step is printed.
    Raises UserError for bad input, before anything starts.
    """
    sweep = prepared(sweep, resume)
    with locked(sweep.folder):
        for name, text in written(sweep).items():
            write_atomically(sweep.folder / name, text)
        plan, ledger = sweep_plan(sweep), Ledger(sweep)
        with recorded(sweep, plan) as recorder, cluster(asked(sweep)):
            for entry in ledger.entries():
                tell(recorder, ledger, entry.number)
            concurrency = engine.concurrent_trials(engine.nodes(), sweep.base.cluster, sweep.config.max_concurrent)
            driver = Driver(sweep, plan, ledger, recorder, concurrency, since)
            driver.search()
            return end_sweep(sweep, ledger, recorder, concurrency)


def prepared(sweep: Sweep, resume: bool) -> Sweep:
    """`sweep` with absolute folders, after all that can be refused has been looked at; its folder exists.

    Raises UserError for what is wrong.
    """
    sweep = replace(sweep, base=absolute(sweep.base))
    if (sweep.folder / "base.yaml").exists():
        if not resume:
            raise UserError(f"{sweep.folder} holds this sweep already; --resume continues it")
        if changed := differences(sweep):
            lines = "\n".join(f"  {line}" for line in changed)
            raise UserError(f"{sweep.folder} holds another sweep; give another --name, or remove the folder:\n{lines}")
    # The checks of a run, on the folder of all trials.
    trials = sweep.base.model_copy(update={"output": str(sweep.folder), "name": "trials"})
    check_objectives(sweep, check(trials))
    if sweep.together and not os.environ.get("RAY_ADDRESS"):
        trials_at_once(sweep, engine.concurrent_trials(engine.nodes(), sweep.base.cluster, sweep.config.max_concurrent))
    check_tracking(sweep.base.model_copy(update={"output": str(sweep.folder.parent), "name": sweep.config.name}))
    return sweep


def written(sweep: Sweep) -> dict[str, str]:
    """What a sweep's folder says of it, by file: its configuration and its base's, every key written out."""
    return {"config.yaml": to_yaml(sweep.config), "base.yaml": to_yaml(sweep.base)}


def differences(sweep: Sweep) -> list[str]:
    """One line, `key: old -> new`, for each key of the sweep in the folder that must not change when it goes on.

    What may change: how far it goes, what is done at its end, and what the resolved base says already.
    """
    lines = []
    for name, now in written(sweep).items():
        old, new = (flatten(yaml.safe_load(text)) for text in ((sweep.folder / name).read_text(), now))
        config = sweep.config if name == "config.yaml" else sweep.base
        lines += [
            f"{key}: {old.get(key, '(absent)')} -> {new.get(key, '(absent)')}"
            for key in {**old, **new}
            if old.get(key) != new.get(key) and not may_resume(config, key)
        ]
    return lines


def asked(sweep: Sweep) -> ClusterConfig:
    """What the cluster must have: on a Ray that is started here, all that the trials at a time use; else one trial."""
    one = sweep.base.cluster
    if os.environ.get("RAY_ADDRESS"):
        return one
    at_a_time = engine.concurrent_trials(engine.nodes(), one, sweep.config.max_concurrent)
    further = dict(one.resources_per_worker)
    if "memory" in further:  # a Ray that is started here has no more of it than is asked for
        further["memory"] += engine.DRIVER_MEMORY
    workers = {"num_workers": at_a_time * one.num_workers, "min_workers": None}
    return one.model_copy(update={**workers, "resources_per_worker": further})


def sweep_plan(sweep: Sweep) -> Plan:
    """What the trials of `sweep` have in common."""
    first = sweep.base.seed
    return Plan(
        base=sweep.base.model_dump(mode="json"),
        folder=sweep.folder / "trials",
        seeds=tuple(range(first, first + sweep.config.repeats)),
        every=sweep.every,
        aggregate=sweep.config.aggregate,
        objectives=sweep.config.objectives,
        exchanges=isinstance(sweep.config.scheduler, PBT),
    )


@contextmanager
def recorded(sweep: Sweep, plan: Plan) -> Iterator[Recorder | None]:
    """MLflow, kept up with the sweep while the block runs; None where tracking is not enabled."""
    if not sweep.base.tracking.enabled:
        yield None
        return
    recorder = Recorder(sweep, plan, tracking_uri(sweep.base.tracking, sweep.folder.parent))
    try:
        with Periodic(recorder.refresh, DELIVER_EVERY_S):
            yield recorder
    except BaseException as error:
        recorder.leave("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    recorder.leave("FINISHED")


def tell(recorder: Recorder | None, ledger: Ledger, number: int) -> None:
    """Have MLflow know how a trial stands, if there is MLflow."""
    if recorder is not None:
        recorder.know(ledger.entry(number))


class Driver:
    """Gives out trials, and notes what comes of them: in the ledger, on the terminal, for MLflow."""

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        ledger: Ledger,
        recorder: Recorder | None,
        concurrency: int,
        since: float | None = None,
    ) -> None:
        self._since = since
        self._sweep, self._plan, self._ledger, self._recorder = sweep, plan, ledger, recorder
        self._concurrency = concurrency
        self._earlier = ledger.entries()
        self._unfinished = [entry.number for entry in self._earlier if entry.outcome == "running"]
        self._numbers = {trial_name(entry.number): entry.number for entry in self._earlier}
        self._board = Board(sweep, self._earlier)
        self._records = RecordWriter(sweep.folder / "metrics.jsonl")
        self._no_room: str | None = None

    def search(self, train: TrainPrograms | None = None) -> None:
        """Run all trials that are left. Where they are trained together, `train` has them trained, by default the
        connected cluster. Raises StorageError if the disk is full."""
        with Periodic(self._board.show, SHOW_EVERY_S):
            if self._sweep.together:
                self._in_rounds(train or run_programs)
            else:
                self._one_by_one()
        self._records.close()
        if self._no_room is not None:
            raise engine.out_of_room(self._no_room)

    def _in_rounds(self, train: TrainPrograms) -> None:
        """Train many trials in each worker."""
        workers = self._concurrency
        rounds = Rounds(self._sweep, self._plan, self, trials_at_once(self._sweep, workers), workers)
        train(self._plan, self._sweep.base.cluster, rounds, workers, self._sweep.folder)

    def _one_by_one(self) -> None:
        """Train one trial in each worker, or group of workers."""
        whole = isinstance(self._sweep.config.scheduler, PBT)
        orders = list(iter(self.take, None)) if whole else self.take
        if orders:
            engine.run(
                self._plan,
                self._sweep.base.cluster,
                orders,
                self,
                self._concurrency,
                self._sweep.folder,
                scheduler(self._sweep, self._earlier),
            )

    def take(self) -> Order | None:
        """The next trial: one that an earlier driver left, else a new one, until there are enough."""
        if self._no_room is not None:
            return None
        if self._unfinished:
            entry = self._ledger.again(self._unfinished.pop(0))
        elif self._enough():
            return None
        else:
            entry = self._ledger.ask()
        name = trial_name(entry.number)
        self._numbers[name] = entry.number
        self._note(name)
        return Order(name, entry.values)

    def left_behind(self) -> bool:
        """See `rounds.Lead`."""
        return bool(self._unfinished)

    def names(self) -> list[str]:
        """See `rounds.Lead`."""
        return list(self._numbers)

    def moved(self, name: str, values: Values) -> None:
        """See `rounds.Lead`."""
        self._ledger.moved(self._numbers[name], values)
        self._note(name)

    def _enough(self) -> bool:
        entries, limit = self._ledger.entries(), self._sweep.config.total_steps
        steps = sum(entry.steps for entry in entries) * self._sweep.config.repeats
        return len(entries) >= self._sweep.config.trials or (limit is not None and steps >= limit)

    def reported(self, name: str, values: Values, step: int, objectives: Mapping[str, float]) -> None:
        """See `engine.Follower`."""
        number = self._numbers[name]
        entry = self._ledger.entry(number)
        if entry.outcome != "running":  # a word that was on its way when the trial ended
            return
        if step < entry.steps:  # an earlier driver has heard of more
            return
        self._tell_first_step(name)
        if values != entry.values:
            self._ledger.moved(number, values)
        self._ledger.report(number, step, list(objectives.values()))
        self._note(name)

    def ended(self, name: str, failure: str | None) -> None:
        """See `engine.Follower`."""
        number = self._numbers[name]
        entry = self._ledger.entry(number)
        if entry.outcome != "running":  # it has been told: a process may be lost after its trial has ended
            return
        whole = entry.steps >= self._sweep.steps
        self._ledger.end(number, "failed" if failure else "finished" if whole else "stopped", failure or "")
        self._note(name)
        entries = self._ledger.entries()
        over = [entry.outcome for entry in entries if entry.outcome != "running"]
        found = best(self._sweep, entries)
        self._records.write(
            len(over),
            {f"trials/{outcome}": float(over.count(outcome)) for outcome in ("finished", "stopped", "failed")}
            | {"trials/generator_steps": float(sum(entry.steps for entry in entries) * self._sweep.config.repeats)}
            | {f"best/{name}": value for name, value in ((found and found.objectives) or {}).items()},
        )

    def no_room(self, reason: str) -> None:
        """See `engine.Follower`; the trial stays unfinished, so that it is taken again."""
        self._no_room = self._no_room or reason

    def _tell_first_step(self, name: str) -> None:
        """Print once how long it took from the command to the first step of a trial.

        A run writes its configuration when it is built, just before its first step.
        """
        begun = [path.stat().st_mtime for path in (self._plan.folder / name).glob("seed-*/config.yaml")]
        if self._since is not None and begun and (first := min(begun)) >= self._since:
            print(f"first step {first - self._since:.1f} s after the command", flush=True)
            self._since = None

    def _note(self, name: str) -> None:
        tell(self._recorder, self._ledger, self._numbers[name])
        self._board.note(self._ledger.entry(self._numbers[name]))
