"""Freed memory of a training process is used again, and not given back to the kernel."""

import os
import platform
import subprocess
import sys

import pytest

from toposampler.training import allocator

FAULTS = """
import resource, torch
from toposampler.training.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
torch.set_num_threads(1)
def step():
    kept = [torch.ones(4 * 2**20 // 4) for _ in range(8)]  # 8 blocks of 4 MiB, all freed at the end
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    """Page faults of five steps, each of which allocates and frees 32 MiB, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in allocator.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_step_takes_the_memory_of_the_step_before() -> None:
    assert 10 * faults(keep=True) < faults(keep=False)


def test_what_the_user_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    assert not allocator.keep_freed_memory.__wrapped__()
