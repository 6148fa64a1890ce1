"""The number of components: of blobs one, of blobs apart as many as there are, outliers or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from toposampler.topology import Components, estimate_components


def blobs(kind: str, k: int, n: int, d: int, seed: int) -> Tensor:
    """n points in k blobs on a line, 4 radii apart."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (n, d)) if kind == "uniform" else generator.normal(size=(n, d))
    radius = 1.0
    if kind == "sphere":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    else:
        radius = np.sqrt(d) + 2
    return torch.from_numpy(x + 4 * radius * (np.arange(n) % k)[:, None] * np.eye(d)[0])


@pytest.mark.parametrize("kind", ["normal", "uniform", "sphere"])
@pytest.mark.parametrize("d", [2, 5, 101])
@pytest.mark.parametrize("n", [100, 1000])
def test_a_blob_is_one_component(kind: str, d: int, n: int) -> None:
    for seed in range(20 if n == 100 else 3):
        found = estimate_components(blobs(kind, 1, n, d, seed))
        assert (found.count, found.persistence, found.ratio) == (1, 0, 1)
        assert found.within > 0


@pytest.mark.parametrize("kind", ["normal", "uniform", "sphere"])
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("d", [2, 5, 101])
def test_blobs_apart_are_counted_with_outliers_and_without(kind: str, k: int, d: int) -> None:
    for n in (300, 1000):
        x = blobs(kind, k, n, d, seed=n)
        assert estimate_components(x).count == k
        outliers = n // 200
        x[:outliers] = x.abs().max() * (2 * torch.rand(outliers, d, generator=torch.Generator().manual_seed(n)) - 1)
        assert estimate_components(x).count == k


def test_two_pairs_of_segments_by_hand() -> None:
    at = torch.tensor([0.0, 1, 2, 4, 5, 6, 100])  # the last one is an outlier
    assert estimate_components(at.unsqueeze(1), smallest=3) == Components(2, within=1.0, separating=2.0)
    assert estimate_components(at.unsqueeze(1), smallest=4).count == 1
    # Every point may be a component: then the outlier is one.
    assert estimate_components(at.unsqueeze(1), smallest=1) == Components(3, within=1.0, separating=2.0)


def test_collapsed_components_are_infinitely_prominent() -> None:
    x = torch.tensor([0.0, 0.0, 3.0]).repeat(10).unsqueeze(1)
    found = estimate_components(x)
    assert found == Components(2, within=0.0, separating=3.0)
    assert found.ratio == np.inf
    assert estimate_components(torch.zeros(30, 2)) == Components(1, within=0.0, separating=0.0)


def test_scale_rotation_and_order_change_nothing() -> None:
    x = blobs("sphere", 3, 200, 5, seed=1)
    found = estimate_components(x)
    turned = 7 * x[torch.randperm(200)] @ torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q + 2
    other = estimate_components(turned)
    assert other.count == found.count == 3
    assert other.persistence == pytest.approx(7 * found.persistence, rel=1e-9)
    assert other.ratio == pytest.approx(found.ratio, rel=1e-9)


def test_what_is_not_a_cloud_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^smallest is 0, but a component has at least 1 point$"):
        estimate_components(torch.randn(5, 2), smallest=0)
    with pytest.raises(ValueError, match=r"^expected one cloud \(n, d\), got shape \(2, 5, 2\)$"):
        estimate_components(torch.randn(2, 5, 2))
