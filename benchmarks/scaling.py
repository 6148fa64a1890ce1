"""What it costs to spread a run: Ray against torchrun, bytes on the wire, memory of a worker, and a model of many GPUs.

    python benchmarks/scaling.py [--rounds 3] [--steps 150] [--out benchmarks/results/scaling.json]

1. Ray Train against plain torchrun: the same run of 2 workers on 2 CPUs, in turns, `rounds` times each. Milliseconds an
   outer iteration are read from the records of the run, the first third left out; the figure is the ratio of medians.
2. Bytes that one worker hands to the process group in an outer iteration, replicated and sharded over 4 workers,
   counted where `ProcessGroup` is called.
3. Peak memory of one worker, a process of its own: resident bytes above those before the system was made.
4. A model of weak scaling on GPUs: 64 samples a worker, 8 to 512 workers, from the bytes, operations and kernels
   counted here. How fast a GPU and its network are cannot be measured on this machine: that is assumed, in `ASSUMED`.

2 to 4 play one worker of many in one process: `Alone` counts what would be sent and returns as if it had arrived.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from runs import write_results
from toposampler.config import TrainingConfig, to_yaml, validate
from toposampler.data import Dataset
from toposampler.records import read_records
from toposampler.systems import SystemConfig
from toposampler.systems.dmgan_pl import DMGANPLConfig
from toposampler.training import RunConfig, load_config, train
from toposampler.training.config import run_folder
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup

ROOT = Path(__file__).parents[1]
IMAGES, SAMPLES_A_WORKER = (1, 28, 28), 64
WORKERS = 4
GENERATORS = (4, 16, 64)

ASSUMED = {
    "kernel_us": 5.0,  # from one kernel to the next where they are too small to fill a GPU
    "tflops": 20.0,  # fp32, what convolutions of this size reach of the 67 of an H100
    "node_gb_s": 200.0,  # what a ring all-reduce reaches within a node of 8 GPUs
    "net_gb_s": 25.0,  # and between nodes, for each GPU
    "hop_us": 6.0,  # latency of one of the 2 log2(N) rounds of a tree
    "draw_gb_s": 200.0,  # at which a GPU makes random numbers and gathers rows
}


@dataclass(frozen=True)
class Alone(ProcessGroup):
    """One worker of many without the others: counts the bytes it would send, and goes on as if they had answered."""

    sent: list[int] = field(default_factory=list)

    def average_(self, x: Tensor) -> None:
        self.sent.append(x.numel() * x.element_size())

    def first(self, value: Any) -> Any:
        return value


def config_of(n_generators: int, width: int | None = None) -> DMGANPLConfig:
    return DMGANPLConfig(n_generators=n_generators, draw="equal", generator_width=width)


def worker(system: SystemConfig, size: int, spread: bool) -> tuple[Loop, Alone]:
    """Worker 0 of `size`, with `SAMPLES_A_WORKER` samples of its own in a batch."""
    group = Alone(0, size)
    placement = Placement(group, spread)
    torch.manual_seed(0)
    built = system.build(IMAGES, shard=placement.shard)
    training = TrainingConfig(batch_size=SAMPLES_A_WORKER * size, batch_growth=1, generator_steps=10**6)
    dataset = Dataset(torch.rand(2000, *IMAGES) * 2 - 1)
    return Loop(built, dataset, training, 0, torch.device("cpu"), placement), group


def bytes_on_the_wire() -> list[dict[str, Any]]:
    rows = []
    for K in GENERATORS:
        row: dict[str, Any] = {"K": K}
        for name, spread in (("replicated", False), ("sharded", True)):
            loop, group = worker(config_of(K), WORKERS, spread)
            loop.iteration()
            row[name], row[f"{name}_calls"] = sum(group.sent), len(group.sent)
        rows.append(row)
    return rows


def peak_memory(K: int, size: int, spread: bool) -> float:
    """MiB that a worker of `size` needs at most in three iterations with K generators of 4.7 million weights each."""
    torch.set_num_threads(1)
    warm, _ = worker(config_of(1, 8), 1, False)  # what torch itself needs is not counted
    warm.iteration()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loop, _ = worker(config_of(K, 128), size, spread)
    for _ in range(3):
        loop.iteration()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory() -> list[dict[str, Any]]:
    rows = []
    for K in (4, 8, 16):
        row: dict[str, Any] = {"K": K}
        for name, size, spread in (("replicated", K, False), ("sharded", K, True)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row[name] = round(pool.apply(peak_memory, (K, size, spread)))
        rows.append(row)
    return rows


def milliseconds_a_step(config: RunConfig) -> float:
    """Wall time of an outer iteration of a finished run, its first third left out."""
    records = read_records(run_folder(config) / "metrics.jsonl")
    first, last = records[len(records) // 3], records[-1]
    return 1000 * (last.time - first.time) / (last.step - first.step)


def peer(config: RunConfig) -> None:
    """What torchrun starts: the same training in a process group of its own."""
    torch.set_num_threads(config.cluster.cpus_per_worker)
    dist.init_process_group("gloo")
    train(config)
    dist.barrier()
    dist.destroy_process_group()


def ray_against_torchrun(rounds: int, steps: int) -> dict[str, Any]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29511"]
    times: dict[str, list[float]] = {"ray": [], "torchrun": []}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", np.random.default_rng(0).integers(0, 255, (500, 28, 28, 1), dtype=np.uint8))
        for i in range(rounds):
            for name in times if i % 2 == 0 else reversed(times):
                content = {
                    "name": f"{name}{i}", "output": folder, "data": {"name": "npy", "path": f"{folder}/images.npy"},
                    "system": {"name": "dmgan_pl", "n_generators": 4}, "cluster": {"num_workers": 2},
                    "tracking": {"enabled": False},
                    "training": {
                        "generator_steps": steps, "log_every": steps // 15, "batch_growth": 1,
                        "evaluate_every": 10**6, "checkpoint_every": 10**6, "evaluation_samples": 100,
                    },
                }  # fmt: skip
                config = validate(RunConfig, content)
                path = Path(folder, f"{name}{i}.yaml")
                path.write_text(to_yaml(config))
                command = [sys.executable, "ray_jobs/train.py"] if name == "ray" else [*torchrun, __file__, "--peer"]
                subprocess.run([*command, str(path)], check=True, cwd=ROOT, capture_output=True)
                times[name].append(milliseconds_a_step(config))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"milliseconds": times, "ratio": medians["ray"] / medians["torchrun"]}


class Kernels(TorchDispatchMode):
    """Counts operations; one that computes is about one kernel of a GPU."""

    FREE = (
        "view",
        "split",
        "slice",
        "select",
        "detach",
        "expand",
        "permute",
        "unsqueeze",
        "squeeze",
        "transpose",
        "t.",
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(str(func).startswith(f"aten.{name}") for name in self.FREE)
        return func(*args, **(kwargs or {}))


def counted() -> dict[str, float]:
    """What one worker does in an outer iteration with 64 generators, of which it holds 64 / `WORKERS`."""
    loop, _ = worker(config_of(64), WORKERS, True)
    loop.iteration()
    start = time.perf_counter()
    loop.iteration()
    seconds = time.perf_counter() - start
    with FlopCounterMode(display=False) as operations:
        loop.iteration()
    with Kernels() as kernels:
        loop.iteration()
    return {"gflop": operations.get_total_flops() / 1e9, "kernels": kernels.count, "cpu_ms": 1000 * seconds}


def drawn() -> list[dict[str, float]]:
    """Milliseconds on this CPU of what every worker draws for the whole batch, by the number of workers."""
    rows = []
    for workers in (1, 8, 64, 512):
        loop, _ = worker(config_of(64), workers, False)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            loop._draw(3)
            times.append(1000 * (time.perf_counter() - start))
        rows.append({"workers": workers, "ms": statistics.median(times)})
    return rows


def modeled(wire: Sequence[dict[str, Any]], work: dict[str, float]) -> list[dict[str, Any]]:
    """Weak scaling with 64 generators: what share of an iteration is neither all-reduce nor drawn for other workers."""
    row = next(row for row in wire if row["K"] == 64)
    compute = work["kernels"] * ASSUMED["kernel_us"] / 1e3 + work["gflop"] / ASSUMED["tflops"]
    bytes_a_sample = 3 * 4 * (config_of(64).latent.dim + 4)  # z, c, epsilon, weight and index, of three steps
    rows = []
    for workers in (8, 64, 512):
        speed = ASSUMED["node_gb_s"] if workers <= 8 else ASSUMED["net_gb_s"]
        draw = workers * SAMPLES_A_WORKER * bytes_a_sample / ASSUMED["draw_gb_s"] / 1e6
        out: dict[str, Any] = {"workers": workers, "compute_ms": compute, "draw_ms": draw}
        for name in ("replicated", "sharded"):
            ring = 2 * (workers - 1) / workers * row[name] / speed / 1e6
            latency = row[f"{name}_calls"] * 2 * math.log2(workers) * ASSUMED["hop_us"] / 1e3
            out[f"{name}_wire_ms"] = ring + latency
            out[f"{name}_efficiency"] = compute / (compute + ring + latency + draw)
        rows.append(out)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.json"))
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(load_config(options.peer))
        return
    torch.set_num_threads(1)
    wire, work = bytes_on_the_wire(), counted()
    results = {
        "wire": wire,
        "memory": memory(),
        "work": work,
        "draw": drawn(),
        "assumed": ASSUMED,
        "model": modeled(wire, work),
        "ray": ray_against_torchrun(options.rounds, options.steps),
    }
    for name, value in results.items():
        print(f"\n{name}")
        for row in value if isinstance(value, list) else [value]:
            print("  " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    write_results(options.out, results)


if __name__ == "__main__":
    main()
