"""The command line of `ray_jobs/train.py` that submits and resumes, and the codes with which jobs end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp
import pytest
import requests
from processes import CONFIG, ROOT
from ray.job_submission import JobStatus

from toposampler.config import TrackingConfig, to_yaml
from toposampler.distributed import jobs
from toposampler.distributed.commit import COMMIT, git_commit
from toposampler.distributed.jobs import exit_code, follow, how_to_stop
from toposampler.errors import UserError
from toposampler.tracking.uri import tracking_uri
from toposampler.training import load_config
from toposampler.training.config import run_folder
from toposampler.training.run import check


@pytest.fixture
def script(load_job: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(ROOT)
    return load_job("train")


def test_a_command_line_is_taken_apart(script: ModuleType) -> None:
    command = script.parse(["c.yaml", "--seed", "5", "--submit", "http://h:8265", "--no-wait", "--profile", "--a=b"])
    assert command.path == Path("c.yaml")
    assert command.overrides == ["--seed", "5", "--cluster.profile", "true", "--a=b"]
    assert (command.address, command.wait, command.dry_run, command.resume) == ("http://h:8265", False, False, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "5"], "no configuration is given"),
        (["--resume"], "--resume needs the name of a run"),
        (["c.yaml", "--submit", "--no-wait"], "--submit needs an address"),
        (["c.yaml", "--resume", "run"], "leave c.yaml out"),
        (["c.yaml", "d.yaml"], "unexpected argument 'd.yaml'"),
        (["c.yaml", "--submit=http://h:1", "--submit", "http://h:2"], "--submit is given twice"),
        (["c.yaml", "--no-wait"], "--wait and --no-wait say what to do after --submit"),
        (["c.yaml", "--no-wait", "--wait", "--submit", "http://h:1"], "--wait and --no-wait are both given"),
        (["c.yaml", "--submit", "h:8265"], "--submit h:8265: the dashboard's address starts .* such as http://h:8265"),
        (["c.yaml", "--submit=ray://h:10001"], "address starts with http.* such as http://HEAD:8265"),
        (["--resume=", "x"], "--resume needs the name of a run"),
        (["c.yaml", "--local", "--submit", "http://h:1"], "--local trains in this process, --submit on a cluster"),
        (["--resume", "x", "--init-from", "y"], "--resume resumes a run, and --init-from begins a new one"),
        (["c.yaml", "--init-from"], "--init-from needs a model"),
        (["c.yaml", "--init-state", "--local"], "--init-state needs weights or full"),
    ],
)
def test_a_command_line_that_cannot_be(script: ModuleType, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        script.parse(arguments)


def test_resume_goes_on_as_configured_wherever_the_folder_lies_now(script: ModuleType, tmp_path: Path) -> None:
    begun = load_config(ROOT / CONFIG, ["--output", "/elsewhere", "--name", "mine", "--seed", "7"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(to_yaml(begun))
    config = script.load(script.parse(["--resume", "mine", "--output", str(tmp_path), "--cluster.num_workers", "2"]))
    assert (config.seed, config.cluster.num_workers, run_folder(config)) == (7, 2, tmp_path / "mine")


def test_options_take_an_equals_sign_too(script: ModuleType) -> None:
    command = script.parse(["--resume=mine", "--submit=http://h:8265"])
    assert (command.resume, command.address) == ("mine", "http://h:8265")
    command = script.parse(["c.yaml", "--seed", "--submit", "http://h:8265"])
    assert command.address == "http://h:8265", "an option is no value of a key"
    with pytest.raises(UserError, match="--seed needs a value"):
        script.load(script.parse(["--resume", "mine", "--seed", "--output", "x"]))


def test_resume_works_on_the_folder_that_is_named(script: ModuleType, tmp_path: Path) -> None:
    begun = load_config(ROOT / CONFIG, ["--output", str(tmp_path), "--name", "mine"])
    for name in ("copied", "1e3", "null"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(to_yaml(begun))
        config = script.load(script.parse(["--resume", name, "--output", str(tmp_path)]))
        assert run_folder(config) == tmp_path / name
        check(config)  # does not take it for another run
    with pytest.raises(UserError, match="leave --name other out"):
        script.load(script.parse(["--resume", "copied", "--output", str(tmp_path), "--name", "other"]))
    for name in ("sub/mine", str(tmp_path / "mine"), ".."):
        with pytest.raises(UserError, match=r"is no path; give the folder|holds no run"):
            script.load(script.parse(["--resume", name]))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("7", "7/x holds no run"),
        ("1.50", r"1\.50/x holds"),
        ("null", "null/x holds"),
        ("s3://b", "output: s3://b has to be s3://BUCKET/FOLDER"),
    ],
)
def test_an_output_is_the_text_that_was_typed(script: ModuleType, output: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        script.load(script.parse(["--resume", "x", "--output", output]))


def test_runs_that_are_not_sent_cannot_be_gone_on_with(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text(to_yaml(load_config(ROOT / CONFIG, ["--name", "mine"])))
    sent: list[list[str]] = []
    monkeypatch.setattr(jobs, "submit", lambda _, __, command: sent.append(command))
    relative = os.path.relpath(tmp_path, ROOT)
    submit = ["--submit=http://h:8265", "--no-wait", "--profile"]
    assert script.main(["--resume", "mine", "--output", relative, *submit]) == 2
    assert f"{relative} is not sent along; give --output an absolute path on" in capsys.readouterr().err
    assert sent == []
    assert script.main(["--resume=mine", *submit, f"--output={tmp_path}"]) == 0
    rest = ["--resume", "mine", "--cluster.profile", "true", f"--output={tmp_path}"]
    assert sent == [["python", "ray_jobs/train.py", *rest]]


def test_resume_of_no_run_names_those_that_exist(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    assert script.main(["--resume", "c", "--output", str(tmp_path)]) == 2
    assert f"the runs in {tmp_path} (--output): a, b" in capsys.readouterr().err


def test_what_is_submitted_is_the_same_command_and_checked_before(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    def submit(address: str, config: object, command: list[str]) -> str:
        sent.append((address, command))
        return "run-1"

    monkeypatch.setattr(jobs, "submit", submit)
    arguments = [CONFIG, "--submit", "http://h:8265", "--output", "/shared", "--no-wait"]
    assert script.main(arguments) == 0
    assert sent == [("http://h:8265", ["python", "ray_jobs/train.py", CONFIG, "--output", "/shared"])]
    out = capsys.readouterr().out
    assert "ray job logs --address http://h:8265 --follow run-1" in out
    assert "ray job stop --address http://h:8265 run-1" in out
    assert "warning" not in out

    assert script.main([*arguments, "--seed", "-1"]) == 2
    assert len(sent) == 1


def test_a_relative_output_of_a_job_is_warned_of(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "submit", lambda *_: "run-1")
    assert script.main([CONFIG, "--submit", "http://h:8265", "--no-wait"]) == 0
    assert "warning: that folder goes when the Ray job is cleaned up" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_waiting_leaves_the_job_running(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    handlers: dict[int, Callable[[int, object], None]] = {}

    def follow(*_: object) -> int:
        handlers[number](number, None)
        return 0

    monkeypatch.setattr("signal.signal", handlers.__setitem__)
    monkeypatch.setattr(jobs, "submit", lambda *_: "run-1")
    monkeypatch.setattr(jobs, "follow", follow)
    assert script.main([CONFIG, "--submit", "http://h:8265"]) == code
    assert "the job continues; to stop it: ray job stop --address http://h:8265 run-1" in capsys.readouterr().err


def test_printed_commands_are_quoted() -> None:
    assert how_to_stop("http://h:1/a b", "run-1") == "ray job stop --address 'http://h:1/a b' run-1"


@pytest.mark.parametrize("typed", [True, False])
def test_a_password_is_not_in_the_command_line_of_a_job(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, typed: bool
) -> None:
    """Typed whole, or in the environment and without the password where a stored configuration names it."""
    sent: list[dict[str, Any]] = []
    client = SimpleNamespace(submit_job=lambda **job: sent.append(job) or "run-1")
    monkeypatch.setattr(jobs, "job_client", lambda _: client)
    whole, hidden = "postgresql://me:s3cret@db/mlflow", "postgresql://***@db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere" if typed else whole)
    uri = whole if typed else hidden
    assert script.main([CONFIG, "--submit=http://h:8265", "--no-wait", "--tracking.uri", uri]) == 0
    (job,) = sent
    assert shlex.split(job["entrypoint"])[-2:] == ["--tracking.uri", hidden]
    assert job["runtime_env"]["env_vars"]["MLFLOW_TRACKING_URI"] == whole
    monkeypatch.setenv("MLFLOW_TRACKING_URI", whole)
    assert tracking_uri(TrackingConfig(uri=hidden), Path("/runs")) == whole, "what the job makes of the two"


def test_a_model_that_is_not_sent_cannot_be_begun_with(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([CONFIG, "--submit=http://h:8265", "--init-from", "runs/x"]) == 2
    assert "--init-from with --submit: runs/x is not sent along" in capsys.readouterr().err


def test_nobody_at_the_address(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([CONFIG, "--submit", "http://127.0.0.1:9", "--no-wait"]) == 2
    assert "--submit: the job cannot be submitted to http://127.0.0.1:9 (" in capsys.readouterr().err


def test_a_cluster_that_is_gone_before_its_job_is_followed() -> None:
    with pytest.raises(UserError, match="the log of run-1 has broken off"):
        follow("http://127.0.0.1:9", "run-1")


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("gone"), requests.exceptions.ReadTimeout("gone"), aiohttp.ServerDisconnectedError("gone")],
)
def test_a_log_that_breaks_off_is_no_fault_of_the_program(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def print_log(*_: object) -> None:
        raise error

    monkeypatch.setattr(jobs, "JobSubmissionClient", lambda _: None)
    monkeypatch.setattr(jobs, "_print_log", print_log)
    with pytest.raises(UserError, match="the log of run-1 has broken off: gone"):
        follow("http://h:8265", "run-1")


@pytest.mark.parametrize(
    ("status", "of_the_command", "code"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 3, 3),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 143),
        (JobStatus.STOPPED, 1, 143),
    ],
)
def test_the_exit_code_of_a_job(status: JobStatus, of_the_command: int | None, code: int) -> None:
    assert exit_code(SimpleNamespace(status=status, driver_exit_code=of_the_command)) == code


def test_a_job_knows_the_commit_it_was_submitted_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=128, stdout=""))
    monkeypatch.setitem(os.environ, COMMIT, "abc")
    assert git_commit() == "abc"
    monkeypatch.delenv(COMMIT)
    assert git_commit() is None


def test_a_machine_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(COMMIT, "abc")
    assert git_commit() == "abc"
