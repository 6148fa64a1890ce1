"""Training on images that are read as they are needed is training on images in memory: the same bits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from image_sets import PNG, N, as_folder, as_tar
from ranks import on_ranks

from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.data.streamed import StreamedImages
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.training import RunConfig, train
from toposampler.training.feed import Feed
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup
from toposampler.training.run import begin, check
from toposampler.training.seeds import train_seeds

DEVICE = torch.device("cpu")
MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def make_run(make_config: MakeConfig, tmp_path: Path) -> MakeConfig:
    """A small run on the images of `image_sets`, in archives, 8 a batch."""
    root = as_tar(tmp_path / "set")
    small = {"generator_width": 4, "critic_width": 4, "latent": {"kind": "uniform", "dim": 4}}

    def make(system: str = "wgan_gp", cache: str = "none", **keys: Any) -> RunConfig:
        data = {"name": "shards", "path": str(root), "size": 8, "cache": cache, "store": str(tmp_path / "store")}
        config = make_config(system, training__critic_steps=2, **keys)
        content = config.model_dump(mode="json")
        return validate(RunConfig, content | {"data": data, "system": content["system"] | small})

    return make


def make_loop(config: RunConfig, dataset: Dataset, group: ProcessGroup = ProcessGroup()) -> Loop:  # noqa: B008
    torch.manual_seed(config.seed)
    system = config.system.build(dataset.shape)
    return Loop(system, dataset, config.training, config.seed, DEVICE, Placement(group))


def weights(loop: Loop) -> torch.Tensor:
    return torch.cat([player.values for player in loop.players.values()])


@pytest.mark.parametrize("cache", ["host", "disk", "none"])
def test_a_step_does_not_depend_on_where_images_are_kept(make_run: MakeConfig, cache: str) -> None:
    config = make_run("conditional_wgan_gp", training__batch_growth=2, training__batch_growth_from=0.1)
    loops = []
    for kept in ("device", cache):
        section = config.data.model_copy(update={"cache": kept})
        loops.append(make_loop(config, section.load()))
    assert isinstance(loops[1].data, Feed)
    for _ in range(4):  # over the end of an epoch of 40, and where the batch grows
        for loop in loops:
            loop.iteration()
        assert torch.equal(*map(weights, loops))


def test_the_rows_of_the_next_iteration_are_read_beside_this_one(
    make_run: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is announced is exactly what is asked for next, so that nothing is read twice, or waited for."""
    config = make_run("conditional_wgan_gp", training__batch_growth=2, training__batch_growth_from=0.1)
    for rank, size in ((0, 1), (0, 2), (1, 2), (2, 3)):
        loop = make_loop(config, config.data.load(), ProcessGroup(rank, size))
        asked: list[list[int]] = []
        start = StreamedImages.start
        monkeypatch.setattr(
            StreamedImages, "start", lambda self, i, out, f=start, a=asked: (a.append(i.tolist()), f(self, i, out))[1]
        )
        for _ in range(4):
            loop._draw(3)
            loop.step += 1
        assert len(asked) == 5  # the first, and each next one, once
        monkeypatch.setattr(StreamedImages, "start", start)


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_workers_reads_the_same_global_batches(make_run: MakeConfig, size: int) -> None:
    config = make_run(training__batch_size=6)
    data = config.data.load()
    whole = make_loop(config, data)
    ranks = [make_loop(config, data, ProcessGroup(rank, size)) for rank in range(size)]
    for _ in range(5):
        together = whole._draw(3)[0]
        parts = [rank._draw(3)[0] for rank in ranks]
        for i, batch in enumerate(together):
            rows = torch.empty_like(batch.real)
            for rank in range(size):
                rows[rank::size] = parts[rank][i].real
            assert torch.equal(rows, batch.real)


def test_a_run_goes_on_where_it_was_stopped(make_run: MakeConfig) -> None:
    config = make_run("dmgan_pl", system__n_generators=2)
    data = config.data.load()
    loop, other = make_loop(config, data), make_loop(config, data)
    for _ in range(3):
        loop.iteration()
    state = loop.state_dict()
    assert state["sampler"] == {"epoch": 1, "position": 3 * 3 * 8 - N}
    other.iteration()  # what it has announced is not what it will ask for
    other.load_state_dict(state)
    for _ in range(3):
        loop.iteration()
        other.iteration()
    assert torch.equal(weights(loop), weights(other))


def test_a_run_from_its_configuration_to_its_result(make_run: MakeConfig) -> None:
    """The cache may be another one when it is resumed."""
    config = make_run(training__generator_steps=4, training__checkpoint_every=2)

    def stop() -> str | None:
        return "stop"

    with pytest.raises(Exception, match="stopped after generator step"):
        train(config, should_stop=stop)
    other = config.model_copy(update={"data": config.data.model_copy(update={"cache": "disk"})})
    result = train(other)
    assert result is not None
    assert result["generator_steps"] == 4
    assert "mass_tv_nn1" in result["metrics"]


def test_several_seeds_share_what_is_read(make_run: MakeConfig) -> None:
    """Each member sees what its run alone does; the critic's constant cancels in every loss, up to rounding."""
    config = make_run(training__generator_steps=2, training__precision="fp64", seeds=2)
    train_seeds(config)
    single = config.model_copy(update={"seeds": None, "seed": 1})
    states = []
    for name in ("alone", "run/seed-1"):
        with begin(single.model_copy(update={"name": name})) as run:
            run.advance(2)
            states.append(run.loop.state_dict()["system"])
    for name, x in states[0].items():
        if name != "critic.head.bias":
            torch.testing.assert_close(states[1][name], x, rtol=0, atol=1e-10)


def test_images_that_turn_out_unreadable_stop_the_run_beyond_the_stated_share(
    make_run: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = as_tar(tmp_path / "damaged", [png[:40] if i in (5, 6, 30) else png for i, png in enumerate(PNG)])
    config = make_run()
    section = config.data.model_copy(update={"path": root, "skip_share": 0.08, "subset": 20})
    loop = make_loop(config, section.load())
    loop.iteration()
    loop.iteration()
    with caplog.at_level(logging.WARNING):
        loop.drain_terms()
    assert "3 of 40 images cannot be read" in caplog.text
    caplog.clear()
    loop.iteration()
    loop.drain_terms()
    assert not caplog.text  # said once
    strict = section.load()
    assert strict.rows is not None
    strict.rows.skip_share = 0.05
    loop = make_loop(config, strict)
    loop.iteration()
    loop.iteration()
    with pytest.raises(TrainingStoppedError, match=r"3 of 40 images cannot be read .* the first: image set/05\.png"):
        loop.drain_terms()


def test_files_that_are_gone_stop_the_run(make_config: MakeConfig, tmp_path: Path) -> None:
    root = as_folder(tmp_path / "set")
    content = make_config("wgan_gp").model_dump(mode="json")
    data = {"name": "folder", "path": str(root), "size": 8, "cache": "none", "store": str(tmp_path / "store")}
    config = validate(RunConfig, content | {"data": data})
    dataset = config.data.load()
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(TrainingStoppedError, match=r"the data cannot be read: image .*No such file"):
        make_loop(config, dataset).iteration()


def test_what_cannot_be_trained_on_is_refused(make_run: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"training.batch_size \(41\) is more than the 40 images"):
        check(make_run(training__batch_size=41))
    check(make_run(training__batch_size=40))
    config = make_run(cache="device", training__batch_size=41)
    (note,) = (note for note in check(config, check(config)).notes if "batch" in note)
    assert note.startswith("warning: training.batch_size (41) is more than the 40 samples there are: ")
    with pytest.raises(UserError, match=r"component_gan finds components in all of its data.*data\.cache device"):
        begin(make_run("component_gan"))


def _worker(config: RunConfig, folder: Path) -> None:
    group = ProcessGroup.current()
    loop = make_loop(config, config.data.load(), group)
    for _ in range(10):
        loop.iteration()
    loop.drain_terms()
    if group.rank == 0:
        torch.save(weights(loop), folder / f"{group.size}.pt")


@pytest.mark.slow
def test_one_two_and_three_workers_train_alike(make_run: MakeConfig, tmp_path: Path) -> None:
    config = make_run(training__precision="fp64", training__batch_size=6)
    for size in (1, 2, 3):
        on_ranks(size, _worker, config, tmp_path)
    one, *others = (torch.load(tmp_path / f"{size}.pt") for size in (1, 2, 3))
    for other in others:
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10)
