"""The ablation of component GAN: its trials, and what they measure."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from processes import ROOT

torch.set_num_threads(1)


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import ablation

    return ablation


@pytest.mark.slow  # trains from three starts
def test_starts_differ_and_are_measured_before_and_after_training(ablation: ModuleType) -> None:
    rows = {start: ablation.training("lines", 1, start, 2) for start in ablation.STARTS}
    assert {(len(of), of[0]["step"], of[1]["step"], of[0]["K"]) for of in rows.values()} == {(2, 0, 2, 4)}
    off = {start: of[0]["off_manifold_0.05"] for start, of in rows.items()}
    assert off["fitted"] == 0
    assert 0.02 < off["affine"] < 0.2  # of normal latents, where the segments' are uniform
    assert off["none"] > 0.5


def test_counting_and_weights_of_lines(ablation: ModuleType) -> None:
    (first, *_) = ablation.counting("lines", 1)
    assert (first["components"], first["by_density"], first["bare_tree"]) == (4, 4, 4)
    (found,) = ablation.weights("lines", 1)
    assert found["counts"] == found["labels"]
    assert found["corrected"] < found["mean_q"] < 0.05


def test_the_command_goes_on_where_it_was_stopped(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(ablation, "rows_of", lambda trial: done.append(trial["data"]) or [{"outliers": 0.0, "by": 2}])
    command = ["ablation.py", "--parts", "counting", "--out", str(tmp_path), "--seeds", "2", "--data"]
    for data in ("lines", "lines,moons"):
        monkeypatch.setattr(sys, "argv", [*command, data])
        ablation.main()
    assert done == ["lines", "lines", "moons", "moons"]
    assert "| moons, 0.0 | 2 | 2 |" in (tmp_path / "ablation.md").read_text()
    assert "| lines, 0.0 | 2 | 2 |" in capsys.readouterr().out
