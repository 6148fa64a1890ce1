"""Checkpoints: written atomically, read without running code, kept two deep."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from toposampler.errors import UserError

SCHEMA = 1
KEEP = 2
"""checkpoints kept: one more than the newest, in case the newest cannot be read"""

log = logging.getLogger(__name__)


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint after `step` generator steps; names sort by step."""
    return f"step_{step:08d}.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) to `path`; keep it and the one before it, drop others.

    The file appears whole or not at all, whenever the process is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"schema": SCHEMA, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True)  # a part of a file would keep a full disk full
        raise
    temporary.replace(path)
    for left in path.parent.glob("step_*.tmp"):
        if left.name < path.name:  # by a process that was killed
            left.unlink(missing_ok=True)
    kept = [other for other in checkpoints(path.parent) if other.name <= path.name][-KEEP:]
    for other in set(checkpoints(path.parent)) - set(kept):  # older ones, and damaged ones that were passed by
        other.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU. Nothing stored in it is executed.

    Raises UserError if it is not a checkpoint, is damaged, or was written by a newer version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint {path} does not exist") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error}") from None
    except Exception:  # pickle.UnpicklingError, whose text advises to load with the executing of code allowed
        raise UserError(f"checkpoint {path} is not a checkpoint of toposampler: it holds no plain tensors") from None
    if not isinstance(state, dict) or "schema" not in state:
        raise UserError(f"{path} is not a checkpoint of toposampler: it has no schema version")
    if state["schema"] != SCHEMA:
        raise UserError(f"checkpoint {path} has schema {state['schema']}; this version reads schema {SCHEMA}")
    if missing := {"config", "shape", "data", "seconds", "loop"} - state.keys():
        raise UserError(f"{path} is not a checkpoint of toposampler: it lacks {', '.join(sorted(missing))}")
    return state


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that can be read, or None. A damaged one is named and passed by."""
    found = read_newest(folder)
    return found and found[0]


def read_newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """As `newest_checkpoint`, with what it holds: finding out whether a checkpoint can be read is reading it."""
    for path in reversed(checkpoints(folder)):
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            log.warning("%s; falling back to the checkpoint before it", error)
    return None
