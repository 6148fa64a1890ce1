"""The ledger of a sweep: every trial that was begun, with its values and how it ended, in Optuna's study on disk.

It is written before a trial starts and after it ends, so that a sweep whose driver was killed knows which trials are
left to finish, and the search continues with all that is known.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from toposampler.tuning.config import GPSearch, Sweep, TPESearch, base_values
from toposampler.tuning.generations import between, parents
from toposampler.tuning.spaces import Values, suggest

Outcome = Literal["finished", "stopped", "failed", "running"]

_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class Entry:
    """One trial."""

    number: int
    values: Values
    """of the searched keys that exist in it"""
    outcome: Outcome
    """finished: trained to its end; stopped: early, by the scheduler; running: not ended, or left behind by a kill"""
    objectives: dict[str, float] | None
    """the last ones reported, by name"""
    steps: int
    """generator steps of its last report, for each seed"""
    note: str
    """why it failed"""


class Ledger:
    """Opens the ledger of `sweep`, or begins it: the file `ledger.db` in the sweep's folder, which must exist."""

    def __init__(self, sweep: Sweep) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep = sweep
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{sweep.folder / 'ledger.db'}")
        self._study = optuna.create_study(
            study_name=sweep.config.name,
            storage=self._storage,
            directions=list(sweep.config.objectives.values()),
            load_if_exists=True,
        )
        if sweep.config.start_with_base and not self._study.trials and (values := base_values(sweep)) is not None:
            self._study.enqueue_trial(values)

    def entries(self) -> list[Entry]:
        """All trials that were begun, in their order."""
        return [self._entry(t) for t in self._study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def entry(self, number: int) -> Entry:
        """The trial `number` as it stands."""
        return self._entry(self._frozen(number))

    def ask(self) -> Entry:
        """Begin a trial: what the search wants to know next, given all that has ended."""
        number = len(self.entries())
        # A sampler of its own for each trial: what is drawn must not begin again after a kill.
        seed = np.random.SeedSequence((self._sweep.config.seed, number)).generate_state(1)
        self._study.sampler = self._sampler(int(seed[0]))
        named = self._study.get_trials(False, (TrialState.WAITING,)) or isinstance(self._sweep.config.search, GPSearch)
        if number >= self._sweep.generation and not named:
            self._enqueue_between(number)
        return self.again(self._study.ask().number)

    def _enqueue_between(self, number: int) -> None:
        """Have the next trial, of a later generation of a race, a setting between the best of the generations before;
        if fewer than two of those have come to a score, it is drawn at random."""
        begun = number // self._sweep.generation * self._sweep.generation
        known = [
            (entry.values, entry.steps, self._sweep.sign * entry.objectives[self._sweep.metric])
            for entry in self.entries()[:begun]
            if entry.objectives and entry.outcome != "failed"
        ]
        if len(known) > 1:
            rng = random.Random(f"{self._sweep.config.seed} {number}")
            self._study.enqueue_trial(between(self._sweep.space, parents(known), rng))

    def again(self, number: int) -> Entry:
        """The trial that was begun as `number`, to be resumed; its values are as they were."""
        suggest(self._sweep.space, self._trial(number))
        return self.entry(number)

    def report(self, number: int, steps: int, objectives: Sequence[float]) -> None:
        """Note what a running trial has come to."""
        trial = self._trial(number)
        if len(objectives) == 1:  # the search also learns from trials that are stopped early
            trial.report(objectives[0], steps)
        trial.set_user_attr("objectives", list(objectives))
        trial.set_user_attr("steps", steps)

    def moved(self, number: int, values: Values) -> None:
        """Note that a running trial continues with other `values` than it was begun with."""
        self._trial(number).set_user_attr("values", values)

    def end(self, number: int, outcome: Outcome, note: str = "") -> None:
        """Note how a running trial ended."""
        trial = self._trial(number)
        if note:
            trial.set_user_attr("note", note)
        objectives = self._frozen(number).user_attrs.get("objectives")
        self._study.tell(number, objectives if outcome == "finished" else None, state=_STATES[outcome])

    def front(self) -> list[int]:
        """The numbers of the finished trials that no other one beats in all objectives."""
        return sorted(trial.number for trial in self._study.best_trials)

    def _trial(self, number: int) -> optuna.Trial:
        study = self._storage.get_study_id_from_name(self._sweep.config.name)
        return optuna.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _sampler(self, seed: int) -> BaseSampler:
        match self._sweep.config.search:
            case TPESearch(startup_trials=startup):
                with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
                    # Jointly, and by group for keys that exist only sometimes; running trials count as poor ones.
                    return TPESampler(
                        seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True
                    )
            case GPSearch(startup_trials=startup):
                # Keys that exist only sometimes are drawn at random.
                return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case _:
                return RandomSampler(seed)

    def _entry(self, trial: FrozenTrial) -> Entry:
        known = trial.user_attrs.get("objectives")
        return Entry(
            number=trial.number,
            values=trial.user_attrs.get("values", trial.params),
            outcome=_OUTCOMES[trial.state],
            objectives=None if known is None else dict(zip(self._sweep.config.objectives, known, strict=True)),
            steps=trial.user_attrs.get("steps", 0),
            note=trial.user_attrs.get("note", ""),
        )


def best(sweep: Sweep, entries: Sequence[Entry]) -> Entry | None:
    """The finished trial with the best first objective."""
    return next(iter(ranked(sweep, entries)), None)


def ranked(sweep: Sweep, entries: Sequence[Entry]) -> list[Entry]:
    """The finished trials by their first objective, the best one first."""
    finished = [entry for entry in entries if entry.outcome == "finished" and entry.objectives]
    return sorted(finished, key=lambda entry: sweep.sign * (entry.objectives or {})[sweep.metric])
