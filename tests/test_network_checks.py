"""What is refused of a caller's networks before a run: in one sentence, and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toposampler.errors import UserError
from toposampler.nn import networks, resnet
from toposampler.nn.checks import check_generator, check_trunk

SHAPE, LATENT = (3, 12, 10), 6
PIXELS = 3 * 12 * 10


class Function(nn.Module):
    """A function of the input, after one linear layer."""

    def __init__(self, n_in: int, n_out: int, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.linear(x.flatten(1)))


class Once(torch.autograd.Function):
    """The square, with one derivative only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Counting(nn.Module):
    """Writes to a buffer; its samples do not depend on it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(LATENT, PIXELS)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(z).view(-1, *SHAPE)


def trunk(function: Callable[[Tensor], Any]) -> nn.Module:
    return Function(PIXELS, 8, function)


def generator(function: Callable[[Tensor], Any]) -> nn.Module:
    return nn.Sequential(Function(LATENT, PIXELS, function), nn.Unflatten(1, SHAPE))


def with_an_iterator(network: nn.Module) -> nn.Module:
    network.steps = (step for step in range(3))  # type: ignore[assignment]
    return network


GOOD_TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "own": lambda: networks.conv_trunk(SHAPE, 4),
    "resnet": lambda: resnet.resnet_trunk(SHAPE, 8, 1),
    "flat": nn.Flatten,
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 8), nn.Dropout(0.5), nn.SiLU()),
    "group norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()),
    "batch norm in evaluation mode": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).eval(),
    "double": lambda: networks.conv_trunk(SHAPE, 4).double(),
}


@pytest.mark.parametrize("name", GOOD_TRUNKS)
def test_trunks_that_will_do(name: str) -> None:
    network = GOOD_TRUNKS[name]()
    state, mode = torch.get_rng_state(), network.training
    before = {name: x.clone() for name, x in network.state_dict().items()}
    n_features = check_trunk(network, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training == mode
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert (
        network(torch.randn(2, *SHAPE, dtype=next(network.parameters(), torch.empty(0)).dtype)).shape[1] == n_features
    )


BAD_TRUNKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "fails": (lambda: nn.Linear(7, 8), r"fails for an input of shape \(4, 3, 12, 10\): RuntimeError"),
    "images": (lambda: nn.Conv2d(3, 4, 3), r"returned \(4, 4, 10, 8\) for samples \(4, 3, 12, 10\); it maps samples"),
    "one row": (lambda: trunk(lambda h: h[:1]), r"returned \(1, 8\)"),
    "tuple": (lambda: trunk(lambda h: (h, h)), "returned a tuple, not a tensor"),
    "detached": (lambda: trunk(lambda h: h.detach()), "no gradient by its input: it detaches"),
    "detached input": (lambda: nn.Sequential(Detach(), nn.Flatten(), nn.Linear(PIXELS, 3)), "no gradient by its input"),
    "argmax": (lambda: trunk(lambda h: h.argmax(1, keepdim=True)), "torch.int64, which has no gradient"),
    "not finite": (lambda: trunk(lambda h: h / 0), "not finite"),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()),
        r"depends on the others of its batch \(batch norm\?\)",
    ),
    "batch norm and dropout": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4), nn.BatchNorm1d(4), nn.Dropout()),
        "depends on the others",
    ),
    "mean without gradient": (lambda: trunk(lambda h: h - h.mean(0).detach()), "depends on the others"),
    "rank in the batch": (lambda: trunk(lambda h: h + torch.arange(len(h))[:, None]), "depends on the others"),
    "size of the batch": (lambda: trunk(lambda h: h * len(h)), "depends on the others"),
    "overwrites": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), "inplace=False"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "lazy layers"),
    "once": (lambda: trunk(Once.apply), "cannot be differentiated twice"),
    "not copied": (lambda: with_an_iterator(trunk(nn.SiLU())), "cannot be copied"),
}


class Detach(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


@pytest.mark.parametrize("name", BAD_TRUNKS)
def test_trunks_that_will_not_do(name: str) -> None:
    make, said = BAD_TRUNKS[name]
    network, state = make(), torch.get_rng_state()
    with pytest.raises(UserError, match=said) as caught:
        check_trunk(network, SHAPE)
    assert str(caught.value).startswith("system.critic_network: ")
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_trunk_with_one_derivative_does_where_no_penalty_is_asked() -> None:
    assert check_trunk(trunk(Once.apply), SHAPE, twice=False) == 8


@pytest.mark.parametrize("make", [networks.conv_generator, resnet.resnet_generator, networks.mlp_generator])
def test_generators_that_will_do(make: Callable[..., nn.Module]) -> None:
    network, state = make(SHAPE, LATENT, 8), torch.get_rng_state()
    check_generator(network, SHAPE, LATENT)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())


def test_batch_norm_in_evaluation_mode_is_a_constant_scale() -> None:
    check_generator(nn.Sequential(nn.Linear(LATENT, 5), nn.BatchNorm1d(5).eval()), (5,), LATENT)


BAD_GENERATORS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "shape": (
        lambda: nn.Linear(LATENT, PIXELS),
        r"returned \(4, 360\) for latents \(4, 6\); it maps latents \(n, 6\) to samples \(n, 3, 12, 10\)",
    ),
    "fails": (lambda: nn.Linear(7, 8), "fails for an input"),
    "detached": (lambda: generator(lambda h: h.detach()), "no gradient by its input"),
    "not finite": (lambda: generator(lambda h: h * float("nan")), "not finite"),
    "no parameters": (lambda: nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Upsample(2)), "has no parameter to train"),
    "random": (lambda: generator(lambda h: h + torch.randn_like(h)), "other samples of the same latents"),
    "dropout": (lambda: generator(nn.Dropout(0.5)), "take dropout out"),
    "batch norm": (lambda: generator(nn.BatchNorm1d(PIXELS)), "depends on the others of its batch"),
    "batch norm without statistics": (
        lambda: generator(nn.BatchNorm1d(PIXELS, track_running_stats=False)),
        "depends on the others of its batch",
    ),
    "buffer": (Counting, "writes to its buffer calls as it runs"),
}


@pytest.mark.parametrize("name", BAD_GENERATORS)
def test_generators_that_will_not_do(name: str) -> None:
    make, said = BAD_GENERATORS[name]
    network, state = make(), torch.get_rng_state()
    before = {name: x.clone() for name, x in network.state_dict().items()}
    shape = (6, 2, 2) if name == "no parameters" else SHAPE
    with pytest.raises(UserError, match=said) as caught:
        check_generator(network, shape, LATENT)
    assert str(caught.value).startswith("system.generator_network: ")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
