"""What may be done with each key: today's answers, and those of a section outside the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from toposampler.config import OptimizerConfig, Section
from toposampler.data import DATA
from toposampler.data.lines import LinesConfig
from toposampler.keys import has_key, may, may_branch, may_resume, may_search, ready_ranges
from toposampler.systems import SYSTEMS
from toposampler.training import RunConfig
from toposampler.tuning.config import SweepConfig
from toposampler.tuning.spaces import describe_space, parse_space

STORED = Path(__file__).parent / "data"


def keys(section: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def runs() -> Iterator[RunConfig]:
    """A run of every system, and one on every data set, unchecked: no data lies here."""
    system, data = SYSTEMS[0](), LinesConfig()
    for page in SYSTEMS:
        yield RunConfig.model_construct(name="run", system=page(), data=data)
    for source in DATA:
        yield RunConfig.model_construct(name="run", system=system, data=source.model_construct(path=Path("x")))


def test_every_key_has_the_answers_it_had_when_regular_expressions_gave_them() -> None:
    """keys.txt was written from MAY_CHANGE, ADOPTABLE and SEARCHABLE of commit 10a94fc. The length of a run, and how
    often it is looked at, may be branched since: they are read anew at every step. So may the weights of losses of
    DeLiGAN, MGAN, MDGAN and VEEGAN."""
    lines = [line.split() for line in (STORED / "keys.txt").read_text().splitlines()[1:]]
    stored = {key: set(answers) for key, *answers in lines}
    seen = set()
    for config in runs():
        for key in keys(config):
            now = {
                word
                for word, answer in (("resume", may_resume), ("branch", may_branch), ("search", may_search))
                if answer(config, key)
            }
            if key in stored:  # keys that came later state their own
                assert now == stored[key], key
                seen.add(key)
    assert seen == stored.keys()


def test_the_ready_ranges_are_those_that_stood_in_a_list() -> None:
    stored: dict[str, set[str]] = {}
    for line in (STORED / "ready.txt").read_text().splitlines()[1:]:
        if line.startswith("["):
            lines = stored.setdefault(line[1:-1], set())
        else:
            lines.add(line)
    for config in runs():
        if expected := stored.pop(config.system.name, None):
            space = parse_space(dict.fromkeys(ready_ranges(config), "ready"), config)
            assert set(describe_space(space)) == expected
    assert not stored


def test_a_sweep_may_go_on_with_another_length_and_end() -> None:
    config = SweepConfig(name="sweep", base=Path("base.yaml"), overrides={"training.generator_steps": 9})
    free = {key for key in keys(config) if may_resume(config, key)}
    assert free == {
        *("base", "overrides", "output", "trials", "total_steps", "max_concurrent", "trials_per_worker"),
        *("confirm_seeds", "register_model", "model"),
    }
    assert may_resume(config, "overrides.training.generator_steps")


class Foreign(Section):
    """A section that the package does not know."""

    name: Literal["foreign"] = "foreign"
    pull: OptimizerConfig = OptimizerConfig()
    strength: float = Field(1.0, json_schema_extra=may(search={"uniform": [0, 1], "when": {"kind": ["soft"]}}))
    kind: Literal["soft", "hard"] = "soft"
    shape: dict[str, float] = Field({}, json_schema_extra=may(resume=True))


class Heir(Foreign):
    """A field declared anew, without a word of what may be done with it."""

    strength: float = 2.0


class Whole(Section):
    """A configuration with it."""

    foreign: Foreign = Field(Heir(), json_schema_extra=may(search=True))


def test_a_foreign_section_is_asked_itself() -> None:
    config = Whole()
    assert may_branch(config, "foreign.pull.learning_rate")
    assert not may_branch(config, "foreign.strength")
    assert may_search(config, "foreign.kind"), "as the field that holds the section says"
    assert may_resume(config, "foreign.shape.width"), "keys of a mapping are the mapping's"
    assert ready_ranges(config) == {
        "foreign.pull.learning_rate": {"loguniform": [1e-4, 1e-2]},
        "foreign.strength": {"uniform": [0, 1]},  # `kind` is soft
    }
    assert "foreign.strength" not in ready_ranges(Whole(foreign=Heir(kind="hard")))


@pytest.mark.parametrize("key", ["foreign.nothing", "nothing", "foreign.kind.nothing"])
def test_nothing_is_stated_of_a_key_that_there_is_not(key: str) -> None:
    config = Whole()
    assert not has_key(config, key)
    assert not any(answer(config, key) for answer in (may_resume, may_branch, may_search))
