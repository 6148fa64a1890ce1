"""An iteration as a program that is captured once for each shape in use, and replayed: what runs and populations share.

The eager loop launches each kernel from Python, some 35 us apiece, which on a GPU costs many times what the kernels of
a small network take. Here an iteration has a form in which no shape and no branch depends on a value (an ensemble has
room for so many samples of each generator: `nn/capacities.py`), and all that changes is copied into tensors that stay
where they are: rows of the data, noise, and `numbers`, the constants of the losses, learning rates and the weight
of the moving average. What is random is drawn outside, as in the eager loop. A shape is captured when it is first met.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from toposampler.config import OptimizerConfig, TrainingConfig
from toposampler.errors import UserError
from toposampler.nn.capacities import Capacities, capacities, needed
from toposampler.nn.ensemble import GeneratorEnsemble
from toposampler.systems import Move, System, batches_of
from toposampler.systems.batch import Noise
from toposampler.training.capture import Action, Capture, CudaCapture, NotCapturableError
from toposampler.training.process_group import ONE_PROCESS, ProcessGroup

Drawn = tuple[Tensor, Noise]
"""what a run draws for an iteration, as `Loop.draw` gives it, or the members of a population, as `Population.draw`"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """What ensembles have room for in an iteration; empty where no generator has to be chosen."""

    fakes: Capacities
    """for the batches of all of the critic's moves, which are made together"""
    batch: Capacities
    """for any one batch"""

    @classmethod
    def enough(cls, c: Tensor, fakes: Sequence[int], n_generators: int, cost: float = math.inf) -> Room:
        """For all that is drawn, c (runs, batches, n) on the CPU, where `fakes` are the critic's batches and `cost` is
        `row_cost`."""
        drawn = [c.flatten(0, 1), *([c[:, fakes].flatten(1)] if fakes else [])]  # a schedule may leave the critic out
        needs = [needed(ids, n_generators) for ids in drawn]
        parts, used = (max(need) for need in zip(*needs, strict=True))
        n, cost = c.shape[2], len(c) * cost
        of_fakes, of_batch = (capacities(rows, parts, used, n_generators, cost) for rows in (len(fakes) * n, n))
        return cls(of_fakes, of_batch)


@dataclass
class Program:
    """One iteration, on given input tensors."""

    segments: list[Action] = field(default_factory=list)
    """its parts; after each but the last, gradients are averaged over workers"""
    averages: list[Action] = field(default_factory=list)
    """these averages: not part of a graph"""
    made: list[tuple[str, list[str], Tensor]] = field(default_factory=list)
    """of each move that was made last: player, names of its loss terms, their values (..., terms)"""

    def outputs(self) -> Tensor:
        """All loss terms (..., all terms), in the order of the moves."""
        return torch.cat([values for _, _, values in self.made], dim=-1)


@dataclass
class _Kept:
    """A captured program."""

    program: Program
    given: dict[str, Tensor]
    replays: list[Action]


class Graphs(ABC):
    """Takes iterations by replaying them. See the module.

    Args:
        system: which says what is computed.
        capture: how to record; None: programs are made anew at each iteration, from the numbers of the moment and on
            tensors of their own, which is what a replay must equal (for tests).
        asked: `training.graph`.
        group: of the run's workers.
    """

    def __init__(
        self, system: System, capture: Capture | None, asked: bool | str, group: ProcessGroup = ONE_PROCESS
    ) -> None:
        self.system, self._capture, self._asked, self._group = system, capture, asked, group
        self.critic = next(iter(system.players()))
        self._ensembles, self._cost = ensembles(system), row_cost(system)
        self._kept: dict[Hashable, _Kept] = {}
        self._refused = False

    @abstractmethod
    def inputs(self, moves: Sequence[Move], drawn: Drawn) -> dict[str, Tensor]:
        """All that differs from iteration to iteration of one shape, on any device."""

    @abstractmethod
    def program(self, moves: Sequence[Move], given: dict[str, Tensor], room: Room) -> Program:
        """An iteration on the tensors `given`, those of `inputs` on the device."""

    @abstractmethod
    def state(self) -> list[Tensor]:
        """All tensors that a program writes to and that outlive it."""

    @abstractmethod
    def finish(self, program: Program, values: Tensor) -> None:
        """Log the loss terms, as `Program.outputs` gives them; count the step."""

    def obstacle(self) -> str | None:
        """What in the run, beside its system, keeps it from being captured; None: nothing."""
        return None

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where programs run."""

    def play(self, step: int, moves: Sequence[Move], drawn: Drawn) -> bool:
        """Take the iteration after `step` with `moves` on what was `drawn`. False: it cannot be captured, nothing was
        done, and the caller takes it, this time and for ever.

        Raises UserError if it cannot be captured, and `training.graph` is true.
        """
        if self._refused:
            return False
        room = self.room(moves, drawn)
        inputs = self.inputs(moves, drawn)
        shapes = tuple((name, x.shape) for name, x in inputs.items())
        key = (tuple(moves), room, self.system.config.rhythm(step), shapes)
        if self._capture is None:
            made = self.program(moves, {name: x.to(self.device) for name, x in inputs.items()}, room)
            kept = _Kept(made, {}, made.segments)
        elif key in self._kept:
            kept = self._kept[key]
            for name, x in inputs.items():
                kept.given[name].copy_(x, non_blocking=True)
        else:
            found = self._captured(moves, inputs, room)
            if found is None:
                return False
            kept = self._kept[key] = found
        averages = [*kept.program.averages, lambda: None]
        for replay, average in zip(kept.replays, averages, strict=True):
            replay()
            average()
        self.finish(kept.program, kept.program.outputs())
        return True

    @property
    def refused(self) -> bool:
        """Whether it has turned out that iterations cannot be captured."""
        return self._refused

    def forget(self) -> None:
        """Drop all graphs: tensors that they write to are about to lie elsewhere."""
        self._kept.clear()

    def _captured(self, moves: Sequence[Move], inputs: dict[str, Tensor], room: Room) -> _Kept | None:
        """The program on copies of `inputs`, captured; None if that cannot be done, on any worker."""
        assert self._capture is not None
        reason, replays = why_not(self.system) or self.obstacle(), []
        given = {name: x.to(self.device, copy=True) for name, x in inputs.items()}
        program, state = self.program(moves, given, room), self.state()
        places = [x.data_ptr() for x in self.system.buffers()]
        if reason is None:
            try:
                replays = self._capture(program.segments, state, program.outputs)
            except NotCapturableError as error:
                reason = str(error)
        if reason is None and places != [x.data_ptr() for x in self.system.buffers()]:
            reason = "a step puts a buffer in the place of another one, and does not write to it"
        reasons = [other for other in self._group.all_values(reason) if other is not None]
        if not reasons:
            return _Kept(program, given, replays)
        if self._asked is True:
            raise UserError(
                f"training.graph true: an iteration of {self.system.config.name} with these networks cannot be "
                f"captured: {reasons[0]}; set training.graph to auto or false"
            )
        if not self._capture.is_silent:
            log.warning("training.graph auto: runs without CUDA graphs: %s", reasons[0])
        self._refused = True
        self.forget()
        return None

    def room(self, moves: Sequence[Move], drawn: Drawn) -> Room:
        """Enough for each of the runs that have `drawn`."""
        if not self._ensembles:
            return Room((), ())
        ids, fakes = drawn[1]["c"], batches_of(self.critic, moves)
        return Room.enough(ids if ids.dim() == 3 else ids[None], fakes, self.system.K, self._cost)

    @contextmanager
    def with_room(self, room: Capacities) -> Iterator[None]:
        """Have ensembles make so many samples of each generator, in tensors of fixed shapes."""
        try:
            for ensemble in self._ensembles:
                ensemble.capacities = room or None
            yield
        finally:
            for ensemble in self._ensembles:
                ensemble.capacities = None


def ensembles(system: System) -> list[GeneratorEnsemble]:
    """The modules of a system that ask which of several generators makes a sample."""
    return [m for m in system.modules() if isinstance(m, GeneratorEnsemble) and m.n_held > 1]


def row_cost(system: System) -> float:
    """Multiply-adds of a sample's pass through its generator, where these are what a row more costs; else infinite."""
    return sum(ensemble.cost for ensemble in ensembles(system))


def why_not(system: System) -> str | None:
    """Why the steps of a system cannot be captured; None if they can, as far as it says."""
    page = type(system)
    if page.__module__.startswith("toposampler.systems.") or vars(page).get("capturable"):
        return None
    return (
        f"{page.__name__} does not say `capturable = True`: that its losses take what depends on the step from "
        "Batch.constant, and branch as `rhythm` of its section tells"
    )


def changing_constants(optimizers: Iterable[OptimizerConfig], training: TrainingConfig) -> str | None:
    """Which constants of a run change from step to step and are no inputs of a captured iteration; None: none do."""
    for optimizer in optimizers:
        if optimizer.final_beta2 is not None:
            return "final_beta2: Adam's kernel takes its decays as numbers, and not from the device"
    return (
        "training.augmentation.adaptive looks at the critic between iterations"
        if training.augmentation.adaptive
        else None
    )


def capture_for(training: TrainingConfig, device: torch.device, streamed: bool) -> Capture | None:
    """How iterations are captured on `device`; None: not at all.

    Raises UserError if `training.graph` is true and the data are `streamed`, so that each iteration reads files.
    """
    if training.graph is True and streamed:
        raise UserError("training.graph true: an iteration that reads its images cannot be captured: data.cache device")
    return CudaCapture(device) if training.graph is not False and device.type == "cuda" and not streamed else None


def segmented(actions: Sequence[Action], averages: Sequence[Callable[[], None] | None]) -> Program:
    """A program of `actions` in their order, cut after each action that has an average over workers to follow it."""
    program, part = Program(), list[Action]()
    for action, average in zip(actions, averages, strict=True):
        part.append(action)
        if average is not None:
            program.segments.append(_together(part))
            program.averages.append(average)
            part = []
    program.segments.append(_together(part))
    return program


def _together(actions: Sequence[Action]) -> Action:
    actions = tuple(actions)

    def all_of_them() -> None:
        for action in actions:
            action()

    return all_of_them
