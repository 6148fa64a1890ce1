"""Samples against a known support, and mass by component."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.geometry import Discs
from toposampler.metrics.manifold import coverage, modes_covered, off_manifold
from toposampler.metrics.masses import (
    active_generators,
    component_masses,
    component_prior,
    generator_components,
    least_active,
    prior_total_variation,
)

torch.set_num_threads(1)

DISTANCE = torch.tensor([[0.0, 2.0], [0.25, 2.0], [2.0, 0.5], [3.0, 1.0]])
BINS = torch.tensor([[0, 3], [1, 3], [1, 2], [3, 2]])


@pytest.mark.parametrize(("tau", "share"), [(0.0, 0.75), (0.25, 0.5), (0.5, 0.25), (0.9, 0.25), (1.0, 0.0)])
def test_off_manifold_counts_what_is_farther_than_tau_from_every_component(tau: float, share: float) -> None:
    assert off_manifold(DISTANCE, tau) == share


@pytest.mark.parametrize(("tau", "modes"), [(0.0, 1), (0.4, 1), (0.5, 2)])
def test_a_mode_is_covered_by_one_sample_within_tau(tau: float, modes: int) -> None:
    assert modes_covered(DISTANCE, tau) == modes


def perfect_samples(data: GaussiansConfig, modes: list[int]) -> Tensor:
    """2,500 samples whose radii are the quantiles of the true ones, shared out evenly between `modes`."""
    quantiles = (torch.arange(2500) + 0.5) / 2500
    radius, angle = 0.05 * (-2 * torch.log1p(-quantiles)).sqrt(), torch.arange(2500) * 2.4
    centers = data.centers()[modes][torch.arange(2500) % len(modes)]
    return centers + radius[:, None] * torch.stack((angle.cos(), angle.sin()), dim=1)


@pytest.mark.parametrize("modes", [list(range(25)), [0, 7, 24]])
def test_a_perfect_sampler_scores_98_9_percent_and_so_does_one_that_drops_modes(modes: list[int]) -> None:
    data = GaussiansConfig(layout="grid")
    distance = Discs(data.centers(), radius=0.15).distance(perfect_samples(data, modes))
    assert 1 - off_manifold(distance, 0.0) == pytest.approx(1 - math.exp(-4.5), abs=1 / 2500)
    assert modes_covered(distance, 0.0) == len(modes)


@pytest.mark.parametrize(("tau", "shares"), [(0.0, [0.25, 0]), (0.25, [0.5, 0]), (1.0, [0.5, 0.25]), (9, [0.75, 0.5])])
def test_coverage_counts_bins_once(tau: float, shares: list[float]) -> None:
    assert coverage(DISTANCE, BINS, tau, n_bins=4).tolist() == shares


def test_component_masses() -> None:
    assert component_masses(torch.tensor([2, 0, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]


def test_generators_belong_to_the_component_of_most_of_their_samples() -> None:
    ids = torch.tensor([0, 0, 0, 2, 2, 3])
    components = torch.tensor([1, 1, 0, 0, 0, 1])
    assert generator_components(ids, components, 5, 2).tolist() == [1, -1, 0, 1, -1]


def test_component_prior_adds_generators_up() -> None:
    prior = torch.tensor([0.5, 0.125, 0.25, 0.125])
    masses = component_prior(prior, torch.tensor([1, -1, 0, 1]), 3)
    assert masses.tolist() == [0.25, 0.625, 0]
    assert masses.dtype == torch.float64


def test_prior_mass_that_arrives_nowhere_counts_in_full() -> None:
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert prior_total_variation(torch.tensor([0.5, 0.25], dtype=torch.float64), weights) == 0.25
    assert prior_total_variation(torch.zeros(2, dtype=torch.float64), weights) == 1
    assert prior_total_variation(torch.tensor([0.75, 0.25], dtype=torch.float64), weights) == 0.25


def test_active_generators() -> None:
    prior = torch.tensor([0.5, 0.489, 0.011, 0.0])
    assert active_generators(prior) == 3
    assert active_generators(prior, threshold=0.1) == 2


def test_many_equal_generators_are_active() -> None:
    assert active_generators(torch.full((100,), 0.01)) == 100
    assert active_generators(torch.tensor([0.0199] * 50 + [0.0001] * 50)) == 50
    assert [least_active(K) for K in (1, 20, 50)] == [0.01] * 3
    assert least_active(200) == 0.0025
