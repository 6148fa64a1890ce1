"""Samples of a system, in batches of bounded size."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.losses.batch import Noise
from toposampler.nn.ensemble import home
from toposampler.systems import System
from toposampler.training.world import ONE_PROCESS, World

BATCH = 4096
"""samples made at once; part of the protocol, as it fixes how a seed's random numbers are used"""


@torch.no_grad()
def draw_samples(
    system: System, n: int, seed: int, generator: int | None = None, shards: World = ONE_PROCESS
) -> tuple[Tensor, Tensor]:
    """Samples (n, *shape) on the system's device, and the ids (n,) int64, on the CPU, of the generators that made them.

    The same seed gives the same samples. `generator` asks one generator alone; None draws them from the prior. Where
    the ensemble is spread over `shards`, all of them call this; rank 0 gets the samples, on the CPU, the others none.
    """
    device = next(system.parameters()).device
    rng = torch.Generator(device).manual_seed(seed)
    samples, ids = [], []
    for start in range(0, n, BATCH):
        noise = {name: x[0] for name, x in system.draw(1, min(BATCH, n - start), rng).items()}
        if generator is not None:
            noise["c"] = torch.full_like(noise["c"], generator)
        samples.append(_generate(system, noise, shards))
        ids.append(noise["c"])
    return torch.cat(samples), torch.cat(ids)


def _generate(system: System, noise: Noise, shards: World) -> Tensor:
    if shards.size == 1:
        return system.generate(noise)
    homes = home(noise["c"], shards.size)
    rows = (homes == shards.rank).nonzero().squeeze(1)
    return shards.collect(system.generate({name: x[rows.to(x.device)] for name, x in noise.items()}), homes)
