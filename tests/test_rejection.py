"""Rejection: exact scores, the rate that was asked for, the prior as learned, weights with a known answer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from test_family import assert_same_vectors, power_iteration, spectral_norms
from torch import nn
from torch.func import jacrev

from toposampler.data import Dataset
from toposampler.errors import UserError
from toposampler.rejection import METHODS, TRUNCATIONS, Rejection, rejection
from toposampler.rejection.base import PATIENCE
from toposampler.rejection.critic import CriticRejection
from toposampler.rejection.density import NEIGHBORS, Density
from toposampler.rejection.jacobian import Jacobian, scores
from toposampler.rejection.latent_rs import ASCENT_RATE, ASCENT_STEPS, LatentRS, WeightNetwork
from toposampler.rejection.simplicial import Simplicial
from toposampler.rejection.training import CRITIC_STEPS, critic_loss, train_weights, weight_loss
from toposampler.rejection.truncation import CALIBRATION, Truncation
from toposampler.systems import SYSTEMS
from toposampler.training import Model, RunConfig, load_model, train
from toposampler.training.sampling import AT_ONCE

torch.set_num_threads(1)

MakeConfig = Callable[..., RunConfig]
NAMES = [system.model_fields["name"].default for system in SYSTEMS]


def make_model(config: RunConfig, seed: int = 0, shape: tuple[int, ...] = (2,)) -> Model:
    """An untrained model."""
    torch.manual_seed(seed)
    return Model(config, config.system.build(shape).requires_grad_(False), 0, shape, config.data.load().digest())


def generator_seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Rows(nn.Module):
    """Stands for {G_c}: any function of the latents."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.function(z)


class Constant(nn.Module):
    """Stands for a weight network: the same weight everywhere."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.full((len(z),), self.weight)


@pytest.mark.parametrize(("weight", "n"), [(1.0, 1000), (0.4, 60)])
def test_generators_deliver_by_the_prior_however_few_samples_are_asked_for(
    weight: float, n: int, make_config: MakeConfig
) -> None:
    """Where nothing is reweighted the shares are r(c), whatever is accepted, though systematic draws are sorted."""
    model, seeds = make_model(make_config("dmgan_pl", system__n_generators=10)), 20
    sampler = LatentRS(model, Constant(weight), cap=1.0)
    shares = sum(torch.bincount(sampler.draw(n, seed).ids, minlength=10) for seed in range(seeds)) / (seeds * n)
    assert ((shares - 0.1).abs() < 4 * math.sqrt(0.1 * 0.9 / (seeds * n))).all(), shares


def test_what_is_proposed_is_shuffled_row_by_row(make_config: MakeConfig) -> None:
    """Each field with the same permutation: ids are those of z as they were drawn."""
    model = make_model(make_config("dmgan_pl", system__n_generators=10))
    draw = model.system.draw

    def marked(*arguments: Any) -> dict[str, torch.Tensor]:
        noise = draw(*arguments)
        return {**noise, "z": noise["c"][..., None].float()}

    model.system.draw = marked
    noise = Jacobian(model, 0.5).propose(500, None, generator_seeded(0))
    assert torch.equal(noise["z"][:, 0].long(), noise["c"])
    assert set(noise["c"][:100].tolist()) == set(range(10))


@pytest.mark.parametrize("name", ["jacobian", "density", "simplicial", "critic", "latent_rs"])
def test_networks_get_few_images_at_once_and_values_stay(
    name: str, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4,096 images of 64 x 64 at once, or the 10,000 of a calibration, would need tens of gigabytes."""
    small = {"system__generator_width": 8, "system__critic_width": 4}
    config = make_config("wgan_gp", system__latent__kind="normal", system__latent__dim=10, **small)
    model, weights = make_model(config, shape=(1, 8, 8)), WeightNetwork(10, 1)
    rows: list[int] = []
    for module in (model.system.generators, model.system.critic.trunk):
        module.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))

    def drawn() -> torch.Tensor:
        keep = 0.5 if name in TRUNCATIONS else None
        sampler = LatentRS(model, weights) if name == "latent_rs" else rejection(name, model, keep, None)
        return sampler.draw(600, seed=1).samples

    for size in ("critic.CALIBRATION", "truncation.CALIBRATION", "density.REFERENCE"):
        monkeypatch.setattr(f"toposampler.rejection.{size}", 600)
    found = drawn()
    assert max(rows) <= AT_ONCE
    for module in ("base", "critic", "density", "jacobian"):
        monkeypatch.setattr(f"toposampler.rejection.{module}.pieces", lambda noise, at_once: [noise])
    whole = drawn()
    assert max(rows) > AT_ONCE
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)  # sums of other sizes round otherwise


def test_score_of_a_linear_generator_is_its_squared_frobenius_norm(make_config: MakeConfig) -> None:
    """|A eps|^2 has mean |A|_F^2 and variance 2 |A^T A|_F^2."""
    model, a = make_model(make_config("wgan_gp")), torch.randn(8, 2, generator=generator_seeded(0))
    model.system.generators = Rows(lambda z: z @ a)
    noise, draws = {"z": torch.zeros(500, 8), "c": torch.zeros(500, dtype=torch.long)}, 20
    found = scores(model.system, noise, generator_seeded(1), draws)
    deviation = math.sqrt(2 * float((a.T @ a).square().sum()) / draws)
    assert abs(float(found.mean()) - float(a.square().sum())) < 4 * deviation / math.sqrt(500)
    assert 0.8 * deviation < float(found.std()) < 1.2 * deviation


@pytest.mark.parametrize("name", NAMES)
def test_score_is_that_of_the_exact_jacobian(name: str, make_config: MakeConfig) -> None:
    system = make_model(make_config(name)).system.double()
    noise = {key: x[0] for key, x in system.draw(1, 4, generator_seeded(2)).items()}

    def one(i: int) -> torch.Tensor:
        row = {key: x[i : i + 1] for key, x in noise.items()}
        return jacrev(lambda z: system.generate({**row, "z": z[None]})[0])(row["z"][0])

    exact = torch.stack([one(i) for i in range(4)])
    draws = 200
    found = scores(system, noise, generator_seeded(3), draws)
    gram = exact @ exact.transpose(1, 2)
    deviation = (2 * gram.square().sum(dim=(1, 2)) / draws).sqrt()
    assert ((found - exact.square().sum(dim=(1, 2))).abs() <= 4.5 * deviation).all()


@pytest.mark.parametrize("truncation", TRUNCATIONS.values())
@pytest.mark.parametrize("keep", [0.5, 0.8, 0.95])
def test_the_share_asked_for_is_kept_of_fresh_latents(
    keep: float, truncation: type[Truncation], make_config: MakeConfig
) -> None:
    drawn = truncation(make_model(make_config("wgan_gp")), keep).draw(4000, seed=5)
    variance = keep * (1 - keep) * (1 / CALIBRATION + 1 / drawn.cost.proposed)
    assert abs(drawn.cost.acceptance_rate - keep) < 3.5 * math.sqrt(variance)
    assert len(drawn.samples) == len(drawn.ids) == 4000
    assert drawn.cost.forward_passes >= truncation.passes * (drawn.cost.proposed + CALIBRATION)


@pytest.mark.parametrize("truncation", TRUNCATIONS.values())
def test_all_is_kept_at_1(truncation: type[Truncation], make_config: MakeConfig) -> None:
    assert truncation(make_model(make_config("wgan_gp")), 1.0).draw(500).cost.proposed == 500


def test_jacobian_keeps_the_flattest_latents(make_config: MakeConfig) -> None:
    """x = z^3 stretches by 3 z^2: the 30 % kept of z uniform on (-1, 1) lie about 0, not beside it."""
    model = make_model(make_config("wgan_gp", system__latent__dim=1))
    model.system.generators = Rows(lambda z: torch.cat((z, 100 * z**3), dim=1))
    z = Jacobian(model, 0.3).draw(2000).samples[:, 0].abs()
    assert float(z.mean()) < 0.25  # half without rejection
    assert float(z.max()) < 0.8


def in_sample_space(model: Model) -> Model:
    """The model, its critic's features the samples themselves."""
    model.system.critic.features = lambda x: x
    return model


def test_density_keeps_what_is_dense(make_config: MakeConfig) -> None:
    """A tenth of the mass is a bridge of length 4 and density .025, between ends of length 1 and density .45."""
    model = in_sample_space(make_model(make_config("wgan_gp", system__latent__dim=1)))
    z_end = 0.1

    def bridged(z: torch.Tensor) -> torch.Tensor:
        x = torch.where(z.abs() < z_end, 20 * z, z.sign() * (2 + (z.abs() - z_end) / (1 - z_end)))
        return torch.cat((x, 0 * z), dim=1)

    model.system.generators = Rows(bridged)
    for keep, least, most in ((1.0, 0.085, 0.115), (0.9, 0.0, 0.015), (0.5, 0.0, 0.0)):
        x = Density(model, keep).draw(4000, seed=1).samples[:, 0].abs()
        assert least <= float((x < 1.9).double().mean()) <= most, keep


def test_density_finds_the_rare_where_nothing_stretches(make_config: MakeConfig) -> None:
    """x = the mean of 8 latents is linear, of one slope everywhere, but few latents lead to its ends."""
    n, model = 10_000, in_sample_space(make_model(make_config("wgan_gp")))
    model.system.generators = Rows(lambda z: torch.stack((z.mean(dim=1), 0 * z[:, 0]), dim=1))
    whole, cut = (Density(model, keep).draw(n, seed=2).samples[:, 0].abs() for keep in (1.0, 0.9))
    end = float(whole.quantile(0.9))
    assert float((cut > 1.1 * end).double().mean()) < 0.005 < 0.05 < float((whole > 1.1 * end).double().mean())
    assert float(Jacobian(model, 0.9).draw(n, seed=2).samples[:, 0].abs().quantile(0.95)) > 1.1 * end


@pytest.mark.parametrize("name", NAMES)
def test_density_is_that_of_the_critic_s_features(name: str, make_config: MakeConfig) -> None:
    model = make_model(make_config(name))
    if not model.system.scores_samples:
        with pytest.raises(UserError, match=rf"the critic of {name} scores no single samples"):
            Density(model, 0.9)
        return
    sampler, c = Density(model, 0.9), model.system.K - 1
    sampler.calibrate(c)
    noise = sampler.propose(20, c, generator_seeded(1))
    features = model.system.critic.features(model.system.generate(noise))
    distance = (features[:, None].double() - sampler.references[c].double()).norm(dim=2)
    found = sampler.scores(noise, generator_seeded(2))
    torch.testing.assert_close(found, distance.sort(dim=1).values[:, NEIGHBORS - 1])


@pytest.mark.parametrize("truncation", TRUNCATIONS.values())
def test_learned_masses_stay_as_they_are(truncation: type[Truncation], make_config: MakeConfig) -> None:
    """Generator 0 stretches ten times more than the others: it keeps its mass, and each generator has the same rate."""
    model = make_model(make_config("dmgan_pl", system__n_generators=3))
    with torch.no_grad():
        model.system.mixture.zeta.copy_(torch.tensor([0.6, 0.3, 0.1]).log())
        for weights in model.system.generators.stacked:
            weights[0] *= 10
    n = 6000
    drawn = truncation(model, 0.6).draw(n, seed=1)
    shares = torch.bincount(drawn.ids, minlength=3) / n
    prior = torch.tensor([0.6, 0.3, 0.1])
    assert ((shares - prior).abs() < 4 * (prior * (1 - prior) / n).sqrt()).all()
    assert abs(drawn.cost.acceptance_rate - 0.6) < 0.03
    # rows are in the order of the ids
    assert float(drawn.samples[drawn.ids == 0].std()) > 5 * float(drawn.samples[drawn.ids == 1].std())
    assert (truncation(model, 0.6).draw(50, generator=2).ids == 2).all()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_weights_of_a_bridge_and_of_two_masses(
    seed: int, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G maps (-1, 1) onto a segment of which the data has the ends only, with masses .3 and .7.

    Known answer: w is 1.2 on the left quarter, 2.8 on the right one, and 0 between them.
    """
    model = make_model(make_config("wgan_gp", system__latent__dim=1), seed)
    model.system.generators = Rows(lambda z: 4 * torch.cat((z, 0 * z), dim=1))
    u, v = torch.rand(2, 4000, 1, generator=generator_seeded(seed))
    z = torch.where(u < 0.3, -1.0, 1.0) * (0.5 + 0.5 * v)
    data = Dataset(4 * torch.cat((z, 0 * z), dim=1))
    monkeypatch.setattr("toposampler.rejection.training.data_of", lambda config, digest: data)
    weights = train_weights(model, tmp_path / "w.pt", steps=700, seed=seed)
    z = torch.linspace(-1, 1, 401)
    with torch.no_grad():
        w = weights(z[:, None], torch.zeros(401, dtype=torch.long))
    assert float(w[z.abs() < 0.35].max()) == 0
    assert 0.9 < float(w[z < -0.6].mean()) < 1.5
    assert 2.4 < float(w[z > 0.6].mean()) < 3.2
    for cap, least, most in ((3.0, 0.6, 0.8), (1.0, 0.48, 0.62)):  # at a cap of 1 both ends are accepted alike
        drawn = LatentRS(model, weights, cap=cap).draw(4000, seed)
        x = drawn.samples[:, 0] / 4
        assert float((x.abs() < 0.4).double().mean()) < 0.01  # .4 without rejection
        assert least < float((x > 0).double().mean()) < most
        assert drawn.cost.forward_passes == 4000


def test_a_cap_accepts_by_the_weight_over_it(make_config: MakeConfig) -> None:
    model = make_model(make_config("wgan_gp"))
    for cap in (0.5, 1.0, 3.0):
        sampler = LatentRS(model, WeightNetwork(8, 1), cap=cap)
        noise = sampler.propose(4000, None, generator_seeded(1))
        expected = float((sampler.weights(noise["z"], noise["c"]) / cap).clamp(max=1).mean())
        rate = float(sampler.accept(noise, generator_seeded(2)).double().mean())
        assert abs(rate - expected) <= 4 * math.sqrt(expected * (1 - expected) / 4000)


def test_loss_of_the_weights_by_hand() -> None:
    scores_, w = torch.tensor([1.0, -2.0]), torch.tensor([5.0, 1.0])
    assert float(weight_loss(scores_, w)) == pytest.approx(-(5 - 2) / 2 + 10 * (3 - 1) ** 2 + 3 * (2**2) / 2)


def test_training_of_weights_goes_on_where_it_was_stopped(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("dmgan_pl")
    model = make_model(config)
    whole = train_weights(model, tmp_path / "whole.pt", steps=12)
    train_weights(model, tmp_path / "parts.pt", steps=5)
    parts = train_weights(model, tmp_path / "parts.pt", steps=12)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["parts.pt", "whole.pt"]
    with pytest.raises(UserError, match="was trained for another model"):
        train_weights(make_model(config, seed=1), tmp_path / "parts.pt", steps=12)
    model.step = 7
    with pytest.raises(UserError, match=r"its model has 0 steps .* this one 7"):
        train_weights(model, tmp_path / "parts.pt", steps=12)
    (tmp_path / "parts.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"parts.pt is not a checkpoint of latent_rs, or is damaged$"):
        train_weights(model, tmp_path / "parts.pt", steps=12)
    with pytest.raises(UserError, match=r"cannot be read: Is a directory$"):
        train_weights(model, tmp_path, steps=12)
    with pytest.raises(UserError, match=rf"there is no folder {tmp_path}/none$"):
        train_weights(model, tmp_path / "none" / "w.pt", steps=12)


def test_weights_are_trained_on_the_model_s_own_data_only(make_config: MakeConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 2)))
    train(make_config("wgan_gp", data={"name": "npy", "path": str(tmp_path / "x.npy")}))
    model, path = load_model(tmp_path / "run"), tmp_path / "w.pt"
    train_weights(model, path, steps=1)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(200, 2)))
    with pytest.raises(UserError, match="the data npy have changed since training"):
        rejection("latent_rs", model, None, tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()
    model.data = model.config.data.load().digest()  # as of a model that was trained on what lies there now
    with pytest.raises(UserError, match=rf"w.pt was trained on other data than the model: .* not {model.data[:12]}"):
        train_weights(model, path, steps=1)
    state = torch.load(path, weights_only=True)
    del state["data"]  # as earlier versions wrote it
    torch.save(state, path)
    with pytest.raises(UserError, match="SHA-256 not recorded, not"):
        train_weights(model, path, steps=1)


def test_weights_have_the_precision_of_the_model(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config("dmgan_pl", training__precision="fp64", training__generator_steps=1))
    model = load_model(tmp_path / "run")
    for steps in (1, 2):  # the second resumes from the first one's checkpoint
        weights = train_weights(model, tmp_path / "w.pt", steps=steps)
    assert {p.dtype for p in weights.parameters()} == {torch.float64}
    assert LatentRS(model, weights, ascend=True).draw(50).samples.dtype == torch.float64


def test_a_critic_with_spectral_norms_keeps_them(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One power iteration in each of the critic's steps and none in those of the weights, as in the system's own steps.

    Without one, a layer's norm is beyond 3 after 150 steps. How near to 1 it stays with one depends on the gap between
    a layer's first two singular values, and so on how a machine rounds; that it is not below 1 does not.
    """
    steps, seen = 4, []

    def watched(critic: nn.Module, *arguments: Any) -> torch.Tensor:
        expected = power_iteration(critic)
        loss = critic_loss(critic, *arguments)
        assert_same_vectors(critic, expected)
        seen.append(copy.deepcopy(critic))
        return loss

    monkeypatch.setattr("toposampler.rejection.training.critic_loss", watched)
    train_weights(make_model(make_config("sn_gan")), tmp_path / "w.pt", steps=steps)
    assert len(seen) == CRITIC_STEPS * steps
    critic = make_model(make_config("sn_gan")).system.critic
    critic.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True)["critic"])
    for (name, kept), (_, last) in zip(critic.named_buffers(), seen[-1].named_buffers(), strict=True):
        assert torch.equal(kept, last), name
    assert min(spectral_norms(critic)) > 1 - 1e-5


def test_ascent_climbs_the_weights(make_config: MakeConfig) -> None:
    model = make_model(make_config("wgan_gp"))
    sampler = LatentRS(model, WeightNetwork(8, 1), ascend=True)
    noise = sampler.propose(50, None, generator_seeded(0))
    before, after = (sampler.weights(x["z"], x["c"]) for x in (noise, sampler.refine(noise)))
    assert (after >= before).all()
    assert (after > before).any()
    steepest = (sampler.refine(noise)["z"] - noise["z"]).norm(dim=1)
    assert float(steepest.max()) < ASCENT_STEPS * ASCENT_RATE * 10


def test_simplicial_keeps_what_brute_force_keeps(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp", system__latent__kind="normal", system__latent__dim=64)
    sampler = Simplicial(make_model(config), threshold=0.25)
    noise = sampler.propose(500, None, generator_seeded(0))
    expected = []
    for z in noise["z"].double().tolist():
        length = math.sqrt(sum(v * v for v in z))
        terms = [math.exp(8 * z[k] / length) for k in range(10)]
        expected.append(max(terms) / sum(terms) > 0.25)
    assert sampler.accept(noise, generator_seeded(0)).tolist() == expected
    assert 0.2 < sum(expected) / 500 < 0.8


def test_critic_accepts_by_the_exponential_of_its_score(make_config: MakeConfig) -> None:
    sampler = CriticRejection(make_model(make_config("dmgan")))
    sampler.calibrate(None)
    noise = sampler.propose(4000, None, generator_seeded(1))
    score = sampler.system.critic(sampler.system.generate(noise))
    expected = float(((score - sampler.top) / sampler.scale).exp().clamp(max=1).mean())
    rate = float(sampler.accept(noise, generator_seeded(2)).double().mean())
    assert abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_draws_the_same(name: str, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("dmgan_pl", system__latent__kind="normal", system__latent__dim=10)
    model = make_model(config)

    def make() -> Rejection:
        if name.startswith("latent_rs"):
            weights = train_weights(model, tmp_path / "w.pt", steps=2)
            return LatentRS(model, weights, name == "latent_rs_ga")
        return rejection(name, model, 0.8 if name in TRUNCATIONS else None, None)

    sampler = make()
    first, again, fresh, other = sampler.draw(300, 1), sampler.draw(300, 1), make().draw(300, 1), sampler.draw(300, 2)
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.samples, fresh.samples)
    assert torch.equal(first.ids, fresh.ids)
    assert first.cost.proposed == fresh.cost.proposed >= 300
    assert not torch.equal(first.samples, other.samples)


def test_what_would_never_end_is_given_up(make_config: MakeConfig) -> None:
    config = make_config("wgan_gp", system__latent__kind="normal", system__latent__dim=10)
    with pytest.raises(UserError, match=r"simplicial accepted 0 of 10\d,\d{3} proposals of generator 0, less"):
        Simplicial(make_model(config), threshold=0.999).draw(100_000)
    assert PATIENCE == 100_000


def test_bad_input_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    model = make_model(make_config("wgan_gp"))
    for call, message in (
        (lambda: Jacobian(model, 0.0), "keep must be more than 0 and at most 1, got 0"),
        (lambda: LatentRS(model, WeightNetwork(8, 1), cap=0.0), "the cap must be more than 0, got 0"),
        (lambda: Simplicial(model), "this model's latent.kind is uniform"),
        (lambda: rejection("critics", model, None, None), "no rejection 'critics': choose one of jacobian, "),
        (
            lambda: rejection("jacobian", model, None, None),
            "--rejection jacobian needs --keep SHARE, of the latents",
        ),
        (
            lambda: rejection("latent_rs", model, None, None),
            "--rejection latent_rs needs --weights FILE.pt, its",
        ),
        (lambda: rejection("critic", model, 0.5, None), "--keep 0.5: --rejection critic has no use for it"),
        (lambda: rejection("critic", model, None, None, 2.0), "--cap 2.0: --rejection critic has no use for it"),
        (lambda: rejection(None, model, None, None, 2.0), "--cap 2.0 is of use with --rejection only"),
        (lambda: rejection("latent_rs", model, None, tmp_path / "w.pt", -1.0), "the cap must be more than 0, got -1"),
        (lambda: Jacobian(model, 0.5).draw(0), "must be at least 1, got 0"),
        (lambda: Jacobian(model, 0.5).draw(1, generator=3), "there is no generator 3"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    few = make_model(make_config("wgan_gp", system__latent__kind="normal"))
    with pytest.raises(UserError, match=r"needs latent.dim of at least 10; this model's latent.dim is 8"):
        Simplicial(few)


def test_sample_job_rejects(
    make_config: MakeConfig, load_job: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, job, out = make_config("dmgan_pl"), load_job("sample"), tmp_path / "s.npy"
    train(config)
    run = str(tmp_path / "run")
    assert job.main([run, "-n", "500", "--out", str(out), "--rejection", "jacobian", "--keep", "0.8"]) == 0
    assert "proposals accepted; an accepted sample took" in capsys.readouterr().out
    assert Jacobian(load_model(run), 0.8).draw(500).samples.shape == (500, 2)
    for flag, value in (("--keep", "0.8"), ("--cap", "2.0")):
        assert job.main([run, "--out", str(out), flag, value]) == 2
        assert f"{flag} {value} is of use with --rejection only" in capsys.readouterr().err
