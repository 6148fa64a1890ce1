"""The contract of a rejection sampler: it proposes noise, keeps a part of it, and says what that cost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from toposampler.errors import UserError
from toposampler.systems.batch import Noise
from toposampler.training.model import Model
from toposampler.training.sampling import AT_ONCE, BLOCK, block_seed, draw_shuffled, pieces

BATCH = 4096
"""most proposals in one round; networks get images in smaller pieces"""
LEAST_RATE = 1e-3
"""acceptance rate below which drawing is given up"""
PATIENCE = 100_000
"""proposals before a rate is scored"""


@dataclass(frozen=True)
class Cost:
    """What accepted samples cost."""

    samples: int = 0
    proposed: int = 0
    """proposals up to the last one accepted"""
    forward_passes: int = 0
    """samples' worth of passes through a generator, surplus proposals and a first calibration included"""
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.samples + other.samples,
            self.proposed + other.proposed,
            self.forward_passes + other.forward_passes,
            self.seconds + other.seconds,
        )

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of the proposals."""
        return self.samples / self.proposed

    def __str__(self) -> str:
        return (
            f"{self.acceptance_rate:.1%} of {self.proposed:,} proposals accepted; an accepted sample took "
            f"{self.forward_passes / self.samples:.1f} generator passes, {1e6 * self.seconds / self.samples:.0f} us"
        )


@dataclass(frozen=True)
class Drawn:
    """Accepted samples and their cost."""

    samples: Tensor
    """(n, *shape) in the user's units, on the model's device"""
    ids: Tensor
    """(n,) int64 on the CPU: the generators that made them"""
    cost: Cost


class Rejection(ABC):
    """Base of every sampler around a trained model.

    Args:
        model: stays as it is.
    """

    name: str
    keeps_prior: bool
    """generators are drawn from r(c) first and each is asked until it has delivered; False: c is proposed with z"""
    passes: int
    """passes through a generator that scoring one proposal takes"""

    def __init__(self, model: Model) -> None:
        self.model, self.system = model, model.system
        self.device = next(model.system.parameters()).device
        self.at_once = AT_ONCE if len(model.shape) == 3 else BATCH  # points take little memory, and small pieces time

    @abstractmethod
    def accept(self, noise: Noise, rng: torch.Generator) -> Tensor:
        """Which of the proposals in `noise`, tensors (n, ...), are kept: (n,) bool on the CPU."""

    def calibrate(self, generator: int | None) -> int:
        """Do once what must precede proposals of `generator`; the passes that took."""
        return 0

    def refine(self, noise: Noise) -> Noise:
        """The accepted noise as it goes through the generators."""
        return noise

    @torch.no_grad()
    def draw(self, n: int, seed: int = 0, generator: int | None = None) -> Drawn:
        """`n` accepted samples, the same for the same seed. `generator` asks one generator alone; None: as r(c) says.

        Raises UserError if n is not positive, there is no such generator, or fewer than `LEAST_RATE` of the proposals
        are accepted.
        """
        if n < 1:
            raise UserError(f"the number of samples must be at least 1, got {n}")
        if generator is not None and not 0 <= generator < self.system.K:
            raise UserError(f"there is no generator {generator}: this model has generators 0 to {self.system.K - 1}")
        begun = time.perf_counter()
        rng = torch.Generator(self.device).manual_seed(seed)
        if generator is not None or not self.keeps_prior:
            samples, ids, proposed, passes = self._accepted(n, generator, rng)
            return Drawn(samples, ids, Cost(n, proposed, passes, time.perf_counter() - begun))
        ids = self.system.draw_generators(1, n, rng, training=False)[0]
        ids = ids[torch.randperm(n, generator=rng, device=rng.device).to(ids.device)]  # systematic ones are sorted
        parts, proposed, passes = [], 0, 0
        for c, count in enumerate(torch.bincount(ids).tolist()):
            if count:
                part, _, more_proposed, more_passes = self._accepted(count, c, rng)
                parts.append(part)
                proposed, passes = proposed + more_proposed, passes + more_passes
        places = ids.argsort(stable=True).argsort().to(self.device)  # parts are in the order of the generators
        return Drawn(torch.cat(parts)[places], ids, Cost(n, proposed, passes, time.perf_counter() - begun))

    def sample(self, n: int, seed: int = 0, generator: int | None = None) -> tuple[Tensor, Tensor]:
        """Accepted samples (n, *shape) and the generators (n,) that made them, in blocks as `Model.sample` draws them.

        Raises UserError as `draw`, or if the seed is no 63-bit number.
        """
        self.model.check(n, seed, generator)
        starts = range(0, n, BLOCK)
        blocks = [self.draw(min(BLOCK, n - i), block_seed(seed, i // BLOCK), generator) for i in starts]
        return torch.cat([block.samples for block in blocks]), torch.cat([block.ids for block in blocks])

    def propose(self, n: int, generator: int | None, rng: torch.Generator) -> Noise:
        """Noise for `n` samples: tensors (n, ...)."""
        if generator is None:
            return draw_shuffled(self.system, n, rng)  # as the first that are accepted are taken
        noise = {name: x[0] for name, x in self.system.draw(1, n, rng).items()}
        return {**noise, "c": torch.full_like(noise["c"], generator)}

    def _accepted(self, n: int, generator: int | None, rng: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
        """Samples (n, *shape), ids (n,), proposals up to the n-th accepted one, and passes."""
        samples, ids = [], []
        accepted, proposed, passes = 0, 0, self.calibrate(generator)
        while accepted < n:
            if proposed >= PATIENCE and accepted < LEAST_RATE * proposed:
                of = "" if generator is None else f" of generator {generator}"
                raise UserError(
                    f"rejection {self.name} accepted {accepted} of {proposed:,} proposals{of}, less than "
                    f"{LEAST_RATE:.1%}: {n:,} samples would not come to an end"
                )
            noise = self.propose(min(BATCH, max(64, 2 * (n - accepted))), generator, rng)
            rows = self.accept(noise, rng).nonzero()[: n - accepted, 0]
            passes += self.passes * len(noise["c"]) + len(rows)
            accepted += len(rows)
            proposed += len(noise["c"]) if accepted < n else int(rows[-1]) + 1
            kept = self.refine({name: x[rows.to(x.device)] for name, x in noise.items()})
            samples += [self.model.to_units(self.system.generate(piece)) for piece in pieces(kept, self.at_once)]
            ids.append(kept["c"])
        return torch.cat(samples), torch.cat(ids), proposed, passes
