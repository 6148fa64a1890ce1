"""How far apart two discrete distributions are."""

from __future__ import annotations

from torch import Tensor


def jsd(p: Tensor, q: Tensor) -> float:
    """Jensen-Shannon divergence (Lin 1991) in nats, from 0 to ln 2, of masses p and q (M,), each of sum 1.

    JSD = KL(p, m) / 2 + KL(q, m) / 2 with m = (p + q) / 2.
    """
    m = (p + q) / 2
    divergence = (p.xlogy(p) + q.xlogy(q)) / 2 - m.xlogy(m)
    return float(divergence.sum().clamp(min=0))  # rounding can leave -1e-17


def total_variation(p: Tensor, q: Tensor) -> float:
    """Largest difference the masses p and q (M,) give to one event, from 0 to 1: sum |p - q| / 2."""
    return float((p - q).abs().sum() / 2)
