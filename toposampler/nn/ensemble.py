"""K generators of one architecture as one module with stacked weights, run on just the samples each is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid)


def home(c: Tensor, shards: int) -> Tensor:
    """Which of so many shards holds generators c (...): generators 0, 1, 2, ... are dealt out in turn."""
    return c % shards


@dataclass(frozen=True)
class Shard:
    """The generators at home (`home`) in shard `rank` of `size`."""

    rank: int = 0
    size: int = 1


WHOLE = Shard()
"""all generators"""


class GeneratorEnsemble(nn.Module):
    """{G_c}, c in 1..K (Khayatkhoei et al. 2018): x_i = G_{c_i}(z_i).

    The parameters of the K networks are stacked along a first axis of length K. A sample passes through its own
    generator only: cost does not grow with K as it does where every generator sees the full batch (as in the authors'
    program). Networks of `Linear` and pointwise layers run as one batched matrix product a layer; any other
    (convolutions) as slices, one generator after the other, which measured as fast as grouped convolutions.

    Args:
        make: makes one generator, freshly initialised; called K times.
        n_generators: K.
        shard: the generators that it holds, and is asked for samples of; the others are made and dropped one by one, so
            that those held start as they would in a whole ensemble.
    """

    def __init__(self, make: Callable[[], nn.Sequential], n_generators: int, shard: Shard = WHOLE) -> None:
        super().__init__()
        self._shards = shard.size
        members = []
        for k in range(n_generators):
            member = make()
            if k % shard.size == shard.rank:
                members.append(member)
        self.n_held = len(members)
        self._packs = all(isinstance(layer, (nn.Linear, *POINTWISE)) for layer in members[0])
        self._template = (copy.deepcopy(members[0]).to("meta"),)  # in a tuple: its weights are not this module's
        self._names = [name for name, _ in members[0].named_parameters()]
        self.stacked = nn.ParameterList(
            torch.stack([member.get_parameter(name).detach() for member in members]) for name in self._names
        )

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """G_c(z): latents (n, d) and generator ids (n,) int64 in [0, K) to samples (n, *shape), in the same order.

        Ids on the CPU, where the work is laid out, save the wait for a GPU.
        """
        if self.n_held == 1 or len(z) == 0:
            return self._member(z, [weights[0] for weights in self.stacked])
        held = c.cpu() // self._shards
        return self._packed(z, held) if self._packs else self._sliced(z, held)

    def _member(self, z: Tensor, weights: Sequence[Tensor]) -> Tensor:
        return functional_call(self._template[0], dict(zip(self._names, weights, strict=True)), z)

    def _packed(self, z: Tensor, c: Tensor) -> Tensor:
        """All generators at once: samples are packed to (generators in use, largest count, d), zeros elsewhere."""
        counts = torch.bincount(c, minlength=self.n_held)
        in_use = counts.nonzero().squeeze(1)
        order = c.argsort()
        slot = torch.empty_like(c)  # how many samples of the same generator come before this one
        slot[order] = torch.arange(len(c)) - (counts.cumsum(0) - counts)[c[order]]
        row = (counts > 0).cumsum(0) - 1
        capacity = int(counts.max())
        index = (row[c] * capacity + slot).to(z.device, non_blocking=True)

        h = z.new_zeros(len(in_use) * capacity, z.shape[1]).index_copy(0, index, z)
        h = h.view(len(in_use), capacity, z.shape[1])
        stacked = list(self.stacked)
        if len(in_use) < self.n_held:
            in_use = in_use.to(z.device, non_blocking=True)
            stacked = [weights.index_select(0, in_use) for weights in stacked]
        for layer in self._template[0]:
            if isinstance(layer, nn.Linear):
                weight, bias, *stacked = stacked
                h = torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))
            else:
                h = layer(h)
        return h.flatten(0, 1).index_select(0, index)

    def _sliced(self, z: Tensor, c: Tensor) -> Tensor:
        """One generator after the other, each on its own samples; generators without samples cost nothing."""
        order = c.argsort()
        slices = z[order.to(z.device, non_blocking=True)].split(torch.bincount(c, minlength=self.n_held).tolist())
        members = zip(*(weights.unbind(0) for weights in self.stacked), strict=True)  # backward: one stack, not K adds
        x = torch.cat([self._member(s, w) for s, w in zip(slices, members, strict=True) if len(s)])
        return x.index_select(0, order.argsort().to(z.device, non_blocking=True))
