"""The process group training runs in: this process's rank, averages over ranks, and a check that replicas agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """See `World.gather`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rank :: ctx.size] * ctx.size, None, None


@dataclass(frozen=True)
class World:
    """Rank and size of the process group; one process where there is none."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> World:
        """The initialised torch.distributed group (by Ray Train, torchrun or a test), else one process."""
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size())
        return World()

    def share(self, x: Tensor) -> Tensor:
        """This rank's samples of batches (batches, n, ...) that every rank holds whole: rank, rank + size, ..."""
        return x[:, self.rank :: self.size]

    def gather(self, x: Tensor) -> Tensor:
        """The inverse of `share`, with gradient: this rank's rows (n, ...) to those of all ranks (n size, ...).

        Every rank computes the same loss on the result, and gradients are averaged over ranks: the gradient by a
        rank's own rows is therefore multiplied by the number of ranks.
        """
        return x if self.size == 1 else _Gather.apply(x, self.rank, self.size)

    def average_(self, x: Tensor) -> None:
        """Replace x by its mean over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(x)
            x /= self.size

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
