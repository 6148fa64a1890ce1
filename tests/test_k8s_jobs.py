"""The entry points of the RayJobs, word for word, on a local Ray cluster that begins where the image does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from manifests import manifests, ray_specs
from mlflow import MlflowClient
from processes import ROOT, kill_all, marked_environment

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
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


@pytest.mark.parametrize("name", ["train", "ensemble", "sweep"])
def test_an_entry_point_does_its_job(name: str, environment: dict[str, str], dashboard: str, tmp_path: Path) -> None:
    mount(name, tmp_path)
    job = next(i for i in manifests("cpu") if i["kind"] == "RayJob" and i["metadata"]["name"] == name)
    command = ["ray", "job", "submit", "--address", dashboard, "--", *job["spec"]["entrypoint"].split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if name == "sweep":
        client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
        assert int(client.get_model_version_by_alias("lines-sweep", "champion").version) == 1
    else:
        assert (tmp_path / "runs" / name / "result.json").exists()
    anybody = {key: value for key, value in environment.items() if key != "RAY_AUTH_TOKEN"}
    refused = subprocess.run([*command[:5], "--", "true"], env=anybody, capture_output=True, text=True, check=False)
    assert refused.returncode != 0, "a cluster with a token takes jobs from anybody"
