"""Where c comes from: the learned prior r(c) and the ways to draw from it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Draw = Literal["systematic", "random", "equal"]


class MixturePrior(nn.Module):
    """r(c) = softmax(zeta), uniform at first (Khayatkhoei et al. 2018)."""

    def __init__(self, n_generators: int) -> None:
        super().__init__()
        self.zeta = nn.Parameter(torch.zeros(n_generators))

    def log_probabilities(self) -> Tensor:
        """ln r: (K,)."""
        return self.zeta.log_softmax(dim=0)

    def probabilities(self) -> Tensor:
        """r: (K,), without gradient."""
        return self.log_probabilities().detach().exp()


def draw_generators(probabilities: Tensor, size: tuple[int, int], draw: Draw, rng: torch.Generator) -> Tensor:
    """Generator ids (batches, n) int64 on the CPU from probabilities (K,), each row a batch of its own.

    `random` draws each id by itself, as the papers do. Others take the n quantiles (u + i) / n of a batch with one
    u ~ U(0, 1), systematic sampling: every count is within 1 of n p_k and right in the mean, so that the batch carries
    none of the noise of multinomial counts, and rows are sorted. Of one generator nothing is drawn.
    Waits for a GPU that the probabilities are on.
    """
    batches, n = size
    if len(probabilities) == 1:
        return torch.zeros(size, dtype=torch.long)
    if draw == "random":
        odds = probabilities.nan_to_num(1.0)  # NaN is reported by the loop's guard, and multinomial would raise
        ids = torch.multinomial(odds, batches * n, replacement=True, generator=rng)
        return ids.view(batches, n).cpu()
    offset = torch.rand((batches, 1), generator=rng, device=rng.device, dtype=probabilities.dtype)
    below_one = 1 - torch.finfo(offset.dtype).eps
    quantiles = ((offset + torch.arange(n, device=rng.device)) / n).clamp_(max=below_one)
    cumulative = probabilities.cumsum(0)
    ids = torch.searchsorted(cumulative / cumulative[-1], quantiles, right=True)  # rounded sums need not end at 1
    return ids.clamp_(max=len(probabilities) - 1).cpu()  # of NaN, which the loop's guard reports: no index may be wrong


def share_out(n_generators: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Generator ids (batches, n) int64 on the CPU, each row sorted, with n / K of every generator.

    Where K does not divide n, counts are within 1 of that and right in the mean; else nothing is drawn, and a GPU is
    not waited for.
    """
    batches, n = size
    offset = torch.zeros(batches, 1, dtype=torch.long)
    if n % n_generators:
        offset = torch.randint(n_generators, (batches, 1), generator=rng, device=rng.device).cpu()
    return (torch.arange(n) * n_generators + offset) // n
