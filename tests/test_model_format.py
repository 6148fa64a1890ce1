"""A model directory: it gives the samples of its checkpoint, and whatever was done to it is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import toposampler
from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.model import save_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    output = tmp_path_factory.mktemp("runs")
    content: dict[str, Any] = {
        "name": "run",
        "output": str(output),
        "data": {"name": "lines", "n": 200},
        "system": {"name": "dmgan_pl"},
        "training": {"batch_size": 8, "generator_steps": 10, "checkpoint_every": 5, "evaluation_samples": 200},
    }
    train(validate(RunConfig, content))
    return output / "run"


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    save_model(run, tmp_path / "model", "CC-BY-4.0")
    return tmp_path / "model"


def change_manifest(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((model / "model.json").read_text())
    change(manifest)
    (model / "model.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("ema", [True, False])
def test_a_directory_gives_the_samples_of_its_run(run: Path, model: Path, ema: bool) -> None:
    expected, loaded = load_model(run, ema), toposampler.load(model, ema)
    assert torch.equal(loaded.sample(64, seed=3)[0], expected.sample(64, seed=3)[0])
    assert not torch.equal(loaded.sample(64, seed=3)[0], load_model(run, not ema).sample(64, seed=3)[0])
    assert loaded.step == 10


@pytest.mark.usefixtures("drawn")
def test_the_picture_shows_samples(run: Path, tmp_path: Path) -> None:
    save_model(run, tmp_path / "model", "CC-BY-4.0")
    with Image.open(tmp_path / "model" / "samples.png") as image:
        assert min(image.size) > 200
        assert np.asarray(image.convert("L")).std() > 1


def test_the_manifest_says_where_the_model_comes_from(run: Path, model: Path) -> None:
    manifest = json.loads((model / "model.json").read_text())
    data = read_checkpoint(checkpoints(run / "checkpoints")[-1])["data"]
    assert (manifest["schema"], manifest["licence"], manifest["step"]) == (1, "CC-BY-4.0", 10)
    assert manifest["data"] == {"name": "lines", "sha256": data}
    assert manifest["evaluation"] == json.loads((run / "result.json").read_text())["metrics"]
    assert manifest["files"] == {
        name: hashlib.sha256((model / name).read_bytes()).hexdigest()
        for name in ("config.json", "weights.safetensors", "samples.png")
    }


def test_an_earlier_checkpoint_has_no_evaluation(run: Path, tmp_path: Path) -> None:
    save_model(checkpoints(run / "checkpoints")[0], tmp_path / "early")
    manifest = json.loads((tmp_path / "early" / "model.json").read_text())
    assert (manifest["step"], manifest["evaluation"]) == (5, None)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "samples.png"])
def test_an_altered_byte_is_refused(model: Path, name: str) -> None:
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} was altered: its SHA-256 is \w+, and model.json has \w+"):
        load_model(model)


def test_a_missing_file_is_named(model: Path) -> None:
    (model / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights.safetensors is missing; model.json names it"):
        load_model(model)


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_in_place_of_the_weights_is_not_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(_Bomb())
    (model / "weights.safetensors").write_bytes(bomb)
    digest = hashlib.sha256(bomb).hexdigest()
    change_manifest(model, lambda manifest: manifest["files"].update({"weights.safetensors": digest}))
    with pytest.raises(UserError, match=r"weights\.safetensors is not a safetensors file"):
        load_model(model)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret"])
def test_a_path_out_of_the_directory_is_refused(model: Path, name: str) -> None:
    (model.parent / "secret").write_text("s")
    change_manifest(model, lambda manifest: manifest["files"].update({name: "0"}))
    with pytest.raises(UserError, match="which is outside the model's directory"):
        load_model(model)


def test_a_symbolic_link_is_refused(model: Path) -> None:
    shutil.move(model / "weights.safetensors", model.parent / "elsewhere")
    (model / "weights.safetensors").symlink_to(model.parent / "elsewhere")
    with pytest.raises(UserError, match="is a symbolic link"):
        load_model(model)


def test_a_newer_schema_is_refused(model: Path) -> None:
    change_manifest(model, lambda manifest: manifest.update(schema=2))
    with pytest.raises(UserError, match="has schema 2; this version reads schema 1"):
        load_model(model)


def test_weights_of_another_configuration_are_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["system"]["n_generators"] = 3
    (model / "config.json").write_text(json.dumps(config))
    digest = hashlib.sha256((model / "config.json").read_bytes()).hexdigest()
    change_manifest(model, lambda manifest: manifest["files"].update({"config.json": digest}))
    with pytest.raises(UserError, match="its weights are not those of its configuration"):
        load_model(model)


def test_a_path_is_loaded_without_mlflow(model: Path) -> None:
    code = f"import toposampler, sys; toposampler.load({str(model)!r}).sample(4); assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
