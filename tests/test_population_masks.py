"""Runs with different numbers of generators that step together: each equals its run alone, whatever the others have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_population import (
    check_that_a_state_is_taken_over,
    check_that_one_that_leaves_is_alone,
    largest_difference,
    make_loop,
    numbers,
)

from toposampler.errors import UserError
from toposampler.systems import SYSTEMS
from toposampler.training import RunConfig
from toposampler.training.population import Population, check_alike

MakeConfig = Callable[..., RunConfig]
DIGITS = {"data": {"name": "digits"}, "system__generator_width": 2, "system__critic_width": 2}
CLOCK = {"entropy_schedule": "encoder", "entropy_decay_from": 0.1}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dmgan": ("dmgan", {}),
    "dmgan, equal draw": ("dmgan", {"system__draw": "equal"}),
    "dmgan_pl": ("dmgan_pl", {}),
    "dmgan_pl, encoder's clock": ("dmgan_pl", {"system__prior": CLOCK, "system__adversarial": "relativistic"}),
    "dmgan_pl, authors' mean over classes": ("dmgan_pl", {"system__prior": {"author_exact": True}}),
    "dmgan_pl, convolutions": ("dmgan_pl", DIGITS),
    "dmgan_pl, one trunk": ("dmgan_pl", {"system__shared_trunk": True}),
    "topo_dmgan": ("topo_dmgan", {}),
    "mgan": ("mgan", {}),
    "mad_gan": ("mad_gan", {"system__critic_weight": "sum"}),
    "nwgan": ("nwgan", {}),
}
LONG = ("dmgan_pl, convolutions", "topo_dmgan")


@pytest.mark.parametrize("variant", [pytest.param(v, marks=pytest.mark.slow) if v in LONG else v for v in VARIANTS])
def test_members_of_different_numbers_of_generators(variant: str, make_config: MakeConfig) -> None:
    system, keys = VARIANTS[variant]
    configs = [
        make_config(system, seed=seed, training__precision="fp64", **keys, system__n_generators=K)
        for seed, K in enumerate((3, 5, 2))
    ]
    check_alike(configs)
    assert largest_difference(configs) < 1e-10


def test_every_page_that_states_it_is_tested() -> None:
    stated = {page.model_fields["name"].default for page in SYSTEMS if vars(page).get("masked")}
    assert stated == {system for system, _ in VARIANTS.values()}


def test_a_page_inherits_no_statement_about_its_losses(make_config: MakeConfig) -> None:
    config = make_config("dmgan", system__n_generators=3)
    section = type("OwnConfig", (type(config.system),), {})(**config.system.model_dump())
    assert config.system.masks_generators
    assert not section.masks_generators
    configs = [config.model_copy(update={"system": section.model_copy(update={"n_generators": K})}) for K in (3, 4)]
    with pytest.raises(UserError, match=r"system\.n_generators is 3 in run and 4 in run"):
        check_alike(configs)


def test_what_is_no_generator_is_in_no_state_and_draws_nothing(make_config: MakeConfig) -> None:
    configs = [make_config("dmgan_pl", system__n_generators=K, training__precision="fp64") for K in (4, 2)]
    alone, loops = [make_loop(config) for config in configs], [make_loop(config) for config in configs]
    population = Population(loops)
    for _ in range(3):
        population.iteration()
        for loop in alone:
            loop.iteration()
    shapes = [[[x.shape for x in numbers(loop.state_dict())] for loop in some] for some in (alone, loops)]
    assert shapes[0] == shapes[1]
    assert loops[1].system.prior().shape == (2,)
    assert loops[1].system.encode(loops[1].data[:3]).shape == (3, 2)
    mixture = population.state["system.mixture.zeta"]
    assert mixture.shape == (2, 4)
    assert mixture.softmax(dim=1)[1, 2:].eq(0).all()
    assert torch.equal(mixture[1, :2], loops[1].system.get_parameter("mixture.zeta"))


def test_members_go_on_in_smaller_programs_and_alone(make_config: MakeConfig) -> None:
    configs = [
        make_config("dmgan_pl", seed=seed, system__n_generators=K, training__precision="fp64")
        for seed, K in enumerate((3, 5, 2))
    ]
    check_that_one_that_leaves_is_alone(configs)  # the member with the most generators


def test_a_member_takes_over_a_state(make_config: MakeConfig) -> None:
    configs = [make_config("dmgan_pl", seed=i, system__n_generators=K) for i, K in enumerate((3, 3, 5))]
    configs = [c.model_copy(update={"training": c.training.model_copy(update={"precision": "fp64"})}) for c in configs]
    check_that_a_state_is_taken_over(configs)
