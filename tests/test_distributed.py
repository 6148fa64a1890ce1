"""`ray_jobs/train.py` as users run it: alone, on a cluster, stopped half-way, and with bad input."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from processes import CONFIG, ROOT, SHORT, free_port, mlflow_status, start, train

from toposampler.config import to_yaml
from toposampler.distributed.driver import absolute, stored_result
from toposampler.distributed.resources import this_machine
from toposampler.errors import UserError
from toposampler.training import RunConfig, load_config
from toposampler.training.config import run_folder
from toposampler.training.lock import locked


@pytest.fixture(scope="module")
def script(load_job: Callable[[str], ModuleType]) -> ModuleType:
    return load_job("train")


def test_a_system_that_does_not_tell_which_cpus_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_machine().total["CPU"] == len(os.sched_getaffinity(0))
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert this_machine().total["CPU"] == 7


def test_files_and_folders_of_a_run_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    points = absolute(load_config(ROOT / "configs" / "own_points.yaml", ["--output", "o", "--data.path", "p.npy"]))
    assert (points.output, points.data.path, points.data.labels) == (f"{tmp_path}/o", tmp_path / "p.npy", None)
    labeled = absolute(points.model_copy(update={"data": points.data.model_copy(update={"labels": Path("l.npy")})}))
    assert (labeled.data.path, labeled.data.labels) == (tmp_path / "p.npy", tmp_path / "l.npy")
    digits = absolute(load_config(ROOT / "configs" / "mnist_dmgan_pl.yaml", ["--data.root", "../d"]))
    assert digits.data.root == tmp_path / "../d"


def test_one_process_at_a_time_works_on_a_run(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(UserError, match=f"^another process is working on this run: {tmp_path}$"), locked(tmp_path):
            pytest.fail("two at a time")
        with pytest.raises(UserError), locked(tmp_path):
            pytest.fail("the refused one has broken the lock")
    with locked(tmp_path):
        pass


def test_help_lists_exit_codes_and_keys(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(ROOT / CONFIG), "--help", "--training.generator_steps", "20"]) == 0
    assert "--training.generator_steps [13333]  here 20\n      generator steps in all" in capsys.readouterr().out
    assert script.main(["--help"]) == 0
    assert "2    bad input" in capsys.readouterr().out


def test_dry_run_shows_config_and_resources_and_writes_nothing(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [str(ROOT / CONFIG), "--output", str(tmp_path / "runs"), "--cluster.num_workers", "2", "--dry-run"]
    assert script.main(arguments) == 0
    out = capsys.readouterr().out
    assert "workers: 2 (each 1 CPU)" in out
    assert "num_workers: 2" in out
    assert "data     50,000 points in 2 dimensions\n         column 0: -0.7499 to 0.75, mean " in out
    assert "labels: 4 components with masses 0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system.n_generatorz", "3"], "system.n_generatorz: unknown key"),
        (["--system.n_generators", "0"], "system.n_generators"),
        (["--cluster.num_workers", "64", "--training.batch_size", "64"], "64 CPU required, "),
        (["--cluster.use_gpu", "true"], "1 GPU required, 0 available"),
        (["--tracking.uri", "http://127.0.0.1:9"], "no MLflow answers at http://127.0.0.1:9"),
        (["--output", "/proc/runs"], "/proc/runs"),
        (["--output", "a\0b"], r"error: --output 'a\x00b': arguments are texts in UTF-8"),
        (["--output", "x" * 300], "output: a file's name has at most 255 bytes, and one here has 300"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    assert script.main([str(ROOT / CONFIG), "--output", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def save_array(path: Path, array: np.ndarray) -> None:
    np.save(path, array)


@pytest.mark.parametrize(
    ("config", "make", "message"),
    [
        ("own_points", lambda path: None, "does not exist"),
        ("own_points", lambda path: save_array(path, np.array([[0, 1], [np.nan, 2]])), "NaN or infinite"),
        ("own_points", lambda path: save_array(path, np.zeros(5)), "shape (5,)"),
        ("own_points", lambda path: save_array(path, np.array([None, {}])), "is not a .npy array of numbers"),
        ("own_points", lambda path: path.write_text("1,2"), "is not a .npy array of numbers"),
        ("own_images", lambda path: path.mkdir(), "no image"),
    ],
)
def test_bad_data_is_one_message_and_exit_code_2(
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    config: str,
    make: Callable[[Path], object],
    message: str,
) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    data = tmp_path / "data.npy"
    make(data)
    arguments = [str(ROOT / "configs" / f"{config}.yaml"), "--output", str(tmp_path), "--data.path", str(data)]
    assert script.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.removeprefix("loading the data npy\n").removeprefix("loading the data folder\n").startswith("error: ")
    assert str(data) in error
    assert message in error


def test_resume_with_another_config_is_one_message_and_exit_code_2(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    begun = load_config(ROOT / CONFIG, ["--output", str(tmp_path)])
    run_folder(begun).mkdir()
    (run_folder(begun) / "config.yaml").write_text(to_yaml(begun))
    assert script.main([str(ROOT / CONFIG), "--output", str(tmp_path), "--seed", "5"]) == 2
    assert "holds a run with another configuration" in (error := capsys.readouterr().err)
    assert "seed: 0 -> 5" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dry-run"], "error: no configuration is given"),
        (["a\0b.yaml"], "embedded null byte"),
        (["x" * 300], "File name too long"),
        ([str(ROOT)], "Is a directory"),
    ],
)
def test_no_config_file_is_one_line_and_exit_code_2(
    script: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert script.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_device_that_is_neither_cpu_nor_cuda(
    load_job: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        load_job("sample").main(["model", "--out", "samples.npy", "--device", "tpu"])
    assert "--device: invalid choice: 'tpu'" in capsys.readouterr().err


@pytest.fixture
def complete(tmp_path: Path) -> RunConfig:
    """A run that lacks nothing which shows that it is complete."""
    config = absolute(load_config(ROOT / CONFIG, ["--output", str(tmp_path), "--tracking.enabled", "false"]))
    folder = run_folder(config)
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(config))
    (folder / "model.pt").touch()
    steps = config.training.generator_steps
    result = {"metrics": {"jsd": 0.25}, "active_generators": 4, "generator_steps": steps, "seconds": 1.5}
    (folder / "result.json").write_text(json.dumps(result | {"model": str(folder / "model.pt")}))
    return config


def test_a_run_is_complete_with_its_result_and_its_model(complete: RunConfig) -> None:
    result = stored_result(complete)
    assert result is not None
    assert result["metrics"] == {"jsd": 0.25}
    longer = complete.training.model_copy(update={"generator_steps": complete.training.generator_steps + 1})
    assert stored_result(complete.model_copy(update={"training": longer})) is None
    Path(result["model"]).unlink()
    assert stored_result(complete) is None
    (run_folder(complete) / "result.json").unlink()
    assert stored_result(complete) is None


@pytest.mark.parametrize("content", ["", '{"metrics": {"jsd', "[1]", "{}"])
def test_a_damaged_result_is_one_message_and_exit_code_2(
    complete: RunConfig, script: ModuleType, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = run_folder(complete) / "result.json"
    path.write_text(content)
    assert script.main([str(run_folder(complete) / "config.yaml")]) == 2
    error = capsys.readouterr().err
    assert f"\nerror: {path} is damaged (" in error
    assert "remove it" in error


def test_a_complete_run_says_so_unless_it_is_refused(
    complete: RunConfig, script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a cluster was started"))
    config = str(run_folder(complete) / "config.yaml")
    assert script.main([config]) == 0
    assert "complete: nothing is left to train; give another --name" in (out := capsys.readouterr().out)
    assert "jsd" in out
    assert script.main([config, "--seed", "5"]) == 2
    assert "complete:" not in capsys.readouterr().out
    with locked(run_folder(complete)):
        assert script.main([config]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"\nerror: another process is working on this run: {run_folder(complete)}\n")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "nonsense"])
def test_a_ray_address_that_is_none_is_named(
    address: str,
    script: ModuleType,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert script.main([str(ROOT / CONFIG), "--output", str(tmp_path), "--tracking.enabled", "false"]) == 2
    assert_unreachable(address, "".join(capfd.readouterr()))


def test_a_ray_address_where_no_cluster_answers_is_named_within_seconds(
    environment: dict[str, str], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    run = start(train("--output", tmp_path, "--tracking.enabled", "false"), environment | {"RAY_ADDRESS": address})
    said, _ = run.communicate(timeout=400)  # Ray's own waits would add up to 14 minutes
    assert run.returncode == 2, said
    assert_unreachable(address, said)


def assert_unreachable(address: str, said: str) -> None:
    assert f"error: RAY_ADDRESS: cannot connect to a Ray cluster at {address} (" in said
    assert "must be the host:port of the head node" in said
    assert "Traceback" not in said


@pytest.mark.ray
def test_training_stopped_by_its_guards_gives_exit_code_3(
    script: ModuleType, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    wild = ["--system.critic.learning_rate", "1e38"]
    assert script.main([str(ROOT / CONFIG), "--output", str(tmp_path), "--name", "guard", *wild, *SHORT]) == 3
    said = "".join(capfd.readouterr())
    told = [
        "loading the data lines\n  50,000 points in 2 dimensions\n",
        "connecting to MLflow\nstarting Ray\nwaiting for",
    ]
    assert said.index(told[0]) < said.index(told[1])
    assert "training stopped: " in said
    assert "Traceback" not in said
    assert mlflow_status(tmp_path, "guard") == "FAILED"


def submit(dashboard: str, environment: dict[str, str], *arguments: object) -> tuple[int, str]:
    """The code and the output of `ray job submit ... -- python ray_jobs/train.py CONFIG arguments`."""
    job = ["ray", "job", "submit", "--address", dashboard, "--working-dir", "."]
    run = start([*job, "--", "python", "ray_jobs/train.py", CONFIG, *map(str, arguments)], environment)
    said, _ = run.communicate()
    return run.returncode, said


@pytest.mark.ray
def test_jobs_on_a_cluster(dashboard: str, environment: dict[str, str], tmp_path: Path) -> None:
    code, said = submit(dashboard, environment, "--output", tmp_path, "--name", "job", *SHORT)
    assert code == 0, said
    assert "where    the Ray cluster at " in said
    assert "off_manifold_0.05" in said
    assert mlflow_status(tmp_path, "job") == "FINISHED"

    run = start(train("--output", tmp_path, "--cluster.num_workers", 64, "--submit", dashboard), environment)
    said, _ = run.communicate()
    assert run.returncode == 2, "the job's own code"
    assert "has room for 2 of 64 workers (each 1 CPU): 64 CPU required, 2 available" in said
    assert "ray job stop --address" in said


@pytest.mark.ray
@pytest.mark.slow
def test_bad_input_of_a_job(dashboard: str, environment: dict[str, str], tmp_path: Path) -> None:
    code, said = submit(dashboard, environment, "--output", tmp_path, "--system.n_generators", 0)
    assert code == 1, "`ray job submit` ends with 1 whatever the exit code of the job, here 2"
    assert "system.n_generators" in said
    assert "(got 0)" in said
