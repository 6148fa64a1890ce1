"""How the entropy bonus of a learned prior fades: three schedules, the same on every worker and after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ranks import on_ranks

from toposampler.errors import UserError
from toposampler.records import read_records
from toposampler.systems.dmgan_pl import DMGANPL
from toposampler.training import RunConfig, train
from toposampler.training.checkpoint import read_checkpoint
from toposampler.training.config import run_folder

MakeConfig = Callable[..., RunConfig]


def build(make_config: MakeConfig, **prior: object) -> DMGANPL:
    torch.manual_seed(0)
    system = make_config("dmgan_pl", **{f"system__prior__{k}": v for k, v in prior.items()}).system.build((2,))
    assert isinstance(system, DMGANPL)
    return system


def test_exponential_is_the_paper_s_and_the_default(make_config: MakeConfig) -> None:
    system = build(make_config, entropy_weight=10, entropy_decay=0.5, entropy_decay_from=0.2)
    assert [system.entropy_weight(step, 10) for step in (0, 2, 3, 5)] == [10, 10, 5, 1.25]


def test_linear_reaches_zero_after_its_span_and_stays(make_config: MakeConfig) -> None:
    system = build(make_config, entropy_schedule="linear", entropy_weight=8, entropy_decay_from=0.2, entropy_span=0.4)
    weights = [system.entropy_weight(step, 10) for step in (0, 2, 3, 4, 6, 9)]
    assert weights == pytest.approx([8, 8, 6, 4, 0, 0])


def run(make_config: MakeConfig, name: str, **overrides: object) -> RunConfig:
    prior = {"entropy_schedule": "encoder", "entropy_decay": 0.5, "entropy_decay_from": 0.2}
    changes = {f"system__prior__{k}": v for k, v in prior.items()}
    return make_config("dmgan_pl", name=name, training__precision="fp64", **changes, **overrides)


def accurate_steps(config: RunConfig) -> float:
    (*_, newest) = sorted((run_folder(config) / "checkpoints").glob("*.pt"))
    return float(read_checkpoint(newest)["loop"]["system"]["accurate_steps"])


def bonus(config: RunConfig) -> list[float]:
    return [r.metrics["prior/entropy_bonus"] for r in read_records(run_folder(config) / "metrics.jsonl")]


def test_encoder_counts_a_step_as_far_as_the_generators_are_told_apart(make_config: MakeConfig) -> None:
    system = build(make_config, entropy_schedule="encoder", entropy_decay=0.5, entropy_weight=8)
    assert float(system.entropy_weight(0, 20)) == 8
    system.accurate_steps += 1.5
    assert float(system.entropy_weight(19, 20)) == pytest.approx(8 * 0.5**1.5)
    config = run(make_config, "counted")
    train(config)
    assert 0 < accurate_steps(config) < 16, "4 of 20 steps are held, and the encoder is not perfect in the others"


def test_encoder_goes_on_from_a_checkpoint_with_the_same_bits(make_config: MakeConfig) -> None:
    whole, stopped = run(make_config, "whole"), run(make_config, "stopped")
    train(whole)

    def stop(step: int, _: Path) -> None:
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stopped, on_checkpoint=stop)
    train(stopped)
    assert bonus(stopped) == bonus(whole)
    assert accurate_steps(stopped) == accurate_steps(whole)


def test_encoder_does_not_depend_on_the_number_of_workers(make_config: MakeConfig, tmp_path: Path) -> None:
    alone, together = run(make_config, "alone"), run(make_config, "together", cluster__num_workers=2)
    train(alone)
    on_ranks(2, train, together)
    assert accurate_steps(together) == pytest.approx(accurate_steps(alone), abs=1e-9)
    assert bonus(together) == pytest.approx(bonus(alone), rel=1e-9)


def test_a_schedule_that_does_not_exist_is_named(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"system\.prior\.entropy_schedule.*'exponential', 'linear' or 'encoder'"):
        make_config("dmgan_pl", system__prior__entropy_schedule="cosine")
