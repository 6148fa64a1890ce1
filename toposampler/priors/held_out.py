"""How well the start of each component, which is fitted in closed form, describes samples it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toposampler.metrics.two_sample import triangular_discrimination
from toposampler.priors.frames import Frames

SEED = 0
"""of the halves and of the latents: what is found follows from the data alone"""
MOST, LEAST = 2000, 50
"""held-out samples of a component that are compared, and how many there must be to say anything"""
RESOLUTION = 0.05
"""standard deviation of noise on both, in the part's coordinates, in which it has size 1: a thin part that is moved by
less is disjoint from itself, and yet the same for all that a sample is used for"""
Z99 = 2.326
"""standard normal quantile of a one-sided bound of 99 %"""


@dataclass(frozen=True)
class HeldOut:
    """How far each component's start, fitted to one half of it, is from the other half."""

    delta: Tensor
    """(K,): triangular discrimination in [0, 1], as estimated; NaN of a component with too few samples"""
    bound: Tensor
    """(K,): its lower bound of 99 %"""
    tolerance: float

    @property
    def insufficient(self) -> Tensor:
        """The components (K,) bool whose start is not good enough: those above the tolerance, or with too few samples
        to say so."""
        return self.delta.isnan() | (self.bound > self.tolerance)

    def in_words(self) -> str:
        """What this means for the game, as a line for the user."""
        K, few, off = len(self.delta), int(self.delta.isnan().sum()), int((self.bound > self.tolerance).sum())
        if not few + off:
            which = f"all {K} starts" if K > 1 else "the start"
            return f"start    no game: samples of {which} are like held-out data (within {self.tolerance:g})"
        by = f"from held-out data by more than {self.tolerance:g}"
        if K == 1:
            return f"start    it is trained: it {'has too few samples to tell' if few else f'differs {by}'}"
        why = [f"{off} differ {by}"] if off else []
        why += [f"{few} have too few samples to tell"] if few else []
        return f"start    {K - few - off} of {K} starts are kept; the others are trained: {', '.join(why)}"


def compare(x: Tensor, labels: Tensor, R: int, floor: float, iterations: int, tolerance: float) -> HeldOut:
    """Compare starts, as from `Frames.of`, of parts `labels` (N,) of samples x (N, D) with samples they have not seen.

    Each part is cut into two random halves. The start that is fitted to one is compared with the other, in the part's
    coordinates, and the reverse; the better of the two counts, as the fit to all samples is as good at least.
    """
    rng = torch.Generator().manual_seed(SEED)
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for k in range(int(labels.max()) + 1):
        members = (labels == k).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=rng)]
        for half, some in zip(halves, members.chunk(2) if len(members) > 1 else (members, members), strict=True):
            half.append(some)
    found = torch.stack([_one_way(*pair, x, labels, R, floor, iterations, rng) for pair in (halves, halves[::-1])])
    better = (found[..., 0] - Z99 * found[..., 1]).nan_to_num().argmin(dim=0)
    delta, deviation = found[better, torch.arange(found.shape[1])].unbind(1)
    return HeldOut(delta, delta - Z99 * deviation, tolerance)


def _one_way(
    fitted: list[Tensor],
    unseen: list[Tensor],
    x: Tensor,
    labels: Tensor,
    R: int,
    floor: float,
    iterations: int,
    rng: torch.Generator,
) -> Tensor:
    """Distances of starts of samples `fitted` (rows of x) from samples `unseen`, and their deviations: (K, 2)."""
    chosen = torch.cat(fitted)
    frames = Frames.of(x[chosen], labels[chosen], R, floor, iterations)
    found = []
    for k, some in enumerate(unseen):
        some = some[:MOST]
        if len(some) < LEAST:
            found.append((torch.nan, 0.0))
            continue
        c = torch.full((len(some),), k)
        z, *noise = torch.randn(3, len(some), R, generator=rng, dtype=torch.float64)
        clouds = frames.whiten(x[some].double(), c), frames.fill(z, c)
        found.append(triangular_discrimination(*(y + RESOLUTION * e for y, e in zip(clouds, noise, strict=True))))
    return torch.tensor(found, dtype=torch.float64)
