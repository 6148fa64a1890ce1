"""When an elastic run asks for more workers: the rule, without Ray (in tests/test_faults.py a machine joins)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from toposampler.config import ClusterConfig
from toposampler.distributed import growth
from toposampler.distributed.growth import Growth, note_workers
from toposampler.distributed.resources import Node
from toposampler.distributed.stop import RESIZE, STOP, ask, request


def node(total: int, free: int) -> Node:
    return Node("node", {"CPU": float(total)}, {"CPU": float(free)})


@pytest.mark.parametrize(
    ("nodes", "now", "asked"),
    [
        ([node(1, 0), node(1, 1)], 1, True),
        ([node(1, 0)], 1, False),
        ([node(1, 0), node(1, 0)], 1, False),  # another program has it
        ([node(1, 1)], 1, False),  # the run's own, between two of its processes
        ([node(1, 0), node(3, 1)], 3, False),  # as many as are wanted
    ],
)
def test_room_for_more_is_asked_for_after_two_looks(
    nodes: list[Node], now: int, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "nodes", lambda: nodes)
    watch = Growth(ClusterConfig(num_workers=3, min_workers=1), tmp_path)
    watch.look()  # nobody works yet
    note_workers(tmp_path, now)
    watch.look()
    watch.look()
    assert request(tmp_path) is None, "it has only begun"
    long_ago = time.time() - growth.SETTLED_S - 1
    os.utime(tmp_path / growth.WORKERS, (long_ago, long_ago))
    watch.look()
    assert request(tmp_path) is None
    watch.look()
    assert (request(tmp_path) == RESIZE) is asked
    ask(tmp_path)
    assert request(tmp_path) == STOP
    watch.clear()
    assert {path.name for path in tmp_path.iterdir()} == {STOP}


def test_room_that_is_there_for_a_moment_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([[node(1, 0), node(1, free)] for free in (1, 0, 1, 1)])
    monkeypatch.setattr(growth, "nodes", lambda: next(found))
    monkeypatch.setattr(growth, "SETTLED_S", 0.0)
    watch = Growth(ClusterConfig(num_workers=2, min_workers=1), tmp_path)
    note_workers(tmp_path, 1)
    for asked in (False, False, False, True):
        watch.look()
        assert (request(tmp_path) == RESIZE) is asked
