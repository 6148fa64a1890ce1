"""Truncation by density: the samples whose own generator makes few others like them are left out.

Ours; the density is estimated by nearest neighbors (Loftsgaarden and Quesenberry 1965).

| equation | here |
|---|---|
| p(x) ~ k / (n R_k(x)^d), R_k the distance from x to the k-th nearest of n samples of its generator | `scores`: R_k |
| keep the share `keep` of latents with the lowest scores | `Truncation` |

Jacobian truncation looks for the same samples by the stretch at z, which is the density where a generator maps
one-to-one. Where more dimensions of z than the data has lead to one place, a sample can be rare though nothing is
stretched there, such as those beyond the end of a manifold, which only the corners of a cube of latents reach.

Distances are those of the critic's last hidden layer, as pixels say little of images. Nothing but the model is needed,
and no data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.metrics.neighbors import nearest_neighbors
from toposampler.rejection.truncation import Truncation
from toposampler.systems.batch import Noise
from toposampler.training.model import Model
from toposampler.training.sampling import pieces

REFERENCE = 4096
"""n, samples of a generator that its others are compared with: of each generator that delivers their features are kept,
2 MB for points, 34 MB for images of 28x28 or 32x32, 134 MB for 64x64"""
NEIGHBORS = 16
"""k: the estimate spreads by a quarter, and a few rare samples that lie together do not vouch for each other"""


class Density(Truncation):
    """Keeps the latents whose samples lie where their generator is dense; see `Truncation`.

    Also raises UserError if the model's critic scores no single samples.
    """

    name = "density"
    passes = 1

    def __init__(self, model: Model, keep: float) -> None:
        super().__init__(model, keep)
        if not self.system.scores_samples:
            raise UserError(
                "rejection density compares samples by the critic's features, and the critic of "
                f"{model.config.system.name} scores no single samples"
            )
        self.references: dict[int, Tensor] = {}

    def calibrate(self, generator: int | None) -> int:
        """See `Rejection.calibrate`."""
        if generator in self.thresholds:
            return 0
        assert generator is not None  # as keeps_prior asks one generator after the other
        rng = torch.Generator(self.device).manual_seed(self.system.K + generator)  # no seed of a threshold
        self.references[generator] = self._features(self.propose(REFERENCE, generator, rng))
        return REFERENCE + super().calibrate(generator)

    def scores(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """See `Truncation.scores`."""
        reference = self.references[int(noise["c"][0])]
        return nearest_neighbors(self._features(noise), reference, NEIGHBORS)[0][:, -1]

    def _features(self, noise: Noise) -> Tensor:
        generate, features = self.system.generate, self.system.critic.features
        return torch.cat([features(generate(piece)) for piece in pieces(noise, self.at_once)])
