"""`toposampler export`: a model directory that loads, and ONNX whose samples are torch's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

import toposampler
from toposampler.commands.export import main
from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.data.arrays import dataset_of
from toposampler.data.digits import DigitsConfig
from toposampler.errors import UserError
from toposampler.exporting.frames import ExportedImageFrames, chi_share, normal_quantile
from toposampler.exporting.onnx_files import samples_of, write_onnx
from toposampler.nn.custom import Networks
from toposampler.systems import SYSTEMS
from toposampler.training import Model, RunConfig, train

NAMES = [page.model_fields["name"].default for page in SYSTEMS]
FAST = ("dmgan_pl", "mgan", "toposampler", "wgan_gp")


def untrained(system: str, dataset: Dataset, networks: Networks | None = None, **keys: Any) -> Model:
    """A model of `system` that has made no step."""
    config = validate(RunConfig, {"name": "run", "data": {"name": "lines"}, "system": {"name": system, **keys}})
    torch.manual_seed(0)
    made = config.system.prepare(dataset).build(dataset.shape, networks).requires_grad_(False)
    return Model(config, made, 0, dataset.shape, 64 * "0", dataset.transform)


def blobs(n: int = 200) -> Dataset:
    """Two blobs, far from the origin and of other scales, standardized."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) * 0.2 + (np.arange(n) % 2)[:, None] * 3
    return dataset_of("blobs", x * (1, 50) + (300, -20), np.arange(n) % 2, standardize=True)


def images(n: int = 60) -> Dataset:
    """Dark and light images of 8 x 8 pixels."""
    noise = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2
    labels = torch.arange(n) % 2
    return Dataset(noise + labels.view(-1, 1, 1, 1) * 1.2 - 0.8, labels, torch.full((2,), 0.5).double())


def equal_to_torch(model: Model, folder: Path, n: int) -> None:
    """Draw latents as `onnx.json` says, and compare the two."""
    (folder / "model.json").touch()
    write_onnx(model, folder)
    about = json.loads((folder / "onnx.json").read_text())
    rng = torch.Generator().manual_seed(7)
    z = model.system.latent.draw((n,), rng)
    prior = about["inputs"]["generators"]["prior"]
    assert len(prior) == model.system.K
    assert sum(prior) == pytest.approx(1, abs=1e-6)
    c = torch.multinomial(torch.tensor(prior), n, replacement=True, generator=rng)
    expected = model.to_units(model.system.generate({"z": z, "c": c})).numpy()
    found = samples_of(folder / "generators.onnx", z.numpy(), c.numpy())
    assert found.dtype == expected.dtype
    scale = 1.0 if model.transform is None else model.transform.scale.numpy()
    assert (np.abs(found - expected) / (scale + np.abs(expected))).max() < 1e-5
    assert about["check"]["largest_difference_from_torch"] <= 1e-5


@pytest.mark.parametrize(
    "system", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_points_of_every_system_are_torchs(system: str, tmp_path: Path) -> None:
    equal_to_torch(untrained(system, blobs()), tmp_path, 300)


@pytest.mark.parametrize("system", [pytest.param(n, marks=[] if n == "dmgan_pl" else pytest.mark.slow) for n in NAMES])
def test_images_of_every_system_are_torchs(system: str, tmp_path: Path) -> None:
    equal_to_torch(untrained(system, images()), tmp_path, 100)


@pytest.mark.parametrize(
    "keys",
    [
        {"noise": {"kind": "gate", "branches": 3}, "topology_weight": 1.0},
        {"noise": {"kind": "gate", "branches": 3, "branch": "orthogonal", "choice": "straight-through"}},
        {"noise": {"kind": "network"}, "network": {"kind": "orthogonal", "depth": 1}},
        {"noise": {"kind": "network"}, "network": {"kind": "spectral", "depth": 1}},
    ],
    ids=["gate", "cut", "orthogonal", "spectral"],
)
def test_the_noise_module_is_in_the_graph(keys: dict[str, Any], tmp_path: Path) -> None:
    equal_to_torch(untrained("toposampler", blobs(), **keys), tmp_path, 300)


@pytest.mark.parametrize("dim", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_components_that_are_spheres_are_torchs(dim: int, tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    x, width = torch.randn(2000, dim, generator=rng), torch.randn(2000, 1, generator=rng)
    shell = x / x.norm(dim=1, keepdim=True) * (1 + 0.03 * width)
    model = untrained("component_gan", Dataset(shell))
    assert model.system.frames.symmetric.tolist() == [dim]
    equal_to_torch(model, tmp_path, 300)


def test_mixtures_of_images_are_torchs(tmp_path: Path) -> None:
    """With more normals than one, which are mapped to by quantiles."""
    model = untrained("component_gan", DigitsConfig().load(), n_generators=2, game="never", start_variance=0.5)
    assert model.system.frames.normals > 1
    equal_to_torch(model, tmp_path, 100)


@pytest.mark.parametrize("d", [2, 3, 9, 100])
def test_probabilities_and_quantiles_are_scipys(d: int) -> None:
    special = pytest.importorskip("scipy.special")
    radius = torch.linspace(max(0.02, d**0.5 - 3.5), d**0.5 + 3.5, 200).double()
    share = special.gammainc(d / 2, radius.numpy() ** 2 / 2)
    assert chi_share(d, radius).numpy() == pytest.approx(share, abs=2e-7)  # erf is of float32
    p = torch.linspace(1e-6, 1 - 1e-6, 999).double()
    assert normal_quantile(p).numpy() == pytest.approx(special.ndtri(p.numpy()), abs=1e-8)
    x = torch.linspace(-7, 7, 999).double()
    assert ExportedImageFrames.ndtr(x).numpy() == pytest.approx(special.ndtr(x.numpy()), rel=1e-9)


def test_the_file_says_its_operators_and_holds_no_critic(tmp_path: Path) -> None:
    (tmp_path / "model.json").touch()
    model = untrained("wgan_gp", blobs())
    write_onnx(model, tmp_path)
    graph = onnx.load(tmp_path / "generators.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [17]
    numbers = sum(int(np.prod(tensor.dims)) for tensor in graph.graph.initializer)
    assert numbers < sum(p.numel() for p in model.system.generators.parameters()) + 50


class Gamma(nn.Module):
    """A layer that ONNX has no operator for."""

    def __init__(self, switch: bool) -> None:
        super().__init__()
        self.linear, self.switch = nn.Linear(8, 2), switch

    def forward(self, z: Tensor) -> Tensor:
        """(n, 8) to (n, 2)."""
        x = self.linear(z)
        if not self.switch:
            return torch.special.gammainc(torch.full_like(x, 2.0), x.abs())
        return x if float(z.detach().abs().max()) < 0.99 else 2 * x  # by values, so that no trace holds it


@pytest.mark.parametrize(
    ("switch", "message"),
    [(False, r"cannot be written as ONNX: .*igamma.*; without --onnx"), (True, "differ from torch's")],
)
def test_networks_that_no_graph_can_hold_are_refused(switch: bool, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").touch()
    model = untrained("wgan_gp", blobs(), Networks(generator=lambda shape, dim: Gamma(switch)))
    with pytest.raises(UserError, match=message):
        write_onnx(model, tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    output = tmp_path_factory.mktemp("runs")
    training = {"batch_size": 8, "generator_steps": 4, "checkpoint_every": 2, "evaluation_samples": 200}
    content = {"name": "run", "output": str(output), "data": {"name": "lines", "n": 200}, "training": training}
    train(validate(RunConfig, {**content, "system": {"name": "dmgan_pl", "n_generators": 3}}))
    return output / "run"


def test_the_command_writes_a_model_directory(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([str(run), str(out), "--onnx", "--licence", "MIT"]) == 0
    listed = {Path(line.split()[1]).name for line in capsys.readouterr().out.splitlines()}
    files = {
        "README.md",
        "config.json",
        "generators.onnx",
        "model.json",
        "onnx.json",
        "samples.png",
        "weights.safetensors",
    }
    assert listed == files == {path.name for path in out.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "mit"
    assert "## ONNX" in card.text
    assert torch.equal(toposampler.load(out).sample(50)[0], toposampler.load(run).sample(50)[0])
    again = tmp_path / "again"
    assert main([str(out), str(again)]) == 0  # of a model directory; its license is kept, ONNX is not asked for
    assert ModelCard.load(again / "README.md").data.license == "mit"
    assert not (again / "onnx.json").exists()


def test_an_existing_place_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), str(tmp_path)]) == 2
    assert f"error: {tmp_path} exists already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda run, out: [out, out / "x"], "is neither a model directory"),
        (lambda run, out: [run, out / "no" / "x"], "there is no folder"),
        (lambda run, out: [run, out / "x", "--licence", "a\nb"], "a license is an SPDX identifier"),
        (lambda run, out: [run, out / "x", "--evaluation", run / "result.json"], "is no evaluation.json of"),
        (lambda run, out: [run, out / "x", "--evaluation", out / "none"], "cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: Callable[[Path, Path], list[object]],
    message: str,
) -> None:
    assert main([str(argument) for argument in arguments(run, tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_gives_the_card_its_intervals(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = toposampler.load(run)
    content: dict[str, Any] = {
        "data": {"sha256": model.data},
        "protocol": {"samples": 1000, "draws": 5, "seed": 30_000},
        "models": [{"name": "run", "step": 4, "seed": 0}],
        "rows": [{"name": "run", "metrics": {"mass_tv": {"mean": 0.25, "low": 0.125, "high": 0.375}}}],
    }
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    assert main([str(run), str(tmp_path / "out"), "--evaluation", str(path)]) == 0
    (result,) = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    assert (result.metric_value, result.metric_args["interval_95"]) == (0.25, [0.125, 0.375])
    for key, value, told in (("data", {"sha256": "0"}, "is on data of SHA-256 0"), ("models", [], "has no row of run")):
        path.write_text(json.dumps({**content, key: value}))
        assert main([str(run), str(tmp_path / "other"), "--evaluation", str(path)]) == 2
        assert told in capsys.readouterr().err


def test_the_page_draws_samples_as_printed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parent.parent / "docs" / "export.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    assert main([str(run), str(tmp_path / "DIR"), "--onnx"]) == 0
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["samples"].shape == (1000, 2)
    assert names["samples"].dtype == np.float32
