"""Who moves when: the default schedule, schedules of pages, lazy terms, and losses that read labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from toposampler.errors import UserError
from toposampler.systems import Move
from toposampler.systems.wgan_gp import WGANGP, WGANGPConfig
from toposampler.training import RunConfig, train
from toposampler.training.config import run_folder
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.run import check

MakeConfig = Callable[..., RunConfig]


class TwoStepWGANGP(WGANGP):
    """Two generator steps an iteration, the second on a batch of its own, before the critic's."""

    def schedule(self, step: int, critic_steps: int) -> list[Move]:
        return [Move("generator", 1), Move("generator", 2), Move("critic", 0), Move("critic", 2)]


def make_loop(config: RunConfig, system: WGANGP | None = None) -> Loop:
    dataset = config.data.load()
    torch.manual_seed(config.seed)
    system_ = system or config.system.build(dataset.shape)
    return Loop(system_, dataset, config.training, config.seed, torch.device("cpu"), Placement())


def moves_of(loop: Loop, iterations: int) -> list[list[str]]:
    """The players that moved in each iteration, in their order."""
    found = []
    for _ in range(iterations):
        loop.iteration()
        found.append([name for _, name, _, _ in loop._history])
        loop._history.clear()
    return found


def test_the_default_is_critic_steps_then_one_of_every_other_player(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("dmgan_pl", training__critic_steps=3))
    assert loop.system.schedule(0, 3) == [
        *(Move("critic", batch) for batch in range(3)),
        Move("generator", 3),
        Move("prior", 3),
    ]
    assert moves_of(loop, 2) == [["critic"] * 3 + ["generator", "prior"]] * 2


def test_a_page_declares_its_own_schedule(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp")
    assert isinstance(config.system, WGANGPConfig)
    loop = make_loop(config, TwoStepWGANGP(config.system, (2,)))
    seen: list[tuple[str, torch.Tensor, torch.Tensor | None]] = []
    for name, player in loop.players.items():
        loss = player.loss
        player.loss = lambda batch, name=name, loss=loss: (seen.append((name, batch.real, batch.fake)), loss(batch))[1]  # type: ignore[misc]
    loop.iteration()
    assert [name for name, _, _ in seen] == ["generator", "generator", "critic", "critic"]
    assert [fake is None for _, _, fake in seen] == [True, True, False, False]
    assert torch.equal(seen[1][1], seen[3][1]), "both move on batch 2"
    assert not torch.equal(seen[0][1], seen[1][1])
    assert loop.step == 1


def test_the_prior_moves_at_every_nth_step_only(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("dmgan_pl", system__prior__every=3))
    assert ["prior" in moved for moved in moves_of(loop, 6)] == [True, False, False] * 2


def test_losses_get_the_labels_of_their_own_samples(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("conditional_wgan_gp", system__n_classes=4))
    batches, _ = loop._draw(3)
    data = {tuple(x): label for x, label in zip(loop.data.tolist(), loop.labels.tolist(), strict=True)}  # type: ignore[union-attr]
    for batch in batches:
        assert batch.labels is not None
        assert batch.labels.tolist() == [data[tuple(x)] for x in batch.real.tolist()]
        assert torch.equal(batch.noise["c"], batch.labels)
    assert make_loop(make_config("wgan_gp"))._draw(1)[0][0].labels is None


def test_a_conditional_gan_makes_the_class_it_is_asked_for(make_config: MakeConfig) -> None:
    config = make_config(
        "conditional_wgan_gp",
        system__n_classes=4,
        data__n=2000,
        data__weights=[0.7, 0.1, 0.1, 0.1],
        training__generator_steps=800,
        training__batch_size=32,
        training__evaluate_every=800,
        training__checkpoint_every=800,
        training__evaluation_samples=1000,
    )
    result = train(config)
    assert result is not None
    assert result["prior"] == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.02)
    stored, manifold = np.load(run_folder(config) / "samples.npz"), config.data.load().manifold
    assert manifold is not None
    nearest = manifold.distance(torch.from_numpy(stored["samples"])).argmin(dim=1).numpy()
    assert (nearest == stored["generators"]).mean() > 0.95, "labels that nobody reads would give .52"


@pytest.mark.parametrize(
    ("n_classes", "labels", "message"),
    [(3, True, "n_classes 3 is too small: the data have labels 0 to 3"), (4, False, "these data have none")],
)
def test_labels_that_are_missing_or_too_many_are_refused_before_anything_starts(
    n_classes: int, labels: bool, message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 2)))
    data = {} if labels else {"data": {"name": "npy", "path": str(tmp_path / "x.npy")}}
    with pytest.raises(UserError, match=message):
        check(make_config("conditional_wgan_gp", system__n_classes=n_classes, **data))
    assert not (tmp_path / "run").exists()
