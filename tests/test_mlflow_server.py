"""Models on the MLflow server of k8s/, over SQLite and PostgreSQL: found again after a restart, and served."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from processes import PATIENCE, ROOT, free_port, server

import toposampler
from toposampler.rejection import rejection
from toposampler.training import RunConfig, load_model, train

pytestmark = pytest.mark.slow
PROGRAMS = ":".join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])  # where Debian has them
Restarted = Callable[[str], AbstractContextManager[str]]


@pytest.fixture
def run(make_config: Callable[..., RunConfig], tmp_path: Path) -> Path:
    """The folder of a short run."""
    train(make_config("dmgan_pl"))
    return tmp_path / "run"


@pytest.fixture
def postgresql(environment: dict[str, str]) -> Iterator[str]:
    """The URI of a new PostgreSQL, with the driver that k8s/README.md names."""
    if shutil.which("initdb", path=PROGRAMS) is None:
        pytest.skip("PostgreSQL is not installed: no initdb in PATH or /usr/lib/postgresql/*/bin")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install '.[postgresql]' in the checkout")
    folder = Path(tempfile.mkdtemp(prefix="postgresql"))  # short: its socket lies there
    data, log = folder / "data", folder / "log"
    user: list[str] = []
    if os.getuid() == 0:  # it refuses to run as root
        user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")

    def call(program: str, *arguments: str) -> None:
        command = [*user, str(shutil.which(program, path=PROGRAMS)), "-D", str(data), *arguments]
        with (folder / "said").open("w+") as said:  # no pipe: the server inherits it, and would keep it open
            code = subprocess.run(command, env=environment, cwd=folder, stdout=said, stderr=said).returncode
        assert code == 0, (folder / "said").read_text() + (log.read_text() if log.exists() else "")

    call("initdb", "--username=mlflow", "--auth=trust", "--no-sync")
    call("pg_ctl", "start", "-w", "-l", str(log), "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
    (scheme,) = re.findall(r"--from-literal=uri=(\S+)://", (ROOT / "k8s/README.md").read_text())
    yield f"{scheme}://mlflow@/postgres?host={folder}"
    call("pg_ctl", "stop", "-m", "immediate")
    shutil.rmtree(folder)


@pytest.fixture
def restarted(
    run: Path,
    tmp_path: Path,
    environment: dict[str, str],
    load_job: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> Restarted:
    """Runs the server of k8s/ over a database, and again after the run's model became the champion `lines`."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # the machine may have other work
    manifests = yaml.safe_load_all((ROOT / "k8s/base/platform/mlflow.yaml").read_text())
    deployment = next(item for item in manifests if item["kind"] == "Deployment")
    port = free_port()
    address = f"http://localhost:{port}"
    command = ["mlflow", *deployment["spec"]["template"]["spec"]["containers"][0]["args"]]
    command += ["--host=127.0.0.1", f"--port={port}", "--workers=1"]  # the last ones count

    @contextmanager
    def restarted(database: str) -> Iterator[str]:
        places = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts")}
        arguments = (command, f"{address}/health", tmp_path / "server.log", environment | places)
        with server(*arguments):
            asked = [str(run), "--name", "lines", "--alias", "champion", "--tracking-uri", address]
            assert load_job("promote").main(asked) == 0
        with server(*arguments):
            yield address

    return restarted


def assert_champion(address: str, run: Path) -> None:
    """The champion at `address` makes the samples of `run`."""
    found, ids = toposampler.load("models:/lines@champion", tracking_uri=address).sample(64, 5)
    expected = load_model(run).sample(64, 5)
    assert torch.equal(found, expected[0])
    assert torch.equal(ids, expected[1])


def ask(url: str, content: object, **headers: str) -> tuple[int, str]:
    """The status and the text that a POST of `content` as JSON is answered with."""
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_champion_comes_back_from_postgresql(postgresql: str, restarted: Restarted, run: Path) -> None:
    with restarted(postgresql) as address:
        assert_champion(address, run)


def test_a_champion_comes_back_from_sqlite_and_is_served(
    restarted: Restarted, run: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    with restarted(f"sqlite:///{tmp_path}/server.db") as address:
        assert_champion(address, run)
        experiments = f"{address}/api/2.0/mlflow/experiments/search"
        assert ask(experiments, {"max_results": 1}, Host="mlflow:5000")[0] == 200
        assert ask(experiments, {"max_results": 1}, Host="elsewhere:5000")[0] == 403
        port = free_port()
        command = ["mlflow", "models", "serve", "-m", "models:/lines@champion", "--env-manager", "local"]
        command += ["--port", str(port), "--timeout", "600"]
        health, log = f"http://127.0.0.1:{port}/health", tmp_path / "serve.log"
        with server(command, health, log, environment | {"MLFLOW_TRACKING_URI": address}):
            assert_served(f"http://127.0.0.1:{port}/invocations", run)


def assert_served(url: str, run: Path) -> None:
    """`url` answers with the samples of `run` and their generators, and says what is wrong with params."""

    def reply(params: Mapping[str, Any]) -> Any:
        status, text = ask(url, {"inputs": [0], "params": params})
        assert status == 200, text
        return json.loads(text)["predictions"]

    def samples(params: Mapping[str, Any]) -> torch.Tensor:
        return torch.tensor(reply(params)["samples"])

    model = load_model(run)
    assert torch.equal(samples({"n": 64, "seed": 5}), model.sample(64, 5)[0])
    assert reply({"n": 64, "seed": 5})["generators"] == model.sample(64, 5)[1].tolist()
    assert torch.equal(torch.tensor(reply({"n": 64, "seed": 5, "ids": False})), model.sample(64, 5)[0])
    assert not torch.equal(samples({"n": 64}), samples({"n": 64})), "of no seed"
    last = load_model(run, ema=False).sample(64, 0, 3)[0]
    assert torch.equal(samples({"n": 64, "seed": 0, "generator": 3, "ema": False}), last)
    kept = rejection("jacobian", model, 0.5, None).sample(64, 5)[0]
    assert torch.equal(samples({"n": 64, "seed": 5, "rejection": "jacobian", "keep": 0.5}), kept)
    status, text = ask(url, {"inputs": [0], "params": {"generator": 99}})
    assert status == 400
    assert "params: there is no generator 99: this model has generators 0 to 9" in json.loads(text)["message"]
