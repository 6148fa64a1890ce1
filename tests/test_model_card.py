"""The model card: Hugging Face's own parser reads it, names in it are what they are, and loading never reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from toposampler.config import validate
from toposampler.training import RunConfig, load_model, train
from toposampler.training.card import Described, Measured, Value, escaped, model_card
from toposampler.training.model import save_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, whose name YAML could read as a number."""
    output = tmp_path_factory.mktemp("runs")
    content: dict[str, Any] = {
        "name": "1.0",
        "output": str(output),
        "data": {"name": "lines", "n": 200},
        "system": {"name": "dmgan_pl", "n_generators": 3},
        "training": {"batch_size": 8, "generator_steps": 4, "checkpoint_every": 2, "evaluation_samples": 200},
    }
    train(validate(RunConfig, content))
    return output / "1.0"


@pytest.fixture(scope="module")
def saved(run: Path) -> Path:
    """Its model directory."""
    save_model(run, run.parent / "saved", "CC-BY-4.0")
    return run.parent / "saved"


@pytest.fixture
def described() -> Described:
    """What is told of a model of points that never was."""
    config = validate(RunConfig, {"name": "run", "data": {"name": "lines", "n": 200}, "system": {"name": "dmgan_pl"}})
    prior = torch.tensor([0.705, 0.005, 0.29])
    return Described(config, 7, (2,), 64 * "a", 200, prior, "MIT", None, standardized=False)


def test_hugging_face_reads_what_the_card_says(run: Path, saved: Path) -> None:
    card = ModelCard.load(saved / "README.md")
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    assert (card.data.library_name, card.data.license, card.data.model_name) == ("toposampler", "cc-by-4.0", "1.0")
    assert card.data.get("pipeline_tag") is None
    assert {"toposampler", "dmgan_pl", "arxiv:1806.00880"} <= set(card.data.tags)
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["mass_tv"].metric_value == pytest.approx(metrics["mass_tv"], abs=0)
    assert results["mass_tv"].metric_args == {"samples": 200, "draws": 1, "seed": 0, "better": "less"}
    assert results["mass_tv"].dataset_args == {"sha256": load_model(run).data}
    assert results["energy_distance_root"].dataset_name == "lines"
    assert "![Samples of this model](samples.png)" in card.text
    assert "lines, 200 points of shape 2" in card.text


def test_the_lines_of_the_card_load_the_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (saved / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) == 3
    monkeypatch.chdir(saved)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["samples"].shape == (1000, 2)
    assert names["generators"].shape == (1000,)


def test_the_card_is_beside_the_manifest_and_never_read(saved: Path, tmp_path: Path) -> None:
    save_model(saved, tmp_path / "copy")
    copied = tmp_path / "copy" / "README.md"
    assert copied.read_text() == (saved / "README.md").read_text()  # license, evaluation and number of samples too
    assert copied.name not in json.loads((tmp_path / "copy" / "model.json").read_text())["files"]
    copied.unlink()
    copied.mkdir()  # reading it would fail
    assert load_model(tmp_path / "copy").step == 4


def test_masses_are_those_of_the_prior_and_small_ones_are_left_out(described: Described) -> None:
    text = model_card(described)
    assert "2 of 3 generators are active (mass above 0.01)" in text
    assert "| 0 | 0.7050 |\n| 2 | 0.2900 |\n" in text
    assert "This model was not evaluated." in text


def test_an_interval_is_told_where_it_is_known(described: Described) -> None:
    metrics = {"mass_tv": Value(0.25, (0.125, 0.375)), "energy_distance_root": Value(float("nan"))}
    measured = Measured(metrics, samples=100, seed=3, draws=5)
    card = ModelCard(model_card(replace(described, measured=measured)))
    (result,) = card.data.eval_results  # what is no number is left out
    assert result.metric_value == 0.25
    about = {"samples": 100, "draws": 5, "seed": 3, "better": "less", "interval_95": [0.125, 0.375]}
    assert result.metric_args == about
    assert r"| mass\_tv | 0.25 | 0.125 to 0.375 | less | total variation of the components' masses |" in card.text


@pytest.mark.parametrize("license", ["yes", "null", "Mine: *free* | <b>\n---\n# x", "'", '"', "{a: 1}", "ü &b"])
def test_a_license_of_any_name_comes_back(described: Described, license: str) -> None:
    card = ModelCard(model_card(replace(described, license=license)))
    assert (card.data.license, card.data.license_name) == ("other", license)
    assert card.text.startswith("# run\n") or "\n# run\n" in card.text


def test_a_model_without_a_license_says_so(described: Described) -> None:
    card = ModelCard(model_card(replace(described, license=None)))
    assert card.data.license is None
    assert "Its owner has named no license." in card.text


def test_images_have_a_pipeline_tag(described: Described) -> None:
    card = ModelCard(model_card(replace(described, shape=(1, 8, 8))))
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert "200 images of shape 1 x 8 x 8" in card.text


def test_special_characters_of_markdown_are_escaped() -> None:
    assert escaped("a_b*c`d|e<f>[g]\nh") == r"a\_b\*c\`d\|e\<f\>\[g\] h"
