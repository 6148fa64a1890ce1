"""A model directory: it gives the samples of its checkpoint, and whatever was done to it is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import toposampler
from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.manifest import check_sum
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


@pytest.fixture(scope="module")
def saved(run: Path) -> Path:
    """The run's model as a directory, which no test changes."""
    save_model(run, run.parent / "saved", "CC-BY-4.0")
    return run.parent / "saved"


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test to change."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change_manifest(model: Path, change: Callable[[dict[str, Any]], object], seal: bool = True) -> None:
    """Change what the manifest holds; with `seal` its check sum is made right again, as one who attacks would."""
    manifest = json.loads((model / "model.json").read_text())
    change(manifest)
    if seal:
        manifest["sha256"] = check_sum(manifest)
    (model / "model.json").write_text(json.dumps(manifest))


def change_weights(model: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors, and every check sum with them."""
    path = model / "weights.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    path.unlink()
    safetensors.torch.save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    change_manifest(model, lambda manifest: manifest["files"].update({path.name: digest}))


def change_config(model: Path, text: str) -> None:
    """Write another config.json, and every check sum with it."""
    (model / "config.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    change_manifest(model, lambda manifest: manifest["files"].update({"config.json": digest}))


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


def test_the_same_model_is_written_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    """A registry tells by them whether it has a model already."""
    for i in range(8):
        save_model(run, tmp_path / str(i), "CC-BY-4.0")
    assert len({(tmp_path / str(i) / "model.json").read_bytes() for i in range(8)}) == 1


def test_the_manifest_says_where_the_model_comes_from(run: Path, model: Path) -> None:
    manifest = json.loads((model / "model.json").read_text())
    data = read_checkpoint(checkpoints(run / "checkpoints")[-1])["data"]
    assert (manifest["schema"], manifest["license"], manifest["step"]) == (2, "CC-BY-4.0", 10)
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


@pytest.mark.parametrize(
    "change",
    [
        {"step": 11},
        {"license": "MIT"},
        {"evaluation": {"score": 0.0}},
        {"data": {"name": "lines", "sha256": 64 * "0"}},
        {"sha256": None},
    ],
)
def test_a_changed_manifest_is_refused(model: Path, change: dict[str, Any]) -> None:
    change_manifest(model, lambda manifest: manifest.update(change), seal=False)
    with pytest.raises(UserError, match=r"model\.json was altered: its content has SHA-256 \w{64}, and it names"):
        load_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": []}, "shape: list should have at least 1 item"),
        ({"shape": [True]}, r"shape\.0: input should be a valid integer \(got True\)"),
        ({"shape": [0]}, r"shape\.0: input should be greater than or equal to 1"),
        ({"shape": [2**20, 2**20]}, "shape: a sample has at most 2,147,483,648 numbers"),
        ({"shape": "2"}, "shape: input should be a valid list"),
        ({"step": -1}, "step: input should be greater than or equal to 0"),
        ({"step": True}, "step: input should be a valid integer"),
        ({"step": 1.5}, "step: input should be a valid integer"),
        ({"system": "dmgan\0pl"}, "system: string should match pattern"),
        ({"license": 3}, "license: input should be a valid string"),
        ({"license": 300 * "x"}, "license: string should have at most 255 characters"),
        ({"data": "lines"}, "data: input should be a valid dictionary"),
        ({"data": {"name": "lines", "sha256": "0"}}, r"data\.sha256: string should match pattern"),
        ({"evaluation": {"score": "0"}}, r"evaluation\.score: input should be a valid number"),
        ({"system": "wgan_gp"}, "its model.json says system wgan_gp, and its config.json another"),
        ({"data": {"name": "circles", "sha256": 64 * "0"}}, "its model.json says data circles, and its config.json"),
        ({"files": {"a": 64 * "0"}}, "files: dictionary should have at least 3 items"),
        ({"files": {"a\0b": 64 * "0"}}, "string should match pattern"),
        ({"files": dict.fromkeys("abc", 64 * "0")}, "files lacks config.json, samples.png, weights.safetensors"),
        ({"networks": {"prior": {"name": "a:b", "sha256": None}}}, "input should be 'generator' or 'critic'"),
        ({"code": "a:b"}, "code: extra inputs are not permitted"),
        ({"schema": True}, "it has no schema version"),
        ({"schema": [[]]}, "it has no schema version"),
    ],
)
def test_a_value_that_no_manifest_holds_is_refused(model: Path, change: dict[str, Any], message: str) -> None:
    change_manifest(model, lambda manifest: manifest.update(change))
    with pytest.raises(UserError, match=message) as refused:
        load_model(model)
    assert len(str(refused.value)) < 1500


@pytest.mark.parametrize("name", ["model.json", "config.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (100_000 * "[" + 100_000 * "]", "is nested too deeply"),
        ('{"a":' * 50_000 + "1" + 50_000 * "}", "is nested too deeply"),
        ("[1]", "must hold an object, not list"),
        ('{"step": 1', "cannot be read"),
        ('{"step": ' + 5000 * "9" + "}", "cannot be read"),
        ('"' + 5_000_000 * "a" + '"', "has 5,000,002 bytes; a model's has at most 4,194,304"),
    ],
    ids=["lists", "objects", "list", "cut off", "large number", "large file"],
)
def test_json_that_is_none_of_a_model_is_one_message(model: Path, name: str, text: str, message: str) -> None:
    if name == "config.json":
        change_config(model, text)
    else:
        (model / name).write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        load_model(model)
    assert len(str(refused.value)) < 1000


def test_a_manifest_that_is_a_link_is_refused(model: Path, tmp_path: Path) -> None:
    shutil.move(model / "model.json", tmp_path / "elsewhere.json")
    (model / "model.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match=r"model\.json is a symbolic link"):
        load_model(model)
    (tmp_path / "elsewhere.json").unlink()
    with pytest.raises(UserError, match=r"model\.json is a symbolic link"):
        load_model(model)


@pytest.mark.parametrize("name", ["system.generators.stacked.0", "average.generators.stacked.0"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("ema", [True, False])
def test_weights_that_are_not_finite_are_refused(model: Path, name: str, number: float, ema: bool) -> None:
    change_weights(model, lambda tensors: tensors[name].view(-1)[3:4].fill_(number))
    with pytest.raises(UserError, match=f"its weights {name} are not finite"):
        load_model(model, ema)


def test_weights_so_large_that_samples_are_not_finite_are_said(model: Path) -> None:
    change_weights(model, lambda tensors: [x.fill_(3e38) for name, x in tensors.items() if "generators" in name])
    loaded = load_model(model)
    with pytest.raises(UserError, match="samples of the model 'run' are not finite: its weights are too large"):
        loaded.sample(10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("average.generators.stacked.0"), "the moving average lacks, or has too much: generators.sta"),
        (lambda t: t.update({"average.critic": torch.ones(3)}), "lacks, or has too much: critic"),
        (
            lambda t: t.update({"average.generators.stacked.0": torch.ones(3)}),
            r"generators\.stacked\.0 has shape \[3\], not",
        ),
        (lambda t: t.pop("system.generators.stacked.0"), "Missing key"),
        (lambda t: t.update({"average": torch.ones(3)}), "holds 'average', which is no part of a model"),
        (lambda t: t.update({"code": torch.ones(3)}), "holds 'code', which is no part of a model"),
        (lambda t: t.update({"transform.mean": torch.ones(2).double()}), "standardization of its points is wrong: 'sc"),
        (
            lambda t: t.update({f"transform.{name}": torch.ones(3).double() for name in ("mean", "scale")}),
            r"of 3 columns, and a sample has the shape \[2\]",
        ),
        (
            lambda t: t.update({name: x.to(torch.complex64) for name, x in t.items() if name.startswith("system.gen")}),
            r"generators\.stacked\.\d holds torch\.complex64, not torch\.float32",
        ),
        (
            lambda t: t.update({name: x.double() for name, x in t.items() if name.startswith("average.")}),
            r"generators\.stacked\.\d holds torch\.float64, not torch\.float32",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_system_are_refused(
    model: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    change_weights(model, change)
    with pytest.raises(UserError, match=message):
        load_model(model)


@pytest.mark.parametrize(
    "asked",
    [{"n_generators": 10**9}, {"generator_width": 30_000}, {"critic_width": 10**8}, {"generator_width": 10**11}],
)
def test_a_configuration_that_asks_for_more_than_the_file_holds_is_refused_before_it_is_built(
    model: Path, asked: dict[str, int]
) -> None:
    config = json.loads((model / "config.json").read_text())
    config["system"].update(asked)
    change_config(model, json.dumps(config))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError):
        load_model(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def test_the_average_is_named(run: Path, model: Path) -> None:
    tensors = safetensors.torch.load_file(model / "weights.safetensors")
    average, last = load_model(run).system.state_dict(), load_model(run, ema=False).system.state_dict()
    assert {name for name in tensors if name.startswith("average.")} == {
        f"average.{name}" for name in average if name.startswith("generators.")
    }
    for name, x in tensors.items():
        part, _, rest = name.partition(".")
        assert torch.equal(x, {"average": average, "system": last}[part][rest])


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret"])
def test_a_path_out_of_the_directory_is_refused(model: Path, name: str) -> None:
    (model.parent / "secret").write_text("s")
    change_manifest(model, lambda manifest: manifest["files"].update({name: 64 * "0"}))
    with pytest.raises(UserError, match="which is outside the model's directory"):
        load_model(model)


def test_a_symbolic_link_is_refused(model: Path) -> None:
    shutil.move(model / "weights.safetensors", model.parent / "elsewhere")
    (model / "weights.safetensors").symlink_to(model.parent / "elsewhere")
    with pytest.raises(UserError, match="is a symbolic link"):
        load_model(model)


def test_a_newer_schema_is_refused(model: Path) -> None:
    change_manifest(model, lambda manifest: manifest.update(schema=3))
    with pytest.raises(UserError, match="has schema 3; this version reads schemas 1 and 2"):
        load_model(model)


def test_weights_of_another_configuration_are_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["system"]["n_generators"] = 3
    change_config(model, json.dumps(config))
    with pytest.raises(UserError, match="its weights are not those of its configuration"):
        load_model(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loop": None}, "loop: input should be a valid dictionary"),
        ({"shape": [2.0]}, r"shape\.0: input should be a valid integer \(got 2\.0\)"),
        ({"config": []}, "config: input should be a valid dictionary"),
        ({"networks": {"critic": {}}}, r"networks\.critic\.name: field required"),
        ({"transform": {"mean": torch.zeros(2)}}, "the standardization of its points is wrong"),
    ],
)
def test_a_checkpoint_of_other_values_is_refused(
    run: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    state = read_checkpoint(checkpoints(run / "checkpoints")[-1])
    torch.save(state | change, tmp_path / "step_1.pt")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "step_1.pt")


@pytest.mark.parametrize("place", [300 * "x", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="cannot be read: "):
        load_model(place)


def test_a_path_is_loaded_without_mlflow(model: Path) -> None:
    code = f"import toposampler, sys; toposampler.load({str(model)!r}).sample(4); assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
