"""On a Ray of two nodes with labels: where workers are placed, who evaluates beside them, what Prometheus reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import (
    CONFIG,
    ROOT,
    free_port,
    kill_all,
    marked_environment,
    processes,
    recorded_steps,
    start,
    train,
    wait_until,
)
from test_faults import ALL_STEPS, STEPS, assert_same_tensors, options, ray_start, records

from toposampler.training import load_config
from toposampler.training.checkpoint import read_checkpoint
from toposampler.training.entry import train as train_here

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KEYS = {"tracking__enabled": False, "training__evaluate_every": 20}


class Cluster(NamedTuple):
    """Two nodes on this machine, one of zone west and one of zone east."""

    environment: dict[str, str]
    """with its address"""
    metrics: str
    """the metrics endpoint of the node of zone east"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    environment, folder, port = marked_environment(), Path(tempfile.mkdtemp(prefix="ray")), free_port()
    head = ["--head", "--port", port, "--temp-dir", folder, "--ray-client-server-port", free_port()]
    metrics = free_port()
    try:
        ray_start([*head, "--include-dashboard", "false", "--num-cpus", 2, "--labels", "zone=west"], environment)
        east = ["--num-cpus", 2, "--labels", "zone=east", "--metrics-export-port", metrics]
        ray_start(["--address", f"127.0.0.1:{port}", *east], environment)
        yield Cluster(environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, f"http://127.0.0.1:{metrics}/metrics")
    finally:
        kill_all(environment)
        shutil.rmtree(folder, ignore_errors=True)


def scraped(endpoint: str) -> dict[str, float]:
    """The values of this project's gauges with `trial=""`, by name; none while the endpoint does not answer."""
    try:
        with urllib.request.urlopen(endpoint, timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    lines = re.findall(r"^ray_toposampler_(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, tags, value in lines if 'run="run"' in tags and 'trial=""' in tags}


@pytest.mark.usefixtures("whole_metrics")
def test_an_evaluator_on_chosen_nodes_is_lost_and_records_are_as_in_the_loop(cluster: Cluster, tmp_path: Path) -> None:
    """Its process is killed in the middle of the run; the gauges are those of the run meanwhile."""
    folder, selector = tmp_path / "ray" / "run", json.dumps({"zone": "east"})
    more = {**KEYS, "cluster__evaluate_beside": "true", "cluster__label_selector": selector}
    run = start(train(*options(tmp_path / "ray", **more)), cluster.environment)
    wait_until(lambda: len(recorded_steps(folder)) > 6, run)
    (evaluator,) = processes(cluster.environment, "ray::_Evaluator")
    os.kill(evaluator, signal.SIGKILL)
    names = {"generator_steps", "steps_per_second", "active_generators", "off_manifold_rate"}
    wait_until(lambda: names <= scraped(cluster.metrics).keys(), run)
    shown = scraped(cluster.metrics)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert "the process that evaluates beside training is lost" in said
    assert 0 < shown["generator_steps"] <= STEPS
    assert shown["steps_per_second"] > 0
    assert 0 <= shown["off_manifold_rate"] <= 1
    assert 1 <= shown["active_generators"] <= 10

    train_here(load_config(ROOT / CONFIG, options(tmp_path / "loop", **KEYS)), progress=False)
    reference, last = tmp_path / "loop" / "run", f"checkpoints/step_{STEPS:08d}.pt"
    assert recorded_steps(folder) == ALL_STEPS
    assert records(folder) == records(reference)
    assert_same_tensors(read_checkpoint(folder / last)["loop"], read_checkpoint(reference / last)["loop"])


def test_labels_that_no_node_has_end_the_command(cluster: Cluster, tmp_path: Path) -> None:
    command = train(*options(tmp_path, **KEYS, cluster__label_selector=json.dumps({"zone": "north"})))
    ended = subprocess.run(command, env=cluster.environment, cwd=ROOT, text=True, capture_output=True)
    assert ended.returncode == 2
    assert "cluster.label_selector zone=north: no node of the Ray cluster at" in ended.stderr
    assert "zone=west" in ended.stderr
    assert "zone=east" in ended.stderr
    assert not recorded_steps(tmp_path / "run")
