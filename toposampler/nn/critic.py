"""Critics D(x): a piecewise linear trunk, a linear head, and the input gradient as an explicit pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Critic(nn.Module):
    """D(x) = head(trunk(x)), built of `Linear`, `Conv2d`, `LeakyReLU` and `Flatten` layers.

    No layer mixes samples (no batch norm): the gradient penalty needs D to act on each sample alone, and
    data-parallel replicas would otherwise see different statistics.
    """

    def __init__(self, trunk: Sequence[nn.Module], n_features: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        self.head = nn.Linear(n_features, 1)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, read by encoders: (n, *shape) to (n, n_features)."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """Scores: (n, *shape) to (n,)."""
        return self.score(self.features(x))

    def score(self, features: Tensor) -> Tensor:
        """Scores of features: (n, n_features) to (n,), in the weights' precision also under autocast."""
        return self.head(features).squeeze(-1).to(self.head.weight.dtype)

    def slope(self, features: Tensor) -> Tensor:
        """The gradient of `score` by the features: (n, n_features) to the same; a constant here."""
        return self.head.weight.expand(len(features), -1)

    def scores_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n,) of x (n, *shape), and dD/dx (n, *shape), both differentiable by the weights.

        Between its kinks D is linear, so dD/dx is the product of the weights and of the constant slopes of the
        activations. Written as a pass of its own it can be differentiated once by the weights, which costs less than
        `autograd.grad(..., create_graph=True)` followed by a second backward, and equals it exactly.
        """
        features, inputs = self._forward(x)
        return self.score(features), self._pulled_back(self.slope(features), inputs)

    def input_gradient(self, x: Tensor) -> Tensor:
        """dD/dx alone, as of `scores_and_gradient`: where the slope is constant, the pass that finds the kinks needs no
        gradient."""
        with torch.no_grad():
            features, inputs = self._forward(x)
        return self._pulled_back(self.slope(features), inputs)

    def _forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features of x, and what each layer of the trunk was given, as constants."""
        inputs = []
        for layer in self.trunk:
            inputs.append(x.detach())
            x = layer(x)
        return x, inputs

    def _pulled_back(self, gradient: Tensor, inputs: list[Tensor]) -> Tensor:
        """The gradient by x, given the one by the features."""
        for layer, at in zip(reversed(self.trunk), reversed(inputs), strict=True):
            gradient = _pull_back(layer, at, gradient)
        return gradient.to(self.head.weight.dtype)


class ClassCritic(Critic):
    """A critic that sorts samples into K + 1 classes, the last of them "real"; its score is the logit of that class."""

    def __init__(self, trunk: Sequence[nn.Module], n_features: int, n_generators: int) -> None:
        super().__init__(trunk, n_features)
        self.head = nn.Linear(n_features, n_generators + 1)

    def logits(self, features: Tensor) -> Tensor:
        """Of the K generators and of "real": (n, n_features) to (n, K + 1)."""
        return self.head(features).to(self.head.weight.dtype)

    def score(self, features: Tensor) -> Tensor:
        """ln D_real - ln (1 - D_real), D the softmax of the logits: (n,)."""
        logits = self.logits(features)
        return logits[:, -1] - logits[:, :-1].logsumexp(dim=1)

    def slope(self, features: Tensor) -> Tensor:
        """See `Critic.slope`."""
        return self.head.weight[-1] - self.logits(features)[:, :-1].softmax(dim=1) @ self.head.weight[:-1]

    def input_gradient(self, x: Tensor) -> Tensor:
        """See `Critic.input_gradient`: this slope moves with the features, and so with the weights below."""
        return self.scores_and_gradient(x)[1]


def _pull_back(layer: nn.Module, at: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by a layer's input, given the one by its output; `at` is the input, a constant."""
    match layer:
        case nn.LeakyReLU():
            return torch.ops.aten.leaky_relu_backward(gradient, at, layer.negative_slope, False)
        case nn.Linear():
            return gradient @ layer.weight
        case nn.Flatten():
            return gradient.reshape(at.shape)
        case nn.Conv2d(stride=(stride, _), padding=(padding, _), kernel_size=(kernel, _)):
            rest = at.shape[-1] - ((gradient.shape[-1] - 1) * stride - 2 * padding + kernel)
            return F.conv_transpose2d(gradient, layer.weight, None, stride, padding, rest)
        case _:
            raise TypeError(f"a critic's trunk holds Linear, Conv2d, LeakyReLU and Flatten, not {type(layer).__name__}")
