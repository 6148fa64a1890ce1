"""Iterations of one run as programs to be captured: see `training/graph.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toposampler.systems import Move, batches_of
from toposampler.systems.batch import Batch
from toposampler.training.capture import Action, Capture, NotCapturableError
from toposampler.training.graph import Drawn, Graphs, Program, Room, changing_constants, segmented
from toposampler.training.rows import Rows

if TYPE_CHECKING:
    from toposampler.training.loop import Loop


class LoopGraphs(Graphs):
    """Replays iterations of `loop`, alone or as one of several workers."""

    def __init__(self, loop: Loop, capture: Capture | None) -> None:
        super().__init__(loop.system, capture, loop.config.graph, loop.group)
        self._loop = loop

    @property
    def device(self) -> torch.device:
        """See `Graphs`."""
        return self._loop.device

    def obstacle(self) -> str | None:
        """See `Graphs`."""
        if not isinstance(self._loop.data, Tensor):
            return "its data are read as they are needed"
        optimizers = [o for player in self._loop.players.values() for o in player.optimizers.values()]
        return changing_constants(optimizers, self._loop.config)

    def state(self) -> list[Tensor]:
        """See `Graphs`."""
        loop = self._loop
        own = [x for player in loop.players.values() for x in player.state()]
        return [*own, loop.average, *self.system.buffers()]

    def inputs(self, moves: Sequence[Move], drawn: Drawn) -> dict[str, Tensor]:
        """See `Graphs`."""
        if self._loop.placement.sharded:
            return {}  # rows change hands with the draw: refused in `program`
        rows = self._loop.rows(*drawn)
        return {"indices": rows.indices, "numbers": self._numbers()} | {f"noise.{k}": x for k, x in rows.noise.items()}

    def _numbers(self) -> Tensor:
        """The losses' constants, the learning rates of all modules, the weight of the moving average: float64."""
        loop = self._loop
        scale = loop.learning_rate_scale()
        rates = [scale * rate for player in loop.players.values() for rate in player.learning_rates]
        return torch.tensor([*self._constants().values(), *rates, 1 - loop.ema_decay()], dtype=torch.float64)

    def _constants(self) -> dict[str, float]:
        return self.system.config.constants(self._loop.step, self._loop.config.generator_steps)

    def program(self, moves: Sequence[Move], given: dict[str, Tensor], room: Room) -> Program:
        """See `Graphs`."""
        loop, step_now, made = self._loop, self._loop.step, list[tuple[str, list[str], Tensor]]()
        if loop.placement.sharded:
            return segmented([partial(_refuse, "with cluster.placement sharded, rows follow the draw")], [None])
        n_batches = 1 + max(move.batch for move in moves)
        batches: list[Batch] = []
        fakes: dict[int, Tensor] = {}
        rates: dict[str, Sequence[Tensor]] = {}
        ema: list[Tensor] = []

        def begin() -> None:
            """Put this iteration's batches together, and make the critic's fakes."""
            made.clear()
            constants = list(self._constants())
            numbers = given["numbers"].to(loop.data.dtype).unbind()
            ema[:] = numbers[-1:]
            exact = (
                given["numbers"].float() if loop.device.type == "cuda" else given["numbers"]
            )  # as Adam's kernel asks
            left = list(exact.unbind()[len(constants) : -1])
            for name, player in loop.players.items():
                rates[name], left = left[: len(player.ranges)], left[len(player.ranges) :]
            noise = {name.removeprefix("noise."): x for name, x in given.items() if name.startswith("noise.")}
            rows = Rows(given["indices"], noise, [len(given["indices"]) // n_batches] * n_batches)
            own = dict(zip(constants, numbers, strict=False))
            # All replays have the step of the capture, on a CPU too: what depends on it is in `own`.
            batches[:] = [replace(batch, step=step_now) for batch in loop.batches(rows, lambda _: self._gather, own)]
            with self.with_room(room.fakes):
                fakes.update(loop.fakes(batches, noise, batches_of(self.critic, moves)))

        def descent(move: Move) -> None:
            """The loss and its gradient."""
            batch, player = batches[move.batch], loop.players[move.player]
            if move.player == self.critic:
                batch = replace(batch, fake=fakes[move.batch])
            player.freeze(False)
            try:
                with self.with_room(room.batch), loop.autocast():
                    terms = player.loss(batch)
                values = torch.stack(list(terms.values()))
                gradients = torch.autograd.grad(
                    values.sum(), player.parameters, allow_unused=True, materialize_grads=True
                )
            finally:
                player.freeze(True)
            torch.cat([gradient.flatten() for gradient in gradients], out=player.gradients)
            made.append((move.player, list(terms), values.detach()))

        def step(move: Move) -> None:
            loop.players[move.player].descend(rates[move.player])

        actions: list[Action] = [begin]
        averages: list[Action | None] = [None]
        for move in moves:
            actions += [partial(descent, move), partial(step, move)]
            player = loop.players[move.player]
            averages += [partial(player.average_gradients, loop.group) if loop.group.size > 1 else None, None]
        actions.append(lambda: loop.move_average(ema[0]))
        averages.append(None)
        program = segmented(actions, averages)
        program.made = made
        return program

    def _gather(self, x: Tensor) -> Tensor:
        if self._group.size > 1:
            _refuse("a loss of the whole batch gathers it from all workers")
        return x

    def finish(self, program: Program, values: Tensor) -> None:
        """See `Graphs`."""
        sizes = [len(names) for _, names, _ in program.made]
        for (player, names, _), part in zip(program.made, values.split(sizes), strict=True):
            self._loop.log(player, names, part)
        self._loop.step += 1


def _refuse(reason: str) -> None:
    raise NotCapturableError(reason)
