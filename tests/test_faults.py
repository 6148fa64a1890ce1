"""What dies, for real, and what becomes of the run: `pytest tests/test_faults.py -rP -m ''` prints the table.

Every run must end as one that nothing happened to: the same bits in its last checkpoint and in its records where it
went on with as many workers, and no step recorded twice or left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from processes import (
    CONFIG,
    ROOT,
    assert_nothing_left,
    free_port,
    kill_all,
    mlflow_status,
    processes,
    recorded_steps,
    start,
    train,
    wait_until,
)
from ranks import on_ranks

from toposampler.errors import RunInterruptedError
from toposampler.training import load_config
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.entry import train as train_here

pytestmark = pytest.mark.ray

STEPS, LOG_EVERY, CHECKPOINT_EVERY = 400, 10, 40
PACE = {
    "training.generator_steps": STEPS,
    "training.log_every": LOG_EVERY,
    "training.checkpoint_every": CHECKPOINT_EVERY,
    "training.evaluation_samples": 500,
}
ALL_STEPS = list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))


def options(output: Path | str, workers: int = 1, placement: str = "replicated", **more: object) -> list[str]:
    """The overrides of a run named `run`; `more` with __ for the dots of a key."""
    keys: dict[str, object] = {"output": output, "name": "run", "cluster.num_workers": workers, **PACE}
    keys |= {"cluster.placement": placement, **{key.replace("__", "."): value for key, value in more.items()}}
    return [str(part) for key, value in keys.items() for part in (f"--{key}", value)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Path]:
    """The folder of a run without Ray that nothing happened to, made once for a number of workers and a placement."""
    made: dict[tuple[int, str], Path] = {}

    def make(workers: int, placement: str) -> Path:
        if (workers, placement) not in made:
            output = tmp_path_factory.mktemp(f"{placement}{workers}")
            arguments = options(output, workers, placement)
            on_ranks(workers, train_here, load_config(ROOT / CONFIG, arguments))
            made[workers, placement] = output / "run"
        return made[workers, placement]

    return make


def assert_same_tensors(one: Any, other: Any, place: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same_tensors(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_tensors(a, b, f"{place}/{i}")
    else:
        assert one == other, place


def records(run: Path) -> list[tuple[int, dict[str, float]]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["metrics"]) for line in lines]


def assert_as_if_undisturbed(run: Path, reference: Path) -> None:
    """The same bits in the last checkpoint and in every record."""
    assert recorded_steps(run) == ALL_STEPS
    last = f"checkpoints/step_{STEPS:08d}.pt"
    assert_same_tensors(read_checkpoint(run / last)["loop"], read_checkpoint(reference / last)["loop"])
    assert records(run) == records(reference)


class Recovery:
    """Seconds from a fault to the first record that would not have been written without recovery."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._at = time.time()

    def settle(self, process: subprocess.Popen[str] | None = None) -> None:
        """Records from now on are those of a recovered run: nothing works on it, or `process` has told of a loss."""
        if process is not None:
            wait_until(lambda: "failed: " in (self._run / "events.log").read_text(), process)
        self._last = recorded_steps(self._run)[-1]

    def told(self, fault: str, outcome: str) -> None:
        """Print the row of the table."""
        lines = map(json.loads, (self._run / "metrics.jsonl").read_text().splitlines())
        first = next(line["time"] for line in lines if line["step"] > self._last)
        print(f"recovery | {fault} | {outcome} | {first - self._at:.1f} s")


def half_way(run: Path, process: subprocess.Popen[str]) -> None:
    """Return when the run has a checkpoint, and a record after it."""
    wait_until(lambda: list(run.glob("checkpoints/step_*.pt")), process)
    wait_until(lambda: recorded_steps(run)[-1:] > [CHECKPOINT_EVERY], process)


def test_a_worker_the_run_and_the_driver_one_after_the_other(
    environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    """One run whose worker is killed, which is then stopped, and whose driver is killed when it goes on.

    `make test-slow` has each of these alone, with its seconds.
    """
    reference, folder = undisturbed(2, "sharded"), tmp_path / "run"
    command = train(*options(tmp_path, 2, "sharded"))
    run = start(command, environment)
    half_way(folder, run)
    os.kill(processes(environment, "RayTrainWorker")[-1], signal.SIGKILL)
    wait_until(lambda: "failed: " in (folder / "events.log").read_text(), run)
    before = recorded_steps(folder)[-1]
    wait_until(lambda: recorded_steps(folder)[-1] > before, run)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate()
    assert run.returncode == 143, said
    assert re.search(r"worker \d failed: ", said)
    step = interrupted_at(folder, said)
    assert mlflow_status(tmp_path, "run") == "KILLED"
    assert_nothing_left(environment)

    run = start(command, environment)
    wait_until(lambda: recorded_steps(folder)[-1] > step, run)
    run.kill()
    kill_all(environment)  # Ray's processes outlive the driver for a moment, and write on
    run.communicate()
    assert not (folder / "result.json").exists()

    run = start(command, environment)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert re.search(rf"at step \d+ of {STEPS}", said)
    assert_as_if_undisturbed(folder, reference)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (recorded,) = client.search_runs([client.get_experiment_by_name("toposampler").experiment_id])
    assert recorded.info.status == "FINISHED"
    assert not list(folder.glob("stop*"))
    assert_nothing_left(environment)


@pytest.mark.parametrize(
    ("workers", "placement"),
    [(1, "replicated"), (2, "replicated"), (2, "sharded")],
)
@pytest.mark.slow
def test_a_worker_is_killed(
    environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path], workers: int, placement: str
) -> None:
    reference, folder = undisturbed(workers, placement), tmp_path / "run"
    run = start(train(*options(tmp_path, workers, placement)), environment)
    half_way(folder, run)
    recovery = Recovery(folder)
    os.kill(processes(environment, "RayTrainWorker")[-1], signal.SIGKILL)
    recovery.settle(run)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert re.search(r"worker \d failed: ", said)
    assert_as_if_undisturbed(folder, reference)
    assert mlflow_status(tmp_path, "run") == "FINISHED"
    assert_nothing_left(environment)
    of = f"one of {workers} workers, {placement}" if workers > 1 else "the worker"
    recovery.told(f"SIGKILL of {of}", "the workers start again, the same bits")


@pytest.mark.slow
def test_the_driver_is_killed(environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]) -> None:
    reference, folder = undisturbed(2, "replicated"), tmp_path / "run"
    command = train(*options(tmp_path, 2))
    run = start(command, environment)
    half_way(folder, run)
    recovery = Recovery(folder)
    run.kill()
    kill_all(environment)  # Ray's processes outlive the driver for a moment, and write on
    run.communicate()
    recovery.settle()
    assert not (folder / "result.json").exists()

    again = start(command, environment)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert_as_if_undisturbed(folder, reference)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (recorded,) = client.search_runs([client.get_experiment_by_name("toposampler").experiment_id])
    assert recorded.info.status == "FINISHED"
    assert_nothing_left(environment)
    recovery.told("SIGKILL of the driver and all of Ray, the same command", "goes on, the same bits")

    again = start(command, environment)
    assert "complete: nothing is left to train; give another --name" in again.communicate()[0]


def interrupted_at(run: Path, said: str) -> int:
    """The step of the checkpoint with which the run says that it has stopped; the file is there."""
    found = re.search(r"stopped after generator step (\d+); checkpoint: (\S+)", said)
    assert found, said
    step = int(found[1])
    assert found[2] == str(run / "checkpoints" / f"step_{step:08d}.pt")
    assert Path(found[2]).exists()
    assert not (run / "result.json").exists()
    return step


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint(
    environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    reference, folder = undisturbed(2, "replicated"), tmp_path / "run"
    command = train(*options(tmp_path, 2))
    run = start(command, environment)
    half_way(folder, run)
    at = time.time()
    recovery = Recovery(folder)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate()
    recovery.settle()
    assert run.returncode == 143, said
    step = interrupted_at(folder, said)
    checkpoint = (folder / "checkpoints" / f"step_{step:08d}.pt").stat().st_mtime - at
    told_mlflow = (folder / "tracking.json").stat().st_mtime - at
    assert checkpoint < 20
    assert mlflow_status(tmp_path, "run") == "KILLED"
    assert_nothing_left(environment)

    again = start(command, environment)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert f"at step {step} of {STEPS}" in said
    assert_as_if_undisturbed(folder, reference)
    assert mlflow_status(tmp_path, "run") == "FINISHED"
    assert not list(folder.glob("stop*"))
    outcome = f"checkpoint after {checkpoint:.1f} s, MLflow KILLED after {told_mlflow:.1f} s, exit code 143"
    recovery.told("SIGTERM, the same command", outcome)


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    run = start(train(*options(tmp_path)), environment)
    half_way(tmp_path / "run", run)
    (worker,) = processes(environment, "RayTrainWorker")
    os.kill(worker, signal.SIGSTOP)  # it cannot answer
    run.send_signal(signal.SIGINT)
    time.sleep(1)
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate()
    assert run.returncode == 130, said
    assert "stopping with a checkpoint; a second signal stops at once" in said
    assert "the same command resumes from the newest checkpoint" in said
    assert mlflow_status(tmp_path, "run") == "KILLED"
    assert_nothing_left(environment)


@pytest.mark.slow
def test_ray_job_stop_saves_a_checkpoint(
    dashboard: str, environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    """With Ray's own patience of 3 seconds."""
    reference, folder = undisturbed(2, "replicated"), tmp_path / "run"
    arguments = ["python", "ray_jobs/train.py", CONFIG, *options(tmp_path, 2)]
    submit = ["ray", "job", "submit", "--address", dashboard, "--working-dir", ".", "--submission-id", "job"]
    run = start([*submit, "--", *arguments], environment)
    half_way(folder, run)
    at = time.time()
    recovery = Recovery(folder)
    subprocess.run(["ray", "job", "stop", "--address", dashboard, "job"], env=environment, check=True, cwd=ROOT)
    said, _ = run.communicate()
    recovery.settle()
    step = interrupted_at(folder, said)
    checkpoint = (folder / "checkpoints" / f"step_{step:08d}.pt").stat().st_mtime - at
    assert mlflow_status(tmp_path, "run") == "KILLED"

    again = start(train(*arguments[3:], "--submit", dashboard), environment)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert f"at step {step} of {STEPS}" in said
    assert_as_if_undisturbed(folder, reference)
    recovery.told("ray job stop, the same job", f"checkpoint after {checkpoint:.1f} s, MLflow KILLED")


@pytest.mark.slow
def test_the_disk_is_full_while_a_checkpoint_is_written(
    environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    reference, folder = undisturbed(1, "replicated"), tmp_path / "run"
    full = folder / "checkpoints" / f"step_{2 * CHECKPOINT_EVERY:08d}.tmp"
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")
    run = start(train(*options(tmp_path)), environment)
    said, _ = run.communicate()
    assert run.returncode == 3, said
    assert f"last good checkpoint: {folder}/checkpoints/step_{CHECKPOINT_EVERY:08d}.pt" in said
    assert "Traceback" not in said
    assert mlflow_status(tmp_path, "run") == "FAILED"

    recovery = Recovery(folder)
    recovery.settle()
    assert not full.is_symlink(), "what was written in vain keeps no room"
    again = start(train(*options(tmp_path)), environment)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert_as_if_undisturbed(folder, reference)
    recovery.told("disk full, then room, the same command", "exit code 3; goes on, the same bits")


@pytest.mark.slow
def test_the_newest_checkpoint_is_damaged(
    environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    reference, folder = undisturbed(1, "replicated"), tmp_path / "run"
    third = folder / "checkpoints" / f"step_{3 * CHECKPOINT_EVERY:08d}.pt"
    config = load_config(ROOT / CONFIG, options(tmp_path))
    with pytest.raises(RunInterruptedError):
        train_here(config, should_stop=lambda: "stop" if third.exists() else None)
    newest = checkpoints(folder / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    recovery = Recovery(folder)
    recovery.settle()
    run = start(train(*options(tmp_path)), environment)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert f"checkpoint {newest} is damaged" in said
    assert "falling back to the checkpoint before it" in said
    assert_as_if_undisturbed(folder, reference)
    recovery.told("newest checkpoint damaged", "said, and the one before is taken; the same bits")


def ray_start(arguments: list[Any], environment: Mapping[str, str]) -> None:
    """Start a node of Ray with `arguments`."""
    command = ["ray", "start", "--dashboard-agent-listen-port", free_port(), *arguments]
    command += ["--object-store-memory", 100_000_000]
    subprocess.run([str(part) for part in command], env=environment, check=True, capture_output=True)


@pytest.fixture
def two_nodes(environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A Ray cluster of two nodes with one CPU each, on this machine: its address and the process of the second node."""
    folder, port = Path(tempfile.mkdtemp(prefix="ray")), free_port()
    head = ["--head", "--port", port, "--temp-dir", folder, "--ray-client-server-port", free_port()]
    head += ["--include-dashboard", "false"]
    ray_start([*head, "--num-cpus", 1], environment)
    before = processes(environment, "raylet/raylet")
    ray_start(["--address", f"127.0.0.1:{port}", "--num-cpus", 1], environment)
    (second,) = set(processes(environment, "raylet/raylet")) - set(before)
    yield f"127.0.0.1:{port}", second
    kill_all(environment)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_node_is_lost_for_good(two_nodes: tuple[str, int], environment: dict[str, str], tmp_path: Path) -> None:
    address, second = two_nodes
    folder = tmp_path / "run"
    command = train(*options(tmp_path, 2, cluster__min_workers=1))
    run = start(command, environment | {"RAY_ADDRESS": address})
    half_way(folder, run)
    recovery = Recovery(folder)
    os.kill(second, signal.SIGKILL)
    recovery.settle(run)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert f"at step 0 of {STEPS}, workers: 2" in said
    assert re.search(rf"at step \d+ of {STEPS}, workers: 1", said)
    assert recorded_steps(folder) == ALL_STEPS
    assert json.loads((folder / "result.json").read_text())["generator_steps"] == STEPS
    assert mlflow_status(tmp_path, "run") == "FINISHED"
    recovery.told("SIGKILL of one of 2 nodes, min_workers 1", "goes on with 1 worker")


@pytest.mark.slow
def test_a_node_is_announced_to_go(two_nodes: tuple[str, int], environment: dict[str, str], tmp_path: Path) -> None:
    """As cloud providers do with machines they sell cheaply."""
    address, second = two_nodes
    folder = tmp_path / "run"
    never = {"training__checkpoint_every": 10 * STEPS, "training__generator_steps": 10 * STEPS}
    spread = {"cluster__min_workers": 1, "cluster__placement_strategy": "SPREAD"}
    run = start(train(*options(tmp_path, 2, **never, **spread)), environment | {"RAY_ADDRESS": address})
    wait_until(lambda: recorded_steps(folder), run)
    (node,) = re.findall(r"--node_id=(\w+)", Path(f"/proc/{second}/cmdline").read_text().replace("\0", " "))
    drain = ["ray", "drain-node", "--address", address, "--node-id", node, "--reason-message", "sold"]
    drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", "5"]
    subprocess.run(drain, env=environment, check=True, capture_output=True)
    at = time.time()
    wait_until(lambda: list(folder.glob("checkpoints/step_*.pt")), run)
    (checkpoint,) = folder.glob("checkpoints/step_*.pt")
    seconds = checkpoint.stat().st_mtime - at
    again = rf"at step {int(checkpoint.stem[5:])} of {10 * STEPS}, workers: 1"
    wait_until(lambda: re.search(again, (folder / "events.log").read_text()), run)
    print(f"recovery | node announced to go | checkpoint after {seconds:.1f} s, goes on with 1 worker | "
          f"{time.time() - at:.1f} s, with 5 s of grace")  # fmt: skip
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 143


@pytest.mark.slow
def test_a_machine_joins(environment: dict[str, str], tmp_path: Path) -> None:
    """No step is lost: the larger group goes on after the very step that the smaller one ended with."""
    temporary, port, folder = Path(tempfile.mkdtemp(prefix="ray")), free_port(), tmp_path / "run"
    head = ["--head", "--port", port, "--temp-dir", temporary, "--ray-client-server-port", free_port()]
    ray_start([*head, "--include-dashboard", "false", "--num-cpus", 1], environment)
    steps = 20 * STEPS
    keys = {"training__checkpoint_every": steps, "training__generator_steps": steps, "cluster__min_workers": 1}
    run = start(train(*options(tmp_path, 2, **keys)), environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"})
    wait_until(lambda: recorded_steps(folder), run)
    at = time.time()
    ray_start(["--address", f"127.0.0.1:{port}", "--num-cpus", 1], environment)
    grown = rf"at step (\d+) of {steps}, workers: 2"
    wait_until(lambda: re.search(grown, (folder / "events.log").read_text()), run)
    seconds = time.time() - at
    (saved,) = folder.glob("checkpoints/step_*.pt")
    found = re.search(grown, (folder / "events.log").read_text())
    assert found is not None
    assert int(found[1]) == int(saved.stem[5:]) >= recorded_steps(folder)[-1] - LOG_EVERY
    before = recorded_steps(folder)[-1]
    wait_until(lambda: recorded_steps(folder)[-1] > before, run)
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate()
    assert run.returncode == 143, said
    assert "there is room for 2 workers, and 1 train: starting more, from a checkpoint" in said
    assert recorded_steps(folder) == list(range(LOG_EVERY, recorded_steps(folder)[-1] + 1, LOG_EVERY))
    print(f"recovery | a machine joins | goes on with 2 workers, no step lost | {seconds:.1f} s")
    kill_all(environment)
    shutil.rmtree(temporary, ignore_errors=True)


class Server:
    """An MLflow server with its database in `folder`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._port = free_port()
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/m.db"]
        self._command += ["--default-artifact-root", str(folder), "--port", str(self._port), "--workers", "1"]
        self._environment = environment | {"MLFLOW_ALLOW": ""}
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            assert self._process.poll() is None
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it and its children."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.mark.slow
def test_the_mlflow_server_is_killed_and_comes_back(
    environment: dict[str, str], tmp_path: Path, undisturbed: Callable[..., Path]
) -> None:
    reference, folder = undisturbed(1, "replicated"), tmp_path / "run"
    server = Server(tmp_path, environment)
    server.start()
    run = start(train(*options(tmp_path, tracking__uri=server.uri)), environment)
    half_way(folder, run)
    at = time.time()
    server.kill()
    wait_until(lambda: recorded_steps(folder)[-1] >= STEPS // 2, run)  # training does not mind
    server.start()
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert_as_if_undisturbed(folder, reference)
    delivery = json.loads((folder / "tracking.json").read_text())
    client = MlflowClient(server.uri)
    assert client.get_run(delivery["run_id"]).info.status == "FINISHED"
    for name in ("critic/real", "critic/penalty"):
        assert [metric.step for metric in client.get_metric_history(delivery["run_id"], name)] == ALL_STEPS
    server.kill()
    seconds = (folder / "tracking.json").stat().st_mtime - at
    print(f"recovery | SIGKILL of the MLflow server, started again | no record lost or doubled | {seconds:.1f} s")
