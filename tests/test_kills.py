"""A hundred kills at random moments: every run ends with the bits of one that nothing happened to.

Fifty of a process that trains without Ray, which is driver and worker in one, and fifty of a worker of Ray Train, under
drivers that go on. In turn while the process starts, while it trains, while a checkpoint is being written, and after
the last step, while it evaluates, draws and writes what a run ends with. The moment within that is drawn, with a seed;
where the process is then, the machine says. `pytest tests/test_kills.py -m slow -rP` prints how many fell when.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from processes import ROOT, free_port, kill_all, processes, recorded_steps, start, train
from test_faults import assert_same_tensors, ray_start, records

from toposampler.training import load_config
from toposampler.training.checkpoint import read_checkpoint
from toposampler.training.entry import train as train_here

KILLS, KILLS_OF_A_RUN = 50, 10
MOMENTS = ("start", "training", "checkpoint", "end")
STEPS, EVERY = 120, 3
SECONDS = {"start": 0.5, "training": 0.1, "checkpoint": 0.002, "end": 0.6}
"""longest time from the beginning of a moment to the kill"""
KEYS = {
    "name": "run",
    "training.generator_steps": STEPS,
    "training.checkpoint_every": EVERY,
    "training.log_every": EVERY,
    "training.evaluate_every": 60,
    "training.evaluation_samples": 200,
    "system.generator_width": 16,
    "system.critic_width": 16,
    "data.n": 1000,
    "tracking.enabled": "false",
    "cluster.max_failures": 1000,
}


def options(output: Path) -> list[str]:
    """The command line of a run in the folder `output`."""
    return [str(part) for key, value in {**KEYS, "output": output}.items() for part in (f"--{key}", value)]


def train_run(output: str, dies_in: tuple[int, float] | None) -> None:
    """Train it here. `dies_in`: the number of a checkpoint, and the part of it that is written before SIGKILL comes."""
    torch.set_num_threads(1)  # as every worker: products of more threads may round otherwise
    if dies_in is not None:
        torch.save = Dying(*dies_in)
    train_here(load_config(ROOT / "configs" / "lines_dmgan_pl.yaml", options(Path(output))))


class Dying:
    """In place of `torch.save`, a checkpoint that is never written to its end."""

    def __init__(self, number: int, part: float) -> None:
        self._left, self._part, self._save = number, part, torch.save

    def __call__(self, state: Any, file: IO[bytes]) -> None:
        """Write all of the state, or a part of it and die."""
        self._left -= 1
        if self._left:
            self._save(state, file)
            return
        whole = io.BytesIO()
        self._save(state, whole)
        file.write(whole.getvalue()[: int(self._part * whole.tell())])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def fork(output: Path, dies_in: tuple[int, float] | None = None) -> BaseProcess:
    """Train it in another process: a fork of one that has imported the package, and is ready at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toposampler.training", "toposampler.plots", "torch.optim"])
    process = context.Process(target=train_run, args=(str(output), dies_in))
    process.start()
    return process


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("undisturbed")
    process = fork(output)
    process.join()
    assert process.exitcode == 0
    return output / "run"


def assert_same_run(run: Path, reference: Path) -> None:
    """The same bits in checkpoint, records, samples and metrics; every step once; nothing left of what was killed."""
    assert recorded_steps(run) == list(range(EVERY, STEPS + 1, EVERY))
    assert records(run) == records(reference)
    last = f"checkpoints/step_{STEPS:08d}.pt"
    assert_same_tensors(read_checkpoint(run / last)["loop"], read_checkpoint(reference / last)["loop"])
    with np.load(run / "samples.npz") as one, np.load(reference / "samples.npz") as other:
        assert one.files == other.files
        assert all(np.array_equal(one[name], other[name]) for name in one.files)
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, reference)]
    assert [results[0][key] for key in ("metrics", "prior")] == [results[1][key] for key in ("metrics", "prior")]
    assert {path.name for path in (run / "figures").iterdir()} == {p.name for p in (reference / "figures").iterdir()}
    assert not list((run / "checkpoints").glob("*.tmp"))


def reached(
    moment: str, run: Path, runs_on: Callable[[], bool], evaluates: Callable[[], bool], rng: random.Random
) -> bool:
    """Whether the moment came, in the run in the folder `run`, before it ended."""
    folder, begun = run / "checkpoints", len(recorded_steps(run))
    if moment in ("training", "checkpoint"):
        begun += rng.randint(1, 6)  # so that the run comes nearer to its end
        while runs_on() and len(recorded_steps(run)) < begun:
            time.sleep(0.005)
    if moment == "checkpoint":
        while runs_on() and not list(folder.glob("*.tmp")):
            pass
    if moment == "end":
        while runs_on() and not evaluates():
            time.sleep(0.005)
    deadline = time.monotonic() + rng.uniform(0, SECONDS[moment])
    while runs_on() and time.monotonic() < deadline:
        time.sleep(0.001)
    return runs_on()


def says(events: Path, text: str, more_than: int) -> bool:
    """Whether `text` is in the file `events` more often than that."""
    return events.read_text().count(text) > more_than


def is_running(process: subprocess.Popen[str]) -> bool:
    """Whether it has not ended."""
    return process.poll() is None


def told(of: str, kills: Counter[str], runs: int, began: float) -> None:
    """Print the row of the table."""
    when = ", ".join(f"{kills[moment]} {moment}" for moment in MOMENTS)
    print(f"kills | {of} | {sum(kills.values())}: {when} | {runs} runs | {time.monotonic() - began:.0f} s")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_of_a_process_that_trains(reference: Path, tmp_path: Path) -> None:
    rng, kills, runs, began = random.Random(0), Counter[str](), 0, time.monotonic()
    while sum(kills.values()) < KILLS:
        output, of_this_run = tmp_path / str(runs), 0
        while True:
            moment = MOMENTS[sum(kills.values()) % len(MOMENTS)]
            dies = of_this_run < KILLS_OF_A_RUN and sum(kills.values()) < KILLS
            dies_in = (rng.randint(1, 12), rng.random()) if dies and moment == "checkpoint" else None
            process = fork(output, dies_in)
            last = output / "run" / "checkpoints" / f"step_{STEPS:08d}.pt"
            if dies and dies_in is None and reached(moment, output / "run", process.is_alive, last.exists, rng):
                process.kill()
            process.join()
            if process.exitcode != -signal.SIGKILL:
                assert process.exitcode == 0, moment
                break
            kills[moment] += 1
            of_this_run += 1
        assert_same_run(output / "run", reference)
        runs += 1
    told("a process that trains without Ray", kills, runs, began)
    assert min(kills[moment] for moment in MOMENTS) > KILLS // len(MOMENTS) - 2


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray cluster of one node on this machine."""
    folder, port = Path(tempfile.mkdtemp(prefix="ray")), free_port()
    head = ["--head", "--port", port, "--temp-dir", folder, "--ray-client-server-port", free_port()]
    polite = {"RAY_worker_niceness": "0"}  # Ray's own 15 makes a start take a minute where other work goes on
    ray_start([*head, "--include-dashboard", "false", "--num-cpus", 2], environment | polite)
    yield f"127.0.0.1:{port}"
    kill_all(environment)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_fifty_kills_of_a_worker_of_ray(
    reference: Path, cluster: str, environment: dict[str, str], tmp_path: Path
) -> None:
    rng, kills, runs, began = random.Random(1), Counter[str](), 0, time.monotonic()
    killed: set[int] = set()

    def workers() -> set[int]:
        return set(processes(environment, "RayTrainWorker")) - killed

    while sum(kills.values()) < KILLS:
        output, of_this_run = tmp_path / str(runs), 0
        driver = start(train(*options(output)), environment | {"RAY_ADDRESS": cluster})
        runs_on, events = partial(is_running, driver), output / "run" / "events.log"
        while of_this_run < KILLS_OF_A_RUN and sum(kills.values()) < KILLS:
            while not (found := workers()) and runs_on():
                time.sleep(0.01)
            moment = MOMENTS[sum(kills.values()) % len(MOMENTS)]
            begun = events.read_text().count("evaluating") if events.exists() else 0
            evaluates = partial(says, events, "evaluating", begun)
            if not reached(moment, output / "run", runs_on, evaluates, rng):
                break
            for worker in found:
                with suppress(ProcessLookupError):  # it has ended
                    os.kill(worker, signal.SIGKILL)
                    kills[moment] += 1
                    of_this_run += 1
            killed |= found
        said, _ = driver.communicate()
        assert driver.returncode == 0, said
        assert "Traceback" not in said
        assert_same_run(output / "run", reference)
        runs += 1
    told("a worker of Ray Train", kills, runs, began)
    assert min(kills[moment] for moment in MOMENTS) > KILLS // len(MOMENTS) - 2
