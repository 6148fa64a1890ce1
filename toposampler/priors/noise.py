"""The noise module N: z -> N(z), which gives the latents of a generator the topology of the data.

Dey and Das, TopoSampler, NeurIPS 2020 workshop "TDA and Beyond". Trained by the 0-dimensional persistence of its output
against that of the data. A continuous network stretches the support of z but cannot tear it: the image of a connected
set is connected. `gate` is the way out: a hard choice among K affine or orthogonal maps, so that the support of N(z)
can have K components.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from toposampler.config import OptimizerConfig
from toposampler.keys import may
from toposampler.nn.isometric import Orthonormal

SEPARATION = 4 * math.sqrt(2)
"""least distance of a gate's pieces from each other at first, in units of sqrt(dim), the typical norm of a normal z"""
CANDIDATES = 100
"""random places, per piece, that the places of more pieces than dimensions are chosen from"""


class NoiseConfig(OptimizerConfig):
    """The noise module between z and the generators, and Adam's constants for it."""

    kind: Literal["none", "network", "gate"] = "network"
    """none: N(z) = z; network: continuous, z plus two hidden layers; gate: a hard choice among maps of z"""
    learning_rate: float = Field(1e-3, gt=0)
    """step size of Adam"""
    betas: tuple[float, float] = (0.0, 0.9)
    """decay of Adam's first and second moment, each in [0, 1)"""
    width: int = Field(64, ge=1, le=65_536)
    """hidden width of the network"""
    branches: int = Field(2, ge=1, le=10_000, json_schema_extra=may(search={"int": [1, 8], "when": {"kind": ["gate"]}}))
    """K, the maps a gate chooses from"""
    branch: Literal["affine", "orthogonal"] = "affine"
    """what each map of a gate is: any A z + b, or one that keeps lengths"""
    choice: Literal["random", "straight-through"] = "random"
    """of the gate: drawn with learned odds r(c), blind to z; or the largest of K learned linear functions of z"""
    adversarial: bool = True
    """train the maps by the generators' adversarial term too; false: by the signature alone, as on the slides (odds
    that are drawn with always follow the critic: the signature says nothing of masses)"""

    @property
    def draws(self) -> bool:
        """Whether the module's branches are drawn at random."""
        return self.kind == "gate" and self.choice == "random"

    def build(self, dim: int) -> NoiseModule:
        """A freshly initialized module from latents of `dim` dimensions to latents of `dim` dimensions."""
        match self.kind:
            case "none":
                return NoiseModule()
            case "network":
                return NoiseNetwork(dim, self.width)
            case "gate":
                return NoiseGate(dim, self.branches, self.branch, cuts=not self.draws)


class NoiseModule(nn.Module):
    """N(z) = z: the module that does nothing, and the base of those that do."""

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """N(z): latents z (n, d) and the branches (n,) int64 drawn for them, if branches are drawn, to (n, d)."""
        return z


class NoiseNetwork(NoiseModule):
    """N(z) = s (z + f(z)), f a multilayer perceptron: continuous, so its image of a Gaussian is connected.

    The factor s alone brings the latents to the data's scale, whatever f makes of their shape.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.f = nn.Sequential(
            nn.Linear(dim, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, dim)
        )
        self.log_scale = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """See `NoiseModule.forward`."""
        return self.log_scale.exp() * (z + self.f(z))


class NoiseGate(NoiseModule):
    """N(z) = s (A_k z + b_k), with k drawn, or (`cuts`) k = argmax_j t_j of t = W z + beta: N tears where k changes.

    The cut is hard in the forward pass; backward it is that of softmax(t) (the straight-through estimator of Bengio et
    al. 2013). Its gradient looks from one branch to the other along a straight line, which says little of what the
    generator makes of the other: the masses of the branches drift (`docs/toposampler.md`). The odds of drawn
    branches have a better gradient, see `systems.toposampler`.

    The pieces start `SEPARATION` radii of z apart: the signature loss moves pieces that are apart to the data's
    distance, but it cannot pull overlapping ones apart, since the longest edges of their tree lead to outliers.
    """

    def __init__(self, dim: int, branches: int, branch: str, cuts: bool) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(dim).repeat(branches, 1, 1))
        if branch == "orthogonal":
            parametrize.register_parametrization(self, "matrix", Orthonormal())
        self.offset = nn.Parameter(SEPARATION * math.sqrt(dim) * places_apart(branches, dim))
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.cut = nn.Linear(dim, branches) if cuts else None
        if self.cut is not None:
            nn.init.zeros_(self.cut.bias)  # half-spaces through the origin: equal masses of two branches

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """See `NoiseModule.forward`."""
        if self.cut is None:
            chosen = F.one_hot(c.to(z.device), len(self.offset)).to(z.dtype)
        else:
            soft = self.cut(z).to(z.dtype).softmax(dim=1)
            hard = F.one_hot(soft.argmax(dim=1), len(self.offset)).to(z.dtype)
            chosen = hard + soft - soft.detach()
        branches = torch.einsum("nd,ked->nke", z, self.matrix) + self.offset
        # A sum, no product of matrices: autocast would round the offsets, which are far from 0, to bf16.
        return self.log_scale.exp() * (chosen.unsqueeze(2) * branches).sum(dim=1)


def places_apart(n: int, dim: int) -> Tensor:
    """n random points (n, dim) with a least distance of 1: of a simplex, or where dim < n, spread over a cube."""
    if n <= dim:
        # In double precision: rounded from there they are the same on every CPU, whatever the order of its sums.
        return Orthonormal()(torch.randn(n, dim).double()).float() / math.sqrt(2)
    candidates = torch.rand(CANDIDATES * n, dim)
    chosen = candidates[:1]
    for _ in range(n - 1):  # the candidate that is farthest from those chosen
        chosen = torch.cat([chosen, candidates[None, torch.cdist(candidates, chosen).amin(dim=1).argmax()]])
    return (chosen - chosen.mean(dim=0)) / F.pdist(chosen).min()
