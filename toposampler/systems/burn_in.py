"""The burn-in of a run, within which constants go to their final values (R3GAN, Huang et al. 2024, arXiv 2501.05441).

Early on the critic is far from its optimum and the samples change quickly: R3GAN then takes a short memory of Adam and
a large gradient penalty, and brings both, and the learning rate, to what is best near the end along half a cosine.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from toposampler.config import Section, flatten
from toposampler.schedules import Schedule, remaining

FINALS = ("final_learning_rate", "final_beta2", "final_weight")
"""keys of the sections below, of an optimizer and of a penalty, that name the value at the end of the burn-in"""


class BurnInConfig(Section):
    """The key of the burn-in, for a system's section to inherit."""

    burn_in: int = Field(0, ge=0, le=10**9)
    """generator steps within which learning rates, Adam's beta2 and the penalty's weight reach the final values that
    are given for them, and the half-life of the moving average grows from 0 to that of training.ema_decay, all along
    half a cosine; 0: final values are reached at the end of the run, and the moving average has its usual start"""

    def span(self, total_steps: int) -> int:
        """The generator steps, of a run of `total_steps`, within which constants reach their final values."""
        return self.burn_in or total_steps

    def remaining(self, step: int, total_steps: int) -> float:
        """How much is left, after `step` generator steps, of the way to the final values: 1 at first, 0 at the end."""
        return remaining(step, self.span(total_steps))

    def schedules(self, steps: int) -> Iterator[Schedule]:
        """The final values: without a burn-in they depend on the length of the run."""
        yield from super().schedules(steps)
        if self.burn_in > steps:
            fault = f"longer than the run of training.generator_steps {steps:,}; right would be {steps:,} or less"
            yield Schedule("burn_in", self.burn_in, fault=fault)
        for key, value in flatten(self.model_dump()).items():
            section, _, name = key.rpartition(".")
            if name not in FINALS or value is None:
                continue
            initial = flatten(self.model_dump())[f"{section}.{_initial(name)}"]
            initial = initial[1] if name == "final_beta2" else initial
            if value != initial:
                yield Schedule(key, value, follows_length_from=None if self.burn_in else 0.0)


def _initial(final: str) -> str:
    """The key of the value at the start that belongs to the key `final`."""
    return "betas" if final == "final_beta2" else final.removeprefix("final_")
