"""The kernels of the spanning tree, in Triton's interpreter on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toposampler.topology import boruvka

HERE = Path(__file__).parent


@pytest.mark.parametrize("what", ["quick", pytest.param("all", marks=pytest.mark.slow)])
def test_trees_by_kernels_are_minimal(what: str) -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    command = [sys.executable, str(HERE / "interpreted_trees.py"), what]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "all trees are minimal" in ended.stdout


def test_without_triton_torch_is_used_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "toposampler.topology.kernels", None)
    boruvka._kernels.cache_clear()
    assert boruvka._kernels() is None
    assert boruvka._kernels() is None
    assert caplog.text.count("no Triton") == 1
    boruvka._kernels.cache_clear()
