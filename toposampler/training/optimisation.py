"""All parameters of a player as views of one flat tensor: one all-reduce, one Adam kernel a module, one EMA kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from toposampler.systems import Player
from toposampler.training.process_group import ProcessGroup

EPSILON = 1e-8
"""of Adam, torch's default"""


class FlatPlayer:
    """The stepping of one player: its parameters, their gradients and Adam's moments, each one flat tensor.

    The modules keep working as before, on views. Small networks spend their time on launching kernels; this way a step
    launches one per module instead of several per parameter.

    Args:
        player: what to step.
        local: its first module, if that is no replica: other workers hold other weights.
    """

    def __init__(self, player: Player, local: str | None = None) -> None:
        self.loss, self.optimisers = player.loss, player.optimisers
        self.parameters = [p for module in player.modules.values() for p in module.parameters()]
        self.values = torch.cat([p.detach().flatten() for p in self.parameters])
        self.gradients = torch.zeros_like(self.values)
        self.ranges: dict[str, tuple[int, int]] = {}
        groups: list[dict[str, Any]] = []
        end = 0
        for name, module in player.modules.items():
            start, end = end, end + sum(p.numel() for p in module.parameters())
            self.ranges[name] = (start, end)
            flat = nn.Parameter(self.values[start:end])
            flat.grad = self.gradients[start:end]
            optimiser = player.optimisers[name]
            groups.append({"params": [flat], "lr": optimiser.learning_rate, "betas": optimiser.betas})
        assert local in (None, next(iter(self.ranges))), "what is shared with other workers lies in one piece"
        self.n_local = 0 if local is None else self.ranges[local][1]
        self._adam = torch.optim.Adam(groups, eps=EPSILON, fused=True)
        self._learning_rates = [group["lr"] for group in groups]
        position = 0
        for p in self.parameters:
            span = slice(position, position := position + p.numel())
            p.data = self.values[span].view_as(p)
            p.grad = self.gradients[span].view_as(p)

    def move_to(self, values: Tensor) -> None:
        """Keep the parameters in `values`, a flat tensor that holds them already, from now on."""
        self.values, position = values, 0
        for p in self.parameters:
            p.data = values[position : (position := position + p.numel())].view_as(p)
        for span, group in zip(self.ranges.values(), self._adam.param_groups, strict=True):
            group["params"][0].data = values[slice(*span)]

    def freeze(self, frozen: bool) -> None:
        """Take this player's parameters out of (or back into) the graphs that other losses build."""
        for p in self.parameters:
            p.requires_grad_(not frozen)

    def module_values(self, name: str) -> Tensor:
        """The flat parameters of one module, a view."""
        return self.values[slice(*self.ranges[name])]

    @property
    def shared(self) -> Tensor:
        """The flat parameters that every worker holds, a view."""
        return self.values[self.n_local :]

    def average_gradients(self, group: ProcessGroup) -> None:
        """The mean over workers of `gradients`, where those of a local module are this worker's part of it already."""
        group.average_(self.gradients[self.n_local :])
        if self.n_local:
            self.gradients[: self.n_local] /= group.size

    def step(self, learning_rate_scale: float) -> None:
        """One step of Adam down `gradients`, which are zero afterwards."""
        for group, learning_rate in zip(self._adam.param_groups, self._learning_rates, strict=True):
            group["lr"] = learning_rate * learning_rate_scale
        self._adam.step()
        self.gradients.zero_()

    def moments(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Adam's state by module: `exp_avg` and `exp_avg_sq` (flat, as `values`), `step`; empty at first."""
        for name, group in zip(self.ranges, self._adam.param_groups, strict=True):
            yield name, dict(self._adam.state[group["params"][0]])

    def load_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        """Take back what `moments` gave, in place where there are moments already."""
        for (name, own), group in zip(self.moments(), self._adam.param_groups, strict=True):
            given = {key: value.to(self.values.device) for key, value in moments[name].items()}
            for key, value in own.items():
                value.copy_(given[key]) if given else value.zero_()
            if not own:
                self._adam.state[group["params"][0]] = {key: value.clone() for key, value in given.items()}

    def set_moments(self, name: str, moments: dict[str, Tensor]) -> None:
        """Keep Adam's moments of one module, `exp_avg`, `exp_avg_sq` and `step`, in these tensors from now on."""
        group = self._adam.param_groups[list(self.ranges).index(name)]
        self._adam.state[group["params"][0]] = moments
