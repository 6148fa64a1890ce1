"""What sampling at scale costs: a million images of 28x28 by 1 and 2 workers, and the writer against bare generators.

    python benchmarks/sampling.py [--n 1000000] [--out benchmarks/results/sampling.json] [--folder FOLDER]

1. `ray_jobs/sample.py` writes the same samples as .npy with 1 worker and with 2, each on one thread: the SHA-256 of the
   file, samples a second (with the start of Ray, without that of Python), and the peak memory of the largest worker.
2. One part (10,000 samples) is drawn and written, then the generators alone run on noise that lies ready, in blocks of
   the same size, in turns: the ratio is the generators' time over the writer's, the median of the rounds, in CPU
   seconds (of this thread and the system's on its behalf) and in seconds of the clock.

The networks are the 20 generators of configs/mnist_dmgan_pl.yaml after two steps on random images: weights do not
matter here. The samples of 1 take 3.1 GB in FOLDER, one file at a time, which is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from runs import trained, write_results
from toposampler.config import validate
from toposampler.sampling.writing import PART, SamplingJob, Writer
from toposampler.training import RunConfig
from toposampler.training.config import run_folder
from toposampler.training.sampling import BLOCK

ROOT = Path(__file__).parents[1]
ROUNDS = {"samples.npy": 15, "samples.parquet": 5, "samples": 5}


def model(folder: Path) -> Path:
    """The run folder of a model with 20 generators, trained for two steps."""
    images = folder / "images.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8))
    content = yaml.safe_load((ROOT / "configs" / "mnist_dmgan_pl.yaml").read_text())
    content |= {"output": str(folder), "data": {"name": "npy", "path": str(images)}}
    content["training"] |= {"generator_steps": 2, "evaluation_samples": 100}
    config = validate(RunConfig, content)
    trained(config)
    return run_folder(config)


def command(place: Path, n: int, workers: int, folder: Path) -> dict[str, Any]:
    """What the command says and takes, and the hash of what it writes."""
    out = folder / "samples.npy"
    arguments = [str(place), "-n", str(n), "--out", str(out), "--seed", "1", "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "ray_jobs" / "sample.py"), *arguments], stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max([peak, *map(peak_memory, [process.pid] if workers == 1 else workers_of_ray())])
        time.sleep(0.2)
    assert process.returncode == 0, process.returncode
    assert process.stdout is not None
    speed = next(line for line in process.stdout if line.startswith("speed")).split()
    with out.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    out.unlink()
    return {
        "workers": workers,
        "sha256": digest,
        "samples_per_second": int(speed[1].replace(",", "")),
        "peak_MiB_of_a_worker": round(peak / 1024),
    }


def workers_of_ray() -> list[int]:
    """The process ids of Ray's sampling workers on this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                found.append(int(place.name))
        except OSError:  # it has just ended
            continue
    return found


def peak_memory(pid: int) -> int:
    """The most that a process has had resident so far, in KiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def ratios(place: Path, out: Path, rounds: int) -> dict[str, float]:
    """The writer against the bare generators, in turns; see above."""
    writer = Writer(SamplingJob(place, out, rounds * PART * BLOCK, seed=1))
    writer.output.draft.mkdir()
    writer.output.begin()
    system = writer.model.system
    noise = {name: x[0] for name, x in system.draw(1, BLOCK, torch.Generator().manual_seed(0)).items()}

    def bare() -> None:
        with torch.no_grad():
            for _ in range(PART):
                system.generate(noise)

    bare()
    times = [(seconds(bare), seconds(partial(writer.write, part))) for part in writer.job.parts]
    cpu, clock = (statistics.median(b[i] / w[i] for b, w in times) for i in range(2))
    of_generators, of_writer = (PART * BLOCK / statistics.median(t[i][0] for t in times) for i in range(2))
    return {
        "rounds": rounds,
        "ratio_cpu": round(cpu, 3),
        "ratio_clock": round(clock, 3),
        "generators_per_cpu_second": round(of_generators),
        "written_per_cpu_second": round(of_writer),
    }


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """The seconds that `run` takes, of CPU and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sampling.json"))
    parser.add_argument("--folder", type=Path, help="for the model and samples [a temporary one]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        place, rows, runs = model(folder), {}, []
        for out, rounds in ROUNDS.items():
            rows[out] = ratios(place, folder / out, rounds)
            print(f"{out:16}{rows[out]}", flush=True)
        for workers in (1, 2):
            runs.append(command(place, options.n, workers, folder))
            print(f"{options.n:,} samples: {runs[-1]}", flush=True)
    same = runs[0]["sha256"] == runs[1]["sha256"]
    print("the same samples with 1 and 2 workers" if same else "1 and 2 workers DIFFER")
    write_results(options.out, {"n": options.n, "same_samples": same, "command": runs, "against_generators": rows})


if __name__ == "__main__":
    main()
