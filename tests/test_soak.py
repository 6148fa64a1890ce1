"""What is repeated for long takes no more memory, files and threads than at first.

`pytest tests/test_soak.py -m slow -rP` prints the figures.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import toposampler
from toposampler.training import RunConfig, train
from toposampler.training.model import save_model
from toposampler.training.run import begin

PARTS = 20
WARM = 5
"""parts after which everything has been made that is made once"""
MOST_BYTES, MOST_OBJECTS = 4 * 2**20, 200
"""growth that is none, of the allocator and of libraries' caches: it was 0.3 MiB and 15 objects. A tensor kept in each
of 15,000 iterations is 15,000 objects, and some 8 MiB"""


class Use(NamedTuple):
    """What this process has in use."""

    bytes: int
    """memory that is resident"""
    objects: int
    """of Python, that may hold others"""
    files: int
    threads: int

    @classmethod
    def now(cls) -> Use:
        """After what is not used any more has been collected."""
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(resident, len(gc.get_objects()), len(os.listdir("/proc/self/fd")), threading.active_count())


def soak(what: str, part: Callable[[int], object]) -> None:
    """Do each `part` in [0, PARTS), and see that the later ones leave nothing behind."""
    used = []
    for i in range(PARTS):
        part(i)
        used.append(Use.now())
    warm, last = used[WARM - 1], used[-1]
    print(f"soak | {what} | MiB {' '.join(f'{use.bytes / 2**20:.1f}' for use in used)}")
    print(f"soak | {what} | objects {warm.objects:,} to {last.objects:,}, files {warm.files} to {last.files}, "
          f"threads {warm.threads} to {last.threads}")  # fmt: skip
    assert last.bytes - warm.bytes < MOST_BYTES
    assert last.objects - warm.objects < MOST_OBJECTS
    assert (last.files, last.threads) == (warm.files, warm.threads)


@pytest.mark.slow
def test_twenty_thousand_iterations(make_config: Callable[..., RunConfig]) -> None:
    """With records, evaluations and checkpoints as a run has them."""
    keys = {"generator_steps": 20_001, "log_every": 20, "evaluate_every": 500, "checkpoint_every": 100}
    narrow = {f"system__{player}_width": 16 for player in ("generator", "critic")}
    config = make_config("dmgan_pl", **narrow, **{f"training__{key}": value for key, value in keys.items()})
    with begin(config) as run:
        soak("20,000 iterations", lambda i: run.advance((i + 1) * 1000))
        assert run.loop.step == 20_000


@pytest.mark.slow
def test_a_thousand_samplings(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Each loads the model, once from its run and once from a directory."""
    train(make_config("dmgan_pl"))
    places = (tmp_path / "run", tmp_path / "model")
    save_model(*places)

    def sample(part: int) -> None:
        for seed in range(50 * part, 50 * (part + 1)):
            for place in places:
                toposampler.load(place, ema=seed % 2 == 0).sample(100, seed)

    soak("2 x 1,000 samplings", sample)
