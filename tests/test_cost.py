"""The estimate of a run's cost: the straight line through two sizes, and what is said where nothing can be measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from image_sets import as_folder

from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.training import RunConfig, cost
from toposampler.training.loop import Loop
from toposampler.training.operations import operations

MakeConfig = Callable[..., RunConfig]


def words(config: RunConfig, dataset: Dataset | None = None) -> list[str]:
    dataset = config.data.load() if dataset is None else dataset
    return list(cost.told(config, dataset, config.system.prepare(dataset)))


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        # .1 s and .01 s a sample: .74 s at 64, a quarter of the run at 256, 2.66 s.
        ({"training__batch_size": 64}, 100 * (0.75 * 0.74 + 0.25 * 2.66)),
        ({"training__batch_size": 64, "training__batch_growth": 1}, 100 * 0.74),
    ],
)
def test_time_grows_in_a_straight_line_with_the_batch(
    keys: dict[str, Any], seconds: float, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def iteration(config: RunConfig, dataset: Dataset, prepared: object, n: int) -> float:
        asked.append(n)
        return 0.1 + 0.01 * n

    monkeypatch.setattr(cost, "_seconds_of_an_iteration", iteration)
    config = make_config("wgan_gp", training__generator_steps=100, **keys)
    dataset = config.data.load()
    found = cost.measured(config, dataset, config.system.prepare(dataset))
    assert asked == [4, 16]
    assert found.seconds == pytest.approx(seconds)
    assert found.iterations_per_s == pytest.approx(1 / 0.74)
    assert found.images_per_s == pytest.approx(2 * 64 / 0.74)


def test_long_iterations_are_not_repeated(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration of 4 samples that take 3 seconds: 64 take 16 times as long."""
    now, batches = [0.0], []

    def iteration(loop: Loop) -> None:
        batches.append(loop.config.batch_size)
        now[0] += 0.75 * loop.config.batch_size

    monkeypatch.setattr(cost.Loop, "iteration", iteration)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    config = make_config("wgan_gp", training__generator_steps=100, training__batch_size=64, training__batch_growth=1)
    dataset = config.data.load()
    found = cost.measured(config, dataset, config.system.prepare(dataset))
    assert batches == [4]
    assert found.seconds == pytest.approx(100 * 16 * 3)


def test_packs_and_bars_are_measured_whole(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cost, "_seconds_of_an_iteration", lambda *arguments: asked.append(arguments[-1]) or 1.0)
    config = make_config("pacgan", system__n_packed=3, training__batch_size=48)
    dataset = config.data.load()
    cost.measured(config, dataset, config.system.prepare(dataset))
    assert asked == [6, 24]


@pytest.mark.parametrize("system", ["dmgan_pl", "component_gan"])
def test_it_is_measured_without_a_trace(system: str, make_config: MakeConfig) -> None:
    state = torch.random.get_rng_state()
    config = make_config(system)
    said = words(config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert said[0].startswith("about 0:0")
    assert "for 20 generator steps" in said[0]
    assert "measured just now on this machine, 1 thread: " in said[1]
    assert not Path(config.output, config.name).exists()


def test_figures_of_a_gpu_are_quoted_and_not_made_up(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", cluster__use_gpu=True)
    said = words(config)
    assert said[0] == f"measured on {cost.GPU}"
    assert "dmgan_pl, K = 10, batch 64: 78.8 iterations/s, 5,043 images/s a critic step" in said
    assert words(config, Dataset(torch.zeros(8, 3, 32, 32))) == ["no figures of a GPU for samples of 3 x 32 x 32"]


def test_operations_of_a_gpu_s_run_by_hand(make_config: MakeConfig) -> None:
    """Perceptrons 2-128-64-2 and 2-64-128, and a head of one score; two critic steps a generator step."""
    keys = {"system__latent__dim": 2, "system__generator_network": "mlp", "system__critic_network": "mlp"}
    config = make_config("r3gan", cluster__use_gpu=True, training__batch_growth=4, **keys)
    generator = 2 * (2 * 128 + 128 * 64 + 64 * 2)
    critic = 2 * (2 * 64 + 64 * 128 + 128 * 1)
    each = generator + 12 * critic + (3 * generator + 4 * critic) / 2
    dataset = config.data.load()
    assert operations(config.system.prepare(dataset).build(dataset.shape), 2) == each
    total = each * 8 * 20 * 2 * (0.75 + 0.25 * 4)
    assert words(config)[-1] == (
        f"arithmetic, not measured: {each / 1e9:.3g} GFLOP for each real sample, {total / 1e15:.3g} PFLOP for the run, "
        "which is 0:00:00 at 100 TFLOP/s"
    )


@pytest.mark.parametrize("system", ["topo_dmgan", "toposampler"])
def test_nothing_is_compiled_for_an_estimate(system: str, make_config: MakeConfig) -> None:
    (said,) = words(make_config(system))
    assert "not estimated: trees of a topological loss are compiled first" in said


def test_images_that_are_read_as_they_are_needed_cost_what_those_in_memory_do(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    root = as_folder(tmp_path / "set")
    small = {"generator_width": 2, "critic_width": 2}
    content = make_config("wgan_gp").model_dump(mode="json")
    data = {"name": "folder", "path": str(root), "size": 8, "cache": "none", "store": str(tmp_path), "subset": 20}
    config = validate(RunConfig, content | {"data": data, "system": content["system"] | small})
    said = words(config)
    assert said[0].startswith("about 0:0")
    assert said[2:] == ["on 20 images that are in memory; data.workers threads read the others meanwhile"]
