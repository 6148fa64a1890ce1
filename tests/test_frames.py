"""Frames: mean, covariance and marginals of components, and shapes that Gaussianization fits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from toposampler.metrics.distance import energy_distance
from toposampler.priors.frames import KNOTS, REACH, Frames, _gamma_share


def drawn(frames: Frames, n: int, k: int = 0) -> Tensor:
    """n samples of component k, (n, D) float64."""
    z = torch.randn(n, frames.scales.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    c = torch.full((n,), k)
    return frames.color(frames.fill(z, c), c)


def half_circle(n: int) -> Tensor:
    angle = math.pi * torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_frames_are_mean_covariance_and_marginals() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40_000) % 2
    mixing = torch.tensor([[[2.0, 0.5], [0.0, 0.3]], [[0.1, 0.0], [0.3, 1.0]]])
    uniform = 2 * math.sqrt(3) * (torch.rand(40_000, 2, generator=generator) - 0.5)
    y = torch.where(labels[:, None] == 0, torch.randn(40_000, 2, generator=generator), uniform)
    x = torch.einsum("nij,nj->ni", mixing[labels], y) + 5 * labels[:, None]
    frames = Frames.of(x, labels, 2, 1e-3)
    y = frames.whiten(x.double(), labels)
    for k in range(2):
        part = y[labels == k]
        torch.testing.assert_close(part.T @ part / len(part), torch.eye(2).double(), atol=1e-6, rtol=0)
        assert frames.mean[k].tolist() == pytest.approx(x[labels == k].mean(dim=0).tolist(), abs=1e-5)
    torch.testing.assert_close(frames.color(y, labels), x.double(), atol=1e-6, rtol=0)
    z = torch.randn(20_000, 2, generator=generator).double()
    drawn = frames.fill(z, torch.zeros(20_000, dtype=torch.long))
    assert (drawn - z).abs().mean() < 0.02  # normal data have normal marginals
    for k in range(2):
        ours = frames.fill(z, torch.full((20_000,), k)).sort(dim=0).values
        theirs = y[labels == k].sort(dim=0).values
        assert (ours - theirs).abs().mean() < 0.03


def test_frames_of_flat_and_of_single_points() -> None:
    x = torch.cat([torch.linspace(0, 1, 11)[:, None] * torch.tensor([3.0, 4.0]), torch.ones(5, 2)])
    labels = torch.tensor([0] * 11 + [1] * 5)
    frames = Frames.of(x, labels, 2, 0.1)
    assert frames.scales[0].tolist() == pytest.approx([5 * math.sqrt(0.1), 0.5 * math.sqrt(0.1)])
    assert frames.scales[1].tolist() == [1, 1]
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double()
    made = frames.color(frames.fill(z, labels[:1].expand(100)), labels[:1].expand(100))
    assert (made @ torch.tensor([4.0, -3.0]).double()).abs().max() < 1e-6  # on the segment
    made = frames.color(frames.fill(z, labels[-1:].expand(100)), labels[-1:].expand(100))
    torch.testing.assert_close(made, torch.ones(100, 2).double())


def test_iterations_bend_to_the_shape_of_a_component() -> None:
    x, labels = half_circle(5000), torch.zeros(5000, dtype=torch.long)
    off = {}
    for L in (1, 8, 48):
        frames = Frames.of(x, labels, 2, 0.1, L)
        assert frames.iterations <= L
        made = drawn(frames, 3000)
        radius = torch.linalg.vector_norm(made, dim=1)
        off[L] = float(((radius - 1).abs() > 0.05).double().mean())
    assert off[1] > 0.7
    assert off[8] < off[1] / 2
    assert off[48] < 0.06
    assert math.sqrt(energy_distance(made, half_circle(3000))) < 0.05


@pytest.mark.parametrize(("n", "d"), [(100, 2), (2000, 2), (2000, 16)])
def test_normal_data_take_one_iteration(n: int, d: int) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    frames = Frames.of(x, torch.zeros(n, dtype=torch.long), d, 0.1, 48)
    assert frames.iterations == 1
    assert drawn(frames, 20_000).std(dim=0).tolist() == pytest.approx(x.std(dim=0).tolist(), rel=0.05)


def test_as_many_iterations_as_the_part_that_takes_most() -> None:
    x = torch.cat([half_circle(2000), 5 + torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).double()])
    frames = Frames.of(x, torch.arange(4000) // 2000, 2, 0.1, 10)
    assert frames.iterations == 10
    assert frames.quantiles.shape == (2, 10, 2, KNOTS)
    assert frames.rotations.shape == (2, 9, 2, 2)
    assert torch.equal(frames.rotations[1], torch.eye(2).double().expand(9, 2, 2))
    knots = torch.linspace(-REACH, REACH, KNOTS).double().expand(9, 2, KNOTS)
    assert torch.equal(frames.quantiles[1, 1:], knots)


def test_flat_directions_stay_flat_and_values_that_repeat_are_kept() -> None:
    angle = half_circle(2000)
    x = torch.cat([angle, torch.zeros(2000, 1)], dim=1)
    made = drawn(Frames.of(x, torch.zeros(2000, dtype=torch.long), 3, 0.1, 20), 500)
    assert made[:, 2].abs().max() < 1e-9
    x = torch.from_numpy(np.repeat([[0.0], [1.0], [3.0]], [200, 500, 300], axis=0))
    made = drawn(Frames.of(x, torch.zeros(1000, dtype=torch.long), 1, 0.1, 20), 4000)[:, 0]
    at = [float(((made - value).abs() < 1e-6).double().mean()) for value in (0, 1, 3)]
    assert at == pytest.approx([0.2, 0.5, 0.3], abs=0.06)  # a value between two knots is drawn between them


def test_many_directions_are_found_by_random_projections() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(1500, 3, generator=generator, dtype=torch.float64)).Q
    x = 7 + torch.randn(200, 3, generator=generator, dtype=torch.float64) * torch.tensor([9.0, 4, 2]) @ basis.T
    state = torch.get_rng_state()
    frames = Frames.of(x, torch.zeros(200, dtype=torch.long), 3, 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(frames.axes[0] @ (frames.axes[0].T @ basis), basis)
    y = frames.whiten(x, torch.zeros(200, dtype=torch.long))
    torch.testing.assert_close(frames.color(y, torch.zeros(200, dtype=torch.long)), x)
    more = Frames.of(x[:2], torch.zeros(2, dtype=torch.long), 5, 0.1)  # more directions than samples
    assert torch.isfinite(drawn(more, 10)).all()


def test_of_many_samples_some_at_random_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposampler.priors.frames.MOST_SAMPLES", 500)
    x = torch.linspace(0, 1, 100_000, dtype=torch.float64)[:, None]  # in order
    frames = Frames.of(x, torch.zeros(100_000, dtype=torch.long), 1, 0.1)
    assert float(frames.mean) == pytest.approx(0.5, abs=0.05)
    assert float(frames.scales) == pytest.approx(12**-0.5, abs=0.03)


@pytest.mark.parametrize("d", [2, 3, 20])
def test_a_sphere_of_any_dimension_takes_one_iteration(d: int) -> None:
    x = torch.randn(2000, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([torch.nn.functional.normalize(x), torch.zeros(2000, 1)], dim=1)  # flat in one direction
    frames = Frames.of(x.float(), torch.zeros(2000, dtype=torch.long), d + 1, 0.1, 48)
    assert (frames.iterations, frames.symmetric.tolist()) == (1, [d])
    made = drawn(frames, 2000)
    radius = torch.linalg.vector_norm(made[:, :d] - x.mean(dim=0)[:d], dim=1)
    assert ((radius - 1).abs() < 0.1).all()
    assert made[:, d].abs().max() < 1e-6
    assert made.mean(dim=0).abs().max() < 0.1


def test_the_share_within_a_radius_has_derivatives_in_both_modes() -> None:
    a, x = torch.tensor([0.5, 1.0, 3.5, 8.0]).double(), torch.tensor([0.3, 2.0, 3.0, 5.0]).double().requires_grad_()
    assert torch.equal(_gamma_share(a, x), torch.special.gammainc(a, x))
    assert torch.autograd.gradcheck(lambda at: _gamma_share(a, at), x, check_forward_ad=True)
