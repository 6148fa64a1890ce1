"""The process group training runs in: this process's rank, averages over ranks, and rows of a batch put together.

A batch is whole for every process, and each row has an owner, the rank that works on it: `owner` (n,) int64 on the CPU,
known to all ranks alike. Any rank may own any number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """Rank and size of the process group; one process where there is none."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> ProcessGroup:
        """The initialized torch.distributed group (by Ray Train, torchrun or a test), else one process."""
        if dist.is_available() and dist.is_initialized():
            return ProcessGroup(dist.get_rank(), dist.get_world_size())
        return ProcessGroup()

    def average_(self, x: Tensor) -> None:
        """Replace x by its mean over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(x)
            x /= self.size

    def gather(self, x: Tensor, owner: Tensor) -> Tensor:
        """The rows (n, ...) of the whole batch, with gradient, from the rows x that each rank owns.

        Every rank computes the same loss on the result, and gradients are averaged over ranks: the gradient by a
        rank's own rows is therefore multiplied by the number of ranks.
        """
        return x if self.size == 1 else _Gather.apply(x, owner, self)

    def collect(self, x: Tensor, owner: Tensor) -> Tensor:
        """As `gather`, without gradient, on the CPU, and on rank 0 only; (0, ...) on the others, which need no room."""
        if self.size == 1:
            return x.cpu()
        mine = _on_the_wire(_padded(x, owner))
        parts = [torch.empty_like(mine) for _ in range(self.size)] if self.rank == 0 else None
        dist.gather(mine, parts)
        return x[:0].cpu() if parts is None else _in_order([part.cpu() for part in parts], owner)

    def first(self, value: Any) -> Any:
        """The `value` that rank 0 has, on every rank."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def all_values(self, value: Any) -> list[Any]:
        """The values of all ranks, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def agree(self, x: Tensor) -> bool:
        """Whether x has the same bits on every rank (NaN disagrees with itself)."""
        if self.size == 1:
            return True
        first = x.clone()
        dist.broadcast(first, src=0)
        same = torch.equal(first, x)
        verdict = torch.tensor([float(same)], device=x.device)
        dist.all_reduce(verdict, op=dist.ReduceOp.MIN)
        return bool(verdict.item())


ONE_PROCESS = ProcessGroup()


class _Gather(torch.autograd.Function):
    """See `ProcessGroup.gather`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, owner: Tensor, group: ProcessGroup) -> Tensor:
        ctx.rows, ctx.size = (owner == group.rank).nonzero().squeeze(1).to(x.device), group.size
        mine = _on_the_wire(_padded(x, owner))
        parts = [torch.empty_like(mine) for _ in range(group.size)]
        dist.all_gather(parts, mine)
        return _in_order(parts, owner).to(x.device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rows] * ctx.size, None, None


def _padded(x: Tensor, owner: Tensor) -> Tensor:
    """x with as many rows as the rank with most of them has: what ranks send each other is of one size."""
    most = int(torch.bincount(owner).max())
    return torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])]).contiguous()


def _in_order(parts: list[Tensor], owner: Tensor) -> Tensor:
    """The rows of all ranks' padded parts, in the order of the batch."""
    counts = torch.bincount(owner, minlength=len(parts)).tolist()
    by_rank = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return by_rank[owner.argsort(stable=True).argsort().to(by_rank.device)]


def _on_the_wire(x: Tensor) -> Tensor:
    """x where the process group can take it from: gloo gathers on the CPU only."""
    return x.cpu() if dist.get_backend() == "gloo" else x
