"""What a player's loss is given: this worker's rows of a global batch, and the expectations over all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from toposampler.losses.reduction import expectation

Noise = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """This worker's n rows of the global batch of one step."""

    real: Tensor
    """(n, *shape): samples of the data"""
    noise: Noise
    """tensors (n, ...): all that is random in the step, by name, as drawn by `System.draw`"""
    fake: Tensor | None
    """(n, *shape): generated from `noise` without gradient, for critics; None for all other players"""
    step: int
    """generator steps done"""
    total_steps: int
    """generator steps of the whole run"""
    equal_share: float | None = None
    """rows of the global batch divided by the number of workers; None: n, as every worker has as many"""
    gather: Callable[[Tensor], Tensor] = lambda x: x
    """this worker's rows (n, ...) to those of the global batch, with gradient, for losses that are no mean over
    samples: their value must not depend on the number of workers"""
    labels: Tensor | None = None
    """(n,) int64: the components of `real`, for a system that `uses_labels`"""
    constants: Mapping[str, float | Tensor] | None = None
    """numbers of the losses by their keys, in place of the configuration's: in a population tensors (), the member's"""

    def constant(self, key: str, own: float) -> float | Tensor:
        """The number that a loss takes for the system's dotted `key`: `own`, unless `constants` has another."""
        return own if self.constants is None else self.constants.get(key, own)

    def fakes(self) -> Tensor:
        """`fake`, for losses that are only ever given a batch with fakes."""
        if self.fake is None:
            raise ValueError("this batch has no fakes: only the critic's batches do")
        return self.fake

    @property
    def weights(self) -> Tensor | None:
        """(n,): what each row counts in this worker's part of a mean over the global batch; None: 1 / n.

        The mean of the workers' parts is the mean over the batch, however unequal their shares; gradients follow.
        """
        return None if self.equal_share is None else self.real.new_full((len(self.real),), 1 / self.equal_share)

    @property
    def fake_weights(self) -> Tensor | None:
        """(n,): as `weights`, of generated samples in expectations over c ~ r(c), whatever c was drawn from."""
        weight = self.noise.get("weight")
        return self.weights if weight is None else weight / (self.equal_share or len(weight))

    def mean(self, values: Tensor) -> Tensor:
        """This worker's part of the mean over the global batch: values (n, ...) of its rows to (...)."""
        return expectation(values, self.weights)

    def expectation(self, values: Tensor) -> Tensor:
        """As `mean`, of values (n,) of generated samples, over c ~ r(c)."""
        return expectation(values, self.fake_weights)

    def weighted(self, values: Tensor) -> Tensor:
        """values (n,) of generated samples, each times its importance in an expectation over c ~ r(c)."""
        weight = self.noise.get("weight")
        return values if weight is None else weight * values
