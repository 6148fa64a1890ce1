"""Numbers of a SWEEP.yaml: read as those of a run, by YAML 1.2, and bounded before anything is computed with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toposampler.errors import UserError
from toposampler.tuning.config import Sweep, base_values, load_sweep

BASE = "name: base\ndata: {name: lines, n: 200}\nsystem: {name: wgan_gp, penalty: {weight: 1e-4}}\n"


def sweep(folder: Path, lines: str) -> Sweep:
    (folder / "base.yaml").write_text(BASE)
    (folder / "sweep.yaml").write_text(f"name: 2024_01_05\nbase: base.yaml\n{lines}\n")
    return load_sweep(folder / "sweep.yaml")


@pytest.mark.parametrize("key", ["choice: [1e-4, 1e-2]", "loguniform: [1e-4, 1e-2]", "uniform: [1E-4, 1]"])
def test_an_exponent_is_a_number_and_the_base_is_in_the_space(key: str, tmp_path: Path) -> None:
    found = sweep(tmp_path, f"space: {{system.penalty.weight: {{{key}}}}}")
    assert found.config.name == "2024_01_05"
    assert base_values(found) == {"system.penalty.weight": 1e-4}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("trials: 010", r"trials: input should be a valid integer, such as 64 \(got '010'\)"),
        ("trials: true", "trials: input should be a valid integer"),
        ("trials: 1000000000", "trials: input should be less than or equal to 100000"),
        ("scheduler: {name: asha, rungs: 100000000}", "scheduler.rungs: input should be less than or equal to 20"),
        ("scheduler: {name: asha, reduction: 1e9}", "scheduler.reduction: input should be less than or equal to 1000"),
        ("scheduler: {name: pbt, rounds: 1e9}", "scheduler.rounds: input should be less than"),
        ("repeats: 1000000", "repeats: input should be less than"),
        ("register_model: yes", r"register_model: input should be true or false \(got 'yes'\)"),
        ("output: gs://bucket", "output: remote storage is not supported yet"),
        ("model: a'b", "model: a registered model's name has at most 200 letters"),
        ("overrides: {training.generator_steps: 1:30}", "training.generator_steps: input should be a valid integer"),
        ("space: {system.penalty.weight: {uniform: [0, 1:30]}}", "two numbers are needed"),
        ("space: {system.penalty.weight: {uniform: [0, 010]}}", "two numbers are needed"),
        ("space: {system.penalty.weight: {uniform: [true, 2]}}", "two numbers are needed"),
        (f"space: {{system.penalty.weight: {{uniform: [0, 1{'0' * 400}]}}}}", r"two numbers are needed, .*\.\.\.\)"),
        (f"space: {{system.penalty.weight: {{int: [0, 1{'0' * 90}.5]}}}}", "both ends must be within 2..53 of 0"),
        ("space: {system.penalty.weight: {uniform: [0, 1e999]}}", "both finite"),
    ],
)
def test_a_number_that_is_none_or_too_large_is_named(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sweep(tmp_path, lines)
    assert len(str(caught.value)) < len(str(tmp_path)) + 600


def test_values_of_every_kind_survive_the_way_into_the_space(tmp_path: Path) -> None:
    options: list[Any] = ["torch", "xavier"]
    found = sweep(
        tmp_path, "space: {system.initialization: {choice: [torch, xavier]}, system.generator_width: {int: [8, 0x20]}}"
    )
    assert found.space["system.initialization"].corners() == options
    assert found.space["system.generator_width"].corners() == [8, 32]
