"""A run folder and its MLflow run say the same, whatever dies in between."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

import toposampler.tracking.tracker as tracker_module
from toposampler.config import TrackingConfig
from toposampler.errors import UserError
from toposampler.tracking.server import check_server
from toposampler.tracking.tracker import Tracker
from toposampler.tracking.uri import how_to_look, tracking_uri

PARAMETERS = {f"section.key_{i}": i for i in range(120)}  # more than one call may carry


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, made once: the migrations take seconds."""
    path = tmp_path_factory.mktemp("db") / "mlflow.db"
    check_server(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lines"
    folder.mkdir()
    return folder


def tracker(folder: Path, uri: str) -> Tracker:
    return Tracker(folder, uri, "toposampler", PARAMETERS, {"data": "lines"})


def append(folder: Path, steps: range, names: int = 2) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            metrics = {f"prior/{i}": step + i / names for i in range(names)}
            file.write(json.dumps({"step": step, "time": 1e9 + step + 0.25, "metrics": metrics}) + "\n")


def noted(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "tracking.json").read_text()))


def history(uri: str, folder: Path, name: str = "prior/0") -> list[tuple[int, int, float]]:
    """(step, time in ms, value) of every value the server has."""
    client = MlflowClient(uri)
    return [(m.step, m.timestamp, m.value) for m in client.get_metric_history(str(noted(folder)["run_id"]), name)]


def expected(steps: range) -> list[tuple[int, int, float]]:
    return [(step, 1_000_000_000_250 + 1000 * step, float(step)) for step in steps]


def test_where_to_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(TrackingConfig(), tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:1")
    assert tracking_uri(TrackingConfig(), tmp_path) == "http://environment:1"
    assert tracking_uri(TrackingConfig(uri="http://config:1"), tmp_path) == "http://config:1"


def test_how_to_look() -> None:
    assert how_to_look("sqlite:////a/mlflow.db") == "mlflow ui --backend-store-uri sqlite:////a/mlflow.db"
    assert how_to_look("http://server:5000") == "http://server:5000"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "sqlite:////proc/no/mlflow.db", "nonsense://x"])
def test_an_unreachable_server_is_named_within_seconds(uri: str) -> None:
    uri = uri.format(port=free_port())
    start = time.monotonic()
    with pytest.raises(UserError, match=re.escape(uri)):
        check_server(uri)
    assert time.monotonic() - start < 10


def test_a_silent_server_is_given_up_within_seconds() -> None:
    with socket.socket() as silent:  # takes the connection and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(UserError, match="no MLflow answers"):
            check_server(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 20


def test_a_whole_run_is_recorded(folder: Path, uri: str) -> None:
    run = tracker(folder, uri)
    (folder / "config.yaml").write_text("name: lines\n")
    append(folder, range(1, 4), names=1500)  # more than one call may carry
    run.deliver()
    append(folder, range(4, 6), names=1500)
    (folder / "figures").mkdir()
    (folder / "figures" / "prior.png").write_bytes(b"png")
    (folder / "samples.npz").write_bytes(b"npz")
    (folder / "result.json").write_text(json.dumps({"metrics": {"jsd": 0.5}, "generator_steps": 5}))
    run.close("FINISHED")

    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'toposampler'")
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name == "lines"
    assert stored.data.params == {key: str(value) for key, value in PARAMETERS.items()}
    assert stored.data.tags["data"] == "lines"
    assert stored.data.metrics["final/jsd"] == 0.5
    assert stored.data.metrics["prior/1499"] == 5 + 1499 / 1500
    assert history(uri, folder) == expected(range(1, 6))
    assert {f.path for f in client.list_artifacts(stored.info.run_id)} == {
        "config.yaml", "figures", "result.json", "samples.npz",
    }  # fmt: skip
    assert [f.path for f in client.list_artifacts(stored.info.run_id, "figures")] == ["figures/prior.png"]
    assert experiment.artifact_location == (folder.parent / "mlartifacts").as_uri()


def test_a_second_delivery_of_the_same_records_changes_nothing(folder: Path, uri: str) -> None:
    append(folder, range(1, 4))
    tracker(folder, uri).deliver()
    (folder / "tracking.json").write_text(json.dumps(noted(folder) | {"offset": 0}))  # killed before it was noted
    tracker(folder, uri).deliver()
    assert history(uri, folder) == expected(range(1, 4))


def test_a_restarted_process_continues_the_same_run(folder: Path, uri: str) -> None:
    append(folder, range(1, 3))
    tracker(folder, uri).close("KILLED")
    run_id = noted(folder)["run_id"]
    append(folder, range(3, 5))
    second = tracker(folder, uri)
    second.deliver()
    assert MlflowClient(uri).get_run(run_id).info.status == "RUNNING"
    second.close("FINISHED")
    assert noted(folder)["run_id"] == run_id
    assert history(uri, folder) == expected(range(1, 5))


def test_a_deleted_run_is_made_anew_with_all_its_records(folder: Path, uri: str) -> None:
    append(folder, range(1, 3))
    tracker(folder, uri).deliver()
    deleted = noted(folder)["run_id"]
    MlflowClient(uri).delete_run(deleted)
    tracker(folder, uri).deliver()
    assert noted(folder)["run_id"] != deleted
    assert history(uri, folder) == expected(range(1, 3))


def test_another_server_gets_the_whole_run(folder: Path, uri: str, empty_database: Path) -> None:
    append(folder, range(1, 3))
    tracker(folder, uri).deliver()
    other = f"sqlite:///{shutil.copy(empty_database, folder / 'other.db')}"
    tracker(folder, other).deliver()
    assert history(other, folder) == expected(range(1, 3))


def test_a_finished_run_is_not_delivered_again(folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append(folder, range(1, 3))
    tracker(folder, uri).close("FINISHED")
    monkeypatch.setattr(MlflowClient, "log_batch", None)
    tracker(folder, uri).close("FINISHED")


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real `mlflow server` over the SQLite file in `folder`, killed with all its workers at the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/art"]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                check_server(f"http://127.0.0.1:{port}")
                break
            except UserError:
                time.sleep(0.5)
        else:
            pytest.fail((folder / "server.log").read_text())
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_a_server_that_dies_loses_and_doubles_nothing(
    folder: Path, uri: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "PATIENCE", 3.0)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    run = tracker(folder, address)
    with mlflow_server(folder.parent, port):
        append(folder, range(1, 3))
        run.deliver()
        append(folder, range(3, 5))
    run.deliver()
    append(folder, range(5, 7))
    run.deliver()
    (warning,) = caplog.messages
    assert warning == f"MLflow at {address}: [Errno 111] Connection refused. Training goes on."
    run.close("FINISHED")
    assert "4 records" in caplog.text

    with mlflow_server(folder.parent, port):
        tracker(folder, address).close("FINISHED")
        assert history(address, folder) == expected(range(1, 7))
        assert MlflowClient(address).get_run(noted(folder)["run_id"]).info.status == "FINISHED"
