"""The figures of a sweep, written to its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from toposampler import plots
from toposampler.metrics.masses import active
from toposampler.plots.sweeps import Point
from toposampler.records import read_records
from toposampler.tuning.config import Sweep
from toposampler.tuning.console import short
from toposampler.tuning.ledger import Entry
from toposampler.tuning.spaces import Number
from toposampler.tuning.trial import trial_name


def draw(sweep: Sweep, entries: Sequence[Entry], winner: Entry | None, front: Sequence[int]) -> list[Path]:
    """Write the PNGs of a sweep and return their paths; none where no trial has come to a report."""
    reported = [entry for entry in entries if entry.objectives and entry.outcome != "failed"]
    if not reported:
        return []
    names, keys = list(sweep.config.objectives), [short(key) for key in sweep.space]
    log = [isinstance(parameter, Number) and parameter.log for parameter in sweep.space.values()]
    points = [
        Point(
            values={short(key): value for key, value in entry.values.items()},
            objectives=list((entry.objectives or {}).values()),
            complete=entry.outcome == "finished",
            best=winner is not None and entry.number == winner.number,
        )
        for entry in reported
    ]
    title = f"{sweep.config.name}: {len(points)} trials of {sweep.base.system.name}"
    figures = {
        "parallel_coordinates": plots.parallel_coordinates(points, keys, log, names[0], title),
        "objective_by_key": plots.objective_by_key(points, keys, log, names[0], title),
    }
    if len(names) > 1:
        on_front = [entry.number in front for entry in reported]
        figures["pareto_front"] = plots.pareto_front(points, on_front, (names[0], names[1]), title)
    if winner is not None and (sweep.base.system.K > 1 or sweep.base.system.asks_the_data):
        figures["prior_of_the_best"] = _prior(sweep, winner)
    folder = sweep.folder / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]


def _prior(sweep: Sweep, winner: Entry) -> Figure:
    """The learned prior of the best trial, over the steps of its first seed."""
    run = sweep.folder / "trials" / trial_name(winner.number) / f"seed-{sweep.base.seed}"
    records = read_records(run / "metrics.jsonl")
    masses = [[m for name, m in record.metrics.items() if name.startswith("mass/")] for record in records]
    title = f"{sweep.config.name}: prior of trial {winner.number}, the best"
    weights = sweep.base.data.load().weights
    priors = torch.tensor(masses)
    return plots.prior_over_steps([record.step for record in records], priors, weights, active(priors[-1]), title)
