"""Runs on Ray whose folder is in a bucket: killed, stopped and gone on with, by processes that share no folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from processes import (
    CONFIG,
    ROOT,
    assert_nothing_left,
    free_port,
    kill_all,
    marked_environment,
    processes,
    start,
    train,
    wait_until,
)
from ranks import on_ranks
from s3 import s3_server
from test_faults import STEPS, assert_as_if_undisturbed, options, ray_start

from toposampler.storage import Store
from toposampler.training import load_config
from toposampler.training.entry import train as train_here

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BUCKET = "toposampler-tests"


@pytest.fixture
def store() -> Iterator[tuple[Store, dict[str, str]]]:
    """Where the run is, on a server of S3 of this test's own, and the environment in which it is found."""
    with s3_server(BUCKET) as environment:
        yield Store(f"s3://{BUCKET}/runs/run"), environment


def steps(store: Store) -> list[int]:
    """The steps of the records at the address."""
    if not store.has("metrics.jsonl"):
        return []
    return [json.loads(line)["step"] for line in store.read("metrics.jsonl").splitlines()]


def test_a_run_in_a_bucket_survives_what_one_in_a_folder_does(
    store: tuple[Store, dict[str, str]], tmp_path: Path
) -> None:
    """One worker of two is killed, then the run is stopped, then its driver and all of Ray are killed."""
    place, access = store
    disk = Path(tempfile.mkdtemp(prefix="t"))  # short: Ray has sockets there
    environment = marked_environment() | access | {"TMPDIR": str(disk)}
    command = train(*options(f"s3://{BUCKET}/runs", 2, "sharded", tracking__enabled=False))
    try:
        run = start(command, environment)
        wait_until(lambda: len(steps(place)) > 8, run)
        os.kill(processes(environment, "RayTrainWorker")[-1], signal.SIGKILL)
        before = steps(place)[-1]
        wait_until(lambda: steps(place)[-1] > before + 10, run)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate()
        assert run.returncode == 143, said
        assert re.search(r"worker \d failed: ", said)
        (step,) = re.findall(rf"stopped after generator step (\d+); checkpoint: {place.address}/checkpoints", said)
        assert place.has(f"checkpoints/step_{int(step):08d}.pt")
        assert_nothing_left(environment)
        assert not list(disk.glob("toposampler-*"))

        run = start(command, environment)
        wait_until(lambda: steps(place)[-1] > int(step) + 10, run)
        run.kill()
        kill_all(environment)
        run.communicate()
        assert not place.has("result.json")

        run = start(command, environment)
        said, _ = run.communicate()
        assert run.returncode == 0, said
        assert_nothing_left(environment)
        assert not list(disk.glob("toposampler-*"))
    finally:
        kill_all(environment)
    folder = tmp_path / "copy"
    for name in place.stamps():
        place.get(name, folder / name)
    on_ranks(2, train_here, load_config(ROOT / CONFIG, options(tmp_path, 2, "sharded")))
    assert_as_if_undisturbed(folder, tmp_path / "run")
    assert json.loads((folder / "result.json").read_text())["model"].startswith(f"{place.address}/checkpoints/")


@pytest.fixture
def cluster_with_token(store: tuple[Store, dict[str, str]]) -> Iterator[tuple[str, dict[str, str], Path]]:
    """A cluster that asks for a token: its dashboard, the environment that has it, its folder for temporary files."""
    disk, port, token = Path(tempfile.mkdtemp(prefix="t")), free_port(), uuid4().hex
    environment = marked_environment() | store[1] | {"TMPDIR": str(disk)}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    head = ["--head", "--port", free_port(), "--temp-dir", disk / "ray", "--num-cpus", 2]
    head += ["--ray-client-server-port", free_port(), "--dashboard-host", "127.0.0.1", "--dashboard-port", port]
    ray_start(head, environment)
    yield f"http://127.0.0.1:{port}", environment, disk
    kill_all(environment)
    shutil.rmtree(disk, ignore_errors=True)


def test_a_job_with_a_token_is_killed_and_submitted_again(
    store: tuple[Store, dict[str, str]], cluster_with_token: tuple[str, dict[str, str], Path], tmp_path: Path
) -> None:
    """Its driver and its workers are killed; the cluster stays, and the same command goes on, at the address."""
    (place, _), (dashboard, environment, disk) = store, cluster_with_token
    command = [*train(*options(f"s3://{BUCKET}/runs", tracking__enabled=False)), "--submit", dashboard]

    wrong = start(command, environment | {"RAY_AUTH_TOKEN": "another"})
    said, _ = wrong.communicate()
    assert wrong.returncode == 2, said
    assert f"--submit: the Ray cluster at {dashboard} asks for a token, and the one in RAY_AUTH_TOKEN is not" in said
    assert environment["RAY_AUTH_TOKEN"] not in said
    assert not place.stamps()

    job = start(command, environment)
    wait_until(lambda: len(steps(place)) > 12, job)
    for pid in [*processes(environment, "ray_jobs/train.py"), *processes(environment, "RayTrainWorker")]:
        if pid != job.pid:
            with suppress(ProcessLookupError):  # it ends with another of them
                os.kill(pid, signal.SIGKILL)
    said, _ = job.communicate()
    assert job.returncode != 0, said
    assert not place.has("result.json")

    again = start(command, environment)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert re.search(rf"at step [1-9]\d* of {STEPS}", said)
    assert not list(disk.glob("toposampler-*"))
    folder = tmp_path / "copy"
    for name in place.stamps():
        place.get(name, folder / name)
    train_here(load_config(ROOT / CONFIG, options(tmp_path)), progress=False)
    assert_as_if_undisturbed(folder, tmp_path / "run")
