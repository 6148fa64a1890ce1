"""Augmentation of a run: what is drawn for every image, and the probability that adapts to the critic."""

from __future__ import annotations

import torch
from torch import Tensor

from toposampler.config import AugmentationConfig
from toposampler.errors import UserError
from toposampler.nn.augmentation import augment, draw_parameters
from toposampler.systems import System
from toposampler.systems.batch import Noise

NAME = "augmentation"
"""of the parameters in a batch's noise: (n, 2, 9), for the real and for the generated image of each row"""
REAL, FAKE = 0, 1
MOST = 0.8
"""largest probability that adaptation goes to: beyond it a generator may learn the transformations (ADA, figure 6)"""


def is_on(config: AugmentationConfig) -> bool:
    """Whether images are augmented at all."""
    return config.adaptive or config.probability > 0


def check_augmentation(config: AugmentationConfig, shape: tuple[int, ...]) -> None:
    """Raises UserError if samples of `shape` cannot be augmented as is asked for."""
    if is_on(config) and len(shape) != 3:
        raise UserError(
            f"training.augmentation is for images (C, H, W), and these samples have the shape {shape}: leave "
            "training.augmentation.probability and adaptive out"
        )


class Augmentation:
    """The probability p, and the transformations of a run's images.

    From now on `system.generate` augments what it makes of noise that holds parameters, which only training draws: each
    loss that a system declares is given augmented images, real and generated ones alike.

    Raises UserError if the system cannot be trained so.
    """

    def __init__(self, config: AugmentationConfig, system: System, device: torch.device) -> None:
        name = system.config.name
        check_augmentation(config, system.shape)
        if not system.augments:
            raise UserError(
                f"training.augmentation: system.name {name} has its generator reconstruct real images, and would learn "
                "to make augmented ones: leave training.augmentation out"
            )
        if config.adaptive and not system.scores_samples:
            raise UserError(
                f"training.augmentation.adaptive true asks the critic for scores of single samples, and that of "
                f"system.name {name} evaluates something else: give training.augmentation.probability alone"
            )
        self.config, self.shape = config, system.shape
        self.p = torch.full((), config.probability, device=device)
        """the probability of each transformation, on the device"""
        generate = system.generate

        def augmented(noise: Noise) -> Tensor:
            x = generate(noise)
            return x if NAME not in noise else augment(x, noise[NAME][:, FAKE])

        system.generate = augmented  # type: ignore[method-assign]

    def draw(self, batches: int, n: int, grown: float, rng: torch.Generator) -> Tensor:
        """Parameters (batches, n, 2, 9) where the share `grown` of the burn-in is done."""
        p = self.p if self.config.adaptive else self.p * grown
        return draw_parameters((batches, n, 2), self.shape, p, self.config.kinds, rng)

    def is_due(self, step: int) -> bool:
        """Whether p adapts after the iteration that follows generator step `step`."""
        return self.config.adaptive and step % self.config.every == 0

    def adapt(self, sign: Tensor, n: int) -> None:
        """Move p by the mean `sign` () of D(real) - D(fake) over the pairs of a batch of n."""
        step = n * self.config.every / self.config.images
        self.p.add_(step * torch.sign(sign.to(self.p.dtype) - self.config.target)).clamp_(0, MOST)


def real_augmented(real: Tensor, noise: Noise) -> Tensor:
    """Real images (n, C, H, W), augmented where `noise` has parameters for them."""
    return real if NAME not in noise else augment(real, noise[NAME][:, REAL])


def pair_sign(system: System, real: Tensor, fake: Tensor) -> Tensor:
    """The sign of D(real) - D(fake) of each pair: (n,)."""
    scores = system.critic(torch.cat([real, fake])).detach()
    return torch.sign(scores[: len(real)] - scores[len(real) :])
