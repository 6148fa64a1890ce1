"""Runs on Ray whose folder is in a bucket: killed, stopped and gone on with, by processes that share no folder."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import (
    CONFIG,
    ROOT,
    assert_nothing_left,
    kill_all,
    marked_environment,
    processes,
    start,
    train,
    wait_until,
)
from ranks import on_ranks
from s3 import s3_server
from test_faults import assert_as_if_undisturbed, options

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
