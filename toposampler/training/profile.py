"""Where an iteration's time goes: a few iterations under torch's profiler, as a trace and as a table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule

from toposampler.training.loop import Loop

WARM_UP, RECORDED = 20, 5
"""iterations before the recorded ones, which are slower than all others, and those recorded"""

RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)

log = logging.getLogger(__name__)


@contextmanager
def profiled(loop: Loop, folder: Path) -> Iterator[Callable[[], None]]:
    """Record iterations of `loop` while the block runs; what is yielded is to be called after each of them.

    Writes, for every rank, `worker_RANK.json` (a trace for chrome://tracing or ui.perfetto.dev) and `worker_RANK.txt`
    (the table) to `folder`.
    """
    phases: list[str] = []

    def phase(name: str) -> AbstractContextManager[Any]:
        if name not in phases:
            phases.append(name)
        return record_function(name)

    recorded_iterations = 0

    def step() -> None:
        nonlocal recorded_iterations
        recorded_iterations += running.current_action in RECORDING
        running.step()

    def write(recorded: profile) -> None:
        if recorded_iterations == 0:  # the run was stopped just then
            return
        text = table(recorded, phases, recorded_iterations)
        trace = folder / f"worker_{loop.group.rank}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            recorded.export_chrome_trace(str(trace))
            trace.with_suffix(".txt").write_text(text + "\n")
        except (OSError, RuntimeError) as error:
            log.warning("the profile cannot be written to %s: %s", folder, error)
        log.info("profile of worker %d: %s\n%s", loop.group.rank, trace, text)

    quiet, loop.phase = loop.phase, phase
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    when = schedule(wait=WARM_UP - 2, warmup=2, active=RECORDED, repeat=1)
    with profile(activities=activities, schedule=when, on_trace_ready=write) as running:
        yield step
    loop.phase = quiet
    if recorded_iterations == 0:
        log.warning("no profile: it begins after %d iterations, and there were fewer", WARM_UP)


def table(recorded: profile, phases: list[str], iterations: int) -> str:
    """Milliseconds an iteration of each phase, on the CPU and on the device, and its share of the whole."""
    events = {event.key: event for event in recorded.key_averages() if event.key in phases}
    whole = sum(event.cpu_time_total for event in events.values())
    rows = [f"{'an iteration':36}{'times':>6}{'CPU ms':>10}{'GPU ms':>10}{'share':>8}"]
    for name, event in sorted(events.items(), key=lambda item: phases.index(item[0])):
        cpu, device = event.cpu_time_total / iterations / 1e3, event.device_time_total / iterations / 1e3
        share = event.cpu_time_total / whole
        rows.append(f"{name:36}{event.count / iterations:>6.3g}{cpu:>10.3f}{device:>10.3f}{share:>8.1%}")
    return "\n".join([*rows, f"{'all':36}{'':>6}{whole / iterations / 1e3:>10.3f}"])
