"""The table that says whether a system is first on each data set of `benchmarks/family.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from processes import ROOT


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import family_report

    return family_report


def measured(folder: Path, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Path:
    folder.mkdir()
    for data, of_data in scores.items():
        rows = [{"system": name, "score": x} for name, values in of_data.items() for x in values]
        (folder / f"{data}.json").write_text(json.dumps({"rows": [*rows, {"system": "mgan", "failed": "not finite"}]}))
        (folder / f"{data}.md").touch()
    return folder


def test_first_equal_first_and_behind(report: ModuleType, tmp_path: Path) -> None:
    measured(
        tmp_path / "whole", {"lines": {"wgan_gp": [0.1], "own": [0.0], "real data": [0.0]}, "ring": {"dmgan": [0.2]}}
    )
    tenth = {
        "lines": {"own": [0.0, 0.02], "real data": [0.0], "deligan": [0.5, 0.7]},
        "ring": {"own": [0.3, 0.3], "mad_gan": [0.9]},
        "grid": {"own": [0.10, 0.12], "vcgan_lp": [0.08, 0.12], "dmgan": [0.5]},
        "circles": {"own": [0.1]},
        "spheres": {"wgan_gp": [0.1]},
    }
    _, _, lines, circles, ring, grid = report.places_table(measured(tmp_path / "tenth", tenth), "own", "whole")
    assert lines.endswith("| 0.0100 ± 0.0141 | `deligan` 0.6000 ± 0.1414, 2 seeds | `wgan_gp` 0.1000, 1 seed | first |")
    assert circles.endswith("| 0.1000 | - | - | - |")
    assert ring.endswith("| 0.3000 | `mad_gan` 0.9000, 1 seed | `dmgan` 0.2000, 1 seed | behind |")
    assert grid.endswith("| 0.1100 ± 0.0141 | `vcgan_lp` 0.1000 ± 0.0283, 2 seeds | - | equal first |")
