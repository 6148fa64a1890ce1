"""Conformance: what every system must do. A new page in `systems/` is picked up by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from torch import Tensor

from toposampler.errors import TrainingStoppedError
from toposampler.priors.noise import places_apart
from toposampler.systems import SYSTEMS
from toposampler.systems.batch import Batch
from toposampler.training import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup
from toposampler.training.sampling import draw_samples

NAMES = [system.model_fields["name"].default for system in SYSTEMS]
GOLDEN = Path(__file__).parent / "golden"
MakeConfig = Callable[..., RunConfig]


def make_loop(config: RunConfig, group: ProcessGroup | None = None) -> Loop:
    dataset = config.data.load()
    prepared = config.system.prepare(dataset)
    dataset = replace(dataset, labels=prepared.labels)
    torch.manual_seed(config.seed)
    system = prepared.build(dataset.shape)
    return Loop(system, dataset, config.training, config.seed, torch.device("cpu"), Placement(group or ProcessGroup()))


def parameters(loop: Loop) -> Tensor:
    return torch.cat([player.values for player in loop.players.values()])


@pytest.fixture
def recorded_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise module of Toposampler starts at recorded places: torch's normal numbers differ in their last digits.

    They are made from the logarithm and the sine of uniform ones, which processors approximate in ways of their own.
    """
    recorded = torch.tensor(json.loads((GOLDEN / "places_apart.json").read_text()), dtype=torch.float32)

    def places(n: int, dim: int) -> Tensor:
        found = places_apart(n, dim)
        torch.testing.assert_close(found, recorded)
        return recorded.clone()

    monkeypatch.setattr("toposampler.priors.noise.places_apart", places)


@pytest.mark.usefixtures("fused_start", "recorded_places")
@pytest.mark.parametrize("name", NAMES)
def test_golden_losses(name: str, make_config: MakeConfig) -> None:
    """The loss terms of 20 steps in float64 are the recorded ones: a refactoring changes no number.

    The critic learns fast, so that its gradients soon exceed 1 and the one-sided penalty takes part.
    """
    loop = make_loop(make_config(name, training__precision="fp64", system__critic__learning_rate=0.01))
    history = []
    for _ in range(20):
        loop.iteration()
        history.append(loop.drain_terms())
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(history, indent=1))
        pytest.fail(f"there were no golden losses; {path} has been written: look at it and commit it")
    golden = json.loads(path.read_text())
    for step, (terms, expected) in enumerate(zip(history, golden, strict=True)):
        assert terms == pytest.approx(expected, rel=1e-8, abs=1e-10), f"step {step}"


@pytest.mark.parametrize("name", NAMES)
def test_every_module_gets_a_gradient_and_every_term_is_logged(name: str, make_config: MakeConfig) -> None:
    config = make_config(name, training__precision="fp64", training__critic_steps=1)
    loop = make_loop(config)
    (batch,), _ = loop._draw(1)
    batch = replace(batch, fake=batch.real.flip(0))
    for player_name, player in loop.players.items():
        player.freeze(False)
        terms = player.loss(batch)
        assert all(term.shape == () and torch.isfinite(term) for term in terms.values()), player_name
        sum(terms.values(), torch.zeros(())).backward()
        for module, (start, end) in player.ranges.items():
            assert player.gradients[start:end].abs().max() > 0, f"{module} of {player_name} gets no gradient"
        player.gradients.zero_()
        player.freeze(True)
        loop._move(player_name, batch)
        logged = {f"{player_name}/{term}": value.item() for term, value in terms.items()}
        assert loop.drain_terms() == pytest.approx(logged)


@pytest.mark.parametrize("name", NAMES)
def test_a_player_moves_no_other(name: str, make_config: MakeConfig) -> None:
    loop = make_loop(make_config(name))
    (batch,), _ = loop._draw(1)
    for moved in loop.players:
        before = {other: player.values.clone() for other, player in loop.players.items()}
        loop._move(moved, replace(batch, fake=batch.real.flip(0)))
        for other, player in loop.players.items():
            assert torch.equal(before[other], player.values) == (other != moved), f"{moved} moved {other}"


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_training_another_seed_another(name: str, make_config: MakeConfig) -> None:
    def trained(seed: int) -> Tensor:
        loop = make_loop(make_config(name, seed=seed))
        for _ in range(3):
            loop.iteration()
        return parameters(loop)

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_goes_on_from_its_saved_state_to_the_last_bit(
    name: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    whole, resumed = (make_loop(make_config(name)) for _ in range(2))
    for _ in range(3):
        whole.iteration()
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        whole.iteration()
        resumed.iteration()
    for key, x in whole.system.state_dict().items():
        assert torch.equal(x, resumed.system.state_dict()[key]), key
    assert torch.equal(whole.average, resumed.average)
    assert whole.drain_terms() == resumed.drain_terms()


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_seed_and_the_generator(name: str, make_config: MakeConfig) -> None:
    system = make_loop(make_config(name)).system
    x, ids = draw_samples(system, 5000, seed=3)
    again, _ = draw_samples(system, 5000, seed=3)
    assert torch.equal(x, again)
    assert not torch.equal(x, draw_samples(system, 5000, seed=4)[0])
    assert x.shape == (5000, 2)
    assert torch.isfinite(x).all()
    assert set(ids.tolist()) == set(range(system.K))
    one, its = draw_samples(system, 50, seed=3, generator=system.K - 1)
    assert torch.isfinite(one).all()
    assert set(its.tolist()) == {system.K - 1}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 64, 64)])
def test_every_system_takes_points_and_images(name: str, shape: tuple[int, ...], make_config: MakeConfig) -> None:
    torch.manual_seed(0)
    system = make_config(name).system.build(shape)
    noise = {k: x[0] for k, x in system.draw(1, 4, torch.Generator().manual_seed(0), training=True).items()}
    x = system.generate(noise)
    assert x.shape == (4, *shape)
    labels = noise["c"] if system.uses_labels else None
    batch = Batch(x.detach(), noise, x.detach(), 0, 10, labels=labels)
    for player in system.players().values():
        assert all(torch.isfinite(term) for term in player.loss(batch).values())


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_finite_stops_with_step_and_player(name: str, make_config: MakeConfig) -> None:
    loop = make_loop(make_config(name))
    loop.iteration()
    loop.data[:] = torch.nan
    loop.iteration()
    with pytest.raises(
        TrainingStoppedError, match=r"loss of the critic is not finite at generator step 1: .*(real|pairs).*nan"
    ):
        loop.drain_terms()


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_trains(name: str, make_config: MakeConfig) -> None:
    loop = make_loop(make_config(name, training__precision="bf16"))
    for _ in range(5):
        loop.iteration()
    assert all(torch.isfinite(torch.tensor(term)) for term in loop.drain_terms().values())
    assert parameters(loop).dtype == torch.float32


def test_the_author_s_batch_norm_couples_the_samples_of_a_batch(make_config: MakeConfig) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 2)
    for norm, coupled in (("none", False), ("batch", True)):
        system = make_config("dmgan", system__encoder_norm=norm).system.build((2,))
        alone = system.encode(x[:3])
        assert torch.allclose(alone, system.encode(x)[:3], atol=1e-6) != coupled


def test_learning_rate_falls_to_zero_over_the_last_part(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("wgan_gp", training__learning_rate_decay_from=0.5))
    scales = {}
    for step in (0, 10, 15, 19, 20):
        loop.step = step
        scales[step] = loop.learning_rate_scale()
    assert scales == pytest.approx({0: 1, 10: 1, 15: 0.5, 19: 0.1, 20: 0})


def test_the_batch_grows_for_the_last_part(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("dmgan", training__batch_growth=3, training__batch_growth_from=0.25))
    sizes = []
    for _ in range(8):
        (batch,), _ = loop._draw(1)
        sizes.append(len(batch.real))
        assert all(len(x) == len(batch.real) for x in batch.noise.values())
        loop.step += 1
    assert sizes == [8, 8, 8, 8, 8, 24, 24, 24]


def test_the_moving_average_is_used_and_put_back(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("dmgan"))
    start = loop.average.clone()
    loop.iteration()
    trained = loop.players["generator"].module_values("generators").clone()
    assert loop.average == pytest.approx((start + 9 * trained) / 10, abs=1e-6)  # decay 1/10 after the first step
    with loop.averaged() as system:
        inside = torch.cat([p.flatten() for p in system.generators.parameters()])
        assert torch.equal(inside, loop.average)
    assert torch.equal(loop.players["generator"].module_values("generators"), trained)


def _worker(configs: list[RunConfig], folder: Path) -> None:
    """One data-parallel process: 10 outer iterations of each config; saves its parameters."""
    group = ProcessGroup.current()
    for config in configs:
        loop = make_loop(config, group)
        for _ in range(10):
            loop.iteration()
        loop.check_replicas()
        buffers = dict(loop.system.named_buffers())
        torch.save([parameters(loop), loop.drain_terms(), buffers], folder / f"{config.name}_{group.rank}.pt")
        loop.players["critic"].values[0] += group.rank  # a replica that has drifted is noticed
        try:
            loop.check_replicas()
        except TrainingStoppedError:
            (folder / f"{config.name}_{group.rank}.noticed").touch()


def test_two_workers_equal_one_process_on_the_global_batch(make_config: MakeConfig, tmp_path: Path) -> None:
    configs = [make_config(name, name=name, training__precision="fp64") for name in NAMES]
    relativistic = {"system__adversarial": "relativistic", "system__draw": "equal", "training__batch_size": 9}
    configs.append(make_config("dmgan_pl", name="relativistic", training__precision="fp64", **relativistic))
    on_ranks(2, _worker, configs, tmp_path)
    for config in configs:
        loop = make_loop(config)
        start = parameters(loop).clone()
        for _ in range(10):
            loop.iteration()
        workers = [torch.load(tmp_path / f"{config.name}_{rank}.pt") for rank in range(2)]
        assert torch.equal(workers[0][0], workers[1][0]), f"replicas of {config.name} differ"
        assert (workers[0][0] - parameters(loop)).abs().max() < 1e-10
        assert (parameters(loop) - start).abs().max() > 1e-4
        terms = loop.drain_terms()
        for _, logged, buffers in workers:
            assert logged == pytest.approx(terms, rel=1e-9)
            for key, x in loop.system.named_buffers():
                assert torch.equal(buffers[key], workers[0][2][key]), f"{key} of {config.name} differs"
                assert torch.allclose(buffers[key], x, rtol=0, atol=1e-10)
        assert all((tmp_path / f"{config.name}_{rank}.noticed").exists() for rank in range(2))
