"""Lengths, deaths and losses: gradients against the full distance matrix, identities, and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toposampler.topology import deaths, edge_lengths, paired_signature_loss, signature_loss, signatures, spanning_tree
from toposampler.topology.edge_lengths import _lengths_and_directions


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, 1)).Q


def matrix(x: Tensor) -> Tensor:
    """All distances (n, n), differentiable: what this package does not need."""
    return torch.linalg.vector_norm(x.unsqueeze(1) - x, dim=2)


def gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x)[0]


def reference_paired(x: Tensor, z: Tensor) -> Tensor:
    """Moor et al. 2020 as printed, by matrices of distances."""
    a, b = matrix(x), matrix(z)
    loss = torch.zeros((), dtype=x.dtype)
    for i, j in (spanning_tree(x).unbind(1), spanning_tree(z).unbind(1)):
        loss = loss + (a[i, j] - b[i, j]).square().sum() / len(x)
    return loss


@pytest.mark.parametrize("d", [2, 100])
def test_values_and_gradients_are_those_of_the_full_matrix(d: int) -> None:
    x, y, z = normal(50, d), normal(50, 3, 1), 2 * normal(30, d, 2)

    def reference_deaths(x: Tensor) -> Tensor:
        return matrix(x)[spanning_tree(x).unbind(1)].sort().values

    weights = torch.arange(49, dtype=torch.float64)
    for ours, theirs in (
        (lambda x: deaths(x) @ weights, lambda x: reference_deaths(x) @ weights),
        (lambda x: paired_signature_loss(x, y), lambda x: reference_paired(x, y)),
        (lambda x: paired_signature_loss(y, x), lambda x: reference_paired(y, x)),
        (lambda x: signature_loss(x, y), lambda x: (reference_deaths(x) - deaths(y)).square().mean()),
        (
            lambda x: signature_loss(z, x, longest=7),
            lambda x: (reference_deaths(x)[-7:] - deaths(z)[-7:]).square().mean(),
        ),
    ):
        assert ours(x).item() == pytest.approx(theirs(x).item(), rel=1e-12)
        expected = gradient(theirs, x)
        assert (gradient(ours, x) - expected).abs().max() < 1e-8 * expected.abs().max()


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150, 1e-310, 1e300])
@pytest.mark.parametrize("name", ["paired", "equal", "longest", "fewer"])
def test_losses_on_the_cpu_are_what_other_devices_run(name: str, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    few = 23 if name == "fewer" else 50
    clouds = scale * normal(50, 5), scale * normal(few, 3, 1)
    clouds[0][:9] = clouds[0][9:18]  # zero lengths
    loss = {"paired": paired_signature_loss, "longest": partial(signature_loss, longest=7)}.get(name, signature_loss)

    def run(needed: tuple[bool, bool]) -> tuple[Tensor, list[Tensor | None]]:
        x, y = (cloud.clone().requires_grad_(of) for cloud, of in zip(clouds, needed, strict=True))
        value = loss(x, y)
        (3 * value).backward()
        return value.detach(), [x.grad, y.grad]

    value, gradients = run((True, True))
    assert run((True, False))[1][1] is None
    for alone, both in ((run((True, False))[1][0], gradients[0]), (run((False, True))[1][1], gradients[1])):
        assert torch.equal(alone, both)
    with monkeypatch.context() as patch:
        patch.setattr(signatures, "_on_host", lambda x, y: False)
        expected, slopes = run((True, True))
    assert torch.allclose(value, expected, rtol=1e-12, atol=0)
    assert slopes[0].isfinite().all()
    for ours, theirs in zip(gradients, slopes, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max() + 1e-322


def test_gradients_are_those_of_finite_differences() -> None:
    x, y = normal(9, 4).requires_grad_(), normal(12, 3, 1).requires_grad_()
    batch = normal(12, 3).view(2, 6, 3).requires_grad_()
    assert torch.autograd.gradcheck(deaths, batch)
    assert torch.autograd.gradcheck(signature_loss, (x, y))
    assert torch.autograd.gradcheck(paired_signature_loss, (x, y[:9]))


def test_what_other_devices_run_is_the_same() -> None:
    x = torch.cat([normal(30, 5), normal(30, 5)[:4]])  # duplicates: zero lengths
    for scale in (1.0, 1e-200, 1e200):
        points, edges = scale * x, spanning_tree(x)
        lengths, directions = _lengths_and_directions(points, edges)
        i, j = edges.unbind(1)
        assert torch.allclose(lengths, edge_lengths(points, edges), rtol=1e-14, atol=0)
        for k in range(3):
            by_hand = torch.zeros_like(x)
            by_hand[i[-1 - k]] += directions[-1 - k]
            by_hand[j[-1 - k]] -= directions[-1 - k]
            ours = gradient(lambda p, e=edges[-1 - k]: edge_lengths(p, e.view(1, 2)).sum(), points)
            assert torch.allclose(ours, by_hand, rtol=1e-14, atol=1e-14)
        assert torch.equal(directions[:4], torch.zeros(4, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, s) for s in (1.0, 1e30, 1e-30, 1e-38)] + [(torch.float64, s) for s in (1e300, 1e-300)],
)
def test_lengths_and_gradients_scale_to_the_ends_of_the_range(dtype: torch.dtype, scale: float) -> None:
    x = normal(40, 20)
    scaled = (scale * x).to(dtype)
    assert torch.allclose(deaths(scaled).double() / scale, deaths(x), rtol=2e-5, atol=0)
    expected = gradient(lambda x: deaths(x).sum(), x)
    assert torch.allclose(gradient(lambda x: deaths(x).sum(), scaled).double(), expected, rtol=0, atol=1e-4)


def test_a_zero_length_has_zero_gradient() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]], requires_grad=True)
    lengths = deaths(x)
    assert lengths.tolist() == [0.0, 5.0]
    (zero,) = torch.autograd.grad(lengths[0], x, retain_graph=True)
    assert torch.equal(zero, torch.zeros(3, 2))
    (five,) = torch.autograd.grad(lengths[1], x)
    assert torch.allclose(five[2], torch.tensor([0.6, 0.8]))
    assert torch.allclose(five.sum(0), torch.zeros(2), atol=1e-7)
    everything = gradient(lambda x: deaths(x).square().sum(), torch.zeros(5, 3))
    assert torch.equal(everything, torch.zeros(5, 3))


def test_an_edge_to_no_point_is_refused() -> None:
    with pytest.raises(IndexError):
        edge_lengths(normal(5, 2), torch.tensor([[0, 5]]))


def test_no_second_derivative_is_promised() -> None:
    x, y = normal(5, 2).requires_grad_(), normal(5, 2, 1)
    losses = (
        lambda x: deaths(x).square().sum(),
        lambda x: deaths(x.T.contiguous().T).sum(),  # the gradient by the lengths does not depend on x
        lambda x: signature_loss(x, y),
        lambda x: paired_signature_loss(y, x),
    )
    for loss in losses:
        (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()


def test_losses_are_zero_on_equal_clouds_whatever_their_order_and_place() -> None:
    x = normal(40, 6)
    moved = x[torch.randperm(40, generator=torch.Generator().manual_seed(0))] @ rotation(6) + 3
    assert signature_loss(x, x).item() == 0
    assert signature_loss(x, moved).item() == pytest.approx(0, abs=1e-24)
    assert paired_signature_loss(x, x @ rotation(6) + 3).item() == pytest.approx(0, abs=1e-24)
    assert paired_signature_loss(x, moved).item() > 0.1  # pairs count
    assert signature_loss(x, 1.1 * x).item() == pytest.approx(0.01 * deaths(x).square().mean().item(), rel=1e-9)


def test_symmetry_and_scaling() -> None:
    x, y, few = normal(40, 6), normal(40, 3, 1), normal(17, 3, 2)
    assert signature_loss(x, y).item() == pytest.approx(signature_loss(y, x).item(), rel=1e-12)
    assert signature_loss(x, few).item() == pytest.approx(signature_loss(few, x).item(), rel=1e-12)
    assert paired_signature_loss(x, y).item() == pytest.approx(paired_signature_loss(y, x).item(), rel=1e-12)
    for loss, other in ((signature_loss, few), (paired_signature_loss, y)):
        assert loss(5 * x, 5 * other).item() == pytest.approx(25 * loss(x, other).item(), rel=1e-12)


def test_points_on_a_line_by_hand() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [6.0]])  # bars 1, 2, 3
    y = torch.tensor([[0.0], [2.0], [6.0], [11.0]])  # bars 2, 4, 5
    two = torch.tensor([[0.0], [2.0], [6.0]])  # bars 2, 4
    assert deaths(x).tolist() == [1, 2, 3]
    assert signature_loss(x, y).item() == pytest.approx((1 + 4 + 4) / 3)
    assert signature_loss(x, y, longest=1).item() == pytest.approx(4)
    assert signature_loss(x, two, longest=2).item() == pytest.approx((0 + 1) / 2)
    # quantile functions 1, 2, 3 on thirds and 2, 4 on halves
    assert signature_loss(x, two).item() == pytest.approx((1**2 * 2 + 0**2 * 1 + 2**2 * 1 + 1**2 * 2) / 6)
    z = torch.tensor([[0.0], [1.0], [3.0], [2.0]])  # tree: 0-1, 1-3, 3-2; x's there: 1, 5, 3; z on x's tree: 1, 2, 1
    assert paired_signature_loss(x, z).item() == pytest.approx(((0 + 0 + 4) + (0 + 16 + 4)) / 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000))
def test_unequal_sizes_are_equal_sizes_after_repetition(n: int, m: int, seed: int) -> None:
    x, y = normal(n, 2, seed), normal(m, 3, seed + 1)
    a, b = deaths(x).numpy(), deaths(y).numpy()
    common = math.lcm(len(a), len(b))
    expected = np.square(np.repeat(a, common // len(a)) - np.repeat(b, common // len(b))).mean()
    assert signature_loss(x, y).item() == pytest.approx(expected, rel=1e-10)


def test_autocast_changes_nothing() -> None:
    x, y = normal(200, 70).float(), normal(200, 30, 1).float()
    losses = (
        lambda x: signature_loss(x, y),
        lambda x: signature_loss(x, y[:90]),
        lambda x: paired_signature_loss(x, y),
    )
    for loss in losses:
        value, slope = loss(x), gradient(loss, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(loss(x), value)
            assert torch.equal(gradient(loss, x), slope)
            half = gradient(loss, x.bfloat16())
        assert loss(x.bfloat16()).dtype == torch.float32
        assert torch.equal(half, gradient(loss, x.bfloat16().float()).bfloat16())
    assert signature_loss(x.double(), y.double()).dtype == torch.float64


def test_gradient_flows_into_what_requires_it() -> None:
    x, y = normal(20, 3).requires_grad_(), normal(15, 3, 1)
    signature_loss(x, y).backward()
    assert x.grad is not None
    assert y.grad is None
    assert not signature_loss(y, y).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: signature_loss(x, x[:5], longest=5), "longest is 5, but the 5 points of y have 4 bars"),
        (lambda x: signature_loss(x, x, longest=0), "longest is 0, but the 9 points of x have 8 bars"),
        (lambda x: signature_loss(x, x[None]), r"expected one cloud \(n, d\) as y, got shape \(1, 9, 2\)"),
        (lambda x: signature_loss(x, x[:1]), "expected at least 2 points, got 1"),
        (lambda x: paired_signature_loss(x, x[:7]), "expected paired points, got 9 of x and 7 of z"),
        (lambda x: paired_signature_loss(x[0], x), r"expected one cloud \(n, d\) as x, got shape \(2,\)"),
        (lambda x: deaths(x / 0), "18 of 18 coordinates are NaN or infinite"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call(normal(9, 2))
