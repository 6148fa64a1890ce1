"""Something done again and again beside the main work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Periodic:
    """Calls `action` every `seconds` from a thread of its own while the block runs, and once more when it ends."""

    def __init__(self, action: Callable[[], object], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def _repeat(self) -> None:
        while not self._ended.wait(self._seconds):
            self._action()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._action()
