"""The benchmark for a GPU runs on a CPU too, at small sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, marked_environment


@pytest.mark.slow
def test_every_table_has_rows(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--seconds", "0.02", "--out", str(out)]
    (tmp_path / "cuhc.py").write_text("from scipy.cluster.hierarchy import linkage\n")  # of the same signature
    environment = marked_environment() | {"PYTHONPATH": str(tmp_path)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    found = json.loads(out.read_text())
    rows = [(row["precision"], row["graph"], row["refused"]) for row in found["alone"]]
    assert rows == [(p, graph, False) for p in ("fp32", "tf32", "bf16") for graph in (False, True)]
    assert [row["members"] for row in found["population"]] == [1, 3]
    assert found["population"][0]["ratio_to_one"] == 1
    assert all(row["largest_relative_difference"] < 1e-5 for row in found["trees"])
    assert all(row["cuhc_largest_relative_difference"] < 1e-5 for row in found["trees"])
    assert [(row["deterministic"], row["same_bits"]) for row in found["repeats"]] == [(False, True), (True, True)]
