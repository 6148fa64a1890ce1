"""P runs of one system that step together, as one program: seeds and settings for little more than the price of one.

A small network leaves a machine idle: what is paid for are the calls, and P runs that are stacked along a first axis
need no more calls than one. Each member keeps its own `Loop`, with its own noise, order of the data, checkpoints and
result, on rows of the stacked tensors; only the iteration is done for all at once, by `torch.func.vmap` of the losses
that the system declares for one run. A member equals its run alone, up to rounding.

Members may differ in their seed and in the numbers that a run may branch with (`toposampler.keys`): learning rates and
the weights of losses (`SystemConfig.constants`); and in their number of generators, where a system says so
(`EnsembleConfig.masked`, `stacked.py`). All else makes another program, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from toposampler.config import flatten
from toposampler.errors import UserError
from toposampler.keys import may_branch
from toposampler.nn.capacities import Capacities
from toposampler.nn.critic import Critic
from toposampler.nn.ensemble import GeneratorEnsemble
from toposampler.priors.streams import Streams
from toposampler.systems import Move, System, batches_of
from toposampler.systems.batch import Batch, Noise
from toposampler.training.augmentation import NAME, pair_sign, real_augmented
from toposampler.training.capture import Capture
from toposampler.training.config import RunConfig
from toposampler.training.feed import Feed, expect_next
from toposampler.training.graph import Graphs, Room, capture_for, row_cost
from toposampler.training.graph_population import PopulationGraphs
from toposampler.training.loop import Loop
from toposampler.training.recorded import Recorded
from toposampler.training.stacked import stacked, stacked_buffers

Tensors = dict[str, Tensor]


def check_alike(configs: Sequence[RunConfig]) -> None:
    """Raises UserError unless the runs of `configs` can be the members of one population: it names the key."""
    first = configs[0]
    own = flatten(first.model_dump(mode="json"))
    for config in configs[1:]:
        other = flatten(config.model_dump(mode="json"))
        for key in own.keys() | other.keys():
            if key in ("name", "output") or own.get(key) == other.get(key):
                continue
            if key == "system.n_generators" and first.system.masks_generators and config.system.masks_generators:
                continue
            if not (key in own and key in other and may_branch(first, key)):
                raise UserError(
                    f"{key} is {own.get(key, '(absent)')} in {first.name} and {other.get(key, '(absent)')} in "
                    f"{config.name}: members of one population may differ in their seed, in learning rates, in "
                    "weights of losses, and in system.n_generators where the system says so and it is above 1"
                )
        if odd := first.system.left_out() ^ config.system.left_out():
            key = f"system.{min(odd)}"
            raise UserError(
                f"{key} is {own[key]} in {first.name} and {other[key]} in {config.name}: at 0 its term is left out, "
                "which makes another program; set it to 0 in all members or in none"
            )


class Population:
    """Loops that take their iterations together.

    Args:
        loops: of one configuration but for what may differ, each alone (not a part of a process group), all at the same
            step. Their tensors become rows of the population's.
    """

    def __init__(self, loops: Sequence[Loop]) -> None:
        first = loops[0]
        assert all(loop.step == first.step and loop.group.size == 1 for loop in loops)
        self.loops, self.step, self.config = list(loops), first.step, first.config
        systems = [loop.system for loop in loops]
        widest = max(loops, key=lambda loop: loop.system.K)
        self.system = widest.system
        """whose shapes the program has: of a member with the most generators"""
        for loop in loops[1:]:
            loop.data, loop.labels = first.data, first.labels  # one copy of the same data
        self.players = {name: stacked([loop.players[name] for loop in loops], systems) for name in first.players}
        self.average, averages = self.players["generator"].joined([loop.average for loop in loops])
        for loop, own in zip(loops, averages, strict=True):
            loop.average = own
        self._called, self._streams = _Called(self.system), _streams(loops)
        self._modules = [module for module in self.system.modules() if isinstance(module, GeneratorEnsemble | Critic)]
        names = {id(p): name for name, p in self._called.named_parameters()}
        self.state = {
            names[id(p)]: rows
            for name, player in widest.players.items()
            for p, rows in zip(player.parameters, self.players[name].parameters, strict=True)
        }
        self.buffers = stacked_buffers(systems)
        self.state |= {f"system.{name}": rows for name, rows in self.buffers.items()}
        for loop in loops:
            if loop.graphs is not None:
                loop.graphs.forget()  # what they write to lies elsewhere now
        capture: Capture | None = capture_for(self.config, first.device, isinstance(first.data, Feed))
        if first.device.type == "cpu":
            capture = Recorded()  # members equal their runs alone up to rounding, with and without it
        self.graphs: Graphs | None = None if capture is None else PopulationGraphs(self, capture)
        """see `Loop.graphs`"""

    def iteration(self) -> None:
        """One outer iteration of every member; see `Loop.iteration`."""
        moves = self.system.schedule(self.step, self.config.critic_steps)
        if not moves:
            self.advance()
            return
        for players in self.players.values():
            players.remaining = self.remaining()
        n_batches = 1 + max(move.batch for move in moves)
        indices, noise = drawn = self.draw(n_batches)
        if self.graphs is not None and self.graphs.play(self.step, moves, drawn):
            return
        critic = next(iter(self.players))
        room = Room.enough(noise["c"], batches_of(critic, moves), self.system.K, row_cost(self.system))
        batches = self.rows(indices, noise, self._constants(), room.batch)
        fakes = self.fakes(batches, moves, room.fakes)
        for move in moves:
            names, values = self.move(move, batches, fakes, self.loops[0].learning_rate_scale(), self.remaining())
            self.log(move.player, names, values)
        augmentation = self.loops[0].augmentation
        if augmentation is not None and augmentation.is_due(self.step):
            self._adapt(batches[max(fakes)], fakes[max(fakes)])
        self.move_average(1 - self.loops[0].ema_decay())
        self.advance()

    @torch.no_grad()
    def draw(self, batches: int) -> tuple[Tensor, Noise]:
        """As `Loop.draw`, of every member: (P, batches, n, ...)."""
        if self._streams is None:
            drawn = [loop.draw(batches) for loop in self.loops]
            noise = {name: torch.stack([noise[name] for _, noise in drawn]) for name in drawn[0][1]}
            return torch.stack([indices for indices, _ in drawn]), noise
        n = self.loops[0].batch_size
        indices = torch.stack([loop.sampler.next(batches * n).view(batches, n) for loop in self.loops])
        noise = functional_call(self._called, self.state, (_noise, (batches, n, self._streams)))
        return indices, noise

    def rows(
        self, indices: Tensor, noise: Noise, constants: Tensors, room: Capacities, step: int | None = None
    ) -> list[Rows]:
        """The batches of an iteration, by default of this one: what each member draws, stacked (P, batches, n, ...)."""
        first = self.loops[0]
        for players in self.players.values():
            players.refresh()
        data, places = first.data, indices.flatten()
        real = (data[places] if isinstance(data, Feed) else data.index_select(0, places)).unflatten(0, indices.shape)
        if NAME in noise:
            parameters = {NAME: noise[NAME].flatten(0, 2)}
            real = real_augmented(real.flatten(0, 2), parameters).unflatten(0, indices.shape)
        expect_next(self.loops)
        labels = None if first.labels is None else first.labels[indices]
        return [
            Rows(
                real=real[:, i],
                noise={name: x[:, i] for name, x in noise.items()},
                labels=None if labels is None else labels[:, i],
                constants=constants,
                room=room,
                step=self.step if step is None else step,
            )
            for i in range(indices.shape[1])
        ]

    def constants(self) -> dict[str, list[float]]:
        """The numbers of the losses at this step: one a member."""
        total = self.config.generator_steps
        rows = [loop.system.config.constants(self.step, total) for loop in self.loops]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def remaining(self) -> float:
        """What is left at this step of the way to Adam's final constants: see `SystemConfig.remaining`."""
        return self.system.config.remaining(self.step, self.config.generator_steps)

    def _constants(self) -> Tensors:
        like = self.average  # of the networks' type, on their device
        return {key: like.new_tensor(row) for key, row in self.constants().items()}

    def move(
        self,
        move: Move,
        batches: Sequence[Rows],
        fakes: dict[int, Tensor],
        scale: float | Tensor,
        remaining: float | Tensor,
    ) -> tuple[list[str], Tensor]:
        """One step of a player in every member: the names of its loss terms, and their values (P, terms).

        `scale` and `remaining` are the learning rates': see `StackedPlayers.descend`.
        """
        name, player = move.player, self.players[move.player]
        fake = fakes[move.batch] if name == next(iter(self.players)) else None
        player.freeze(False)
        names: list[str] = []

        def losses(system: System, batch: Batch) -> list[Tensor]:
            terms = system.players()[name].loss(batch)
            names[:] = terms
            return list(terms.values())

        values = torch.stack(self._mapped(losses, batches[move.batch], fake), dim=1)
        player.descend(values.sum(), scale, remaining)
        player.freeze(True)
        return names, values.detach()

    @torch.no_grad()
    def _adapt(self, rows: Rows, fake: Tensor) -> None:
        """See `Augmentation.adapt`: of every member."""

        def sign(system: System, batch: Batch) -> Tensor:
            return batch.mean(pair_sign(system, batch.real, batch.fakes()))

        for loop, value in zip(self.loops, self._mapped(sign, rows, fake), strict=True):
            assert loop.augmentation is not None
            loop.augmentation.adapt(value, loop.batch_size)

    def log(self, player: str, names: list[str], values: Tensor) -> None:
        """Keep the loss terms (P, terms) of a player's step, each member's own."""
        for loop, row in zip(self.loops, values, strict=True):
            loop.log(player, names, row)

    @torch.no_grad()
    def fakes(self, batches: Sequence[Rows], moves: Sequence[Move], room: Capacities) -> dict[int, Tensor]:
        """What the members' generators make for the critic's moves, by batch: (P, n, *shape); all in one call."""
        critic = next(iter(self.players))
        if not (wanted := batches_of(critic, moves)):
            return {}
        noise = {name: torch.cat([batches[i].noise[name] for i in wanted], dim=1) for name in batches[0].noise}
        together = replace(batches[wanted[0]], noise=noise, room=room)
        made = self._mapped(lambda system, batch: system.generate(batch.noise), together, None).to(together.real.dtype)
        return dict(zip(wanted, made.split([batches[i].real.shape[1] for i in wanted], dim=1), strict=True))

    def _mapped(self, function: Callable[[System, Batch], Any], rows: Rows, fake: Tensor | None) -> Any:
        """`function` of each member's system and batch: what it returns, stacked along a first axis."""
        total = self.config.generator_steps

        def one(state: Tensors, real: Tensor, noise: Noise, labels: Any, constants: Tensors, fake: Any) -> Any:
            batch = Batch(real, noise, fake, rows.step, total, labels=labels, constants=constants)
            return functional_call(self._called, state, (function, batch))

        arguments = (self.state, rows.real, rows.noise, rows.labels, rows.constants, fake)
        in_dims = tuple(None if argument is None else 0 for argument in arguments)
        with self._functional(rows.room), self.loops[0].autocast():
            return vmap(one, in_dims=in_dims)(*arguments)

    @contextmanager
    def _functional(self, room: Capacities) -> Iterator[None]:
        """Have the system's modules compute without a shape or a branch that depends on values."""
        try:
            self._set_functional(True, room)
            with sdpa_kernel(SDPBackend.MATH):  # vmap runs the fused kernels member by member
                yield
        finally:
            self._set_functional(False, ())

    def _set_functional(self, functional: bool, room: Capacities) -> None:
        for module in self._modules:
            if isinstance(module, GeneratorEnsemble):
                module.capacities = room or None
            else:
                module.functional = functional

    def move_average(self, weight: float | Tensor) -> None:
        """As `Loop.move_average`."""
        generator = self.players["generator"]
        self.average.lerp_(generator.of_modules(self.system.averaged), weight)

    def advance(self) -> None:
        """Count the step."""
        self.step += 1
        for loop in self.loops:
            loop.step = self.step


def _streams(loops: Sequence[Loop]) -> Streams | None:
    """The generators of the members, if these can draw together; None: each draws by itself.

    They can if what they draw is the same but for the numbers, and is made by a system of the library: one of a user's
    may take numbers from a `torch.Generator` alone.
    """
    first = loops[0]
    own = type(first.system).__module__.startswith("toposampler.systems.")
    alike = len({loop.system.K for loop in loops}) == 1 or all(loop.system.masked_draws for loop in loops)
    if own and alike and first.labels is None and first.augmentation is None:
        return Streams([loop.rng for loop in loops])
    return None


def _noise(system: System, given: tuple[int, int, Streams]) -> Noise:
    return system.draw(*given, training=True)


@dataclass(frozen=True)
class Rows:
    """One batch of all members."""

    real: Tensor
    """(P, n, *shape)"""
    noise: Noise
    """tensors (P, n, ...)"""
    labels: Tensor | None
    """(P, n)"""
    constants: Tensors
    """tensors (P,)"""
    room: Capacities
    """for every member's samples, by rank of its generators"""
    step: int
    """generator steps done"""


class _Called(nn.Module):
    """Calls a function of a system, so that `functional_call` can put other parameters in."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system

    def forward(self, function: Callable[[System, Any], Any], given: Any) -> Any:
        """`function` of the system and what it is given."""
        return function(self.system, given)
