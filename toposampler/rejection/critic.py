"""Discriminator rejection sampling, as a control: the critic that training ended with scores the samples.

Azadi, Olsson, Darrell, Goodfellow, Odena, ICLR 2019, arXiv 1810.06758.

| equation | here |
|---|---|
| accept x with probability exp(D(x) - D_max), D the log of the density ratio | `accept` |
| D_max, the largest D over a first sample | `calibrate` |

Deviations
----------
- The paper's D is the logit of an optimal discriminator, and so log(p_real / p_fake). A Wasserstein critic is a
  potential: its slope is bounded by 1 and its scale means nothing. D is divided by its standard deviation over the
  first sample, which makes it a score of no unit, and no density ratio: nothing promises the data's distribution.
- The paper fine-tunes D before and shifts its logits to set the acceptance rate; here neither is done.
- D_max is that of 10,000 proposals and stays; a sample above it is accepted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.rejection.base import Rejection
from toposampler.systems.batch import Noise
from toposampler.training.model import Model
from toposampler.training.sampling import pieces

CALIBRATION = 10_000


class CriticRejection(Rejection):
    """Accepts samples the more often the higher the critic's score."""

    name = "critic"
    keeps_prior = False
    passes = 1

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.top: float | None = None
        self.scale: float

    def calibrate(self, generator: int | None) -> int:
        """See `Rejection.calibrate`. Always over all generators: c is scored too."""
        if self.top is not None:
            return 0
        rng = torch.Generator(self.device).manual_seed(0)
        found = self._scores(self.propose(CALIBRATION, None, rng))
        self.scale = float(found.std())
        if not self.scale > 0:
            raise UserError(f"rejection critic: this model's critic gives all samples the score {float(found[0]):g}")
        self.top = float(found.max())
        return CALIBRATION

    def accept(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Rejection.accept`."""
        assert self.top is not None
        found = self._scores(noise)
        u = torch.rand(len(found), generator=rng, device=found.device, dtype=found.dtype)
        return (u < ((found - self.top) / self.scale).exp()).cpu()

    def _scores(self, noise: Noise) -> Tensor:
        return torch.cat([self.system.score_noise(piece) for piece in pieces(noise, self.at_once)])
