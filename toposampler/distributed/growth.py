"""An elastic run takes machines that have come: a checkpoint is saved, its workers end, and more of them resume.

Ray Train would end them without asking, which costs the steps since the last checkpoint. Its own look for machines is
left out, and the driver looks: it asks by the file `resize` in the run's folder, training ends with a checkpoint as it
does for a stop, and `fit` is called again. How many work now is what rank 0 notes in the file `workers`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ray.exceptions import RaySystemError
from tqdm import tqdm

from toposampler.config import ClusterConfig
from toposampler.distributed.capacity import nodes
from toposampler.distributed.resources import chosen, per_worker, workers_on, workers_that_fit
from toposampler.distributed.stop import RESIZE
from toposampler.files import write_atomically

LOOK_EVERY_S = 5.0
LOOKS = 2
"""looks in a row that must find room: what ends has not yet given all back"""
SETTLED_S = 20.0
"""seconds that a group works at least before it is ended for a larger one, which takes about ten"""
WORKERS = "workers"


def note_workers(folder: Path, number: int) -> None:
    """Note in the run's folder how many workers train it now."""
    write_atomically(folder / WORKERS, str(number))


class Growth:
    """Looks whether the run in `folder` could have more workers than it has, and asks for it."""

    def __init__(self, config: ClusterConfig, folder: Path) -> None:
        self._config, self._folder, self._found = config, folder, 0

    def clear(self) -> None:
        """Forget the group of workers before, if there was one."""
        self._found = 0
        for name in (RESIZE, WORKERS):
            (self._folder / name).unlink(missing_ok=True)

    def look(self) -> None:
        """Ask for a larger group, if there is room for one."""
        path = self._folder / WORKERS
        try:
            begun, now = path.stat().st_mtime, int(path.read_text())
        except FileNotFoundError:  # they have not begun
            return
        if now >= self._config.num_workers or time.time() - begun < SETTLED_S or (self._folder / RESIZE).exists():
            return
        try:
            there = self._possible(now)
        except RaySystemError:  # not connected any longer: others tell of that
            return
        self._found = self._found + 1 if there > now else 0
        if self._found >= LOOKS:
            message = f"there is room for {there} workers, and {now} train: starting more, from a checkpoint"
            tqdm.write(message, file=sys.stderr)
            (self._folder / RESIZE).touch()

    def _possible(self, now: int) -> int:
        """Workers that the machines have room for, beside what others use."""
        bundle, found = per_worker(self._config), chosen(self._config, nodes())
        in_all = workers_that_fit(self._config, [workers_on(bundle, node.total) for node in found])
        more = sum(workers_on(bundle, node.free) for node in found)
        return min(in_all, now + more, self._config.num_workers)
