"""A model with networks of the user's own: what it records, and that it runs none that the caller did not give."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest
import torch
from torch import nn

import toposampler
from toposampler.config import validate
from toposampler.errors import UserError
from toposampler.nn.custom import Networks
from toposampler.tracking.pyfunc import DATA, Sampler, write_pyfunc
from toposampler.training import RunConfig, load_model, train
from toposampler.training.config import run_folder
from toposampler.training.model import save_model
from toposampler.training.networks import given_or_named, networks_of, source_digest

SOURCE = """
from torch import nn


def make(shape, latent_dim):
    return nn.Sequential(nn.Linear(latent_dim, 5), nn.Tanh(), nn.Linear(5, *shape))


def other(shape, latent_dim):
    return nn.Sequential(nn.Linear(latent_dim, 5), nn.ReLU(), nn.Linear(5, *shape))


NUMBER = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the user's, with a module in it that can be imported."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_nets.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(autouse=True)
def mine(folder: Path) -> Iterator[Callable[[], ModuleType]]:
    """The user's module, imported when this is called, and forgotten at the end."""
    sys.modules.pop("my_nets", None)
    yield lambda: importlib.import_module("my_nets")
    sys.modules.pop("my_nets", None)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run whose generator is the user's, named in its configuration."""
    content = {
        "name": "run",
        "output": str(folder),
        "data": {"name": "lines", "n": 200},
        "system": {"name": "wgan_gp", "generator_network": "my_nets:make", "critic_width": 8},
        "training": {"batch_size": 8, "generator_steps": 4, "evaluation_samples": 100},
    }
    config = validate(RunConfig, content)
    assert train(config) is not None
    return run_folder(config)


@pytest.fixture(scope="module")
def saved(run: Path) -> Path:
    """The run's model as a directory, which no test changes."""
    save_model(run, run.parent / "saved", networks=["my_nets:make"])
    return run.parent / "saved"


@pytest.fixture
def model(saved: Path, mine: object, tmp_path: Path) -> Path:
    """A copy of it, for a test to change."""
    sys.modules.pop("my_nets", None)
    return Path(shutil.copytree(saved, tmp_path / "model"))


def digest_of(name: str) -> str:
    text = next(part for part in SOURCE.split("\n\n\n") if part.startswith(f"def {name}"))
    return hashlib.sha256(f"{text}\n".encode()).hexdigest()


def test_the_manifest_and_the_checkpoint_say_which_networks_and_of_what_source(run: Path, model: Path) -> None:
    expected = {"generator": {"name": "my_nets:make", "sha256": digest_of("make")}}
    assert json.loads((model / "model.json").read_text())["networks"] == expected
    [checkpoint] = (run / "checkpoints").glob("*.pt")
    assert torch.load(checkpoint, weights_only=True)["networks"] == expected


@pytest.mark.parametrize("place", ["run", "model"])
def test_without_them_it_is_refused_and_nothing_is_imported(place: str, request: pytest.FixtureRequest) -> None:
    sentence = (
        f"this model needs networks of its own: generator my_nets:make (SHA-256 {digest_of('make')}); give them: "
        "load(..., networks=...) or --networks my_nets:make"
    )
    path = request.getfixturevalue(place)
    sys.modules.pop("my_nets", None)
    for given in (None, [], ["my_nets:other"], "other_nets:make", {}, Networks()):
        with pytest.raises(UserError, match=re.escape(sentence)):
            load_model(path, networks=given)
    with pytest.raises(UserError, match=re.escape(sentence)):
        Sampler(path)  # MLflow's server
    assert "my_nets" not in sys.modules


def test_it_can_be_registered_and_is_refused_where_it_is_served(model: Path, tmp_path: Path) -> None:
    """MLflow stores what it cannot run; a version is one model directory like any other."""
    write_pyfunc(model, tmp_path / "pyfunc")
    assert (tmp_path / "pyfunc" / DATA / "model" / "model.json").read_bytes() == (model / "model.json").read_bytes()
    with pytest.raises(UserError, match="this model needs networks of its own: generator my_nets:make"):
        mlflow.pyfunc.load_model(str(tmp_path / "pyfunc"))
    assert "my_nets" not in sys.modules


@pytest.mark.parametrize(
    "given",
    [
        lambda make: Networks(generator=make),
        lambda make: {"generator": make},
        lambda make: {"generator": "my_nets:make"},
        lambda make: ["my_nets:make", "nets_of_another_model:make"],
        lambda make: "my_nets:make",
    ],
)
def test_with_them_it_samples(
    given: Callable[[Any], Any], model: Path, mine: Callable[[], ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = toposampler.load(model, networks=given(mine().make))
    assert isinstance(loaded.system.get_submodule("generators").forward, Callable)  # type: ignore[arg-type]
    x, _ = loaded.sample(5)
    assert x.shape == (5, 2)
    assert not caplog.records


def test_another_source_is_a_warning_that_names_both(
    model: Path, mine: Callable[[], ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_model(model, networks=Networks(generator=mine().other))
    [record] = caplog.records
    assert digest_of("make") in record.getMessage()
    assert digest_of("other") in record.getMessage()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"generator": "my_nets:absent"},
            r"networks\['generator'\]: my_nets:absent: my_nets has no absent",
        ),
        ({"generator": "absent_nets:make"}, "absent_nets:make: the module .* cannot be imported: ModuleNotFoundError"),
        ({"generator": "my_nets:NUMBER"}, "my_nets:NUMBER is a int, not a function"),
        ({"generators": "my_nets:make"}, "networks: generators: there are generator and critic"),
        (["my_nets"], "networks: 'my_nets' is not module:function"),
        ({"generator": "my_nets:make", "critic": "my_nets:make"}, "its critic is the package's own; none can be given"),
    ],
)
def test_what_cannot_be_given_is_refused(given: Any, message: str, model: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_model(model, networks=given)


def test_a_name_in_the_configuration_alone_is_not_imported_either(model: Path) -> None:
    """The record may be cut out of a manifest, with all check sums made right."""
    from toposampler.training.manifest import check_sum

    manifest = json.loads((model / "model.json").read_text())
    manifest["networks"] = {}
    (model / "model.json").write_text(json.dumps({**manifest, "sha256": check_sum(manifest)}))
    with pytest.raises(UserError, match=r"needs networks of its own: generator my_nets:make.*unknown"):
        load_model(model)
    assert "my_nets" not in sys.modules
    assert load_model(model, networks=["my_nets:make"]).step == 4


class Own(nn.Module):
    """A network that is given as an object."""


def config_of(**system: Any) -> RunConfig:
    return validate(RunConfig, {"name": "run", "data": {"name": "lines"}, "system": {"name": "wgan_gp", **system}})


def test_what_is_recorded(mine: Callable[[], ModuleType]) -> None:
    config, networks = given_or_named(config_of(), Networks(generator=Own(), critic=mine().make))
    assert (config.system.generator_network, config.system.critic_network) == (f"{__name__}:Own", "my_nets:make")
    given = networks_of(config.system, networks)
    assert given["generator"].name == f"{__name__}:Own"
    assert given["generator"].sha256 == hashlib.sha256(inspect.getsource(Own).encode()).hexdigest()
    assert given["critic"].name == "my_nets:make"
    assert source_digest(len) is None
    assert source_digest(eval("lambda shape: 3")) is None


@pytest.mark.parametrize("name", ["default", "resnet"])
def test_the_package_s_own_are_not_recorded(name: str) -> None:
    config, networks = given_or_named(config_of(generator_network=name), None)
    assert networks == Networks()
    assert networks_of(config.system, networks) == {}


def test_what_is_named_and_what_is_given_must_agree(mine: Callable[[], ModuleType]) -> None:
    named = config_of(generator_network="my_nets:make")
    assert given_or_named(named, None)[1].generator is mine().make
    assert given_or_named(named, Networks(mine().make))[0] == named
    with pytest.raises(UserError, match="generator_network is my_nets:make, and my_nets:other is given"):
        given_or_named(named, Networks(mine().other))
    with pytest.raises(UserError, match=r"system\.critic_network: absent_nets:make: the module .* cannot be imported"):
        given_or_named(config_of(critic_network="absent_nets:make"), None)
    with pytest.raises(UserError, match=r"give it as system\.generator_network"):
        given_or_named(config_of(), Networks("my_nets:make"))  # type: ignore[arg-type]


def test_a_system_imports_nothing_by_itself(mine: object) -> None:
    with pytest.raises(UserError, match="my_nets:make is not the package's: give it, networks=Networks"):
        config_of(generator_network="my_nets:make").system.build((2,))
    assert "my_nets" not in sys.modules
