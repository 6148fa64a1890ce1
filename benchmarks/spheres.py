"""TopoSampler's experiments (Dey and Das 2020), and what it takes to get past them; figures and one table.

    python benchmarks/spheres.py [--seeds 5] [--processes 2] [--out benchmarks/results/spheres.json]

(a) The noise module alone, trained by the signature loss on two spheres: a network stretches, a gate tears.
(b) The table: every system on two 2-spheres and on two 100-spheres, their centers 4 radii apart, 10,000 samples each.
    A row is the mean over the seeds, with the worst seed in brackets. `configs/spheres_*.yaml` and
    `configs/spheres100_*.yaml` are the runs.
(c) A generator of Lipschitz constant L between N(0, I) and two 2-spheres a gap D apart: the share of samples off both,
    beside the least that Gaussian isoperimetry allows where both get the same mass, 2 Phi((D - 2 tau) / 2L) - 1 at a
    tolerance tau.
(d) z -> G(z): how far from a homeomorphism, with the barcodes of noise, latents, samples and data side by side. Where a
    branch is drawn beside z, the map is that of the latents, N(z) -> G(N(z)).

Runs are kept in `runs/benchmark-spheres`: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import spheres_figures as figures
import torch
from torch import Tensor

from runs import side_by_side, trained, write_results
from toposampler import plots
from toposampler.data.spheres import SpheresConfig
from toposampler.metrics.homeomorphism import bi_lipschitz, continuity, trustworthiness
from toposampler.metrics.manifold import coverage, off_manifold
from toposampler.metrics.masses import component_masses
from toposampler.plots.barcodes import evenly
from toposampler.priors.noise import NoiseConfig
from toposampler.records import read_records
from toposampler.topology import estimate_components, signature_loss
from toposampler.training import RunConfig, load_config, load_model
from toposampler.training.config import run_folder

CONFIGS = Path(__file__).parent.parent / "configs"
OUTPUT = "runs/benchmark-spheres"
TAU = 0.1
"""off-manifold tolerance, in radii"""

DATA = {"spheres": "two 2-spheres", "spheres100": "two 100-spheres"}
SYSTEMS = {
    "wgan_gp": "WGAN-GP, one Gaussian",
    "wgan_gp_sphere": "WGAN-GP, one sphere of latents",
    "wgan_gp_mixture": "WGAN-GP, latents in two pieces",
    "toposampler_slides": "TopoSampler of the slides",
    "toposampler_cut": "TopoSampler, gate cut by a straight-through gradient",
    "toposampler": "TopoSampler, gate with learned odds",
    "topo_dmgan": "Topo-DMGAN, K = 10",
}
PICTURED = ("wgan_gp", "wgan_gp_mixture", "toposampler_slides", "toposampler")
MAPS = ("wgan_gp", "toposampler_slides", "toposampler_cut", "toposampler")
NOISES = ("network", "gate")
GAPS = (0.5, 1.0, 2.0, 4.0)
ISOMETRIC = ["--system.network.kind", "orthogonal", "--system.latent.dim", "3"]
"""of three latent dimensions, as the data has: more would make the last layer a projection"""
GENERATORS = {
    "spectral norm 1": ["--system.network.kind", "spectral", "--system.network.scale", "false"],
    "isometric": [*ISOMETRIC, "--system.network.scale", "false"],
    "isometric, times a learned L": [*ISOMETRIC, "--system.network.scale", "true"],
}


# (a) the noise module alone


def noise_alone(task: tuple[str, int]) -> dict[str, Any]:
    """A noise module of one kind trained by the signature loss alone, on two 2-spheres; its latents."""
    kind, seed = task
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    x, rng = SpheresConfig().load().x, torch.Generator().manual_seed(seed)
    module = NoiseConfig(kind=kind).build(3)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, betas=(0.0, 0.9))

    def draw(n: int) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 3, generator=rng), torch.randint(2, (n,), generator=rng)

    for _ in range(1000):
        real = x[torch.randint(len(x), (128,), generator=rng)]
        loss = signature_loss(module(*draw(128)), real)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        z, branches = draw(1000)
        latents = module(z, branches)
    found = estimate_components(latents)
    return {"kind": kind, "seed": seed, "components": found.count, "gap": found.separating, "z": z, "latents": latents}


# (b) every system on both data sets


def config_file(data: str, system: str) -> Path:
    """Where the runs of a row are configured."""
    return CONFIGS / f"{data}_{system}.yaml"


def run_config(data: str, system: str, seed: int) -> RunConfig:
    """The configuration of one run of the table."""
    name = f"{data}-{system}-{seed}"
    return load_config(config_file(data, system), ["--output", OUTPUT, "--name", name, "--seed", str(seed)])


def samples_of(config: RunConfig) -> tuple[Tensor, Tensor]:
    """10,000 samples (n, d) of a finished run, and their distance from each sphere, in radii: (n, 2)."""
    assert isinstance(config.data, SpheresConfig)
    manifold = config.data.load().manifold
    assert manifold is not None
    x, _ = load_model(run_folder(config)).sample(10_000, seed=config.seed)
    return x, manifold.distance(x) / config.data.radius


def run(task: tuple[str, str, int]) -> dict[str, Any]:
    """Train one run of the table, or read it; its row."""
    config = run_config(*task)
    result = trained(config)
    dataset = config.data.load()
    assert dataset.manifold is not None
    assert dataset.weights is not None
    x, distance = samples_of(config)
    row = {
        "data": task[0],
        "system": task[1],
        "seed": task[2],
        "off_manifold_0.1R": off_manifold(distance, TAU),
        "coverage_0.1R_min": float(coverage(distance, dataset.manifold.bins(x), TAU, dataset.manifold.n_bins).min()),
        "mass_error": float((component_masses(distance.argmin(dim=1), 2) - dataset.weights).abs().max()),
        "components_found": int(result["metrics"]["components_found"]),
        "active_generators": result["active_generators"],
        "energy_distance_root": result["metrics"]["energy_distance_root"],
        "seconds": result["seconds"],
    }
    print(f"{config.name}: off_manifold_0.1R {row['off_manifold_0.1R']:.4f}, {row['seconds']:.0f} s", flush=True)
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table, mean (worst seed)."""
    seeds = len({row["seed"] for row in rows})
    lines = [
        f"| {seeds} seeds, mean (worst) | off-manifold > .1 R | covered, least sphere | mass error | components found "
        "| energy distance (root) | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, system in itertools.product(DATA, SYSTEMS):
        chosen = [row for row in rows if (row["data"], row["system"]) == (data, system)]
        if not chosen:
            continue
        found = sorted(row["components_found"] for row in chosen)
        lines.append(
            f"| {DATA[data]}: {SYSTEMS[system]} | "
            + " | ".join(
                [
                    _mean_and_worst([row["off_manifold_0.1R"] for row in chosen], max),
                    _mean_and_worst([row["coverage_0.1R_min"] for row in chosen], min),
                    _mean_and_worst([row["mass_error"] for row in chosen], max),
                    " ".join(map(str, found)),
                    _mean_and_worst([row["energy_distance_root"] for row in chosen], max),
                    f"{fmean(row['seconds'] for row in chosen):.0f}",
                ]
            )
            + " |"
        )
    return "\n".join(lines)


def _mean_and_worst(values: Sequence[float], worst: Any) -> str:
    return f"{fmean(values):.4f} ({worst(values):.4f})"


# (c) the isoperimetric bound


def bounded(task: tuple[str, float, int]) -> dict[str, Any]:
    """A generator of known Lipschitz constant between N(0, I) and two 2-spheres a gap apart: how much it leaves off."""
    kind, gap, seed = task
    overrides = ["--output", OUTPUT, "--name", f"{kind.replace(' ', '-').replace(',', '')}-{gap:g}-{seed}"]
    overrides += ["--seed", str(seed), "--data.distance", str(gap + 2), *GENERATORS[kind]]
    overrides += ["--system.noise.kind", "none", "--system.topology_weight", "0", "--training.generator_steps", "3000"]
    config = load_config(CONFIGS / "spheres_toposampler_slides.yaml", overrides)
    trained(config)
    _, distance = samples_of(config)
    generator = load_model(run_folder(config)).system.get_submodule("generators.network")
    L = float(generator[-1].log_factor.exp()) if "learned" in kind else 1.0  # type: ignore[index]
    masses = component_masses(distance.argmin(dim=1), 2)
    least = torch.special.ndtr(torch.tensor((gap - 2 * TAU) / (2 * L))).item() * 2 - 1
    records = [r.metrics for r in read_records(run_folder(config) / "metrics.jsonl") if "critic/real" in r.metrics]
    return {
        "generator": kind,
        "gap": gap,
        "seed": seed,
        "lipschitz": L,
        "off_manifold_0.1R": off_manifold(distance, TAU),
        "least_possible": least,
        "mass_0": float(masses[0]),
        "critic_advantage": [-(r["critic/real"] + r["critic/fake"]) for r in records],
    }


# (d) how far from a homeomorphism


def homeomorphism(system: str) -> dict[str, Any]:
    """Diagnostics of z -> G(z) of the run of seed 0 on 2-spheres, over 1,000 samples, and the four clouds."""
    config = run_config("spheres", system, 0)
    model = load_model(run_folder(config)).system
    noise = {name: x[0] for name, x in model.draw(1, 1000, torch.Generator().manual_seed(0)).items()}
    with torch.no_grad():
        z, x = noise["z"], model.generate(noise)
        latents = model.noise(z, noise["c"]) if hasattr(model, "noise") else z  # type: ignore[operator]
    starts = {"z": z} if model.K == 1 else {}  # beside a branch that is drawn, z alone decides nothing
    if latents is not z:
        starts["N(z)"] = latents
    return {
        "system": system,
        "maps": {name: diagnostics(start, x) for name, start in starts.items()},
        "clouds": {"noise z": z, "latents N(z)": latents, "generated G(N(z))": x, "real": config.data.load().x},
    }


def diagnostics(start: Tensor, x: Tensor) -> dict[str, float]:
    """Whether the map from `start` (n, d) to x (n, D) keeps neighbors, and how it stretches."""
    smallest, median, largest = bi_lipschitz(start, x)
    return {
        "trustworthiness_k5": trustworthiness(start, x),
        "continuity_k5": continuity(start, x),
        "stretch_smallest": smallest,
        "stretch_median": median,
        "stretch_largest": largest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/spheres.json"))
    parser.add_argument("--figures", type=Path, default=Path("docs"), help="folder for the PNGs [docs]")
    options = parser.parse_args()
    seeds = range(options.seeds)
    options.figures.mkdir(parents=True, exist_ok=True)

    alone = side_by_side(noise_alone, itertools.product(NOISES, seeds), options.processes)
    show_noise(alone, options.figures)
    tasks = [task for task in itertools.product(DATA, SYSTEMS, seeds) if config_file(*task[:2]).exists()]
    rows = side_by_side(run, tasks, options.processes)
    show_table(rows, options.figures)
    bounds = side_by_side(bounded, itertools.product(GENERATORS, GAPS, seeds[:2]), options.processes)
    show_bounds(bounds, options.figures)
    maps = [homeomorphism(system) for system in MAPS]
    show_maps(maps, options.figures)
    results = {"noise_alone": alone, "table": rows, "isoperimetry": bounds, "homeomorphism": maps}
    write_results(options.out, {name: [_plain(row) for row in rows] for name, rows in results.items()})


def show_noise(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """(a): components found by seed, and the clouds of the first seed."""
    print("\n(a) the noise module alone: components found, by seed")
    for kind in NOISES:
        print(f"    {kind:8}", *(row["components"] for row in rows if row["kind"] == kind))
    clouds = {"noise z": rows[0]["z"]} | {row["kind"]: row["latents"] for row in rows if row["seed"] == 0}
    clouds |= {"two spheres": SpheresConfig().load().x}
    figure = plots.barcodes(evenly(clouds), "The noise module alone: a network stretches, a gate tears")
    figure.savefig(folder / "toposampler_noise.png")


def show_table(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """(b): the table, and the samples of the first seed on 2-spheres."""
    print("\n(b)\n" + table(rows))
    runs = {SYSTEMS[system]: samples_of(run_config("spheres", system, 0)) for system in PICTURED}
    figures.samples_off_the_manifold(runs, TAU).savefig(folder / "toposampler_samples.png")


def show_bounds(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """(c): off-manifold rates beside the least possible ones."""
    print("\n(c) generator, gap: off-manifold rate by seed (least possible)")
    for kind, gap in itertools.product(GENERATORS, GAPS):
        chosen = [row for row in rows if (row["generator"], row["gap"]) == (kind, gap)]
        off = " ".join(f"{row['off_manifold_0.1R']:.3f} ({row['least_possible']:.3f})" for row in chosen)
        learned = ", ".join(f"{row['lipschitz']:.2f}" for row in chosen)
        print(f"    {kind:28} {gap:g}: {off}; L {learned}")
    figures.isoperimetry(rows, TAU).savefig(folder / "toposampler_lipschitz.png")


def show_maps(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """(d): diagnostics of z -> G(z), and the four clouds of each system with their barcodes."""
    print(
        "\n(d) z -> G(z), seed 0, 1,000 samples: trustworthiness, continuity (k = 5); stretch least, median, greatest"
    )
    for row in rows:
        name = SYSTEMS[row["system"]]
        for start, found in row["maps"].items():
            print(f"    {name}, from {start}: " + "  ".join(f"{value:.3g}" for value in found.values()))
        figure = plots.barcodes(evenly(row["clouds"]), f"{name}, two 2-spheres")
        figure.savefig(folder / f"barcodes_{row['system']}.png")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its clouds."""
    return {key: value for key, value in row.items() if key not in {"clouds", "z", "latents"}}


if __name__ == "__main__":
    main()
