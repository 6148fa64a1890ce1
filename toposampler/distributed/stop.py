"""Asking a run to stop, and its answer, by two files in its folder: every node sees it, and nothing of Ray's is waited
for.

The driver writes `stop`. Rank 0 looks for it a few times a second, training saves a checkpoint, and rank 0 writes into
`stopped` which one. The driver's main thread waits inside Ray; a timer's signal wakes it up there.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from toposampler.errors import RunInterruptedError, TimeUsedError
from toposampler.files import write_atomically

STOP = "stop"
"""why a run ends that is asked to by its driver; it also ends for a moment when a node is about to go"""
RESIZE = "resize"
"""why the workers of a run end, so that more of them resume it"""
GRACE_S = 20.0
"""seconds a run may take to save a checkpoint when it is asked to stop"""
LOOK_EVERY_S = 0.1


class StoppedBySignalError(RunInterruptedError):
    """A run ended with a checkpoint because its driver got a signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message, STOP)
        self.number = number


def is_asked(folder: Path) -> bool:
    """Whether the run in `folder` is asked to stop."""
    return (folder / "stop").exists()


def request(folder: Path) -> str | None:
    """What the run in `folder` is asked for: STOP, RESIZE or nothing."""
    return next((name for name in (STOP, RESIZE) if (folder / name).exists()), None)


def ask(folder: Path) -> None:
    """Ask the run in `folder` to stop."""
    (folder / "stop").touch()


def answer(folder: Path, message: str) -> None:
    """Tell the driver that training has stopped, with a checkpoint that `message` names."""
    write_atomically(folder / "stopped", message)


@contextmanager
def stoppable(folder: Path, has_begun: Callable[[], bool]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM in the block, which trains the run in `folder`, into a stop with a checkpoint.

    Raises in the block StoppedBySignalError once the checkpoint is there. What the signal's handler from before does is
    left for a second signal, for a first one while `has_begun()` is false (there is nothing to save), and for a run
    that gives no answer within `GRACE_S` seconds.

    Outside the main thread, where Python allows no handlers, signals are left alone.
    """
    for name in ("stop", "stopped"):  # from before: they outlive the driver, whose workers may still look
        (folder / name).unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    stop = _Stop(folder, has_begun)
    handlers: dict[int, Any] = {
        signal.SIGINT: signal.signal(signal.SIGINT, stop.ask),
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop.ask),
        signal.SIGALRM: signal.signal(signal.SIGALRM, stop.look),
    }
    stop.at_once = handlers
    try:
        yield
    except TimeUsedError:  # by its own configuration
        raise
    except RunInterruptedError as error:  # by way of Ray, which was faster, or somebody else wrote `stop`
        raise StoppedBySignalError(str(error), stop.number) from None
    except Exception:  # what Ray makes of an exception that a handler raises amid its own work: SystemError from
        if stop.raised is None:  # compiled code, RaySystemError where a message is being unpickled
            raise
        raise stop.raised from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Stop:
    """The handlers of the signals while a run trains."""

    def __init__(self, folder: Path, has_begun: Callable[[], bool]) -> None:
        self.number: int = signal.SIGTERM
        self.at_once: dict[int, Any] = {}
        self.raised: BaseException | None = None
        """what a handler has raised"""
        self._folder = folder
        self._has_begun = has_begun
        self._give_up_at = 0.0

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Ask the run to stop, or give up asking."""
        first = not self._give_up_at
        self.number = number if first else self.number
        if not first or not self._has_begun():
            self._give_up(frame)
            return
        self._give_up_at = time.monotonic() + GRACE_S
        ask(self._folder)
        print("stopping with a checkpoint; a second signal stops at once", flush=True)
        signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_S, LOOK_EVERY_S)

    def look(self, _: int, frame: FrameType | None) -> None:
        """See whether the answer is there."""
        with suppress(FileNotFoundError):
            message = (self._folder / "stopped").read_text()
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.raised = StoppedBySignalError(message, self.number)
            raise self.raised
        if time.monotonic() > self._give_up_at:
            self._give_up(frame)

    def _give_up(self, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            self.at_once[self.number](self.number, frame)
        except BaseException as error:
            self.raised = error
            raise
