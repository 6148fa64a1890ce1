"""Models on MLflow: registered, promoted, looked up by address; what is not there is told with what is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from processes import free_port

import toposampler
from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.rejection import TRUNCATIONS
from toposampler.tracking.pyfunc import Sampler
from toposampler.training import RunConfig, load_model, train

LoadJob = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs: `good` is better than `bad`."""
    output = tmp_path_factory.mktemp("runs")
    for name, steps in (("bad", 1), ("good", 100)):
        training = {"batch_size": 32, "generator_steps": steps, "evaluation_samples": 500}
        content: dict[str, Any] = {"name": name, "output": str(output), "training": training}
        train(validate(RunConfig, content | {"data": {"name": "lines", "n": 400}, "system": {"name": "dmgan_pl"}}))
    return output


@pytest.fixture(scope="module")
def uri(runs: Path, load_job: LoadJob) -> str:
    """MLflow with `good` as version 1, the champion, and `bad` as version 2, the candidate, of `lines`."""
    uri = f"sqlite:///{runs}/mlflow.db"
    for name in ("good", "bad"):
        arguments = [str(runs / name), "--name", "lines", "--alias", "champion", "--tracking-uri", uri]
        assert load_job("promote").main(arguments) == 0
    return uri


@pytest.fixture(scope="module")
def version(uri: str) -> PyFuncModel:
    """Version 1, as MLflow loads it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", uri)
        return mlflow.pyfunc.load_model("models:/lines/1")


@pytest.mark.parametrize(
    ("address", "name"), [("models:/lines@champion", "good"), ("models:/lines/2", "bad"), ("models:/lines/1", "good")]
)
def test_an_address_gives_the_samples_of_its_run(runs: Path, uri: str, address: str, name: str) -> None:
    for ema in (True, False):
        found, _ = toposampler.load(address, ema, tracking_uri=uri).sample(64)
        assert torch.equal(found, load_model(runs / name, ema).sample(64)[0])


def test_a_run_gives_what_was_registered_of_it(runs: Path, uri: str) -> None:
    run_id = MlflowClient(uri).get_model_version("lines", "2").run_id
    found, _ = toposampler.load(f"runs:/{run_id}", tracking_uri=uri).sample(64)
    assert torch.equal(found, load_model(runs / "bad").sample(64)[0])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("models:/lines@best", "lines has no alias best; its aliases: candidate (version 2), champion (version 1)"),
        ("models:/lines/7", "lines has no version 7; its versions: 1, 2"),
        ("models:/rings/1", "there is no model rings on MLflow at"),
        ("models:/lines", "is not models:/NAME@alias, models:/NAME/VERSION or runs:/RUN_ID"),
        ("runs:/abc", "no model was registered of this run"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(uri: str, address: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        toposampler.load(address, tracking_uri=uri)


def test_a_dead_server_is_named(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"no MLflow answers at {dead} .*; give --tracking-uri or MLFLOW_TRACKING_URI"):
        toposampler.load("models:/lines/1", tracking_uri=dead)
    with pytest.raises(UserError, match=r"none\.db does not exist"):
        toposampler.load("models:/lines/1", tracking_uri=f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_only_force_promotes_a_worse_model(uri: str, load_job: LoadJob, capsys: pytest.CaptureFixture[str]) -> None:
    promote = load_job("promote").main
    asked = ["models:/lines/2", "--alias", "champion", "--tracking-uri", uri]
    assert promote(asked) == 0
    assert re.search(r"not promoted: it lost to the champion by \d\.\d{4}", capsys.readouterr().out)
    assert promote([*asked, "--force"]) == 0
    assert re.search(r"the new champion by force: it lost by \d\.\d{4}", capsys.readouterr().out)
    assert promote(["--list", "--tracking-uri", uri]) == 0
    assert re.search(r"lines +2  candidate, champion +dmgan_pl on lines, step 1 ", capsys.readouterr().out)
    assert promote(["models:/lines/1", "--alias", "champion", "--tracking-uri", uri]) == 0
    assert MlflowClient(uri).get_model_version_by_alias("lines", "champion").version == 1


def test_a_version_is_a_pyfunc_model_that_samples(
    runs: Path, version: PyFuncModel, tmp_path: Path, load_job: LoadJob
) -> None:
    for ema in (True, False):
        found = version.predict([0], {"n": 64, "seed": 5, "ema": ema})
        samples, ids = load_model(runs / "good", ema).sample(64, 5)
        assert found.keys() == {"samples", "generators"}
        assert torch.equal(torch.from_numpy(found["samples"]), samples)
        assert torch.equal(torch.from_numpy(found["generators"]), ids)
        assert len(ids.unique()) > 1
        alone = version.predict([0], {"n": 64, "seed": 5, "generator": 3, "ema": ema})
        assert torch.equal(torch.from_numpy(alone["samples"]), load_model(runs / "good", ema).sample(64, 5, 3)[0])
        assert set(alone["generators"].tolist()) == {3}
    for name in TRUNCATIONS:
        command = [str(runs / "good"), "-n", "1100", "--seed", "5", "--out", str(tmp_path / f"{name}.npy")]
        assert load_job("sample").main([*command, "--rejection", name, "--keep", "0.8"]) == 0
        found = version.predict([0], {"n": 1100, "seed": 5, "rejection": name, "keep": 0.8})
        assert np.array_equal(found["samples"], np.load(tmp_path / f"{name}.npy"))
        assert np.array_equal(found["generators"], np.load(tmp_path / f"{name}_ids.npy"))
        assert not np.array_equal(found["samples"][:64], version.predict([0], {"n": 64, "seed": 5})["samples"])
    asked = {"n": 9, "seed": 0, "rejection": "jacobian", "keep": 0.7}
    with ThreadPoolExecutor(3) as threads:  # as a server has them
        first, *others = threads.map(version.predict, [[0]] * 3, [asked] * 3)
    assert all(np.array_equal(first["samples"], other["samples"]) for other in others)


@pytest.mark.parametrize("more", [{}, {"rejection": "critic"}])
def test_without_a_seed_each_request_gets_other_samples(version: PyFuncModel, more: dict[str, Any]) -> None:
    first, second, third = (version.predict([0], {"seed": seed, **more})["samples"] for seed in (None, None, 3))
    assert first.shape == (16, 2)
    assert not np.isin(first, second).any()
    assert np.array_equal(third, version.predict([0], {"seed": 3, **more})["samples"])
    assert not np.array_equal(*(version.predict([0], more)["samples"] for _ in range(2)))


def test_a_reply_without_ids_is_the_samples_alone(version: PyFuncModel, runs: Path) -> None:
    expected = load_model(runs / "good").sample(9, 5)[0].numpy()
    assert np.array_equal(version.predict([0], {"n": 9, "seed": 5, "ids": False}), expected)
    earlier = Sampler(runs / "good").predict(None, {"n": 9, "seed": 5})
    assert np.array_equal(earlier, expected), "as of a version whose signature knows of no ids"


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"n": "x"}, "Invalid parameters"),
        ({"n": 0}, "params: the number of samples must be at least 1, got 0"),
        ({"n": 10**9}, "params: n must be at most 100,000, got 1,000,000,000"),
        ({"seed": -1}, "params: the seed must be at least 0"),
        ({"generator": 99}, "params: there is no generator 99"),
        ({"rejection": "jacobian"}, "keep is the share .* alone; got keep None and rejection jacobian"),
        ({"keep": 0.8}, "got keep 0.8 and rejection None"),
        ({"rejection": "jacobian", "keep": 2}, "params: keep must be more than 0 and at most 1, got 2"),
        (
            {"rejection": "latent_rs"},
            "one of jacobian, density, simplicial, critic, got latent_rs; .* need weights",
        ),
        ({"rejection": "best"}, "must be one of jacobian, density, simplicial, critic, got best"),
    ],
)
def test_params_that_ask_for_what_there_is_not_are_told(
    version: PyFuncModel, params: dict[str, Any], told: str
) -> None:
    with pytest.raises(MlflowException, match=told):
        version.predict([0], params)


def test_an_artifact_that_is_gone_or_altered_is_told(runs: Path, tmp_path: Path, load_job: LoadJob) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert load_job("promote").main([str(runs / "bad"), "--name", "m", "--tracking-uri", uri]) == 0
    (manifest,) = (tmp_path / "mlartifacts").rglob("model.json")
    manifest.write_text(manifest.read_text().replace('"license": null', '"license": "MIT"'))
    with pytest.raises(UserError, match=r"m version 1: its model\.json is not the one that was registered"):
        toposampler.load("models:/m@candidate", tracking_uri=uri)
    (manifest.parent / "weights.safetensors").unlink()
    manifest.unlink()
    with pytest.raises(UserError, match=r"is neither a model directory"):
        toposampler.load("models:/m@candidate", tracking_uri=uri)


def test_an_evaluation_is_recorded_on_the_run_of_its_model(
    runs: Path, uri: str, load_job: LoadJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["models:/lines@champion", "--tracking-uri", uri, "--out", str(tmp_path / "out"), "--workers", "1"]
    assert load_job("evaluate").main([*arguments, "-n", "20", "--draws", "2"]) == 0
    version = MlflowClient(uri).get_model_version("lines", "1")
    run = MlflowClient(uri).get_run(version.run_id)
    rows = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"]
    assert run.data.metrics["evaluation/recall_k3"] == pytest.approx(rows[1]["metrics"]["recall_k3"]["mean"])
    assert run.data.metrics["evaluation/coverage_0.05_min"] == rows[1]["metrics"]["coverage_0.05_min"]["mean"]
    artifacts = {Path(file.path).name for file in MlflowClient(uri).list_artifacts(version.run_id, "evaluation")}
    assert artifacts == {"evaluation.json", "evaluation.csv", "metrics.png", "samples_good.png", "nearest_good.png"}
    assert f"mlflow      good: run {version.run_id} at {uri}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "the copy of the model is gone"
