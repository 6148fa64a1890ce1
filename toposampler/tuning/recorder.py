"""A sweep on MLflow: a parent run with what the sweep has come to, and one child for each trial."""

from __future__ import annotations

from collections.abc import Mapping

from toposampler.config import flatten
from toposampler.distributed.driver import tags
from toposampler.tracking.tracker import PARENT, Status, Tracker
from toposampler.tuning.config import Sweep
from toposampler.tuning.ledger import Entry
from toposampler.tuning.trial import Plan, runs, trial_name

STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "running": "KILLED"}


class Recorder:
    """Keeps MLflow up with the folder of a sweep and those of its trials, from a thread that calls `refresh`.

    All is read from `metrics.jsonl` and `result.json` of these folders, so that what a driver left untold when it was
    killed is told by the next, and a server that is away for a while misses nothing.
    """

    def __init__(self, sweep: Sweep, plan: Plan, uri: str) -> None:
        self._sweep, self._plan, self._uri = sweep, plan, uri
        self._experiment = sweep.base.tracking.experiment
        self._tags = tags(sweep.base)
        parameters = flatten(sweep.config.model_dump(mode="json"))
        self.parent = Tracker(sweep.folder, uri, self._experiment, parameters, {**self._tags, "kind": "sweep"})
        self._entries: dict[int, Entry] = {}
        self._children: dict[int, Tracker] = {}
        self._closed: set[int] = set()

    def know(self, entry: Entry) -> None:
        """Take note of a trial as it stands now."""
        self._entries[entry.number] = entry

    def refresh(self) -> None:
        """Deliver all that is new, and close the runs of trials that have ended."""
        self.parent.deliver()
        if self.parent.run_id is None:  # children are found by their parent's id
            return
        for number, entry in list(self._entries.items()):
            if number in self._closed:
                continue
            child = self._child(entry)
            if entry.outcome == "running":
                child.deliver()
            else:
                self._close(child, entry)
                self._closed.add(number)

    def run_id(self, number: int) -> str | None:
        """The id of a trial's run, if there is one."""
        return self._children[number].run_id if number in self._children else None

    def tag(self, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a trial's run."""
        self._children[number].tag(tags)

    def leave(self, status: Status) -> None:
        """Say how the sweep ended, and with it the trials that still run."""
        for number, entry in self._entries.items():
            if entry.outcome == "running" and number in self._children:
                self._children[number].close("KILLED")
        self.parent.close(status)

    def _child(self, entry: Entry) -> Tracker:
        number = entry.number
        if number not in self._children:
            folder = self._sweep.folder / "trials" / trial_name(number)
            folder.mkdir(parents=True, exist_ok=True)
            config = runs(self._plan, folder.name, entry.values)[0]
            marks = {PARENT: str(self.parent.run_id), "sweep": self._sweep.config.name, "trial": str(number)}
            parameters = flatten(config.model_dump(mode="json"))
            self._children[number] = Tracker(
                folder, self._uri, self._experiment, parameters, {**self._tags, **marks, "kind": "trial"}
            )
        return self._children[number]

    def _close(self, child: Tracker, entry: Entry) -> None:
        child.close(STATUS[entry.outcome])
        child.tag({"outcome": entry.outcome} | ({"failure": entry.note[:500]} if entry.note else {}))
