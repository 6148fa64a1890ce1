"""The entry points of the RayJobs, word for word, on a local Ray cluster that begins where the image does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
import yaml
from manifests import manifests, ray_specs
from mlflow import MlflowClient
from processes import ROOT, kill_all, marked_environment

from toposampler.training import RunConfig, train

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]
SMOKE = {"generator_steps": 18, "evaluation_samples": 500, "log_every": 1}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The head's variables, with a token, and the image's folder as the current one, so that Ray starts in it."""
    image = tmp_path / "image"
    for part in ("ray_jobs", "tuning", "configs"):
        shutil.copytree(ROOT / part, image / part)
    monkeypatch.chdir(image)
    job = next(item for item in manifests("cpu") if item["kind"] == "RayJob")
    head = ray_specs(job)["headGroupSpec"]["template"]["spec"]["containers"][0]
    variables = {variable["name"]: variable["value"] for variable in head["env"]}
    here = {"HOME": str(tmp_path), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}  # what differs here
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex}  # what the operator sets
    environment = marked_environment() | variables | here | token
    yield environment
    kill_all(environment)


def mount(name: str, tmp_path: Path) -> None:
    """The job's ConfigMap where the pod has it, as Kubernetes lays it (by links), in a size for a test."""
    files = next(i for i in manifests("cpu") if i["kind"] == "ConfigMap" and f"{name}.yaml" in i["data"])["data"]
    content = yaml.safe_load(files[f"{name}.yaml"]) | {"output": str(tmp_path / "runs")}
    if name == "sweep":
        small = {f"training.{key}": value for key, value in SMOKE.items()}
        content |= {"trials": 2, "confirm_seeds": 0, "overrides": content["overrides"] | small}
    else:
        workers = min(2, content["cluster"]["num_workers"])  # as many as the cluster here has CPUs
        content |= {"training": SMOKE, "cluster": content["cluster"] | {"num_workers": workers}}
    data = tmp_path / "image" / "job" / "..data"
    data.mkdir(parents=True)
    (data / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "image" / "job" / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")


def submit(name: str, environment: dict[str, str], dashboard: str, tmp_path: Path, *more: str) -> None:
    """Run the entry point of the job `name`, with `more` at its end, and its claim `runs` in `tmp_path`."""
    job = next(i for i in manifests("cpu") if i["kind"] == "RayJob" and i["metadata"]["name"] == name)
    entrypoint = job["spec"]["entrypoint"].replace(" /runs/", f" {tmp_path}/runs/").split()
    command = ["ray", "job", "submit", "--address", dashboard, "--", *entrypoint, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["train", "ensemble", "sweep"])
def test_an_entry_point_does_its_job(name: str, environment: dict[str, str], dashboard: str, tmp_path: Path) -> None:
    mount(name, tmp_path)
    submit(name, environment, dashboard, tmp_path)
    if name == "sweep":
        client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
        assert int(client.get_model_version_by_alias("lines-sweep", "champion").version) == 1
    else:
        assert (tmp_path / "runs" / name / "result.json").exists()
    anybody = {key: value for key, value in environment.items() if key != "RAY_AUTH_TOKEN"}
    command = ["ray", "job", "submit", "--address", dashboard, "--", "true"]
    refused = subprocess.run(command, env=anybody, capture_output=True, text=True, check=False)
    assert refused.returncode != 0, "a cluster with a token takes jobs from anybody"


def test_the_champion_of_a_sweep_is_evaluated(
    environment: dict[str, str],
    dashboard: str,
    tmp_path: Path,
    make_config: Callable[..., RunConfig],
    load_job: Callable[[str], ModuleType],
) -> None:
    train(make_config("dmgan_pl"))
    asked = [str(tmp_path / "run"), "--name", "lines-sweep", "--alias", "champion"]
    assert load_job("promote").main([*asked, "--tracking-uri", environment["MLFLOW_TRACKING_URI"]]) == 0
    submit("evaluate", environment, dashboard, tmp_path, "-n", "100")
    assert (tmp_path / "runs" / "evaluations" / "lines-sweep" / "evaluation.json").exists()
