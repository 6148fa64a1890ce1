"""The figures of a finished run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from toposampler.data import Dataset
from toposampler.metrics.catalog import is_detail
from toposampler.metrics.evaluate import Evaluation, can_count
from toposampler.metrics.masses import active, component_masses
from toposampler.records import Record
from toposampler.systems import System
from toposampler.training.process_group import ProcessGroup
from toposampler.training.sampling import draw_samples

POINTS = 4000
"""points drawn in a scatter plot: more hide each other"""
STANDARDIZED = ", columns standardized"
"""what a title adds"""
PER_ROW = 12
"""images of each generator in a grid"""


def draw_figures(
    folder: Path,
    system: System,
    dataset: Dataset,
    samples: tuple[Tensor, Tensor],
    images: Sequence[tuple[str, Tensor]],
    records: Sequence[Record],
    found: Evaluation,
    title: str,
) -> None:
    """Write the PNGs of a run to `folder`, which is made if it is absent.

    Args:
        folder: for the PNGs.
        system: its prior and encoder are asked; its generators are not, as other processes may hold them.
        dataset: the real data.
        samples: (n, *shape) in the user's units, and the generators (n,) that made them.
        images: of each generator, as `generator_images` gives them; none for points.
        records: all records of the run.
        found: the final evaluation, of all samples; figures show its numbers and, where they count, its points.
        title: of the run, on every figure.
    """
    from toposampler import plots  # here, as matplotlib takes half a second

    folder.mkdir(parents=True, exist_ok=True)
    ids = samples[1][:POINTS]
    x, real = dataset.from_units(samples[0][:POINTS]), dataset.x[:POINTS]
    prior = None if (p := system.prior()) is None else p.cpu()
    named = named_generators(samples[1], prior)
    (seen, about), (seen_real, _) = (as_seen(dataset, points) for points in (x, real))
    clouds = {"real": found.real_cloud, "generated": found.cloud}
    standardized = "" if dataset.transform is None else STANDARDIZED
    figures = {
        "samples_by_generator": plots.generators_scatter(seen_real, seen, ids, prior, named, title + about),
        "barcodes": plots.barcodes(clouds, title + standardized, real.flatten(1), can_count(dataset)),
    }
    with torch.no_grad():
        posterior = system.encode(x.to(next(system.parameters())))
    if posterior is not None:
        most_probable = posterior.argmax(dim=1).cpu()
        figures["samples_by_encoder"] = plots.samples_scatter(
            seen, most_probable, title + about, "argmax q(c|x): share", real=seen_real
        )
    if images:
        figures["samples_grid"] = plots.image_grid(images, title)
    losses, evaluations = _series(records, system.players()), _series(records, ["eval"])
    if losses:
        figures["losses"] = plots.terms_over_steps(losses, title)
    if evaluations:
        step = records[-1].step
        final = {f"eval/{name}": (step, value) for name, value in found.metrics.items() if not is_detail(name)}
        figures["evaluation"] = plots.terms_over_steps(evaluations, title, final)
    if prior is not None:
        masses = list(_series(records, ["mass"]).values())
        steps = [step for step, _ in masses[0]]
        priors = torch.tensor([[mass for _, mass in of] for of in masses]).T
        figures["prior"] = plots.prior_over_steps(steps, priors, dataset.weights, named, title)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def as_seen(dataset: Dataset, x: Tensor) -> tuple[Tensor, str]:
    """Points x (n, *shape), such as networks make, as a scatter plot shows them (n, d), and what its title adds.

    One or two columns are in the user's units. More are seen along principal components, and those of columns of many
    units would show the one of the largest numbers alone: they stay standardized.
    """
    x = x.flatten(1)
    if dataset.transform is None or x.shape[1] <= 2:
        return dataset.to_units(x), ""
    return x, STANDARDIZED


def named_generators(ids: Tensor, prior: Tensor | None) -> Tensor:
    """The generators (K,) bool that figures name: the active ones by the prior (K,), or where there is none, by their
    shares of the samples that generators ids (n,) made."""
    return active(component_masses(ids, int(ids.max()) + 1) if prior is None else prior)


def _series(records: Sequence[Record], prefixes: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """The metrics `prefix/...`, by name: their values over the steps at which they were recorded."""
    series: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.metrics.items():
            if name.split("/")[0] in prefixes and not is_detail(name):
                series.setdefault(name, []).append((record.step, value))
    return series


def generator_images(system: System, shards: ProcessGroup) -> list[tuple[str, Tensor]]:
    """A title and `PER_ROW` images (PER_ROW, *shape) of each generator, the one with most mass first.

    Where the ensemble is spread over `shards`, all of them call this, and rank 0 gets the images.
    """
    prior = system.prior()
    masses = [1.0] if prior is None else prior.tolist()
    order = sorted(range(system.K), key=lambda k: -masses[k])
    return [
        (f"G{k}  r = {masses[k]:.3f}", draw_samples(system, PER_ROW, seed=0, generator=k, shards=shards)[0].cpu())
        for k in order
    ]
