"""Work done together by the ranks of a process group, for tests."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from drawing import leave_out_figures


def on_ranks(size: int, work: Callable[..., object], *arguments: object) -> None:
    """Call `work(*arguments)` in `size` processes of one gloo group, and return when all have ended.

    An error in one of them is raised here. `work` belongs to a module, so that another process can find it. The
    processes are forks of one that has imported the package and done nothing: every rank would take seconds to import
    torch, and a fork of the tests' own process would inherit threads that hold locks.
    """
    multiprocessing.set_forkserver_preload(["toposampler.training", "torch.distributed", "torch.optim"])
    with tempfile.TemporaryDirectory() as folder:
        group = f"file://{folder}/group"
        mp.start_processes(_rank, (size, group, work, arguments), nprocs=size, start_method="forkserver")


def _rank(rank: int, size: int, group: str, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    leave_out_figures()
    dist.init_process_group("gloo", init_method=group, rank=rank, world_size=size)
    work(*arguments)
    dist.barrier()
    # Not by the end of the interpreter: a thread of gloo that still holds a tensor may abort it (pytorch #190489), and
    # destroying the group does not end its threads once torch's compiler, which any optimizer imports, refers to it.
    os._exit(0)
