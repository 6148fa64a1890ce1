"""Component frames whose radii are made by operators that ONNX has.

It has neither the incomplete gamma function nor the normal quantile; here they are sums and quotients, in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toposampler.priors.frames import REACH, Frames, turned
from toposampler.priors.frames import _between_knots as between_knots
from toposampler.priors.image_frames import ImageFrames

LEAST = 1e-300
CENTRAL = ((-3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02, 1.383577518672690e02,
            -3.066479806614716e01, 2.506628277459239e00),
           (-5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02, 6.680131188771972e01,
            -1.328068155288572e01, 1.0))  # fmt: skip
TAIL = ((-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00, -2.549732539343734e00,
         4.374664141464968e00, 2.938163982698783e00),
        (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0))  # fmt: skip
"""numerators and denominators of Acklam's approximation of the normal quantile, of a relative error of 1.15e-9"""
SPLIT = 0.02425
"""probability below which his tail begins"""


HART = ((3.52624965998911e-02, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871, 221.213596169931,
         220.206867912376),
        (8.83883476483184e-02, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674, 637.333633378831,
         793.826512519948, 440.413735824752))  # fmt: skip
"""numerator and denominator of Hart's approximation of the normal distribution function up to 7.07 (West 2005)"""


class ExportedFrames(Frames):
    """The frames of a trained model, for a graph: what they are given is fixed."""

    def _along(self, rows: Tensor, c: Tensor, towards: bool) -> Tensor:
        """See `Frames`: in one part, as a graph knows no number of samples."""
        return turned(rows, self.axes[c], towards)

    def _on_radius(self, y: Tensor, c: Tensor) -> Tensor:
        """See `Frames`."""
        found = y
        for full in sorted({int(d) for d in self.symmetric.tolist()} - {0}):
            radius = torch.sqrt((y[:, :full] * y[:, :full]).sum(dim=1))
            level = normal_quantile(chi_share(full, radius.double()))
            left, share = between_knots(level.clamp(-REACH, REACH).to(y.dtype))
            low, high = (self.radii[c, left + j] for j in (0, 1))
            factor = (low + share * (high - low)) / radius.clamp(min=torch.finfo(y.dtype).tiny)
            moved = torch.cat([factor[:, None] * y[:, :full], y[:, full:]], dim=1)
            found = torch.where((self.symmetric[c] == full)[:, None], moved, found)
        return found


class ExportedImageFrames(ImageFrames):
    """The frames of a trained model of images, for a graph."""

    def _along(self, rows: Tensor, c: Tensor, towards: bool) -> Tensor:
        """See `ExportedFrames`."""
        return turned(rows, self.axes[c], towards)

    @staticmethod
    def ndtr(x: Tensor) -> Tensor:
        """The standard normal distribution function of x (...) float64, to 1e-14."""
        far = x.abs().clamp(max=7.07)
        tail = torch.exp(-far * far / 2) * _quotient(HART, far)
        return torch.where(x > 0, 1 - tail, tail)


def chi_share(d: int, radius: Tensor) -> Tensor:
    """P(d / 2, r^2 / 2), the probability (n,) that a standard normal vector of `d` dimensions is shorter than r (n,).

    By the recursion P(a + 1, x) = P(a, x) - x^a e^-x / Gamma(a + 1) (DLMF 8.8.5).
    """
    x = radius * radius / 2
    if d % 2:
        share, a = torch.erf(x.sqrt().float()).double(), 0.5  # onnxruntime has it of float32 alone
    else:
        share, a = 1 - torch.exp(-x), 1.0
    while a < d / 2:
        share = share - torch.exp(a * torch.log(x.clamp(min=LEAST)) - x - math.lgamma(a + 1))
        a += 1
    return share


def normal_quantile(p: Tensor) -> Tensor:
    """The standard normal quantile of probabilities (n,) float64, held to 1e-9 from 0 and 1 (Acklam 2003)."""
    p = p.clamp(1e-9, 1 - 1e-9)
    q = p - 0.5
    central = q * _quotient(CENTRAL, q * q)
    tail = _quotient(TAIL, torch.sqrt(-2 * torch.log(torch.minimum(p, 1 - p))))
    return torch.where(q.abs() <= 0.5 - SPLIT, central, torch.where(q < 0, tail, -tail))


def _quotient(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Tensor) -> Tensor:
    numerator, denominator = (_polynomial(of, x) for of in coefficients)
    return numerator / denominator


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """By Horner's rule, the highest power first."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
