"""Models and checkpoints of the first schema, written by commit 58c4bb7 and stored, are read as they were."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from toposampler.config import merge_overrides, validate
from toposampler.errors import UserError
from toposampler.systems import System
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.model import save_model

STORED = Path(__file__).parent / "data" / "schema1"
CHECKPOINT = STORED / "step_00000006.pt"
PLACES = pytest.mark.parametrize("place", [STORED / "model", CHECKPOINT], ids=["model directory", "checkpoint"])


def digest(system: System) -> str:
    """SHA-256 of all tensors of a system, with their names."""
    sha = hashlib.sha256()
    for name, x in sorted(system.state_dict().items()):
        sha.update(name.encode())
        sha.update(x.contiguous().numpy().tobytes())
    return sha.hexdigest()


@PLACES
@pytest.mark.parametrize("weights", ["average", "last"])
def test_it_loads_and_samples_as_it_did(place: Path, weights: str) -> None:
    """The weights are the same bytes; samples are too, but for how a machine rounds."""
    expected = json.loads((STORED / "expected.json").read_text())[weights]
    model = load_model(place, ema=weights == "average")
    assert digest(model.system) == expected["weights_sha256"]
    x, ids = model.sample(32, seed=3)
    torch.testing.assert_close(x, torch.tensor(expected["samples"]), rtol=1e-5, atol=1e-6)
    assert ids.tolist() == expected["generators"]
    assert model.step == 6


@PLACES
def test_it_is_written_again_by_the_present_schema(place: Path, tmp_path: Path) -> None:
    save_model(place, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["schema"] == 2
    expected = json.loads((STORED / "expected.json").read_text())
    for weights in ("average", "last"):
        system = load_model(tmp_path / "model", weights == "average").system
        assert digest(system) == expected[weights]["weights_sha256"]


def test_a_run_goes_on_from_it_and_back(tmp_path: Path) -> None:
    """What its average was is what is gone on with; and the checkpoint then written can be read by the old version."""
    state = read_checkpoint(CHECKPOINT)
    config = validate(RunConfig, merge_overrides(state["config"], {"output": str(tmp_path)}))
    folder = run_folder(config) / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(CHECKPOINT, folder)
    result = train(config)
    assert result is not None
    assert result["generator_steps"] == 8
    after = read_checkpoint(checkpoints(folder)[-1])
    assert after["schema"] == 1
    assert after["seconds"] > state["seconds"]
    assert after["loop"].keys() == state["loop"].keys()
    before, now = state["loop"]["average"], after["loop"]["average"]
    assert before.shape == now.shape
    assert not torch.equal(before, now)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda average: average[:-1], "the moving average has shape"),
        (lambda average: average[None], "the moving average has shape"),
        (lambda average: torch.cat([average, average]), "the moving average has shape"),
        (lambda average: average / 0, "its weights average are not finite"),
    ],
)
def test_an_average_of_another_length_is_refused(
    change: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    state: dict[str, Any] = read_checkpoint(CHECKPOINT)
    state["loop"]["average"] = change(state["loop"]["average"])
    torch.save(state, tmp_path / "changed.pt")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "changed.pt", ema=False)


def test_a_checkpoint_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is read for: it may be gigabytes."""
    config = validate(RunConfig, merge_overrides(read_checkpoint(CHECKPOINT)["config"], {"output": str(tmp_path)}))
    folder = run_folder(config) / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(CHECKPOINT, folder)
    calls = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: calls.append(args) or load(*args, **kwargs))
    load_model(run_folder(config))
    assert len(calls) == 1
    save_model(run_folder(config), tmp_path / "model")
    assert len(calls) == 2
    train(config)
    assert len(calls) == 3
