"""dD/dx of critics with any trunk, against autograd written out here, in float64; and which pass is taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from toposampler.nn import critic as critics
from toposampler.nn import networks
from toposampler.nn.critic import ClassCritic, Critic, count_features
from toposampler.nn.input_gradient import explicit_layers
from toposampler.nn.spectral import spectrally_normalized

POINTS, SIGNALS, IMAGES = (6,), (4, 13), (4, 9, 7)


def penalty(gradient: Tensor) -> Tensor:
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def weight_gradients(critic: Critic) -> list[Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in critic.parameters()]
    critic.zero_grad()
    return found


def check(critic: Critic, shape: tuple[int, ...]) -> None:
    """Scores, dD/dx and the gradient of a penalty by the weights equal autograd's to 1e-10."""
    critic = critic.double()
    x = torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    at = x.clone().requires_grad_()
    torch.manual_seed(2)  # of dropout
    scores = critic.score(critic.trunk(at.clone()))
    (expected,) = torch.autograd.grad(scores.sum(), at, create_graph=True)
    penalty(expected).backward()
    by_weights = weight_gradients(critic)
    assert expected.abs().max() > 1e-4, "the comparison is not of zeros"

    torch.manual_seed(2)
    found, gradient = critic.scores_and_gradient(x)
    torch.manual_seed(2)
    alone = critic.input_gradient(x)
    assert (found - scores).abs().max() < 1e-10
    assert not x.requires_grad
    for ours in (gradient, alone):
        assert (ours - expected).abs().max() < 1e-10
        penalty(ours).backward()
        for mine, theirs in zip(weight_gradients(critic), by_weights, strict=True):
            assert (mine - theirs).abs().max() < 1e-10


def critic_of(trunk: nn.Module, shape: tuple[int, ...]) -> Critic:
    return Critic(trunk, count_features(trunk, shape))


class EqualizedLinear(nn.Linear):
    """StyleGAN's: the weight is multiplied at run time."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, 10 * self.weight, self.bias)


class StandardizedConv2d(nn.Conv2d):
    """Weight standardization."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w / (w.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class Residual(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Attention(nn.Module):
    """Over the pixels of an image, by torch's module or by its fused function."""

    def __init__(self, channels: int, fused: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        patches = x.flatten(2).mT
        if self.fused:
            return x + F.scaled_dot_product_attention(patches, patches, patches).mT.reshape(x.shape)
        return x + self.attention(patches, patches, patches)[0].mT.reshape(x.shape)


ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.3), nn.LeakyReLU(-0.5), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Softplus(), nn.Tanh(),
    nn.ELU(), nn.PReLU(), nn.PReLU(8), nn.Hardtanh(), nn.Sigmoid(), nn.SELU(), nn.CELU(), nn.Mish(), nn.Softsign(),
    nn.LogSigmoid(), nn.Tanhshrink(), nn.Softshrink(0.1), nn.Hardshrink(0.1), nn.Hardswish(),
    nn.ReLU6(), nn.Threshold(0.1, 0.2), nn.GLU(), nn.Softmax(1), nn.LogSoftmax(1), nn.Softmin(1), nn.Identity(),
    nn.ReLU(inplace=True), nn.LeakyReLU(0.2, inplace=True), nn.ELU(inplace=True), nn.SiLU(inplace=True),
    nn.Dropout(0.4), nn.Dropout(0.4).eval(), nn.AlphaDropout(0.4), nn.FeatureAlphaDropout(0.4),
    nn.LayerNorm(8), nn.RMSNorm(8), nn.GroupNorm(2, 8), nn.BatchNorm1d(8).eval(), nn.Unflatten(1, (2, 4)),
]  # fmt: skip


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activations_and_norms_of_points(layer: nn.Module) -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), copy.deepcopy(layer), nn.Flatten())
    explicit = type(layer) in {nn.LeakyReLU, nn.ReLU, nn.Identity} and not getattr(layer, "inplace", False)
    assert (explicit_layers(trunk) is not None) == explicit
    check(critic_of(nn.Sequential(trunk, nn.Linear(4 if isinstance(layer, nn.GLU) else 8, 3)), POINTS), POINTS)


IMAGE_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv transpose": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "layer norm": lambda: nn.LayerNorm((4, 9, 7)),
    "local response norm": lambda: nn.LocalResponseNorm(2),
    "max pool": lambda: nn.MaxPool2d(2, padding=1),
    "average pool": lambda: nn.AvgPool2d(3, stride=2, count_include_pad=False, padding=1),
    "power pool": lambda: nn.Sequential(nn.Softplus(), nn.LPPool2d(2, 2)),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d((3, 2)),
    "adaptive maximum": lambda: nn.AdaptiveMaxPool2d((3, 2)),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample((11, 5), mode="bilinear"),
    "bicubic": lambda: nn.Upsample((11, 5), mode="bicubic"),
    "pixel unshuffle": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.PixelUnshuffle(2)),
    "reflection pad": lambda: nn.ReflectionPad2d(1),
    "dropout of maps": lambda: nn.Dropout2d(0.5),
    "unfold": lambda: nn.Unfold(3),
    "residual": lambda: Residual(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))),
    "attention": lambda: Attention(4, fused=False),
    "fused attention": lambda: Attention(4, fused=True),
    "standardized": lambda: StandardizedConv2d(4, 6, 3),
    "torch's spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)).eval(),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)),
    "same padding": lambda: nn.Conv2d(4, 6, 4, padding="same"),
    "part of a flatten": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_layers_of_images(name: str) -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(IMAGE_LAYERS[name](), nn.LeakyReLU(0.1), nn.Flatten())
    check(critic_of(trunk, IMAGES), IMAGES)
    assert explicit_layers(trunk) is None


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["zeros", "zeros", "zeros", "circular", "reflect", "replicate"]),
    pair,
    pair,
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)
def test_two_dimensional_convolutions_of_all_options(
    mode: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    bias: bool,
) -> None:
    options: dict[str, Any] = {"dilation": dilation, "groups": groups, "bias": bias, "padding_mode": mode}
    trunk = nn.Sequential(
        nn.Conv2d(4, 8, kernel, stride, padding, **options), nn.LeakyReLU(0.2), nn.Conv2d(8, 4, (2, 1)), nn.Flatten()
    )
    check(critic_of(trunk, IMAGES), IMAGES)
    assert (explicit_layers(trunk) is not None) == (mode == "zeros")


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["zeros", "circular"]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_one_dimensional_convolutions(
    mode: Any, kernel: int, stride: int, padding: int, dilation: int, groups: int, bias: bool
) -> None:
    conv = nn.Conv1d(4, 6, kernel, stride, padding, dilation, groups, bias, mode)
    check(critic_of(nn.Sequential(conv, nn.ReLU(), nn.Flatten()), SIGNALS), SIGNALS)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layer", [nn.Linear, EqualizedLinear])
def test_linear_layers_and_a_subclass_of_them(layer: type[nn.Linear], bias: bool) -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(layer(6, 8, bias=bias), nn.LeakyReLU(0.2), layer(8, 5, bias=bias))
    check(critic_of(trunk, POINTS), POINTS)
    assert (explicit_layers(trunk) is not None) == (layer is nn.Linear)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_layer_that_is_used_twice(activation: type[nn.Module]) -> None:
    shared = nn.Linear(6, 6)
    trunk = nn.Sequential(shared, activation(), nn.Sequential(shared, activation()), shared)
    check(critic_of(trunk, POINTS), POINTS)


def test_a_trunk_that_is_no_sequence_and_an_empty_one() -> None:
    check(critic_of(Residual(nn.Linear(6, 6)), POINTS), POINTS)
    check(critic_of(nn.Linear(6, 3), POINTS), POINTS)
    check(Critic([], 6), POINTS)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.SiLU()])
def test_classes_over_any_trunk(activation: nn.Module) -> None:
    check(ClassCritic([nn.Linear(6, 8), activation], 8, 3), POINTS)


def own_critics() -> dict[str, tuple[Critic, tuple[int, ...]]]:
    torch.manual_seed(0)
    plain = networks.critic((2,), 16)
    return {
        "points": (plain, (2,)),
        "images": (networks.critic((3, 17, 12), 4), (3, 17, 12)),
        "classes": (ClassCritic(networks.mlp_trunk((2,), 16), 32, 3), (2,)),
        "spectral": (spectrally_normalized(networks.critic((1, 12, 12), 4)), (1, 12, 12)),
    }


@pytest.mark.parametrize("name", own_critics())
def test_the_packages_critics_take_the_explicit_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    critic, shape = own_critics()[name]
    check(critic, shape)

    def refused(*_: object) -> None:
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(critics, "by_autograd", refused)
    check(critic, shape)
    critic.trunk.register_forward_hook(lambda module, x, y: 2 * y)
    with pytest.raises(AssertionError, match="autograd was asked"):
        critic.input_gradient(torch.randn(2, *shape, dtype=torch.float64))


def test_a_layer_that_changes_later_counts() -> None:
    critic = networks.critic(POINTS, 8)
    trunk = critic.trunk
    assert isinstance(trunk, nn.Sequential)
    check(critic, POINTS)
    trunk[1] = nn.GELU()
    check(critic, POINTS)
    trunk[1] = nn.ReLU()
    check(critic, POINTS)
    trunk[0].register_forward_pre_hook(lambda module, x: (x[0] * 3,))
    assert explicit_layers(trunk) is None
    check(critic, POINTS)
    layer = trunk[2]
    layer.forward = lambda x: 5 * F.linear(x, layer.weight)  # type: ignore[method-assign, operator]
    check(critic, POINTS)


def test_torchs_spectral_norm_iterates_once_a_pass() -> None:
    """Read twice in training it gives two weights: scores and gradient would be those of two critics."""
    layer = parametrizations.spectral_norm(nn.Linear(6, 8))
    critic = Critic([layer, nn.LeakyReLU(0.2)], 8)
    u = layer.parametrizations.weight[0]._u.clone()  # type: ignore[operator, union-attr, index]
    critic.input_gradient(torch.randn(3, 6))
    assert not torch.equal(u, layer.parametrizations.weight[0]._u)  # type: ignore[operator, union-attr, index]
    x = torch.randn(1, 6)
    gradient = critic.scores_and_gradient(x)[1]
    with torch.no_grad():
        step = 1e-3 * torch.randn(1, 6)
        critic.eval()
        assert critic(x + step).item() - critic(x).item() == pytest.approx((gradient * step).sum().item(), rel=1e-2)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.SiLU()])
def test_samples_from_code_without_gradients_and_gradients_that_stand(activation: nn.Module) -> None:
    torch.manual_seed(0)
    critic = Critic([nn.Linear(6, 8), activation], 8)
    for parameter in critic.parameters():
        parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():
        x = torch.randn(3, 6)
        gradient = critic.input_gradient(x)
        scores, beside = critic.scores_and_gradient(x)
    with torch.inference_mode():
        inferred = torch.randn(3, 6)
        same = critic.input_gradient(x.clone())
    assert not gradient.requires_grad
    assert not scores.requires_grad
    assert torch.allclose(gradient, critic.input_gradient(x))
    assert torch.allclose(gradient, beside)
    assert torch.allclose(gradient, same)
    assert critic.input_gradient(inferred).requires_grad
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in critic.parameters() if p.grad is not None)


@pytest.mark.parametrize("trunk", [nn.Linear(6, 8), nn.Sequential(nn.Linear(6, 8), nn.GELU())])
def test_scores_and_gradient_can_be_differentiated_by_the_samples(trunk: nn.Module) -> None:
    torch.manual_seed(0)
    critic = Critic(trunk, 8).double()
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    scores, gradient = critic.scores_and_gradient(x)
    (found,) = torch.autograd.grad(scores.sum(), x, retain_graph=True)
    assert torch.allclose(found, gradient)
    if gradient.grad_fn is not None and not isinstance(trunk, nn.Linear):
        (second,) = torch.autograd.grad(gradient.sum(), x)
        assert second.abs().max() > 1e-4


def test_autocast_leaves_the_input_gradient_as_it_is() -> None:
    """A penalty of rounded gradients would be wrong by more than a critic's slope changes in a step."""
    torch.manual_seed(0)
    critic = Critic([nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU()], 32)
    x = torch.randn(8, 6)
    exact = critic.input_gradient(x)
    with torch.autocast("cpu", torch.bfloat16):
        gradient, features = critic.input_gradient(x), critic.features(x)
        penalty(gradient).backward()
    assert features.dtype == torch.bfloat16
    assert gradient.dtype == torch.float32
    assert torch.equal(gradient, exact)
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters() if p.grad is not None)


def test_features_are_counted_without_a_trace() -> None:
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
    state, before = torch.get_rng_state(), {name: x.clone() for name, x in trunk.state_dict().items()}
    assert count_features(trunk, (3, 9, 7)) == 4 * 7 * 5
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, before[name]) for name, x in trunk.state_dict().items())
    assert trunk.training


def test_default_critics_keep_the_names_of_old_checkpoints() -> None:
    assert list(networks.critic((2,), 4).state_dict()) == [
        "trunk.0.weight", "trunk.0.bias", "trunk.2.weight", "trunk.2.bias", "head.weight", "head.bias"
    ]  # fmt: skip
