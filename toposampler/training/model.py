"""Trained models: found by a path, loaded without running code, sampled."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.systems import System
from toposampler.training.checkpoint import newest_checkpoint, read_checkpoint
from toposampler.training.config import RunConfig
from toposampler.training.sampling import draw_samples


class Model:
    """A trained system and the configuration it was trained with.

    Args:
        config: of the run.
        system: with the weights to sample from, on the device to sample on.
        step: generator steps it was trained for.
        shape: of one sample.
    """

    def __init__(self, config: RunConfig, system: System, step: int, shape: tuple[int, ...]) -> None:
        self.config, self.system, self.step, self.shape = config, system, step, shape

    def sample(self, n: int, seed: int = 0, generator: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples (n, *shape) and the generators (n,) that made them; the same for the same seed.

        `generator` in [0, K) asks one generator alone; None draws them from the learned prior. Raises as `check`.
        """
        self.check(n, seed, generator)
        return draw_samples(self.system, n, seed, generator)

    def check(self, n: int, seed: int, generator: int | None) -> None:
        """Raise UserError if n is not positive, the seed no 63-bit number, or there is no such generator."""
        if n < 1:
            raise UserError(f"the number of samples must be at least 1, got {n}")
        if not 0 <= seed < 2**63:
            raise UserError(f"the seed must be at least 0 and less than 2**63, got {seed}")
        if generator is not None and not 0 <= generator < self.system.K:
            raise UserError(f"there is no generator {generator}: this model has generators 0 to {self.system.K - 1}")


def load_model(place: str | Path, ema: bool = True, device: torch.device | str = "cpu") -> Model:
    """The model in a run folder (its newest checkpoint) or a checkpoint file.

    Args:
        place: run folder or checkpoint.
        ema: sample from the moving average of the generators' weights; False: from the weights themselves.
        device: where to sample.

    Raises UserError if there is no model at `place`, or it cannot be read.
    """
    path = Path(place)
    if path.is_dir():
        newest = newest_checkpoint(path / "checkpoints")
        if newest is None:
            raise UserError(f"{path} is not a run folder with a checkpoint: {path / 'checkpoints'} holds none")
        path = newest
    state = read_checkpoint(path)
    config = validate(RunConfig, state["config"])
    loop = state["loop"]
    shape = tuple(state["shape"])
    system = config.system.build(shape).to(loop["average"].dtype)
    system.load_state_dict(loop["system"])
    if ema:
        averaged = [p for name in system.averaged for p in system.get_submodule(name).parameters()]
        vector_to_parameters(loop["average"], averaged)
    return Model(config, system.to(device).requires_grad_(False), loop["step"], shape)
