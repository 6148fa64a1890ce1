"""Augmentation: what each transformation does to an image, the same results everywhere, and its adaptation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ranks import on_ranks
from test_population import largest_difference, seeds
from test_pure_iteration import iteration_without_values
from test_systems import make_loop, parameters
from torch import Tensor

from toposampler.errors import UserError
from toposampler.nn.augmentation import COLUMNS, KINDS, augment, draw_parameters
from toposampler.systems import System
from toposampler.systems.batch import Batch
from toposampler.training import RunConfig
from toposampler.training.augmentation import NAME
from toposampler.training.process_group import ProcessGroup
from toposampler.training.run import check_data

MakeConfig = Callable[..., RunConfig]

SHAPE = (3, 16, 16)
NEUTRAL = (0.0, 0, 0, 0, 1, 1, 0, 0, 0)
IMAGES: dict[str, Any] = {
    "data": {"name": "digits"}, "system__generator_width": 2, "system__critic_width": 2,
}  # fmt: skip
ON = {"training__augmentation": {"probability": 0.5}}
ADAPTIVE = {"training__augmentation": {"probability": 0.5, "adaptive": True, "every": 2, "images": 64}}


def one(x: Tensor, **columns: float) -> Tensor:
    """x with the columns of `columns` (c0 to c8) in place of neutral ones."""
    row = list(NEUTRAL)
    for name, value in columns.items():
        row[int(name[1:])] = value
    return augment(x, torch.tensor(row).expand(len(x), COLUMNS))


def drawn(p: float, n: int = 2000, kinds: tuple[str, ...] = KINDS) -> Tensor:
    return draw_parameters((n,), SHAPE, torch.tensor(p), kinds, torch.Generator().manual_seed(0))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_without_probability_images_stay_as_they_are_to_the_last_bit(x: Tensor) -> None:
    assert torch.equal(augment(x, drawn(0.0, 5)), x)
    assert torch.equal(augment(x, drawn(0.9, 5, kinds=())), x)
    assert not torch.equal(augment(x, drawn(0.9, 5)), x)


def test_each_transformation(x: Tensor) -> None:
    assert torch.equal(one(x, c0=1), x.flip(-1))
    moved = one(x, c1=2, c2=-1)
    assert torch.equal(moved[..., 2:, :-1], x[..., :-2, 1:])
    assert (moved[..., :2, :] == 0).all()
    assert (moved[..., -1] == 0).all()
    torch.testing.assert_close(one(x, c3=0.25), x + 0.25)
    gray = x.mean(dim=1, keepdim=True)
    torch.testing.assert_close(one(x, c4=0), gray.expand_as(x))
    for column in ("c4", "c5"):  # saturation and contrast keep the mean of an image
        torch.testing.assert_close(one(x, **{column: 1.5}).mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(one(x, c5=2).std(dim=(1, 2, 3)), 2 * x.std(dim=(1, 2, 3)))
    cut = one(x, c6=8, c7=4, c8=4)
    assert (cut[..., 6:10, 2:6] == 0).all()
    assert torch.equal(cut[..., :6, :], x[..., :6, :])
    assert int((cut != x).sum()) == 5 * 3 * 16
    assert int((one(x, c6=8, c7=4, c8=3) != x).sum()) == 5 * 3 * 9


def test_each_kind_is_applied_with_its_probability() -> None:
    """Of 2,000 draws within 5 standard errors; flips are applied to half of those drawn."""
    found = drawn(0.4)
    changed = (found != torch.tensor(NEUTRAL)).float().mean(dim=0)
    for column, expected in ((0, 0.2), (1, 0.4 * 4 / 5), (3, 0.4), (4, 0.4), (5, 0.4), (8, 0.4)):
        # shifts are round(u) of u in [-2, 2]: 0 in a quarter of them
        expected = 0.3 if column == 1 else expected
        assert changed[column] == pytest.approx(expected, abs=5 * (expected * (1 - expected) / 2000) ** 0.5)
    for kind, columns in (("flip", [0]), ("translation", [1, 2]), ("color", [3, 4, 5]), ("cutout", [8])):
        only = (drawn(0.9, kinds=(kind,)) != torch.tensor(NEUTRAL)).any(dim=0)
        assert only.nonzero().flatten().tolist() == sorted({*columns, 6, 7})


def test_gradients_pass_exactly(x: Tensor) -> None:
    at = x[:2, :, :5, :5].double().requires_grad_()
    rows = torch.tensor([[1, 1, -1, 0.2, 0.5, 1.3, 2, 2, 2], [0, 0, 2, -0.1, 1.5, 0.6, 0, 4, 1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda image: augment(image, rows), at)


def test_real_and_generated_images_pass_the_same_function(make_config: MakeConfig) -> None:
    """Every loss is given augmented images, the generator's with gradient; samples for others are as they are."""
    loop = make_loop(make_config("wgan_gp", **IMAGES, **ON))
    indices, noise = loop.draw(1)
    rows = noise[NAME][0]
    assert rows.shape == (8, 2, COLUMNS)
    assert not torch.equal(rows[:, 0], rows[:, 1])
    made = loop.system.generate({name: part[0] for name, part in noise.items()})
    plain = loop.system.generate({name: part[0] for name, part in noise.items() if name != NAME})
    assert torch.equal(made, augment(plain, rows[:, 1]))
    assert not torch.equal(made, plain)
    seen: dict[str, Tensor] = {}

    def keep(system: System, batch: Batch) -> dict[str, Tensor]:
        seen["real"] = batch.real
        return {"adversarial": system.generate(batch.noise).mean() * 0}

    again = make_loop(make_config("wgan_gp", **IMAGES, **ON))
    again.players["generator"].loss = lambda batch: keep(again.system, batch)
    (batch,), _ = again._draw(1)
    again._move("generator", batch)
    assert torch.equal(seen["real"], augment(loop.data[indices[0]], rows[:, 0]))


def test_off_is_the_run_without_it(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("wgan_gp", **IMAGES))
    assert NAME not in loop.draw(1)[1]
    assert "augmentation" not in loop.state_dict()


def test_the_probability_rises_while_pairs_are_separated_and_falls_else(make_config: MakeConfig) -> None:
    """By images of the steps between two looks over those of the whole way, and within 0 and .8."""
    augmentation = make_loop(make_config("wgan_gp", **IMAGES, **ADAPTIVE)).augmentation
    assert augmentation is not None
    for sign, expected in (
        (1.0, 0.75),
        (0.5, 0.5),
        (0.7, 0.75),
        (0.7, 0.8),
        (0.0, 0.55),
        (-1.0, 0.3),
        (0, 0.05),
        (0, 0),
    ):
        augmentation.adapt(torch.tensor(sign), 8)  # 2 steps of 8 images, of 64
        assert float(augmentation.p) == pytest.approx(expected, abs=1e-6)
    assert [augmentation.is_due(step) for step in range(4)] == [True, False, True, False]


def test_it_grows_along_a_burn_in(make_config: MakeConfig) -> None:
    loop = make_loop(make_config("wgan_gp", **IMAGES, **ON, system__burn_in=10, training__batch_size=64))
    share = []
    for step in (0, 5, 10):
        loop.step = step
        share.append(float((loop.draw(20)[1][NAME][..., 8] > 0).float().mean()))
    assert share == [0, pytest.approx(0.25, abs=0.05), pytest.approx(0.5, abs=0.05)]


def test_adaptation_goes_on_from_a_checkpoint_to_the_last_bit(make_config: MakeConfig) -> None:
    whole, resumed = (make_loop(make_config("wgan_gp", **IMAGES, **ADAPTIVE)) for _ in range(2))
    for _ in range(3):
        whole.iteration()
    state = whole.state_dict()
    assert float(state["augmentation"]) != 0.5
    resumed.load_state_dict({**state, "average": state["average"].clone()})
    for _ in range(3):
        whole.iteration()
        resumed.iteration()
    assert torch.equal(parameters(whole), parameters(resumed))
    assert whole.augmentation is not None and resumed.augmentation is not None  # noqa: PT018
    assert torch.equal(whole.augmentation.p, resumed.augmentation.p)


def trained(config: RunConfig) -> tuple[Tensor, Tensor]:
    """Parameters and probability after 6 iterations, in whatever process group there is."""
    loop = make_loop(config, ProcessGroup.current())
    for _ in range(6):
        loop.iteration()
    assert loop.augmentation is not None
    return parameters(loop), loop.augmentation.p


def as_one_process(config: RunConfig, values: Tensor, p: Tensor) -> None:
    """Train as one of several workers; the result is that of one process."""
    found, q = trained(config)
    torch.testing.assert_close(found, values, rtol=0, atol=1e-10)
    assert torch.equal(p, q)


@pytest.mark.slow
def test_two_workers_do_what_one_does(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp", **IMAGES, **ADAPTIVE, training__precision="fp64")
    values, p = trained(config)
    assert float(p) != 0.5
    on_ranks(2, as_one_process, config, values, p)


def test_members_of_a_population_are_augmented_as_alone(make_config: MakeConfig) -> None:
    assert largest_difference(seeds(make_config, "wgan_gp", **IMAGES, **ADAPTIVE)) < 1e-10


def test_no_shape_depends_on_a_value(make_config: MakeConfig) -> None:
    assert iteration_without_values(make_config("wgan_gp", **IMAGES, **ON)).step == 1


@pytest.mark.parametrize(
    ("system", "keys", "message"),
    [
        ("wgan_gp", ON, r"training.augmentation is for images \(C, H, W\), and these samples have the shape \(2,\)"),
        ("mdgan", IMAGES | ON, "system.name mdgan has its generator reconstruct real images"),
        (
            "pacgan",
            IMAGES | ADAPTIVE,
            "training.augmentation.adaptive true asks the critic for scores of single samples",
        ),
    ],
)
def test_what_cannot_be_augmented_is_refused(
    system: str, keys: dict[str, Any], message: str, make_config: MakeConfig
) -> None:
    config = make_config(system, **keys)
    refuse = check_data if "shape" in message else make_loop
    with pytest.raises(UserError, match=message):
        refuse(config)
