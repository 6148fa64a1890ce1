"""Component GAN: K from the data, the start in closed form, exact weights, and runs that go on with the same K."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import on_ranks
from test_systems import make_loop, parameters

from toposampler.config import validate
from toposampler.data.base import Dataset
from toposampler.errors import RunInterruptedError, UserError
from toposampler.systems.component_gan import ComponentGANConfig
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import of_earlier_version
from toposampler.training.loop import Loop
from toposampler.training.model import save_model
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup
from toposampler.training.sampling import draw_samples

MakeConfig = Callable[..., RunConfig]
NAME = "component_gan"


def own(folder: Path) -> dict[str, Any]:
    """The section for the points in x.npy, as they are."""
    return {"name": "npy", "path": str(folder / "x.npy"), "standardize": False}


def test_the_number_of_generators_and_their_masses_are_the_data_s(make_config: MakeConfig) -> None:
    system = make_loop(make_config(NAME, data__weights=[0.4, 0.3, 0.2, 0.1])).system
    assert system.K == 4
    assert system.prior().tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_it_starts_on_the_data(make_config: MakeConfig) -> None:
    config = make_config(NAME, data__n=2000)
    x, ids = draw_samples(make_loop(config).system, 2000, seed=0)
    data = config.data.load()
    assert data.manifold is not None
    distance = data.manifold.distance(x)
    assert distance.min(dim=1).values.max() < 1e-3
    assert np.bincount(ids).tolist() == [500] * 4
    places = data.manifold.bins(x).gather(1, distance.argmin(dim=1, keepdim=True))
    assert len(places.unique()) == 50  # to both ends


@pytest.mark.parametrize("game", ["relativistic", "wasserstein"])
def test_pairs_are_of_one_component_and_the_penalty_is_of_the_sample(game: str, make_config: MakeConfig) -> None:
    loop = make_loop(make_config(NAME, system__adversarial=game))
    (batch, *_), _ = loop._draw(3)
    assert torch.equal(batch.noise["c"], batch.labels)
    seen = loop.system.seen(batch.real, batch.labels)
    assert seen.shape == (8, 2 + 4)
    assert torch.equal(seen[:, 2:].argmax(dim=1), batch.labels)
    assert loop.system.critic.input_gradient(seen).shape == (8, 2)
    scores, gradient = loop.system.critic.scores_and_gradient(seen)
    assert torch.equal(gradient, loop.system.critic.input_gradient(seen))
    assert scores.shape == (8,)


def test_a_run_says_what_it_found_and_is_read_with_that_k(make_config: MakeConfig, tmp_path: Path) -> None:
    result = train(make_config(NAME))
    assert result is not None
    found = json.loads((tmp_path / "run" / "result.json").read_text())["components"]
    assert (found["components"], found["generators"]) == (4, 4)
    assert result["prior"] == pytest.approx(found["masses"])
    model = load_model(tmp_path / "run")
    assert model.system.K == 4
    save_model(tmp_path / "run", tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert torch.equal(model.sample(50)[0], again.sample(50)[0])
    assert again.config.system.n_generators == 4


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(make_config: MakeConfig, tmp_path: Path) -> None:
    whole = make_config(NAME, name="whole")
    stopped = make_config(NAME, name="stopped")
    train(whole)
    with pytest.raises(RunInterruptedError):
        train(stopped, should_stop=iter([None, "test"]).__next__)
    train(stopped)
    samples = [load_model(tmp_path / name).sample(100)[0] for name in ("whole", "stopped")]
    assert torch.equal(*samples)


def test_other_components_than_a_checkpoint_s_are_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(RunInterruptedError):
        train(make_config(NAME), should_stop=lambda: "test")
    file = next((tmp_path / "run" / "checkpoints").glob("*.pt"))
    state = torch.load(file, weights_only=True)
    torch.save(state | {"prepared": "other", "decided": {"n_generators": 3}}, file)
    with pytest.raises(UserError, match="other components"):
        train(make_config(NAME))


def _sharded(config: RunConfig, folder: Path) -> None:
    group = ProcessGroup.current()
    dataset = config.data.load()
    prepared = config.system.prepare(dataset)
    placement = Placement(group, sharded=True)
    torch.manual_seed(config.seed)
    system = prepared.build(dataset.shape, shard=placement.shard)
    dataset = replace(dataset, labels=prepared.labels)
    loop = Loop(system, dataset, config.training, config.seed, torch.device("cpu"), placement)
    for _ in range(10):
        loop.iteration()
    state = loop.state_dict()
    if group.rank == 0:
        torch.save([state["system"], state["average"]], folder / "sharded.pt")


@pytest.mark.slow
def test_generators_on_two_workers_equal_one_process(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(NAME, training__precision="fp64", training__batch_size=16)
    on_ranks(2, _sharded, config, tmp_path)
    loop = make_loop(config)
    start = parameters(loop).clone()
    for _ in range(10):
        loop.iteration()
    assert (parameters(loop) - start).abs().max() > 1e-4
    system, average = torch.load(tmp_path / "sharded.pt", weights_only=True)
    for name, x in loop.system.state_dict().items():
        if name != "critic.head.bias":
            torch.testing.assert_close(system[name], x, rtol=0, atol=1e-10)
    assert (average - loop.average).abs().max() < 1e-10


def test_sharding_asks_for_as_many_generators_as_are_found(make_config: MakeConfig) -> None:
    keys = {"cluster__placement": "sharded", "cluster__num_workers": 3}
    assert make_config(NAME, **keys).system.asks_the_data
    with pytest.raises(UserError, match="3 workers"):
        make_config(NAME, system__n_generators=2, **keys)
    with pytest.raises(UserError, match="n_generators"):
        validate(RunConfig, {"name": "x", "data": {"name": "lines"}, "system": {"name": NAME, "n_generators": "many"}})


def test_points_of_many_dimensions_are_judged_as_they_are(make_config: MakeConfig, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 300)).astype(np.float32)
    x[:100, 0] += 60
    np.save(tmp_path / "x.npy", x)
    loop = make_loop(make_config(NAME, data=own(tmp_path)))
    assert loop.system.K == 2
    for _ in range(3):
        loop.iteration()
    assert draw_samples(loop.system, 20, seed=0)[0].shape == (20, 300)


def test_more_generators_than_different_samples_are_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.repeat([[0.0, 0], [1, 1]], 20, axis=0))
    config = make_config(NAME, data=own(tmp_path), system__n_generators=3)
    with pytest.raises(UserError, match=r"n_generators 3 .* 2 different"):
        train(config)


def test_data_that_are_one_point_are_made(make_config: MakeConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((30, 2), 7.0))
    loop = make_loop(make_config(NAME, data=own(tmp_path)))
    torch.testing.assert_close(draw_samples(loop.system, 5, seed=0)[0], torch.full((5, 2), 7.0))


@pytest.mark.parametrize("n", [2, 3, 20])
def test_few_points_are_one_component(n: int, make_config: MakeConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(2.0 * n).reshape(n, 2) ** 2)
    loop = make_loop(make_config(NAME, data=own(tmp_path)))
    assert loop.system.K == 1
    loop.iteration()
    assert torch.isfinite(draw_samples(loop.system, 10, seed=0)[0]).all()


def test_samples_that_are_not_finite_are_named() -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    x[3, 1], x[7, 0] = torch.nan, torch.inf
    with pytest.raises(UserError, match="2 of 50 samples have NaN or infinite values"):
        ComponentGANConfig().prepare(Dataset(x))


def test_two_points_over_and_over_are_two_components_without_width(make_config: MakeConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.repeat([[0.0, 0], [1, 1]], [30, 20], axis=0))
    loop = make_loop(make_config(NAME, data=own(tmp_path)))
    assert loop.system.prior().tolist() == pytest.approx([0.6, 0.4])
    x, ids = draw_samples(loop.system, 40, seed=0)
    torch.testing.assert_close(x, ids[:, None].expand(-1, 2).float(), rtol=0, atol=1e-6)
    loop.iteration()


@pytest.mark.parametrize(
    "data",
    [
        {"name": "gaussians", "n_modes": 1},
        {"name": "spheres", "dimension": 1, "number": 1},
        {"name": "swiss_roll"},
    ],
    ids=lambda data: data["name"],
)
def test_data_of_one_piece_get_one_generator_and_no_gap_is_reported(
    data: dict[str, Any], make_config: MakeConfig
) -> None:
    config = make_config(NAME, data=data | {"n": 2000})
    prepared = config.system.prepare(config.data.load())
    assert prepared.decided["n_generators"] == 1
    assert prepared.report is not None
    assert "no gap" in prepared.report["against"][0]


def test_ten_thousand_dimensions_are_looked_at_along_their_principal_components() -> None:
    x = torch.randn(150, 10_000, generator=torch.Generator().manual_seed(0))
    x[:50, 0] += 400
    prepared = ComponentGANConfig().prepare(Dataset(x))
    assert prepared.report is not None
    assert prepared.report["masses"] == pytest.approx([2 / 3, 1 / 3])
    assert set(prepared.labels[:50].tolist()) == {1}


@pytest.mark.slow
def test_of_a_million_points_a_sample_is_looked_at_and_named() -> None:
    """In a process of its own, whose peak of memory is less than 1 GiB above what the libraries take."""
    code = (
        "import resource, torch\n"
        "from toposampler.data.base import Dataset\n"
        "from toposampler.systems.component_gan import ComponentGANConfig\n"
        "ComponentGANConfig().prepare(Dataset(torch.randn(200, 2)))\n"
        "x = torch.randn(1_000_000, 2, generator=torch.Generator().manual_seed(0))\n"
        "x[:250_000, 0] += 20\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "report = ComponentGANConfig().prepare(Dataset(x)).report\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)\n"
        "print(report['masses'])\n"
        "print(report['in_words'][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    gib, masses, words = done.stdout.splitlines()
    assert float(gib) < 1
    assert json.loads(masses) == pytest.approx([0.75, 0.25], abs=1e-5)
    assert "in 8,192 samples" in words


def test_a_start_that_was_made_before_is_the_same(make_config: MakeConfig) -> None:
    loop = make_loop(make_config(NAME))
    (batch, *_), _ = loop._draw(3)
    without = {name: x for name, x in batch.noise.items() if name != "start"}
    assert torch.equal(loop.system.generate(batch.noise), loop.system.generate(without))


def test_every_generator_with_a_share_of_the_data_counts_as_active(make_config: MakeConfig, tmp_path: Path) -> None:
    """A counted share of .5 % is no remnant of learning: Wilson's interval leaves 0 out."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(3980, 2)), rng.normal(size=(20, 2)) + 60]).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = train(make_config(NAME, data=own(tmp_path)))
    assert result is not None
    low = [low for low, _ in result["components"]["masses_95"]]
    assert min(result["prior"]) == pytest.approx(0.005)
    assert min(low) > 0
    assert result["active_generators"] == result["metrics"]["active_generators"] == 2
    save_model(tmp_path / "run", tmp_path / "model")
    assert "2 of 2 generators are active" in (tmp_path / "model" / "README.md").read_text()
    assert load_model(tmp_path / "run").system.least_active == 0
    assert make_loop(make_config("dmgan_pl")).system.least_active == 0.01  # a learned prior leaves some to the others


def test_nothing_is_trained_where_the_starts_are_like_held_out_data(make_config: MakeConfig, tmp_path: Path) -> None:
    """Segments, whose starts fit: the game would only move them."""
    many = {"data__n": 2000}
    result = train(make_config(NAME, **many))
    assert result is not None
    assert (
        result["components"]["in_words"][2]
        == "start    no game: samples of all 4 starts are like held-out data (within 0.05)"
    )
    model = load_model(tmp_path / "run")
    assert model.config.system.game == "never"
    assert not model.system.trained.any()
    assert result["metrics"]["off_manifold_0.05"] == 0
    played = make_loop(make_config(NAME, system__game="always", **many))
    kept = make_loop(make_config(NAME, **many))
    before = [parameters(loop).clone() for loop in (played, kept)]
    for loop in (played, kept):
        loop.iteration()
        assert loop.step == 1
    moved = [(parameters(loop) - x).abs().max() > 0 for loop, x in zip((played, kept), before, strict=True)]
    assert moved == [True, False]


def test_seeds_of_kept_starts_step_together(make_config: MakeConfig) -> None:
    result = train(make_config(NAME, system__game="never", seeds=[3, 4]))
    assert result is not None
    assert result["members"].keys() == {"3", "4"}
    assert result["spread"]["sliced_wasserstein_2"]["max"] > 0


def test_only_components_whose_start_is_off_are_trained(make_config: MakeConfig, tmp_path: Path) -> None:
    """A normal component is kept; a crescent, fitted by one iteration along its axes, is trained."""
    rng = np.random.default_rng(0)
    angle = np.pi * rng.random(600)
    crescent = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.03 * rng.normal(size=(600, 2))
    np.save(tmp_path / "x.npy", np.concatenate([crescent, 40 + rng.normal(size=(600, 2))]).astype(np.float32))
    config = make_config(NAME, data=own(tmp_path), system__iterations=1)
    loop = make_loop(config)
    assert loop.system.config.game == "auto"
    of_crescent = int(loop.system.frames.mean[:, 0].argmin())
    assert loop.system.trained.tolist() == [float(k == of_crescent) for k in range(2)]
    ids = torch.arange(2).repeat_interleave(50)
    z = torch.randn(100, loop.system.latent.dim, generator=torch.Generator().manual_seed(0))
    before = loop.system.generate({"z": z, "c": ids}).detach()
    for _ in range(3):
        loop.iteration()
    moved = (loop.system.generate({"z": z, "c": ids}) - before).abs().amax(dim=1)
    assert (moved[ids == of_crescent] > 0).all()
    assert (moved[ids != of_crescent] == 0).all()


def test_few_samples_cannot_tell_so_the_game_is_played(make_config: MakeConfig) -> None:
    config = make_config(NAME)  # 50 samples a segment, 25 of them unseen
    prepared = config.system.prepare(config.data.load())
    assert prepared.decided["game"] == "always"
    assert prepared.report is not None
    assert prepared.report["in_words"][2].endswith("the others are trained: 4 have too few samples to tell")


def test_a_model_from_before_starts_were_tested_is_read_as_it_was_trained(make_config: MakeConfig) -> None:
    stored = make_config("component_gan", system__n_generators=3).model_dump(mode="json")
    del stored["system"]["game"]
    config = validate(RunConfig, of_earlier_version(stored))
    assert isinstance(config.system, ComponentGANConfig)
    assert config.system.game == "always"
    system = config.system.build((2,))
    state = system.state_dict()
    assert state.pop("trained").tolist() == [1, 1, 1]
    system.get_buffer("trained").zero_()
    system.load_state_dict(state)
    assert system.get_buffer("trained").tolist() == [1, 1, 1]
