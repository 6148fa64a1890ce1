"""The operations that a run's networks take, counted on two samples, and what share of a card's peak a speed is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from toposampler.systems import System, SystemConfig

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12}
"""dense bf16 products, in operations a second, from NVIDIA's data sheets, by a part of the card's name"""


def is_counted(config: SystemConfig) -> bool:
    """Whether the game is the one whose passes are counted: pairs, with exact penalties at both samples."""
    return getattr(config, "adversarial", None) == "relativistic" and config.n_directions == 0


def operations(system: System, critic_steps: int = 1) -> float:
    """Operations (products and sums) of the networks for one real sample that the critic is trained on.

    A critic step has the generator's pass, and the critic's of one real and one generated sample; one of `critic_steps`
    of them is followed by a generator step, which has both networks once more, and the critic of the real sample. A
    backward pass costs two forward passes, and an exact penalty one more forward and backward of the critic. What other
    players do is not counted.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        noise = {key: x[0] for key, x in system.draw(1, 2, torch.Generator().manual_seed(0)).items()}
        generator = _counted(lambda: system.generate(noise))
        critic = _counted(lambda: system.score_noise(noise)) - generator
    critic_step = generator + 2 * critic * (3 + 3)
    generator_step = 3 * generator + (1 + 3) * critic
    return critic_step + generator_step / critic_steps


def share_of_peak(system: System, samples_per_s: float, hardware: str) -> float | None:
    """Operations a second over the bf16 peak of the card `hardware`; None: its peak is not known."""
    peak = next((value for part, value in PEAKS.items() if part in hardware), None)
    return None if peak is None else samples_per_s * operations(system) / peak


def _counted(action: Callable[[], Tensor]) -> float:
    """Operations of `action`, which makes or evaluates two samples, for one."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 2
