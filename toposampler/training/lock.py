"""One process at a time on a run's folder."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toposampler.errors import UserError

DRIVER, TRAINING = ".lock", ".training.lock"
"""files in a run's folder: held by the driver of a run, and by the process that trains and writes (rank 0)"""
PATIENCE_S = 20.0
"""seconds that training waits for a process which trained here before, was killed, and is not gone yet"""
POLL_S = 0.2

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, name: str = DRIVER, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other processes off `folder`, which must exist, while the block runs.

    Raises UserError if another is at work there, still after `patience_s` seconds. The lock goes with its process,
    however that ends.
    """
    with (folder / name).open("w") as file:
        deadline = time.monotonic() + patience_s
        while not _taken(file, folder):
            if time.monotonic() >= deadline:
                raise UserError(f"another process is working on this run: {folder}")
            time.sleep(POLL_S)
        yield


def _taken(file: IO[str], folder: Path) -> bool:
    """Whether the lock is ours now, or there are none here."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some network file systems have no locks
        log.warning("%s cannot be locked (%s): do not start this run twice", folder, error.strerror)
    return True
