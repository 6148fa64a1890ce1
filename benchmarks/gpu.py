"""What a GPU makes of this program: iterations a second alone and as a population, precisions, trees, repeatability.

    python benchmarks/gpu.py [--seconds 3] [--device cuda|cpu] [--out benchmarks/results/gpu.json]
    python benchmarks/gpu.py --device cpu --tiny                 the same on small sizes, in seconds

One command, without Ray and data on disk, within five minutes on one GPU. Each row runs in this process for some
seconds after a warm-up, the device waited for at both ends.

- `alone`: outer iterations a second of one run, eagerly and by graphs (on a CPU: their stand-in, which costs what eager
  costs), in fp32, tf32 and bf16; `busy`: the share of the time in which the device runs a kernel, by torch's profiler
  (CUDA only); `refused`: whether it could not be captured.
- `population`: P runs as one program: an iteration as a ratio to that of one, and iterations of members a second.
- `trees`: milliseconds of a minimum spanning tree of n points in 64 dimensions: by the device's program (Triton's
  kernels, where there are any), by the host, by what `spanning_tree` chooses, and, where the package is installed, by
  `cuhc` (`pip install cuhc`, which needs nvcc), with its transfers from and to the host; how far lengths differ, and
  `signature_loss` forward and backward.
- `repeats`: whether 20 iterations from one seed give the same bits twice, with `training.deterministic` off and on, and
  milliseconds of one.

The JSON has the hardware's name and versions.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from toposampler.config import TrainingConfig, validate
from toposampler.data import Dataset
from toposampler.systems import SYSTEMS, SystemConfig
from toposampler.topology import edge_lengths, signature_loss, spanning_tree
from toposampler.topology.boruvka import has_kernels, minimum_tree_on_device
from toposampler.topology.tree import BY_TORCH
from toposampler.training.capture import StandIn
from toposampler.training.graph_loop import LoopGraphs
from toposampler.training.loop import Loop
from toposampler.training.numerics import numerics
from toposampler.training.placement import Placement
from toposampler.training.population import Population

CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int]] = {
    "lines, DMGAN-PL K = 10": ("dmgan_pl", (2,), {"n_generators": 10}, 64),
    "lines, Topo-DMGAN K = 10": ("topo_dmgan", (2,), {"n_generators": 10}, 64),
    "MNIST 28x28, DMGAN-PL K = 20": ("dmgan_pl", (1, 28, 28), {"n_generators": 20}, 32),
    "MNIST 28x28, DMGAN-PL K = 20, batch 256": ("dmgan_pl", (1, 28, 28), {"n_generators": 20}, 256),
    "64x64 color, DMGAN-PL K = 5": ("dmgan_pl", (3, 64, 64), {"n_generators": 5}, 32),
}
"""system, shape of a sample, its keys, and batch size"""
POPULATIONS, TREES = (1, 8, 32, 100), (64, 256, 1024, 4096, 16384, 65536)
WARM_UP = 10
"""iterations before those that are timed: the shapes in use are captured in them"""
TINY: dict[str, Any] = {"cases": 1, "populations": (1, 3), "trees": (64, 256)}


def make_loop(case: str, device: torch.device, seed: int = 0, **keys: Any) -> Loop:
    """A freshly built run of the case on random data."""
    name, shape, own, batch_size = CASES[case]
    pages = {page.model_fields["name"].default: page for page in SYSTEMS}
    system: SystemConfig = validate(pages[name], {"name": name, **own})
    training = validate(TrainingConfig, {"batch_size": batch_size, "generator_steps": 10**6, **keys})
    data = torch.rand(5000, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.manual_seed(seed)
    return Loop(system.build(shape), Dataset(data), training, seed, device, Placement())


def wait(device: torch.device) -> None:
    """Wait for what the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(action: Callable[[], object], device: torch.device, seconds: float, warm_up: int = 3) -> float:
    """Seconds of one call, from as many as fit into `seconds` after a warm-up, at least 3."""
    for _ in range(warm_up):
        action()
    wait(device)
    start, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - start < seconds:
        action()
        calls += 1
        if calls % 10 == 0:
            wait(device)
    wait(device)
    return (time.perf_counter() - start) / calls


def busy_share(action: Callable[[], object], device: torch.device) -> float | None:
    """The share of the time in which a kernel runs, over 5 calls; None on a CPU."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    wait(device)
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        start = time.perf_counter()
        for _ in range(5):
            action()
        wait(device)
        seconds = time.perf_counter() - start
    return sum(event.self_device_time_total for event in recorded.key_averages()) / 1e6 / seconds


def alone(case: str, device: torch.device, precision: str, graph: bool, seconds: float) -> dict[str, Any]:
    """Iterations a second of one run."""
    loop = make_loop(case, device, precision=precision, graph="auto" if graph else False)
    if graph and device.type == "cpu":
        loop.graphs = LoopGraphs(loop, StandIn())

    def step() -> None:
        loop.iteration()
        loop._history.clear()

    with numerics(loop.config):
        took = seconds_of(step, device, seconds, WARM_UP)
        busy = busy_share(step, device)
    refused = loop.graphs is not None and loop.graphs.refused
    about = {"case": case, "precision": precision, "graph": graph, "refused": refused}
    return {**about, "iterations_per_s": 1 / took, "ms": took * 1e3, "busy": busy}


def population(case: str, device: torch.device, members: int, seconds: float) -> dict[str, Any]:
    """An iteration of so many runs as one program."""
    program = Population([make_loop(case, device, seed=seed) for seed in range(members)])
    took = seconds_of(program.iteration, device, seconds)
    return {"case": case, "members": members, "ms": took * 1e3, "members_iterations_per_s": members / took}


def tree(n: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """A minimum spanning tree of n normal points in 64 dimensions, on the device and on the host."""
    x = torch.randn(n, 64, generator=torch.Generator().manual_seed(n))
    on_device, row = x.to(device), dict[str, Any](n=n)
    row["ms"] = seconds_of(lambda: spanning_tree(on_device), device, seconds, 1) * 1e3
    row["kernels"] = device.type == "cuda" and has_kernels()
    if row["kernels"] or n < (BY_TORCH.stop if device.type == "cuda" else 1025):  # else n x n distances
        row["ms_device"] = seconds_of(lambda: minimum_tree_on_device(on_device), device, seconds, 1) * 1e3
    row["ms_host"] = seconds_of(lambda: spanning_tree(x), torch.device("cpu"), seconds, 1) * 1e3
    lengths = [edge_lengths(points, spanning_tree(points)).sort().values.cpu() for points in (on_device, x)]
    row["largest_relative_difference"] = apart(*lengths)
    if importlib.util.find_spec("cuhc"):
        peer = importlib.import_module("cuhc")
        row["ms_cuhc"] = seconds_of(lambda: peer.linkage(x.numpy(), method="single"), device, seconds, 1) * 1e3
        heights = torch.from_numpy(peer.linkage(x.numpy(), method="single")[:, 2])
        row["cuhc_largest_relative_difference"] = apart(heights.sort().values, lengths[1])
    if n <= 1024:
        at = on_device.clone().requires_grad_()
        row["ms_signature_loss"] = seconds_of(lambda: signature_loss(at, on_device).backward(), device, seconds) * 1e3
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        spanning_tree(on_device)
        row["peak_GiB"] = torch.cuda.max_memory_allocated(device) / 2**30
    return row


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative difference."""
    return float(((found - expected).abs() / expected).max())


def repeats(case: str, device: torch.device, deterministic: bool) -> dict[str, Any]:
    """Whether 20 iterations from one seed give the same bits twice, and the largest difference."""
    runs = [make_loop(case, device, deterministic=deterministic) for _ in range(2)]
    with numerics(runs[0].config):
        for run in runs:
            for _ in range(20):
                run.iteration()
        ms = seconds_of(make_loop(case, device, deterministic=deterministic).iteration, device, 0, WARM_UP) * 1e3
    pairs = [(a.values, b.values) for a, b in zip(runs[0].players.values(), runs[1].players.values(), strict=True)]
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    same = {"same_bits": largest == 0, "largest_difference": largest}
    return {"case": case, "deterministic": deterministic, "ms": ms, **same}


def measure(device: torch.device, seconds: float, tiny: bool) -> dict[str, Any]:
    """All rows; each is printed as it comes."""
    cases = list(CASES)[: TINY["cases"] if tiny else None]
    populations, trees = (TINY["populations"], TINY["trees"]) if tiny else (POPULATIONS, TREES)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    found: dict[str, Any] = {
        "hardware": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "alone": [],
        "population": [],
        "trees": [],
        "repeats": [],
    }

    def keep(table: str, row: dict[str, Any]) -> None:
        found[table].append(row)
        print(table, json.dumps(row), flush=True)

    for case in cases:
        for precision in ("fp32", "tf32", "bf16"):
            for graph in (False, True):
                keep("alone", alone(case, device, precision, graph, seconds))
    for case in cases[:3]:
        ms = {}
        for members in populations if CASES[case][1] == (2,) else populations[:2]:
            row = population(case, device, members, seconds)
            ms[members] = row["ms"]
            keep("population", row | {"ratio_to_one": row["ms"] / ms[1]})
    for n in trees:
        keep("trees", tree(n, device, seconds / 4))
    for case in cases:
        for deterministic in (False, True):
            keep("repeats", repeats(case, device, deterministic))
    return found


def main() -> None:
    """Measure, print and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each row")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest rows only")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; --device cpu runs the same rows on the CPU")
    found = measure(torch.device(given.device), given.seconds, given.tiny)
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
