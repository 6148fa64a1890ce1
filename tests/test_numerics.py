"""What `training.precision` and `training.deterministic` do to torch, and to which part of a network."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_population import make_loop
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from toposampler.errors import UserError
from toposampler.nn.critic import Critic
from toposampler.training import RunConfig, train
from toposampler.training.loop import Loop
from toposampler.training.numerics import WORKSPACE, numerics

MakeConfig = Callable[..., RunConfig]


def flags() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    tf32 = (torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32)
    return (*tf32, torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, os.environ.get(WORKSPACE))


def test_deterministic_is_set_while_a_run_steps_and_then_as_before(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = flags(), []
    iteration = Loop.iteration
    monkeypatch.setattr(Loop, "iteration", lambda loop: (seen.append(flags()), iteration(loop)))
    train(make_config("topo_dmgan", training__deterministic=True, training__generator_steps=3))
    assert [flag[2:] for flag in seen] == [(True, True, ":4096:8")] * 3
    assert flags() == before
    train(make_config("wgan_gp", name="other", training__generator_steps=1))
    assert seen[-1] == before


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_what_precision_says(
    precision: str, tf32: bool, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    before = flags()
    with numerics(make_config("wgan_gp", training__precision=precision).training):
        assert flags()[:2] == (tf32, tf32)
    assert flags() == before


def test_an_operation_without_an_order_is_named(make_config: MakeConfig) -> None:
    training = make_config("wgan_gp", training__deterministic=True).training
    message = r"training.deterministic true: some_cuda does not have .* use another layer"
    with pytest.raises(UserError, match=message), numerics(training):
        raise RuntimeError("some_cuda does not have a deterministic implementation, but you set ...")
    assert not torch.are_deterministic_algorithms_enabled()


def test_tf32_on_a_cpu_has_the_bits_of_fp32(make_config: MakeConfig) -> None:
    values = []
    for precision in ("fp32", "tf32"):
        loop = make_loop(make_config("dmgan_pl", training__precision=precision))
        loop.iteration()
        values.append(loop.players["critic"].values)
    assert torch.equal(*values)


def critic_and_points() -> tuple[Critic, Tensor]:
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.LeakyReLU(0.2), torch.nn.Linear(32, 16))
    return Critic(trunk, 16), torch.randn(64, 3)


def test_under_bf16_the_trunk_is_rounded_and_heads_and_penalties_are_not() -> None:
    critic, x = critic_and_points()
    features, scores, gradient = critic.features(x), critic(x), critic.input_gradient(x)
    with torch.autocast("cpu", torch.bfloat16):
        low, low_scores, low_gradient = critic.features(x), critic(x), critic.input_gradient(x)
        assert torch.equal(critic.scores_and_gradient(x)[1], gradient)
    assert low.dtype == torch.bfloat16
    assert 0 < float(((low.float() - features).abs().max() / features.abs().max()).detach()) < 2**-6
    assert low_scores.dtype == torch.float32
    assert torch.equal(low_scores, critic.head(low.float()).squeeze(-1)), "the head's product is of float32"
    assert 0 < float((low_scores - scores).detach().abs().max()) < 2**-6 * float(scores.detach().abs().max() + 1)
    assert torch.equal(low_gradient, gradient)


class Casts(TorchDispatchMode):
    """Counts what is cast to bf16, by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") is torch.bfloat16:
            self.counts[tuple(args[0].shape)] += 1
        return function(*args, **(kwargs or {}))


def test_the_weights_of_all_generators_are_cast_at_once(make_config: MakeConfig) -> None:
    keys = {"data": {"name": "digits"}, "system__generator_width": 2, "system__n_generators": 5}
    loop = make_loop(make_config("dmgan_pl", training__precision="bf16", **keys))
    stacks = [tuple(weights.shape) for weights in loop.system.generators.stacked]
    noise = {name: x[0] for name, x in loop.draw(1)[1].items()}
    with Casts() as casts, loop.autocast():
        loop.system.generate(noise)
    assert all(casts.counts[shape] == stacks.count(shape) for shape in stacks), "once each"
    assert not any(casts.counts[shape[1:]] for shape in stacks), "and not generator by generator"
