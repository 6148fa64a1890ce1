"""A run at an address: worked on in a folder of this machine, which is kept at its address.

Training appends to files, renames and locks them, which no bucket can. So the process that writes (rank 0) works in a
folder of its own, made from what is at the address, and a thread copies there what has changed: one file at a time,
each whole or not at all, checkpoints before the result that names them, and older checkpoints removed only after newer
ones are there. What is written faster than it is copied is skipped, except for the last state. At the end, also of a
run that is stopped, all is there, and the folder is removed. A process that is killed leaves its folder; the next one
on that machine removes it, since what is at the address counts.

The driver has a folder of its own (`View`), on whatever machine: it follows what grows at the address, and puts its own
files there. The two meet at the address alone, and share no disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from toposampler.background import Periodic
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.storage import Stamp, Store, WorkedOn, address_of, is_hidden, reason
from toposampler.training.config import RunConfig, run_address, run_folder
from toposampler.training.lock import PATIENCE_S, locked

COPY_EVERY_S, LOOK_EVERY_S = 1.0, 1.0
"""seconds between two looks for what has changed: of the process that trains, and of the driver"""
GONE_S = 5.0
"""seconds that the driver waits for a worker on its machine to be gone"""
REQUESTS, STOPPED = ("stop", "resize"), "stopped"
"""what the driver asks for, and the answer to a stop: of this attempt only, never of the run"""
GROWING = (".jsonl", ".log")
"""endings of files that are only appended to, line by line"""
LAST = ("result.json", "failed")
"""files that say that a run has ended, and name others"""
LARGE = {"checkpoints", "figures", "profile", "snapshots"}
"""folders that the driver looks into at the beginning and at the end only"""

log = logging.getLogger(__name__)


@contextmanager
def mirrored(config: RunConfig, rank: int = 0) -> Iterator[RunConfig]:
    """`config` with a folder to train in; where its run is at an address, that is kept there while the block runs.

    Only rank 0 writes; others are given the folder's name, and read checkpoints from the address. Raises UserError if
    the storage cannot be used, TrainingStoppedError if the end of the run cannot be copied there.
    """
    address = run_address(config)
    if address is None:
        yield config
        return
    base = _base(address)
    here = _worked_on(config, base / "training")
    if rank > 0:
        yield here
        return
    store = Store(address)
    with _alone(base, "training", PATIENCE_S):
        mirror = Mirror(store, run_folder(here))
        _readably(mirror.fetch)
        with Periodic(mirror.copy_quietly, COPY_EVERY_S):
            yield here
        try:
            mirror.copy()
        except OSError as error:
            raise TrainingStoppedError(
                f"the end of the run cannot be copied to {store.address}: {reason(error)}; the same command resumes "
                "from the newest checkpoint there"
            ) from None


@contextmanager
def viewed(config: RunConfig) -> Iterator[tuple[RunConfig, View | None]]:
    """`config` as a driver sees it, with a folder that has what is at the address of the run, and what keeps it so.

    The second is None for a run in a folder. Raises UserError if the storage cannot be written to.
    """
    address = run_address(config)
    if address is None:
        yield config, None
        return
    base = _base(address)
    here = _worked_on(config, base / "driver")
    store = Store(address)
    store.check("output")
    with _alone(base, "driver", 0.0):
        view = View(store, run_folder(here))
        _readably(view.begin)
        try:
            yield here, view
        finally:
            view.finish()
            if (base / "training").exists():  # of a worker that Ray has ended here before it could remove it
                with suppress(UserError), _alone(base, "training", GONE_S):
                    pass


def _worked_on(config: RunConfig, folder: Path) -> RunConfig:
    """`config`, its run in `folder` for what is at its address."""
    output = WorkedOn(str(folder), str(address_of(config.output)))
    return config.model_copy(update={"output": output})


def _base(address: str) -> Path:
    """The folder in which this machine keeps what it works on for the run at `address`."""
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"toposampler-{os.getuid()}" / name


@contextmanager
def _alone(base: Path, role: str, patience_s: float) -> Iterator[None]:
    """Have the folder `role` of `base` empty at the beginning, absent at the end, and for this process alone."""
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(base, f"{role}.lock", patience_s):
            shutil.rmtree(base / role, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(base / role, ignore_errors=True)
    finally:
        (base / f"{role}.lock").unlink(missing_ok=True)
        for folder in (base, base.parent):
            with suppress(OSError):  # another role, or another run, is there
                folder.rmdir()


def _readably(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise UserError(f"output: what is at the address cannot be read: {reason(error)}") from None


class _Quietly:
    """Does what may fail where a storage does not answer: then there is one warning, and a later call tries again."""

    def __init__(self, store: Store, then: str) -> None:
        self._store, self._then, self._warned = store, then, False

    def __call__(self, action: Callable[[], None]) -> None:
        try:
            action()
            self._warned = False
        except OSError as error:
            if not self._warned:
                log.warning("%s: %s. %s", self._store.address, reason(error), self._then)
            self._warned = True


class Mirror:
    """Copies what changes in `folder` to `store`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._there: dict[str, Stamp] = {}
        """by name, the local file whose content the store has"""
        self._quietly = _Quietly(store, "Nothing can be copied there now; training goes on.")

    def fetch(self) -> None:
        """Make the folder from the store. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in filter(_is_of_training, self._store.stamps()):
            self._store.get(name, self._folder / name)
        self._there = self._stamps()

    def copy_quietly(self) -> None:
        """Copy what has changed, as far as the store lets it."""
        self._quietly(self.copy)

    def copy(self) -> None:
        """Copy what has changed, and bring a request to stop. Raises OSError."""
        for name in REQUESTS:
            if not (self._folder / name).exists() and self._store.has(name):
                (self._folder / name).touch()
        found = self._stamps()
        for name in sorted((name for name in found if self._there.get(name) != found[name]), key=_order):
            path = self._folder / name
            try:
                if name.endswith(GROWING):
                    self._store.write(name, _whole_lines(path))
                else:
                    self._store.put(path, name)
            except OSError:
                if path.exists():
                    raise
                continue  # an older checkpoint, dropped meanwhile
            self._there[name] = found[name]
        for name in self._there.keys() - self._stamps().keys():
            self._store.delete(name)
            del self._there[name]

    def _stamps(self) -> dict[str, Stamp]:
        return {name: stamp for name, stamp in _stamps(self._folder).items() if _is_of_training(name)}


class View:
    """Keeps `folder`, a driver's, up with `store`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._seen: dict[str, Stamp] = {}
        self._read: dict[str, int] = {}
        """bytes of the files that grow"""
        self._own: dict[str, Stamp] = {}
        """the driver's own files that the store has"""
        self._quietly = _Quietly(store, "The run goes on; what is shown of it is behind.")

    def begin(self) -> None:
        """Make the folder from the store, without what an earlier driver asked and was told. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (*REQUESTS, STOPPED):
            self._store.delete(name)
        self._take(self._store.stamps())
        self._own = self._own_stamps()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the run while the block trains it; after one that ends well, all of it is in the folder."""
        with Periodic(lambda: self._quietly(self.follow), LOOK_EVERY_S):
            yield
        self._quietly(lambda: self._take(self._store.stamps()))

    def follow(self) -> None:
        """Take what is new, and put there what is the driver's. Raises OSError."""
        self._put_own()
        self._take({name: s for name, s in self._store.stamps().items() if not LARGE & set(name.split("/"))})

    def finish(self) -> None:
        """Put there what is the driver's: how far MLflow is told, and the events with those that only it knows of."""
        self._quietly(self._put_own)
        if (events := self._folder / "events.log").exists():
            self._quietly(lambda: self._store.put(events, events.name))

    def _put_own(self) -> None:
        for name, stamp in self._own_stamps().items():
            if self._own.get(name) != stamp:
                self._store.put(self._folder / name, name)
                self._own[name] = stamp
        for name in self._own.keys() - self._own_stamps().keys():  # a request that is done with
            self._store.delete(name)
            del self._own[name]

    def _own_stamps(self) -> dict[str, Stamp]:
        return {name: stamp for name, stamp in _stamps(self._folder).items() if _is_of_driver(name)}

    def _take(self, stamps: Mapping[str, Stamp]) -> None:
        for name in sorted(stamps, key=_order):
            if self._seen.get(name) == stamps[name] or is_hidden(name) or name in self._own:
                continue
            path = self._folder / name
            if name.endswith(GROWING):
                new = self._store.read(name, self._read.get(name, 0))
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as file:
                    file.write(new)
                self._read[name] = self._read.get(name, 0) + len(new)
            else:
                self._store.get(name, path)
            self._seen[name] = stamps[name]


def _is_of_driver(name: str) -> bool:
    """Whether the driver puts the file `name` at the address."""
    return name.split("/")[-1] in ("tracking.json", *REQUESTS) or (
        name.startswith("initial_model/") and not is_hidden(name)
    )


def _is_of_training(name: str) -> bool:
    """Whether `name` is a file that training begins with, or puts at the address."""
    last = name.split("/")[-1]
    others = ("tracking.json", *REQUESTS, "checkpoint_manager_snapshot.json")
    return not is_hidden(name) and last not in others and not last.endswith(".tmp")


def _stamps(folder: Path) -> dict[str, Stamp]:
    """The files in `folder`, by name."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with suppress(FileNotFoundError):  # removed meanwhile
                stat = path.stat()
                found[path.relative_to(folder).as_posix()] = Stamp(stat.st_size, stat.st_mtime_ns)
    return found


def _order(name: str) -> tuple[int, int, str]:
    """First what others name: configuration and checkpoints, then the rest, last what says that a run has ended."""
    last = name.split("/")[-1]
    rank = 0 if last == "config.yaml" else 1 if "checkpoints/" in name else 3 if last in (*LAST, STOPPED) else 2
    return rank, -name.count("/"), name


def _whole_lines(path: Path) -> bytes:
    """The lines of `path` that are complete."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]
