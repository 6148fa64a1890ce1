"""A user's networks, from a module outside the package: trained, resumed, sharded, evaluated, registered, sampled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import own_nets
import pytest
import torch
from processes import ROOT
from ranks import on_ranks

from toposampler.config import validate
from toposampler.errors import RunInterruptedError, UserError
from toposampler.nn.custom import Networks
from toposampler.nn.ensemble import GeneratorEnsemble
from toposampler.nn.shared_trunk import OwnFirstLayers
from toposampler.training import RunConfig, load_model, train
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder
from toposampler.training.run import check

MakeConfig = Callable[..., RunConfig]

NAMES = {"system__generator_network": "own_nets:generator", "system__critic_network": "own_nets:trunk"}
GIVEN = Networks(own_nets.generator, own_nets.trunk)
SYSTEMS = ["dmgan_pl", "wgan_gp"]


def config_of(make_config: MakeConfig, system: str, named: bool, **keys: Any) -> tuple[RunConfig, Networks | None]:
    if system == "dmgan_pl":
        keys |= {"system__n_generators": 3}
    return make_config(system, training__precision="fp64", **(NAMES if named else {}), **keys), None if named else GIVEN


def final_state(config: RunConfig) -> dict[str, Any]:
    system: dict[str, Any] = read_checkpoint(checkpoints(run_folder(config) / "checkpoints")[-1])["loop"]["system"]
    return system


def trained(config: RunConfig, networks: Networks | None) -> dict[str, Any]:
    train(config, networks=networks)
    return final_state(config)


@pytest.mark.parametrize("system", SYSTEMS)
def test_objects_and_names_train_alike_and_resume_to_the_last_bit(system: str, make_config: MakeConfig) -> None:
    named = trained(*config_of(make_config, system, True, name="named"))
    config, networks = config_of(make_config, system, False, name="objects")
    with pytest.raises(RunInterruptedError):
        train(config, should_stop=iter([None, "stop"]).__next__, networks=networks)
    assert trained(config, networks).keys() == named.keys()
    assert all(torch.equal(x, named[name]) for name, x in final_state(config).items())
    assert "critic.trunk.attention.in_proj_weight" in named
    if system == "dmgan_pl":
        frequencies = named["generators.stacked_buffers.0"]
        assert frequencies.shape == (3, config.system.latent.dim, 6)
        assert not torch.equal(frequencies[0], frequencies[1]), "each generator has a buffer of its own"


def _train_on_ranks(config: RunConfig, networks: Networks | None) -> None:
    train(config, networks=networks)


@pytest.mark.parametrize(
    ("system", "placement", "named"), [("dmgan_pl", "sharded", False), ("wgan_gp", "replicated", True)]
)
def test_two_workers_end_with_the_parameters_of_one(
    system: str, placement: str, named: bool, make_config: MakeConfig
) -> None:
    one = trained(*config_of(make_config, system, named, name="one"))
    config, networks = config_of(make_config, system, named, name="two", cluster__placement=placement)
    on_ranks(2, _train_on_ranks, config, networks)
    for name, x in final_state(config).items():
        assert torch.allclose(x.double(), one[name].double(), atol=1e-10), name


def test_a_module_is_a_prototype_of_which_every_generator_is_a_fresh_copy(make_config: MakeConfig) -> None:
    config, _ = config_of(make_config, "dmgan_pl", False)
    prototype = torch.nn.Sequential(
        torch.nn.Linear(config.system.latent.dim, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2)
    )
    system = config.system.build((2,), Networks(prototype))
    assert isinstance(system.generators, GeneratorEnsemble)
    first = system.generators.stacked[0]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], prototype[0].weight)


def test_evaluated_registered_and_sampled(make_config: MakeConfig, tmp_path: Path) -> None:
    config, _ = config_of(make_config, "dmgan_pl", True, name="named", tracking__uri=f"sqlite:///{tmp_path}/m.db")
    train(config)
    run, both = str(run_folder(config)), "own_nets:generator,own_nets:trunk"
    with pytest.raises(UserError, match=f"this model needs networks of its own: .* --networks {both}"):
        load_model(run)
    samples = load_model(run, networks=both).sample(50, seed=3)[0]
    assert torch.equal(samples, load_model(run, networks=GIVEN).sample(50, seed=3)[0])

    def command(name: str, *arguments: str) -> int:
        return int(import_module(f"toposampler.commands.{name}").main([*arguments, "--networks", both]))

    out = tmp_path / "samples.npy"
    assert command("sample", run, "-n", "50", "--seed", "3", "--out", str(out)) == 0
    assert np.array_equal(np.load(out), samples.numpy().astype(np.float32))
    evaluated = ("-n", "50", "--draws", "2", "--workers", "1", "--out", str(tmp_path / "evaluation"))
    assert command("evaluate", run, *evaluated) == 0
    uri = f"sqlite:///{tmp_path}/m.db"
    assert command("promote", run, "--name", "own", "--tracking-uri", uri) == 0
    version = ("models:/own/1", "--tracking-uri", uri)
    assert command("sample", *version, "-n", "50", "--seed", "3", "--out", str(out)) == 0
    assert np.array_equal(np.load(out), samples.numpy().astype(np.float32))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"generator_network": "own_nets:batch_normed"}, "generator_network: .*depends on the others of its batch"),
        ({"generator_network": "own_nets:wrong_shape"}, r"generator_network: Linear returned \(\d+, 3\) for latents"),
        ({"generator_network": "own_nets:not_a_number"}, "generator_network: NotANumber returned values .* not finite"),
        ({"critic_network": "own_nets:detached"}, "critic_network: what Detached returns has no gradient"),
        ({"critic_network": "own_nets:NUMBER"}, "critic_network: own_nets:NUMBER is a int, not a function"),
        ({"critic_network": "own_nets:absent"}, "critic_network: own_nets:absent: own_nets has no absent"),
        ({"critic_network": "absent:trunk"}, "critic_network: absent:trunk: the module 'absent' cannot be imported"),
        ({"critic_network": "renset"}, "critic_network: the network 'renset' is not known. Did you mean 'resnet'"),
        ({"generator_network": "conv"}, "generator_network: the networks conv are for images"),
        (
            {"generator_network": "own_nets:generator", "generator_width": 8},
            "generator_width is for the package",
        ),
        ({"generator_network": "mlp", "generator_norm": "layer"}, "mlp takes .* no option norm"),
        ({"critic_network": "own_nets:trunk", "initialization": "xavier"}, "initialization xavier is for the networks"),
    ],
)
def test_networks_that_cannot_be_used_are_refused_before_anything_starts(
    keys: dict[str, Any], message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("wgan_gp", **{f"system__{key}": value for key, value in keys.items()})
    state = torch.random.get_rng_state()
    with pytest.raises(UserError, match=message):
        check(config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not (tmp_path / "run").exists()


def test_a_stored_configuration_builds_as_the_one_that_was_typed(make_config: MakeConfig) -> None:
    """A worker gets every key written out: a default that a family has no option for is none that was asked for."""
    typed = make_config("mgan", system__generator_network="mlp")
    written_out = validate(RunConfig, typed.model_dump(mode="json"))
    for config in (typed, written_out):
        assert config.system.build((2,)).generators(
            torch.randn(4, config.system.latent.dim), torch.arange(4)
        ).shape == (4, 2)


@pytest.mark.parametrize("system", ["dmgan_pl", "nwgan", "mad_gan"])
def test_generators_share_a_trunk_behind_a_basis_each(system: str, make_config: MakeConfig) -> None:
    keys = {"system__generator_network": "resnet", "system__critic_network": "resnet", "system__shared_trunk": True}
    sizes = {"system__generator_width": 8, "system__critic_width": 8, "system__generator_depth": 1}
    config = make_config(system, system__n_generators=3, **keys, **sizes)
    built = config.system.build((1, 16, 16))
    assert built.generators.maps.shape == (3, 8, 4, 4)
    z, c = torch.randn(1, config.system.latent.dim).expand(3, -1), torch.arange(3)
    x = built.generators(z, c)
    assert x.shape == (3, 1, 16, 16)
    assert not torch.allclose(x[0], x[1])
    assert not config.system.has_ensemble
    with pytest.raises(UserError, match="shared_trunk true needs a generator_network of the package, default, mlp, "):
        make_config(system, system__shared_trunk=True, system__generator_network="own_nets:generator")
    with pytest.raises(UserError, match="sharded needs a system with an ensemble"):
        make_config(system, cluster__placement="sharded", **keys)


@pytest.mark.parametrize(
    ("shape", "network"), [((2,), "default"), ((2,), "mlp"), ((1, 16, 16), "conv"), ((1, 16, 16), "default")]
)
def test_generators_share_all_but_their_first_layer(
    shape: tuple[int, ...], network: str, make_config: MakeConfig
) -> None:
    keys = {"system__generator_network": network, "system__shared_trunk": True, "training__precision": "fp64"}
    config = make_config("dmgan_pl", system__n_generators=3, system__initialization="xavier", **keys)
    d = config.system.latent.dim
    torch.manual_seed(0)
    shared = config.system.build(shape).generators.double()
    assert isinstance(shared, OwnFirstLayers)
    torch.manual_seed(0)
    alone = make_config("wgan_gp", system__initialization="xavier", system__generator_network=network)
    single = alone.system.build(shape).generators.double()  # of a single generator's width
    z, c = torch.randn(6, d, dtype=torch.float64), torch.tensor([2, 0, 1, 1, 0, 2])
    assert shared.weight.shape[::2] == (3, d)
    assert torch.allclose(shared(z, c)[c == 0], single(z[c == 0], torch.zeros(2).long()), rtol=0, atol=1e-12), (
        "the first is the network of a single generator"
    )
    for k in range(3):
        expected = shared.trunk(z @ shared.weight[k].T + shared.bias[k])
        assert torch.allclose(shared(z, c)[c == k], expected[c == k], rtol=0, atol=1e-12)
    bounds = [layer.abs().max() for layer in shared.weight]
    assert max(bounds) < 1.1 * min(bounds), "all start as the configuration says"
    shared(z, c)[c == 1].sum().backward()
    assert shared.weight.grad is not None
    assert shared.weight.grad.flatten(1).abs().amax(dim=1).gt(0).tolist() == [False, True, False]


def test_the_command_line_names_them(tmp_path: Path) -> None:
    """`module:function` on the command line, the module beside the user: trained in this process, without Ray."""
    keys = ["--system.generator_network", "own_nets:generator", "--system.critic_network", "own_nets:trunk"]
    steps = ["--training.generator_steps", "3", "--training.batch_size", "8", "--training.evaluation_samples", "100"]
    command = [sys.executable, "-m", "toposampler", "train", "lines_dmgan_pl", "--local", "--tracking.enabled", "false"]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, *keys, *steps, "--data.n", "200", "--output", str(tmp_path)],
        env=paths, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "own_nets:trunk" in (tmp_path / "lines-dmgan-pl" / "config.yaml").read_text()
