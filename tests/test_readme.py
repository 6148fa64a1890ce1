"""The Python of README.md and docs/extending.md runs as printed: few steps in every run, all of them when slow."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import ROOT

import toposampler
import toposampler.training
from toposampler.plugins import KINDS

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
OWN_DATA, OWN_NETWORKS, OWN_LOOP, CONFIGURATION = BLOCKS
EXTENDING = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
TINY = {"training__generator_steps": 4, "training__batch_size": 8, "training__evaluation_samples": 100}


def run(*blocks: str) -> dict[str, Any]:
    """What the blocks define, one after the other in one module, which networks of their own need to be from."""
    module = type(sys)("readme")
    sys.modules["readme"] = module
    try:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), module.__dict__)
        return dict(module.__dict__)
    finally:
        del sys.modules["readme"]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`fit` and configurations of four steps, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    fit, load_config = toposampler.fit, toposampler.training.load_config
    short = ["--data.n=200", *(f"--{key.replace('__', '.')}={value}" for key, value in TINY.items())]
    monkeypatch.setattr(toposampler, "fit", lambda data, **keys: fit(data[:200], **TINY, **keys))
    monkeypatch.setattr(toposampler.training, "load_config", lambda path, keys: load_config(path, [*keys, *short]))


def test_own_data_and_own_networks(few_steps: None) -> None:
    found = run(OWN_DATA, OWN_NETWORKS)
    assert found["samples"].shape == (1000, 3)
    assert "generator" in repr(found["fitted"])
    assert "readme:critic" in (found["fitted"].path / "config.yaml").read_text()


def test_own_loop() -> None:
    found = run(OWN_LOOP.replace("steps = 6, 3000", "steps = 6, 4"))
    assert torch.isfinite(found["zeta"]).all()
    assert found["t"] == 3


def test_a_configuration(few_steps: None) -> None:
    assert run(CONFIGURATION)["samples"].shape == (1000, 2)


def test_what_is_registered_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for registry in KINDS.values():
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    found = run(*EXTENDING[:-1], EXTENDING[-1].replace("300", '4, "evaluation_samples": 100'))
    assert found["result"]["metrics"]["mean_difference"] > 0
    assert found["config"].system.penalty.every == 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_own_loop_finds_the_masses_as_printed() -> None:
    r = run(OWN_LOOP)["zeta"].softmax(0)
    largest = r.sort(descending=True).values
    assert largest[:3].tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert largest[3:].max() < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_own_data_as_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(OWN_DATA)
    nearest = abs(found["samples"][:, :1] - [[-1000.0, 0.0, 500.0]]).argmin(axis=1)
    shares = [(nearest == k).mean() for k in range(3)]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
