"""What reading images as training needs them costs: against training from memory, and in memory over an epoch.

    python benchmarks/loader.py [--rounds 30] [--images 100000] [--out benchmarks/results/loader.json] [--folder FOLDER]

1. 4,096 JPEG files of 32 x 32 in a folder, in tar shards and in Parquet. One process trains DMGAN-PL with two
   generators of the default networks, from memory and from each form and cache, in turns, an iteration each. A ratio is
   the median over the rounds of memory's seconds over the other's, 1 if reading is free; of the clock, and of the CPU
   seconds of all threads of the process.
2. An epoch of as many JPEG files as `--images` says, in batches of 256, without training: images a second, and the
   memory that is the process's own (RssAnon of Linux) after each tenth of the epoch.

The files are made here, in FOLDER, and removed.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from runs import write_results
from toposampler.config import validate
from toposampler.data import Dataset
from toposampler.data.folder import FolderConfig
from toposampler.data.sampler import Sampler
from toposampler.data.shards import ShardsConfig
from toposampler.training import RunConfig
from toposampler.training.feed import Feed
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement

SIDE, TRAINED_ON, BATCH = 32, 4096, 256
FORMS = [("folder", "host"), ("folder", "disk"), ("folder", "none"), ("tar", "none"), ("parquet", "none")]


def jpegs(n: int) -> list[bytes]:
    """`n` JPEG files of smooth colors, some 700 bytes each."""
    rng, files = np.random.default_rng(0), []
    for small in rng.integers(0, 256, (n, 5, 5, 3), dtype=np.uint8):
        file = io.BytesIO()
        Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def write(root: Path, form: str, files: list[bytes]) -> Path:
    """`files` below `root` in one of the forms."""
    place = root / form
    place.mkdir()
    if form == "folder":
        for i, content in enumerate(files):
            (place / f"{i // 1000:04}").mkdir(exist_ok=True)
            (place / f"{i // 1000:04}" / f"{i:06}.jpg").write_bytes(content)
    elif form == "tar":
        for start in range(0, len(files), 1024):
            with tarfile.open(place / f"{start:06}.tar", "w") as archive:
                for i, content in enumerate(files[start : start + 1024], start):
                    member = tarfile.TarInfo(f"{i:06}.jpg")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"image": files}), place / "x.parquet", row_group_size=256)
    return place


def loaded(place: Path, form: str, cache: str, store: Path) -> Dataset:
    """The data set at `place`."""
    page = FolderConfig if form == "folder" else ShardsConfig
    return page(path=place, size=SIDE, cache=cache, store=store, subset=100).load()


def loop_of(dataset: Dataset, folder: Path) -> Loop:
    """DMGAN-PL with two generators on images."""
    content: dict[str, Any] = {"name": "loader", "output": str(folder), "data": {"name": "folder", "path": str(folder)}}
    content["system"] = {"name": "dmgan_pl", "n_generators": 2, "latent": {"kind": "uniform", "dim": 64}}
    config = validate(RunConfig, content)
    torch.manual_seed(0)
    return Loop(config.system.build(dataset.shape), dataset, config.training, 0, torch.device("cpu"), Placement())


def compared(folder: Path, rounds: int) -> dict[str, Any]:
    """Iterations from memory and from each form, in turns."""
    files = jpegs(TRAINED_ON)
    places = {form: write(folder, form, files) for form in ("folder", "tar", "parquet")}
    loops = {"memory": loop_of(loaded(places["folder"], "folder", "device", folder), folder)}
    for form, cache in FORMS:
        loops[f"{form} {cache}"] = loop_of(loaded(places[form], form, cache, folder / "store"), folder)
    wall: dict[str, list[float]] = {name: [] for name in loops}
    cpu: dict[str, list[float]] = {name: [] for name in loops}
    for k in range(rounds + 2):
        for name, loop in loops.items():
            start, used = time.perf_counter(), time.process_time()
            loop.iteration()
            if isinstance(loop.data, Feed) and loop.data._expected is not None:
                loop.data._expected.pending.wait()  # so that no form's threads work in the next one's turn
            if k >= 2:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
    first = loops.pop("memory")
    weights = torch.cat([player.values for player in first.players.values()])
    for name, loop in loops.items():
        assert len(loop.data) == TRAINED_ON
        if name.startswith("folder"):  # the order of the files is that of the tensor in memory
            assert torch.equal(weights, torch.cat([player.values for player in loop.players.values()]))
    return {
        "memory": {"seconds": statistics.median(wall["memory"]), "cpu_seconds": statistics.median(cpu["memory"])},
        **{
            name: {
                "ratio": statistics.median(m / s for m, s in zip(wall["memory"], wall[name], strict=True)),
                "cpu_ratio": statistics.median(m / s for m, s in zip(cpu["memory"], cpu[name], strict=True)),
            }
            for name in loops
        },
    }


def anonymous() -> float:
    """Megabytes that are this process's own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def epoch(folder: Path, n: int) -> dict[str, Any]:
    """One epoch over `n` files."""
    place = folder / "many"
    place.mkdir()
    distinct = jpegs(1000)
    files = [distinct[i % 1000] for i in range(n)]
    started = time.perf_counter()
    dataset = loaded(write(place, "folder", files), "folder", "none", folder / "store")
    indexed = time.perf_counter() - started
    del files
    assert dataset.rows is not None
    feed, sampler = Feed(dataset.rows, torch.device("cpu"), torch.float32), Sampler(n, 0)
    order, memory, started = sampler.next(n).split(BATCH), [], time.perf_counter()
    for k, indices in enumerate(order):
        feed[indices]
        if k + 1 < len(order):
            feed.expect(order[k + 1])
        if (k + 1) % max(1, len(order) // 10) == 0:
            memory.append(round(anonymous(), 1))
    seconds = time.perf_counter() - started
    return {"images": n, "images_per_second": n / seconds, "write_and_index_s": indexed, "anonymous_mb": memory}


def main() -> None:
    """Run both parts and write what they found."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--rounds", type=int, default=30)
    line.add_argument("--images", type=int, default=100_000)
    line.add_argument("--out", type=Path, default=Path("benchmarks/results/loader.json"))
    line.add_argument("--folder", type=Path)
    options = line.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        results = {"training": compared(folder, options.rounds), "epoch": epoch(folder, options.images)}
    finally:
        shutil.rmtree(folder)
    write_results(options.out, results)
    for name, figures in results["training"].items():
        print(name, {key: round(value, 3) for key, value in figures.items()}, file=sys.stderr)
    print(results["epoch"], file=sys.stderr)


if __name__ == "__main__":
    main()
