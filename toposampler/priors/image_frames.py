"""Where the generators of images start: a Gaussian mixture in the principal coordinates of their component, in closed
form but for the mixture's own fit, and the intensities that the component's pixels have.

Images are not normal in their principal coordinates, and in tens of them no rotation shows how (`priors.frames`). A
mixture of normals does: Richardson and Weiss 2018 (arXiv 1805.12462) find that it covers images better than GANs do. It
is fitted by expectation maximization (scikit-learn), and latents are mapped to it continuously
(`priors.rearrangement`). Sums of principal components are blurred, leave the range of pixels and have no flat
background; a monotone map of the intensities gives them the distribution that the component's pixels have.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toposampler.priors.frames import Frames, principal_axes
from toposampler.priors.rearrangement import rearranged

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

REACH = 2.0
"""intensities of a start beyond it are taken for it: pixels are from -1 to 1"""
STEPS = 256
"""of the table of intensities, from -REACH to REACH"""
NOISE = 0.01
"""least variance of a normal in a direction, over the mean variance of all coordinates"""
PER_DIMENSION = 2
"""samples of a component for each of its coordinates that there must be for a further normal"""
MOST_SAMPLES = 20_000
"""images of a component that its coordinates are counted by, and its mixture is fitted to"""
HELD_OUT = 0.1
"""share of them by whose likelihood the number of normals is chosen"""
MOST_AXES = 256
"""of a component of images"""
COMPARED = 2000
"""images of a component, and of its start, whose intensities are compared"""


class ImageFrames(Frames):
    """The principal coordinates of each of K components of images, and a mixture of M normals in each.

    `fill` maps latents to coordinates, `color` these to images, as in `Frames`.
    """

    shares: Tensor
    """(K, M): weights of the normals; 0 for those that a component does without"""
    centers: Tensor
    """(K, M, R): their means, in coordinates of scale 1"""
    factors: Tensor
    """(K, M, R, R): lower triangular, their product with their transpose is a covariance"""
    intensities: Tensor
    """(K, C, STEPS + 1): what the pixels of a channel become, from -REACH to REACH"""

    def __init__(self, K: int, shape: tuple[int, ...], R: int, M: int) -> None:
        super().__init__(K, math.prod(shape), R)
        self.register_buffer("shares", torch.ones(K, M) / M)
        self.register_buffer("centers", torch.zeros(K, M, R))
        self.register_buffer("factors", torch.eye(R).repeat(K, M, 1, 1))
        self.register_buffer("intensities", torch.linspace(-REACH, REACH, STEPS + 1).repeat(K, shape[0], 1))

    @property
    def normals(self) -> int:
        """M."""
        return self.shares.shape[1]

    @classmethod
    def of_images(cls, x: Tensor, labels: Tensor, R: int, floor: float, most: int, seed: int = 0) -> ImageFrames:
        """The frames of the parts `labels` (N,) of images x (N, C, H, W), with mixtures of at most `most` normals.

        How many a component has is what describes a tenth of it best that it was not fitted to, of `most` halved again
        and again, and no more than `PER_DIMENSION` samples a direction allow; `seed` chooses that tenth. Mean, axes and
        scales are those of `Frames.of`.
        """
        plain, rng = Frames.of(x.flatten(1), labels, R, floor), torch.Generator().manual_seed(seed)
        fits = []
        for k in range(len(plain.mean)):
            members = (labels == k).nonzero()[:, 0]
            order = torch.randperm(len(members), generator=rng)[:MOST_SAMPLES]
            of = labels.new_full((len(order),), k)
            coordinates = plain.whiten(x[members[order]].flatten(1).double(), of) * plain.scales[k]
            weights, means, factors = _mixture(coordinates, most)
            fits.append((weights, means / plain.scales[k], factors / plain.scales[k][:, None]))
        frames = cls(len(fits), tuple(x.shape[1:]), R, max(len(fit[0]) for fit in fits)).double()
        frames.load_state_dict(plain.state_dict(), strict=False)
        for k, fit in enumerate(fits):
            missing = frames.normals - len(fit[0])
            frames.shares[k] = torch.cat([fit[0], fit[0].new_zeros(missing)])
            for buffer, values in ((frames.centers, fit[1]), (frames.factors, fit[2])):
                buffer[k] = torch.cat([values, values[:1].expand(missing, *values.shape[1:])])
        for k in range(len(fits)):
            frames._fit_intensities(k, x[labels == k][:COMPARED].double())
        return frames

    def in_words(self) -> str:
        """What the start is, for the user."""
        least, most = (int(n) for n in (self.shares > 0).sum(dim=1).aminmax())
        normals = f"{most} normal{'s'[: most > 1]}" if least == most else f"{least} to {most} normals"
        return f"{normals} in {self.scales.shape[1]} principal coordinates of each component"

    def _fit_intensities(self, k: int, real: Tensor) -> None:
        """Give pixels of samples of component k the distribution that those of `real` (n, C, H, W) have, by channel."""
        rng = torch.Generator().manual_seed(k)
        z = torch.randn(COMPARED, self.scales.shape[1], generator=rng, dtype=torch.float64)
        c = torch.full((COMPARED,), k)
        start = super().color(self.fill(z, c), c).unflatten(1, real.shape[1:])
        grid = self.intensities[k, 0].clone()
        for channel in range(real.shape[1]):
            ours, theirs = (images[:, channel].flatten().sort().values for images in (start, real))
            level = torch.searchsorted(ours, grid, right=True).double() / len(ours)
            place = level * (len(theirs) - 1)
            left = place.floor().long().clamp(max=max(0, len(theirs) - 2))
            self.intensities[k, channel] = torch.lerp(
                theirs[left], theirs[(left + 1).clamp(max=len(theirs) - 1)], place - left
            )

    def has_radii(self) -> bool:
        """See `Frames`: no component's radius is fitted."""
        return False

    def fill(self, z: Tensor, c: Tensor, radii: bool = True) -> Tensor:
        """q_c(z): standard normal z (n, R) as coordinates (n, R) of the components c (n,).

        In float64, as each coordinate depends on the ones before it by differences of probabilities.
        """
        shares, centers, factors = (x.double() for x in (self.shares, self.centers, self.factors))
        return rearranged(z.double(), c, shares, centers, factors, self.ndtr).to(z.dtype)

    ndtr = staticmethod(torch.special.ndtr)
    """the standard normal distribution function"""

    def color(self, y: Tensor, c: Tensor) -> Tensor:
        """x = g_c(m_c + V_c S_c y), g_c the map of the intensities: (n, R) to (n, D)."""
        x = super().color(y, c)
        channels = self.intensities.shape[1]
        place = (x.clamp(-REACH, REACH) + REACH) * (STEPS / (2 * REACH))
        left = place.floor().clamp(max=STEPS - 1)
        row = torch.arange(channels, device=x.device).repeat_interleave(x.shape[1] // channels)
        at = ((c[:, None] * channels + row) * (STEPS + 1)) + left.long()
        table = self.intensities.flatten()
        return torch.lerp(table[at], table[at + 1], place - left)


def axes_that_hold(share: float, x: Tensor, labels: Tensor) -> int:
    """How many principal axes of their part the parts `labels` (N,) of samples x (N, D) need, so that together they
    hold `share` of the variance within the parts; `MOST_AXES` at most."""
    most = min(MOST_AXES, x.shape[1])
    held, whole = torch.zeros(most, dtype=torch.float64), 0.0
    for k in range(int(labels.max()) + 1):
        members = (labels == k).nonzero()[:, 0]
        some = torch.randperm(len(members), generator=torch.Generator().manual_seed(k))[:MOST_SAMPLES]
        part = x[members[some]].double()
        centered = part - part.mean(dim=0)
        held += len(members) * principal_axes(centered, most)[0].square().cumsum(dim=0)
        whole += len(members) * float(centered.square().sum(dim=1).mean())
    return min(most, int((held < share * whole).sum()) + 1)


def _mixture(x: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (M,), means (M, R) and lower triangular factors (M, R, R) of the mixture that is fitted to x (n, R)."""
    n, R = x.shape
    held_out, others = x[: round(HELD_OUT * n)].numpy(), x[round(HELD_OUT * n) :]
    chosen, best = max(1, min(most, n // (PER_DIMENSION * R))), -math.inf
    M = chosen if chosen > 1 else 0
    while M > 0 and (likelihood := float(_fitted(others, M).score(held_out))) > best:
        chosen, best = M, likelihood
        M //= 2
    fit = _fitted(x, chosen)
    weights, means, covariances = (torch.from_numpy(found) for found in (fit.weights_, fit.means_, fit.covariances_))
    return weights, means, torch.linalg.cholesky(covariances)


def _fitted(x: Tensor, M: int) -> GaussianMixture:
    """A mixture of M normals, by expectation maximization from k-means."""
    from sklearn.exceptions import ConvergenceWarning  # here, as scikit-learn takes a second
    from sklearn.mixture import GaussianMixture

    noise = NOISE * float(x.var(dim=0, unbiased=False).mean()) + 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(M, reg_covar=noise, max_iter=40, tol=1e-2, random_state=0).fit(x.numpy())
