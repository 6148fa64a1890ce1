"""`ray_jobs/train.py` as users run it: alone, on a cluster, stopped half-way, and with bad input."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import numpy as np
import pytest
from mlflow import MlflowClient

from toposampler.config import ClusterConfig, to_yaml
from toposampler.distributed.launch import absolute, stored_result
from toposampler.distributed.lock import locked
from toposampler.distributed.resources import check_resources, of_this_machine, required
from toposampler.errors import UserError
from toposampler.training import RunConfig, load_config
from toposampler.training.config import run_folder

ROOT = Path(__file__).parents[1]
CONFIG = "configs/lines_dmgan_pl.yaml"
SHORT = ["--training.generator_steps", "20", "--training.evaluation_samples", "500"]
MARK = "TOPOSAMPLER_TEST"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A clean environment with a mark of its own; whatever still carries the mark at the end is killed."""
    foreign = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "PYTHONPATH")
    clean = {key: value for key, value in os.environ.items() if key not in foreign}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = clean | {MARK: uuid4().hex, "PATH": path, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    yield environment
    kill_all(environment)


def processes(environment: Mapping[str, str], command: str = "") -> list[int]:
    """The processes that were started, however indirectly, with `environment`, and have `command` in their command."""
    mark = f"{MARK}={environment[MARK]}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes() and command.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def kill_all(environment: Mapping[str, str]) -> None:
    """Kill what was started with `environment`, and return when it is gone."""
    while left := processes(environment):
        for pid in left:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def assert_nothing_left(environment: Mapping[str, str]) -> None:
    """Ray's processes are told to end before the driver does, and take a moment."""
    deadline = time.monotonic() + 10
    while left := processes(environment):
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
        time.sleep(0.1)


def start(arguments: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def train(*arguments: object) -> list[str]:
    return [sys.executable, "ray_jobs/train.py", CONFIG, *map(str, arguments)]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        if process.poll() is not None:
            pytest.fail(str(process.communicate()[0]))
        time.sleep(0.1)


def recorded_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def mlflow_status(output: Path, name: str) -> str:
    delivery = json.loads((output / name / "tracking.json").read_text())
    assert delivery["uri"] == f"sqlite:///{output}/mlflow.db"
    return str(MlflowClient(delivery["uri"]).get_run(delivery["run_id"]).info.status)


@pytest.fixture(scope="module")
def script(load_job: Callable[[str], ModuleType]) -> ModuleType:
    return load_job("train")


@pytest.fixture(autouse=True)
def _restored_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_is_required() -> None:
    config = ClusterConfig(num_workers=3, cpus_per_worker=2, use_gpu=True)
    assert required(config) == {"CPU": 6.0, "GPU": 3.0}
    check_resources(config, {"CPU": 6.0, "GPU": 3.0}, "here")
    with pytest.raises(
        UserError, match="6 CPUs are required and 5 available and 3 GPUs are required and 0 available on"
    ):
        check_resources(config, {"CPU": 5.0}, "here")


def test_a_system_that_does_not_tell_which_cpus_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_this_machine()["CPU"] == len(os.sched_getaffinity(0))
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert of_this_machine()["CPU"] == 7


def test_files_and_folders_of_a_run_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    points = absolute(load_config(ROOT / "configs" / "own_points.yaml", ["--output", "o", "--data.path", "p.npy"]))
    assert (points.output, points.data.path, points.data.labels) == (f"{tmp_path}/o", tmp_path / "p.npy", None)
    labelled = absolute(points.model_copy(update={"data": points.data.model_copy(update={"labels": Path("l.npy")})}))
    assert (labelled.data.path, labelled.data.labels) == (tmp_path / "p.npy", tmp_path / "l.npy")
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
    assert script.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "python ray_jobs/train.py CONFIG.yaml" in out
    assert "2    bad input" in out
    assert "--training.generator_steps [13333]  generator steps in all" in out


def test_dry_run_shows_config_and_resources_and_writes_nothing(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [str(ROOT / CONFIG), "--output", str(tmp_path / "runs"), "--cluster.num_workers", "2", "--dry-run"]
    assert script.main(arguments) == 0
    out = capsys.readouterr().out
    assert "workers: 2 (2 CPU)" in out
    assert "num_workers: 2" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system.n_generatorz", "3"], "system.n_generatorz: unknown key"),
        (["--system.n_generators", "0"], "system.n_generators"),
        (["--cluster.num_workers", "64", "--training.batch_size", "64"], "64 CPUs are required"),
        (["--cluster.use_gpu", "true"], "1 GPUs are required and 0 available"),
        (["--tracking.uri", "http://127.0.0.1:9"], "no MLflow answers at http://127.0.0.1:9"),
        (["--output", "/proc/runs"], "/proc/runs"),
        (["--output", "a\0b"], "output: '" + os.getcwd() + "/a\\x00b' cannot be a file or folder: embedded null byte"),
        (["--output", "x" * 300], "File name too long"),
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
    assert error.startswith("error: ")
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


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_a_seed_that_torch_does_not_take(
    seed: str, load_job: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_job("sample").main(["model", "--out", "samples.npy", "--seed", seed]) == 2
    assert capsys.readouterr().err == f"error: --seed must be at least 0 and less than 2**63, got {seed}\n"


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
    result = {"metrics": {"jsd": 0.25}, "active_generators": 4, "generator_steps": 9, "seconds": 1.5}
    (folder / "result.json").write_text(json.dumps(result | {"model": str(folder / "model.pt")}))
    return config


def test_a_run_is_complete_with_its_result_and_its_model(complete: RunConfig) -> None:
    result = stored_result(complete)
    assert result is not None
    assert result["metrics"] == {"jsd": 0.25}
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
    assert error.startswith(f"error: {path} is damaged (")
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
    assert capsys.readouterr().err == f"error: another process is working on this run: {run_folder(complete)}\n"


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "nonsense", "127.0.0.1:{port}"])
def test_a_ray_address_where_no_cluster_answers_is_named_within_seconds(
    environment: dict[str, str], tmp_path: Path, address: str
) -> None:
    address = address.format(port=free_port())
    run = start(train("--output", tmp_path, "--tracking.enabled", "false"), environment | {"RAY_ADDRESS": address})
    said, _ = run.communicate(timeout=120)  # Ray's own waits would add up to 14 minutes
    assert run.returncode == 2, said
    assert f"error: RAY_ADDRESS: cannot connect to a Ray cluster at {address} (" in said
    assert "must be the host:port of the head node" in said
    assert "Traceback" not in said


@pytest.mark.ray
@pytest.mark.timeout(300)  # it starts Ray twice
def test_a_driver_that_is_killed_goes_on_when_it_is_submitted_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    steps = ["--training.generator_steps", 60, "--training.checkpoint_every", 10, "--training.log_every", 5]
    workers = ["--cluster.num_workers", 2]
    command = train("--output", tmp_path, "--name", "two", *workers, *steps, *SHORT[2:])
    run = start(command, environment)
    wait_until(lambda: list(tmp_path.glob("two/checkpoints/step_*.pt")), run)
    run.kill()
    kill_all(environment)  # Ray's processes outlive the driver for a moment, and write on
    run.communicate()
    assert not (tmp_path / "two" / "result.json").exists()

    again = start(command, environment)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert "workers: 2 (2 CPU)" in said
    assert json.loads((tmp_path / "two" / "result.json").read_text())["generator_steps"] == 60
    assert recorded_steps(tmp_path / "two") == list(range(5, 61, 5))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (recorded,) = client.search_runs([client.get_experiment_by_name("toposampler").experiment_id])
    assert recorded.info.status == "FINISHED"
    assert_nothing_left(environment)


@pytest.mark.ray
def test_a_lost_worker_is_replaced_and_nothing_is_left_behind(environment: dict[str, str], tmp_path: Path) -> None:
    steps = ["--training.generator_steps", 1000, "--training.checkpoint_every", 100, "--training.log_every", 10]
    command = train("--output", tmp_path, "--name", "lost", *steps, *SHORT[2:])
    run = start(command, environment)
    wait_until(lambda: list(tmp_path.glob("lost/checkpoints/step_*.pt")), run)
    (worker,) = processes(environment, "RayTrainWorker")
    os.kill(worker, signal.SIGKILL)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    assert json.loads((tmp_path / "lost" / "result.json").read_text())["generator_steps"] == 1000
    assert recorded_steps(tmp_path / "lost") == list(range(10, 1001, 10))
    assert mlflow_status(tmp_path, "lost") == "FINISHED"
    assert_nothing_left(environment)

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "complete: nothing is left to train; give another --name" in again.stdout


@pytest.mark.ray
def test_training_stopped_by_its_guards_gives_exit_code_3(environment: dict[str, str], tmp_path: Path) -> None:
    run = start(
        train("--output", tmp_path, "--name", "guard", "--system.critic.learning_rate", 1e38, *SHORT), environment
    )
    said, _ = run.communicate()
    assert run.returncode == 3, said
    assert "training stopped: " in said
    assert "Traceback" not in said
    assert mlflow_status(tmp_path, "guard") == "FAILED"


@pytest.mark.ray
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_killed_in_mlflow_and_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path, number: int, code: int
) -> None:
    run = start(train("--output", tmp_path, "--name", "stop", "--training.log_every", 10), environment)
    wait_until(lambda: (tmp_path / "stop" / "metrics.jsonl").exists(), run)
    run.send_signal(number)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == code, said
    assert mlflow_status(tmp_path, "stop") == "KILLED"
    assert_nothing_left(environment)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def dashboard(environment: dict[str, str]) -> Iterator[str]:
    """The address of the dashboard of a Ray cluster of one node, which ends with the processes of `environment`."""
    folder, port = Path(tempfile.mkdtemp(prefix="ray")), free_port()  # short: Ray makes sockets below it
    command = ["ray", "start", "--head", "--num-cpus", "1", "--port", str(free_port()), "--temp-dir", str(folder)]
    command += ["--ray-client-server-port", str(free_port()), "--dashboard-agent-listen-port", str(free_port())]
    command += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(port), "--object-store-memory", "100000000"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield f"http://127.0.0.1:{port}"
    kill_all(environment)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
def test_jobs_on_a_cluster(dashboard: str, environment: dict[str, str], tmp_path: Path) -> None:
    def submit(*arguments: object) -> tuple[int, str]:
        job = ["ray", "job", "submit", "--address", dashboard, "--working-dir", ".", "--", "python", *arguments]
        run = start([str(part) for part in job], environment)
        said, _ = run.communicate()
        return run.returncode, said

    code, said = submit("ray_jobs/train.py", CONFIG, "--output", tmp_path, "--name", "job", *SHORT)
    assert code == 0, said
    assert "where    the Ray cluster at " in said
    assert "off_manifold_0.05" in said
    assert mlflow_status(tmp_path, "job") == "FINISHED"

    code, said = submit("ray_jobs/train.py", CONFIG, "--output", tmp_path, "--system.n_generators", 0)
    assert code == 1, "`ray job submit` ends with 1 whatever the exit code of the job, here 2"
    assert "system.n_generators" in said
    assert "(got 0)" in said
