"""A run that continues from another run's checkpoint with other constants, as population based training asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toposampler.config import flatten, to_yaml, validate
from toposampler.errors import UserError
from toposampler.files import write_atomically
from toposampler.keys import may_branch
from toposampler.records import drop_records_after
from toposampler.training.beside import UNFINISHED
from toposampler.training.checkpoint import checkpoint_name, checkpoints, read_checkpoint, save_checkpoint
from toposampler.training.config import RunConfig, of_earlier_version, run_folder


def branch(config: RunConfig, donor: Path) -> None:
    """Make the run `config` resume from `donor`, a checkpoint of another run (or of its own), with its own constants.

    All that the donor's run had learned and drawn comes over: weights, Adam's moments, averages, random state. The
    run's other checkpoints are dropped, and its records of later steps. Raises UserError, before anything is written,
    as `continued`.
    """
    state = continued(config, read_checkpoint(donor), donor)
    folder = run_folder(config) / "checkpoints"
    name = checkpoint_name(state["loop"]["step"])
    # Whole or not at all: until the new checkpoint stands beside them, the old ones are good.
    save_checkpoint(folder / name, state)
    write_atomically(run_folder(config) / "config.yaml", to_yaml(config))
    drop_records_after(run_folder(config) / "metrics.jsonl", state["loop"]["step"])
    for other in checkpoints(folder):
        if other.name != name:
            other.unlink()


def continued(config: RunConfig, state: dict[str, Any], donor: object) -> dict[str, Any]:
    """`state`, of the checkpoint `donor` of another run, as that of a checkpoint of `config`.

    Raises UserError if `config` differs from the donor's in keys that do not say that they may (`toposampler.keys`).
    """
    stored = validate(RunConfig, of_earlier_version(state["config"]))
    before, after = (flatten(c.model_dump(mode="json")) for c in (stored, config))
    fixed = [
        f"{key}: {before.get(key, '(absent)')} -> {value}"
        for key, value in after.items()
        if before.get(key, "(absent)") != value and not may_branch(config, key)
    ]
    if fixed:
        lines = "\n".join(f"  {line}" for line in fixed)
        raise UserError(f"{donor} cannot be continued under other values of these keys:\n{lines}")
    kept = {key: value for key, value in state.items() if key != UNFINISHED}  # a record of the other run's
    return {**kept, "config": config.model_dump(mode="json")}
