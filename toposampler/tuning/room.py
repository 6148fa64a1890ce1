"""How many trials a worker has memory for at once: measured on one run, before anything starts."""

from __future__ import annotations

from dataclasses import replace

import torch

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.training.config import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.memory import available, bytes_of_member
from toposampler.training.networks import given_or_named
from toposampler.training.placement import Placement
from toposampler.tuning.config import Sweep, trial_config
from toposampler.tuning.spaces import Whole


def trials_at_once(sweep: Sweep, workers: int) -> int:
    """The trials that each of `workers` is to train at once: `trials_per_worker`, or as many as memory has room for.

    Memory is what is free on this machine, shared by all workers. Raises UserError if there is room for fewer trials
    than asked for, with how many there is room for.
    """
    asked, repeats = sweep.config.trials_per_worker, sweep.config.repeats
    wanted = -(-sweep.config.trials // workers)  # more would leave workers without any
    if isinstance(asked, int):
        wanted = min(wanted, asked)
    device = torch.device("cuda" if sweep.base.cluster.use_gpu else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():  # the workers' machines have one
        if isinstance(asked, int):
            return wanted
        raise UserError("trials_per_worker auto: this machine has no GPU whose memory it could ask; give a number")
    if (free := available(device)) is None:
        return wanted
    each = repeats * _bytes_of_run(sweep, device)
    fit = free // workers // each
    if isinstance(asked, int) and wanted > fit:
        raise UserError(
            f"trials_per_worker {asked}: a trial needs about {each / 2**30:.2g} GiB for its seeds ({repeats}), and "
            f"{free / workers / 2**30:.2g} GiB are free for each of the workers ({workers}): at most {max(1, fit)}"
        )
    return max(1, min(wanted, fit))


def _bytes_of_run(sweep: Sweep, device: torch.device) -> int:
    """What one run adds to a program, with the largest whole numbers of the space: more generators need more."""
    largest = {key: p.high for key, p in sweep.space.items() if isinstance(p, Whole) and not p.when}
    config = trial_config(sweep.base, largest)
    return bytes_of_member(_loop(config, config.data.load(), device))


def _loop(config: RunConfig, dataset: Dataset, device: torch.device) -> Loop:
    config, networks = given_or_named(config, None)
    prepared = config.system.prepare(dataset)
    with torch.random.fork_rng(devices=()):
        system = prepared.build(dataset.shape, networks)
    trained_on = replace(dataset, labels=prepared.labels)
    return Loop(system, trained_on, config.training, config.seed, device, Placement())
