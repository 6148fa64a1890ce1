"""Is a lone run on a CPU as fast as at another commit? Lines, digits and MNIST, `commits.py`'s cases, three times.

    git worktree add --detach /tmp/before 58c4bb7
    python benchmarks/lone.py /tmp/before [--rounds 7] [--out benchmarks/results/lone.json]

Both checkouts take turns on one thread; a row's `speed` is the median of three repeats, old time by new, so that 1 or
more is what is asked for.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path

from commits import ROOT, compare

CASES = ("lines, DMGAN-PL K = 10", "digits 8x8, DMGAN-PL K = 10", "MNIST 28x28, DMGAN-PL K = 20")
REPEATS = 3


def main() -> None:
    """Measure, print and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "lone.json")
    options = parser.parse_args()
    rows = {}
    for name in CASES:
        repeats = [compare(options.before, name, options.rounds) for _ in range(REPEATS)]
        row = {key: statistics.median(repeat[key] for repeat in repeats) for key in repeats[0]}
        rows[name] = {**row, "speeds": [repeat["speed"] for repeat in repeats]}
        print(f"{name:32}{row['old_ms']:9.2f}{row['new_ms']:9.2f} ms, speed {row['speed']:.3f}", flush=True)
    about = {"hardware": f"{platform.processor() or platform.machine()}, 1 thread", "rounds": options.rounds}
    options.out.write_text(json.dumps({**about, "cases": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
