"""Scores and dD/dx of chains of linear layers and ReLUs, and what their weights are given, against autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from toposampler.nn import critic as critics
from toposampler.nn.critic import ClassCritic, Critic
from toposampler.nn.input_gradient import explicit_layers
from toposampler.nn.score_gradient import chain_of
from toposampler.nn.spectral import spectrally_normalized

TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.Sequential(nn.Linear(3, 7), nn.LeakyReLU(0.2), nn.Linear(7, 5), nn.LeakyReLU(0.1)),
    "relu": lambda: nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU()),
    "no bias": lambda: nn.Sequential(nn.Linear(3, 5, bias=False), nn.LeakyReLU()),
    "spectral": lambda: spectrally_normalized(nn.Sequential(nn.Linear(3, 5), nn.ReLU())),
}


def made(trunk: str) -> tuple[Critic, Tensor]:
    torch.manual_seed(0)
    return Critic(TRUNKS[trunk](), 5).double(), torch.randn(9, 3, dtype=torch.float64)


def loss(scores: Tensor, gradient: Tensor) -> Tensor:
    """Of both, not linear in either."""
    return scores.square().mean() + (gradient.square().sum(dim=1) - 1).square().mean() + (scores * gradient[:, 0]).sum()


@pytest.mark.parametrize("trunk", TRUNKS)
def test_both_equal_autograd_and_so_do_the_gradients_of_a_loss(trunk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    critic, x = made(trunk)
    at = x.clone().requires_grad_()
    scores = critic.head(critic.trunk(at)).squeeze(1)
    (gradient,) = torch.autograd.grad(scores.sum(), at, create_graph=True)
    expected = torch.autograd.grad(loss(scores, gradient), list(critic.parameters()))
    assert all(g.abs().max() > 1e-3 for g in expected)

    monkeypatch.setattr(critics, "pull_back", None)  # what the other pass needs
    found = critic.scores_and_gradient(x)
    torch.testing.assert_close(found[0], scores)
    torch.testing.assert_close(found[1], gradient)
    by_weights = torch.autograd.grad(loss(*found), list(critic.parameters()))
    for one, other in zip(by_weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    again = x.clone().requires_grad_()
    (by_x,) = torch.autograd.grad(critic.scores_and_gradient(again)[0].sum(), again)
    torch.testing.assert_close(by_x, gradient.detach())
    with torch.no_grad():
        assert not critic.scores_and_gradient(x)[0].requires_grad


def test_it_is_mapped_over_critics() -> None:
    """As a population does: each critic's loss and gradients are its own."""
    critics_, x = [made("leaky")[0] for _ in range(2)], made("leaky")[1]
    for p in critics_[1].parameters():
        p.data += 0.3
    alone = []
    for critic in critics_:
        value = loss(*critic.scores_and_gradient(x))
        alone.append((value, torch.autograd.grad(value, list(critic.parameters()))))
    names = [name for name, _ in critics_[0].named_parameters()]
    rows = {name: torch.stack([c.get_parameter(name).detach() for c in critics_]).requires_grad_() for name in names}

    class Called(nn.Module):
        def __init__(self, critic: Critic) -> None:
            super().__init__()
            self.critic = critic

        def forward(self, x: Tensor) -> Tensor:
            return loss(*self.critic.scores_and_gradient(x))

    called = Called(critics_[0])
    values = vmap(lambda state: functional_call(called, {f"critic.{k}": v for k, v in state.items()}, (x,)))(rows)
    gradients = torch.autograd.grad(values.sum(), [rows[name] for name in names])
    for i, (value, own) in enumerate(alone):
        torch.testing.assert_close(values[i], value)
        for row, one in zip(gradients, own, strict=True):
            torch.testing.assert_close(row[i], one, rtol=0, atol=1e-12)


def test_what_is_no_chain_takes_the_other_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for trunk in (
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(3, 5)),
        nn.Sequential(nn.Identity(), nn.Linear(3, 5)),
    ):
        assert chain_of(explicit_layers(trunk) or []) is None
    _, x = made("relu")
    hooked = made("relu")[0]
    hooked.head.register_forward_hook(lambda *_: None)
    classes = ClassCritic(TRUNKS["relu"](), 5, 3).double()
    monkeypatch.setattr(critics, "scores_and_gradient", None)
    for critic in (hooked, classes):
        scores, gradient = critic.scores_and_gradient(x)
        assert (scores.shape, gradient.shape) == ((9,), (9, 3))
