"""Several runs of one process that are trained together, as the members of populations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from toposampler.errors import StorageError, TrainingStoppedError
from toposampler.training.loop import Loop
from toposampler.training.numerics import numerics
from toposampler.training.population import Population, check_alike
from toposampler.training.run import Run

Metrics = dict[str, float]


def raised(run: Run, error: TrainingStoppedError) -> None:
    """Let a run that has failed end the training of all."""
    raise error


def advance_together(
    runs: Sequence[Run],
    step: int,
    fails: Callable[[Run, TrainingStoppedError], None] = raised,
    after: Callable[[int, Sequence[Run], Sequence[Metrics]], None] = lambda *_: None,
) -> None:
    """Train `runs`, each from where it stands, until `step` generator steps are done: see `Run.advance`.

    Those that are behind, as after a kill between two checkpoints, catch up first.

    Args:
        runs: of one configuration but for what members of a population may differ in.
        step: to train until.
        fails: called with a run whose loss or parameters are not finite, and the error; the others go on without it.
        after: called after each step with it, the runs that are still trained, and what these have recorded, if they
            have. What it raises ends the training.

    Raises UserError if the runs cannot be members of one population, and StorageError if the folder of one cannot be
    written to: a disk that is full for one is full for all.
    """
    check_alike([run.config for run in runs])
    left = list(runs)
    while behind := [run for run in left if run.loop.step < step]:
        now = min(run.loop.step for run in behind)
        until = min((run.loop.step for run in behind if run.loop.step > now), default=step)
        together = [run for run in behind if run.loop.step == now]
        alive = _advance(together, until, fails, after)
        left = [run for run in left if run in alive or run not in together]


def finish_together(runs: Iterable[Run], fails: Callable[[Run, TrainingStoppedError], None]) -> None:
    """Bring each of `runs` to its result, without figures: of all members they would take longer than the training.

    `fails` is called as `advance_together` calls it. Raises StorageError if the folder of one cannot be written to.
    """
    for run in runs:
        try:
            run.finish(figures=False)
        except StorageError:
            raise
        except TrainingStoppedError as error:
            fails(run, error)


def _advance(
    runs: list[Run],
    until: int,
    fails: Callable[[Run, TrainingStoppedError], None],
    after: Callable[[int, Sequence[Run], Sequence[Metrics]], None],
) -> list[Run]:
    """Train `runs`, all at one step, until `until`. Returns those that have not failed on the way."""
    program = _program(runs)
    while runs and program.step < until:
        with numerics(program.config):
            program.iteration()
        recorded, failed = [], []
        for run in runs:
            try:
                if (metrics := run.look_up()) is not None:
                    recorded.append(metrics)
            except TrainingStoppedError as error:
                fault = type(error)(f"{error}; last good checkpoint: {run.newest or 'none yet'}")
                if isinstance(fault, StorageError):
                    raise fault from None
                failed.append(run)
                fails(run, fault)
        if failed:
            runs = [run for run in runs if run not in failed]
            program = _program(runs) if runs else program
        after(program.step, runs, recorded)
    return runs


def _program(runs: Sequence[Run]) -> Population | Loop:
    """What takes the iterations of all runs; one alone needs no population."""
    return Population([run.loop for run in runs]) if len(runs) > 1 else runs[0].loop
