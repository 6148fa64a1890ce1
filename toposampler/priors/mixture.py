"""Where c comes from: the learned prior r(c) and the ways to draw from it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from toposampler.priors.streams import Source, integers, of_runs, uniform

Draw = Literal["systematic", "random", "equal"]


class MixturePrior(nn.Module):
    """r(c) = softmax(zeta), uniform at first (Khayatkhoei et al. 2018)."""

    def __init__(self, n_generators: int) -> None:
        super().__init__()
        self.zeta = nn.Parameter(torch.zeros(n_generators))

    def log_probabilities(self) -> Tensor:
        """ln r: (K,)."""
        return self.zeta.log_softmax(dim=-1)

    def probabilities(self) -> Tensor:
        """r: (K,), without gradient."""
        return self.log_probabilities().detach().exp()


def draw_generators(probabilities: Tensor, size: tuple[int, int], draw: Draw, rng: Source) -> Tensor:
    """Generator ids (batches, n) int64 on the CPU from probabilities (K,), each row a batch of its own; of P runs that
    draw together (P, batches, n), from (P, K).

    `random` draws each id by itself, as the papers do. Others take the n quantiles (u + i) / n of a batch with one
    u ~ U(0, 1), systematic sampling: every count is within 1 of n p_k and right in the mean, so that the batch carries
    none of the noise of multinomial counts, and rows are sorted. Of one generator nothing is drawn.
    Waits for a GPU that the probabilities are on.
    """
    batches, n = size
    probabilities = probabilities.expand(of_runs((probabilities.shape[-1],), rng))
    if probabilities.shape[-1] == 1:
        return torch.zeros(of_runs(size, rng), dtype=torch.long)
    if draw == "random":
        odds = probabilities.nan_to_num(1.0)  # NaN is reported by the loop's guard, and multinomial would raise
        if isinstance(rng, torch.Generator):
            return torch.multinomial(odds, batches * n, replacement=True, generator=rng).view(size).cpu()
        return torch.stack(
            [draw_generators(own, size, draw, one) for own, one in zip(odds, rng.generators, strict=True)]
        )
    offset = uniform((batches, 1), rng, probabilities.dtype)
    below_one = 1 - torch.finfo(offset.dtype).eps
    quantiles = ((offset + torch.arange(n, device=rng.device)) / n).clamp_(max=below_one)
    cumulative = probabilities.cumsum(-1)
    cumulative = cumulative / cumulative[..., -1:]  # rounded sums need not end at 1
    ids = torch.searchsorted(cumulative, quantiles.flatten(-2), right=True).view(quantiles.shape)
    return ids.clamp_(max=probabilities.shape[-1] - 1).cpu()  # of NaN, which the guard reports: no index may be wrong


def weights_of(c: Tensor, probabilities: Tensor) -> Tensor:
    """K r(c) of samples whose generators c (batches, n) were not drawn from r (K,), on the device of r; of P runs
    (P, batches, n) and (P, K)."""
    c = c.to(probabilities.device, non_blocking=True)
    K = probabilities.shape[-1]
    return K * probabilities.expand(*c.shape[:-2], K).gather(-1, c.flatten(-2)).view(c.shape)


def share_out(n_generators: int, size: tuple[int, int], rng: Source) -> Tensor:
    """Generator ids (batches, n) int64 on the CPU, each row sorted, with n / K of every generator; of P runs that draw
    together (P, batches, n).

    Where K does not divide n, counts are within 1 of that and right in the mean; else nothing is drawn, and a GPU is
    not waited for.
    """
    batches, n = size
    offset = torch.zeros(of_runs((batches, 1), rng), dtype=torch.long)
    if n % n_generators:
        offset = integers(n_generators, (batches, 1), rng).cpu()
    return (torch.arange(n) * n_generators + offset) // n
