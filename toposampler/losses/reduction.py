"""Expectations over a batch, weighted where samples do not count alike."""

from __future__ import annotations

from torch import Tensor

Terms = dict[str, Tensor]
"""scalar terms of a loss by name; their sum is minimized"""


def expectation(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """sum_i w_i v_i: values (n, ...) to (...), weights (n,); None: the mean, w_i = 1 / n.

    Not written as a matrix product, which autocast would round to bf16.
    """
    if weights is None:
        return values.mean(dim=0)
    return (weights.view(-1, *(1,) * (values.dim() - 1)) * values).sum(dim=0)
