"""Whether the connected cluster has room for a run: waited for at the beginning, watched over while it trains."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RaySystemError
from tqdm import tqdm

from toposampler.config import ClusterConfig
from toposampler.distributed.ray_private import free_by_node
from toposampler.distributed.resources import Node, least_workers, of_evaluator, per_worker, shortage
from toposampler.errors import UserError

LOOK_EVERY_S, TELL_EVERY_S = 1.0, 10.0
SETTLE_S = 10.0
"""Seconds in which the processes of a run that has just ended give back what they used."""
STILL_S = 15.0
"""Seconds without a record after which a run may be standing still."""


def nodes() -> list[Node]:
    """The nodes of the connected cluster that are alive."""
    free = free_by_node()
    return [
        Node(node["NodeManagerAddress"], node["Resources"], free.get(node["NodeID"], {}), node["Labels"])
        for node in ray.nodes()
        if node["Alive"]
    ]


def wait_for_resources(config: ClusterConfig, place: str) -> None:
    """Return when the connected cluster has room for the run, and say meanwhile what is missing.

    Raises UserError if it has not within `config.wait_s` seconds, or `SETTLE_S` for what is only in use now.
    """
    there = nodes()
    short = shortage(config, there, place)
    if short is None:
        return
    in_use_only = shortage(config, [replace(node, free=node.total) for node in there], place) is None
    seconds = max(config.wait_s, SETTLE_S if in_use_only else 0.0)
    if config.wait_s:
        bundles = [per_worker(config)] * least_workers(config) + ([of_evaluator(config)] * config.evaluate_beside)
        selectors = [dict(config.label_selector)] * len(bundles) if config.label_selector else None
        request_resources(bundles=bundles, bundle_label_selectors=selectors)  # an autoscaler, if there is one, obeys
    try:
        short = _wait(config, place, seconds)
    finally:
        if config.wait_s:
            request_resources(bundles=[])
    if short:
        waited = f"waited {seconds:g} s; " if seconds else ""
        raise UserError(f"{short}\n  {waited}set cluster.wait_s to the seconds to wait for it")


def _wait(config: ClusterConfig, place: str, seconds: float) -> str | None:
    """What is missing after so many seconds; None as soon as nothing is."""
    deadline, told, told_at = time.monotonic() + seconds, "", 0.0
    while (short := shortage(config, nodes(), place)) and (left := deadline - time.monotonic()) > 0:
        if short != told or time.monotonic() - told_at >= TELL_EVERY_S:
            print(f"waiting, {left:.0f} s left: {short if short != told else short.splitlines()[0]}", flush=True)
            told, told_at = short, time.monotonic()
        time.sleep(min(LOOK_EVERY_S, left))
    return short


class Watch:
    """Says so when a run waits because the cluster no longer has room for it: Ray itself says nothing.

    `refresh()` looks at the cluster once nothing has been written to `metrics` (a file) for `STILL_S` seconds.
    """

    def __init__(self, config: ClusterConfig, metrics: Path) -> None:
        self._config, self._metrics = config, metrics
        self._told = ""
        self._begun = time.time()

    def refresh(self) -> None:
        """Print what is missing, if anything is and it has not been told."""
        written = self._metrics.stat().st_mtime if self._metrics.exists() else 0.0
        if time.time() - max(written, self._begun) < STILL_S:
            return
        try:
            there = [replace(node, free=node.total) for node in nodes()]  # the run itself may use them
        except RaySystemError:  # all that these raise: not connected, or no longer. Others tell of that
            return
        short = shortage(self._config, there, "the cluster") or ""
        if short and short != self._told:
            tqdm.write(f"the run waits until machines are back: {short}", file=sys.stderr)
        self._told = short
