"""What a run asks of the machines, and whether they have it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from toposampler.config import ClusterConfig
from toposampler.errors import UserError


def per_worker(config: ClusterConfig) -> dict[str, float]:
    """CPUs and GPUs of one worker, by Ray's names."""
    return {"CPU": float(config.cpus_per_worker), "GPU": float(config.use_gpu)}


def required(config: ClusterConfig) -> dict[str, float]:
    """CPUs and GPUs of all workers together, by Ray's names."""
    return {kind: config.num_workers * amount for kind, amount in per_worker(config).items()}


def of_this_machine() -> dict[str, float]:
    """CPUs this process may use and GPUs that torch sees, by Ray's names."""
    # macOS does not tell which CPUs a process may use.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"CPU": float(cpus), "GPU": float(torch.cuda.device_count())}


def check_resources(config: ClusterConfig, available: Mapping[str, float], place: str) -> None:
    """Raises UserError, with what is required and what `place` has in all, unless the run fits there."""
    short = [
        f"{amount:g} {kind}s are required and {available.get(kind, 0.0):g} available"
        for kind, amount in required(config).items()
        if amount > available.get(kind, 0.0)
    ]
    if short:
        raise UserError(
            f"{' and '.join(short)} on {place}: cluster.num_workers {config.num_workers}, "
            f"cluster.cpus_per_worker {config.cpus_per_worker}, cluster.use_gpu {str(config.use_gpu).lower()}"
        )
