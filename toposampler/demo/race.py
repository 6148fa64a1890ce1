"""A race: several systems trained on one drawing in turns of equal time, by the same loop as every run."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.data.arrays import dataset_of
from toposampler.demo.protocol import STEPS, Start
from toposampler.errors import UserError
from toposampler.metrics.neighbors import nearest_neighbors, off_support_nn99
from toposampler.training import RunConfig
from toposampler.training.run import Run, begin
from toposampler.training.sampling import draw_samples

Tell = Callable[[dict[str, Any]], object]

TURN_S = 0.3
"""seconds that one system trains before the next one does"""
SHOWN = 600
"""samples in a frame, of one seed, so that each moves along"""
COMPARED = 1000
"""points of the drawing that samples are compared with, at most"""
BARS = 12
"""longest bars shown"""
SEED = 0
LEAST_DIFFERENT = 20
"""different places that a drawing needs: of fewer there is nothing to learn"""

_building = threading.Lock()
"""networks start from torch's global random state, which all races share"""


def race(asked: Start, tell: Tell, stopped: Callable[[], bool]) -> None:
    """Train the systems of `asked` and `tell` the page how they come along, until all are done or it is `stopped`.

    `tell` returns once the message is sent, so that a slow page slows the race down and no frame waits in memory.
    Raises UserError if the drawing cannot be trained on, TrainingStoppedError if a loss is not finite.
    """
    dataset = drawn(asked.points)
    real = dataset.to_units(dataset.x)[torch.randperm(len(dataset), generator=_rng())[:COMPARED]].float()
    tell({"type": "data", "race": asked.race, **shape_of(real[:SHOWN])})
    with tempfile.TemporaryDirectory(prefix="toposampler-demo-") as folder, ExitStack() as runs:
        lanes = []
        for name in asked.systems:
            with _building:
                lanes.append(runs.enter_context(begin(configuration(name, Path(folder)), dataset=dataset)))
            tell(_frame(asked.race, lanes[-1], real, 0.0))
        spent: dict[str, float] = dict.fromkeys(asked.systems, 0.0)
        while unfinished := [run for run in lanes if run.loop.step < STEPS]:
            for run in unfinished:
                if stopped():
                    return
                system = run.config.system.name
                spent[system] += _turn(run, stopped)
                tell(_frame(asked.race, run, real, spent[system]))
    tell({"type": "done", "race": asked.race})


def drawn(points: list[tuple[float, float]]) -> Dataset:
    """The data set of a drawing. Raises UserError if its points are in too few places."""
    x = np.array(points, dtype=np.float32)
    if (places := len(np.unique(x, axis=0))) < LEAST_DIFFERENT:
        raise UserError(
            f"The points are in {places} different place{'s'[: places != 1]}, and at least {LEAST_DIFFERENT} are "
            "needed: widen the brush."
        )
    return dataset_of("the drawing", x, standardize=True)


def configuration(system: str, folder: Path) -> RunConfig:
    """Of a run of `system` on a drawing, in `folder`."""
    content: dict[str, Any] = {
        "name": system,
        "output": str(folder),
        "seed": SEED,
        "data": {"name": "array", "path": str(folder / "data.npz")},  # given to the run in memory
        "system": {"name": system},
        "training": {
            "generator_steps": STEPS,
            "log_every": 100,
            "evaluate_every": STEPS,
            "checkpoint_every": STEPS,
        },
    }
    config = validate(RunConfig, content)
    prior = getattr(config.system, "prior", None)
    if prior is None:
        return config
    content["system"]["prior"] = {"entropy_decay": min(prior.entropy_decay, prior.decay_that_fits(STEPS))}
    return validate(RunConfig, content)


def _turn(run: Run, stopped: Callable[[], bool]) -> float:
    """Train for `TURN_S`; the seconds that it took."""
    start = time.monotonic()
    while run.loop.step < STEPS and time.monotonic() < start + TURN_S and not stopped():
        run.advance(run.loop.step + 1)
    return time.monotonic() - start


def _frame(number: int, run: Run, real: Tensor, seconds: float) -> dict[str, Any]:
    """How the run's averaged generators stand."""
    with run.loop.averaged() as system:
        samples, ids = draw_samples(system, SHOWN, SEED)
        prior = system.prior()
    x = run.dataset.to_units(samples.float()).float()
    return {
        "type": "frame",
        "race": number,
        "system": run.config.system.name,
        "step": run.loop.step,
        "seconds": round(seconds, 1),
        "samples": [[round(value, 3) for value in point] for point in x.tolist()],
        "generators": ids.tolist(),
        "prior": None if prior is None else [round(mass, 4) for mass in prior.tolist()],
        "off_the_data": round(off_the_data(x, real), 4),
        **shape_of(x),
    }


def off_the_data(x: Tensor, real: Tensor) -> float:
    """Share of samples x (n, 2) that lie off the points `real` (N, 2); 1 % of points drawn likewise do."""
    among_real = nearest_neighbors(real, real, k=2)[0][:, 1]  # the first is the point itself
    return off_support_nn99(nearest_neighbors(x, real, k=1)[0][:, 0], among_real)


def shape_of(x: Tensor) -> dict[str, Any]:
    """Number of components and longest bars, in units of the drawing, of points (n, 2)."""
    from toposampler.topology import deaths, estimate_components  # here, as numba takes half a second

    bars = deaths(x.double()).sort(descending=True).values[:BARS]
    return {"components": estimate_components(x.double()).count, "bars": [round(bar, 4) for bar in bars.tolist()]}


def warm_up() -> None:
    """Compile what a race needs, so that the first one begins at once."""
    shape_of(torch.rand(SHOWN, 2, generator=_rng()))


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
