"""Metrics of images through the features of a network, alike for any network: its name stands in theirs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from toposampler.metrics.frechet import frechet_distance
from toposampler.metrics.kernel import cmmd_form, kid
from toposampler.metrics.prdc import precision_recall_density_coverage

N_KERNEL = 2000
"""images of each cloud, or fewer, for the distances by kernels, whose costs grow as n^2"""


class FeatureNetwork(Protocol):
    """A network that images are seen through."""

    name: str
    """as metrics have it"""

    def features(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] to (n, d) float32."""
        ...


def feature_metrics(name: str, x: Tensor, real: Tensor) -> dict[str, float]:
    """Metrics of the features x (n, d) of samples against real (m, d) of real images, by the network `name`.

    `fd_NAME_n`, squared Frechet distance; `kid_NAME_m`, `cmmd_form_NAME_m`, distances by kernels of the first m;
    precision, recall, density and coverage. Of `inception` the first two are the FID and the KID, and are called so.
    """
    n, m = len(x), min(len(x), len(real), N_KERNEL)
    fd, kernel = ("fid", "kid") if name == "inception" else (f"fd_{name}", f"kid_{name}")
    return {
        f"{fd}_{n}": frechet_distance(x, real),
        f"{kernel}_{m}": kid(x[:m], real[:m]),
        f"cmmd_form_{name}_{m}": cmmd_form(x[:m], real[:m]),
        **{f"{metric}_{name}": value for metric, value in precision_recall_density_coverage(x, real).items()},
    }
