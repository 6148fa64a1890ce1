"""Scores and their input gradient of a chain of linear layers and ReLUs, differentiated by the weights in one pass.

For such a critic D, whose kinks are held fixed, the gradient by a weight W_l of a loss with gradients s_i by the score
D(x_i) and v_i by dD/dx_i is that of sum_i s_i D(x_i) + v_i . dD/dx_i, and so

    sum_i G_l,i (s_i h_(l-1),i + u_(l-1),i)',

where h_l are the layers' outputs, G_l is the gradient of the score by what layer l makes before its ReLU, and u_l is v
pushed forward through the layers, without biases. Scores, gradient and weights' gradients take four products of n rows
with W_l, where the pass forward and the pass back, each differentiated on its own, take six.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Chain = list[tuple[nn.Linear, float]]
"""linear layers, and the slope below 0 of the ReLU after each"""


def chain_of(layers: Sequence[nn.Module]) -> Chain | None:
    """`layers`, of those of `input_gradient.explicit_layers`, as a chain, or None where they are none.

    A chain is a linear layer and a ReLU, once or several times.
    """
    found: Chain = []
    if len(layers) % 2 or not layers:
        return None
    for linear, activation in zip(layers[::2], layers[1::2], strict=True):
        if not isinstance(linear, nn.Linear) or not isinstance(activation, (nn.LeakyReLU, nn.ReLU)):
            return None
        found.append((linear, activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0))
    return found


def scores_and_gradient(chain: Chain, head: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (n,) of x (n, d) by `head` behind `chain`, and dD/dx (n, d), both differentiable by the weights, once;
    the scores by x too."""
    parameters = [p for linear in (*(linear for linear, _ in chain), head) for p in (linear.weight, linear.bias)]
    found = _ScoresAndGradient.apply(tuple(slope for _, slope in chain), x, *parameters)
    return cast(tuple[Tensor, Tensor], found[:2])


class _ScoresAndGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(slopes: tuple[float, ...], x: Tensor, *parameters: Tensor | None) -> tuple[Tensor, ...]:
        """Scores and gradient, then h_l and G_l of all layers, which the pass back needs."""
        weights, biases = parameters[::2], parameters[1::2]
        outputs, pulled = [x], []
        for weight, bias, slope in zip(weights, biases, slopes, strict=False):
            outputs.append(F.leaky_relu(F.linear(outputs[-1], cast(Tensor, weight), bias), slope))
        scores = F.linear(outputs[-1], cast(Tensor, weights[-1]), biases[-1]).squeeze(-1)
        gradient = cast(Tensor, weights[-1]).expand(len(x), -1)
        for weight, slope, h in zip(reversed(weights[:-1]), reversed(slopes), reversed(outputs[1:]), strict=True):
            pulled.append(_below_kinks(gradient, h, slope))
            gradient = pulled[-1] @ cast(Tensor, weight)
        return scores, gradient, *outputs[1:], *reversed(pulled)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        slopes, x, *parameters = inputs
        ctx.slopes = slopes
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(x, *output[1:], *parameters)

    @staticmethod
    def backward(ctx: Any, by_score: Tensor, by_gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        slopes, n_layers = ctx.slopes, len(ctx.slopes)
        x, gradient, *saved = ctx.saved_tensors
        outputs, pulled = [x, *saved[:n_layers]], saved[n_layers : 2 * n_layers]
        weights, biases = saved[2 * n_layers :: 2], saved[2 * n_layers + 1 :: 2]
        found: list[Tensor | None] = []
        s, pushed = by_score[:, None], by_gradient
        for i, (weight, slope, back) in enumerate(zip(weights, slopes, pulled, strict=False)):
            found += [back.T @ torch.addcmul(pushed, s, outputs[i]), None if biases[i] is None else by_score @ back]
            pushed = _below_kinks(pushed @ weight.T, outputs[i + 1], slope)
        found += [torch.addcmul(pushed, s, outputs[-1]).sum(dim=0, keepdim=True)]
        found += [None if biases[-1] is None else by_score.sum(dim=0, keepdim=True)]
        return None, s * gradient if ctx.needs_input_grad[1] else None, *found


def _below_kinks(x: Tensor, h: Tensor, slope: float) -> Tensor:
    """x times the slope of a ReLU where its output h is not above 0."""
    return torch.ops.aten.leaky_relu_backward(x, h, slope, False)
