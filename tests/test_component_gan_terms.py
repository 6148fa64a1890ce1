"""Component GAN's losses, as they are computed, against its equations written out one after the other, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_systems import make_loop
from torch import Tensor
from torch.nn import functional as F

from toposampler.losses.reduction import Terms
from toposampler.systems.batch import Batch, Noise
from toposampler.training import RunConfig
from toposampler.training.loop import Loop

MakeConfig = Callable[..., RunConfig]


def whitened(system: Any, x: Tensor, c: Tensor) -> Tensor:
    """y = S_c^-1 V_c' (x - m_c)."""
    frames = system.frames
    return torch.einsum("nd,ndr->nr", x - frames.mean[c], frames.axes[c]) / frames.scales[c]


def generated(system: Any, noise: Noise) -> Tensor:
    """x = m_c + V_c S_c (q_c(z) + b_c f_c(z))."""
    z, c, frames = noise["z"], noise["c"], system.frames
    change = system.trained[c][:, None] * system.generators(z, c)
    y = frames.fill(z[:, : frames.scales.shape[1]], c) + change
    return frames.mean[c] + torch.einsum("nr,ndr->nd", y * frames.scales[c], frames.axes[c])


def judged(system: Any, x: Tensor, c: Tensor) -> Tensor:
    """D(y, c), with c as columns of 0 and 1."""
    code = F.one_hot(c, system.K).to(x.dtype)
    return system.critic(torch.cat([whitened(system, x, c), code], dim=1))


def critic_terms(system: Any, batch: Batch) -> Terms:
    """The pairs, and R1 and R2 by a gradient by y alone, each on its own."""
    assert batch.labels is not None
    c, scores, penalties = batch.labels, [], []
    for x in (batch.real, batch.fakes()):
        y = whitened(system, x, c).requires_grad_()
        score = system.critic(torch.cat([y, F.one_hot(c, system.K).to(y.dtype)], dim=1))
        (gradient,) = torch.autograd.grad(score.sum(), y, create_graph=True)
        scores.append(score)
        penalties.append(system.config.penalty.weight / 2 * gradient.square().sum(dim=1).mean())
    real, fake = scores
    return {"pairs": F.softplus(fake - real).mean(), "r1": penalties[0], "r2": penalties[1]}


def generator_terms(system: Any, batch: Batch) -> Terms:
    """The pairs as the generators see them."""
    assert batch.labels is not None
    fake = judged(system, generated(system, batch.noise), batch.noise["c"])
    return {"adversarial": F.softplus(judged(system, batch.real, batch.labels) - fake).mean()}


def gradients(loop: Loop, player: str, terms: Terms) -> list[Tensor]:
    """The terms' values, and the gradients of their sum by the player's weights."""
    parameters = loop.players[player].parameters
    torch.stack(list(terms.values())).sum().backward()
    found = [p.grad.clone() for p in parameters if p.grad is not None]
    for p in parameters:
        p.grad = None
    return [*(term.detach() for term in terms.values()), *found]


@pytest.mark.parametrize(
    ("data", "trained"),
    [
        ({"name": "lines", "n": 400}, [1, 1, 1, 1]),
        ({"name": "lines", "n": 400}, [1, 0, 1, 0]),
        ({"name": "circles", "layout": "nested", "n": 600}, [1, 1]),
    ],
    ids=["all are trained", "some are trained", "circles"],
)
def test_losses_equal_the_equations(data: dict[str, Any], trained: list[int], make_config: MakeConfig) -> None:
    keys = {"training__precision": "fp64", "system__game": "always" if all(trained) else "auto"}
    loop = make_loop(make_config("component_gan", data=data, **keys))
    system: Any = loop.system
    system.trained.copy_(torch.tensor(trained))
    system.frames.axes.copy_(torch.linalg.qr(system.frames.axes).Q)  # they are stored in float32, orthonormal to 1e-7
    assert system.frames.has_radii() == (data["name"] == "circles")
    for _ in range(2):
        loop.iteration()  # away from the start, where f_c is 0
    batches, noise = loop._draw(3)
    assert torch.equal(noise["start"], system.frames.fill(noise["z"][:, :2], noise["c"]))
    batch = replace(batches[0], fake=loop.fakes(batches, noise, [0])[0])
    torch.testing.assert_close(batch.fake, generated(system, batches[0].noise).detach(), rtol=0, atol=1e-12)
    for player, terms, loss in (
        ("critic", critic_terms, system.critic_loss),
        ("generator", generator_terms, system.generator_loss),
    ):
        loop.players[player].freeze(False)
        expected, found = (gradients(loop, player, f) for f in (terms(system, batch), loss(batch)))
        loop.players[player].freeze(True)
        assert len(expected) == len(found) > 6
        assert max(float(x.abs().max()) for x in found) > 1e-3
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_whether_a_component_is_symmetric_is_asked_again_after_loading(make_config: MakeConfig) -> None:
    frames = make_loop(make_config("component_gan")).system.frames
    assert not frames.has_radii()
    frames.load_state_dict(frames.state_dict() | {"symmetric": torch.tensor([0.0, 2, 0, 0])})
    assert frames.has_radii()
