"""Iterations that are captured once and replayed: with a stand-in for CUDA graphs that calls what was captured again.

What a program takes from Python is that of its capture, for good. So a loss that reads the step, a tensor that is
replaced and not written to, or a shape that follows a draw, would show here in the bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks
from test_population import SYSTEMS, VARIANTS, make_loop, numbers

from toposampler.errors import TrainingStoppedError, UserError
from toposampler.systems.batch import Batch
from toposampler.systems.wgan_gp import WGANGP
from toposampler.training import RunConfig
from toposampler.training.capture import StandIn, restored
from toposampler.training.graph_loop import LoopGraphs
from toposampler.training.graph_population import PopulationGraphs
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.population import Population
from toposampler.training.process_group import ProcessGroup

MakeConfig = Callable[..., RunConfig]


class Counting(StandIn):
    """Counts what is captured."""

    captured = 0

    def __call__(self, *arguments: Any) -> Any:
        self.captured += 1
        return super().__call__(*arguments)


def replaying(loop: Loop) -> Counting:
    """Have `loop` replay its iterations."""
    capture = Counting()
    loop.graphs = LoopGraphs(loop, capture)
    return capture


def same_bits(a: Any, b: Any) -> bool:
    one, two = numbers(a), numbers(b)
    return len(one) == len(two) > 0 and all(map(torch.equal, one, two))


def keys_of(system: str) -> dict[str, Any]:
    """What a system needs beside its defaults to be captured on 48 points or more."""
    if system == "r3gan":
        return {"system__generator__final_beta2": None, "system__critic__final_beta2": None}
    return {"data__n": 48} if system == "conditional_wgan_gp" else {}


@pytest.mark.parametrize("system", SYSTEMS)
def test_replayed_iterations_have_the_bits_of_computed_ones(system: str, make_config: MakeConfig) -> None:
    config = make_config(system, **keys_of(system), training__batch_growth_from=0.5)
    check(config, 14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_options(variant: str, make_config: MakeConfig) -> None:
    system, keys = VARIANTS[variant]
    check(make_config(system, **keys_of(system), **keys), 14)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "final_beta2: Adam's kernel takes its decays as numbers"),
        (
            {**keys_of("r3gan"), "data": {"name": "digits"}, "training__augmentation__adaptive": True},
            "training.augmentation.adaptive looks at the critic between iterations",
        ),
    ],
)
def test_constants_that_a_graph_would_hold_fast_keep_a_run_eager(
    keys: dict[str, Any], reason: str, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is that without graphs, to the last bit."""
    small = {"system__generator_width": 2, "system__critic_width": 2}
    eager, refused = (make_loop(make_config("r3gan", **small, **keys)) for _ in range(2))
    capture = replaying(refused)
    for _ in range(3):
        eager.iteration()
        refused.iteration()
    assert capture.captured == 0
    assert reason in caplog.text
    assert same_bits(eager.state_dict(), refused.state_dict())


def test_members_with_learning_rates_that_move_are_replayed(make_config: MakeConfig) -> None:
    """Learning rates are numbers of the replay, and not of the capture, at which the rates have moved nowhere yet."""
    first, second = (
        Population([make_loop(make_config("r3gan", seed=s, **keys_of("r3gan"))) for s in range(2)]) for _ in range(2)
    )
    capture = Counting()
    first.graphs, second.graphs = PopulationGraphs(first, capture), PopulationGraphs(second, None)
    for _ in range(4):
        first.iteration()
        second.iteration()
    assert capture.captured > 0
    assert first.system.config.generator.final_learning_rate is not None
    for one, two in zip(first.loops, second.loops, strict=True):
        assert same_bits(one.state_dict(), two.state_dict())


def check(config: RunConfig, iterations: int) -> None:
    """Replays have the bits of the same form computed anew, and to rounding the numbers of the eager loop."""
    replayed, anew = make_loop(config), make_loop(config)
    capture = replaying(replayed)
    anew.graphs = LoopGraphs(anew, None)
    for _ in range(iterations):
        replayed.iteration()
        anew.iteration()
    assert same_bits(replayed.state_dict(), anew.state_dict())
    assert 0 < capture.captured < iterations


@pytest.mark.parametrize("system", ["dmgan_pl", "topo_dmgan", "wgan_gp"])
def test_replayed_iterations_are_those_of_the_eager_loop(system: str, make_config: MakeConfig) -> None:
    """Not to the last bit where an ensemble has room for more samples than there are: products round otherwise."""
    eager, replayed = (make_loop(make_config(system, training__precision="fp64")) for _ in range(2))
    replaying(replayed)
    for _ in range(20):
        eager.iteration()
        replayed.iteration()
    one, two = numbers(eager.state_dict()), numbers(replayed.state_dict())
    assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(one, two, strict=True))
    left, right = eager.drain_terms(), replayed.drain_terms()
    assert left == pytest.approx(right, abs=1e-10)


def test_a_graph_for_each_size_of_the_batch_and_each_rhythm(make_config: MakeConfig) -> None:
    keys = {"system__penalty": {"every": 2}, "training__batch_growth_from": 0.5, "training__batch_growth": 2}
    loop = make_loop(make_config("wgan_gp", **keys))
    capture = replaying(loop)
    for _ in range(20):
        loop.iteration()
    assert capture.captured == 4


@pytest.mark.parametrize("system", ["dmgan_pl", "topo_dmgan", "sn_gan", "dmgan_pl of 3 and 5"])
def test_populations_replay(system: str, make_config: MakeConfig) -> None:
    system, _, two = system.partition(" of ")
    numbers_of = [{"system__n_generators": int(K)} for K in two.split(" and ")] if two else [{}, {}]
    configs = [
        make_config(system, seed=seed, system__critic__learning_rate=rate, **numbers_of[seed])
        for seed, rate in enumerate((1e-3, 3e-3))
    ]
    replayed, anew = (Population([make_loop(config) for config in configs]) for _ in range(2))
    capture = Counting()
    replayed.graphs, anew.graphs = PopulationGraphs(replayed, capture), PopulationGraphs(anew, None)
    eager = Population([make_loop(config) for config in configs])
    eager.graphs = None
    for _ in range(12):
        for population in (replayed, anew, eager):
            population.iteration()
    assert 0 < capture.captured < 12
    for a, b, c in zip(replayed.loops, anew.loops, eager.loops, strict=True):
        assert same_bits(a.state_dict(), b.state_dict())
        assert all(
            torch.allclose(x, y, rtol=1e-3, atol=1e-4)
            for x, y in zip(numbers(a.state_dict()), numbers(c.state_dict()), strict=True)
        )


def test_a_resumed_run_has_the_same_bits(make_config: MakeConfig) -> None:
    config = make_config("dmgan_pl", training__batch_growth_from=0.5)
    whole, first, second = (make_loop(config) for _ in range(3))
    for loop in (whole, first, second):
        replaying(loop)
    for _ in range(14):
        whole.iteration()
    for _ in range(5):
        first.iteration()
    second.load_state_dict(first.state_dict())
    for _ in range(9):
        second.iteration()
    assert whole.drain_terms() == second.drain_terms()
    assert same_bits(whole.state_dict(), second.state_dict())


def test_a_state_is_loaded_into_what_is_captured(make_config: MakeConfig) -> None:
    config = make_config("sn_gan")
    loop, other = make_loop(config), make_loop(config)
    for each in (loop, other):
        replaying(each)
    start = copy.deepcopy(loop.state_dict())
    for _ in range(4):
        loop.iteration()
    loop.load_state_dict(start)
    loop.iteration()
    other.iteration()
    assert same_bits(loop.state_dict(), other.state_dict())


def test_nan_is_found_at_the_record_with_its_step_and_player(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("dmgan_pl"))
    replaying(loop)
    for _ in range(2):
        loop.iteration()
    with torch.no_grad():
        loop.system.critic.head.bias.fill_(torch.nan)
    loop.iteration()
    with pytest.raises(TrainingStoppedError, match="the loss of the critic is not finite at generator step 2: "):
        loop.drain_terms()


class ReadsTheStep(WGANGP):
    """A page that does what it must not: its loss depends on the step it reads."""

    def generator_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """See `System.generator_loss`."""
        return {name: term * (1 + batch.step) for name, term in super().generator_loss(batch).items()}


class SaysSo(ReadsTheStep):
    """The same, and it says that it may be captured."""

    capturable = True


class ReplacesABuffer(WGANGP):
    """A page that makes a new buffer at each step."""

    capturable = True

    def generator_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """See `System.generator_loss`."""
        self._buffers["count"] = self._buffers["count"] + 1
        return super().generator_loss(batch)


def of_page(page: type[WGANGP], config: RunConfig) -> Loop:
    dataset = config.data.load()
    torch.manual_seed(0)
    system = page(config.system, dataset.shape)
    system.register_buffer("count", torch.zeros(()))
    return Loop(system, dataset, config.training, 0, torch.device("cpu"), Placement())


def test_a_frozen_step_shows(make_config: MakeConfig) -> None:
    """What `test_replayed_iterations_have_the_bits_of_computed_ones` would find in a page."""
    replayed, anew = (of_page(SaysSo, make_config("wgan_gp")) for _ in range(2))
    replaying(replayed)
    anew.graphs = LoopGraphs(anew, None)
    for _ in range(3):
        replayed.iteration()
        anew.iteration()
    assert not same_bits(replayed.state_dict(), anew.state_dict())


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (ReadsTheStep, "ReadsTheStep does not say `capturable = True`"),
        (ReplacesABuffer, "a step puts a buffer in the place of another one"),
    ],
)
def test_what_cannot_be_captured_runs_eagerly_and_says_once_why(
    page: type[WGANGP], reason: str, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("wgan_gp")
    loop, eager = of_page(page, config), of_page(page, config)
    capture = replaying(loop)
    for _ in range(4):
        loop.iteration()
        eager.iteration()
    one, two = loop.state_dict(), eager.state_dict()
    for state in (one, two):
        del state["system"]["count"]  # the trial of a page that counts has counted
    assert same_bits(one, two)
    assert [record.message for record in caplog.records if "CUDA graphs" in record.message] == [
        f"training.graph auto: runs without CUDA graphs: {next(r.args[0] for r in caplog.records if r.args)}"
    ]
    assert reason in caplog.text
    assert capture.captured == (page is ReplacesABuffer)


def test_what_cannot_be_captured_is_refused_where_graphs_are_asked_for(make_config: MakeConfig) -> None:
    loop = of_page(ReadsTheStep, make_config("wgan_gp"))
    loop.config = loop.config.model_copy(update={"graph": True})
    replaying(loop)
    with pytest.raises(UserError, match=r"training.graph true: an iteration of wgan_gp .* set training.graph to auto"):
        loop.iteration()


def test_graphs_without_a_gpu_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"training.graph true captures iterations .*cluster.use_gpu true"):
        make_config("wgan_gp", training__graph=True)
    assert make_loop(make_config("wgan_gp", training__graph="auto")).graphs is None


def test_the_state_after_a_trial_is_that_before_it(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("sn_gan"))
    before = copy.deepcopy(numbers(loop.state_dict()))
    state = LoopGraphs(loop, StandIn()).state()
    with restored(state):
        loop.iteration()
        loop.step = 0
    assert all(map(torch.equal, before[: len(state)], numbers(loop.state_dict())[: len(state)]))
    own = {x.data_ptr() for x in state}
    assert {x.data_ptr() for x in loop.system.buffers()} <= own
    assert loop.average.data_ptr() in own


def _two_ranks(config: RunConfig, refused: RunConfig, folder: Path) -> None:
    group = ProcessGroup.current()
    for spread, system, name in ((False, config, "replayed"), (True, config, "sharded"), (False, refused, "gathers")):
        dataset = system.data.load()
        torch.manual_seed(0)
        placement = Placement(group, spread)
        built = system.system.build(dataset.shape, shard=placement.shard)
        loop = Loop(built, dataset, system.training, 0, torch.device("cpu"), placement)
        capture = replaying(loop)
        for _ in range(6):
            loop.iteration()
        loop.check_replicas()
        state = loop.state_dict()
        if group.rank == 0:
            torch.save((capture.captured, loop.graphs._refused, state), folder / f"{name}.pt")


@pytest.mark.slow
def test_workers_average_between_graphs(make_config: MakeConfig, tmp_path: Path) -> None:
    config, other = (make_config(name, training__precision="fp64") for name in ("dmgan_pl", "topo_dmgan"))
    on_ranks(2, _two_ranks, config, other, tmp_path)
    for name, system, refused in (("replayed", config, False), ("sharded", config, True), ("gathers", other, True)):
        captured, was_refused, state = torch.load(tmp_path / f"{name}.pt")
        assert was_refused == refused
        assert captured > 0
        alone = make_loop(system)
        for _ in range(6):
            alone.iteration()
        expected = {"state": {k: v for k, v in alone.state_dict().items() if k != "history"}}
        found = {"state": {k: v for k, v in state.items() if k != "history"}}
        for a, b in zip(numbers(expected), numbers(found), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-9)
