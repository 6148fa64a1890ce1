"""What happens to a run, for its user to see: `events.log` in its folder, which the driver prints as it grows.

Ray does not forward what workers print. Rank 0 appends what the package logs, Ray's controller that workers were lost
(`lost.py`).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tqdm import tqdm

LINE = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")


def events_file(folder: Path) -> Path:
    """Where the events of the run in `folder` are."""
    return folder / "events.log"


def log_events(folder: Path) -> None:
    """Append what this process's `toposampler` loggers say to the events of the run in `folder`, from INFO up."""
    handler = logging.FileHandler(events_file(folder))
    handler.setFormatter(LINE)
    logger = logging.getLogger("toposampler")
    logger.setLevel(logging.INFO)
    for earlier in logger.handlers:  # of a run before this one in the same process
        logger.removeHandler(earlier)
    logger.addHandler(handler)


class Events:
    """Follows the events of one run; `refresh()` prints on stderr what has been added since this was made."""

    def __init__(self, folder: Path) -> None:
        self._path = events_file(folder)
        self._begun_at = self._offset = self._size()

    def any(self) -> bool:
        """Whether there have been any, printed or not: the first is that training begins."""
        return self._size() > self._begun_at

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def refresh(self) -> None:
        """Print the lines that are new, beside a progress bar if there is one."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            tqdm.write(line, file=sys.stderr)
