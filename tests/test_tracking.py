"""A run folder and its MLflow run say the same, whatever dies in between."""

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from processes import PATIENCE, free_port, server

import toposampler.tracking.tracker as tracker_module
from toposampler.config import TrackingConfig
from toposampler.distributed.driver import check_tracking, launch, recorded, where_to_look
from toposampler.errors import UserError
from toposampler.tracking import about
from toposampler.tracking.server import KIND, check_server, experiment_id
from toposampler.tracking.tracker import Delivery, Tracker, read_delivery
from toposampler.tracking.uri import how_to_look, tracking_uri
from toposampler.training import RunConfig, load_model
from toposampler.training.config import run_folder

PARAMETERS = {f"section.key_{i}": i for i in range(120)}  # more than one call may carry


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
    page = "/#/experiments/7?workflowType=machine_learning"
    assert how_to_look("http://server:5000/", "7") == f"http://server:5000{page}"
    assert how_to_look("sqlite:////a.db", "7").endswith(f"sqlite:////a.db, then http://127.0.0.1:5000{page}")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "sqlite:////proc/no/mlflow.db", "nonsense://x"])
def test_an_unreachable_server_is_named_within_seconds(uri: str) -> None:
    uri = uri.format(port=free_port())
    start = time.monotonic()
    with pytest.raises(UserError, match=re.escape(uri)):
        check_server(uri)
    assert time.monotonic() - start < 60


def test_a_silent_server_is_given_up_within_seconds() -> None:
    with socket.socket() as silent:  # takes the connection and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(UserError, match="no MLflow answers"):
            check_server(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 60


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


def test_a_finished_run_that_is_submitted_again_is_left_alone(
    make_config: Callable[..., RunConfig], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("dmgan_pl", tracking__uri=uri)
    folder = run_folder(config)
    folder.mkdir()
    append(folder, range(1, 3))
    with recorded(config):
        pass
    before = noted(folder)
    assert before["status"] == "FINISHED"
    stored = MlflowClient(uri).get_run(str(before["run_id"])).to_dictionary()
    with monkeypatch.context() as without_client:
        without_client.setattr(tracker_module, "MlflowClient", lambda uri: pytest.fail("MLflow was called"))
        with recorded(config):
            pass
    assert noted(folder) == before
    assert MlflowClient(uri).get_run(str(before["run_id"])).to_dictionary() == stored

    append(folder, range(3, 4))
    with recorded(config):
        assert noted(folder)["status"] == "FINISHED"
    assert history(uri, folder) == expected(range(1, 4))
    assert noted(folder)["run_id"] == before["run_id"]


def test_a_uri_that_means_nothing_is_a_warning_where_mlflow_is_not_required(
    make_config: Callable[..., RunConfig], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "PATIENCE", 0.0)
    config = make_config("dmgan_pl", tracking__uri="nonsense://x", tracking__required=False)
    run_folder(config).mkdir()
    check_tracking(config)
    with recorded(config):
        append(run_folder(config), range(1, 3))
    at_the_start, on_the_way, at_the_end = caplog.messages
    assert at_the_start.startswith("warning: tracking.uri: no MLflow answers at nonsense://x")
    assert on_the_way.startswith("MLflow at nonsense://x: ")
    assert "Not delivered: 2 records" in at_the_end
    with pytest.raises(UserError, match="no MLflow answers at nonsense://x"):
        check_tracking(make_config("dmgan_pl", tracking__uri="nonsense://x"))


def test_a_kill_before_the_parameters_are_logged_leaves_no_second_run(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(MlflowClient, "log_batch", None)
        tracker(folder, uri).deliver()
    tracker(folder, uri).deliver()
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("toposampler").experiment_id])
    assert run.info.run_id == noted(folder)["run_id"]
    assert run.data.params == {key: str(value) for key, value in PARAMETERS.items()}


def test_a_run_that_goes_on_with_other_workers_keeps_the_parameters_it_began_with(folder: Path, uri: str) -> None:
    Tracker(folder, uri, "toposampler", {"cluster.num_workers": 1}, {}).deliver()
    append(folder, range(1, 3))
    Tracker(folder, uri, "toposampler", {"cluster.num_workers": 2, "seed": 0}, {}).deliver()
    run = MlflowClient(uri).get_run(noted(folder)["run_id"])
    assert run.data.params == {"cluster.num_workers": "1", "seed": "0"}
    assert history(uri, folder) == expected(range(1, 3))


def test_how_far_a_run_is_delivered(folder: Path) -> None:
    assert read_delivery(folder, "a", "b") == Delivery("a", "b")
    (folder / "tracking.json").write_text('{"uri": "a", "experiment": "b", "run_id": "c", "offset": 5}')
    assert read_delivery(folder, "a", "b") == Delivery("a", "b", "c", 5)
    assert read_delivery(folder, "a", "other") == Delivery("a", "other")


@pytest.mark.parametrize(
    "content", ["", '{"uri": "a", "exp', "[1]", '{"uri": "a"}', '{"uri": "a", "experiment": "b", "x": 1}']
)
def test_a_damaged_tracking_json_is_named(make_config: Callable[..., RunConfig], uri: str, content: str) -> None:
    config = make_config("dmgan_pl", tracking__uri=uri)
    run_folder(config).mkdir()
    path = run_folder(config) / "tracking.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} is damaged .*; remove it"):
        check_tracking(config)


def mlflow_server(folder: Path, port: int) -> AbstractContextManager[None]:
    """A real `mlflow server` over the SQLite file in `folder`."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/art"]
    return server(command, f"http://127.0.0.1:{port}/health", folder / "server.log", os.environ)


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
    # Refused, or reset while the last of the server's processes dies.
    assert re.fullmatch(rf"MLflow at {address}: .*[Cc]onnection.*\. Training continues\.", warning)
    run.close("FINISHED")
    assert "4 records" in caplog.text

    monkeypatch.setattr(tracker_module, "PATIENCE", PATIENCE)
    with mlflow_server(folder.parent, port):
        tracker(folder, address).close("FINISHED")
        assert history(address, folder) == expected(range(1, 7))
        assert MlflowClient(address).get_run(noted(folder)["run_id"]).info.status == "FINISHED"


@pytest.fixture
def tracked(make_config: Callable[..., RunConfig], uri: str, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run that will be recorded, and is not yet trained."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    constant = {"training__learning_rate_decay_from": 1, "training__batch_growth": 1}
    return make_config("wgan_gp", name="v1.0", training__generator_steps=10, tracking__uri=uri, **constant)


def stored(config: RunConfig, uri: str) -> Run:
    return MlflowClient(uri).get_run(json.loads((run_folder(config) / "tracking.json").read_text())["run_id"])


def test_a_run_is_described_with_its_data_its_user_and_its_model(tracked: RunConfig, uri: str) -> None:
    launch(tracked, local=True)
    client, run = MlflowClient(uri), stored(tracked, uri)
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags[KIND] == "custom_model_development"
    assert where_to_look(tracked.tracking, run_folder(tracked)).endswith(
        f"/#/experiments/{experiment.experiment_id}?workflowType=machine_learning"
    )
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**wgan_gp**, 1 generator, on **lines**: 200 points in 2 dimensions.")
    assert "10 generator steps, batches of 8, seed 0." in note
    assert run.data.tags["mlflow.user"] == about.user()["mlflow.user"]

    (data,) = run.inputs.dataset_inputs
    model = load_model(run_folder(tracked))
    assert (data.dataset.name, data.dataset.digest) == ("lines", model.data[:36])
    profile = {"sha256": model.data, "num_rows": 200, "shape": [2]}
    assert json.loads(data.dataset.profile) == profile
    assert json.loads(data.dataset.source)["n"] == "200"
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training"}

    (output,) = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (output.step, logged.status.value, logged.name) == (10, "READY", "v1-0")
    assert logged.source_run_id == run.info.run_id
    scores = {metric.key: metric.value for metric in logged.metrics}
    assert scores == {key: value for key, value in run.data.metrics.items() if key.startswith("final/")}
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        sampler = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
        samples = sampler.predict(np.zeros(1), params={"n": 5, "seed": 3})
    finally:
        mlflow.set_tracking_uri(before)
    np.testing.assert_array_equal(samples["samples"], model.sample(5, 3)[0].numpy())


def test_a_lengthened_run_has_two_models_and_a_finished_one_no_more(tracked: RunConfig, uri: str) -> None:
    launch(tracked, local=True)
    launch(tracked, local=True)
    assert [output.step for output in stored(tracked, uri).outputs.model_outputs] == [10]
    training = tracked.training.model_copy(update={"generator_steps": 15})
    launch(tracked.model_copy(update={"training": training}), local=True)
    run = stored(tracked, uri)
    assert sorted(output.step for output in run.outputs.model_outputs) == [10, 15]
    assert "15 generator steps" in run.data.tags["mlflow.note.content"]
    assert len(run.inputs.dataset_inputs) == 1
    assert run.info.status == "FINISHED"


def test_a_model_that_cannot_be_logged_is_one_warning_and_the_run_ends(
    tracked: RunConfig, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def old_server(*_: object, **__: object) -> None:
        raise RuntimeError("404: no such endpoint")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", old_server)
    launch(tracked, local=True)
    run = stored(tracked, uri)
    assert run.info.status == "FINISHED"
    assert caplog.text.count("404: no such endpoint. The model is not logged there") == 1
    assert not MlflowClient(uri).search_logged_models([run.info.experiment_id]), "no empty one is left"


def test_an_experiment_that_was_there_is_marked_unless_its_owner_has(uri: str) -> None:
    client = MlflowClient(uri)
    old, own = client.create_experiment("old"), client.create_experiment("own", tags={KIND: "classification"})
    assert [experiment_id(client, uri, name) for name in ("old", "own")] == [old, own]
    kinds = [client.get_experiment(number).tags[KIND] for number in (old, own)]
    assert kinds == ["custom_model_development", "classification"]


def test_a_user_without_a_name_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert about.user() == {}


def test_files_are_named_as_the_source_of_data_and_passwords_are_not() -> None:
    data = about.Data("npy", "ab" * 32, {"name": "npy", "path": "/data/x.npy"}, 10, (3,))
    assert json.loads(data.as_input().dataset.source) == {"uri": "/data/x.npy"}
    secret = about.Data("own", "ab" * 32, {"name": "own", "url": "https://me:pa55@host/x"}, 10, (3,))
    assert "pa55" not in secret.as_input().dataset.source


def test_where_to_look_before_anything_is_recorded(tracked: RunConfig, tmp_path: Path) -> None:
    assert (
        where_to_look(tracked.tracking, tmp_path / "nothing") == f"mlflow ui --backend-store-uri {tracked.tracking.uri}"
    )
