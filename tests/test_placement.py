"""Where generators live never changes what is computed: one process, replicas and shards give the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import on_ranks
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toposampler.errors import UserError
from toposampler.nn import networks
from toposampler.nn.ensemble import WHOLE, GeneratorEnsemble, Shard
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import run_folder
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup

MakeConfig = Callable[..., RunConfig]
K, ITERATIONS = 6, 20


def make_loop(config: RunConfig, placement: Placement) -> Loop:
    dataset = config.data.load()
    torch.manual_seed(config.seed)
    system = config.system.build(dataset.shape, shard=placement.shard)
    return Loop(system, dataset, config.training, config.seed, torch.device("cpu"), placement)


def numbers(state: dict[str, Any]) -> Tensor:
    """All weights, moving averages and moments of a loop's state in one vector.

    But for the constant of the critic: it all but cancels in every loss, and Adam makes steps of the rounding of its
    gradient.
    """
    weights = [x for name, x in state["system"].items() if name != "critic.head.bias"]
    moments = [x for player in state["moments"].values() for module in player.values() for x in module.values()]
    return torch.cat([x.flatten().double() for x in (*weights, state["average"], *moments)])


def stepped(loop: Loop, iterations: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The whole state after so many iterations, and the loss terms."""
    for _ in range(iterations):
        loop.iteration()
    loop.check_replicas()
    return copy.deepcopy(loop.state_dict()), loop.drain_terms()


def _worker(configs: dict[str, RunConfig], folder: Path) -> None:
    group = ProcessGroup.current()
    for name, config in configs.items():
        for spread in (False, True):
            loop = make_loop(config, Placement(group, spread))
            state, terms = stepped(loop, ITERATIONS)
            if group.rank == 0:
                torch.save((state, terms), folder / f"{name}_{spread}.pt")


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_sharded_replicated_and_one_process_are_the_same(size: int, make_config: MakeConfig, tmp_path: Path) -> None:
    """Parameters, prior and encoder among them, moving averages and Adam's moments agree to 1e-10 in float64."""
    small = {"training__precision": "fp64", "system__n_generators": K}
    configs = {
        f"{system}_{draw}": make_config(system, training__batch_size=batch, system__draw=draw, **small)
        for system, draw, batch in [
            ("dmgan_pl", "systematic", 12),
            ("dmgan_pl", "random", 9),  # workers without a single row, now and then
            ("dmgan_pl", "equal", 12),
            ("dmgan", "equal", 32),  # K does not divide the batch
            ("topo_dmgan", "systematic", 12),
        ]
    }
    configs |= {
        "mad_gan": make_config("mad_gan", training__batch_size=9, **small),
        "nwgan": make_config("nwgan", training__batch_size=12, system__adversarial="relativistic", **small),
    }
    on_ranks(size, _worker, configs, tmp_path)
    for name, config in configs.items():
        alone, terms = stepped(make_loop(config, Placement()), ITERATIONS)
        for spread in (False, True):
            state, logged = torch.load(tmp_path / f"{name}_{spread}.pt", weights_only=True)
            assert (numbers(state) - numbers(alone)).abs().max() < 1e-10, (name, spread)
            assert logged == pytest.approx(terms, rel=1e-8), (name, spread)
        start = numbers(make_loop(config, Placement()).state_dict())
        assert (numbers(alone)[: len(start)] - start).abs().max() > 1e-3, "the comparison is of networks that moved"


def _resuming_worker(config: RunConfig, spread: bool, start: Path | None, end: Path) -> None:
    group = ProcessGroup.current()
    loop = make_loop(config, Placement(group, spread))
    if start is not None:
        loop.load_state_dict(torch.load(start, weights_only=True))
    state, _ = stepped(loop, ITERATIONS // 2)
    if group.rank == 0:
        torch.save(state, end)


def test_a_state_goes_on_with_any_number_of_workers_in_any_placement(make_config: MakeConfig, tmp_path: Path) -> None:
    """Four shards of six generators stop half-way; two, three replicas and one process end as if they had not."""
    config = make_config("topo_dmgan", training__precision="fp64", system__n_generators=K)
    half = tmp_path / "half.pt"
    on_ranks(4, _resuming_worker, config, True, None, half)
    uninterrupted, _ = stepped(make_loop(config, Placement()), ITERATIONS)
    for size, spread in [(2, True), (3, False)]:
        end = tmp_path / f"{size}.pt"
        on_ranks(size, _resuming_worker, config, spread, half, end)
        state = torch.load(end, weights_only=True)
        assert state["system"].keys() == uninterrupted["system"].keys()
        assert (numbers(state) - numbers(uninterrupted)).abs().max() < 1e-10, (size, spread)
    alone = make_loop(config, Placement())
    alone.load_state_dict(torch.load(half, weights_only=True))
    state, _ = stepped(alone, ITERATIONS // 2)
    assert (numbers(state) - numbers(uninterrupted)).abs().max() < 1e-10


class Waves(nn.Module):
    """A generator with frequencies of its own, in a buffer, and a skip connection."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(latent_dim, latent_dim), nn.Linear(latent_dim, 2)
        self.register_buffer("frequencies", torch.randn(latent_dim))
        self.register_buffer("order", torch.randperm(latent_dim))
        self.frequencies: Tensor
        self.order: Tensor

    def forward(self, z: Tensor) -> Tensor:
        return self.last(z + torch.sin(self.frequencies * self.first(z))[:, self.order])


def make_loop_of_waves(config: RunConfig, placement: Placement, other_buffers: bool) -> Loop:
    """A loop on generators that are no sequence; with `other_buffers` on all others than a run's own."""
    dataset = config.data.load()
    torch.manual_seed(config.seed)
    system = config.system.build(dataset.shape)
    dim = config.system.latent.dim
    system.generators = GeneratorEnsemble(lambda: Waves(dim), K, placement.shard)
    for buffer in system.generators.buffers():
        if other_buffers:
            buffer.zero_()
    return Loop(system, dataset, config.training, config.seed, torch.device("cpu"), placement)


def _waves_worker(config: RunConfig, folder: Path) -> None:
    group = ProcessGroup.current()
    for spread in (False, True):
        placement = Placement(group, spread)
        state, _ = stepped(make_loop_of_waves(config, placement, False), ITERATIONS // 2)
        half = group.first(state)
        resumed = make_loop_of_waves(config, placement, True)
        resumed.load_state_dict(half)
        state, _ = stepped(resumed, ITERATIONS // 2)
        if group.rank == 0:
            torch.save(state, folder / f"waves_{spread}.pt")


def test_buffers_are_sharded_and_resumed_with_the_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("dmgan_pl", training__precision="fp64", system__n_generators=K, training__batch_size=12)
    on_ranks(2, _waves_worker, config, tmp_path)
    alone, _ = stepped(make_loop_of_waves(config, Placement(), False), ITERATIONS)
    frequencies = alone["system"]["generators.stacked_buffers.0"]
    assert len({tuple(row) for row in frequencies.tolist()}) == K
    for spread in (False, True):
        state = torch.load(tmp_path / f"waves_{spread}.pt", weights_only=True)
        assert state["system"].keys() == alone["system"].keys()
        for name in ("generators.stacked_buffers.0", "generators.stacked_buffers.1"):
            assert torch.equal(state["system"][name], alone["system"][name])
        assert (numbers(state) - numbers(alone)).abs().max() < 1e-10, spread


@pytest.mark.parametrize("images", [False, True])
def test_a_sharded_run_leaves_what_any_run_leaves(images: bool, make_config: MakeConfig, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"cluster__placement": "sharded", "cluster__num_workers": 2, "system__n_generators": 5}
    if images:
        np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (30, 8, 8, 1), dtype=np.uint8))
        keys |= {"data": {"name": "npy", "path": str(tmp_path / "images.npy")}, "training__generator_steps": 10}
    config = make_config("dmgan_pl", **keys)
    on_ranks(2, train, config)
    folder = run_folder(config)
    assert {"samples_by_generator.png", "prior.png"} <= {path.name for path in (folder / "figures").iterdir()}
    assert (folder / "figures" / "samples_grid.png").exists() == images
    model = load_model(folder)
    assert model.system.generators.n_held == 5  # type: ignore[union-attr]
    with np.load(folder / "samples.npz") as written:
        samples, ids = model.sample(200, seed=config.seed)
        assert np.array_equal(written["generators"], ids.numpy())
        assert np.abs(written["samples"] - samples.numpy()).max() < 1e-5


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_a_shard_holds_its_generators_only_as_they_start_in_the_whole(shape: tuple[int, ...]) -> None:
    def make(held: Shard = WHOLE) -> GeneratorEnsemble:
        torch.manual_seed(0)
        return GeneratorEnsemble(lambda: networks.generator(shape, 3, 4), K, held)

    whole, after = make(), torch.rand(1)
    z, c = torch.randn(20, 3), torch.arange(20) % K
    expected = whole(z, c)
    for rank in range(4):
        shard = make(Shard(rank, 4))
        assert torch.equal(torch.rand(1), after), "the random state goes on as in the whole"
        assert all(torch.equal(a, b[rank::4]) for a, b in zip(shard.stacked, whole.stacked, strict=True))
        rows = c % 4 == rank
        assert torch.allclose(shard(z[rows], c[rows]), expected[rows], atol=1e-6)
        nothing = shard(z[:0], c[:0])
        assert nothing.shape == (0, *shape)
        nothing.sum().backward()


def _differing_worker(configs: list[RunConfig], folder: Path) -> None:
    """Train what this rank is configured for, and write down how that ends."""
    rank = ProcessGroup.current().rank
    try:
        train(configs[rank])
        ended = "trained"
    except UserError as error:
        ended = str(error)
    (folder / f"ended_{rank}").write_text(ended)


def ends(configs: list[RunConfig], folder: Path) -> list[str]:
    on_ranks(len(configs), _differing_worker, configs, folder)
    return [(folder / f"ended_{rank}").read_text() for rank in range(len(configs))]


@pytest.mark.parametrize("fault", ["other data", "no data", "other data than the checkpoint's"])
def test_a_fault_that_one_rank_sees_alone_ends_all(fault: str, make_config: MakeConfig, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(50, 2))
    files = [tmp_path / f"{rank}.npy" for rank in range(2)]
    for file in files:
        np.save(file, points)
    configs = [make_config("dmgan_pl", data={"name": "npy", "path": str(file)}) for file in files]
    if fault == "other data than the checkpoint's":
        train(configs[0])
        for file in files:
            np.save(file, points + 1)
    elif fault == "other data":
        np.save(files[1], points + 1)
    else:
        files[1].unlink()
    expected = {
        "other data": "worker 1 reads other data than worker 0",
        "no data": "worker 1: ",
        "other data than the checkpoint's": "worker 0: the data has changed since",
    }
    for ended in ends(configs, tmp_path):
        assert ended.startswith(expected[fault])


def test_more_processes_than_can_share_the_work_are_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    """Whatever the configuration says of workers: torchrun may have started others."""
    config = make_config("dmgan_pl", cluster__placement="sharded", system__n_generators=1)
    assert all("1 generators cannot live on 2 workers" in ended for ended in ends([config] * 2, tmp_path))


class Questions(TorchDispatchMode):
    """Notes the operations that read a number, or a shape, back from the device.

    Whole numbers are not counted: the ids of generators, and what follows from them, are on the CPU. What a copy of
    them to a GPU does cannot be seen on a CPU.
    """

    ASK = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default", "bincount", "multinomial")

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        of_device = any(isinstance(x, Tensor) and (x.is_floating_point() or x.dtype == torch.bool) for x in args)
        if of_device and any(name in str(func) for name in self.ASK):
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("system", ["dmgan_pl", "topo_dmgan"])
def test_the_hot_loop_reads_nothing_back(system: str, images: bool, make_config: MakeConfig, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"system__draw": "equal", "system__n_generators": 4}
    if images:
        np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (30, 8, 8, 1), dtype=np.uint8))
        keys["data"] = {"name": "npy", "path": str(tmp_path / "images.npy")}
    if system == "topo_dmgan":
        keys |= {"system__topology_weight": 0, "system__noise__kind": "none"}  # a signature does wait
    loop = make_loop(make_config(system, **keys), Placement())
    loop.iteration()
    with Questions() as questions:
        loop.iteration()
    assert questions.asked == []
    with Questions() as questions:
        loop.drain_terms()
    assert questions.asked, "here it does, and the test would have seen it"
