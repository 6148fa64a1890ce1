"""Samples of a system, in batches of bounded size."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.systems import System

BATCH = 4096
"""samples made at once; part of the protocol, as it fixes how a seed's random numbers are used"""


@torch.no_grad()
def draw_samples(system: System, n: int, seed: int, generator: int | None = None) -> tuple[Tensor, Tensor]:
    """Samples (n, *shape) and the ids (n,) int64 of the generators that made them, on the system's device.

    The same seed gives the same samples. `generator` asks one generator alone; None draws them from the prior.
    """
    device = next(system.parameters()).device
    rng = torch.Generator(device).manual_seed(seed)
    samples, ids = [], []
    for start in range(0, n, BATCH):
        noise = {name: x[0] for name, x in system.draw(1, min(BATCH, n - start), rng).items()}
        if generator is not None:
            noise["c"] = torch.full_like(noise["c"], generator)
        samples.append(system.generate(noise))
        ids.append(noise["c"])
    return torch.cat(samples), torch.cat(ids)
