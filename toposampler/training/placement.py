"""Where the generators live, and who works on which rows of a batch. It never changes what is computed.

`replicated`: every worker holds the whole system; worker w works on rows w, w + W, ... of a batch. `sharded`: worker w
holds generators w, w + W, ... and nobody else does; it works on the rows whose generator it holds. Critic, encoder and
prior are replicas in both. What a checkpoint holds is always the whole ensemble.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toposampler.nn.ensemble import GeneratorEnsemble, Shard, home
from toposampler.systems import System
from toposampler.training.process_group import ONE_PROCESS, ProcessGroup

State = dict[str, Any]

ENSEMBLE = "generators"
"""the module that is sharded, by its name in a system and in its player"""


@dataclass(frozen=True)
class Placement:
    """The processes, and whether generators are spread over them."""

    group: ProcessGroup = ONE_PROCESS
    sharded: bool = False

    @property
    def shards(self) -> ProcessGroup:
        """The processes that hold a part of the ensemble each: all of them, or this one where it holds all of it."""
        return self.group if self.sharded else ONE_PROCESS

    @property
    def shard(self) -> Shard:
        """The generators that this process holds."""
        return Shard(self.shards.rank, self.shards.size)

    def owner(self, c: Tensor) -> Tensor:
        """The rank that works on each row: of generator ids c (..., n) on the CPU, as (..., n) int64."""
        if self.sharded:
            return home(c, self.group.size)
        return (torch.arange(c.shape[-1]) % self.group.size).expand_as(c)

    def whole_state(self, state: State, system: System) -> State:
        """The state of a loop with the whole ensemble in it, from that of each worker's; only rank 0's is whole."""
        if not self.sharded:
            return state
        homes = home(torch.arange(system.K), self.group.size)
        return _map_ensemble(state, system, lambda members: self.group.collect(members, homes))

    def part_state(self, state: State, system: System) -> State:
        """The inverse: the state of a loop with this worker's generators only."""
        if not self.sharded:
            return state
        return _map_ensemble(state, system, lambda members: members[self.group.rank :: self.group.size])


def _map_ensemble(state: State, system: System, change: Callable[[Tensor], Tensor]) -> State:
    """`state` with `change` made to all it holds of the ensemble: weights, buffers, moving average and Adam's moments,
    each as rows, one for each generator."""
    assert isinstance(system.generators, GeneratorEnsemble)
    shapes = [weights.shape[1:] for weights in system.generators.stacked]
    sizes = [shape.numel() for shape in shapes]
    names = [f"{ENSEMBLE}.stacked.{i}" for i in range(len(shapes))]
    weights = [state["system"][name] for name in names]
    n_members = len(weights[0])

    def changed(flat: Tensor) -> Tensor:
        columns = [part.view(n_members, -1) for part in flat.split([n_members * size for size in sizes])]
        return torch.cat([part.flatten() for part in change(torch.cat(columns, dim=1)).split(sizes, dim=1)])

    ensemble = changed(torch.cat([x.flatten() for x in weights]))
    n_changed = len(ensemble) // sum(sizes)
    parts = ensemble.split([n_changed * size for size in sizes])
    stacked = {name: x.view(n_changed, *shape) for name, x, shape in zip(names, parts, shapes, strict=True)}
    prefix = f"{ENSEMBLE}.stacked_buffers."
    buffers = {name: change(x) for name, x in state["system"].items() if name.startswith(prefix)}
    own, others = state["average"].tensor_split([n_members * sum(sizes)])
    average = changed(own)
    generator = state["moments"]["generator"]
    moments = {key: changed(x) if x.dim() else x for key, x in generator[ENSEMBLE].items()}  # Adam's step is a number
    return state | {
        "system": state["system"] | stacked | buffers,
        "average": torch.cat([average, others.to(average.device)]),
        "moments": state["moments"] | {"generator": generator | {ENSEMBLE: moments}},
    }
