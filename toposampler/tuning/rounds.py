"""A sweep in rounds: all trials of a batch are trained to a rung, as few programs, and compared there.

Between two rounds nothing is trained. Who goes on is decided here, from what all trials have recorded at the rung, so
that a driver that goes on after a kill decides as the one before it; survivors then form new programs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, Protocol

import numpy as np

from toposampler.files import write_atomically
from toposampler.records import read_records
from toposampler.training.branch import branch
from toposampler.training.checkpoint import checkpoint_name
from toposampler.training.config import run_folder
from toposampler.tuning.config import ASHA, PBT, Racing, Sweep
from toposampler.tuning.programs import Outcome, Program, grouped
from toposampler.tuning.racing import goes_on, survivors
from toposampler.tuning.schedulers import Explorer
from toposampler.tuning.spaces import Values
from toposampler.tuning.trial import Order, Plan, of_seed, runs, trial_name

BASE = trial_name(0)
"""the trial that has the base's own values, where a sweep begins with it"""


class Lead(Protocol):
    """Who knows the trials of a sweep, and is told how they go."""

    def take(self) -> Order | None:
        """The next trial, new or left behind by an earlier driver; None: there are enough."""
        ...

    def left_behind(self) -> bool:
        """Whether `take` gives one that an earlier driver left next."""
        ...

    def names(self) -> list[str]:
        """All trials that were ever begun."""
        ...

    def reported(self, name: str, values: Values, step: int, objectives: Mapping[str, float]) -> None:
        """A trial has come to `step`."""
        ...

    def moved(self, name: str, values: Values) -> None:
        """A trial continues with other `values`."""
        ...

    def ended(self, name: str, failure: str | None) -> None:
        """A trial has ended, or was stopped; `failure` says why it failed, if it did."""
        ...

    def no_room(self, reason: str) -> None:
        """See `workers.Source`."""
        ...


class Rounds:
    """The programs of a sweep, for `workers.run_programs`: see `workers.Source`.

    Args:
        sweep: what is searched, and how trials are compared.
        plan: what the trials have in common.
        lead: gives out trials, and is told how they go.
        most: trials in one program.
        workers: programs at a time.
    """

    def __init__(self, sweep: Sweep, plan: Plan, lead: Lead, most: int, workers: int) -> None:
        self._sweep, self._plan, self._lead, self._most, self._workers = sweep, plan, lead, most, workers
        self._batch: dict[str, Order] = {}
        self._queue: list[Program] = []
        self._rounds = self._all_rounds()
        self._given = self._running = 0
        self._over = False

    def finished(self) -> bool:
        """See `workers.Source`."""
        return self._over

    def take(self) -> Program | None:
        """See `workers.Source`: the next program of this round; of the next one, once all of this have ended."""
        while not self._queue and not self._running and not self._over:
            self._queue = next(self._rounds, [])
            self._over = not self._queue
        if not self._queue:
            return None
        self._running += 1
        return self._queue.pop(0)

    def done(self, program: Program, outcomes: Mapping[str, Outcome]) -> None:
        """See `workers.Source`."""
        self._running -= 1
        for order in program.members:
            outcome = outcomes[order.name]
            if outcome["failed"] is not None:
                self._end(order.name, outcome["failed"])
            else:
                self._lead.reported(order.name, dict(order.values), program.until, outcome["objectives"])

    def no_room(self, reason: str) -> None:
        """See `workers.Source`: the trials of this round stay as they are, for a driver that resumes the sweep."""
        self._running -= 1
        self._over = True
        self._queue.clear()
        self._lead.no_room(reason)

    def _all_rounds(self) -> Iterator[list[Program]]:
        """Round after round; the trials of one have ended when the next is asked for."""
        while self._begin():
            for until in self._sweep.rungs:
                if not self._batch:
                    break
                yield self._programs(until)
                if until < self._sweep.steps:
                    self._compare(until)
            for name in list(self._batch):
                self._end(name)

    def _begin(self) -> bool:
        """Begin a batch of trials; False: there are no more.

        A population is one batch, and so is each generation of a race. What an earlier driver left behind was one, and
        is one again.
        """
        racing, exchanging = (isinstance(self._sweep.config.scheduler, of) for of in (Racing, PBT))
        rest = self._lead.left_behind()

        def full() -> bool:
            if racing:
                begun = len(self._lead.names())
                return bool(self._batch) and not self._lead.left_behind() and begun % self._sweep.generation == 0
            if rest and not exchanging:
                return not self._lead.left_behind()
            return not exchanging and len(self._batch) >= self._most * self._workers

        while not full() and (order := self._lead.take()) is not None:
            self._batch[order.name] = order
        return bool(self._batch)

    def _programs(self, until: int) -> list[Program]:
        parts = grouped(self._plan, list(self._batch.values()), self._most, self._workers)
        first, self._given = self._given, self._given + len(parts)
        return [Program(first + i, until, tuple(part)) for i, part in enumerate(parts)]

    def _end(self, name: str, failure: str | None = None) -> None:
        self._batch.pop(name, None)
        self._lead.ended(name, failure)

    def _compare(self, until: int) -> None:
        """Decide which trials continue from the rung `until`, and with what."""
        match self._sweep.config.scheduler:
            case ASHA(reduction=reduction):
                scores = self._recorded(until, f"eval/{self._sweep.metric}")
                on = {name for name, score in scores.items() if goes_on(score, list(scores.values()), reduction)}
            case Racing(reduction=reduction, confidence=confidence):
                on = self._race(until, reduction, confidence)
            case PBT(quantile=quantile, resample=resample):
                self._exchange(until, quantile, resample)
                return
            case _:
                return
        for name in self._batch.keys() - on:
            self._end(name)

    def _recorded(self, step: int, metric: str) -> dict[str, float]:
        """What every trial that has come to `step` has recorded there, less is better."""
        found = {}
        for name in self._lead.names():
            for record in read_records(self._plan.folder / name / "metrics.jsonl"):
                if record.step == step and metric in record.metrics:
                    found[name] = self._sweep.sign * record.metrics[metric]
        return found

    def _race(self, until: int, reduction: int, confidence: float) -> set[str]:
        of_seeds = [self._recorded(until, of_seed(seed, self._sweep.metric)) for seed in self._plan.seeds]
        names = list(of_seeds[0])
        if not names:
            return set()
        scores = np.array([[scores[name] for scores in of_seeds] for name in names])
        base = names.index(BASE) if BASE in names else int(scores.mean(axis=1).argmin())  # where it has failed
        return {names[i] for i in survivors(scores, base, reduction, confidence)}

    def _exchange(self, until: int, quantile: float, resample: float) -> None:
        """Have the worst trials resume from the best, with other constants; done once, whenever a kill comes."""
        path = self._sweep.folder / "exchange.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"step": 0}
        if known["step"] > until or (known["step"] == until and known["done"]):
            return
        if known["step"] < until:
            known = {"step": until, "moves": self._moves(until, quantile, resample), "done": False}
            write_atomically(path, json.dumps(known))
        for name, move in known["moves"].items():
            self._adopt(name, move["donor"], move["values"], until)
        write_atomically(path, json.dumps({**known, "done": True}))

    def _moves(self, until: int, quantile: float, resample: float) -> dict[str, dict[str, object]]:
        """For each trial of the worst part the one of the best part that it resumes from, and its constants."""
        scores = {k: v for k, v in self._recorded(until, f"eval/{self._sweep.metric}").items() if k in self._batch}
        ranked = sorted(scores, key=lambda name: scores[name])
        n = min(ceil(len(ranked) * quantile), len(ranked) // 2)
        rng = random.Random(f"{self._sweep.config.seed} {until}")
        explore = Explorer(self._sweep.space, resample, rng.getrandbits(32))
        moves: dict[str, dict[str, object]] = {}
        for name in ranked[len(ranked) - n :]:
            donor = rng.choice(ranked[:n])
            moved = explore({"order": {"values": dict(self._batch[donor].values)}})
            moves[name] = {"donor": donor, "values": moved["order"]["values"]}
        return moves

    def _adopt(self, name: str, donor: str, values: Values, step: int) -> None:
        """Have a trial resume from the checkpoints of another, seed by seed."""
        if name not in self._batch:
            return
        for mine, other in zip(runs(self._plan, name, values), runs(self._plan, donor, values), strict=True):
            branch(mine, run_folder(other) / "checkpoints" / checkpoint_name(step))
        self._batch[name] = Order(name, values)
        self._lead.moved(name, values)
