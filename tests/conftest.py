"""Shared by all tests: one thread, small configurations, and where real data may lie."""

from __future__ import annotations

import importlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from drawing import draw_figures, leave_out_figures
from processes import free_port, kill_all, marked_environment

from toposampler.config import merge_overrides, validate
from toposampler.metrics.evaluate import MTOP_BATCH
from toposampler.training import RunConfig

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2 --dist loadgroup` all that starts Ray runs in one process, one test after the other, as Ray takes all
    cores; other tests go file by file, which share what their fixtures make."""
    for item in items:
        ray = item.get_closest_marker("ray")
        item.add_marker(pytest.mark.xdist_group("ray" if ray else item.path.stem))


@pytest.fixture(scope="session")
def load_job() -> Callable[[str], ModuleType]:
    """The module of `toposampler.commands` behind one of the scripts in `ray_jobs/`, by its name."""
    return lambda name: importlib.import_module(f"toposampler.commands.{name}")


@pytest.fixture(autouse=True, scope="session")
def _short_ends_of_runs() -> Iterator[None]:
    """Runs draw no figures, and MTop-Divergence is that of 10 points: both cost more than a short training.

    Tests of what is drawn ask for `drawn`, tests of the metrics for `whole_metrics`.
    """
    leave_out_figures()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["toposampler.metrics.evaluate"], "MTOP_BATCH", 10)
        yield


@pytest.fixture(autouse=True)
def _restored_signals() -> Iterator[None]:
    """A command that runs in this process leaves its handlers behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def drawn() -> Iterator[None]:
    """Figures are drawn, as users have them."""
    draw_figures()
    yield
    leave_out_figures()


@pytest.fixture
def whole_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """MTop-Divergence is that of as many points as users have it of."""
    monkeypatch.setattr(sys.modules["toposampler.metrics.evaluate"], "MTOP_BATCH", MTOP_BATCH)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., RunConfig]:
    """A small run of any system on 200 points of `lines`, in a folder of its own; dotted keys change it."""

    def make(system: str, **overrides: Any) -> RunConfig:
        content = {
            "name": "run",
            "output": str(tmp_path),
            "data": {"name": "lines", "n": 200},
            "system": {"name": system},
            "training": {
                "batch_size": 8,
                "generator_steps": 20,
                "log_every": 5,
                "evaluate_every": 10,
                "checkpoint_every": 5,
                "evaluation_samples": 200,
            },
        }
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        return validate(RunConfig, merge_overrides(content, dotted))

    return make


@pytest.fixture
def fused_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks start, to the last bit, as on a machine that multiplies and adds with one rounding.

    torch draws float32 weights as r (b - a) + a, with r a multiple of 2^-24: the same everywhere, while the sum is
    rounded once where processor and build have fused operations, and else twice. In float64 it is exact: r (b - a) has
    48 bits, and a ends within the 53 below its first.
    """
    draw = torch.Tensor.uniform_

    def uniform_(x: torch.Tensor, a: float = 0, b: float = 1, generator: torch.Generator | None = None) -> torch.Tensor:
        draw(x, generator=generator)
        if x.dtype != torch.float32 or (a, b) == (0, 1):
            return x.mul_(b - a).add_(a)
        low, high = torch.tensor([a, b], dtype=torch.float32)
        with torch.no_grad():
            return x.copy_(x.double() * (high - low).double() + low.double())

    monkeypatch.setattr(torch.Tensor, "uniform_", uniform_)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """An environment for processes; whatever was started with it is killed at the end."""
    environment = marked_environment()
    yield environment
    kill_all(environment)


@pytest.fixture
def dashboard(environment: dict[str, str]) -> Iterator[str]:
    """The address of the dashboard of a Ray cluster of one node, which ends with the processes of `environment`."""
    folder, port = Path(tempfile.mkdtemp(prefix="ray")), free_port()  # short: Ray makes sockets below it
    command = ["ray", "start", "--head", "--num-cpus", "2", "--port", str(free_port()), "--temp-dir", str(folder)]
    command += ["--ray-client-server-port", str(free_port()), "--dashboard-agent-listen-port", str(free_port())]
    command += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(port), "--object-store-memory", "100000000"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield f"http://127.0.0.1:{port}"
    kill_all(environment)
    shutil.rmtree(folder, ignore_errors=True)
