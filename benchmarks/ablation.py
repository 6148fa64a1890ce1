"""Which parts of component GAN matter: its start, its game, how it counts components, and how it weighs them.

    python benchmarks/ablation.py [--parts training,weights] [--data lines,moons] [--seeds 3] [--steps 500] [--out DIR]

Development data only, drawn with the seeds 1, 2, ... (the benchmark of all systems has seed 0): four lines with masses
.5, .3, .15, .05; nine Gaussians with masses 9 to 1; two half-moons with noise .05; digits. Of each a tenth
is held out, and tells whether samples are copies. One thread; `--out` keeps a row for each trial in ablation.json, and
a command that was stopped goes on there; the tables are printed, and written to ablation.md.

- training: samples of the last weights after 0 and after `--steps` generator steps, from these starts: `fitted` (the
  system's), `affine` (normal latents along the principal axes of each component), `none` (normal latents with the
  spread of all data, for each component alike), and of digits `gaussianized` (fitted as points are, without mixtures
  and the map of intensities).
- counting: components found by density and prominence, and by the longest edges of the bare tree, among outliers.
- weights: error of r(c) as the share of the data in component c, as E q(c|x) of a classifier q of generated samples, as
  the solution of C r = E q with q's confusion C on generated samples, and as the share of each component by its label.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from table_text import markdown
from torch import Tensor

from runs import write_results
from toposampler.config import TrainingConfig
from toposampler.data.base import Dataset
from toposampler.data.digits import DigitsConfig
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.lines import LinesConfig
from toposampler.metrics.divergence import total_variation
from toposampler.metrics.evaluate import evaluate
from toposampler.metrics.memorization import memorization
from toposampler.metrics.neighbors import nearest_neighbors
from toposampler.priors.frames import KNOTS, REACH
from toposampler.priors.mixture import draw_generators
from toposampler.systems.base import Prepared
from toposampler.systems.component_gan import ComponentGANConfig
from toposampler.topology import estimate_components
from toposampler.topology.clusters import find_clusters
from toposampler.training.loop import Loop
from toposampler.training.placement import Placement
from toposampler.training.process_group import ProcessGroup
from toposampler.training.sampling import draw_samples

POINTS, SAMPLES = 8000, 4000
HELD_OUT = 0.1
DATA = ("lines", "grid9", "moons", "digits")
COMPONENTS = {"lines": 4, "grid9": 9, "moons": 2}
STARTS = ("fitted", "affine", "none", "gaussianized")
OUTLIERS = (0.0, 0.01, 0.05)
Row = dict[str, Any]


def load(data: str, seed: int) -> Dataset:
    """The development data `data`, drawn with `seed`."""
    if data == "lines":
        return LinesConfig(n=POINTS, seed=seed, weights=(0.5, 0.3, 0.15, 0.05)).load()
    if data == "grid9":
        weights = tuple((9 - k) / 45 for k in range(9))
        return GaussiansConfig(n=POINTS, seed=seed, layout="grid", side=3, weights=weights).load()
    if data == "moons":
        x, labels = make_moons(POINTS, noise=0.05, random_state=seed)
        half = torch.full((2,), 0.5, dtype=torch.float64)
        return Dataset(torch.from_numpy(x).float(), torch.from_numpy(labels).long(), half)
    return DigitsConfig().load()


def halves(dataset: Dataset, seed: int) -> tuple[Dataset, Tensor]:
    """What is trained on, and the samples that are held out."""
    order = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(seed))
    n = int(HELD_OUT * len(order))
    kept = order[n:]
    assert dataset.labels is not None
    return replace(dataset, x=dataset.x[kept], labels=dataset.labels[kept]), dataset.x[order[:n]]


def section(data: str, start: str = "fitted") -> ComponentGANConfig:
    """The preset of all points, or of images; the game is played for all components."""
    if data == "digits":
        own = {} if start == "fitted" else {"start_normals": 0}
        return ComponentGANConfig(game="always", latent={"kind": "normal", "dim": 16}, **own)
    return ComponentGANConfig(critic_width=128, game="always")


def with_start(prepared: Prepared, start: str, x: Tensor) -> Prepared:
    """`prepared` with another start than the fitted one: see the head of this file."""
    if start in ("fitted", "gaussianized"):
        return prepared
    values = dict(prepared.start)
    quantiles = values["frames.quantiles"]
    levels = torch.linspace(-REACH, REACH, KNOTS, dtype=quantiles.dtype)
    values["frames.quantiles"] = levels.expand(quantiles.shape[0], 1, quantiles.shape[2], KNOTS).clone()
    values["frames.rotations"] = values["frames.rotations"][:, :0]
    values["frames.radii"] = torch.zeros_like(values["frames.radii"])
    values["frames.symmetric"] = torch.zeros_like(values["frames.symmetric"])
    if start == "none":
        flat = x.flatten(1).to(quantiles)
        K, D, R = values["frames.axes"].shape
        values["frames.mean"] = flat.mean(dim=0).expand(K, D).clone()
        values["frames.axes"] = torch.eye(D, R, dtype=quantiles.dtype).repeat(K, 1, 1)
        values["frames.scales"] = flat.std(dim=0)[:R].clamp(min=1e-3).expand(K, R).clone()
    return replace(prepared, start=values, decided={**prepared.decided, "iterations": 1})


def training(data: str, seed: int, start: str, steps: int) -> list[Row]:
    """The rows of a trial: before training and after it."""
    dataset, held_out = halves(load(data, seed), seed)
    prepared = with_start(section(data, start).prepare(dataset), start, dataset.x)
    torch.manual_seed(seed)
    system = prepared.build(dataset.shape)
    constants = TrainingConfig(generator_steps=steps)
    told = replace(dataset, labels=prepared.labels)
    loop = Loop(system, told, constants, seed, torch.device("cpu"), Placement(ProcessGroup()))
    rows = [measured(loop, dataset, held_out, seed)]
    for _ in range(steps):
        loop.iteration()
    return [*rows, measured(loop, dataset, held_out, seed)]


def measured(loop: Loop, dataset: Dataset, held_out: Tensor, seed: int) -> Row:
    """Metrics of the samples of the last weights."""
    x, ids = draw_samples(loop.system, SAMPLES, seed)
    metrics = evaluate(dataset, x, ids, loop.system.prior(), seed, max_real=SAMPLES)
    flat, train = x.flatten(1), dataset.x.flatten(1)
    to_train, of_test = (nearest_neighbors(y, train, k=1)[0][:, 0] for y in (flat, held_out.flatten(1)))
    kept = ("score", "off_manifold_0.05", "off_support_nn99", "coverage_k5", "sliced_wasserstein_2")
    return (
        {"K": loop.system.K, "step": loop.step}
        | {name: metrics[name] for name in kept if name in metrics}
        | (memorization(to_train, of_test))
    )


def counting(data: str, seed: int) -> list[Row]:
    """How many components are found among 2,000 points and shares of uniform outliers."""
    dataset, rows = load(data, seed), []
    rng = torch.Generator().manual_seed(seed)
    for share in OUTLIERS:
        x = dataset.x[torch.randperm(len(dataset.x), generator=rng)[:2000]].clone()
        n = int(share * len(x))
        low, high = x.min(dim=0).values, x.max(dim=0).values
        x[:n] = low + (high - low) * torch.rand(n, x.shape[1], generator=rng)
        found = {"by_density": find_clusters(x.numpy()).count, "bare_tree": estimate_components(x).count}
        rows.append({"outliers": share, "components": COMPONENTS[data], **found})
    return rows


def weights(data: str, seed: int) -> list[Row]:
    """Total variation of r(c) to the masses that the data were drawn with."""
    dataset = load(data, seed)
    prepared = section(data).prepare(dataset)
    system = prepared.build(dataset.shape)
    K, rng = system.K, torch.Generator().manual_seed(seed)
    c = draw_generators(torch.full((K,), 1 / K), (1, 4000), "systematic", rng)[0]
    generated = system.generate({"z": torch.randn(4000, system.latent.dim, generator=rng), "c": c}).detach().numpy()
    judge = make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=1000))
    judge.fit(generated[::2], c[::2].numpy())
    others, of = judge.predict_proba(generated[1::2]), c[1::2].numpy()
    confusion = np.stack([others[of == k].mean(axis=0) for k in range(K)], axis=1)  # column k: q on samples of G_k
    on_data = judge.predict_proba(dataset.x.numpy()).mean(axis=0)
    corrected = nnls(confusion, on_data)[0]
    assert dataset.labels is not None
    assert dataset.weights is not None
    makers = torch.stack([torch.bincount(dataset.labels[prepared.labels == k], minlength=K) for k in range(K)])
    component = makers.argmax(dim=1)
    drawn = torch.bincount(dataset.labels, minlength=K).double() / len(dataset.labels)

    expected = dataset.weights

    def error(r: Any) -> float:
        ordered = torch.zeros(K, dtype=torch.float64).index_add(0, component, torch.as_tensor(r, dtype=torch.float64))
        return total_variation(ordered, expected)

    found = {"counts": prepared.start["masses"], "mean_q": on_data, "corrected": corrected / corrected.sum()}
    return [{name: error(r) for name, r in found.items()} | {"labels": total_variation(drawn, expected)}]


def trials(parts: Sequence[str], names: Sequence[str], seeds: int, steps: int) -> Iterator[Row]:
    """All trials, by what they are."""
    for part in parts:
        for seed in range(1, 1 + seeds):
            for data in (name for name in names if part == "training" or name in COMPONENTS):
                for start in STARTS if part == "training" else ("",):
                    if start == "gaussianized" and data != "digits":  # points are
                        continue
                    more = {"start": start, "steps": steps} if part == "training" else {}
                    yield {"part": part, "data": data, "seed": seed, **more}


def rows_of(trial: Row) -> list[Row]:
    """What a trial measures."""
    if trial["part"] == "training":
        return training(trial["data"], trial["seed"], trial["start"], trial["steps"])
    return {"counting": counting, "weights": weights}[trial["part"]](trial["data"], trial["seed"])


def table(results: Mapping[str, Any], part: str) -> list[str]:
    """The Markdown table of a part: means over the seeds, and in brackets the worst seed's score.

    Raises ValueError if no trial of the part has been run.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for trial in (trial for trial in results["trials"] if trial["part"] == part):
        for row in trial["rows"]:
            marks = (trial["data"], trial.get("start"), row.get("step"), row.get("outliers"))
            key = tuple(mark for mark in marks if mark is not None)
            groups.setdefault(key, []).append(row)
    if not groups:
        raise ValueError(f"no trial of the part {part!r}: run benchmarks/ablation.py --parts {part}")
    names = list(dict.fromkeys(name for rows in groups.values() for row in rows for name in row))
    names = [name for name in names if name not in ("step", "outliers")]
    lines = []
    for key, rows in groups.items():
        cells = []
        for name in names:
            values = [row[name] for row in rows if name in row]
            worst = f" ({max(values):.3f})" if name == "score" and values else ""
            cells.append(f"{fmean(values):.4g}{worst}" if values else "-")
        lines.append([", ".join(map(str, key)), str(len(rows)), *cells])
    return markdown([part, "seeds", *names], lines)


def main() -> None:
    """Do what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="counting,weights,training", help="comma-separated [all]")
    parser.add_argument("--data", default=",".join(DATA), help="comma-separated [all]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500, help="generator steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "ablation.json"
    done: list[Row] = json.loads(path.read_text())["trials"] if path.exists() else []
    for trial in trials(options.parts.split(","), options.data.split(","), options.seeds, options.steps):
        if not any(trial.items() <= found.items() for found in done):
            done.append(trial | {"rows": rows_of(trial)})
            write_results(path, {"trials": done})
            print(done[-1], flush=True)
    head = "# Ablation of component GAN\n\n`python benchmarks/ablation.py`; what the columns mean is said there.\n\n"
    parts = dict.fromkeys(trial["part"] for trial in done)
    text = "\n\n".join("\n".join(table({"trials": done}, part)) for part in parts) + "\n"
    (options.out / "ablation.md").write_text(head + text)
    print(text)


if __name__ == "__main__":
    main()
