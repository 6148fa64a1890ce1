"""No shape of an iteration depends on a value, and nothing is read back: it runs on tensors without values.

That is what a graph on a GPU, and a population, need of every system. What is random, and what depends on the step, is
drawn and computed before (`Loop.draw`, `Population.constants`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_population import SYSTEMS, VARIANTS, make_loop
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._pytree import tree_map_only

from toposampler.systems import batches_of
from toposampler.training import RunConfig
from toposampler.training.graph import Room
from toposampler.training.population import Population

MakeConfig = Callable[..., RunConfig]

IMAGES = {"data": {"name": "digits"}, "system__generator_width": 2, "system__critic_width": 2}

QUICK = ("dmgan_pl", "topo_dmgan", "wgan_gp")
"""systems of which images are tried in every run of the tests, the others in the slow ones"""


def iteration_without_values(config: RunConfig) -> Population:
    """One iteration on tensors that have shapes and no values; a read or a shape that needs one raises."""
    population = Population([make_loop(config), make_loop(config)])
    moves = population.system.schedule(population.step, config.training.critic_steps)
    n_batches = 1 + max(move.batch for move in moves)
    indices, noise = population.draw(n_batches)
    room = Room.enough(noise["c"], batches_of("critic", moves), population.system.K)
    batches = population.rows(indices, noise, population._constants(), room.batch)
    with FakeTensorMode() as mode:

        def without_values(content: Any) -> Any:
            return tree_map_only(torch.Tensor, lambda x: mode.from_tensor(x), content)

        for players in population.players.values():
            for name, content in vars(players).items():
                setattr(players, name, without_values(content))
        population.average = without_values(population.average)
        first = population.loops[0]
        names = {id(p): name for name, p in population._called.named_parameters()}
        population.state = without_values(population.state) | {
            names[id(p)]: stacked
            for name, players in population.players.items()
            for p, stacked in zip(first.players[name].parameters, players.parameters, strict=True)
        }
        rows = [type(batch)(**without_values(vars(batch))) for batch in batches]
        fakes = population.fakes(rows, moves, room.fakes)
        for move in moves:
            population.log(move.player, *population.move(move, rows, fakes, *without_values(torch.ones(2)).unbind()))
        population.move_average(0.5)
        population.advance()
    return population


@pytest.mark.parametrize("system", SYSTEMS)
def test_points(system: str, make_config: MakeConfig) -> None:
    keys = {"data__n": 48} if system == "conditional_wgan_gp" else {}
    population = iteration_without_values(make_config(system, **keys))
    assert population.step == 1
    assert {name for _, name, _, _ in population.loops[0]._history} == set(population.players)


@pytest.mark.parametrize(
    "system", [system if system in QUICK else pytest.param(system, marks=pytest.mark.slow) for system in SYSTEMS]
)
def test_images(system: str, make_config: MakeConfig) -> None:
    keys = IMAGES if system != "toposampler" else IMAGES | {"system__network__kind": "plain"}
    if system == "topo_dmgan":
        keys = keys | {"system__topology_bars": 3}
    assert iteration_without_values(make_config(system, **keys)).step == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_options(variant: str, make_config: MakeConfig) -> None:
    system, keys = VARIANTS[variant]
    assert iteration_without_values(make_config(system, **keys)).step == 1


@pytest.mark.parametrize(
    "loss", [lambda terms: terms * float(terms.sum() > 0), lambda terms: terms[terms.nonzero().squeeze(1)].sum()]
)
def test_what_depends_on_values_is_found(loss: Callable[[torch.Tensor], Any], make_config: MakeConfig) -> None:
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)), FakeTensorMode():
        loss(torch.ones(3))


@pytest.mark.parametrize("keys", [{}, IMAGES], ids=["points", "images"])
def test_generators_on_one_trunk(keys: dict[str, Any], make_config: MakeConfig) -> None:
    assert iteration_without_values(make_config("dmgan_pl", system__shared_trunk=True, **keys)).step == 1
