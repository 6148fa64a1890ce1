"""The benchmarks behind the papers' findings: what they damage, start badly and watch, and how they resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from processes import ROOT

from toposampler.data.digits import DigitsConfig
from toposampler.data.lines import LinesConfig

torch.set_num_threads(1)


@pytest.fixture
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark that the test names."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return __import__(request.param)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", [name], indirect=True)


@of("damage")
def test_each_damage_does_what_it_says_and_at_degree_0_nothing(module: ModuleType) -> None:
    data = DigitsConfig().load()
    assert data.labels is not None
    x, labels = data.x[:500], data.labels[:500]

    def damaged(damage: str, degree: float) -> tuple[torch.Tensor, torch.Tensor]:
        return module.damaged(x, labels, damage, degree, torch.Generator().manual_seed(0))

    for damage in module.DAMAGES:
        assert torch.equal(damaged(damage, 0.0)[0], x)
    threes = labels == 3
    repeated, _ = damaged("repeated", 1.0)
    assert len(repeated[threes].unique(dim=0)) == 1
    half = len(damaged("repeated", 0.5)[0][threes].unique(dim=0))
    assert abs(half - threes.sum() / 2) <= 2
    shrunk, _ = damaged("shrunk", 0.5)
    spread, before = (images[threes].std(dim=0).sum() for images in (shrunk, x))
    assert float(spread) == pytest.approx(float(before) / 2, rel=1e-4)
    torch.testing.assert_close(shrunk[threes].mean(dim=0), x[threes].mean(dim=0))
    images, classes = damaged("reweighted", 1.0)
    assert classes.max() == 4
    kept = labels < 5
    assert torch.equal(images[kept], x[kept])
    assert torch.bincount(damaged("dropped", 1.0)[1])[0] == 0


@of("populations")
def test_a_benchmark_resumes_where_it_was_stopped(module: ModuleType, tmp_path: Path) -> None:
    path, asked = tmp_path / "kept.json", []

    def rows_of(trial: dict[str, int]) -> list[int]:
        asked.append(trial["seed"])
        return [trial["seed"]]

    trials = [{"seed": seed, "steps": 5} for seed in range(3)]
    module.go_on(path, trials[:2], rows_of)
    done = module.go_on(path, trials, rows_of)
    assert asked == [0, 1, 2]
    assert [trial["rows"] for trial in done] == [[0], [1], [2]]
    assert json.loads(path.read_text())["trials"][0].keys() >= {"seed", "steps", "cpu_seconds", "date", "rows"}
    module.go_on(path, [{"seed": 0, "steps": 6}], rows_of)
    assert asked == [0, 1, 2, 0]


@of("movement")
def test_samples_that_rest_have_not_moved(module: ModuleType) -> None:
    data = LinesConfig().load()
    x = data.x[torch.randperm(len(data.x), generator=torch.Generator().manual_seed(1))[:1000]]
    rest = module.look(x, x, data)
    assert rest == {"sliced": 0, "moved": 0, "off": 0}
    moved = module.look(x, x + 0.1, data)
    spread = math.sqrt(float(data.x.var(dim=0).sum()))
    assert moved["moved"] == pytest.approx(0.1 * math.sqrt(2) / spread, rel=0.01)
    assert moved["sliced"] > 1
    assert moved["off"] > 0.3


@of("movement")
def test_nothing_calms_the_weights_of_a_run_that_is_watched(module: ModuleType, tmp_path: Path) -> None:
    for system in module.SYSTEMS:
        for data, batch in (("lines", 64), ("mnist", 32)):
            config = module.config_of(data, system, 300, tmp_path)
            training = config.training
            assert (training.generator_steps, training.learning_rate_decay_from, training.ema_decay) == (300, 1, 0)
            assert (training.batch_size, training.batch_growth) == (batch, 1)
            assert (config.system.name, config.data.name) == (system, data)
            assert data == "lines" or config.data.root == tmp_path
    assert config.system.game == "always"


@of("movement")
def test_images_move_without_a_support(module: ModuleType) -> None:
    data = DigitsConfig().load()
    x = data.x[:800]
    seen = module.look(x, -x, data)
    assert seen.keys() == {"sliced", "moved"}
    spread = math.sqrt(float(data.x.flatten(1).var(dim=0).sum()))
    assert seen["moved"] == pytest.approx(float(2 * x.flatten(1).norm(dim=1).median()) / spread, rel=1e-5)
    row = {"seed": 0, **{name: [] for name in module.SEEN}, "sliced": [1.0, 3.0], "moved": [0.5]}
    assert module.summary(row) == {"sliced": 2.0, "moved": 0.5}
    trial = {"data": "mnist", "system": "dmgan", "seeds": 1, "steps": 100, "cpu_seconds": 2.0, "date": "today"}
    assert "| mnist | dmgan | 2 | 0.5 | - | 1 | 100 | 2 | today |" in module.table([{**trial, "rows": [row]}])


@of("bad_starts")
def test_bad_starts_scale_all_weights_or_make_generators_alike(module: ModuleType) -> None:
    config = module.config_of("component_gan", 5)
    prepared = config.system.prepare(LinesConfig(n=400).load())
    systems = {}
    for start in (1.0, 10.0, module.ALIKE):
        torch.manual_seed(0)
        systems[start] = prepared.build((2,))
        module.badly_started(systems[start], start)
    usual, large, alike = ([p.detach() for p in system.generators.parameters()] for system in systems.values())
    assert usual[-2].any()  # component_gan's last layer, 0 by default
    for one, ten, same in zip(usual, large, alike, strict=True):
        torch.testing.assert_close(ten, 10 * one)
        assert torch.equal(same, same[:1].expand_as(same))
        assert not torch.equal(one, one[:1].expand_as(one))


@of("spectral_labels")
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_layers_of_spectral_generators_have_norm_1(module: ModuleType, network: str) -> None:
    made = module.generator(network, spectral=True)((1, 8, 8), 16)
    layers = [layer for layer in made.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]
    assert len(norms) > 2
    assert norms == pytest.approx([1.0] * len(norms), rel=1e-5)
    assert made(torch.randn(3, 16)).shape == (3, 1, 8, 8)


@of("r3gan_grid")
def test_variants_of_r3gan_see_as_many_real_samples_and_differ_in_what_they_say(module: ModuleType) -> None:
    configs = {name: module.config_of("grid9", name, 0.1) for name in module.VARIANTS}
    assert configs["base"].system.adversarial == "relativistic"
    contents = [config.model_dump_json() for config in configs.values()]
    assert len(set(contents)) == len(contents)
    for name, config in configs.items():
        training = config.training
        grown = training.batch_growth_from + (1 - training.batch_growth_from) * training.batch_growth
        seen = training.generator_steps * training.critic_steps * training.batch_size * grown
        assert seen == pytest.approx(224_000, rel=2e-3), name


@of("r3gan_grid")
def test_a_variant_of_r3gan_is_trained_and_evaluated(module: ModuleType) -> None:
    rows = module.trial_rows({"data": "grid9", "variant": "beta2 .99", "share": 2e-4, "seeds": 2})
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(0 <= row["high_quality_3sd"] <= 1 and 0 <= row["score"] <= 3 for row in rows)
    trial = {"data": "grid9", "variant": "beta2 .99", "share": 2e-4, "seeds": 2, "rows": rows, "cpu_seconds": 1.0}
    assert "beta2 .99" in module.table([trial])[-1]


@of("fitted_start")
def test_a_system_is_trained_with_and_without_a_start_on_the_data(module: ModuleType) -> None:
    trials = [
        {"data": "grid9", "system": "dmgan_pl", "share": 2e-4, "seeds": 2, "fitted": fitted} for fitted in (False, True)
    ]
    configs = [module.config_of(trial) for trial in trials]
    assert [config.system.fitted_start for config in configs] == [False, True]
    done = [trial | {"rows": module.trial_rows(trial), "cpu_seconds": 1.0} for trial in trials]
    plain, fitted = (trial["rows"] for trial in done)
    assert all(one["start"] > 1 > other["start"] for one, other in zip(plain, fitted, strict=True))
    assert all(0 <= row["score"] <= 3 for row in plain + fitted)
    (row,) = module.table(done)[2:]
    assert row.startswith("| grid9 | dmgan_pl | 0% | 2 |")
