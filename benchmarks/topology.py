"""What a persistence loss costs, beside other packages and beside the least that it can cost, on one CPU thread.

    python benchmarks/topology.py [--rounds 15] [--topoae PATH] [--out benchmarks/results/topology.json]

The loss is the paired one of Moor et al. 2020, forward and backward: X (n, d) with gradient, Z (n, min(d, 64))
without, standard normal. `floor` is, for each of the two trees, one n x n x d matrix product into memory at hand and
one read of the result: what any method needs that looks at all distances once, without choosing or measuring an edge.

All variants take turns in one process. A figure is the median over the rounds of CPU time (the machine may be shared),
a ratio is the median of the ratios within a round. A variant that takes more than a second runs in three rounds only.
Two more tables: 65,536 points (in a process of its own, for its memory), and how often `estimate_components` is right.

Peers are optional; a missing one is left out:
- torch_topological: `pip install torch_topological` (it needs giotto-ph, which is AGPL: never a dependency of ours);
- the authors of topological autoencoders: `git clone https://github.com/BorgwardtLab/topological-autoencoders`
  (BSD-3), whose folder is `--topoae`; of it `src/topology.py` and `src/models/approx_based.py` are run as they are,
  which choose edges in Python; distances (n, n, d) are held at once there, so that n is at most 256;
- gudhi and scipy, with torch.cdist for distances and gradient.
Theirs and ours agree on the loss where they compute the same (torch_topological has another norm).
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import gudhi
import numpy as np
import torch
from table_text import markdown
from torch import Tensor

from toposampler.topology import estimate_components, paired_signature_loss, spanning_tree
from toposampler.topology.prim import minimum_tree
from toposampler.topology.tiles import minimum_tree_by_tiles

SIZES = [(n, d) for d in (2, 64, 784) for n in (64, 256, 1024, 4096)]
Loss = Callable[[Tensor, Tensor], Tensor]


def torch_topological_loss() -> Loss:
    """SignatureLoss of torch_topological on raw distances: the sum of two norms, each halved and not squared."""
    nn = importlib.import_module("torch_topological.nn")
    complex_, loss = nn.VietorisRipsComplex(dim=0), nn.SignatureLoss(p=2, normalize=False)
    return lambda x, z: loss((x, complex_(x)), (z, complex_(z)))


def topoae_loss(path: Path) -> Loss:
    """The authors' own classes; the rest of their package, which they do not use, is left out of the import."""
    sys.path.insert(0, str(path))
    for name in ("src.models", "src.models.submodules", "src.models.base"):
        sys.modules[name] = ModuleType(name)
    sys.modules["src.models"].__path__ = [str(path / "src" / "models")]
    vars(sys.modules["src.models"])["submodules"] = sys.modules["src.models.submodules"]
    vars(sys.modules["src.models.base"])["AutoencoderModel"] = torch.nn.Module
    module = importlib.import_module("src.models.approx_based")
    distance = module.TopologicallyRegularizedAutoencoder._compute_distance_matrix
    error = module.TopologicalSignatureDistance(match_edges="symmetric")
    return lambda x, z: error(distance(x), distance(z))[0] / len(x)


def matrix_loss(tree: Callable[[np.ndarray], np.ndarray]) -> Loss:
    """The loss by full distance matrices, with a function that chooses edges (n-1, 2) from one."""

    def loss(x: Tensor, z: Tensor) -> Tensor:
        a, b = torch.cdist(x, x), torch.cdist(z, z)
        edges = np.concatenate([tree(a.detach().numpy()), tree(b.detach().numpy())])
        i, j = torch.from_numpy(edges).long().unbind(1)
        return (a[i, j] - b[i, j]).square().sum() / len(x)

    return loss


def gudhi_tree(distances: np.ndarray) -> np.ndarray:
    complex_ = gudhi.SimplexTree.create_from_array(distances)
    complex_.compute_persistence(persistence_dim_max=True)
    return complex_.flag_persistence_generators()[0][:, 1:]


def scipy_tree(distances: np.ndarray) -> np.ndarray:
    csgraph = importlib.import_module("scipy.sparse.csgraph")
    return np.stack(csgraph.minimum_spanning_tree(np.triu(distances, 1)).nonzero(), 1)


def floor(n: int, x: Tensor, z: Tensor) -> Callable[[], None]:
    out = torch.empty(n, n)

    def run() -> None:
        for points in (x, z):
            torch.mm(points, points.T, out=out)
            out.sum()

    return run


def peers(topoae: Path | None) -> dict[str, tuple[Loss, int]]:
    """Name to loss and the largest n it is run at."""
    found: dict[str, tuple[Loss, int]] = {}
    try:
        found["torch_topological"] = torch_topological_loss(), 4096
    except ImportError as error:
        print(f"torch_topological is left out: {error}")
    if topoae is None:
        print("the authors' code is left out: no --topoae")
    else:
        found["topoae"] = topoae_loss(topoae), 256
    found["gudhi"] = matrix_loss(gudhi_tree), 256
    try:
        importlib.import_module("scipy")
        found["scipy"] = matrix_loss(scipy_tree), 1024
    except ImportError:
        print("scipy is left out: not installed")
    return found


def cpu_milliseconds(run: Callable[[], None], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats * 1e3


def compare(n: int, d: int, losses: dict[str, Loss], rounds: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds of floor, ours and peers, and how many times as long as ours each takes."""
    torch.manual_seed(n + d)
    x, z = torch.randn(n, d, requires_grad=True), torch.randn(n, min(d, 64))

    def step(loss: Loss) -> Callable[[], None]:
        def run() -> None:
            x.grad = None
            loss(x, z).backward()

        return run

    runs = {"ours": step(paired_signature_loss), "floor": floor(n, x.detach(), z)}
    runs |= {name: step(loss) for name, loss in losses.items()}
    warm = {name: min(cpu_milliseconds(run, 1) for _ in range(2)) for name, run in runs.items()}
    repeats = {name: max(1, int(10 / ms)) for name, ms in warm.items()}
    times: list[dict[str, float]] = []
    for number in range(rounds):
        turn = {name: run for name, run in runs.items() if number < 3 or warm[name] < 1000}
        times.append({name: cpu_milliseconds(run, repeats[name]) for name, run in turn.items()})
    rows = {}
    for name in runs:
        of = [t for t in times if name in t]
        rows[name] = {
            "ms": statistics.median(t[name] for t in of),
            "ratio": statistics.median(t[name] / t["ours"] for t in of),
            "rounds": len(of),
        }
    return rows


def memory_mib(field: str) -> float:
    """`VmRSS`, the memory in use, or `VmHWM`, its peak (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024


def large(n: int, d: int) -> dict[str, float]:
    """One tree of many points: CPU seconds, MiB above what the process held before, and a check on a subset."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(n, d)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = memory_mib("VmRSS")
    spanning_tree(x)
    peak = memory_mib("VmHWM")
    start = time.process_time()
    spanning_tree(x)  # the first one read compiled code from disk
    seconds = time.process_time() - start
    subset = (x[:8192] / x.abs().max()).numpy()
    tiled, dense = (np.sort(build(subset)[1]) for build in (minimum_tree_by_tiles, minimum_tree))
    return {
        "n": n,
        "d": d,
        "seconds": seconds,
        "peak_mib": peak - before,
        "peak_mib_of_process": peak,
        "largest_relative_difference_on_8192": float(np.abs(tiled / dense - 1).max()),
    }


def blob(kind: str, n: int, d: int, generator: np.random.Generator) -> np.ndarray:
    if kind == "uniform":
        return generator.uniform(-1, 1, (n, d))
    x = generator.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True) if kind == "sphere" else x


def components(seeds: int) -> list[dict[str, float | str]]:
    """How often `estimate_components` finds the number: of blobs, and of k blobs with .5 % of uniform outliers.

    Centers are 4 radii apart or more (normal in d dimensions: radius sqrt(d) + 2).
    """
    rows: list[dict[str, float | str]] = []
    generator = np.random.default_rng(0)
    for kind in ("normal", "uniform", "sphere"):
        for k in (1, 2, 10) if kind != "uniform" else (1,):
            for d in (2, 10, 101):
                for n in (200, 2000):
                    radius, right = np.sqrt(d) + 2 if kind == "normal" else 1, 0
                    for _ in range(seeds):
                        x = blob(kind, n, d, generator)
                        if k > 1:
                            line = np.arange(k)[:, None] * 4 * radius * np.eye(d)[0]
                            x = x + line[np.arange(n) % k]
                            x[: n // 200] = generator.uniform(x.min(), x.max(), (n // 200, d))
                        right += estimate_components(torch.from_numpy(x)).count == k
                    rows.append({"kind": kind, "components": k, "d": d, "n": n, "right": right / seeds})
    return rows


PEERS = {
    "torch_topological": "torch_topological",
    "topoae": "topological autoencoders' code",
    "gudhi": "gudhi",
    "scipy": "scipy",
}
"""what a peer is called in the table"""
Results = Mapping[str, Any]


def loss_table(results: Results) -> list[str]:
    """What the loss costs, and how many times as long peers take, as a Markdown table."""
    rows = []
    for found in results["loss"]:
        times = found["rows"]
        ratios = (f"{times[name]['ratio']:.3g}" if name in times else "-" for name in PEERS)
        own = [f"{times['ours']['ms']:.3g}", f"{1 / times['floor']['ratio']:.1f}"]
        rows.append([f"{found['n']:,} x {found['d']}", *own, *ratios])
    head = ["points x dimensions", "milliseconds", "ours / floor", *(f"{name} / ours" for name in PEERS.values())]
    return markdown(head, rows)


def large_table(results: Results) -> list[str]:
    """One tree of many points, as a Markdown table."""
    rows = [
        [
            f"{row['n']:,} x {row['d']}",
            f"{row['seconds']:.1f}",
            f"{row['peak_mib']:.0f}",
            f"{row['peak_mib_of_process']:.0f}",
            f"{row['largest_relative_difference_on_8192']:.1e}",
        ]
        for row in results["large"]
    ]
    head = ["points x dimensions", "seconds", "MiB", "MiB of the process", "largest relative difference, 8,192 points"]
    return markdown(head, rows)


def components_table(results: Results) -> list[str]:
    """How often `estimate_components` is right, at the size where it is least often, as a Markdown table."""
    least: dict[tuple[str, int], dict[str, Any]] = {}
    for row in results["components"]:
        key = row["kind"], row["components"]
        least[key] = min(least.get(key, row), row, key=lambda found: found["right"])
    rows = [[kind, str(k), f"{row['right']:.0%}", f"{row['n']:,} x {row['d']}"] for (kind, k), row in least.items()]
    return markdown(["blobs", "number", "found, least over sizes", "at points x dimensions"], rows)


def hardware() -> str:
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    name = models[0].split(":")[1].strip() if models else platform.processor() or platform.machine()
    return f"{name}, 1 thread, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--topoae", type=Path)
    parser.add_argument("--large", type=int, nargs=2, metavar=("N", "D"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/topology.json"))
    options = parser.parse_args()
    if options.large:
        print(json.dumps(large(*options.large)))
        return
    torch.set_num_threads(1)
    found = peers(options.topoae)
    print(f"\n{hardware()}\n")
    losses = []
    for n, d in SIZES:
        rows = compare(n, d, {name: loss for name, (loss, most) in found.items() if n <= most}, options.rounds)
        losses.append({"n": n, "d": d, "rows": rows})
        print(f"{n} x {d}: {rows['ours']['ms']:.3g} ms", flush=True)
    many = []
    for d in (2, 64):
        command = [sys.executable, __file__, "--large", "65536", str(d)]
        many.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    results = {"hardware": hardware(), "loss": losses, "large": many, "components": components(seeds=100)}
    for table in (loss_table, large_table, components_table):
        print("", *table(results), sep="\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
