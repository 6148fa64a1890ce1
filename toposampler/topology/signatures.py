"""Losses that compare 0-dimensional persistence: of unpaired clouds by their deaths, of paired ones edge by edge."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from toposampler.topology.cpu_losses import loss_in_one_node, paired_loss_on_host
from toposampler.topology.edge_lengths import deaths, edge_lengths
from toposampler.topology.points import as_points
from toposampler.topology.tree import spanning_tree


def signature_loss(x: Tensor, y: Tensor, longest: int | None = None, strict: bool = True) -> Tensor:
    """Squared 2-Wasserstein distance between the distributions of deaths of points x (n, d) and y (m, e): a scalar.

    The deaths d_1 <= ... <= d_{n-1} weigh 1/(n-1) each. Of equal numbers it is the mean of the squared differences of
    the sorted lists (the unpaired variant of Moor et al. 2020); of unequal numbers the integral over u in (0, 1) of
    the squared difference of the quantile functions. In squared units of length; clouds of different scale or
    dimension are comparable only as far as the caller scales them.

    Args:
        x, y: gradient flows into each that requires it.
        longest: compare only so many of the longest bars of each, those that separate.
        strict: False: NaN, and no error, where coordinates are NaN or infinite, for the caller to find later.

    Raises:
        ValueError: as `spanning_tree`, or a cloud has fewer bars than `longest`.
    """
    for name, cloud in (("x", x), ("y", y)):
        _check_single(name, cloud)
        if longest is not None and not 1 <= longest < len(cloud):
            raise ValueError(f"longest is {longest}, but the {len(cloud)} points of {name} have {len(cloud) - 1} bars")
    x, y = as_points(x), as_points(y)
    if _on_host(x, y) or (x.is_cuda and x.device == y.device and x.dtype == y.dtype):
        return loss_in_one_node(x, y, longest, strict)
    if not strict and not (x.isfinite().all() and y.isfinite().all()):
        return x.sum() * torch.nan
    a, b = deaths(x), deaths(y)
    if longest is not None:
        a, b = a[-longest:], b[-longest:]
    if len(a) == len(b):
        return F.mse_loss(a, b)
    i, j, mass = _transport(len(a), len(b), a.device)
    return ((a.index_select(0, i) - b.index_select(0, j)).square() * mass.to(a.dtype)).sum()


def paired_signature_loss(x: Tensor, z: Tensor) -> Tensor:
    """(|A_X[p_X] - A_Z[p_X]|^2 + |A_Z[p_Z] - A_X[p_Z]|^2) / n for paired points x (n, d), z (n, e): a scalar.

    The symmetric loss of Moor et al. 2020 (Topological Autoencoders, arXiv 1906.00722, equations 1 to 4): A are
    distances, p the edges of the minimum spanning trees. Distances are taken as they are: the caller scales.

    Raises:
        ValueError: as `spanning_tree`, or the numbers of points differ.
    """
    _check_single("x", x)
    _check_single("z", z)
    if len(x) != len(z):
        raise ValueError(f"expected paired points, got {len(x)} of x and {len(z)} of z")
    x, z = as_points(x), as_points(z)
    if _on_host(x, z):
        return paired_loss_on_host(x, z)
    edges = torch.cat([spanning_tree(x), spanning_tree(z)])
    return F.mse_loss(edge_lengths(x, edges), edge_lengths(z, edges), reduction="sum") / len(x)


def _on_host(x: Tensor, y: Tensor) -> bool:
    return x.device.type == y.device.type == "cpu" and x.dtype == y.dtype


def _check_single(name: str, cloud: Tensor) -> None:
    if cloud.dim() != 2:
        raise ValueError(f"expected one cloud (n, d) as {name}, got shape {tuple(cloud.shape)}")


def _transport(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The monotone transport of n equal masses to m: from which, to which, how much (their sum is 1)."""
    steps = torch.arange(n + 1, device=device) * m, torch.arange(m + 1, device=device) * n  # in units of 1/(n m)
    cuts = torch.cat(steps).unique()
    return cuts[:-1] // m, cuts[:-1] // n, cuts.diff().double() / (n * m)
