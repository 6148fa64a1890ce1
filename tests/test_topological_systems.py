"""What the topological systems promise beyond conformance: the global signature, DMGAN-PL as a special case, guards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from torch import Tensor

from toposampler.errors import UserError
from toposampler.systems.batch import Batch
from toposampler.topology import signature_loss
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import run_folder
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup

MakeConfig = Callable[..., RunConfig]


def make_loop(config: RunConfig, group: ProcessGroup) -> Loop:
    dataset = config.data.load()
    torch.manual_seed(config.seed)
    return Loop(
        config.system.build(dataset.shape), dataset, config.training, config.seed, torch.device("cpu"), Placement(group)
    )


def clouds() -> tuple[Tensor, Tensor, Tensor]:
    """Points (12, 3), a matrix (3, 3) that moves them, and other points (12, 2)."""
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*size, generator=rng, dtype=torch.float64) for size in ((12, 3), (3, 3), (12, 2)))  # type: ignore[return-value]


def _gathering_worker(folder: Path) -> None:
    group = ProcessGroup.current()
    z, matrix, x = clouds()
    matrix.requires_grad_()
    owner = torch.tensor([0, 2, 1, 1, 0, 2, 2, 2, 1, 2, 0, 2]) % group.size  # unequal shares
    mine = owner == group.rank
    loss = signature_loss(group.gather(z[mine] @ matrix, owner), group.gather(x[mine], owner))
    loss.backward()
    assert matrix.grad is not None
    group.average_(matrix.grad)
    torch.save((loss.detach(), matrix.grad), folder / f"{group.rank}.pt")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_signature_is_that_of_the_global_batch(size: int, tmp_path: Path) -> None:
    """Value and gradient are those of one process, whatever the number of workers."""
    on_ranks(size, _gathering_worker, tmp_path)
    z, matrix, x = clouds()
    loss = signature_loss(z @ matrix.requires_grad_(), x)
    (gradient,) = torch.autograd.grad(loss, matrix)
    assert gradient.abs().max() > 1e-3
    for rank in range(size):
        value, averaged = torch.load(tmp_path / f"{rank}.pt")
        assert value == loss
        assert (averaged - gradient).abs().max() < 1e-12


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_topo_dmgan_without_topology_is_dmgan_pl_to_the_last_bit(precision: str, make_config: MakeConfig) -> None:
    off = {"system__noise__kind": "none", "system__topology_weight": 0}
    states = []
    for config in (
        make_config("dmgan_pl", training__precision=precision),
        make_config("topo_dmgan", training__precision=precision, **off),
    ):
        loop = make_loop(config, ProcessGroup())
        for _ in range(10):
            loop.iteration()
        states.append((loop.state_dict(), loop.drain_terms()))
    (one, one_terms), (other, other_terms) = states
    assert one["system"].keys() == other["system"].keys()
    assert all(torch.equal(one["system"][key], other["system"][key]) for key in one["system"])
    assert torch.equal(one["average"], other["average"])
    assert one_terms == other_terms


@pytest.mark.parametrize(
    ("name", "kind"), [("toposampler", "network"), ("toposampler", "gate"), ("topo_dmgan", "network")]
)
def test_by_the_signature_alone_the_noise_module_does_not_see_the_critic(
    name: str, kind: str, make_config: MakeConfig
) -> None:
    keys = {"system__noise__kind": kind, "system__noise__adversarial": False}
    moved = []
    for scale in (1.0, -3.0):
        loop = make_loop(make_config(name, **keys), ProcessGroup())
        with torch.no_grad():
            loop.system.critic.head.weight *= scale  # type: ignore[operator, union-attr]
        (batch,), _ = loop._draw(1)
        loop._move("generator", batch)
        moved.append(torch.cat([p.flatten() for p in loop.system.noise.parameters()]))  # type: ignore[union-attr, operator]
    assert torch.equal(*moved)


@pytest.mark.parametrize("kind", ["spectral", "orthogonal"])
def test_generators_that_cannot_stretch_resume_exactly_and_are_found_again(kind: str, make_config: MakeConfig) -> None:
    keys = {"system__network__kind": kind, "system__noise__branch": "orthogonal"}
    whole, stopped = (
        make_config("toposampler", name="whole", **keys),
        make_config("toposampler", name="stopped", **keys),
    )

    def stop(step: int, path: Path) -> None:
        if step == 10:
            raise KeyboardInterrupt

    train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, on_checkpoint=stop)
    train(stopped)
    (x, c), (again, _) = (load_model(run_folder(config)).sample(100, seed=1) for config in (whole, stopped))
    assert torch.equal(x, again)
    assert set(c.tolist()) == {0, 1}


def test_the_moving_average_takes_in_the_noise_module(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("toposampler"), ProcessGroup())
    start = loop.system.noise.offset.clone()  # type: ignore[union-attr, operator]
    loop.iteration()
    trained = loop.system.noise.offset.clone()  # type: ignore[union-attr, operator]
    assert not torch.equal(start, trained)
    with loop.averaged() as system:
        inside = system.noise.offset.clone()  # type: ignore[union-attr, operator]
    assert inside == pytest.approx((start + 9 * trained) / 10, abs=1e-5)
    assert torch.equal(loop.system.noise.offset, trained)  # type: ignore[union-attr]


@pytest.mark.parametrize("space", ["data", "critic"])
def test_the_data_s_signature_is_taken_where_it_is_asked_for(space: str, make_config: MakeConfig) -> None:
    config = make_config("toposampler", system__topology_space=space, system__topology_weight=2)
    loop = make_loop(config, ProcessGroup())
    (batch,), _ = loop._draw(1)
    target = batch.real if space == "data" else loop.system.critic.features(batch.real)  # type: ignore[union-attr, operator]
    expected = 2 * signature_loss(loop.system.noise(batch.noise["z"], batch.noise["c"]), target)  # type: ignore[operator]
    assert loop.system.generator_loss(batch)["topology"].item() == pytest.approx(expected.item())  # type: ignore[operator]


def test_the_odds_of_branches_follow_the_gradient_of_the_expected_score(make_config: MakeConfig) -> None:
    """`choice` differentiates to that of -sum_c r(c) E D(G(N_c(z))), which can be had for few branches."""
    system = make_config("toposampler", system__noise__branches=3, system__topology_weight=0).system.build((2,))
    system = system.double()
    zeta = system.mixture.zeta  # type: ignore[union-attr]
    with torch.no_grad():
        zeta.copy_(torch.tensor([0.5, -0.3, 0.1]))
    n = 200_000
    noise = {name: x[0] for name, x in system.draw(1, n, torch.Generator().manual_seed(0)).items()}
    with torch.no_grad():
        scores = system.critic(system.generate(noise))
        means = torch.stack([scores[noise["c"] == k].mean() for k in range(3)])
    batch = Batch(torch.zeros(n, 2), noise, None, 0, 1)
    (gradient,) = torch.autograd.grad(system.latent_terms(batch, -scores)["choice"], zeta)
    (expected,) = torch.autograd.grad(-(zeta.softmax(dim=0) * means).sum(), zeta)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(gradient, expected, rtol=0, atol=0.01 * float(expected.abs().max()))


def test_bad_keys_are_named(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"batch_size \(8\) is too small: this system needs at least 9"):
        make_config("toposampler", system__topology_bars=8)
    make_config("toposampler", system__topology_bars=7)
    make_config("toposampler", system__topology_bars=8, system__topology_weight=0)
    with pytest.raises(UserError, match=r"topology_weight 1 has nothing to train: noise.kind is none"):
        make_config("topo_dmgan", system__noise__kind="none")
    with pytest.raises(UserError, match=r"adversarial false and topology_weight 0 leave nothing to train the noise"):
        make_config("toposampler", system__noise__adversarial=False, system__topology_weight=0)
    with pytest.raises(UserError, match=r"system.noise: the ensemble's prior r\(c\) is what is drawn here"):
        make_config("topo_dmgan", system__noise__kind="gate")
    make_config("topo_dmgan", system__noise__kind="gate", system__noise__choice="straight-through")
    with pytest.raises(UserError, match=r"system.noise.kind: input should be 'none', 'network' or 'gate' \(got 'tear'"):
        make_config("topo_dmgan", system__noise__kind="tear")
