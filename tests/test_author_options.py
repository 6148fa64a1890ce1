"""The options that follow DMGAN's authors to the letter: their cross entropy, and TensorFlow's weights at the start."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from toposampler.systems.batch import Batch
from toposampler.systems.dmgan_pl import DMGANPL
from toposampler.training import RunConfig

MakeConfig = Callable[..., RunConfig]


def test_the_authors_average_the_cross_entropy_over_classes_and_leave_the_bonus(make_config: MakeConfig) -> None:
    terms = {}
    for exact in (False, True):
        torch.manual_seed(0)
        overrides = {"system__n_generators": 4, "system__prior__author_exact": exact}
        system = make_config("dmgan_pl", **overrides).system.build((2,))
        assert isinstance(system, DMGANPL)
        terms[exact] = system.prior_loss(Batch(torch.ones(6, 2), {}, None, 0, 10))
    assert terms[False]["cross_entropy"].item() == pytest.approx(math.log(4))  # of any q, as r is uniform
    assert terms[True]["cross_entropy"].item() == pytest.approx(math.log(4) / 4)
    assert torch.equal(terms[True]["entropy_bonus"], terms[False]["entropy_bonus"])


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_xavier_weights_keep_to_their_bounds_and_biases_are_0(shape: tuple[int, ...], make_config: MakeConfig) -> None:
    torch.manual_seed(0)
    system = make_config("dmgan", system__n_generators=3, system__initialization="xavier").system.build(shape)
    networks = [system.critic, system.encoder, *(_unstacked(system.generators.stacked, k) for k in range(3))]  # type: ignore[union-attr]
    for parameters in (list(network.parameters()) for network in networks):
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert 0.8 * bound < weight.abs().max() <= bound  # torch's own for a linear layer: 1 / sqrt(fan_in)
            assert not bias.any()


def _unstacked(stacked: nn.ParameterList, k: int) -> nn.ParameterList:
    """The weights and biases of generator k."""
    return nn.ParameterList(weights[k] for weights in stacked)
