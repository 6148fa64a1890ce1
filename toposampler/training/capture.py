"""Recording a program of tensor operations once, to be replayed without Python: a CUDA graph, and its stand-in.

A program reads and writes tensors that stay where they are. What it is given at each replay is copied into them before
(`training/graph.py`). `Capture` is the interface: `CudaCapture` records kernels; `StandIn` calls the program again,
with the very objects that it was made with: what in it depends on a Python value of the moment shows on a CPU.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor

Action = Callable[[], None]

WARM_UP = 2
"""runs before a capture, in which libraries set themselves up; what they change is undone"""
RELATIVE, ABSOLUTE = 1e-2, 1e-3
"""how far loss terms of a first replay may be from those without a graph: sums on a GPU have no fixed order"""

log = logging.getLogger(__name__)


class NotCapturableError(Exception):
    """A program cannot be captured; the message says why."""


class Capture(ABC):
    """Makes replays of programs."""

    is_silent: ClassVar[bool] = False
    """whether nothing is said of a program that cannot be captured: nobody has asked for its capture"""

    @abstractmethod
    def __call__(
        self, segments: Sequence[Action], state: Sequence[Tensor], outputs: Callable[[], Tensor]
    ) -> list[Action]:
        """Replays of `segments`, parts of one program that follow each other.

        Args:
            segments: what to record; they may run any number of times here.
            state: all tensors that they write to and that outlive a program: they are as before afterwards.
            outputs: what the segments have made, the loss terms of the program that ran last.

        Raises:
            NotCapturableError: the program waits for the device, or a replay does not give what it gives.
        """


class StandIn(Capture):
    """For tests on a CPU: a replay calls the segments again."""

    def __call__(
        self, segments: Sequence[Action], state: Sequence[Tensor], outputs: Callable[[], Tensor]
    ) -> list[Action]:
        """See `Capture`."""
        with restored(state):
            for segment in segments:
                segment()
        return list(segments)


class CudaCapture(Capture):
    """CUDA graphs, one a segment, on memory that all graphs of this object share: they run one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, segments: Sequence[Action], state: Sequence[Tensor], outputs: Callable[[], Tensor]
    ) -> list[Action]:
        """See `Capture`."""
        try:
            expected = self._warmed_up(segments, state, outputs)
            graphs = [self._captured(segment) for segment in segments]
            with restored(state):
                for graph in graphs:
                    graph.replay()
                found = outputs().clone()
        except RuntimeError as error:
            torch.cuda.synchronize(self._device)
            raise NotCapturableError(str(error).splitlines()[0]) from error
        if not torch.allclose(found, expected, RELATIVE, ABSOLUTE, equal_nan=True):
            raise NotCapturableError(f"a replay gives loss terms {found.tolist()}, and not {expected.tolist()}")
        return [graph.replay for graph in graphs]

    def _warmed_up(self, segments: Sequence[Action], state: Sequence[Tensor], outputs: Callable[[], Tensor]) -> Tensor:
        """The loss terms of a run without a graph. The last run is one in which waiting for the device is an error."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for i in range(WARM_UP):
                with restored(state), _waiting_is_an_error(i == WARM_UP - 1):
                    for segment in segments:
                        segment()
            found = outputs().clone()
        current.wait_stream(self._stream)
        return found

    def _captured(self, segment: Action) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Other threads, as those of Ray, may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            segment()
        return graph


@contextmanager
def restored(state: Sequence[Tensor]) -> Iterator[None]:
    """Have `state` after the block as it was before."""
    before = [x.detach().clone() for x in state]
    try:
        yield
    finally:
        with torch.no_grad():
            for x, kept in zip(state, before, strict=True):
                x.copy_(kept)


@contextmanager
def _waiting_is_an_error(on: bool) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    try:
        if on:
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
