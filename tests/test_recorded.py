"""Operations that are recorded once and called again on a CPU: the bits of the program, without its Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_population import make_loop, numbers
from torch import Tensor, fx, nn
from torch.func import vmap
from torch.utils._python_dispatch import TorchDispatchMode

from toposampler.training import RunConfig, recorded
from toposampler.training.capture import NotCapturableError
from toposampler.training.graph_population import PopulationGraphs
from toposampler.training.population import Population
from toposampler.training.recorded import Recorded

MakeConfig = Callable[..., RunConfig]


class Descent:
    """A program with all that recording has to get right: autograd, vmap, views, writes in place, several results."""

    def __init__(self, given: Tensor) -> None:
        self.given, self.weights, self.made = given, torch.ones(3, 4), torch.zeros(3)
        self.python = 0
        """how often Python has come here"""

    def step(self) -> None:
        """weights -= gradient of the mean square of what the given rows, sorted, make of them."""
        self.python += 1
        weights = self.weights.detach().requires_grad_()
        first, second = vmap(lambda w, x: (w * x).sort().values.chunk(2))(weights, self.given)
        loss = (first - second).square().mean(dim=1)
        (gradient,) = torch.autograd.grad(loss.sum(), weights)
        moment = torch.zeros_like(gradient)
        moment[:, 1:] += gradient[:, 1:]
        self.weights[:2].sub_(moment[:2])
        self.made = loss.detach()

    def outputs(self) -> Tensor:
        return torch.cat([self.made, self.weights.sum(dim=1)])


class Calls(TorchDispatchMode):
    """Keeps the operations that are called within it, and the first tensor of each."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.made.append((func, args[0] if args else None))
        return func(*args, **(kwargs or {}))

    def of(self, func: Any) -> list[Tensor]:
        return [x for called, x in self.made if called is func]


def test_a_replay_has_the_bits_of_the_program_and_none_of_its_python() -> None:
    replayed, called = (Descent(torch.zeros(3, 4)) for _ in range(2))
    replayed.given.copy_(torch.rand(3, 4))
    (replay,) = Recorded()([replayed.step], [replayed.weights], replayed.outputs)
    assert replayed.python == 1
    assert replayed.weights.eq(1).all(), "state is as it was before"
    for i in range(3):
        x = torch.rand(3, 4, generator=torch.Generator().manual_seed(i))
        for program in (replayed, called):
            program.given.copy_(x)
        replay()
        called.step()
        assert torch.equal(replayed.weights, called.weights)
        assert torch.equal(replayed.outputs(), called.outputs())
    assert replayed.python == 1


@pytest.mark.parametrize(("factor", "product"), [(1, False), (1.0, False), (2, True), (0.5, True)])
def test_a_product_with_one_is_left_out(factor: float, product: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given, out = torch.rand(3), torch.zeros(3)

    def step() -> None:
        out.copy_(given.mul(factor) + 1)

    replay, operations = recorded_once(step, out, monkeypatch)
    assert ("mul" in operations) == product
    replay()
    assert torch.equal(out, factor * given + 1)


def test_a_product_with_one_that_is_written_to_is_a_tensor_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given, out = torch.rand(3), torch.zeros(3)

    def step() -> None:
        out.copy_(given.mul(1).add_(1))

    with pytest.raises(NotCapturableError):
        Recorded()([step], [given, out], lambda: out.flatten())


def recorded_once(
    step: Callable[[], None], out: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], None], set[str]]:
    """What replays `step`, which writes to `out`, and the operations that it calls."""
    found: list[set[str]] = []
    make = fx.GraphModule

    def seen(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
        found.append({node.target.__name__.split(".")[0] for node in graph.nodes if node.op == "call_function"})
        return make(root, graph)

    monkeypatch.setattr(fx, "GraphModule", seen)
    (replay,) = Recorded()([step], [out], lambda: torch.cat([out.flatten()]))
    return replay, found[0]


def test_what_is_the_same_at_every_replay_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of what is given and constants; not a constant that is written to, nor what follows from given values."""
    given, out = torch.rand(3, 4), torch.zeros(4, 3)

    def step() -> None:
        buffer = torch.zeros(3)
        buffer[1:].add_(given.select(1, 0)[1:])  # a write through a view
        first, second = torch.ones(6).add(1).split(3)
        second.mul_(2)
        out.copy_(given.t() * buffer + torch.arange(4.0).unsqueeze(1) * second + first)

    replay, operations = recorded_once(step, out, monkeypatch)
    assert not {"arange", "unsqueeze", "t", "ones"} & operations
    assert {"zeros", "add_", "split", "mul_", "copy_"} <= operations
    for _ in range(2):
        given.uniform_()
        replay()
        found = out.clone()
        step()
        assert torch.equal(found, out)


@pytest.mark.parametrize(
    "reads", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: bool(x.sum() > 0)]
)
def test_what_python_reads_cannot_be_recorded(reads: Callable[[Tensor], Any]) -> None:
    x = torch.ones(3)

    def step() -> None:
        x.add_(1)
        reads(x)

    with pytest.raises(NotCapturableError, match="Python wait for a value"):
        Recorded()([step], [x], lambda: torch.cat([x]))
    assert x.eq(1).all()


def test_what_does_not_repeat_is_not_replayed() -> None:
    x, calls = torch.zeros(2), []

    def step() -> None:
        calls.append(1)
        x.copy_(torch.rand(2))

    with pytest.raises(NotCapturableError, match="gives other numbers"):
        Recorded()([step], [x], lambda: torch.cat([x]))


def test_products_with_few_columns_are_turned() -> None:
    """To rounding they are the program's, and not to the bit; a replay's bits are those of the recorded run."""
    a, b, out = (
        torch.rand(3, 40, 50, dtype=torch.float64),
        torch.rand(3, 50, 2, dtype=torch.float64),
        torch.zeros(3, 80),
    )

    def step() -> None:
        out.copy_(torch.bmm(a, b).view(3, 80))

    (replay,) = Recorded()([step], [out], lambda: torch.cat([out]))
    with Calls() as calls:
        replay()
    assert [x.shape for x in calls.of(torch.ops.aten.bmm.default)] == [(3, 2, 50)]
    found = out.clone()
    step()
    assert torch.allclose(found, out, rtol=1e-14, atol=0)


def test_populations_on_a_cpu_replay(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "NARROW", 0)  # no product is turned: bits are the program's
    configs = [make_config("topo_dmgan", seed=seed, training__precision="fp64") for seed in range(2)]
    replayed, anew = (Population([make_loop(config) for config in configs]) for _ in range(2))
    anew.graphs = PopulationGraphs(anew, None)
    seen: list[int] = []
    move = replayed.move
    replayed.move = lambda *arguments: seen.append(replayed.step) or move(*arguments)  # type: ignore[method-assign,func-returns-value]
    for _ in range(12):
        replayed.iteration()
        anew.iteration()
    assert replayed.graphs is not None
    assert not replayed.graphs.refused
    assert 0 < len(set(seen)) < 6, "once for each capacity"
    for one, two in zip(replayed.loops, anew.loops, strict=True):
        assert all(map(torch.equal, numbers(one.state_dict()), numbers(two.state_dict())))
        assert one.drain_terms() == two.drain_terms()


def test_recording_does_not_load_torchs_compiler() -> None:
    """torch wraps the method of a mode in a function that imports it at the first call."""
    for mode in (recorded._Tape, recorded._Reads):
        assert not hasattr(mode.__torch_dispatch__, "__wrapped__")


def test_operations_are_called_by_torchs_own_functions_where_there_are_such() -> None:
    aten = torch.ops.aten
    assert recorded._bound(aten.add.Tensor) is torch.add
    assert recorded._bound(aten.view.default) is Tensor.view
    assert recorded._bound(aten._unsafe_view.default) is aten._unsafe_view.default, "torch has none"
    assert recorded._bound(recorded.operator.getitem) is recorded.operator.getitem
    assert recorded._bound(torch.ops.toposampler.signature_loss.default) is not None


def test_where_parameters_of_the_average_lie_is_not_found_anew_at_each_step(make_config: MakeConfig) -> None:
    """Members of other numbers of generators gather theirs; the places are sorted, which takes longer than a loss."""
    configs = [make_config("dmgan_pl", seed=i, system__n_generators=3 + i) for i in range(2)]
    population = Population([make_loop(config) for config in configs])
    population.iteration()
    with Calls() as calls:
        population.iteration()
    assert not [x for x in calls.of(torch.ops.aten.sort.stable) if x.dim() == 1 and len(x) > 50]
