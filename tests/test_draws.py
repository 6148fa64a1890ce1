"""Members of a population draw together what each draws alone, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_population import SYSTEMS, VARIANTS, make_loop

from toposampler.priors.mixture import MixturePrior
from toposampler.training import RunConfig
from toposampler.training.population import Population

MakeConfig = Callable[..., RunConfig]

OTHERS = {
    "ids drawn one by one": ("dmgan_pl", {"system__draw": "random"}),
    "ids drawn one by one, uniform": ("dmgan", {"system__draw": "random"}),
    "equal draw, uniform": ("dmgan", {"system__draw": "equal"}),
    "equal draw, K does not divide n": ("dmgan_pl", {"system__draw": "equal", "system__n_generators": 3}),
    "normal latents": ("wgan_gp", {"system__latent": {"kind": "normal"}}),
    "latents on a sphere": ("wgan_gp", {"system__latent": {"kind": "sphere"}}),
    "latents in pieces": ("wgan_gp", {"system__latent": {"kind": "mixture", "components": 3}}),
    "labels exchanged": ("pacgan", {"system__adversarial": {"label_noise": 0.2}}),
    "noise of the encoder": ("bigan", {"system__encoder_noise": 0.5}),
}
ALL = {system: (system, {}) for system in SYSTEMS} | VARIANTS | OTHERS


def population_of(*configs: RunConfig) -> Population:
    """Three members, of one or three configurations, whose priors, where they learn one, differ."""
    seeds = zip((3, 4, 5), configs * (3 // len(configs)), strict=True)
    loops = [make_loop(config.model_copy(update={"seed": seed})) for seed, config in seeds]
    for i, loop in enumerate(loops):
        for module in loop.system.modules():
            if isinstance(module, MixturePrior):
                with torch.no_grad():
                    module.zeta.copy_(torch.randn(module.zeta.shape, generator=torch.Generator().manual_seed(i)))
    return Population(loops)


@pytest.mark.parametrize("case", ALL)
def test_together_as_alone(case: str, make_config: MakeConfig) -> None:
    system, keys = ALL[case]
    keys = keys | ({"data__n": 48} if system == "conditional_wgan_gp" else {})
    config = make_config(system, **keys)
    together, alone = population_of(config), population_of(config)
    alone._streams = None
    assert (together._streams is None) == together.system.uses_labels  # these draw what goes with the real samples
    for _ in range(2):
        indices, noise = together.draw(3)
        expected_indices, expected = alone.draw(3)
        assert torch.equal(indices, expected_indices)
        assert list(noise) == list(expected)
        for name, x in noise.items():
            assert x.dtype == expected[name].dtype, name
            assert torch.equal(x, expected[name]), name
    for a, b in zip(together.loops, alone.loops, strict=True):
        assert torch.equal(a.rng.get_state(), b.rng.get_state())
        assert a.sampler.state_dict() == b.sampler.state_dict()


def test_members_with_priors_of_their_own_draw_other_ids(make_config: MakeConfig) -> None:
    noise = population_of(make_config("dmgan_pl")).draw(3)[1]
    assert not torch.equal(noise["c"][0], noise["c"][1])


@pytest.mark.parametrize(
    ("system", "draw", "together"),
    [
        ("dmgan_pl", "systematic", True),
        ("topo_dmgan", "systematic", True),
        ("dmgan_pl", "random", True),
        ("dmgan_pl", "equal", False),  # shares of K, which is another one for each
        ("dmgan", "systematic", False),
    ],
)
def test_members_with_other_numbers_of_generators(
    system: str, draw: str, together: bool, make_config: MakeConfig
) -> None:
    configs = [make_config(system, system__n_generators=k, system__draw=draw) for k in (2, 5, 3)]
    population = population_of(*configs)
    assert (population._streams is not None) == together
    noise = population.draw(3)[1]
    for i, loop in enumerate(population_of(*configs).loops):
        for name, x in loop.draw(3)[1].items():
            assert torch.equal(noise[name][i], x), name
