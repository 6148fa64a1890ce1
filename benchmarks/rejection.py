"""Precision against recall on four segments: rejection around WGAN-GP, and DMGAN-PL with truncations.

    python benchmarks/rejection.py [--seeds 3] [--steps 13333] [--processes 1]

Both systems are trained on segments of equal mass, as in `benchmarks/lines.py`. Around each: truncation by the Jacobian
and by density, at several shares kept. Around WGAN-GP: latentRS at several caps, with and without gradient ascent,
and the critic as a control. Each is evaluated by 20,000 accepted samples against the exact support: precision is the share
within TAU of it, recall the covered share of its bins, 200 a segment, beside the largest error of a segment's mass,
the acceptance rate and the cost. The end says which points of WGAN-GP's samplers no point of DMGAN-PL dominates, with
either truncation.

Runs are kept in `runs/benchmark-rejection`: the benchmark resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from runs import side_by_side, trained, write_results
from toposampler.data.geometry import Segments
from toposampler.evaluation.figures import interval
from toposampler.evaluation.results import Estimate
from toposampler.metrics.manifold import coverage, off_manifold
from toposampler.plots import precision_recall
from toposampler.plots.comparison import Operation
from toposampler.rejection import TRUNCATIONS, Rejection
from toposampler.rejection.critic import CriticRejection
from toposampler.rejection.latent_rs import LatentRS
from toposampler.rejection.training import train_weights
from toposampler.training import Model, load_config, load_model
from toposampler.training.config import run_folder

CONFIGS = Path(__file__).parent.parent / "configs"
SYSTEMS = ("wgan_gp", "dmgan_pl")
KEEPS = {
    "jacobian": (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5),
    "density": (1.0, 0.999, 0.998, 0.995, 0.99, 0.98, 0.95),  # what is rare goes first, and soon all of it is gone
}
CAPS = (0.25, 0.5, 1.0, 1.5, 3.0)
SAMPLES, TAU, BINS = 20_000, 0.02, 200
MEASURED = ("precision", "recall", "mass_error", "acceptance", "generator_passes", "cpu_us")


def run(task: tuple[str, int, int]) -> list[dict[str, Any]]:
    """Train one model, or find it, and evaluate every sampler around it."""
    system, seed, steps = task
    overrides = ["--output", "runs/benchmark-rejection", "--name", f"{system}-{seed}", "--seed", str(seed)]
    overrides += ["--data.weights", "null"]
    overrides += ["--training.generator_steps", str(steps), "--training.evaluate_every", str(steps)]
    config = load_config(CONFIGS / f"lines_{system}.yaml", overrides)
    trained(config)
    support = config.data.load().manifold
    assert isinstance(support, Segments)
    rows = []
    for sampler, knob, rejection in samplers(load_model(run_folder(config)), run_folder(config) / "latent_rs.pt"):
        rejection.draw(100)  # calibrates, which is done once however many samples follow
        begun = time.process_time()
        drawn = rejection.draw(SAMPLES, seed)
        row = {"system": system, "seed": seed, "sampler": sampler, "knob": knob} | evaluated(drawn.samples, support)
        row |= {
            "acceptance": drawn.cost.acceptance_rate,
            "generator_passes": drawn.cost.forward_passes / SAMPLES,
            "cpu_us": 1e6 * (time.process_time() - begun) / SAMPLES,
        }
        print(", ".join(f"{x:.4f}" if isinstance(x, float) else str(x) for x in row.values()), flush=True)
        rows.append(row)
    return rows


def samplers(model: Model, weights_file: Path) -> Iterator[tuple[str, str, Rejection]]:
    """What is compared around a model: a name, the value of its knob, and the sampler."""
    for name, truncation in TRUNCATIONS.items():
        for keep in KEEPS[name]:
            yield name, f"keep {keep:g}", truncation(model, keep)
    if model.config.system.name == "wgan_gp":
        weights = train_weights(model, weights_file)
        for name, cap in itertools.product(("latent_rs", "latent_rs_ga"), CAPS):
            yield name, f"cap {cap:g}", LatentRS(model, weights, name == "latent_rs_ga", cap)
        yield "critic", "", CriticRejection(model)


def evaluated(samples: Tensor, support: Segments) -> dict[str, float]:
    """Precision, recall and the largest error of a segment's mass, of samples (n, 2) against the exact support."""
    support = replace(support, n_bins=BINS)
    distance = support.distance(samples)
    reached = coverage(distance, support.bins(samples), TAU, BINS)
    masses = torch.bincount(distance.argmin(dim=1), minlength=len(reached)) / len(samples)
    return {
        "precision": 1 - off_manifold(distance, TAU),
        "recall": float(reached.mean()),
        "mass_error": float((masses - 1 / len(reached)).abs().max()),
    }


def undominated(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of WGAN-GP's samplers that no row of DMGAN-PL with the same seed equals in precision and recall."""

    def dominated(row: dict[str, Any]) -> bool:
        others = [r for r in rows if r["system"] == "dmgan_pl" and r["seed"] == row["seed"]]
        return any(r["precision"] >= row["precision"] and r["recall"] >= row["recall"] for r in others)

    return [row for row in rows if row["system"] == "wgan_gp" and not dominated(row)]


def cell(values: Sequence[float], digits: int) -> str:
    """Mean (least to largest) over the seeds."""
    return f"{fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def by_sampler(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, list[float]]]:
    """What was measured over the seeds, for each model, sampler and value of its knob."""
    groups: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        group = groups.setdefault((row["system"], row["sampler"], row["knob"]), {name: [] for name in MEASURED})
        for name in MEASURED:
            group[name].append(row[name])
    return groups


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, list[Operation]]:
    """Precision and recall over the seeds, and mean acceptance rate, at each value of a knob."""
    found: dict[str, list[Operation]] = {}
    for (system, sampler, _), values in by_sampler(rows).items():
        precision, recall = (interval(Estimate(values[name])) for name in ("precision", "recall"))
        found.setdefault(f"{system}, {sampler}", []).append(Operation(precision, recall, fmean(values["acceptance"])))
    return found


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table, and the points of WGAN-GP that are not dominated, in the mean and seed by seed."""
    print("\n| model, sampler | precision | recall | error of mass | accepted | generator passes | CPU us a sample |")
    print("|---|---|---|---|---|---|---|")
    for (system, sampler, knob), values in by_sampler(rows).items():
        cells = [f"{system}, {sampler} {knob}".strip()]
        cells += [cell(values[name], 4) for name in ("precision", "recall", "mass_error")]
        cells += [f"{fmean(values['acceptance']):.1%}", f"{fmean(values['generator_passes']):.1f}"]
        print("| " + " | ".join([*cells, f"{fmean(values['cpu_us']):.0f}"]) + " |")
    means = [
        {"seed": "mean", "system": system, "sampler": sampler, "knob": knob} | {k: fmean(v) for k, v in values.items()}
        for (system, sampler, knob), values in by_sampler(rows).items()
    ]
    for what, points in (("mean points", means), ("points of single seeds", rows)):
        left = undominated(points)
        print(
            f"\n{len(left)} of {sum(row['system'] == 'wgan_gp' for row in points)} {what} of WGAN-GP are not dominated:"
        )
        for row in left:
            print(f"seed {row['seed']}, {row['sampler']} {row['knob']}: {row['precision']:.5f}, {row['recall']:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=13_333)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rejection.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/rejection.png"))
    options = parser.parse_args()
    tasks = [(system, seed, options.steps) for seed, system in itertools.product(range(options.seeds), SYSTEMS)]
    rows = [row for part in side_by_side(run, tasks, options.processes) for row in part]
    write_results(options.out, {"steps": options.steps, "seeds": options.seeds, "tau": TAU, "bins": BINS, "rows": rows})

    report(rows)
    title = f"Rejection on lines, {options.steps:,} generator steps, mean of {options.seeds} seeds"
    precision_recall(curves(rows), title).savefig(options.figure)


if __name__ == "__main__":
    main()
