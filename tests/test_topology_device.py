"""The signature loss as a GPU computes it, here on CPU tensors, against the compiled loops."""

from __future__ import annotations

import pytest
import torch
from test_topology_tree import cloud

from toposampler.topology import signature_loss
from toposampler.topology.device_losses import unpaired_on_device
from toposampler.topology.points import unit, unit_on_device


@pytest.mark.parametrize("kind", ["normal", "collapsed", "tiny", "duplicates"])
@pytest.mark.parametrize(("n", "m", "longest"), [(9, 9, 0), (12, 7, 0), (9, 12, 3)])
def test_values_and_gradients_are_those_of_the_host(kind: str, n: int, m: int, longest: int) -> None:
    x = torch.stack([cloud(kind, n, 3, seed) for seed in (0, 1)])
    y = torch.stack([cloud("normal", m, 2, seed) for seed in (2, 3)])
    loss, by_x, by_y = unpaired_on_device(x, y, longest, True, True)
    for i in range(2):
        a, b = x[i].clone().requires_grad_(), y[i].clone().requires_grad_()
        expected = signature_loss(a, b, longest or None)
        expected.backward()
        assert torch.allclose(loss[i], expected.detach(), rtol=1e-9, atol=0)
        assert torch.allclose(by_y[i], b.grad, rtol=1e-8, atol=1e-12)
        if kind in ("normal", "tiny"):  # of trees with ties any one is right
            assert torch.allclose(by_x[i], a.grad, rtol=1e-8, atol=1e-12)


def test_a_cloud_that_is_not_finite_is_nan_alone() -> None:
    x, y = torch.randn(3, 8, 2), torch.randn(3, 8, 2)
    clean = unpaired_on_device(x, y, 0, True, False)
    x[1, 2, 0] = torch.inf
    loss, by_x, none = unpaired_on_device(x, y, 0, True, False)
    assert none.numel() == 0
    assert loss[1].isnan()
    assert by_x[1].isnan().all()
    for i in (0, 2):
        assert torch.equal(loss[i], clean[0][i])
        assert torch.equal(by_x[i], clean[1][i])


@pytest.mark.parametrize("scale", [1.0, 1e-30, 3e30, 1e-42])
def test_clouds_are_scaled_as_on_the_host(scale: float) -> None:
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) * scale
    assert torch.equal(unit_on_device(x), torch.stack([unit(points) for points in x]))
