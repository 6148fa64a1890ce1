"""What is given to MLflow: places with odd characters, passwords, deleted experiments, names of registered models."""

from __future__ import annotations

import json
import logging
import re
import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from toposampler.commands.promote import main as promote
from toposampler.config import TrackingConfig, to_yaml, without_password
from toposampler.distributed.driver import check_tracking
from toposampler.errors import UserError
from toposampler.tracking.registry import Registry
from toposampler.tracking.runs import run_of
from toposampler.tracking.server import cause, check_server, experiment_id
from toposampler.tracking.tracker import Tracker, read_delivery
from toposampler.tracking.uri import how_to_look, sqlite_file, sqlite_uri, tracking_uri
from toposampler.training import RunConfig
from toposampler.training.config import load_config

SECRETS = [
    ("http://me:pa55@host:5000/x", "http://***@host:5000/x"),
    ("https://t0ken@host", "https://***@host"),
    ("postgresql://me:pa55@host/db", "postgresql://***@host/db"),
    ("postgresql+psycopg2://me:p@a/5@host/db", "postgresql+psycopg2://***@host/db"),
    ("postgresql://host/db?user=me&password=pa55&x=1", "postgresql://host/db?user=me&password=***&x=1"),
]
OPEN = ["http://host:5000/a@b", "sqlite:////a/b.db", "a text", "postgresql://host/db"]


@pytest.fixture(scope="module")
def a_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a database that tests may share: to make one takes seconds."""
    return sqlite_uri(tmp_path_factory.mktemp("shared") / "mlflow.db")


@pytest.fixture(autouse=True)
def _no_server_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(("uri", "shown"), SECRETS)
def test_passwords_are_left_out(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
    assert without_password(shown) == shown
    assert without_password(f"no answer from {uri} today") == f"no answer from {shown} today"
    assert "pa55" not in how_to_look(uri)
    assert "pa55" not in cause(ValueError("x" * 180 + f" {uri}"))


@pytest.mark.parametrize("text", OPEN)
def test_other_texts_stay(text: str) -> None:
    assert without_password(text) == text


@pytest.mark.parametrize(("uri", "shown"), SECRETS)
def test_a_password_is_written_nowhere_and_asked_for_again(
    uri: str, shown: str, make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("wgan_gp", tracking__uri=uri)
    assert config.tracking.uri == uri
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert uri not in (tmp_path / "config.yaml").read_text()
    again = load_config(tmp_path / "config.yaml")
    assert again.tracking.uri == shown
    if "***@" in shown:
        with pytest.raises(UserError, match="was written down without its password; give the whole address"):
            tracking_uri(again.tracking, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    if "***@" in shown:
        assert tracking_uri(again.tracking, tmp_path) == uri


def test_tracking_json_and_messages_have_no_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uri = "http://me:pa55@127.0.0.1:9"
    tracker = Tracker(tmp_path, uri, "x", {}, {})
    tracker._note(tracker._done)
    assert json.loads((tmp_path / "tracking.json").read_text())["uri"] == "http://***@127.0.0.1:9"
    assert read_delivery(tmp_path, uri, "x").uri == "http://***@127.0.0.1:9"
    with pytest.raises(UserError, match=r"no MLflow answers at http://\*\*\*@127.0.0.1:9") as caught:
        check_server(uri)
    assert "pa55" not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite+pysqlite://"]
)
def test_a_database_in_memory_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking.uri: .* is a database in memory, gone when the command ends"):
        tracking_uri(TrackingConfig(uri=uri), tmp_path)


@pytest.mark.parametrize("name", ["a?b%20c d#e ä%", "a?x=1&y"])  # each makes a database, which takes seconds
def test_the_database_lies_in_the_output_folder_whatever_that_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    uri = tracking_uri(TrackingConfig(), folder)
    assert sqlite_file(uri) == folder / "mlflow.db"
    check_server(uri)
    experiment_id(MlflowClient(uri), uri, "mine")
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert ("mine",) in database.execute("SELECT name FROM experiments").fetchall()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert shlex.split(how_to_look(uri))[-1] == uri


def test_an_address_that_the_user_gives_is_read_as_sqlalchemy_reads_it(tmp_path: Path) -> None:
    assert sqlite_file("sqlite:////a/b%20c.db?timeout=5") == Path("/a/b c.db")
    assert sqlite_file("sqlite:///b.db") == Path("b.db").absolute()
    assert sqlite_file("http://host") is None
    assert sqlite_uri(tmp_path / "x.db") == f"sqlite:///{tmp_path}/x.db"


def test_a_deleted_experiment_is_refused_at_the_start(
    make_config: Callable[..., RunConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = sqlite_uri(tmp_path / "mlflow.db")
    client = MlflowClient(uri)
    number = experiment_id(client, uri, "toposampler")
    client.delete_experiment(number)
    config = make_config("wgan_gp")
    said = rf"tracking.experiment: 'toposampler' is deleted on .* restore --experiment-id {number}\), or give another"
    with pytest.raises(UserError, match=said):
        check_tracking(config)
    with pytest.raises(UserError, match=said):
        experiment_id(client, uri, "toposampler")
    check_tracking(make_config("wgan_gp", tracking__experiment="another"))
    check_tracking(make_config("wgan_gp", tracking__required=False))
    assert re.search(said, caplog.text)
    with pytest.raises(UserError, match=said):
        run_of(tmp_path, config, uri)
    there = client.get_run(run_of(tmp_path, config, uri, "another")).info  # promote.py --experiment another
    assert client.get_experiment(there.experiment_id).name == "another"
    client.restore_experiment(number)
    check_tracking(config)


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a@b", "a/b", "a:b", "-x", " a", "a ", "a\nb", "x" * 300, "", "%"])
def test_a_name_that_cannot_be_found_again_is_refused_before_anything_is_made(
    name: str, tmp_path: Path, a_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "mlflow.db"
    assert promote([str(tmp_path), f"--name={name}", "--tracking-uri", sqlite_uri(database)]) == 2
    said = capsys.readouterr().err
    assert "a registered model's name has at most 200 letters" in said
    assert len(said) < 400
    assert not database.exists()
    with pytest.raises(UserError, match="a registered model's name"):
        Registry(a_database, name).register("run", tmp_path, {})


def test_names_that_others_have_made_are_listed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = sqlite_uri(tmp_path / "mlflow.db")
    check_server(uri)
    client = MlflowClient(uri)
    run = client.create_run(experiment_id(client, uri, "x")).info.run_id
    for name in ("plain", "o'neill", "x' OR name != 'y"):
        client.create_registered_model(name)
        client.create_model_version(name, "file:///nowhere", run)
    assert promote(["--list", "--tracking-uri", uri]) == 0
    assert [line.split("    1")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "o'neill", "plain", "x' OR name != 'y",
    ]  # fmt: skip


def test_a_database_that_is_deleted_in_mid_run_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, database = tmp_path / "run", tmp_path / "mlflow.db"
    folder.mkdir()
    uri = sqlite_uri(database)
    tracker = Tracker(folder, uri, "x", {}, {})
    tracker.deliver()
    database.unlink()
    (folder / "metrics.jsonl").write_text('{"step": 1, "time": 1.0, "metrics": {"a": 1.0}}\n')
    capfd.readouterr()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            tracker.deliver()
    assert caplog.text.count("Training continues.") == 1
    written = capfd.readouterr()
    assert len((caplog.text + written.out + written.err).splitlines()) < 5
