"""Samples against real points by their shape: how their pieces merge as the scale grows, and the loops in between."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import torch
from torch import Tensor


def diagram0_w1(x: Tensor, y: Tensor) -> float:
    """1-Wasserstein distance, in data units, of the 0-dimensional persistence diagrams of x (n, d) and y (m, d).

    Each of the n - 1 bars starts at 0: to match bars of lengths a and b costs |a - b|, to leave one unmatched half its
    length (the maximum norm to the diagonal). Bars are matched in order, so the optimum is that of an alignment.
    gudhi's hera, which is general, crashes on bars of length 0 and does not return on nearly equal diagrams.
    """
    from toposampler.topology import deaths  # here, as numba takes half a second

    a, b = (deaths(points.double()).cpu().numpy() for points in (x, y))
    unmatched = np.concatenate(([0.0], np.cumsum(b) / 2))
    cost = unmatched  # of no bar of x and the first 0, 1, ... of y; then of ever more of x
    for length in a:
        skipped, matched = cost + length / 2, cost[:-1] + abs(length - b)
        cost = np.minimum(skipped, np.concatenate(([np.inf], matched)))
        cost = unmatched + np.minimum.accumulate(cost - unmatched)  # the last of y may be unmatched too
    return float(cost[-1])


def mtop_div(x: Tensor, y: Tensor, batch: int, repeats: int) -> float:
    """MTop-Divergence, in data units, of x (n, d) and y (m, d), both in random order (arXiv 2106.04024).

    The mean of MTop-Div(x, y) and MTop-Div(y, x), as the authors advise for generative models, each the mean over the
    first `repeats` batches of `batch` points of one cloud against all of the other. A last batch that is not full does
    not count, as its sum is less, unless there is no other.
    """
    full = [[P for P in some.split(batch)[:repeats] if len(P) == min(batch, len(some))] for some in (x, y)]
    return fmean(cross_barcode1(P, Q) for batches, Q in zip(full, (y, x), strict=True) for P in batches)


def cross_barcode1(P: Tensor, Q: Tensor) -> float:
    """Total length, in data units, of the bars of Cross-Barcode_1(P, Q), P (n, d) and Q (m, d): MTop-Div(P, Q).

    These are the 1-dimensional bars of the Rips filtration of P and Q together in which the points of Q are at distance
    0 from each other. Q is then one simplex from the start, and all edges from a p to it are one up to homology, so Q
    may be one vertex *: the edge p* is born at the distance from p to Q, the triangle pp'* when some q is near both.
    That leaves n + 1 vertices of n + m, and the same bars. From the scale on at which pp'* is there for every edge pp'
    that is, the complex is a cone over *, and has no loops: of what is born later nothing is needed.
    """
    import gudhi

    n = len(P)
    P, Q = P.double(), Q.double()
    within = torch.cdist(P, P, compute_mode="donot_use_mm_for_euclid_dist")  # its diagonal must be 0
    to_Q = torch.cdist(P, Q)
    near_both = torch.zeros(n, n, dtype=torch.float64)
    for i, row in enumerate(to_Q):
        near_both[i, i:] = near_both[i:, i] = torch.maximum(row, to_Q[i:]).amin(dim=1)
    cone = float(torch.where(near_both > within, near_both, 0).max())
    edges = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    edges[:n, :n] = within
    edges[n, :n] = edges[:n, n] = near_both.diagonal()
    simplices = gudhi.SimplexTree.create_from_array(edges.numpy(), max_filtration=cone)
    simplices.expansion(2)
    pairs = (within <= cone).triu(diagonal=1).nonzero()
    births = torch.maximum(within, near_both)[*pairs.T]
    for (i, j), birth in zip(pairs.tolist(), births.tolist(), strict=True):
        simplices.assign_filtration([i, j, n], birth)
    simplices.compute_persistence()
    bars = simplices.persistence_intervals_in_dimension(1)
    return float((bars[:, 1] - bars[:, 0]).sum())
