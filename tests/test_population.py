"""Runs that step together as one program: each member equals its run alone, for every system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import own_nets
import pytest
import torch

from toposampler.errors import UserError
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import GeneratorEnsemble
from toposampler.training import RunConfig
from toposampler.training.checkpoint import read_checkpoint, save_checkpoint
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.population import Population, check_alike

MakeConfig = Callable[..., RunConfig]

SYSTEMS = [
    "bigan", "component_gan", "conditional_wgan_gp", "deligan", "dmgan", "dmgan_pl", "infogan", "mad_gan", "mdgan",
    "mgan", "nwgan", "pacgan", "r3gan", "sn_gan", "topo_dmgan", "toposampler", "vcgan_lp", "veegan", "wgan_gp",
]  # fmt: skip
VARIANTS = {
    "relativistic, encoder's clock": (
        "dmgan_pl",
        {
            "system__adversarial": "relativistic",
            "system__prior": {"entropy_schedule": "encoder", "entropy_decay_from": 0.1},
        },
    ),
    "penalties by finite differences": (
        "wgan_gp",
        {  # a small epsilon would divide rounding by it
            "system__adversarial": "relativistic",
            "system__penalty": {"gradient": "finite_difference", "epsilon": 1},
        },
    ),
    "lazy penalty, equal draw": (
        "dmgan_pl",
        {"system__penalty": {"every": 2, "final_weight": 0.5}, "system__draw": "equal"},
    ),
    "bars in the critic's space": (
        "toposampler",
        {"system__noise__kind": "network", "system__topology_bars": 3, "system__topology_space": "critic"},
    ),
    "a burn-in": (
        "r3gan",
        {"system__burn_in": 12, "system__penalty__final_weight": 0.01, "training__ema_decay": 0.9},
    ),
    "straight-through gate": ("toposampler", {"system__noise": {"kind": "gate", "choice": "straight-through"}}),
    "generators of convolutions": (
        "dmgan_pl",
        {"data": {"name": "digits"}, "system__generator_width": 2, "system__critic_width": 2},
    ),
    "generators that share all but a layer": (
        "dmgan_pl",
        {
            "system__shared_trunk": True,
            "data": {"name": "digits"},
            "system__generator_width": 2,
            "system__critic_width": 2,
        },
    ),
    "rates that go to final ones": (
        "dmgan_pl",
        {
            "system__prior__final_learning_rate": 1e-4,
            "system__generator": {"learning_rate": 1e-3, "final_learning_rate": 0.1},
        },
    ),
    "batches that grow, rates that fall": (
        "dmgan_pl",
        {"training__batch_growth": 2, "training__batch_growth_from": 0.3, "training__learning_rate_decay_from": 0.2},
    ),
}
ITERATIONS = 20


def make_loop(config: RunConfig, networks: Networks | None = None) -> Loop:
    dataset = config.data.load()
    prepared = config.system.prepare(dataset)
    torch.manual_seed(config.seed)
    system = prepared.build(dataset.shape, networks)
    return Loop(
        system, replace(dataset, labels=prepared.labels), config.training, config.seed, torch.device("cpu"), Placement()
    )


def numbers(state: Any) -> list[torch.Tensor]:
    """All tensors of a state, in order."""
    if isinstance(state, torch.Tensor):
        return [state.double()]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [x for part in parts for x in numbers(part)]


def largest_difference(configs: Sequence[RunConfig], networks: Networks | None = None) -> float:
    """Between members' states and those of the runs alone: parameters, averages, moments, loss terms."""
    alone = [make_loop(config, networks) for config in configs]
    members = [make_loop(config, networks) for config in configs]
    population = Population(members)
    for _ in range(ITERATIONS):
        for loop in alone:
            loop.iteration()
        population.iteration()
    assert population.graphs is not None
    first = configs[0]
    moves = first.system.name == "r3gan" or first.training.augmentation.adaptive  # decays of Adam; what the critic says
    assert population.graphs.refused == moves
    worst = 0.0
    for loop, member in zip(alone, members, strict=True):
        own, other = numbers(loop.state_dict()), numbers(member.state_dict())
        assert len(own) == len(other) > 0
        worst = max(worst, *(float((a - b).abs().max()) for a, b in zip(own, other, strict=True) if a.numel() > 1))
    return worst


def seeds(make_config: MakeConfig, system: str, n: int = 2, **keys: Any) -> list[RunConfig]:
    if system == "conditional_wgan_gp":
        keys |= {"data__n": 48}
    return [make_config(system, seed=seed, training__precision="fp64", **keys) for seed in range(n)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_member_equals_its_run_alone(system: str, make_config: MakeConfig) -> None:
    assert largest_difference(seeds(make_config, system)) < 1e-10


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_that_change_the_program(variant: str, make_config: MakeConfig) -> None:
    system, keys = VARIANTS[variant]
    assert largest_difference(seeds(make_config, system, **keys)) < 1e-10


def test_networks_of_ones_own(make_config: MakeConfig) -> None:
    own = Networks(own_nets.generator, own_nets.trunk)
    assert largest_difference(seeds(make_config, "dmgan_pl", system__n_generators=3), own) < 1e-10


CLOCK = {"entropy_weight": [1, 3], "entropy_decay": [0.9, 0.8], "entropy_decay_from": [0, 0.5]}
NUMBERS = {
    "wgan_gp": {"penalty.weight": [1, 3], "critic.learning_rate": [1e-3, 1e-2], "generator.learning_rate": [1e-3, 0.1]},
    "infogan": {"information_weight": [1, 3]},
    "deligan": {"spread_weight": [0.1, 3]},
    "mgan": {"diversity": [0.01, 3]},
    "mdgan": {"reconstruction_weight": [1, 3], "manifold_weight": [1, 0.2]},
    "veegan": {"reconstruction_weight": [1, 3]},
    "topo_dmgan": {"topology_weight": [1, 3], "prior.learning_rate": [1e-2, 3e-2], "information_weight": [1, 3]},
}
PRIORS = {
    "exponential": CLOCK,
    "linear": CLOCK | {"entropy_span": [0.2, 0.6]},
    "encoder": CLOCK,
}


@pytest.mark.parametrize("system", NUMBERS)
def test_members_that_differ_in_numbers(system: str, make_config: MakeConfig) -> None:
    differ_in_numbers(make_config, system, NUMBERS[system])


@pytest.mark.parametrize("schedule", PRIORS)
def test_members_that_differ_in_the_clock_of_the_prior(schedule: str, make_config: MakeConfig) -> None:
    ways = {f"prior.{key}": two for key, two in PRIORS[schedule].items()}
    differ_in_numbers(make_config, "dmgan_pl", ways, system__prior__entropy_schedule=schedule)


def differ_in_numbers(make_config: MakeConfig, system: str, ways: dict[str, list[float]], **fixed: Any) -> None:
    configs = [
        make_config(
            system,
            training__precision="fp64",
            **fixed,
            **{f"system__{key.replace('.', '__')}": two[i] for key, two in ways.items()},
        )
        for i in (0, 1)
    ]
    check_alike(configs)
    assert largest_difference(configs) < 1e-10
    first, second = (make_loop(config) for config in configs)
    for _ in range(ITERATIONS):
        first.iteration()
        second.iteration()
    assert any(not torch.equal(a, b) for a, b in zip(*(numbers(x.state_dict()) for x in (first, second)), strict=True))


@pytest.mark.parametrize(
    ("system", "key", "values", "message"),
    [
        ("dmgan_pl", "system__n_generators", (1, 4), "system.n_generators is 1 in run and 4 in run"),
        ("vcgan_lp", "system__n_generators", (3, 4), "system.n_generators is 3 in run and 4 in run"),
        ("component_gan", "system__n_generators", (3, 4), "system.n_generators is 3 in run and 4 in run"),
        ("wgan_gp", "training__batch_size", (8, 16), "training.batch_size is 8 in run and 16 in run"),
        ("topo_dmgan", "system__topology_weight", (0.0, 1.0), "system.topology_weight is 0.0 in run and 1.0 in run"),
        ("wgan_gp", "system__penalty__every", (1, 2), "system.penalty.every is 1 in run and 2 in run"),
    ],
)
def test_what_makes_another_program_is_refused(
    system: str, key: str, values: tuple[Any, Any], message: str, make_config: MakeConfig
) -> None:
    with pytest.raises(UserError, match=message):
        check_alike([make_config(system, **{key: value}) for value in values])


def check_that_one_that_leaves_is_alone(configs: Sequence[RunConfig]) -> None:
    """The second of three members leaves; all three equal their runs alone."""
    alone, members = [make_loop(c) for c in configs], [make_loop(c) for c in configs]
    population = Population(members)
    for _ in range(5):
        population.iteration()
    rest = Population([members[0], members[2]])
    for _ in range(5):
        rest.iteration()
        members[1].iteration()
    for loop, member in zip(alone, members, strict=True):
        for _ in range(10):
            loop.iteration()
        for a, b in zip(numbers(loop.state_dict()), numbers(member.state_dict()), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_a_member_that_leaves_goes_on_alone_and_takes_nothing_with_it(make_config: MakeConfig) -> None:
    check_that_one_that_leaves_is_alone(seeds(make_config, "dmgan_pl", 3))


def check_that_a_state_is_taken_over(configs: Sequence[RunConfig]) -> None:
    """The second member takes the first one's state, after which both equal their runs alone that do so too."""
    alone, members = [make_loop(c) for c in configs], [make_loop(c) for c in configs]
    population = Population(members)
    for turn in range(2):
        for _ in range(3):
            population.iteration()
            for loop in alone:
                loop.iteration()
        if turn == 0:
            for loops in (alone, members):
                loops[1].load_state_dict(loops[0].state_dict())
    for loop, member in zip(alone, members, strict=True):
        for a, b in zip(numbers(loop.state_dict()), numbers(member.state_dict()), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_a_member_can_take_over_another_ones_state(make_config: MakeConfig) -> None:
    check_that_a_state_is_taken_over(seeds(make_config, "dmgan_pl"))


def test_counts_of_steps_are_float32_whatever_the_networks_are(make_config: MakeConfig) -> None:
    """On CUDA Adam's kernel reads them so, and a run's own checkpoint holds them so."""
    members = [make_loop(config) for config in seeds(make_config, "dmgan_pl")]
    Population(members).iteration()
    for _, moments in (pair for player in members[0].players.values() for pair in player.moments()):
        assert moments["exp_avg"].dtype == torch.float64
        assert moments["step"].dtype == torch.float32
        assert moments["step"] > 0


def test_nan_in_one_member_stays_there(make_config: MakeConfig) -> None:
    configs = seeds(make_config, "topo_dmgan", 3)
    members, alone = [make_loop(c) for c in configs], make_loop(configs[2])
    with torch.no_grad():
        members[1].system.critic.head.weight.fill_(torch.nan)
    population = Population(members)
    for _ in range(5):
        population.iteration()
        alone.iteration()
    assert not all(x.isfinite().all() for x in numbers(members[1].state_dict()))
    for a, b in zip(numbers(alone.state_dict()), numbers(members[2].state_dict()), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", [lambda: torch.nn.Linear(3, 2), lambda: own_nets.FourierSkipGenerator(3, 2)])
def test_an_ensemble_with_capacities(make: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    ensemble, z, c = (
        GeneratorEnsemble(make, 4).double(),
        torch.randn(9, 3).double(),
        torch.tensor([3, 1, 1, 0, 3, 1] * 2)[:9],
    )
    expected = ensemble(z, c)
    # Samples of 0, 1 and 3 are 1, 5 and 3; none are of 2.
    for alike in (5, 6, 9):
        ensemble.capacities = (alike,) * 4
        assert torch.allclose(ensemble(z, c), expected, rtol=0, atol=1e-12)
    for by_rank in ((5, 3, 1), (6, 3, 3), (7, 4, 4, 4), (5, 5, 1, 1)):
        ensemble.capacities = by_rank
        assert torch.allclose(ensemble(z, c), expected, rtol=0, atol=1e-12)
        gradients = [torch.autograd.grad(ensemble(z, c).square().sum(), list(ensemble.parameters()))]
        ensemble.capacities = None
        gradients.append(torch.autograd.grad(ensemble(z, c).square().sum(), list(ensemble.parameters())))
        for a, b in zip(*gradients, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-11)
    ensemble.capacities = (2, 2, 2, 2)
    late = [sum(int(other) == int(own) for other in c[:i]) >= 2 for i, own in enumerate(c)]
    x = ensemble(z, c)
    assert x.isnan().all(dim=1).tolist() == late, "a sample without room is NaN, never another generator's"
    assert torch.allclose(x[~torch.tensor(late)], expected[~torch.tensor(late)], rtol=0, atol=1e-12)


def test_a_members_checkpoint_holds_no_other_member(make_config: MakeConfig, tmp_path: Path) -> None:
    configs = seeds(make_config, "dmgan_pl", n=6)
    lone, loops = make_loop(configs[3]), [make_loop(config) for config in configs]
    Population(loops).iteration()
    lone.iteration()
    about: dict[str, Any] = {"config": {}, "shape": [2], "data": "", "seconds": 0.0}
    for name, loop in (("lone", lone), ("member", loops[3])):
        save_checkpoint(tmp_path / name / "step_00000001.pt", about | {"loop": loop.state_dict()})
    size, other = ((tmp_path / name / "step_00000001.pt").stat().st_size for name in ("member", "lone"))
    assert size < 1.2 * other
    read = numbers(read_checkpoint(tmp_path / "member" / "step_00000001.pt")["loop"])
    held = numbers(loops[3].state_dict())
    assert all(torch.equal(x, y) for x, y in zip(read, held, strict=True))
