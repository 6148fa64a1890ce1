"""What a run asks of the machines, and whether they have it.

All workers ask for the same, so the number of workers that fit is exact: it is counted node by node.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import torch

from toposampler.config import ClusterConfig
from toposampler.distributed.labels import has_labels, label_text

UNITS = 10_000
"""Ray counts every resource in whole ten-thousandths."""
NODES_SHOWN = 8
"""nodes that a message names, at most"""
PLACEMENTS = {"STRICT_PACK": "all on one node", "STRICT_SPREAD": "every one on a node of its own"}


@dataclass(frozen=True)
class Node:
    """One machine, and what it has by Ray's names of the kinds (`CPU`, `GPU`, ...)."""

    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    """what nobody uses now"""
    labels: Mapping[str, str] = field(default_factory=dict)
    """that Ray has of it"""


def per_worker(config: ClusterConfig) -> dict[str, float]:
    """What one worker asks for, by Ray's names."""
    gpus = {"GPU": config.gpus_per_worker} if config.use_gpu else {}
    return {"CPU": float(config.cpus_per_worker), **gpus, **config.resources_per_worker}


def of_evaluator(config: ClusterConfig) -> dict[str, float]:
    """What the process of `cluster.evaluate_beside` asks for; nothing, where there is none."""
    return {"CPU": float(config.cpus_per_worker)} if config.evaluate_beside else {}


def chosen(config: ClusterConfig, nodes: Sequence[Node]) -> list[Node]:
    """Those of `nodes` that have the labels asked for."""
    return [node for node in nodes if has_labels(node.labels, config.label_selector)]


def least_workers(config: ClusterConfig) -> int:
    """The number of workers without which a run does not go on."""
    return config.min_workers or config.num_workers


def description(config: ClusterConfig) -> str:
    """What is asked for in a few words, such as `2 to 4 (each 2 CPU, 0.25 GPU), SPREAD`."""
    number = f"{config.min_workers} to {config.num_workers}" if config.min_workers else f"{config.num_workers}"
    placement = "" if config.placement_strategy == "PACK" else f", {config.placement_strategy}"
    labels = f", on nodes with {label_text(config.label_selector)}" if config.label_selector else ""
    beside = f", and {amounts(of_evaluator(config))} to evaluate" if config.evaluate_beside else ""
    return f"{number} (each {amounts(per_worker(config))}){placement}{labels}{beside}"


def amounts(resources: Mapping[str, float]) -> str:
    """Resources as text: `2 CPU, 0.25 GPU`."""
    return ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())


def this_machine() -> Node:
    """What a Ray started on this machine may use: the CPUs of this process, the GPUs torch sees, and the memory."""
    # macOS does not tell which CPUs a process may use.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    has = {"CPU": float(cpus), "GPU": float(torch.cuda.device_count()), "memory": float(memory)}
    return Node("this machine", has, has)


def workers_on(bundle: Mapping[str, float], has: Mapping[str, float]) -> int:
    """The number of workers, each asking for `bundle`, that a node fits which `has` so much."""
    return min(_times(kind, amount, has.get(kind, 0.0)) for kind, amount in bundle.items())


def _times(kind: str, amount: float, has: float) -> int:
    """How often `has` holds `amount`, without the errors of floating point: 1.0 // 0.2 is 4."""
    asked, there = max(round(amount * UNITS), 1), round(has * UNITS)
    if kind == "GPU" and asked < UNITS:  # a share of a GPU lies on one GPU
        return there // UNITS * (UNITS // asked) + there % UNITS // asked
    return there // asked


def workers_that_fit(config: ClusterConfig, counts: Sequence[int]) -> int:
    """The number of workers that fit where `counts` do, node by node, in the placement asked for."""
    if config.placement_strategy == "STRICT_PACK":
        return max(counts, default=0)
    if config.placement_strategy == "STRICT_SPREAD":
        return sum(count > 0 for count in counts)
    return sum(counts)


def on_this_machine(config: ClusterConfig) -> dict[str, float]:
    """What a Ray of its own must have on this machine for as many of the workers as fit there."""
    bundle, beside = per_worker(config), of_evaluator(config)
    workers = min(config.num_workers, workers_on(bundle, _less(this_machine().total, beside)))
    whole = {kind: workers * amount + beside.get(kind, 0.0) for kind, amount in bundle.items()}
    if "GPU" in bundle:
        whole["GPU"] = ceil(workers / _times("GPU", bundle["GPU"], 1.0)) if bundle["GPU"] < 1 else whole["GPU"]
    return whole


def _less(has: Mapping[str, float], used: Mapping[str, float]) -> dict[str, float]:
    """What is left of what a node `has`."""
    return {kind: amount - used.get(kind, 0.0) for kind, amount in has.items()}


def _fit(config: ClusterConfig, nodes: Sequence[Node]) -> int:
    """The number of workers that fit on the free part of `nodes`."""
    return workers_that_fit(config, [workers_on(per_worker(config), node.free) for node in nodes])


def _evaluator_fits(config: ClusterConfig, nodes: Sequence[Node]) -> bool:
    """Whether one of `nodes` has room for the process that evaluates, beside as many workers as are needed."""
    beside = of_evaluator(config)
    return any(
        workers_on(beside, node.free)
        and _fit(config, [*nodes[:i], replace(node, free=_less(node.free, beside)), *nodes[i + 1 :]])
        >= least_workers(config)
        for i, node in enumerate(nodes)
    )


def shortage(config: ClusterConfig, nodes: Sequence[Node], place: str) -> str | None:
    """Why the run does not fit on the free part of `nodes`, which make up `place`; None if it does."""
    every, nodes = nodes, chosen(config, nodes)
    if every and not nodes:
        return _without_labels(config, every, place)
    bundle, least = per_worker(config), least_workers(config)
    counts = [workers_on(bundle, node.free) for node in nodes]
    fit = workers_that_fit(config, counts)
    if fit >= least:
        if not config.evaluate_beside or _evaluator_fits(config, nodes):
            return None
        return (
            f"{place} has room for {least} workers (each {amounts(bundle)}), but not for the process that evaluates "
            f"beside them, on {amounts(of_evaluator(config))} more: set cluster.evaluate_beside false, or "
            "cluster.num_workers or cluster.cpus_per_worker to less"
        )
    short = []
    for kind, amount in bundle.items():
        required = least * amount
        total, free = (sum(has.get(kind, 0.0) for has in side) for side in _sides(nodes))
        if required > free:
            there = f"{free:g} free of {total:g}" if required <= total else f"{total:g} available"
            short.append(f"{required:g} {kind} required, {there}")
    if not short:  # there is enough in all, but no node has the rest of it in one piece
        all_together = {kind: sum(node.free.get(kind, 0.0) for node in nodes) for kind in bundle}
        required_in_all = amounts({kind: least * amount for kind, amount in bundle.items()})
        short = [f"{required_in_all} required, {amounts(all_together)} free in all, but not as the workers need it"]
    placement = PLACEMENTS.get(config.placement_strategy)
    keys = f"cluster.num_workers {config.num_workers}, cluster.cpus_per_worker {config.cpus_per_worker}"
    keys += f", cluster.min_workers {config.min_workers}" if config.min_workers else ""
    keys += f", cluster.gpus_per_worker {config.gpus_per_worker:g}" if config.use_gpu else ""
    keys += f", cluster.resources_per_worker {config.resources_per_worker}" if config.resources_per_worker else ""
    keys += f", cluster.label_selector {label_text(config.label_selector)}" if config.label_selector else ""
    keys += f", cluster.placement_strategy {config.placement_strategy} ({placement})" if placement else ""
    lines = [
        f"{place} has room for {fit} of {least} workers (each {amounts(bundle)}): {'; '.join(short)}",
        *(f"  {_told(node, bundle, count)}" for node, count in list(zip(nodes, counts, strict=True))[:NODES_SHOWN]),
        *([f"  and {len(nodes) - NODES_SHOWN} nodes more"] if len(nodes) > NODES_SHOWN else []),
        f"  asked for by {keys}",
    ]
    return "\n".join(lines)


def _without_labels(config: ClusterConfig, nodes: Sequence[Node], place: str) -> str:
    """What is said where none of `nodes` has the labels asked for: what they have instead, but for Ray's own."""
    lines = []
    for node in nodes[:NODES_SHOWN]:
        own = {key: value for key, value in node.labels.items() if not key.startswith("ray.io/")}
        lines.append(f"  {node.name}: {label_text(own) or 'no labels but those Ray gives'}")
    return "\n".join(
        [
            f"cluster.label_selector {label_text(config.label_selector)}: no node of {place} has these labels",
            *lines,
            *([f"  and {len(nodes) - NODES_SHOWN} nodes more"] if len(nodes) > NODES_SHOWN else []),
            "  labels are given where a node is started: ray start --labels KEY=VALUE",
        ]
    )


def _sides(nodes: Sequence[Node]) -> tuple[list[Mapping[str, float]], list[Mapping[str, float]]]:
    return [node.total for node in nodes], [node.free for node in nodes]


def _told(node: Node, bundle: Mapping[str, float], count: int) -> str:
    """One node in a message: `10.0.0.7: room for 1 worker (3 free of 4 CPU, 0 GPU)`."""
    parts = []
    for kind in bundle:
        total, free = node.total.get(kind, 0.0), node.free.get(kind, 0.0)
        parts.append(f"{total:g} {kind}" if free == total else f"{free:g} free of {total:g} {kind}")
    return f"{node.name}: room for {count} worker{'s' if count != 1 else ''} ({', '.join(parts)})"
