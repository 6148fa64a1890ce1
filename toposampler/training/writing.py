"""One job of sampling: a model's samples written to files, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toposampler.training.model import load_model
from toposampler.training.output import Block, output
from toposampler.training.sampling import BLOCK, draw_block

PART = 10
"""blocks that are written by the same process, one after the other"""


@dataclass(frozen=True)
class SamplingJob:
    """What is to be written; says the same on every machine."""

    model: Path
    """run folder or checkpoint, absolute"""
    out: Path
    """the place of the samples, absolute; its ending says the format"""
    n: int
    seed: int
    generator: int | None = None
    """this generator's samples only; None: by the prior"""
    ema: bool = True
    """sample from the moving average of the weights"""
    device: str = "cpu"

    @property
    def parts(self) -> range:
        """The numbers of the parts, each of which any process can write."""
        return range(-(-self.n // (PART * BLOCK)))


class Writer:
    """The model of a job, and its output. Raises UserError if there is no such model, or it cannot do the job."""

    def __init__(self, job: SamplingJob) -> None:
        self.job = job
        self.model = load_model(job.model, job.ema, job.device)
        self.model.check(job.n, job.seed, job.generator)
        self.output = output(job.out, job.n, self.model.shape)

    def write(self, part: int) -> int:
        """Draw and write one part; the number of its samples. Raises OSError if it cannot be written."""
        first, end = part * PART * BLOCK, min((part + 1) * PART * BLOCK, self.job.n)
        self.output.write(part, self._blocks(first, end))
        return end - first

    def _blocks(self, first: int, end: int) -> Iterator[Block]:
        for start in range(first, end, BLOCK):
            rows = min(BLOCK, end - start)
            yield (
                start // BLOCK,
                *draw_block(self.model.system, start // BLOCK, self.job.seed, self.job.generator, rows),
            )
