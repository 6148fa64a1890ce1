"""A run says what it is too short for, and is made longer only where its steps so far would have been the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from test_training import final_state, same

from toposampler.errors import RunInterruptedError, UserError
from toposampler.packaged import find, packaged
from toposampler.records import read_records
from toposampler.training import RunConfig, load_config, train
from toposampler.training.config import run_folder, stored_config
from toposampler.training.run_length import FEWEST, faults

MakeConfig = Callable[..., RunConfig]
CONSTANT = {"training__learning_rate_decay_from": 1, "training__batch_growth": 1}
"""what makes nothing of a run depend on its length"""


def told(make_config: MakeConfig, steps: int, system: str = "dmgan_pl", **prior: object) -> list[str]:
    changes = {f"system__prior__{key}": value for key, value in prior.items()}
    return list(faults(make_config(system, training__generator_steps=steps, **changes)))


@pytest.mark.parametrize("name", packaged("configs"))
def test_configurations_that_come_with_the_package_are_long_enough(name: str) -> None:
    needed = {"data.path": "x"} if name.startswith(("own", "faces")) else {}
    config = load_config(find(Path(name)), [f"--{key}={value}" for key, value in needed.items()])
    assert not list(faults(config))
    assert config.training.generator_steps >= FEWEST


@pytest.mark.parametrize(
    ("steps", "prior", "message"),
    [
        (
            5000,
            {"entropy_decay": 0.999},
            "system.prior.entropy_decay 0.999: 0.03 of the entropy bonus is left at the last step of "
            "training.generator_steps 5,000, so that the prior cannot settle; right would be 0.9885 or less, or 57,536 "
            "steps or more",
        ),
        (
            3000,
            {"entropy_decay": 1.0},
            "system.prior.entropy_decay 1.0: 1 of the entropy bonus is left .* 0.9809 or less$",
        ),
        (
            3000,
            {"entropy_decay_from": 1.0},
            "system.prior.entropy_decay_from 1.0: 1 of the .* less than 1, such as 0.3$",
        ),
        (
            3000,
            {"entropy_schedule": "linear", "entropy_decay_from": 0.7, "entropy_span": 0.6},
            "system.prior.entropy_span 0.6: 0.5 of the entropy bonus is left .* 0.3 or less$",
        ),
        (
            3000,
            {"entropy_schedule": "encoder", "entropy_decay": 0.999},
            "0.12 of the entropy bonus is left .* 3,000, if the encoder makes no mistake, so",
        ),
    ],
)
def test_an_entropy_bonus_that_is_left_at_the_end_is_told(
    make_config: MakeConfig, steps: int, prior: dict[str, object], message: str
) -> None:
    (fault,) = told(make_config, steps, **prior)
    assert re.search(message, fault), fault


def test_what_is_advised_is_enough(make_config: MakeConfig) -> None:
    assert not told(make_config, 5000, entropy_decay=0.9885)
    assert not told(make_config, 57_536, entropy_decay=0.999)
    assert not told(make_config, 3000, entropy_weight=0, entropy_decay=1.0), "there is no bonus"
    assert not told(make_config, 3000, entropy_weight=0.01, entropy_decay=1.0), "it never moved the prior"
    alone = make_config(
        "dmgan_pl", training__generator_steps=3000, system__n_generators=1, system__prior__entropy_decay=1
    )
    assert not list(faults(alone)), "a single generator has no prior to learn"


def test_a_run_of_few_steps_is_told_whatever_its_system(make_config: MakeConfig) -> None:
    (fault,) = told(make_config, 2000, system="wgan_gp")
    assert fault.startswith("training.generator_steps 2,000: too few for generators to cover what they make; ")
    assert not told(make_config, FEWEST, system="wgan_gp")


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--local"]])
def test_the_command_tells_before_it_trains(
    load_job: Callable[[str], ModuleType],
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    script = load_job("train")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("toposampler.distributed.driver.launch", lambda *_: {"metrics": {}, "active_generators": 1,
                        "generator_steps": 1, "seconds": 1, "model": "m"})  # fmt: skip
    output = str(run_folder(make_config("wgan_gp")).parent)
    short = ["--training.generator_steps", "2000", "--output", output, "--tracking.enabled", "false"]
    assert script.main(["lines_dmgan_pl", *short, *arguments]) == 0
    assert "note     training.generator_steps 2,000: too few" in capsys.readouterr().out


def test_a_notebook_is_told_how_far_training_has_come(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config("wgan_gp", training__generator_steps=5)
    train(config)
    err = capsys.readouterr().err
    for line in (
        "200 points in 2 dimensions",
        "note: training.generator_steps 5: too few",
        "step 5/5",
        "trained; evaluating",
    ):
        assert line in err
    train(make_config("wgan_gp", name="silent", training__generator_steps=5), progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("system", ["wgan_gp", "dmgan_pl"])
def test_a_finished_run_with_more_steps_ends_as_the_long_run(system: str, make_config: MakeConfig) -> None:
    prior = {"system__prior__entropy_decay_from": 0} if system == "dmgan_pl" else {}
    whole = make_config(system, name="whole", **CONSTANT, **prior)
    short = make_config(system, name="short", training__generator_steps=10, **CONSTANT, **prior)
    longer = make_config(system, name="short", **CONSTANT, **prior)
    train(whole, progress=False)
    train(short, progress=False)
    result = train(longer, progress=False)
    assert same(final_state(whole), final_state(longer))
    assert result is not None
    assert result["generator_steps"] == 20
    folder = run_folder(longer)
    assert stored_config(folder) == longer
    assert (folder / "result_step_00000010.json").exists(), "the result of the shorter run is kept"
    assert [r.step for r in read_records(folder / "metrics.jsonl")] == [5, 10, 15, 20]
    assert losses(whole) == losses(longer)


def losses(config: RunConfig) -> list[dict[str, float]]:
    """What was recorded but for evaluations: a run does not evaluate twice at what was its end."""
    records = read_records(run_folder(config) / "metrics.jsonl")
    return [{k: v for k, v in record.metrics.items() if not k.startswith("eval/")} for record in records]


def test_a_stopped_run_may_be_lengthened_before_its_constants_follow_the_length(make_config: MakeConfig) -> None:
    whole = make_config("dmgan_pl", name="whole", training__generator_steps=40, training__checkpoint_every=4)
    short, longer = (
        make_config("dmgan_pl", name="short", training__generator_steps=n, training__checkpoint_every=4)
        for n in (20, 40)
    )
    with pytest.raises(RunInterruptedError):
        stopped_at(short, 4)
    train(whole, progress=False)
    train(longer, progress=False)
    assert same(final_state(whole), final_state(longer))


def stopped_at(config: RunConfig, step: int) -> None:
    """Train to a checkpoint at `step`, and no further."""

    def stop(done: int, _: Path) -> None:
        if done == step:
            raise RunInterruptedError("stopped", "test")

    train(config, on_checkpoint=stop, progress=False)


def test_a_run_whose_constants_were_shares_of_its_length_is_not_lengthened(make_config: MakeConfig) -> None:
    short = make_config("dmgan_pl", system__penalty__final_weight=0.1)
    train(short, progress=False)
    with pytest.raises(UserError) as refused:
        train(make_config("dmgan_pl", system__penalty__final_weight=0.1, training__generator_steps=40), progress=False)
    message = str(refused.value)
    assert "has done 20 of training.generator_steps 20. As the first 20 of 40 they would have had other" in message
    keys = {line.split(":")[0].strip() for line in message.splitlines() if line.startswith("  ")}
    assert keys == {
        "training.learning_rate_decay_from", "training.batch_growth_from", "system.penalty.final_weight",
        "system.prior.entropy_decay_from",
    }  # fmt: skip
    folder = run_folder(short)
    command = [
        "--init-from",
        str(folder),
        "--init-state",
        "full",
        "--name",
        "OTHER",
        "--training.generator_steps",
        "40",
    ]
    assert shlex.split(message.partition("from where it is: ")[2]) == [str(folder / "config.yaml"), *command]
    assert stored_config(run_folder(short)) == short, "nothing was written"


def test_a_run_is_not_shortened(make_config: MakeConfig) -> None:
    train(make_config("wgan_gp", training__generator_steps=10, **CONSTANT), progress=False)
    with pytest.raises(UserError, match=r"training.generator_steps: 10 -> 5"):
        train(make_config("wgan_gp", training__generator_steps=5, **CONSTANT), progress=False)
