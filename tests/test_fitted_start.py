"""Generators of the papers' systems that start on the components of the data: moments, shards, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toposampler.data.base import Dataset
from toposampler.data.digits import DigitsConfig
from toposampler.data.lines import LinesConfig
from toposampler.errors import UserError
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import Shard
from toposampler.priors.partition import PartitionConfig, find_partition
from toposampler.systems import System
from toposampler.systems.dmgan import DMGANConfig
from toposampler.systems.dmgan_pl import DMGANPLConfig
from toposampler.systems.topo_dmgan import TopoDMGANConfig
from toposampler.systems.toposampler import TopoSamplerConfig


@pytest.fixture(scope="module")
def data() -> Dataset:
    return LinesConfig(n=2000).load()


def built(config: Any, data: Dataset, **keys: Any) -> System:
    torch.manual_seed(0)
    return config.prepare(data).build(data.shape, **keys)


def samples(system: System, k: int | None = None, n: int = 20_000) -> Tensor:
    noise = {name: x[0] for name, x in system.draw(1, n, torch.Generator().manual_seed(1)).items()}
    with torch.no_grad():
        return system.generate(noise if k is None else noise | {"c": torch.full((n,), k)}).double()


def matches(x: Tensor, part: Tensor) -> None:
    part = part.double()
    spread = part.std(dim=0).max()
    assert (x.mean(dim=0) - part.mean(dim=0)).abs().max() < 0.05 * spread
    assert (x.T.cov() - part.T.cov()).abs().max() < 0.05 * spread**2


@pytest.mark.parametrize("config", [DMGANConfig, DMGANPLConfig, TopoDMGANConfig])
def test_generators_start_on_the_components_in_turn(config: Any, data: Dataset) -> None:
    system = built(config(fitted_start=True, n_generators=6), data)
    labels = find_partition(data.x, PartitionConfig()).labels
    for k in range(6):
        matches(samples(system, k), data.x[labels == k % 4])
    assert not torch.equal(samples(system, 0), samples(system, 4))  # alike in two moments only


def test_fewer_generators_than_components_share_them(data: Dataset) -> None:
    system = built(DMGANPLConfig(fitted_start=True, n_generators=2), data)
    labels = find_partition(data.x, PartitionConfig(), 2).labels
    for k in range(2):
        matches(samples(system, k), data.x[labels == k])


def test_a_single_generator_starts_on_the_whole(data: Dataset) -> None:
    matches(samples(built(TopoSamplerConfig(fitted_start=True), data)), data.x)


def test_the_last_layer_alone_is_another(data: Dataset) -> None:
    fitted = built(DMGANPLConfig(fitted_start=True), data).state_dict()
    plain = built(DMGANPLConfig(), data).state_dict()
    differ = [name for name, x in plain.items() if not torch.equal(x, fitted[name])]
    assert len(differ) == 2
    assert {plain[name].shape[:2] for name in differ} == {(10, 2)}  # weights and biases of ten generators


def test_shards_hold_what_the_whole_has(data: Dataset) -> None:
    config = DMGANPLConfig(fitted_start=True, n_generators=5)
    whole, part = built(config, data), built(config, data, shard=Shard(1, 2))
    for name, x in part.generators.state_dict().items():
        assert torch.equal(x, whole.generators.state_dict()[name][1::2])


def test_it_is_said_and_counts_no_two_K_in_one_program(data: Dataset) -> None:
    report = DMGANPLConfig(fitted_start=True).prepare(data).report
    assert report is not None
    assert report["in_words"][-1] == (
        "start    10 generators, in turn, on 4 parts of the data: with the mean and covariance"
    )
    assert DMGANPLConfig().prepare(data).report is None
    assert DMGANPLConfig().masks_generators
    assert not DMGANPLConfig(fitted_start=True).masks_generators


def bounded(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(latent_dim, shape[0]), nn.Tanh())


def without_bias(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    return nn.Linear(latent_dim, shape[0], bias=False)


def test_what_is_refused(data: Dataset) -> None:
    config = DMGANPLConfig(fitted_start=True)
    with pytest.raises(UserError, match="these go on after it"):
        built(config, data, networks=Networks(generator=bounded))
    with pytest.raises(UserError, match=r"linear layer with a bias, and these end with Linear"):
        built(config, data, networks=Networks(generator=without_bias))
    with pytest.raises(UserError, match=r"end with Scale"):
        built(TopoSamplerConfig(fitted_start=True, network={"kind": "orthogonal"}), data)
    with pytest.raises(UserError, match=r"fitted_start true is for points here"):
        config.check_data(DigitsConfig().load())
