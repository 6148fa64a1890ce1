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
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in range(8, 31):  # MiB: each is larger than what was freed before, so that glibc by itself maps it anew
    torch.ones(size * 2**20 // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    """Page faults of blocks of 8 to 30 MiB, each freed before the next, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in allocator.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_block_takes_what_was_freed_before() -> None:
    assert 5 * faults(keep=True) < faults(keep=False)


def test_what_the_user_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    assert not allocator.keep_freed_memory.__wrapped__()
