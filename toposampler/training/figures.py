"""The figures of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toposampler.data import Dataset
from toposampler.records import DETAIL, Record
from toposampler.systems import System
from toposampler.training.process_group import ProcessGroup
from toposampler.training.sampling import draw_samples

POINTS = 4000
"""points drawn in a scatter plot: more hide each other"""
PER_ROW = 12
"""images of each generator in a grid"""


def draw_figures(
    folder: Path,
    system: System,
    dataset: Dataset,
    samples: tuple[Tensor, Tensor],
    images: Sequence[tuple[str, Tensor]],
    records: Sequence[Record],
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
        title: of the run, on every figure.
    """
    from toposampler import plots  # here, as matplotlib takes half a second

    folder.mkdir(parents=True, exist_ok=True)
    ids = samples[1][:POINTS]
    x, real = dataset.from_units(samples[0][:POINTS]), dataset.x[:POINTS]
    prior = None if (p := system.prior()) is None else p.cpu()
    (seen, about), (seen_real, _) = (as_seen(dataset, points) for points in (x, real))
    figures = {
        "samples_by_generator": plots.generators_scatter(seen_real, seen, ids, prior, title + about),
        "barcodes": plots.barcodes({"real": real.flatten(1), "generated": x.flatten(1)}, title),
    }
    with torch.no_grad():
        posterior = system.encode(x.to(next(system.parameters())))
    if posterior is not None:
        likeliest = posterior.argmax(dim=1).cpu()
        figures["samples_by_encoder"] = plots.samples_scatter(seen, likeliest, title + about, "argmax q(c|x): share")
    if images:
        figures["samples_grid"] = plots.image_grid(images, title)
    for name, prefixes in (("losses", [*system.players()]), ("evaluation", ["eval"])):
        steps, terms = _columns(records, prefixes)
        terms = {name: values for name, values in terms.items() if not DETAIL.search(name)}
        if steps:
            figures[name] = plots.terms_over_steps(steps, terms, title)
    if prior is not None:
        steps, columns = _columns(records, ["mass"])
        priors = torch.tensor(list(columns.values())).T
        figures["prior"] = plots.prior_over_steps(steps, priors, dataset.weights, title)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def as_seen(dataset: Dataset, x: Tensor) -> tuple[Tensor, str]:
    """Points x (n, *shape), such as networks make, as a scatter plot shows them (n, d), and what its title adds.

    One or two columns are in the user's units. More are seen along principal components, and those of columns of many
    units would show the one of the largest numbers alone: they stay standardised.
    """
    x = x.flatten(1)
    if dataset.transform is None or x.shape[1] <= 2:
        return dataset.to_units(x), ""
    return x, ", columns standardised"


def _columns(records: Sequence[Record], prefixes: Sequence[str]) -> tuple[list[int], dict[str, list[float]]]:
    """The metrics `prefix/...`, by name over the steps at which they were recorded."""
    rows = [(r.step, {k: v for k, v in r.metrics.items() if k.split("/")[0] in prefixes}) for r in records]
    rows = [(step, metrics) for step, metrics in rows if metrics]
    names = rows[0][1] if rows else {}
    return [step for step, _ in rows], {name: [metrics[name] for _, metrics in rows] for name in names}


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
