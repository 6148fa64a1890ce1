"""One player of all members of a population as stacked tensors, also where the members' numbers of generators differ.

Members with K_1, K_2, ... generators have the shapes of the member with the most, K'. What a member has no generator
for holds values that change nothing: a generator that is never drawn is a copy of its first one, and a logit is
`ABSENT`, so that its softmax is 0 in any precision and has a gradient of 0. So a system's losses need no masks; where
they take K itself, they take `Batch.constant("n_generators", K)`. These values are read anew from the member's own at
every step, are never trained, and are in no checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from toposampler.systems import System
from toposampler.training.optimization import FlatPlayer, Moments, adam

ABSENT = -1e9
"""the logit of a generator that a member does not have: finite, as 0 x ABSENT is 0"""


def stacked(players: Sequence[FlatPlayer], systems: Sequence[System]) -> StackedPlayers:
    """One player of every member: padded where its parameters' shapes differ from member to member."""
    alike = len({tuple(p.shape for p in player.parameters) for player in players}) == 1
    return StackedPlayers(players) if alike else PaddedPlayers(players, systems)


class StackedPlayers:
    """One player of every member: parameters, gradients and Adam's moments as rows of stacked tensors.

    Args:
        players: of the P members; their tensors become these rows.
    """

    def __init__(self, players: Sequence[FlatPlayer]) -> None:
        first = players[0]
        self.ranges, self.remaining = first.ranges, 1.0
        """`remaining`: see `FlatPlayer.remaining`"""
        self.values, own = self.joined([player.values for player in players])
        for player, values in zip(players, own, strict=True):
            player.move_to(values)
        self._moments = {name: self._joined_moments(players, name) for name in self.ranges}
        self._gradients = self._of_all(self._rows())
        self._updates = {name: torch.zeros_like(moments["exp_avg"]) for name, moments in self._moments.items()}
        self._adam = {name: self._by_member(name) for name in self.ranges}
        self._optimizers = first.optimizers
        rates = {name: [player.optimizers[name].learning_rate for player in players] for name in self.ranges}
        self._rates = {name: self.values.new_tensor(rate) for name, rate in rates.items()}
        self.parameters = self._parameters(self._rows(), first.parameters)
        """tensors (P, ...), in the order of a player's parameters"""
        self.refresh()

    def joined(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """A flat tensor of each member as one tensor, here (P, n), and each member's part of it, a view."""
        together = torch.stack(list(tensors))
        return together, together.unbind()

    def _rows(self) -> Tensor:
        """What the losses take: (P, n)."""
        return self.values

    def _parameters(self, rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """Views of rows (P, n), one for each parameter of the player `like` it: (P, *shape)."""
        parts = rows.split([p.numel() for p in like], dim=1)
        return [part.view(len(rows), *p.shape).detach() for part, p in zip(parts, like, strict=True)]

    def _joined_moments(self, players: Sequence[FlatPlayer], name: str) -> Moments:
        """Adam's moments of one module, of all members; each member's become parts of them."""
        own = [dict(player.moments())[name] for player in players]
        step = torch.stack([moments["step"] for moments in own])
        parts = {key: self.joined([moments[key] for moments in own]) for key in ("exp_avg", "exp_avg_sq")}
        for i, player in enumerate(players):
            player.set_moments(
                name, {"step": step[i], **{key: of_members[i] for key, (_, of_members) in parts.items()}}
            )
        return {"step": step, **{key: together for key, (together, _) in parts.items()}}

    def _by_member(self, name: str) -> tuple[list[Sequence[Tensor]], list[Tensor]]:
        """What `adam` asks for of a module: the parts of each member."""
        step, mean, square = self._moments[name].values()
        tensors = self._updates[name], self._gradients[name], mean, square
        return [self._members(x, name) for x in tensors], list(step.unbind())

    def freeze(self, frozen: bool) -> None:
        """As `FlatPlayer.freeze`."""
        for p in self.parameters:
            p.requires_grad_(not frozen)

    def of_modules(self, names: Sequence[str]) -> Tensor:
        """The parameters of some modules, as `joined` would have each member's."""
        return torch.cat([self.values[:, slice(*self.ranges[name])] for name in names], dim=1)

    def state(self) -> list[Tensor]:
        """All tensors that a step writes to."""
        return [self.values, *(x for moments in self._moments.values() for x in moments.values())]

    def refresh(self) -> None:
        """Have the losses see what members hold now."""

    def descend(self, loss: Tensor, scale: float | Tensor, remaining: float | Tensor) -> None:
        """One step of Adam (Kingma and Ba 2015, algorithm 1) down the gradient of a loss, the sum of the members'.

        Learning rates are times `scale`, and have `remaining` left of the way to their final ones: tensors () for a
        program that is replayed with others.
        """
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        self._take([g.flatten(1) for g in found])
        for name in self.ranges:
            optimizer, (tensors, steps) = self._optimizers[name], self._adam[name]
            (one, two), rate = optimizer.betas_at(self.remaining), self._rates[name]
            if (final := optimizer.final_learning_rate) is not None:
                rate = final + (rate - final) * remaining
            self._moments[name]["step"] += 1
            self._updates[name].zero_()
            adam(tensors, steps, one, two)
            self._add(self._updates[name], scale * rate, name)
        self.refresh()

    def _of_all(self, rows: Tensor) -> dict[str, Tensor]:
        """Room for the gradient of every module, shaped as its moments; `rows` are what the losses take."""
        self._gradient = torch.zeros_like(rows)
        return {name: self._gradient[:, slice(*span)] for name, span in self.ranges.items()}

    def _take(self, found: Sequence[Tensor]) -> None:
        """Keep the gradient of all rows, tensors (P, n_i) of the parameters, in `_gradients`."""
        torch.cat(list(found), dim=1, out=self._gradient)

    def _members(self, x: Tensor, name: str) -> Sequence[Tensor]:
        """What is each member's of x, which is shaped as the moments of a module."""
        return x.unbind()

    def _add(self, update: Tensor, rates: Tensor, name: str) -> None:
        """Add `update`, shaped as the moments of a module, times the members' rates (P,) to its parameters."""
        self.values[:, slice(*self.ranges[name])].addcmul_(update, rates.unsqueeze(1))


class PaddedPlayers(StackedPlayers):
    """A player of members that differ in their number of generators.

    The members' own values lie one after the other in `values` (n,); rows for the losses are gathered from there.

    Args:
        players: of the P members.
        systems: theirs.
    """

    def __init__(self, players: Sequence[FlatPlayer], systems: Sequence[System]) -> None:
        widest = max(range(len(systems)), key=lambda i: systems[i].K)
        self._widest = players[widest].parameters
        layouts = [_layout(*both, self._widest, systems[widest].K) for both in zip(players, systems, strict=True)]
        lengths = [len(player.values) for player in players]
        starts = [0, *accumulate(lengths)]
        device, width = players[0].values.device, len(players[widest].values)
        sources = torch.cat(
            [torch.where(of < 0, -1, of + start) for (of, _), start in zip(layouts, starts, strict=False)]
        )
        self._absent = (sources < 0).nonzero().squeeze(1).to(device)
        self._sources = sources.clamp(min=0).to(device)
        self._gathered = players[0].values.new_empty(len(players), width)
        self._modules: dict[str, _Places] = {}
        for name in players[0].ranges:
            ranges = [player.ranges[name] for player in players]
            spans = [torch.arange(*span) for span in ranges]
            self._modules[name] = _Places(
                own=[slice(start + a, start + b) for (a, b), start in zip(ranges, starts, strict=False)],
                rows=torch.cat([layouts[i][1][span] + i * width for i, span in enumerate(spans)]).to(device),
                sizes=[len(span) for span in spans],
            )
        super().__init__(players)

    def joined(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """See `StackedPlayers.joined`: here one after the other, (n,)."""
        together = torch.cat(list(tensors))
        return together, together.split([len(x) for x in tensors])

    def _rows(self) -> Tensor:
        return self._gathered

    def _parameters(self, rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        return super()._parameters(rows, self._widest)

    def of_modules(self, names: Sequence[str]) -> Tensor:
        """See `StackedPlayers.of_modules`."""
        members = zip(*(self._modules[name].own for name in names), strict=True)
        return torch.cat([self.values[own] for of_member in members for own in of_member])

    def state(self) -> list[Tensor]:
        """See `StackedPlayers.state`."""
        return [*super().state(), self._gathered]

    def refresh(self) -> None:
        """See `StackedPlayers.refresh`."""
        rows = self._gathered.view(-1)
        torch.index_select(self.values, 0, self._sources, out=rows)
        rows.index_fill_(0, self._absent, ABSENT)

    def _of_all(self, rows: Tensor) -> dict[str, Tensor]:
        return {name: rows.new_zeros(len(places.rows)) for name, places in self._modules.items()}

    def _take(self, found: Sequence[Tensor]) -> None:
        gradient = torch.cat(list(found), dim=1).view(-1)
        for name, of_module in self._gradients.items():
            torch.index_select(gradient, 0, self._modules[name].rows, out=of_module)  # faster than [] on a CPU

    def _members(self, x: Tensor, name: str) -> Sequence[Tensor]:
        return x.split(self._modules[name].sizes)

    def _add(self, update: Tensor, rates: Tensor, name: str) -> None:
        members = zip(self._modules[name].own, self._members(update, name), rates.unbind(), strict=True)
        for own, part, rate in members:  # in pieces: by places it takes six times as long on a CPU
            self.values[own].addcmul_(part, rate)


@dataclass(frozen=True)
class _Places:
    """Where the n parameters of one module of all members stand, of one member after the other."""

    own: list[slice]
    """of each member, among the values of all"""
    rows: Tensor
    """(n,): in the flattened rows"""
    sizes: list[int]
    """how many each member has"""


def _layout(player: FlatPlayer, system: System, widest: Sequence[Tensor], n_generators: int) -> tuple[Tensor, Tensor]:
    """How a member's flat values (n,) become a row (m,) of the program.

    Args:
        player: the member's.
        system: the member's.
        widest: the parameters of the same player of the member with the most generators.
        n_generators: how many these are.

    Returns for each place in the row its source among the values, -1 for `ABSENT`, and for each value its place.
    """
    names = {id(p): name for name, p in system.named_parameters()}
    sources, places, start, row = [], [], 0, 0
    for p, wide in zip(player.parameters, widest, strict=True):
        source = torch.arange(start, start + p.numel()).view(p.shape)
        if p.shape != wide.shape:
            kept, missing = source[: system.K], n_generators - system.K
            assert wide.shape == (len(p) + missing, *p.shape[1:]), names[id(p)]
            fill = source[:1].expand(missing, *p.shape[1:])
            if names[id(p)] in system.logits:
                fill = torch.full_like(fill, -1)
            source = torch.cat([kept, fill, source[system.K :]])  # what is behind the generators stays the last
            place = torch.arange(row, row + wide.numel()).view(wide.shape)
            place = torch.cat([place[: system.K], place[n_generators:]])
        else:
            place = torch.arange(row, row + wide.numel())
        sources.append(source.flatten())
        places.append(place.flatten())
        start, row = start + p.numel(), row + wide.numel()
    return torch.cat(sources), torch.cat(places)


def stacked_buffers(systems: Sequence[System]) -> dict[str, Tensor]:
    """The buffers of all systems by name, stacked; those of each become rows of them.

    Of generators that a system does not have they are copies of its first one's.
    """
    widest, found = max(systems, key=lambda system: system.K), {}
    for name, wide in widest.named_buffers():
        place, _, attribute = name.rpartition(".")
        modules = [system.get_submodule(place) for system in systems]
        own = [module.get_buffer(attribute) for module in modules]
        padded = [
            x if x.shape == wide.shape else torch.cat([x, x[:1].expand(len(wide) - len(x), *x.shape[1:])]) for x in own
        ]
        found[name] = torch.stack(padded)
        for module, x, row in zip(modules, own, found[name], strict=True):
            module._buffers[attribute] = row if x.shape == row.shape else row[: len(x)]
    return found
