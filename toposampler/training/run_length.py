"""Whether a run is long enough for what its constants are to do, and whether it can be made longer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from toposampler.config import as_text
from toposampler.errors import UserError
from toposampler.schedules import schedules
from toposampler.training.config import RunConfig

FEWEST = 3000
"""generator steps of the shortest of the configurations that come with the package: in 2,000 steps `lines_dmgan_pl`
covers .34 to .92 of the least covered segment (8 seeds), in its 13,333 steps .74 to 1, the median 1 (32 seeds)"""


def faults(config: RunConfig) -> Iterator[str]:
    """A sentence, with key, value and what would be right, for all that a run of this length is too short for."""
    steps = config.training.generator_steps
    if steps < FEWEST:
        yield (
            f"training.generator_steps {steps:,}: too few for generators to cover what they make; the configurations "
            f"that come with the package have {FEWEST:,} or more, the default is "
            f"{type(config.training).model_fields['generator_steps'].default:,}"
        )
    for schedule in schedules(config, steps):
        if schedule.fault is not None:
            yield f"{schedule.key} {as_text(schedule.value)}: {schedule.fault}"


def check_longer(folder: Path, begun: RunConfig, config: RunConfig, done: int) -> None:
    """Raises UserError if the run in `folder`, `begun` shorter, cannot go on as `config`.

    It can where its `done` generator steps would have been the same in the longer run, to the last bit.
    """
    length = begun.training.generator_steps
    bound = [s for s in schedules(begun, length) if s.depends_on_length(done, length)]
    if not bound:
        return
    lines = "\n".join(f"  {s.key}: {as_text(s.value)} (a share of the run)" for s in bound)
    raise UserError(
        f"{folder} has done {done:,} of training.generator_steps {length:,}. As the first {done:,} of "
        f"{config.training.generator_steps:,} they would have had other values of what these keys set:\n{lines}\n"
        f"Under another name it resumes from where it is: {shlex.quote(str(folder / 'config.yaml'))} --init-from "
        f"{shlex.quote(str(folder))} --init-state full --name OTHER --training.generator_steps "
        f"{config.training.generator_steps}"
    )
