"""Critics D(x): a trunk of any kind, a linear head, and the gradient by the input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toposampler.nn.checks import trial_copy
from toposampler.nn.input_gradient import by_autograd, explicit_layers, forward, pull_back
from toposampler.nn.precision import full_precision
from toposampler.nn.score_gradient import chain_of, scores_and_gradient


class Critic(nn.Module):
    """D(x) = head(trunk(x)).

    No layer may mix samples (no batch norm): the gradient penalty needs D to act on each sample alone, and
    data-parallel replicas would otherwise see different statistics.

    Args:
        trunk: samples (n, *shape) to features (n, n_features); of several modules each is given what the one before
            returns.
        n_features: how many features the trunk returns, as of `count_features`.
    """

    def __init__(self, trunk: nn.Module | Sequence[nn.Module], n_features: int) -> None:
        super().__init__()
        self.trunk = trunk if isinstance(trunk, nn.Module) else nn.Sequential(*trunk)
        self.head = nn.Linear(n_features, 1)
        self.functional = False
        """whether it is called inside a transform of `torch.func`"""

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, read by encoders: (n, *shape) to (n, n_features)."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """Scores: (n, *shape) to (n,)."""
        return self.score(self.features(x))

    def score(self, features: Tensor) -> Tensor:
        """Scores of features: (n, n_features) to (n,), in the weights' precision also under autocast."""
        with full_precision(features.device):
            return self.head(features.to(self.head.weight.dtype)).squeeze(-1)

    def slope(self, features: Tensor) -> Tensor:
        """The gradient of `score` by the features: (n, n_features) to the same; a constant here."""
        return self.head.weight.expand(len(features), -1)

    def scores_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n,) of x (n, *shape), and dD/dx (n, *shape), both differentiable by the weights and in their
        precision, also under autocast."""
        with full_precision(x.device):
            return self._scores_and_gradient(x.to(self.head.weight.dtype))

    def _scores_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        layers = explicit_layers(self.trunk)
        if layers is None:
            scores, gradient = by_autograd(self, x, self.functional)
            return scores, gradient.to(self.head.weight.dtype)
        plain = x.dim() == 2 and type(self).score is Critic.score and explicit_layers(self.head) is not None
        if plain and (chain := chain_of(layers)) is not None:
            return scores_and_gradient(chain, self.head, x)
        features, inputs = forward(layers, x)
        return self.score(features), self._pulled_back(layers, inputs, self.slope(features))

    def input_gradient(self, x: Tensor) -> Tensor:
        """dD/dx alone, as of `scores_and_gradient`: where trunk and slope are piecewise linear, the pass that finds the
        kinks needs no gradient."""
        layers = explicit_layers(self.trunk)
        if layers is None:
            return self.scores_and_gradient(x)[1]
        with full_precision(x.device):
            with torch.no_grad():
                features, inputs = forward(layers, x.to(self.head.weight.dtype))
            return self._pulled_back(layers, inputs, self.slope(features))

    def _pulled_back(self, layers: Sequence[nn.Module], inputs: Sequence[Tensor], slope: Tensor) -> Tensor:
        return pull_back(layers, inputs, slope).to(self.head.weight.dtype)


class ClassCritic(Critic):
    """A critic that sorts samples into K + 1 classes, the last of them "real"; its score is the logit of that class."""

    def __init__(self, trunk: nn.Module | Sequence[nn.Module], n_features: int, n_generators: int) -> None:
        super().__init__(trunk, n_features)
        self.head = nn.Linear(n_features, n_generators + 1)

    def logits(self, features: Tensor) -> Tensor:
        """Of the K generators and of "real": (n, n_features) to (n, K + 1)."""
        with full_precision(features.device):
            return self.head(features.to(self.head.weight.dtype))

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


@torch.no_grad()
def count_features(trunk: nn.Module, shape: tuple[int, ...]) -> int:
    """f of a trunk that maps samples (n, *shape) to features (n, f): what a copy of it makes of one sample of zeros.

    Neither the trunk nor torch's random state changes. `nn.checks.check_trunk` finds it too, and what is wrong.
    """
    with trial_copy(trunk, "system.critic_network") as network:
        like = next(trunk.parameters(), torch.empty(0))
        return network.eval()(like.new_zeros(1, *shape)).shape[1]
