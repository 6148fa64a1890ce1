"""One job of sampling: a model's samples written to files, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toposampler.rejection import rejection
from toposampler.rejection.base import Cost
from toposampler.sampling.output import Block, output
from toposampler.training.model import load_model
from toposampler.training.sampling import BLOCK, block_seed, draw_block

PART = 10
"""blocks that are written by the same process, one after the other"""


@dataclass(frozen=True)
class SamplingJob:
    """What is to be written; says the same on every machine."""

    model: Path
    """run folder, checkpoint or model directory, absolute"""
    out: Path
    """the place of the samples, absolute; its extension says the format"""
    n: int
    seed: int
    generator: int | None = None
    """this generator's samples only; None: by the prior"""
    ema: bool = True
    """sample from the moving average of the weights"""
    device: str = "cpu"
    rejection: str | None = None
    """one of `rejection.METHODS`, with what it needs; None: all that is proposed is kept"""
    keep: float | None = None
    weights: Path | None = None
    cap: float | None = None
    networks: tuple[str, ...] = ()
    """`module:function` of each network that is not the package's: see `toposampler.training.networks`"""

    @property
    def parts(self) -> range:
        """The numbers of the parts, each of which any process can write."""
        return range(-(-self.n // (PART * BLOCK)))


class Writer:
    """The model of a job, and its output. Raises UserError if there is no such model, or it cannot do the job."""

    def __init__(self, job: SamplingJob) -> None:
        self.job = job
        self.model = load_model(job.model, job.ema, job.device, job.networks)
        self.model.check(job.n, job.seed, job.generator)
        self.output = output(job.out, job.n, self.model.shape, self.model.dtype)
        self._rejection = rejection(job.rejection, self.model, job.keep, job.weights, job.cap)

    def write(self, part: int) -> Cost:
        """Draw and write one part; what it cost. Raises OSError if it cannot be written."""
        first, end = part * PART * BLOCK, min((part + 1) * PART * BLOCK, self.job.n)
        costs: list[Cost] = []
        self.output.write(part, self._blocks(first, end, costs))
        return sum(costs, Cost())

    def _blocks(self, first: int, end: int, costs: list[Cost]) -> Iterator[Block]:
        seed, generator = self.job.seed, self.job.generator
        for start in range(first, end, BLOCK):
            index, rows = start // BLOCK, min(BLOCK, end - start)
            if self._rejection is None:
                samples, ids = draw_block(self.model.system, index, seed, generator, rows)
                yield index, self.model.to_units(samples), ids
                costs.append(Cost(rows, rows, rows))
            else:
                drawn = self._rejection.draw(rows, block_seed(seed, index), generator)
                yield index, drawn.samples, drawn.ids
                costs.append(drawn.cost)
