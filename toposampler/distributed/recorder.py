"""A run on MLflow; with several seeds also the run of each, below that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle

from toposampler.tracking.tracker import PARENT, Status, Tracker
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.seeds import FAILURE, members_of

MakeTracker = Callable[[RunConfig, Mapping[str, str]], Tracker]
"""of a run and tags beside those of every run"""


class Recorder:
    """Keeps MLflow up with the run of `config`, and with those of its seeds."""

    def __init__(self, config: RunConfig, make: MakeTracker) -> None:
        self._make = make
        several = config.seeds is not None
        self._whole = make(config, {"kind": "seeds"} if several else {})
        self._members = {member.seed: member for member in members_of(config)} if several else {}
        self._trackers: dict[int, Tracker] = {}
        self._turn = cycle(self._members)

    def deliver(self) -> None:
        """Deliver what is new of the whole, and of one seed, as one delivery takes a server tens of milliseconds."""
        self._whole.deliver()
        if self._members and self._whole.run_id is not None and (tracker := self._of(next(self._turn))):
            tracker.deliver()

    def close(self, status: Status) -> None:
        """Deliver the rest, and how the run and that of each seed ended."""
        self._whole.deliver()
        if self._whole.run_id is not None:
            for seed, member in self._members.items():
                if tracker := self._of(seed):
                    ends: dict[str, Status] = {FAILURE: "FAILED", "result.json": "FINISHED"}
                    own = (end for name, end in ends.items() if (run_folder(member) / name).exists())
                    tracker.close(next(own, status))
        self._whole.close(status)

    def _of(self, seed: int) -> Tracker | None:
        """The tracker of one seed, once its run has a folder."""
        member = self._members[seed]
        if seed not in self._trackers and (run_folder(member) / "config.yaml").exists():
            self._trackers[seed] = self._make(member, {PARENT: str(self._whole.run_id), "seed": str(seed)})
        return self._trackers.get(seed)
