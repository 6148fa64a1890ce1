"""What a run will cost in time: measured on this machine for a moment, or for a GPU quoted from measurements.

A few iterations are taken on small batches, and the time of one on the run's batch follows by a straight line through
two sizes: calls cost the same whatever the batch, arithmetic grows with it. Nothing is written, and no random state is
left changed. What a run does beside its iterations (evaluations, checkpoints) is not part of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import torch

from toposampler.data import Dataset
from toposampler.keys import has_key
from toposampler.systems import Prepared
from toposampler.training.config import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.networks import given_or_named
from toposampler.training.operations import is_counted, operations
from toposampler.training.placement import Placement

SMALL, LARGE = 4, 16
"""samples of the two batches that are measured, at least"""
REPEATS = 3
"""iterations of each size, of which the quickest counts"""
LONG = 2.0
"""seconds after which no further iteration is measured: calls are a small part of such long ones, so that the time of a
larger batch follows in proportion"""
GPU = "one NVIDIA H200, fp32, without graphs, the papers' networks"
ON_GPU: tuple[tuple[tuple[int, ...], str, int, float], ...] = (
    ((2,), "dmgan_pl, K = 10", 64, 78.8),
    ((2,), "topo_dmgan, K = 10", 64, 33.7),
    ((2,), "wgan_gp", 64, 107.9),
    ((1, 28, 28), "dmgan_pl, K = 20", 32, 19.7),
    ((1, 28, 28), "dmgan_pl, K = 20", 256, 20.7),
    ((1, 28, 28), "wgan_gp", 32, 75.1),
    ((3, 64, 64), "wgan_gp, width 128", 32, 67.2),
    ((3, 64, 64), "dmgan_pl, K = 5, width 32", 32, 30.7),
    ((3, 64, 64), "dmgan_pl, K = 20, width 32", 32, 13.8),
)
"""measured there: shape of a sample, system, batch size, iterations a second"""


TFLOPS = 100
"""speed, in 1e12 operations a second, for which the arithmetic of a GPU is done: a tenth of the bf16 peak of an H100"""


@dataclass(frozen=True)
class Cost:
    """What iterations of a run take on one worker."""

    seconds: float
    """of the whole run"""
    iterations_per_s: float
    """at the first batch size"""
    images_per_s: float
    """samples of the data that the critic sees a second, at the first batch size"""


def measured(config: RunConfig, dataset: Dataset, prepared: Prepared) -> Cost:
    """The cost on this machine's CPU, with the threads that torch has now."""
    training, pack = config.training, config.system.pack_size
    small = -(-max(SMALL, config.system.least_batch) // pack) * pack
    sizes: tuple[int, ...] = (small, small * (LARGE // SMALL))
    if sizes[1] >= training.batch_size:
        sizes = (training.batch_size,)
    times = [_seconds_of_an_iteration(config, dataset, prepared, sizes[0])]
    if times[0] > LONG:
        sizes = sizes[:1]
    times += [_seconds_of_an_iteration(config, dataset, prepared, size) for size in sizes[1:]]
    slope = max(0.0, (times[1] - times[0]) / (sizes[1] - sizes[0])) if len(sizes) == 2 else times[0] / sizes[0]

    def at(n: int) -> float:
        return times[-1] + slope * (n - sizes[-1])

    first, grown = at(training.batch_size), at(training.batch_size * training.batch_growth)
    share = training.batch_growth_from if training.batch_growth > 1 else 1.0
    return Cost(
        seconds=training.generator_steps * (share * first + (1 - share) * grown),
        iterations_per_s=1 / first,
        images_per_s=training.critic_steps * training.batch_size / first,
    )


def _seconds_of_an_iteration(config: RunConfig, dataset: Dataset, prepared: Prepared, n: int) -> float:
    """The quickest of `REPEATS` iterations on batches of n, after one that warms up; of fewer where they are `LONG`."""
    _, networks = given_or_named(config, None)
    training = config.training.model_copy(update={"batch_size": n, "batch_growth": 1})
    with torch.random.fork_rng(devices=()):
        system, data = prepared.build(dataset.shape, networks), replace(dataset, labels=prepared.labels)
        loop = Loop(system, data, training, config.seed, torch.device("cpu"), Placement())
        times: list[float] = []
        while len(times) < 1 + REPEATS and sum(times) < LONG:
            start = time.perf_counter()
            loop.iteration()
            times.append(time.perf_counter() - start)
    return min(times[1:] or times)


def _arithmetic(config: RunConfig, dataset: Dataset, prepared: Prepared) -> str:
    """The operations of a run, and how long they are at `TFLOPS`."""
    training = config.training
    _, networks = given_or_named(config, None)
    with torch.random.fork_rng(devices=()):
        each = operations(prepared.build(dataset.shape, networks), training.critic_steps)
    share = training.batch_growth_from if training.batch_growth > 1 else 1.0
    batches = training.generator_steps * training.critic_steps * (share + (1 - share) * training.batch_growth)
    total = each * batches * training.batch_size
    return (
        f"arithmetic, not measured: {each / 1e9:,.3g} GFLOP for each real sample, {total / 1e15:,.3g} PFLOP for the "
        f"run, which is {timedelta(seconds=round(total / (TFLOPS * 1e12)))} at {TFLOPS} TFLOP/s"
    )


def told(config: RunConfig, dataset: Dataset, prepared: Prepared) -> Iterator[str]:
    """The cost of a run in words, and where it was measured."""
    if config.cluster.use_gpu:
        rows = [row for row in ON_GPU if row[0] == tuple(dataset.shape)]
        size = " x ".join(map(str, dataset.shape))
        yield f"measured on {GPU}" if rows else f"no figures of a GPU for samples of {size}"
        for _, system, batch, iterations in rows:
            speed = iterations * batch
            yield f"{system}, batch {batch}: {iterations:g} iterations/s, {speed:,.0f} images/s a critic step"
        if is_counted(config.system):
            yield _arithmetic(config, dataset, prepared)
        return
    if has_key(config.system, "topology_weight"):
        yield "not estimated: trees of a topological loss are compiled first, which takes longer than this look"
        return
    cost = measured(config, replace(dataset, rows=None), prepared)
    yield (
        f"about {timedelta(seconds=round(cost.seconds))} of one worker for {config.training.generator_steps:,} "
        "generator steps, beside evaluations"
    )
    yield (
        f"measured just now on this machine, {torch.get_num_threads()} thread{'s'[: torch.get_num_threads() > 1]}: "
        f"{cost.iterations_per_s:.3g} iterations/s, {cost.images_per_s:,.0f} samples of the data a second"
    )
    if dataset.rows is not None:
        yield f"on {len(dataset.x):,} images that are in memory; data.workers threads read the others meanwhile"
