"""Whether so many runs fit into memory at once: measured on one of them, before the first step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.training.loop import Loop

CGROUP = Path("/sys/fs/cgroup")
"""of Linux: what a container may take is less than what the machine has"""
STACKED = 5
"""times a member's parameters lie in a population's tensors: values, gradient, two moments, average"""


def check_fits(loop: Loop, members: int) -> None:
    """Raises UserError if `members` runs like that of `loop` need more memory than there is left, with how many fit.

    `loop` takes an iteration, and is brought back to where it stood.
    """
    there = available(loop.device)
    if there is None or members == 1:
        return
    each = bytes_of_member(loop)
    if members * each > there:
        need, free = (f"{amount / 2**30:.2g} GiB" for amount in (members * each, there))
        raise UserError(
            f"{members} runs at once need about {need} of memory, and {free} are free: at most {max(1, there // each)} "
            "fit in this worker; give fewer seeds, or more workers on other machines (cluster.num_workers)"
        )


def bytes_of_member(loop: Loop) -> int:
    """What a member adds to a population: its state, and what the largest loss of an iteration keeps for backward."""
    state = STACKED * sum(player.values.nbytes for player in loop.players.values())
    with _unchanged(loop):
        return state + loop.config.batch_growth * _kept_for_backward(loop)


def _kept_for_backward(loop: Loop) -> int:
    """The bytes of tensors that the largest loss of one iteration keeps."""
    kept: list[dict[int, int]] = [{}]  # by address: a tensor that is kept twice lies in memory once

    def pack(x: Tensor) -> Tensor:
        kept[-1][x.data_ptr()] = x.nbytes
        return x

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        kept.append({})
        yield

    before, loop.phase = loop.phase, phase
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loop.iteration()
    finally:
        loop.phase = before
    return max(sum(sizes.values()) for sizes in kept)


@contextmanager
def _unchanged(loop: Loop) -> Iterator[None]:
    """Bring `loop` back to where it stood after the block."""
    before = copy.deepcopy(loop.state_dict())
    try:
        yield
    finally:
        loop.load_state_dict(before)


def available(device: torch.device) -> int | None:
    """Bytes of memory that are free for this process on `device`; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # "max": no limit
        limit, taken = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        free.append(int(limit) - int(taken))
    return min(free, default=None)
