"""All parameters of a player as views of one flat tensor: one all-reduce, one Adam kernel a module, one EMA kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from toposampler.systems import Player
from toposampler.training.process_group import ProcessGroup

EPSILON = 1e-8
"""of Adam, torch's default"""

Moments = dict[str, Tensor]


def adam(
    tensors: Sequence[Sequence[Tensor]],
    steps: Sequence[Tensor],
    one: float,
    two: float,
    learning_rate: float | Tensor = 1.0,
) -> None:
    """Adam's step (Kingma and Ba 2015, algorithm 1) in one pass over values, gradients, means and squares.

    torch's own kernel, without the bookkeeping of `torch.optim.Adam`, which costs as much as the step of a small
    network.

    Args:
        tensors: these four, each a list of tensors of the same shapes; all but the gradients are written to.
        steps: tensors (), one for each of the list: the number of this step, from 1 on.
        one, two: the decays of means and squares.
        learning_rate: a number or a tensor ().
    """
    values, gradients, means, squares = map(list, tensors)
    torch._fused_adam_(
        values,
        gradients,
        means,
        squares,
        [],
        list(steps),
        lr=learning_rate,
        beta1=one,
        beta2=two,
        weight_decay=0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


class FlatPlayer:
    """The stepping of one player: its parameters, their gradients and Adam's moments, each one flat tensor.

    The modules keep working as before, on views. Small networks spend their time on launching kernels; this way a step
    launches one per module instead of several per parameter.

    Args:
        player: what to step.
        local: its first module, if that is no replica: other workers hold other weights.
    """

    def __init__(self, player: Player, local: str | None = None) -> None:
        self.loss, self.optimizers = player.loss, player.optimizers
        self.parameters = [p for module in player.modules.values() for p in module.parameters()]
        self.values = torch.cat([p.detach().flatten() for p in self.parameters])
        self.gradients = torch.zeros_like(self.values)
        self.ranges: dict[str, tuple[int, int]] = {}
        self.remaining = 1.0
        """what is left of the way to Adam's final constants (`SystemConfig.remaining`)"""
        self._moments: dict[str, Moments] = {}
        end = 0
        for name, module in player.modules.items():
            start, end = end, end + sum(p.numel() for p in module.parameters())
            self.ranges[name] = (start, end)
            like = self.values[start:end]
            step = torch.zeros((), dtype=torch.float32, device=like.device)
            self._moments[name] = {
                "step": step,
                "exp_avg": torch.zeros_like(like),
                "exp_avg_sq": torch.zeros_like(like),
            }
        assert local in (None, next(iter(self.ranges))), "what is shared with other workers lies in one piece"
        self.n_local = 0 if local is None else self.ranges[local][1]
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

    @property
    def learning_rates(self) -> list[float]:
        """Of the modules, in the order of `ranges`, at this step of the burn-in."""
        return [self.optimizers[name].learning_rate_at(self.remaining) for name in self.ranges]

    def step(self, learning_rate_scale: float) -> None:
        """One step of Adam down `gradients`, which are zero afterwards."""
        self.descend([learning_rate * learning_rate_scale for learning_rate in self.learning_rates])
        self.gradients.zero_()

    @torch.no_grad()
    def descend(self, learning_rates: Sequence[float | Tensor]) -> None:
        """One step of Adam down `gradients`, a kernel a module.

        Learning rates of the modules, in the order of `ranges`, may be tensors (): on CUDA of float32, for a graph that
        is replayed with others.
        """
        for (name, (start, end)), learning_rate in zip(self.ranges.items(), learning_rates, strict=True):
            step, mean, square = self._moments[name].values()
            step += 1
            one, two = self.optimizers[name].betas_at(self.remaining)
            tensors = [self.values[start:end]], [self.gradients[start:end]], [mean], [square]
            adam(tensors, [step], one, two, learning_rate)

    def moments(self) -> Iterator[tuple[str, Moments]]:
        """Adam's state by module: `step`, `exp_avg` and `exp_avg_sq` (flat, as `values`); zeros at first."""
        return iter(self._moments.items())

    def load_moments(self, moments: dict[str, Moments]) -> None:
        """Take back what `moments` gave, in place; of a module without any, zeros."""
        for name, own in self._moments.items():
            for key, value in own.items():
                value.copy_(moments[name][key]) if moments[name] else value.zero_()

    def set_moments(self, name: str, moments: Moments) -> None:
        """Keep Adam's moments of one module, `step`, `exp_avg` and `exp_avg_sq`, in these tensors from now on."""
        self._moments[name] = moments

    def state(self) -> list[Tensor]:
        """All tensors that a step writes to."""
        return [self.values, self.gradients, *(x for moments in self._moments.values() for x in moments.values())]
