"""R3GAN's networks and game under one generator and under several, on 16 x 16 images: recorded losses, exact resume,
and two workers as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks
from torch import Tensor

from toposampler.data import Dataset
from toposampler.training import RunConfig
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup

MakeConfig = Callable[..., RunConfig]

GOLDEN = Path(__file__).parent / "golden" / "r3gan_backbone.json"
SHAPE = (3, 16, 16)
SMALL = {
    "system__generator_network": "resnet", "system__critic_network": "resnet", "system__generator_width": 16,
    "system__critic_width": 16, "system__generator_depth": 1, "system__critic_depth": 1, "system__latent__dim": 8,
    "system__adversarial": "relativistic", "system__penalty": {"weight": 0.5, "final_weight": 0.05},
    "system__burn_in": 6, "training__critic_steps": 1, "training__precision": "fp64",
}  # fmt: skip
TWO = {"system__n_generators": 2}
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "r3gan": ("r3gan", {}),
    "dmgan_pl, separate": ("dmgan_pl", TWO),
    "dmgan_pl, shared": ("dmgan_pl", TWO | {"system__shared_trunk": True}),
    "component_gan, separate, from the data": ("component_gan", TWO | {"system__start_normals": 0}),
    "component_gan, shared": ("component_gan", TWO | {"system__shared_trunk": True, "system__fitted_start": False}),
}


def make_loop(config: RunConfig, group: ProcessGroup = ProcessGroup()) -> Loop:  # noqa: B008
    """A loop on 48 images of two kinds, dark and light. The weights are uniform numbers, which all machines draw alike,
    where networks start with normal ones."""
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(48, *SHAPE, generator=rng) * 0.6 - 0.9
    x[::3] += 1
    prepared = config.system.prepare(Dataset(x))
    torch.manual_seed(config.seed)
    system = prepared.build(SHAPE)
    with torch.no_grad():
        for parameter in system.parameters():
            if parameter.dim() > 1:
                parameter.copy_((torch.rand(parameter.shape, generator=rng) - 0.5) * 0.9)
    data = Dataset(x, prepared.labels)
    return Loop(system, data, config.training, config.seed, torch.device("cpu"), Placement(group))


def weights(loop: Loop) -> Tensor:
    return torch.cat([player.values for player in loop.players.values()])


@pytest.mark.parametrize("name", SYSTEMS)
def test_golden_losses(name: str, make_config: MakeConfig) -> None:
    """The loss terms of 4 steps, as `test_systems.test_golden_losses` has them on points."""
    system, keys = SYSTEMS[name]
    loop = make_loop(make_config(system, **SMALL, **keys))
    history = []
    for _ in range(4):
        loop.iteration()
        history.append(loop.drain_terms())
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if name not in golden:
        GOLDEN.write_text(json.dumps(golden | {name: history}, indent=1))
        pytest.fail(f"there were no golden losses of {name}; {GOLDEN} has been written: look at it and commit it")
    for step, (terms, expected) in enumerate(zip(history, golden[name], strict=True)):
        assert terms == pytest.approx(expected, rel=1e-8, abs=1e-10), f"step {step}"
        assert terms["critic/r1"] > 1e-3


@pytest.mark.parametrize("name", ["dmgan_pl, shared", "component_gan, shared"])
def test_a_run_goes_on_to_the_last_bit(name: str, make_config: MakeConfig) -> None:
    """Amid the burn-in, with augmentation and the noise of the samples that come next."""
    system, keys = SYSTEMS[name]
    augmented = {"training__augmentation": {"probability": 0.5}}
    config = make_config(system, **SMALL, **keys, **augmented)
    whole, stopped = make_loop(config), make_loop(config)
    for _ in range(2):
        whole.iteration()
        stopped.iteration()
    state = stopped.state_dict()
    resumed = make_loop(config)
    resumed.load_state_dict(state)
    for _ in range(2):
        whole.iteration()
        resumed.iteration()
    assert torch.equal(weights(whole), weights(resumed))
    assert torch.equal(whole.average, resumed.average)


def _worker(config: RunConfig, folder: Path) -> None:
    loop = make_loop(config, ProcessGroup.current())
    for _ in range(4):
        loop.iteration()
    if loop.group.rank == 0:
        torch.save(weights(loop), folder / f"{loop.group.size}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_two_workers_do_what_one_does(name: str, make_config: MakeConfig, tmp_path: Path) -> None:
    system, keys = SYSTEMS[name]
    config = make_config(system, **SMALL, **keys, training__augmentation={"probability": 0.5})
    on_ranks(2, _worker, config, tmp_path)
    loop = make_loop(config)
    start = weights(loop).clone()
    for _ in range(4):
        loop.iteration()
    assert (weights(loop) - start).abs().max() > 1e-4
    torch.testing.assert_close(torch.load(tmp_path / "2.pt"), weights(loop), rtol=0, atol=1e-10)
