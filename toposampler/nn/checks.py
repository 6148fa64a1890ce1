"""What is asked of a caller's networks before a run starts: shapes, gradients, and samples that do not mix.

Each check runs a copy: the network, its buffers, its mode and torch's random state stay as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from toposampler.errors import UserError
from toposampler.nn.input_gradient import by_autograd

Shape = tuple[int, ...]

ROWS = 4
"""samples in the batch that a network is tried with"""
ROUNDING = 1e-3
"""how far two results may differ, over the largest value, that should be equal but for the order of summation"""
WHY_ALONE = "results would depend on the batch and on the number of workers"


@contextmanager
def trial_copy(network: nn.Module, key: str) -> Iterator[nn.Module]:
    """A copy of `network` to run, after which torch's random state is what it was.

    Raises UserError, naming `key`, if it cannot be copied or has lazy layers.
    """
    if any(is_lazy(x) for x in (*network.parameters(), *network.buffers())):
        raise UserError(f"{key}: {_name(network)} has lazy layers, whose sizes are not known: give them sizes")
    try:
        copied = copy.deepcopy(network)
    except Exception as error:
        raise UserError(f"{key}: {_name(network)} cannot be copied by copy.deepcopy: {_first_line(error)}") from error
    with torch.random.fork_rng(devices={x.device for x in network.parameters() if x.is_cuda}):
        yield copied


def check_trunk(trunk: nn.Module, shape: Shape, key: str = "system.critic_network", twice: bool = True) -> int:
    """The number of features f of a critic's trunk, samples (n, *shape) to features (n, f).

    Raises UserError, naming `key`, if it fails, returns another shape or values that are not finite, cannot be
    differentiated by the samples (with `twice` also by the weights after that, as gradient penalties are), or if the
    features of a sample depend on the others of its batch.
    """
    with trial_copy(trunk, key) as network:
        x = _normal(network, ROWS, *shape)
        right = f"it maps samples (n, {_inside(shape)}) to features (n, f)"
        features = _run(network, x, key, right)
        if features.dim() != 2 or len(features) != ROWS or features.shape[1] == 0:
            raise UserError(
                f"{key}: {_name(trunk)} returned {tuple(features.shape)} for samples {tuple(x.shape)}; {right}"
            )
        _check_values(network, features, key)
        _check_alone(network, x, key)
        if twice:
            _check_twice(network, x, key)
        return features.shape[1]


def check_generator(generator: nn.Module, shape: Shape, latent_dim: int, key: str = "system.generator_network") -> None:
    """That a generator maps latents (n, latent_dim) to samples (n, *shape) in a way that can be trained and repeated.

    Raises UserError, naming `key`, if it fails, returns another shape or values that are not finite, has no parameters
    that its samples depend on, cannot be differentiated by the latents, draws random numbers of its own, or if a sample
    depends on the others of its batch (batch norm) or on what the generator was asked before (buffers it writes to).

    Batch norm is refused in training mode, also without running statistics: a generator of an ensemble sees a part of
    a batch that moves with the prior, with `placement` and with the number of workers, and samples of a trained model
    are drawn in blocks. In evaluation mode it is a constant scale, and allowed.
    """
    with trial_copy(generator, key) as network:
        z = _normal(network, ROWS, latent_dim)
        right = f"it maps latents (n, {latent_dim}) to samples (n, {_inside(shape)})"
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        x = _run(network, z, key, right)
        if x.shape != (ROWS, *shape):
            raise UserError(
                f"{key}: {_name(generator)} returned {tuple(x.shape)} for latents {tuple(z.shape)}; {right}"
            )
        _check_values(network, x, key)
        _check_alone(network, z, key)
        for name, buffer in network.named_buffers():
            if not torch.equal(buffer, before[name]):
                raise UserError(
                    f"{key}: {_name(generator)} writes to its buffer {name} as it runs: {WHY_ALONE}; use layers that "
                    "keep no running statistics"
                )
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        if not weights:
            raise UserError(f"{key}: {_name(generator)} has no parameter to train")
        if not any(gradient is not None for gradient in _gradients(network(z), weights)):
            raise UserError(f"{key}: the samples of {_name(generator)} have no gradient by its parameters: it detaches")
        with torch.no_grad():
            first, second = network(z), network(z)
        if not _close(first, second):
            raise UserError(
                f"{key}: {_name(generator)} makes other samples of the same latents at a second call: what is random "
                "must come from the latents, so that samples repeat; take dropout out"
            )


def _run(network: nn.Module, inputs: Tensor, key: str, right: str) -> Tensor:
    """What `network` makes of `inputs`, a tensor of floating-point numbers."""
    given = inputs.clone()
    try:
        found = network(given)
    except Exception as error:
        raise UserError(
            f"{key}: {_name(network)} fails for an input of shape {tuple(inputs.shape)}: {_first_line(error)}; {right}"
        ) from error
    if not torch.equal(given, inputs):
        raise UserError(f"{key}: {_name(network)} overwrites its input: give its first activation inplace=False")
    if not isinstance(found, Tensor):
        raise UserError(f"{key}: {_name(network)} returned a {type(found).__name__}, not a tensor; {right}")
    if not found.is_floating_point():
        raise UserError(
            f"{key}: {_name(network)} returned {found.dtype}, which has no gradient (argmax, rounding?); {right}"
        )
    return found


def _check_values(network: nn.Module, found: Tensor, key: str) -> None:
    if not torch.isfinite(found).all():
        raise UserError(
            f"{key}: {_name(network)} returned values that are not finite for standard normal inputs; look at its "
            "initialization"
        )


def _check_alone(network: nn.Module, inputs: Tensor, key: str) -> None:
    """That outputs have a gradient by the inputs, and that the output of a row depends on this row alone.

    By the gradient, which sees batch norm beside dropout, and, where the network is not random, by what it makes of a
    row alone and of the rows in another order, which sees what has no gradient.
    """
    inputs = inputs.requires_grad_()
    found = network(inputs)
    weights = torch.linspace(1, 2, found[0].numel(), dtype=found.dtype, device=found.device).view_as(found[0])
    (gradient,) = _gradients((found[0] * weights).sum(), [inputs])
    if gradient is None:
        raise UserError(
            f"{key}: what {_name(network)} returns has no gradient by its input: it detaches, rounds or takes an "
            "argmax; use operations that torch differentiates"
        )
    mixes = bool((gradient[1:] != 0).any())
    with torch.no_grad():
        if _close(network(inputs), again := network(inputs)):
            order = torch.arange(len(inputs) - 1, -1, -1, device=inputs.device)
            mixes = mixes or not _close(network(inputs[order]), again[order])
            mixes = mixes or not all(
                _close(network(row), one) for row, one in zip(inputs.split(1), again.split(1), strict=True)
            )
    if mixes:
        raise UserError(
            f"{key}: what {_name(network)} returns for a sample depends on the others of its batch (batch norm?): "
            f"{WHY_ALONE}; use LayerNorm, GroupNorm or none, or put it in evaluation mode"
        )


def _check_twice(network: nn.Module, x: Tensor, key: str) -> None:
    """That the gradient by the samples can be differentiated by the weights."""
    try:
        _, gradient = by_autograd(lambda at: network(at).square().sum(dim=1), x.detach())
        gradient.square().sum().backward()  # not autograd.grad: it would go round a function that refuses
    except RuntimeError as error:
        raise UserError(
            f"{key}: {_name(network)} cannot be differentiated twice, as gradient penalties ask: {_first_line(error)}"
        ) from error


def _gradients(found: Tensor, by: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients of the sum of `found`; None where it does not depend on one."""
    if not found.requires_grad:
        return [None] * len(by)
    return list(torch.autograd.grad(found.sum(), by, allow_unused=True))


def _normal(network: nn.Module, *shape: int) -> Tensor:
    """Standard normal numbers, always the same, as `network` takes them."""
    like = next((x for x in network.parameters() if x.is_floating_point()), torch.empty(0))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)


def _close(a: Tensor, b: Tensor) -> bool:
    scale = float(b.abs().max()) if b.numel() else 0.0
    return a.shape == b.shape and bool(((a - b).abs() <= ROUNDING * scale).all())


def _name(network: nn.Module) -> str:
    return type(network).__name__


def _inside(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
