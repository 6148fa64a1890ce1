"""One process at a time on a run's folder."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toposampler.errors import UserError

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes off `folder`, which must exist, while the block runs.

    Raises UserError at once if another is at work there. The lock goes with its process, however that ends.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is working on this run: {folder}") from None
        except OSError as error:  # some network file systems have no locks
            log.warning("%s cannot be locked (%s): do not start this run twice", folder, error.strerror)
        yield
