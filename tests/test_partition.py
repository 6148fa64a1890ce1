"""The components of a data set: every sample's, their masses with intervals, parts as asked, what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from toposampler.data.digits import DigitsConfig
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.lines import LinesConfig
from toposampler.priors.communities import CommunitiesConfig
from toposampler.priors.partition import Partition, PartitionConfig, find_partition, wilson_interval

SMALL, FINE = PartitionConfig(sample=500), PartitionConfig(sample=2000)


def same_partition(a: Tensor, b: Tensor) -> bool:
    """Whether labels a and b (n,) cut the samples alike."""
    pairs = torch.stack([a, b], dim=1).unique(dim=0)
    return len(pairs) == len(a.unique()) == len(b.unique())


def test_every_sample_gets_its_component_from_those_that_were_looked_at() -> None:
    data = LinesConfig(n=5000, weights=(0.7, 0.1, 0.1, 0.1)).load()
    found = find_partition(data.x, FINE)
    assert data.labels is not None
    assert same_partition(found.labels, data.labels)
    assert found.masses.tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])
    assert (found.found, found.agreement, found.sample) == (4, 1.0, 2000)
    state = torch.get_rng_state()
    assert torch.equal(find_partition(data.x, FINE).labels, found.labels)
    assert torch.equal(torch.get_rng_state(), state)


def test_many_dimensions_are_looked_at_through_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    x = torch.randn(300, 10_000, generator=generator)
    x[:, :3] += 100 * torch.nn.functional.one_hot(labels, 3)
    assert same_partition(find_partition(x.view(300, 1, 100, 100), SMALL).labels, labels)


def test_a_million_samples_are_looked_at_through_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    from toposampler.topology import clusters

    whole = clusters.find_clusters

    def noted(x, **keys):  # type: ignore[no-untyped-def]
        looked_at.append(len(x))
        return whole(x, **keys)

    monkeypatch.setattr(clusters, "find_clusters", noted)
    x = GaussiansConfig(n=100_000, layout="ring", n_modes=3).load().x.repeat(10, 1)
    found = find_partition(x, PartitionConfig(sample=300))
    assert max(looked_at) == 300
    assert found.masses.tolist() == pytest.approx([1 / 3] * 3, abs=1e-4)


@pytest.mark.parametrize(("number", "masses"), [(1, [1.0]), (2, [0.75, 0.25]), (6, [0.25] * 2 + [0.125] * 4)])
def test_other_numbers_of_parts_join_and_cut(number: int, masses: list[float]) -> None:
    found = find_partition(LinesConfig(n=2000).load().x, SMALL, number)
    assert sorted(found.masses.tolist(), reverse=True) == pytest.approx(masses, abs=0.02)
    assert found.found == 4
    with pytest.raises(ValueError, match="3 different"):
        find_partition(torch.tensor([[0.0], [1.0], [5.0]]).repeat(20, 1), SMALL, 4)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return DigitsConfig().load().x


@pytest.mark.parametrize(("number", "parts"), [(None, 13), (5, 5), (16, 16), (1, 1)])
def test_images_without_a_gap_are_cut_into_communities(digits: Tensor, number: int | None, parts: int) -> None:
    found = find_partition(digits, PartitionConfig(), number)
    assert (found.found, len(found.masses)) == (1, parts)
    if number == 1:
        assert found.communities is None
        return
    assert found.communities is not None
    assert (found.communities.count, found.communities.accepted) == (13, True)
    words, report = found.in_words(), found.report()
    assert words[1].startswith("cut      into 13 communities of the neighbor graph (modularity 0.87")
    assert ("parts as asked" in words[0]) == (number is not None)
    assert "taken as one component, and cut" in report["against"][0]
    assert report["communities"]["modularity"] > report["communities"]["modularity_by_chance"] + 0.3
    assert 0.7 < report["communities"]["agreement_of_halves"] < 1


def test_who_is_cut(digits: Tensor) -> None:
    """Images beyond chance by the margin; points only if asked; nothing that is normal."""
    points = digits.flatten(1)

    def found(x: Tensor, **keys: Any) -> Partition:
        return find_partition(x, PartitionConfig(sample=500, communities=CommunitiesConfig(**keys)))

    assert found(points).communities is None
    assert len(found(points, cut="always").masses) == 13
    assert len(found(digits, cut="never").masses) == 1
    assert len(found(digits, sample=900).masses) >= 8  # the others are of the community of their nearest
    strict = found(digits, margin=0.5)
    assert len(strict.masses) == 1
    assert strict.in_words()[1].startswith("not cut  into communities of the neighbor graph: 0.5 beyond chance")
    assert strict.against()[0].endswith("so all data are taken as one component")
    normal = torch.randn(600, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert len(found(normal).masses) == 1
    assert found(normal[:1]).communities is None  # too few to be two
    assert len(found(normal[:1].repeat(100, 1, 1, 1)).masses) == 1  # repetitions of one


def test_wilson_s_interval_is_scipy_s() -> None:
    low, high = wilson_interval(torch.tensor([0, 7, 50]), 50)
    for k, a, b in zip((0, 7, 50), low.tolist(), high.tolist(), strict=True):
        expected = binomtest(k, 50).proportion_ci(method="wilson")
        assert (a, b) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_what_is_said() -> None:
    one = find_partition(torch.randn(400, 2, generator=torch.Generator().manual_seed(0)), SMALL).report()
    assert one["components"] == one["generators"] == 1
    assert one["least_prominence"] is None
    assert one["against"][0].startswith("no gap")
    four = find_partition(LinesConfig(n=1000).load().x, SMALL, 5).report()
    assert (four["components"], four["generators"], four["agreement_of_halves"]) == (4, 5, 1.0)
    assert all(a < m < b for m, (a, b) in zip(four["masses"], four["masses_95"], strict=True))
    assert "less than 3.00%" in four["against"][-1]
    assert "4 components" in four["in_words"][0]
    assert "5 parts" in four["in_words"][0]
