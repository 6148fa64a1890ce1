"""README.md: it is short, its Python and its commands run as printed, its links lead somewhere; so for
docs/extending.md. Few steps in every run, all of them when slow. `test_tables_made.py` has its table."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from processes import ROOT

import toposampler
from toposampler.plugins import KINDS

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
OWN_DATA, OWN_NETWORKS = (block for language, block in BLOCKS if language == "python")
COMMANDS = [
    line.partition("  #")[0].strip()
    for language, block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if not language
]
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


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 180


@pytest.mark.parametrize("path", ["README.md", "ARCHITECTURE.md", "k8s/README.md"])
def test_its_links_lead_somewhere(path: str) -> None:
    place = ROOT / path
    targets = re.findall(r"\]\(([^)#\s]+)", place.read_text())
    assert all((place.parent / target).exists() for target in targets if not target.startswith("http"))


def test_own_data_and_own_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    fit = toposampler.fit
    monkeypatch.setattr(toposampler, "fit", lambda data, **keys: fit(data[:200], **TINY, **keys))
    found = run(OWN_DATA, OWN_NETWORKS)
    assert found["samples"].shape == (1000, 3)
    assert "generator" in repr(found["fitted"])
    assert "readme:critic" in (found["fitted"].path / "config.yaml").read_text()


def test_what_is_registered_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for registry in KINDS.values():
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    found = run(*EXTENDING[:-1], EXTENDING[-1].replace("300", '4, "evaluation_samples": 100'))
    assert found["result"]["metrics"]["mean_difference"] > 0
    assert found["config"].system.penalty.every == 4


def test_its_training_commands_are_accepted(
    load_job: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Looked at by `--dry-run`, the data included; on this machine, not as a job."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("configs", "tuning"):
        (tmp_path / name).symlink_to(ROOT / name)
    np.save("points.npy", np.random.default_rng(0).normal(size=(100, 3)))
    (tmp_path / "folder_of_images").mkdir()
    for i in range(64):
        Image.new("L", (16, 16), i).save(f"folder_of_images/{i}.png")
    commands = [command for command in COMMANDS if "ray_jobs/train.py" in command]
    assert len(commands) == 5
    for command in commands:
        arguments = re.sub(r"--submit \S+|--working-dir \S+", "", command.partition("ray_jobs/train.py")[2])
        assert load_job("train").main([*shlex.split(arguments), "--output", str(tmp_path / "runs"), "--dry-run"]) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_commands_run_as_printed(environment: dict[str, str], tmp_path: Path) -> None:
    """All but `make`, which every change runs, those for a cluster and a sweep of one's own, and the servers."""
    for name in ("configs", "ray_jobs", "tuning"):
        (tmp_path / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "points.npy", rng.choice([-5.0, 0.0, 5.0], size=(2000, 1)) + 0.1 * rng.normal(size=(2000, 2)))
    commands = [c for c in COMMANDS if c.startswith("python ray_jobs") and ("points" in c)]
    assert len(commands) == 5
    environment = environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert np.load(tmp_path / "samples.npy").shape == (10000, 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_own_data_as_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(OWN_DATA)
    nearest = abs(found["samples"][:, :1] - [[-1000.0, 0.0, 500.0]]).argmin(axis=1)
    shares = [(nearest == k).mean() for k in range(3)]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
