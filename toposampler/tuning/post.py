"""How workers get their programs: a file for each worker, which the driver writes and the worker reads.

Every machine sees the folder, as it sees the trials'. A worker whose process was lost reads the same program again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from toposampler.files import write_atomically
from toposampler.tuning.programs import Program
from toposampler.tuning.trial import Order

POLL_S = 0.05


def post(folder: Path, worker: int, program: Program | None) -> None:
    """Give `worker` its next program; None: there are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{worker}.json", json.dumps(None if program is None else asdict(program)))


def fetched(folder: Path, worker: int, done: int) -> Program | None:
    """What `worker` is to train after the program of number `done`, waited for; None: there are no more."""
    path = folder / f"{worker}.json"
    while True:
        if path.exists():
            content = json.loads(path.read_text())
            if content is None:
                return None
            if content["number"] != done:
                members = tuple(Order(**order) for order in content["members"])
                return Program(content["number"], content["until"], members)
        time.sleep(POLL_S)
