"""Runs in processes of their own, for tests: started, watched, killed, and nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).parents[1]
CONFIG = "configs/lines_dmgan_pl.yaml"
SHORT = ["--training.generator_steps", "20", "--training.evaluation_samples", "500"]
MARK = "TOPOSAMPLER_TEST"
PATIENCE = 600.0
"""seconds that a server may take to answer, on a machine with other work"""


def marked_environment() -> dict[str, str]:
    """A clean environment with a mark of its own, by which `processes` finds whatever is started with it.

    The package is that of these tests' own folder, whatever is installed.
    """
    foreign = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    clean = {key: value for key, value in os.environ.items() if key not in foreign}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    clean |= {MARK: uuid4().hex, "PATH": path, "PYTHONPATH": str(ROOT)}
    return clean | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def processes(environment: Mapping[str, str], command: str = "") -> list[int]:
    """The processes that were started, however indirectly, with `environment`, and have `command` in their command."""
    mark = f"{MARK}={environment[MARK]}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes() and command.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def kill_all(environment: Mapping[str, str]) -> None:
    """Kill what was started with `environment`, and return when it is gone."""
    while left := processes(environment):
        for pid in left:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def assert_nothing_left(environment: Mapping[str, str]) -> None:
    """Ray's processes are told to end before the driver does, and take a moment."""
    deadline = time.monotonic() + 120
    while left := processes(environment):
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
        time.sleep(0.1)


def start(arguments: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a command in the project's folder; its stdout and stderr come as one."""
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def train(*arguments: object) -> list[str]:
    """The command that trains `CONFIG` with `arguments`."""
    return [sys.executable, "ray_jobs/train.py", CONFIG, *map(str, arguments)]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return when `condition` is true; the test fails, with what it said, if `process` ends before."""
    while not condition():
        if process.poll() is not None:
            pytest.fail(str(process.communicate()[0]))
        time.sleep(0.05)


@contextmanager
def server(command: list[str], health: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Have `command` run, and answer at `health`, while the block does; then it and its children are killed.

    What it says is appended to the file `log`: a pipe that nobody reads would stop it. The test fails with the end of
    that if it ends, or gives no answer within `PATIENCE` seconds.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(health):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{shlex.join(command)} does not answer at {health}:\n{log.read_text()[-4000:]}")
            time.sleep(0.2)
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended, with all its children
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    """Whether `url` is answered with a success."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:  # refused, reset, another status
        return False


def recorded_steps(folder: Path) -> list[int]:
    """The steps of the whole records in the folder of a run."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def mlflow_status(output: Path, name: str) -> str:
    """How the run ended, by the MLflow in `output`."""
    delivery = json.loads((output / name / "tracking.json").read_text())
    assert delivery["uri"] == f"sqlite:///{output}/mlflow.db"
    return str(MlflowClient(delivery["uri"]).get_run(delivery["run_id"]).info.status)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
