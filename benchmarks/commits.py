"""Is the loop as fast as at another commit? CPU time of an iteration and peak memory of two checkouts, as ratios.

    git worktree add /tmp/before COMMIT
    python benchmarks/commits.py /tmp/before [--rounds 15] [--only TEXT] [--out benchmarks/results/commits.json]

Both checkouts run side by side in a process each, on one thread, and take turns: a round is some iterations of one and
then of the other, in an order that changes from round to round. A figure is the median over the rounds of CPU
milliseconds an iteration; the ratio is the median of the ratios within a round, old by new, so that above 1 is faster.
Memory is the peak of the process after all rounds of a case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any], int, int]] = {
    "lines, DMGAN-PL K = 10": ("dmgan_pl", (2,), {"n_generators": 10}, 64, 60),
    "lines, WGAN-GP": ("wgan_gp", (2,), {}, 64, 60),
    "lines, Topo-DMGAN K = 10": ("topo_dmgan", (2,), {"n_generators": 10}, 64, 25),
    "digits 8x8, DMGAN-PL K = 10": ("dmgan_pl", (1, 8, 8), {"n_generators": 10}, 64, 12),
    "digits 8x8, SN-GAN": ("sn_gan", (1, 8, 8), {}, 64, 12),
    "MNIST 28x28, DMGAN-PL K = 20": ("dmgan_pl", (1, 28, 28), {"n_generators": 20}, 32, 3),
}
"""system, shape of a sample, its keys, batch size, and iterations in a round"""


def work() -> None:
    """What a child process does: run the iterations that a line of its standard input asks for."""
    import torch

    from toposampler.config import TrainingConfig, validate
    from toposampler.data import Dataset
    from toposampler.systems import SYSTEMS
    from toposampler.training.loop import Loop
    from toposampler.training.placement import Placement

    torch.set_num_threads(1)
    pages = {page.model_fields["name"].default: page for page in SYSTEMS}
    for line in sys.stdin:
        name, shape, keys, batch_size, repeats, rounds = json.loads(line)
        torch.manual_seed(0)
        system = validate(pages[name], {"name": name, **keys}).build(tuple(shape))
        training = TrainingConfig(batch_size=batch_size, generator_steps=10**6)
        loop = Loop(system, Dataset(torch.rand(5000, *shape) * 2 - 1), training, 0, torch.device("cpu"), Placement())
        for _ in range(rounds + 1):  # the first is a warm-up
            start = time.process_time()
            for _ in range(repeats):
                loop.iteration()
                loop._history.clear()
            print(json.dumps((time.process_time() - start) / repeats * 1e3), flush=True)
            sys.stdin.readline()
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), flush=True)


class Checkout:
    """A process that runs the code of the folder `root`; a fresh one for each case, whose peak memory is its own."""

    def __init__(self, root: Path, case: list[Any]) -> None:
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(json.dumps(case))

    def _say(self, line: str) -> None:
        stdin: IO[str] = self._process.stdin  # type: ignore[assignment]
        stdin.write(f"{line}\n")
        stdin.flush()

    def answer(self) -> float:
        """The number that it prints next."""
        stdout: IO[str] = self._process.stdout  # type: ignore[assignment]
        return float(json.loads(stdout.readline()))

    def go_on(self) -> None:
        """Have it do its next round."""
        self._say("")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(before: Path, name: str, rounds: int) -> dict[str, float]:
    """Medians of the case `name` in both checkouts, and their ratios."""
    system, shape, keys, batch_size, repeats = CASES[name]
    case = [system, shape, keys, batch_size, repeats, rounds]
    times: dict[str, list[float]] = {"old": [], "new": []}
    roots = {"old": before, "new": ROOT}
    # One after the other in a round, so that neither sees the other's load: a child waits until it is told to go on.
    children = {}
    for side, root in roots.items():
        children[side] = Checkout(root, case)
        children[side].answer()  # the warm-up
    for i in range(rounds):
        for side in sorted(children, reverse=bool(i % 2)):
            children[side].go_on()
            times[side].append(children[side].answer())
    memory = {}
    for side, child in children.items():
        child.go_on()
        memory[side] = child.answer()
        child.close()
    ratios = [old / new for old, new in zip(times["old"], times["new"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {
        "old_ms": statistics.median(times["old"]),
        "new_ms": statistics.median(times["new"]),
        "speed": median,
        "speed_low": low,
        "speed_high": high,
        "memory": memory["new"] / memory["old"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="cases whose names hold this text [all]")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "commits.json")
    options = parser.parse_args()
    rows = {}
    print(f"{'':30}{'old ms':>9}{'new ms':>9}{'speed':>8}{'quartiles':>14}{'memory':>9}")
    for name in (name for name in CASES if options.only in name):
        row = rows[name] = compare(options.before, name, options.rounds)
        spread = f"{row['speed_low']:.2f} - {row['speed_high']:.2f}"
        print(
            f"{name:30}{row['old_ms']:9.2f}{row['new_ms']:9.2f}{row['speed']:8.3f}{spread:>14}{row['memory']:9.3f}",
            flush=True,
        )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=options.before, capture_output=True, text=True, check=True
    )
    about = {"hardware": f"{platform.machine()}, 1 thread", "before": commit.stdout.strip(), "rounds": options.rounds}
    options.out.write_text(json.dumps({**about, "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    work() if sys.argv[1:] == ["--work"] else main()
