"""Jacobian-based truncation: Learning Disconnected Manifolds: a No GAN's Land.

Tanielian, Issenhuth, Dohmatob, Mary, ICML 2020, arXiv 2006.04596.

| equation | here |
|---|---|
| score of z, E_eps abs((G(z + s eps) - G(z)) / s)^2, about the squared Frobenius norm of the Jacobian | `scores` |
| keep the share `keep` of latents with the lowest scores | `calibrate`, `accept` |

A generator that spans the gap between two components must stretch there: its Jacobian is large where its samples are
off the manifold.

Deviations
----------
- |J eps|^2 is computed exactly by forward differentiation with eps ~ N(0, I), so there is no step s. Its mean over
  eps is the squared Frobenius norm; 10 draws, as in the paper.
- The threshold is a quantile over 4,096 latents of a seed of their own, one for each generator, and generators are
  drawn from r(c) before latents are rejected: the learned masses stay exactly as they are. One threshold for all
  would take mass from those generators that stretch more everywhere.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch.func import jvp

from toposampler.errors import UserError
from toposampler.losses.batch import Noise
from toposampler.rejection.base import Rejection
from toposampler.systems import System
from toposampler.training.model import Model
from toposampler.training.sampling import AT_ONCE, pieces

DRAWS = 10
CALIBRATION = 4096
"""latents a threshold is calibrated on: its acceptance rate is within .02 of `keep`"""


def scores(system: System, noise: Noise, rng: torch.Generator, draws: int = DRAWS, at_once: int = AT_ONCE) -> Tensor:
    """Mean of |J eps|^2 over `draws` of eps ~ N(0, I), J the Jacobian of a sample by its z: (n,).

    The generators get at most `at_once` rows of `noise`, tensors (n, ...), in a pass.
    """
    z = noise["z"]
    total = z.new_zeros(len(z))
    for _ in range(draws):
        eps = torch.randn(z.shape, generator=rng, device=z.device, dtype=z.dtype)
        total += torch.cat([_stretches(system, piece) for piece in pieces({**noise, "eps": eps}, at_once)])
    return total / draws


def _stretches(system: System, noise: Noise) -> Tensor:
    """|J eps|^2 (n,) at the latents `z` (n, d) of `noise` along its `eps` (n, d)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch makes its rules for jvp by torch.jit.script
        tangents = jvp(lambda z: system.generate({**noise, "z": z}), (noise["z"],), (noise["eps"],))[1]
    return tangents.flatten(1).square().sum(dim=1)


class Jacobian(Rejection):
    """Keeps the latents at which the generators stretch least.

    Args:
        model: stays as it is.
        keep: share of latents kept, in (0, 1].

    Raises UserError if `keep` is no such share.
    """

    name = "jacobian"
    keeps_prior = True
    passes = 2 * DRAWS  # forward differentiation carries value and tangent

    def __init__(self, model: Model, keep: float) -> None:
        if not 0 < keep <= 1:
            raise UserError(f"keep must be more than 0 and at most 1, got {keep:g}")
        super().__init__(model)
        self.keep = keep
        self.thresholds: dict[int, float] = {}

    def calibrate(self, generator: int | None) -> int:
        """See `Rejection.calibrate`."""
        assert generator is not None  # as keeps_prior asks one generator after the other
        if generator in self.thresholds:
            return 0
        rng = torch.Generator(self.device).manual_seed(generator)
        found = self._scores(self.propose(CALIBRATION, generator, rng), rng).sort().values
        rank = math.ceil(self.keep * CALIBRATION)
        self.thresholds[generator] = math.inf if rank == CALIBRATION else float(found[rank - 1])
        return self.passes * CALIBRATION

    def accept(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Rejection.accept`."""
        return (self._scores(noise, rng) <= self.thresholds[int(noise["c"][0])]).cpu()

    def _scores(self, noise: Noise, rng: torch.Generator) -> Tensor:
        return scores(self.system, noise, rng, at_once=self.at_once)
