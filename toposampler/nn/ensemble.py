"""K generators of one architecture as one module with stacked weights, run on just the samples each is asked for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from toposampler.errors import UserError
from toposampler.nn.capacities import Capacities, by_rank, each, groups
from toposampler.nn.layers import exact_type, plain_layers
from toposampler.nn.precision import cast_once

POINTWISE = {nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid}


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

    The parameters of the K networks are stacked along a first axis of length K, as `stacked.0`, `stacked.1`, ... in the
    order of a network's `named_parameters`, and so are their buffers, as `stacked_buffers.0`, ...; buffers are not
    trained. A sample passes through its own generator only: cost does not grow with K as it does where every generator
    sees the full batch (as in the authors' program). Networks of `Linear` and pointwise layers run as one batched
    matrix product a layer; any other as slices, one generator after the other, which for convolutions measured as fast
    as grouped ones. A generator must make each sample from its latent alone (`nn.checks.check_generator`).

    Args:
        make: makes one generator, freshly initialized; called K times. Of a module `copies` makes such a function.
        n_generators: K.
        shard: the generators that it holds, and is asked for samples of; the others are made and dropped one by one, so
            that those held start as they would in a whole ensemble.
    """

    def __init__(self, make: Callable[[], nn.Module], n_generators: int, shard: Shard = WHOLE) -> None:
        super().__init__()
        self._shards = shard.size
        members = []
        for k in range(n_generators):
            member = make()
            if k % shard.size == shard.rank:
                members.append(member)
        _check_alike(members)
        first = members[0]
        self.n_held = len(members)
        self._template = (copy.deepcopy(first).to("meta"),)  # in a tuple: its weights are not this module's
        self._packed_layers = _packed_layers(self._template[0])
        self._names = [name for name, _ in first.named_parameters()]
        self._buffer_names = [name for name, _ in first.named_buffers()]
        self.stacked = nn.ParameterList(
            torch.stack([member.get_parameter(name).detach() for member in members]) for name in self._names
        )
        self.stacked_buffers = nn.Module()
        kept = first.state_dict().keys()
        for i, name in enumerate(self._buffer_names):
            stack = torch.stack([member.get_buffer(name) for member in members])
            self.stacked_buffers.register_buffer(str(i), stack, persistent=name in kept)

        self.capacities: Capacities | None = None
        """samples that generators have room for, by rank: then no shape depends on `c`, and a sample beyond the room is
        NaN; None: as many as `c` asks for, found anew at every call"""

    def train(self, mode: bool = True) -> GeneratorEnsemble:
        """See `nn.Module.train`."""
        self._template[0].train(mode)
        return super().train(mode)

    @property
    def cost(self) -> float:
        """Multiply-adds of a sample's pass, where they are what it costs: on a CPU, `Linear` layers; else infinite."""
        if self._packed_layers is None or self.stacked[0].device.type != "cpu":
            return math.inf
        return sum(weights[0].numel() for weights in self.stacked)

    def members(self) -> list[nn.Module]:
        """The generators that it holds, each as a module of its own with copies of its weights."""
        found = []
        for k in range(self.n_held):
            member = copy.deepcopy(self._template[0]).to_empty(device=self.stacked[0].device)
            with torch.no_grad():
                for name, stack in zip(self._names, self.stacked, strict=True):
                    member.get_parameter(name).copy_(stack[k])
                for name, stack in zip(self._buffer_names, self.stacked_buffers.buffers(), strict=True):
                    member.get_buffer(name).copy_(stack[k])
            found.append(member.to(self.stacked[0].dtype))
        return found

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """G_c(z): latents (n, d) and generator ids (n,) int64 in [0, K) to samples (n, *shape), in the same order.

        Ids on the CPU, where the work is laid out, save the wait for a GPU.
        """
        if len(z) == 0:  # no row of some networks can be viewed in another shape
            return self._member(z.new_zeros(1, *z.shape[1:]), 0, [weights[0] for weights in self.stacked])[:0]
        if self.n_held == 1:
            return self._member(z, 0, [weights[0] for weights in self.stacked])
        if self.capacities is not None:
            return self._padded(z, c.to(z.device, non_blocking=True) // self._shards, self.capacities)
        held = c.cpu() // self._shards
        return self._sliced(z, held) if self._packed_layers is None else self._packed(z, held, self._packed_layers)

    def _member(self, z: Tensor, k: int, weights: Sequence[Tensor]) -> Tensor:
        """The samples of the held generator k, whose parameters are `weights`."""
        return self._called(z, weights, [stack[k] for stack in self.stacked_buffers.buffers()])

    def _called(self, z: Tensor, weights: Sequence[Tensor], buffers: Sequence[Tensor]) -> Tensor:
        state = dict(zip(self._names + self._buffer_names, [*weights, *buffers], strict=True))
        return functional_call(self._template[0], state, z)

    def _packed(self, z: Tensor, c: Tensor, layers: Sequence[nn.Module]) -> Tensor:
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
        return _batched(layers, stacked, h).flatten(0, 1).index_select(0, index)

    def _padded(self, z: Tensor, c: Tensor, capacities: Capacities) -> Tensor:
        """All generators at once, each on as many rows as its rank has: its samples, then copies of others, which are
        not used."""
        own = c.unsqueeze(1) == torch.arange(self.n_held, device=c.device)  # (n, K)
        place = (own.cumsum(0) * own).sum(dim=1) - 1  # how many samples of the same generator come before this one
        stacked, buffers = list(self.stacked), list(self.stacked_buffers.buffers())
        if capacities != (capacities[0],) * self.n_held:
            order, rank = by_rank(own)
            c, used = rank[c], order[: len(capacities)]
            stacked, buffers = ([stack[used] for stack in stacks] for stacks in (stacked, buffers))
        room, before = each(capacities, self.n_held, c)
        fits, size = place < room[c], sum(capacities)
        slot = torch.where(fits, before[c] + place, size)
        source = slot.new_zeros(size + 1).scatter(0, slot, torch.arange(len(c), device=c.device))[:-1]
        h, parts, start, first = z[source], [], 0, 0
        for ranks, capacity in groups(capacities):
            rows, last = h[start : start + ranks * capacity].unflatten(0, (ranks, capacity)), first + ranks
            parts.append(self._together(rows, *([stack[first:last] for stack in of] for of in (stacked, buffers))))
            start, first = start + ranks * capacity, last
        x = torch.cat(parts)[slot.clamp(max=size - 1)]
        return torch.where(fits.view(-1, *(1,) * (x.dim() - 1)), x, torch.nan)

    def _together(self, h: Tensor, stacked: list[Tensor], buffers: list[Tensor]) -> Tensor:
        """Generators, whose parameters and buffers are rows of the stacks, on h (their number, m, d): all samples."""
        if self._packed_layers is not None:
            return _batched(self._packed_layers, stacked, h).flatten(0, 1)
        return vmap(self._called)(h, stacked, buffers).flatten(0, 1)

    def _sliced(self, z: Tensor, c: Tensor) -> Tensor:
        """One generator after the other, each on its own samples; generators without samples cost nothing."""
        order = c.argsort()
        slices = z[order.to(z.device, non_blocking=True)].split(torch.bincount(c, minlength=self.n_held).tolist())
        stacked = cast_once(self.stacked, z.device)
        members = zip(*(weights.unbind(0) for weights in stacked), strict=True)  # backward: one stack, not K adds
        x = torch.cat([self._member(s, k, w) for k, (s, w) in enumerate(zip(slices, members, strict=True)) if len(s)])
        return x.index_select(0, order.argsort().to(z.device, non_blocking=True))


def _batched(layers: Sequence[nn.Module], stacked: list[Tensor], h: Tensor) -> Tensor:
    """The layers of `_packed_layers`, of K networks whose parameters are `stacked`, on h (K, n, d): (K, n, e)."""
    for layer in layers:
        if not isinstance(layer, nn.Linear):
            h = layer(h)
        elif layer.bias is None:
            weight, *stacked = stacked
            h = torch.bmm(h, weight.transpose(1, 2))
        else:
            weight, bias, *stacked = stacked
            h = torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))
    return h


def copies(prototype: nn.Module, key: str = "system.generator_network") -> Callable[[], nn.Module]:
    """A function that makes copies of `prototype`, each freshly initialized on torch's global random state.

    That is done by `reset_parameters` of every submodule that has it, inner ones first. Raises UserError, naming `key`,
    if a submodule has parameters of its own and no such method: all copies would start alike.
    """
    for name, module in prototype.named_modules():
        if next(module.parameters(recurse=False), None) is not None and _reset(module) is None:
            where = f"its {name}, a {type(module).__name__}," if name else "it"
            raise UserError(
                f"{key}: {type(prototype).__name__} cannot be copied with fresh weights, as {where} has parameters and "
                "no method reset_parameters(); give a function that makes a generator instead"
            )

    def make() -> nn.Module:
        copied = copy.deepcopy(prototype)
        for module in reversed(list(copied.modules())):
            if (reset := _reset(module)) is not None:
                reset()
        return copied

    return make


def _reset(module: nn.Module) -> Callable[[], None] | None:
    """The method that initializes a module; those of attention and transformers have an underscore."""
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def _packed_layers(network: nn.Module) -> list[nn.Module] | None:
    """The layers of a network that can run for all generators at once, or None: some other layer is among them."""
    layers = plain_layers(network)
    if layers is None or len({id(layer) for layer in layers}) < len(layers):
        return None
    return layers if all(exact_type(layer) in {nn.Linear, *POINTWISE} for layer in layers) else None


def _check_alike(members: Sequence[nn.Module]) -> None:
    """Raises UserError unless all have parameters and buffers of the same names and shapes, and some parameter."""
    kinds = [{name: x.shape for name, x in (*m.named_parameters(), *m.named_buffers())} for m in members]
    if next(members[0].parameters(), None) is None:
        raise UserError(f"a generator needs parameters to train; {type(members[0]).__name__} has none")
    for kind in kinds:
        if different := sorted(kind.items() ^ kinds[0].items()):
            raise UserError(
                f"the generators of an ensemble are of one architecture; two of these differ in {different[0][0]}"
            )
