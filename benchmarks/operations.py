"""The operations that training an image takes, and what share of a card's peak a speed is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from toposampler.training import RunConfig

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12}
"""dense bf16 products, in operations a second, from NVIDIA's data sheets, by a part of the card's name"""


def share_of_peak(config: RunConfig, shape: tuple[int, ...], images_per_s: float, hardware: str) -> float | None:
    """Operations a second over the bf16 peak of the card `hardware`; None: its peak is not known."""
    peak = next((value for part, value in PEAKS.items() if part in hardware), None)
    return None if peak is None else images_per_s * operations(config, shape) / peak


def operations(config: RunConfig, shape: tuple[int, ...]) -> float:
    """Operations (products and sums) of the networks for one image that is trained on.

    A critic step has a critic of one real and one generated image, and the generator's pass; a generator step has both
    networks once more, and the critic of the real image. A backward pass costs two forward passes, and a penalty's
    second derivative one more forward and backward of the critic.
    """
    system = config.system.build(shape)
    with torch.no_grad():
        noise = {key: x[0] for key, x in system.draw(1, 2, torch.Generator().manual_seed(0)).items()}
        generator = _counted(lambda: system.generate(noise))
        critic = _counted(lambda: system.judge(noise)) - generator
    critic_step = generator + 2 * critic * (3 + 3)
    generator_step = 3 * generator + (1 + 3) * critic
    return critic_step + generator_step


def _counted(action: Callable[[], Tensor]) -> float:
    """Operations of `action`, which makes or judges two images, for one."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 2
