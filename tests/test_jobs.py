"""The command line of `ray_jobs/train.py` that submits and resumes, and the codes with which jobs end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import aiohttp
import pytest
import requests
from processes import CONFIG, ROOT
from ray.job_submission import JobStatus

from toposampler.config import to_yaml
from toposampler.distributed import jobs
from toposampler.distributed.jobs import COMMIT, exit_code, follow, git_commit
from toposampler.errors import UserError
from toposampler.training import load_config
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.run import check


@pytest.fixture
def script(load_job: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(ROOT)
    return load_job("train")


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., RunConfig]:
    """Make a folder below `tmp_path` that holds a run, configured under another name or elsewhere."""

    def begin(folder: str, *overrides: str) -> RunConfig:
        config = load_config(ROOT / CONFIG, ["--output", str(tmp_path), "--name", "mine", "--seed", "7", *overrides])
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.yaml").write_text(to_yaml(config))
        return config

    return begin


def test_a_command_line_is_taken_apart(script: ModuleType) -> None:
    command = script.parse(["c.yaml", "--seed", "5", "--submit", "http://h:8265", "--no-wait", "--profile", "--a=b"])
    assert command.path == Path("c.yaml")
    assert command.overrides == ["--seed", "5", "--cluster.profile", "true", "--a=b"]
    assert (command.address, command.wait, command.dry_run, command.resume) == ("http://h:8265", False, False, None)
    command = script.parse(["--resume=mine", "--submit=https://h/a=b", "--wait", "--dry-run", "--seed", "-1"])
    assert (command.resume, command.address, command.wait, command.dry_run) == ("mine", "https://h/a=b", True, True)
    assert command.overrides == ["--seed", "-1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "5"], "no configuration is given"),
        (["--resume"], "--resume needs the name of a run"),
        (["c.yaml", "--submit", "--no-wait"], "--submit needs an address"),
        (["c.yaml", "--resume", "run"], "leave c.yaml out"),
        (["c.yaml", "d.yaml"], "unexpected argument 'd.yaml'"),
        (["--resume="], "--resume needs the name of a run"),
        (["--resume", "runs/mine"], "must be a name; .* is --output: --resume mine --output runs"),
        (["--resume", "/shared/mine"], "must be a name; .*: --resume mine --output /shared"),
        (["--resume", "mine/"], "must be a name; .* --output: --resume mine$"),
        (["c.yaml", "--submit", "head:8265"], "--submit head:8265 must begin with http.*, such as http://head:8265"),
        (["c.yaml", "--submit=ray://head:10001"], "must begin with http.*, such as http://HEAD:8265"),
        (["c.yaml", "--submit", "http://a:1", "--submit=http://b:1"], "--submit is given twice"),
        (["--resume", "a", "--resume", "b"], "--resume is given twice"),
        (["c.yaml", "--no-wait"], "--no-wait is for --submit"),
        (["c.yaml", "--wait"], "--wait is for --submit"),
        (["c.yaml", "--submit", "http://a:1", "--wait", "--no-wait"], "--wait and --no-wait are given"),
    ],
)
def test_a_command_line_that_cannot_be(script: ModuleType, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        script.parse(arguments)


def test_resume_goes_on_as_configured_wherever_the_folder_lies_now(
    script: ModuleType, tmp_path: Path, begun: Callable[..., RunConfig]
) -> None:
    begun("mine", "--output", "/elsewhere")
    config = script.load(script.parse(["--resume", "mine", "--output", str(tmp_path), "--cluster.num_workers", "2"]))
    assert (config.seed, config.cluster.num_workers, run_folder(config)) == (7, 2, tmp_path / "mine")


@pytest.mark.parametrize("folder", ["copy", "1e3", "null"])
def test_resume_goes_on_in_the_folder_it_opens_whatever_the_run_was_called(
    script: ModuleType, tmp_path: Path, begun: Callable[..., RunConfig], folder: str
) -> None:
    begun(folder)
    config = script.load(script.parse(["--resume", folder, "--output", str(tmp_path)]))
    assert (config.seed, run_folder(config)) == (7, tmp_path / folder)
    check(config)  # does not take it for another run
    with pytest.raises(UserError, match="leave --name other out"):
        script.load(script.parse(["--resume", folder, "--output", str(tmp_path), "--name", "other"]))


def test_resume_reads_output_as_a_configuration_does(
    script: ModuleType, tmp_path: Path, begun: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun("7/mine")
    config = script.load(script.parse(["--resume", "mine", "--output", "7"]))
    assert (config.output, run_folder(config)) == ("7", tmp_path / "7" / "mine")
    for value in ("null", "[1]"):
        with pytest.raises(UserError, match=r"output: input should be a valid string \(got (None|\[1\])\)"):
            script.load(script.parse(["--resume", "mine", "--output", value]))


def test_a_job_cannot_resume_what_is_not_sent_with_it(script: ModuleType, begun: Callable[..., RunConfig]) -> None:
    for output in ([], ["--output", "runs"]):
        with pytest.raises(UserError, match=r"--resume mine: a job .* without the runs in runs; give --output an abs"):
            script.load(script.parse(["--resume", "mine", "--submit", "http://h:8265", *output]))


def test_resume_of_no_run_names_those_that_exist(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    assert script.main(["--resume", "c", "--output", str(tmp_path)]) == 2
    assert f"the runs in {tmp_path} (--output): a, b" in capsys.readouterr().err


def test_what_is_submitted_is_the_same_command_and_checked_before(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    begun: Callable[..., RunConfig],
) -> None:
    sent = []

    def submit(address: str, config: object, command: list[str]) -> str:
        sent.append((address, command))
        return "run-1"

    monkeypatch.setattr(script, "submit", submit)
    arguments = [CONFIG, "--submit", "http://h:8265", "--output", "/shared", "--no-wait"]
    assert script.main(arguments) == 0
    assert sent == [("http://h:8265", ["python", "ray_jobs/train.py", CONFIG, "--output", "/shared"])]
    out = capsys.readouterr().out
    assert "ray job logs --address http://h:8265 --follow run-1" in out
    assert "ray job stop --address http://h:8265 run-1" in out
    assert "warning" not in out

    assert script.main([*arguments, "--seed", "-1"]) == 2
    assert len(sent) == 1

    begun("mine")
    resume = ["--resume=mine", "--submit=http://h:8265", "--no-wait", "--profile", f"--output={tmp_path}"]
    assert script.main(resume) == 0
    rest = ["--resume", "mine", "--cluster.profile", "true", f"--output={tmp_path}"]
    assert sent[1:] == [("http://h:8265", ["python", "ray_jobs/train.py", *rest])]


def test_a_relative_output_of_a_job_is_warned_of(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "submit", lambda *_: "run-1")
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
    monkeypatch.setattr(script, "submit", lambda *_: "run-1")
    monkeypatch.setattr(script, "follow", follow)
    assert script.main([CONFIG, "--submit", "http://h:8265"]) == code
    assert "the job goes on; to stop it: ray job stop --address http://h:8265 run-1" in capsys.readouterr().err


def test_nobody_at_the_address(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([CONFIG, "--submit", "http://127.0.0.1:9", "--no-wait"]) == 2
    assert "--submit: the job cannot be submitted to http://127.0.0.1:9 (" in capsys.readouterr().err


def test_a_cluster_that_is_gone_while_its_job_is_followed() -> None:
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


def test_a_machine_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(COMMIT, "abc")
    assert git_commit() == "abc"
