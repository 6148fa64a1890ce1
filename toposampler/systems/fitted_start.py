"""An option of the papers' systems: generators that start on the components of the data. This project's own.

The components are found as `component_gan` finds them, and generator k starts on component k mod F of the F found. Its
last layer is fitted: for hidden values h of mean mu and covariance U L U' over the latents, and a component of mean m
and covariance V S^2 V',

    x = m + V S L^(-1/2) U' (h - mu),    U, L the largest eigenvalues, as many as x has dimensions,

so that its samples have the component's mean and covariance. What the generators do from there on is the papers' game.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from toposampler.config import Section
from toposampler.data.base import Dataset
from toposampler.errors import UserError
from toposampler.nn.ensemble import GeneratorEnsemble
from toposampler.priors.partition import PartitionConfig, find_partition

if TYPE_CHECKING:
    from toposampler.systems.base import Prepared, System

LATENTS = 16_384
"""draws over which hidden values are measured"""
FLAT = 1e-6
"""least variance of a direction of hidden values, over the largest, that is stretched to the data"""


class FittedStartConfig(Section):
    """The key of a system whose generators can start on the data."""

    fitted_start: bool = False
    """true, of points: generators start on the components of the data, in turn, with their means and covariances;
    false: where their networks start (the papers')"""

    @property
    def masks_generators(self) -> bool:
        """See `SystemConfig.masks_generators`: parts are dealt out to so many generators."""
        return not self.fitted_start and bool(super().masks_generators)  # type: ignore[misc]

    def check_data(self, dataset: Dataset) -> None:
        """See `SystemConfig.check_data`: images leave their networks through tanh, which no last layer inverts."""
        super().check_data(dataset)  # type: ignore[misc]
        if self.fitted_start and len(dataset.shape) > 1:
            raise UserError(
                f"system.fitted_start true is for points here, and these samples have the shape {dataset.shape}: right "
                "would be false, or system.name component_gan"
            )

    def prepare(self, dataset: Dataset) -> Prepared:
        """See `SystemConfig.prepare`: with the components on which generators start."""
        prepared: Prepared = super().prepare(dataset)  # type: ignore[misc]
        if not self.fitted_start:
            return prepared
        K = prepared.asked.K if prepared.asked.has_ensemble else 1  # networks
        x = dataset.x.flatten(1)
        partition = find_partition(x, PartitionConfig())
        if len(partition.masses) > K:
            partition = find_partition(x, PartitionConfig(), K)
        moments = [_moments(x[partition.labels == k].double()) for k in range(len(partition.masses))]
        means, axes = (torch.stack(each) for each in zip(*moments, strict=True))
        report = partition.report()
        on = f"{K} generators, in turn, on {len(means)} parts" if K > 1 else "the generator on the whole"
        report["in_words"].append(f"start    {on} of the data: with the mean and covariance")
        return replace(prepared, report=report, begin=partial(start_on, means=means, axes=axes))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) of points x (n, D), and V S (D, D): their principal axes, as long as their standard deviations."""
    mean = x.mean(dim=0)
    values, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean, (axes * values.clamp(min=0).sqrt()).flip(1)


@torch.no_grad()
def start_on(system: System, means: Tensor, axes: Tensor) -> None:
    """Fit the last layers of the generators of `system` to parts of means (F, D) and axes (F, D, D), in turn.

    Raises UserError if a generator does not end with a linear layer with a bias.
    """
    noise = {name: x[0] for name, x in system.draw(1, LATENTS, torch.Generator().manual_seed(0)).items()}
    if not isinstance(ensemble := system.generators, GeneratorEnsemble):  # one network for all latents
        samples, latents = partial(ensemble, c=noise["c"]), system.latents(noise)
        _fit(_last(ensemble), samples, latents, means[0], axes[0])
        return
    for i, network in enumerate(ensemble.members()):
        k = system.shard.rank + i * system.shard.size
        latents = system.latents(noise | {"c": torch.full_like(noise["c"], k)})
        _fit(_last(network), network, latents, means[k % len(means)], axes[k % len(means)])
        for stack, parameter in zip(ensemble.stacked, network.parameters(), strict=True):
            stack[i] = parameter


def _last(network: nn.Module) -> nn.Linear:
    """The layer whose outputs are the samples."""
    layers = [module for module in network.modules() if next(module.parameters(recurse=False), None) is not None]
    if not layers or type(layers[-1]) is not nn.Linear or layers[-1].bias is None:
        raise UserError(
            "system.fitted_start true needs generators that end with a linear layer with a bias, and these end with "
            f"{type(layers[-1]).__name__ if layers else 'no layer'}: right would be false"
        )
    return layers[-1]


def _fit(layer: nn.Linear, generator: Callable[[Tensor], Tensor], latents: Tensor, mean: Tensor, axes: Tensor) -> None:
    """Give the last layer of a generator the weights with which samples have the mean (D,) and axes (D, D)."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    samples = generator(latents)
    hook.remove()
    hidden, output = seen[-1]
    if not torch.equal(samples, output):
        raise UserError(
            "system.fitted_start true needs generators whose last linear layer makes the samples, and these go on "
            "after it: right would be false"
        )
    hidden = hidden.double()
    center = hidden.mean(dim=0)
    values, directions = torch.linalg.eigh((hidden - center).T @ (hidden - center) / len(hidden))
    largest = slice(len(values) - min(len(mean), int((values > FLAT * values[-1]).sum())), None)
    values, directions = values[largest].flip(0), directions[:, largest].flip(1)
    weight = axes[:, : len(values)] @ (directions / values.sqrt()).T
    layer.weight.copy_(weight)
    layer.bias.copy_(mean - weight @ center)
