"""Samples of a system, in blocks of fixed size, each from the seed and its own number alone.

Any process can make any block, so the samples of a seed do not depend on who makes them, nor on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from toposampler.nn.ensemble import home
from toposampler.systems import System
from toposampler.systems.batch import Noise
from toposampler.training.process_group import ONE_PROCESS, ProcessGroup

BLOCK = 1000
"""samples in a block; part of the protocol, as it fixes how a seed's random numbers are used"""
AT_ONCE = 250
"""samples that one generator makes at once, more or less: its feature maps of a whole block would need a gigabyte"""


def draw_samples(
    system: System, n: int, seed: int, generator: int | None = None, shards: ProcessGroup = ONE_PROCESS
) -> tuple[Tensor, Tensor]:
    """Samples (n, *shape) on the system's device, and the ids (n,) int64, on the CPU, of the generators that made them.

    The same seed gives the same samples, and the first of many are those of few, but for rounding in a last block that
    is cut short. The other arguments are those of `draw_block`.
    """
    blocks = [draw_block(system, i, seed, generator, min(BLOCK, n - i * BLOCK), shards) for i in range(-(-n // BLOCK))]
    samples, ids = zip(*blocks, strict=True)
    return torch.cat(samples), torch.cat(ids)


@torch.no_grad()
def draw_block(
    system: System,
    index: int,
    seed: int,
    generator: int | None = None,
    rows: int = BLOCK,
    shards: ProcessGroup = ONE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """The first `rows` samples (rows, *shape) of block `index`, on the system's device, and their ids (rows,), CPU.

    `generator` asks one generator alone; None draws them from the prior. Where the ensemble is spread over `shards`,
    all of them call this; rank 0 gets the samples, on the CPU, the others none.
    """
    rng = torch.Generator(next(system.parameters()).device).manual_seed(block_seed(seed, index))
    noise = {name: x[:rows] for name, x in draw_shuffled(system, BLOCK, rng).items()}
    if generator is not None:
        noise["c"] = torch.full_like(noise["c"], generator)
    at_once = AT_ONCE * (system.K if generator is None else 1)
    return torch.cat([_generate(system, piece, shards) for piece in pieces(noise, at_once)]), noise["c"]


def draw_shuffled(system: System, n: int, rng: torch.Generator) -> Noise:
    """Noise of `n` samples, tensors (n, ...), in random order.

    Systematic draws are sorted by generator: whoever takes the first rows must not get those of the first generators.
    """
    noise = system.draw(1, n, rng)
    order = torch.randperm(n, generator=rng, device=rng.device)
    return {name: x[0, order.to(x.device)] for name, x in noise.items()}


def pieces(noise: Noise, at_once: int) -> Iterator[Noise]:
    """`noise`, tensors (n, ...), in its order and in parts of at most `at_once` rows."""
    for piece in zip(*(x.split(at_once) for x in noise.values()), strict=True):
        yield dict(zip(noise, piece, strict=True))


def block_seed(seed: int, index: int) -> int:
    """The seed of a block's random numbers: counted on from a hash of `seed`.

    On the CPU torch uses the low 32 bits of a seed only, where hashes of (seed, index) would soon meet and give
    the same block twice; counted, no two of 2**32 blocks are alike.
    """
    first = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    return (first + index) % 2**64


def _generate(system: System, noise: Noise, shards: ProcessGroup) -> Tensor:
    if shards.size == 1:
        return system.generate(noise)
    homes = home(noise["c"], shards.size)
    rows = (homes == shards.rank).nonzero().squeeze(1)
    return shards.collect(system.generate({name: x[rows.to(x.device)] for name, x in noise.items()}), homes)
