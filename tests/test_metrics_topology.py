"""Topological metrics: closed forms, identities, the plain definitions, and the authors' own number."""

from __future__ import annotations

import gudhi
import gudhi.hera
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toposampler.metrics.topology import cross_barcode1, diagram0_w1, mtop_div
from toposampler.topology import deaths

torch.set_num_threads(1)

LENGTHS = st.lists(st.floats(0, 100), min_size=1, max_size=12)


def cloud(n: int, d: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_a_line(lengths: list[float]) -> Tensor:
    """Points (n + 1, 1) whose neighbors are these n lengths apart."""
    return torch.tensor([0.0, *lengths], dtype=torch.float64).cumsum(0)[:, None]


def cheapest_matching(a: list[float], b: list[float]) -> float:
    """Least cost of matching sorted lengths in order, each to one of the others or, for half of it, to none."""
    a, b = sorted(a), sorted(b)
    cost = np.zeros((len(a) + 1, len(b) + 1))
    cost[1:, 0], cost[0, 1:] = np.cumsum(a) / 2, np.cumsum(b) / 2
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            unmatched = min(cost[i, j + 1] + one / 2, cost[i + 1, j] + other / 2)
            cost[i + 1, j + 1] = min(cost[i, j] + abs(one - other), unmatched)
    return float(cost[-1, -1])


def cross_barcode1_by_definition(P: Tensor, Q: Tensor) -> float:
    both = torch.cat((P, Q))
    distance = (both[:, None] - both).norm(dim=2)
    distance[len(P) :, len(P) :] = 0
    simplices = gudhi.RipsComplex(distance_matrix=distance.numpy()).create_simplex_tree(max_dimension=2)
    simplices.compute_persistence()
    return float(np.diff(simplices.persistence_intervals_in_dimension(1)).sum())


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [([1, 2], [1, 4], 2), ([1], [10], 5.5), ([3], [3], 0), ([1, 1], [1], 0.5), ([0, 0], [0], 0), ([0, 0, 2], [0], 1)],
)
def test_diagram_distance_in_closed_form(a: list[float], b: list[float], distance: float) -> None:
    assert diagram0_w1(on_a_line(a), on_a_line(b)) == pytest.approx(distance)


@settings(deadline=None)
@given(LENGTHS, LENGTHS)
def test_diagram_distance_is_that_of_the_cheapest_matching(a: list[float], b: list[float]) -> None:
    x, y = on_a_line(a), on_a_line(b)
    expected = cheapest_matching(x.diff(dim=0)[:, 0].tolist(), y.diff(dim=0)[:, 0].tolist())
    assert diagram0_w1(x, y) == pytest.approx(expected, abs=1e-9)
    assert diagram0_w1(y, x) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 2), (200, 300, 5)])
def test_diagram_distance_is_heras(n: int, m: int, d: int) -> None:
    x, y = cloud(n, d), 2 * cloud(m, d, seed=1)
    diagrams = [torch.stack((torch.zeros(len(c) - 1), deaths(c)), dim=1).double().numpy() for c in (x, y)]
    assert diagram0_w1(x, y) == pytest.approx(gudhi.hera.wasserstein_distance(*diagrams, order=1, delta=1e-6), rel=1e-5)


def test_diagram_distance_knows_shape_alone() -> None:
    x, y = cloud(200, 3), 2 * cloud(200, 3, seed=1)
    rotation = torch.linalg.qr(cloud(3, 3, seed=2)).Q
    moved = (x @ rotation + 5)[torch.arange(200).flip(0)]
    assert diagram0_w1(x, moved) == pytest.approx(0, abs=1e-9)
    assert diagram0_w1(moved, y) == pytest.approx(diagram0_w1(x, y))
    assert diagram0_w1(10 * x, 10 * y) == pytest.approx(10 * diagram0_w1(x, y))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "m", "d"), [(12, 30, 2), (30, 12, 2), (20, 20, 5), (15, 1, 2), (1, 15, 2)])
def test_cross_barcode_is_that_of_the_definition(n: int, m: int, d: int, seed: int) -> None:
    P, Q = cloud(n, d, seed), cloud(m, d, seed + 100) + 0.5
    assert cross_barcode1(P, Q) == pytest.approx(cross_barcode1_by_definition(P, Q), abs=1e-6)


def test_mtop_div_is_the_authors() -> None:
    rng = np.random.RandomState(7)  # the example in the README of github.com/IlyaTrofimov/MTopDiv: 0.035247244
    P, Q = (torch.from_numpy(rng.rand(1000, 2)) for _ in range(2))
    values = []
    for _ in range(21):
        q, p = rng.choice(1000, 1000, replace=False), rng.choice(1000, 100, replace=False)
        values.append(cross_barcode1(P[p], Q[q]))
    assert np.mean(values[1:]) == pytest.approx(0.035247244, rel=1e-6)  # it draws, and drops, one batch before


def test_mtop_div_takes_full_batches_only() -> None:
    x, y = (torch.randn(130, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    by_hand = (cross_barcode1(x[:100], y) + cross_barcode1(y[:100], x)) / 2
    assert mtop_div(x, y, batch=100, repeats=2) == by_hand
    assert mtop_div(x[:30], y[:30], batch=100, repeats=2) == (
        (cross_barcode1(x[:30], y[:30]) + cross_barcode1(y[:30], x[:30])) / 2
    )


def test_mtop_div_of_points_among_the_others_is_zero() -> None:
    P = cloud(100)
    assert cross_barcode1(P, P) == pytest.approx(0, abs=1e-6)
    assert cross_barcode1(P[:30], P) == pytest.approx(0, abs=1e-6)
    assert cross_barcode1(P, P[:30]) > 0.1
    assert cross_barcode1(P[:1].repeat(40, 1), P) == pytest.approx(0, abs=1e-6)


def test_mtop_div_sees_what_is_missing_and_what_is_invented() -> None:
    two = torch.cat((cloud(500), cloud(500, seed=1) + torch.tensor([8.0, 0.0])))[torch.randperm(1000)]
    one = cloud(1000, seed=2)
    alike = mtop_div(two, two.flip(0) + 0.01, batch=100, repeats=3)
    assert mtop_div(two, one, batch=100, repeats=3) > 5 * alike
    assert mtop_div(one, two, batch=100, repeats=3) == mtop_div(two, one, batch=100, repeats=3)


def test_mtop_div_grows_with_a_gap() -> None:
    P, Q = cloud(100), cloud(300, seed=1)
    values = [cross_barcode1(P, Q[(Q[:, 0].abs() > gap / 2)]) for gap in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[-1] > 2 * values[0]


def test_mtop_div_knows_shape_alone() -> None:
    P, Q = cloud(60, 3), cloud(90, 3, seed=1)
    rotation = torch.linalg.qr(cloud(3, 3, seed=2)).Q
    value = cross_barcode1(P, Q)
    assert cross_barcode1((P @ rotation + 5).flip(0), (Q @ rotation + 5).flip(0)) == pytest.approx(value, rel=1e-6)
    assert cross_barcode1(1e6 * P, 1e6 * Q) == pytest.approx(1e6 * value, rel=1e-6)
