"""What truncations share: a score of each proposal, and a threshold for it that keeps a given share."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod

import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.rejection.base import Rejection
from toposampler.systems.batch import Noise
from toposampler.training.model import Model

CALIBRATION = 4096
"""latents a threshold is calibrated on: its acceptance rate is within .02 of `keep`"""

log = logging.getLogger(__name__)


class Truncation(Rejection):
    """Keeps the share `keep` of latents that have the lowest scores, of each generator separately.

    Generators are drawn from r(c) before latents are rejected, so that the learned masses stay exactly as they are: one
    threshold for all would take mass from those generators whose scores are higher everywhere.

    Args:
        model: stays as it is.
        keep: share of latents kept, in (0, 1].

    Raises UserError if `keep` is no such share.
    """

    keeps_prior = True

    def __init__(self, model: Model, keep: float) -> None:
        if not 0 < keep <= 1:
            raise UserError(f"keep must be more than 0 and at most 1, got {keep:g}")
        super().__init__(model)
        self.keep = keep
        self.thresholds: dict[int, float] = {}

    @abstractmethod
    def scores(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """How much each proposal in `noise`, tensors (n, ...) of one generator, deserves to be left out: (n,)."""

    def calibrate(self, generator: int | None) -> int:
        """See `Rejection.calibrate`."""
        assert generator is not None  # as keeps_prior asks one generator after the other
        if generator in self.thresholds:
            return 0
        if not self.thresholds:
            log.info("calibrating rejection %s, generator by generator", self.name)
        rng = torch.Generator(self.device).manual_seed(generator)
        found = self.scores(self.propose(CALIBRATION, generator, rng), rng).sort().values
        rank = math.ceil(self.keep * CALIBRATION)
        self.thresholds[generator] = math.inf if rank == CALIBRATION else float(found[rank - 1])
        return self.passes * CALIBRATION

    def accept(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Rejection.accept`."""
        return (self.scores(noise, rng) <= self.thresholds[int(noise["c"][0])]).cpu()
