"""Iterations of a population as programs to be captured: see `training/graph.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toposampler.systems import Move
from toposampler.training.capture import Capture
from toposampler.training.graph import Drawn, Graphs, Program, Room, changing_constants

if TYPE_CHECKING:
    from toposampler.training.population import Population


class PopulationGraphs(Graphs):
    """Replays iterations of all members of `population` together."""

    def __init__(self, population: Population, capture: Capture | None) -> None:
        super().__init__(population.system, capture, population.config.graph)
        self._population = population

    @property
    def device(self) -> torch.device:
        """See `Graphs`."""
        return self._population.loops[0].device

    def obstacle(self) -> str | None:
        """See `Graphs`."""
        first = self._population.loops[0]
        if not isinstance(first.data, Tensor):
            return "its data are read as they are needed"
        optimizers = [o for player in first.players.values() for o in player.optimizers.values()]
        return changing_constants(optimizers, first.config)

    def state(self) -> list[Tensor]:
        """See `Graphs`."""
        population = self._population
        own = [x for player in population.players.values() for x in player.state()]
        return [*own, population.average, *population.buffers.values()]

    def inputs(self, moves: Sequence[Move], drawn: Drawn) -> dict[str, Tensor]:
        """See `Graphs`."""
        indices = drawn[0]
        noise = {f"noise.{name}": x for name, x in drawn[1].items()}
        constants = torch.tensor([*self._population.constants().values()], dtype=torch.float64)  # (keys, P)
        first = self._population.loops[0]
        changing = [first.learning_rate_scale(), self._population.remaining(), 1 - first.ema_decay()]
        numbers = torch.tensor(changing, dtype=torch.float64)
        return {"indices": indices, "constants": constants, "numbers": numbers, **noise}

    def program(self, moves: Sequence[Move], given: dict[str, Tensor], room: Room) -> Program:
        """See `Graphs`."""
        population, program, step = self._population, Program(), self._population.step

        def iteration() -> None:
            program.made.clear()
            dtype = population.loops[0].data.dtype
            constants = dict(zip(population.constants(), given["constants"].to(dtype), strict=True))
            scale, remaining, weight = given["numbers"].to(dtype)
            noise = {name.removeprefix("noise."): x for name, x in given.items() if name.startswith("noise.")}
            batches = population.rows(given["indices"], noise, constants, room.batch, step)
            fakes = population.fakes(batches, moves, room.fakes)
            for move in moves:
                program.made.append((move.player, *population.move(move, batches, fakes, scale, remaining)))
            population.move_average(weight)

        program.segments.append(iteration)
        return program

    def finish(self, program: Program, values: Tensor) -> None:
        """See `Graphs`."""
        sizes = [len(names) for _, names, _ in program.made]
        for (player, names, _), part in zip(program.made, values.split(sizes, dim=1), strict=True):
            self._population.log(player, names, part)
        self._population.advance()
