"""Checkpoints: written atomically, read without running code, kept two deep.

A checkpoint that cannot be read is one of two things. It is damaged, so that it will never be read again: a run then
resumes from the one before it. Or it is good, but not for us, now: another user's, of a newer version, on a disk that
has an input/output error. Then there is nothing a run could do that would not lose it, and the run is refused.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from toposampler.errors import UserError
from toposampler.files import zip_damage
from toposampler.storage import is_address

SCHEMA = 1

log = logging.getLogger(__name__)


class CheckpointDamagedError(UserError):
    """The content of a checkpoint is not what was written: a part is missing, or has other bytes."""


class CheckpointUnreadableError(UserError):
    """A checkpoint may be whole, but cannot be read here and now: no permission, input/output error, other schema."""


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint after `step` generator steps; names sort by step."""
    return f"step_{step:08d}.pt"


def checkpoint_step(path: Path) -> int:
    """The generator steps of the checkpoint `path`, by its name."""
    return int(path.stem.removeprefix("step_"))


def save_checkpoint(path: Path, state: dict[str, Any], before: Path | None = None) -> None:
    """Write `state` (tensors, numbers, strings, lists, dicts) to `path`; with `before`, drop all but these two.

    The file appears whole or not at all, whenever the process is killed.

    Args:
        path: of the new checkpoint.
        state: what it holds.
        before: the checkpoint that this process read or wrote last, which is therefore good. Without one nothing is
            dropped: two good checkpoints have to be there before any other file goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"schema": SCHEMA, **tree_map_only(Tensor, _alone, state)}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True)  # a part of a file would keep a full disk full
        raise
    temporary.replace(path)
    for left in path.parent.glob("step_*.tmp"):
        if left.name < path.name:  # by a process that was killed
            left.unlink(missing_ok=True)
    if before is not None and before != path:
        for other in set(checkpoints(path.parent)) - {path, before}:  # older ones, and damaged ones
            other.unlink(missing_ok=True)


def _alone(x: Tensor) -> Tensor:
    """`x` with a memory of its own: of a view torch.save writes all that it is a view of, and the tensors of a member
    are views of its whole population's."""
    return x.clone() if x.untyped_storage().nbytes() > x.nbytes else x


def model_of(folder: Path, result: Mapping[str, Any]) -> Path:
    """The checkpoint that the `result` of the run in `folder` names: there, where it is named by its address."""
    named = str(result["model"])
    return folder / named.rpartition(f"/{folder.name}/")[2] if is_address(named) else Path(named)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first; none if there is no such folder.

    Raises CheckpointUnreadableError if the folder cannot be listed: it may hold some.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointUnreadableError(f"checkpoint folder {folder} cannot be read: {error.strerror}") from None
    return [folder / name for name in sorted(names) if name.startswith("step_") and name.endswith(".pt")]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU. Nothing stored in it is executed.

    Raises CheckpointDamagedError if a part of it is missing or altered, CheckpointUnreadableError if it cannot be read
    for another reason: it does not exist, is another user's, was written by another version, is no checkpoint at all.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointUnreadableError(f"checkpoint {path} cannot be read: it is not a regular file")
        with path.open("rb") as file:
            if fault := zip_damage(file):
                raise CheckpointDamagedError(f"checkpoint {path} is damaged: {fault}")
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise CheckpointUnreadableError(f"checkpoint {path} does not exist") from None
    except OSError as error:
        raise CheckpointUnreadableError(f"checkpoint {path} cannot be read: {error.strerror or error}") from None
    except (MemoryError, RuntimeError) as error:  # torch's allocator and its zip reader raise the second
        reason = (str(error).splitlines() or ["out of memory"])[0]
        if (
            reason.startswith("PytorchStreamReader") and "failed locating" not in reason
        ):  # its headers have no check sum
            raise CheckpointDamagedError(f"checkpoint {path} is damaged: {reason}") from None
        raise CheckpointUnreadableError(f"checkpoint {path} cannot be read: {reason}") from None
    except Exception:  # pickle.UnpicklingError, whose text advises to load with the executing of code allowed
        raise CheckpointUnreadableError(
            f"checkpoint {path} is not a checkpoint of toposampler: it holds no plain tensors"
        ) from None
    if not isinstance(state, dict) or "schema" not in state:
        raise CheckpointUnreadableError(f"{path} is not a checkpoint of toposampler: it has no schema version")
    if state["schema"] != SCHEMA:
        raise CheckpointUnreadableError(
            f"checkpoint {path} has schema {state['schema']}; this version reads schema {SCHEMA}"
        )
    if missing := {"config", "shape", "data", "seconds", "loop"} - state.keys():
        raise CheckpointUnreadableError(
            f"{path} is not a checkpoint of toposampler: it lacks {', '.join(sorted(missing))}"
        )
    return state


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint in `folder` that is not damaged, and the state in it; None if there is no checkpoint.

    A damaged one is named in the log. Raises UserError if all are damaged, CheckpointUnreadableError if the newest that
    is not damaged cannot be read: resuming from an older one, or from the start, would lose it.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return path, read_checkpoint(path)
        except CheckpointDamagedError as error:
            if path != found[0]:
                log.warning("%s; falling back to the checkpoint before it", error)
    if found:
        raise CheckpointDamagedError(
            f"every checkpoint in {folder} is damaged ({', '.join(path.name for path in found)}): "
            "bring one back from a copy, or give another --name to start anew"
        )
    return None
