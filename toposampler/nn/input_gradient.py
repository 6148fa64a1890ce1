"""The gradient of a network's outputs by its inputs, itself differentiable by the weights.

For any module it is autograd's. A piecewise linear network is linear between its kinks, so there it is the product of
the weights and of the constant slopes of the activations: written as a pass of its own (`pull_back`) it can be
differentiated once by the weights, which costs less than `autograd.grad(..., create_graph=True)` followed by a second
backward, and equals it exactly. That pass is taken only where each layer, by its exact type and its options, is one
whose slope is written down here: a subclass may do anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from toposampler.nn.layers import exact_type, plain_layers
from toposampler.nn.spectral import SpectralNorm

PURE = (SpectralNorm,)
"""parametrizations that give the same weight however often they are read"""


def explicit_layers(network: nn.Module) -> list[nn.Module] | None:
    """The layers of `network` in their order if `pull_back` is right for every one of them, else None.

    Looked at anew at every pass, some microseconds, so that a layer that is replaced, hooked or parametrized later
    counts.
    """
    layers = plain_layers(network)
    return layers if layers is not None and all(_is_explicit(layer) for layer in layers) else None


def _is_explicit(layer: nn.Module) -> bool:
    kind = exact_type(layer, PURE)
    if kind is nn.LeakyReLU or kind is nn.ReLU:
        return not layer.inplace  # else the kinks would be looked for in what the layer has overwritten
    if kind is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return kind is nn.Linear or kind is nn.Flatten or kind is nn.Identity


def forward(layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output for x, and what each layer was given, as constants."""
    inputs = []
    for layer in layers:
        inputs.append(x.detach())
        x = layer(x)
    return x, inputs


def pull_back(layers: Sequence[nn.Module], inputs: Sequence[Tensor], gradient: Tensor) -> Tensor:
    """The gradient by the input of `explicit_layers`, given the one by their output and what each was given."""
    for layer, at in zip(reversed(layers), reversed(inputs), strict=True):
        match layer:
            case nn.LeakyReLU():
                gradient = torch.ops.aten.leaky_relu_backward(gradient, at, layer.negative_slope, False)
            case nn.ReLU():
                gradient = torch.ops.aten.threshold_backward(gradient, at, 0)
            case nn.Linear():
                gradient = gradient @ layer.weight
            case nn.Conv2d():
                gradient = _conv2d_pull_back(layer, at, gradient)
            case nn.Flatten():
                gradient = gradient.reshape(at.shape)
    return gradient


def _conv2d_pull_back(layer: nn.Conv2d, at: Tensor, gradient: Tensor) -> Tensor:
    """The transposed convolution; of the input's last rows and columns some may be under no kernel."""
    assert not isinstance(layer.padding, str)
    options = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    rest = [
        n_in - ((n_out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
        for n_in, n_out, (kernel, stride, padding, dilation) in zip(
            at.shape[-2:], gradient.shape[-2:], options, strict=True
        )
    ]
    return F.conv_transpose2d(
        gradient, layer.weight, None, layer.stride, layer.padding, rest, layer.groups, layer.dilation
    )


def by_autograd(scores: Callable[[Tensor], Tensor], x: Tensor, functional: bool = False) -> tuple[Tensor, Tensor]:
    """`scores` (n,) of x (n, *shape), one for each sample alone, and their gradient by x, (n, *shape).

    Both are differentiable by the weights, and by x where x is; under `no_grad` neither is. Gradients of parameters are
    left as they were. Attention is computed by plain products: torch's fused kernels have no second derivative.
    `functional`: it is called inside a transform of `torch.func`, which knows its own `vjp` alone; that in turn refuses
    an `autograd.Function` without `setup_context`, which a caller's network may hold.
    """
    differentiable = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        if functional:
            found, pull = torch.func.vjp(lambda at: scores(at.clone()), x)  # type: ignore[misc]
            (gradient,) = pull(torch.ones_like(found))
        else:
            if x.is_inference():
                x = x.clone()
            at = x if x.requires_grad and differentiable else x.detach().requires_grad_()
            found = scores(at.clone())  # a leaf must not be overwritten, as a first activation may do
            (gradient,) = torch.autograd.grad(found.sum(), at, create_graph=differentiable)
    return (found, gradient) if differentiable else (found.detach(), gradient.detach())
