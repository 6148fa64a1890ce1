"""Runs that begin with a trained model: its weights, or its whole training, on one worker and on several."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from ranks import on_ranks
from test_training import final_state, same

import toposampler
from toposampler.config import to_yaml
from toposampler.distributed.driver import tags
from toposampler.errors import RunInterruptedError, UserError
from toposampler.lookup import fetch_initial
from toposampler.nn.custom import Networks
from toposampler.training import RunConfig, load_config, load_model, train
from toposampler.training.checkpoint import checkpoints, read_checkpoint
from toposampler.training.config import run_folder, stored_config
from toposampler.training.initial import KEPT, keep_copy
from toposampler.training.model import save_model
from toposampler.training.run import begin, check

MakeConfig = Callable[..., RunConfig]
CONSTANT = {"training__learning_rate_decay_from": 1, "training__batch_growth": 1}


@pytest.fixture
def model(make_config: MakeConfig) -> Path:
    """The folder of a trained run."""
    config = make_config("dmgan_pl", name="model", training__generator_steps=10, **CONSTANT)
    train(config, progress=False)
    return run_folder(config)


def stop(step: int, _: Path) -> None:
    raise RunInterruptedError("stopped", "test")


def first(config: RunConfig) -> dict[str, Any]:
    """The first checkpoint of a run that is stopped after its second."""
    with pytest.raises(RunInterruptedError):
        train(config, on_checkpoint=stop, progress=False)
    return read_checkpoint(checkpoints(run_folder(config) / "checkpoints")[0])


def test_a_new_run_begins_with_the_weights_and_nothing_else(make_config: MakeConfig, model: Path) -> None:
    other = {"data__weights": [0.4, 0.3, 0.2, 0.1], "system__prior__entropy_weight": 1, "seed": 3}
    config = make_config("dmgan_pl", name="new", init_from=str(model), **other)
    donor = read_checkpoint(checkpoints(model / "checkpoints")[-1])
    state = first(config)
    assert state["loop"]["step"] == 0
    assert same(state["loop"]["system"], donor["loop"]["system"])
    assert not any(state["loop"]["moments"]["critic"].values()), "Adam begins anew"
    assert state["data"] != donor["data"]
    result = train(config, progress=False)  # continues from step 5
    origin = {"init_from": str(model), "init_state": "weights", "name": "model", "system": "dmgan_pl"}
    assert result is not None
    assert result["origin"] == origin | {"generator_steps": 10, "data": {"name": "lines", "sha256": donor["data"]}}
    assert json.loads((run_folder(config) / "result.json").read_text())["origin"] == result["origin"]
    assert load_config(run_folder(config) / "config.yaml").init_from == str(model)
    whole = make_config("dmgan_pl", name="whole", **other)
    train(whole, init_from=model, progress=False)
    assert same(final_state(whole), final_state(config)), "the model is not loaded again on resume"


def test_the_first_step_is_that_of_these_weights(make_config: MakeConfig, model: Path) -> None:
    """A run of one step from the model, and a run whose networks are given the model's weights by hand."""
    config = make_config("dmgan_pl", name="new", training__generator_steps=1, init_from=str(model))
    train(config, progress=False)
    by_hand = begin(make_config("dmgan_pl", name="hand", training__generator_steps=1))
    with by_hand:
        by_hand.loop.system.load_state_dict(load_model(model, ema=False).system.state_dict())
        by_hand.loop.iteration()
        after = by_hand.loop.system.state_dict()
    assert same(dict(after), dict(load_model(run_folder(config), ema=False).system.state_dict()))


def test_a_model_directory_and_a_checkpoint_are_the_same_beginning(
    make_config: MakeConfig, model: Path, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "directory")
    (newest,) = checkpoints(model / "checkpoints")[-1:]
    states = [
        first(make_config("dmgan_pl", name=f"of-{i}", init_from=str(place)))["loop"]
        for i, place in enumerate((model, tmp_path / "directory", newest))
    ]
    assert same(states[0], states[1])
    assert same(states[0], states[2])


def test_steps_that_the_encoder_schedule_counted_are_not_taken_over(make_config: MakeConfig, model: Path) -> None:
    encoder = {"system__prior__entropy_schedule": "encoder", "system__prior__entropy_decay_from": 0}
    donor = make_config("dmgan_pl", name="counted", init_from=str(model), **encoder)
    train(donor, progress=False)
    counted = final_state(donor)["loop"]["system"]["accurate_steps"]
    assert counted > 0
    assert first(make_config("dmgan_pl", name="new", init_from=str(run_folder(donor)), **encoder))["loop"]["system"][
        "accurate_steps"
    ] == 0  # fmt: skip


@pytest.mark.parametrize(
    ("system", "overrides", "message"),
    [
        ("dmgan_pl", {"system__n_generators": 4}, "system.n_generators is 10 there, 4 here"),
        (
            "dmgan_pl",
            {"system__n_generators": 4},
            r"generators.stacked.0 is of shape \[10, .* there, of shape \[4, .* here",
        ),
        ("dmgan", {}, "mixture.zeta is of shape .10. there, absent here"),
        ("dmgan_pl", {"system__critic_width": 32}, "system.critic_width is null there, 32 here"),
        (
            "dmgan_pl",
            {"system__generator_network": "mlp"},
            "system.generator_network is default, and that of this run mlp",
        ),
        ("dmgan_pl", {"data": {"name": "digits"}}, r"samples of shape \[2\], and the data digits have \[1, 8, 8\]"),
        ("dmgan_pl", {"init_from": "nowhere"}, "nowhere does not exist"),
        ("dmgan_pl", {"init_from": "models:/x@champion"}, "models:/x@champion: training itself reads no MLflow"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    make_config: MakeConfig, model: Path, system: str, overrides: dict[str, Any], message: str
) -> None:
    config = make_config(system, name="new", **{"init_from": str(model), **overrides})
    with pytest.raises(UserError, match=message) as refused:
        train(config, progress=False)
    assert str(refused.value).startswith("init_from ")
    assert not (run_folder(config) / "config.yaml").exists(), "the name is still free"


def test_networks_of_one_s_own_are_begun_with_and_no_code_of_the_model_is_run(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    def generator(shape: tuple[int, ...], n: int) -> torch.nn.Module:
        return torch.nn.Linear(n, *shape)

    own = Networks(generator=generator)
    donor = make_config("wgan_gp", name="donor", training__generator_steps=5)
    with pytest.raises(RunInterruptedError):
        train(donor, on_checkpoint=stop, networks=own, progress=False)
    new = make_config("wgan_gp", name="new", training__generator_steps=5, init_from=str(run_folder(donor)))
    with pytest.raises(UserError, match=r"its system.generator_network is .*generator, and that of this run default"):
        train(new, progress=False)
    with pytest.raises(RunInterruptedError):
        train(new, on_checkpoint=stop, networks=own, progress=False)
    assert "may differ" not in caplog.text


def test_training_goes_on_under_another_name_as_if_it_had_not_stopped(make_config: MakeConfig, model: Path) -> None:
    whole = make_config("dmgan_pl", name="whole", **CONSTANT, system__prior__entropy_decay_from=0)
    half = make_config(
        "dmgan_pl", name="half", training__generator_steps=10, **CONSTANT, system__prior__entropy_decay_from=0
    )
    train(whole, progress=False)
    train(half, progress=False)
    new = whole.model_copy(update={"name": "new"})
    result = train(new, init_from=run_folder(half), init_state="full", progress=False)
    states = [final_state(whole), final_state(new)]
    origin = states[1].pop("origin")
    assert same(*states)
    assert result is not None
    assert result["origin"] == origin
    assert (origin["init_state"], origin["name"], origin["generator_steps"]) == ("full", "half", 10)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, r"it has done 10 steps, and training.generator_steps is 10: give more"),
        ({"data__weights": [0.7, 0.1, 0.1, 0.1]}, "init_state full continues with the same data, and these are others"),
        ({"training__generator_steps": 20, "training__batch_size": 16}, "training.batch_size: 8 -> 16"),
    ],
)
def test_training_that_cannot_go_on_is_refused(
    make_config: MakeConfig, model: Path, overrides: dict[str, Any], message: str
) -> None:
    short = {"training__generator_steps": 10, **CONSTANT}
    config = make_config("dmgan_pl", name="new", init_from=str(model), init_state="full", **{**short, **overrides})
    with pytest.raises(UserError, match=message):
        train(config, progress=False)


def test_a_model_directory_has_no_training_to_go_on_with(make_config: MakeConfig, model: Path, tmp_path: Path) -> None:
    save_model(model, tmp_path / "directory")
    config = make_config("dmgan_pl", name="new", init_from=str(tmp_path / "directory"), init_state="full", **CONSTANT)
    with pytest.raises(UserError, match="it is a model directory, which holds no training"):
        train(config, progress=False)
    with pytest.raises(UserError, match="init_state full: init_from names the model"):
        make_config("dmgan_pl", init_state="full")


def run(output: str, name: str, placement: str) -> None:
    """A run of 20 generator steps that begins with the model in the folder `model`; on as many workers as there are."""
    content = stored_config(Path(output) / "model").model_dump() | {"name": name, "init_from": f"{output}/model"}
    content["training"] |= {"generator_steps": 4, "precision": "fp64"}
    content["cluster"] |= {"placement": placement, "num_workers": 1 if name == "one" else 2}
    train(RunConfig.model_validate(content))


def runs(output: str, name: str) -> None:
    """The run, whole on each worker, and with its generators spread over them."""
    for placement in ("replicated", "sharded"):
        run(output, f"{name}-{placement}", placement)


@pytest.mark.slow
def test_any_number_of_workers_begins_alike(model: Path) -> None:
    run(str(model.parent), "one", "replicated")
    on_ranks(2, runs, str(model.parent), "two")
    one, *others = (
        load_model(model.parent / name).system.state_dict() for name in ("one", "two-replicated", "two-sharded")
    )
    for two in others:
        for name, x in one.items():
            torch.testing.assert_close(two[name], x, rtol=1e-10, atol=1e-10)


def test_a_fit_begins_with_a_fit(tmp_path: Path) -> None:
    data = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    keys = {"training__generator_steps": 4, "training__evaluation_samples": 100, "output": tmp_path}
    before = toposampler.fit(data, system="wgan_gp", **keys)
    after = toposampler.fit(3 * data, system="wgan_gp", init_from=before.path, **keys)
    assert json.loads((after.path / "result.json").read_text())["origin"]["name"] == "fit"
    with pytest.raises(UserError, match="init_from"):
        toposampler.fit(data, system="dmgan", init_from=before.path, **keys)
    assert not (tmp_path / "fit-3").exists(), "nothing is made before it is known to work"


def test_a_model_on_mlflow_is_copied_once_and_named_in_the_run(
    make_config: MakeConfig, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tmp_path / "directory")
    asked: list[str] = []

    @contextmanager
    def local(place: str, uri: str) -> Iterator[Path]:
        asked.append(place)
        yield tmp_path / "directory"

    monkeypatch.setattr("toposampler.lookup.local", local)
    config = make_config("dmgan_pl", name="new", init_from="models:/four@champion")
    dataset = check(config)
    fetch_initial(config, dataset, keep=False)
    assert not (run_folder(config) / KEPT).exists()
    fetch_initial(config, dataset)
    fetch_initial(config, dataset)
    assert asked == 2 * ["models:/four@champion"]
    assert first(config)["origin"]["init_from"] == "models:/four@champion"
    assert tags(config)["init_from"] == "models:/four@champion"


def test_the_command_begins_with_a_model_and_goes_on(
    load_job: Callable[[str], ModuleType],
    make_config: MakeConfig,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    script = load_job("train")
    (tmp_path / "config.yaml").write_text(to_yaml(make_config("dmgan_pl", name="new", **CONSTANT)))
    arguments = ["config.yaml", "--local", "--tracking.enabled=false", "--init-from", "model", "--init-state=full"]
    assert script.main([*arguments, "--dry-run"]) == 0
    assert f"begins   with the whole training of {model}" in capsys.readouterr().out
    assert script.main(arguments) == 0
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert (result["origin"]["generator_steps"], result["generator_steps"]) == (10, 20)
    longer = ["--resume", "new", "--output", str(tmp_path), "--local", "--training.generator_steps", "25"]
    assert script.main(longer) == 2
    assert "--init-state full --name OTHER" in capsys.readouterr().err, "the bonus is held for a share of the run"
    assert script.main([*arguments, "--init-from=nowhere", "--name", "third"]) == 2
    assert "--init-from is given twice" in capsys.readouterr().err
    assert script.main(["config.yaml", "--local", "--init-from", "nowhere", "--name", "third"]) == 2
    assert "error: init_from " in capsys.readouterr().err


def test_several_seeds_begin_with_one_model_and_are_lengthened(
    make_config: MakeConfig, model: Path, tmp_path: Path
) -> None:
    address = "models:/four@champion"
    constant = CONSTANT | {"system__prior__entropy_decay_from": 0}
    short, longer = (
        make_config("dmgan_pl", name="all", seeds=[3, 4], init_from=address, training__generator_steps=n, **constant)
        for n in (5, 6)
    )
    save_model(model, tmp_path / "directory")
    (tmp_path / "all").mkdir()
    keep_copy(tmp_path / "directory", tmp_path / "all")
    train(short, progress=False)
    result = train(longer, progress=False)
    assert result is not None
    members = result["members"].values()
    assert [(m["generator_steps"], m["origin"]["init_from"]) for m in members] == 2 * [(6, address)]
    assert (tmp_path / "all" / "seed-3" / "result_step_00000005.json").exists()
