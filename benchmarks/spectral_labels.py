"""TopoSampler's slides: a generator of spectral norm 1 loses early, and neither smoothed nor noisy labels help it.

    python benchmarks/spectral_labels.py [--data digits] [--networks mlp,conv] [--seeds 3] [--steps 3000] [--out DIR]

The plain GAN (`pacgan` with `n_packed: 1`, batches of 64, one critic step, Adam 1e-3, betas 0, .9, no moving average)
with generators whose layers are free, or divided by their spectral norm (of convolutions that of the matrix of `out`
rows), of two architectures, `mlp` and `conv`, times labels: plain, smoothed by .1, exchanged with probability .1
(`system.adversarial`). The seeds of a setting are trained at once. Ten times a run, of 500 samples of latents that
stay the same: the critic's mean sigmoid of samples and of real images, the share of the most frequent class, and the
classes' entropy in nats, by the classifier of the data. `--data mnist --root data` does the same on MNIST. Writes
DATA.json, DATA.md and DATA.png, of all settings so far, and resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from damage import load
from matplotlib.figure import Figure
from populations import Row, go_on, kept, loops_of, of_latents, stepped
from torch import Tensor, nn
from torch.nn.utils import parametrize

from toposampler.config import validate
from toposampler.metrics.classifier import classifier_of
from toposampler.nn.custom import Networks
from toposampler.nn.families import generator_family
from toposampler.plots.style import OKABE_ITO, new_figure
from toposampler.training import RunConfig

LABELS = {"plain": {}, "smoothed": {"label_smoothing": 0.1}, "noisy": {"label_noise": 0.1}}
LOOKS, SAMPLES, LATENT = 10, 500, 16
SHOWN = ("of_fakes", "of_reals", "largest_class", "entropy")


class UnitNorm(nn.Module):
    """W / sigma_max(W), W (out, ...) as a matrix of `out` rows."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / torch.linalg.matrix_norm(weight.flatten(1), 2)


def generator(name: str, spectral: bool) -> Any:
    """A function (shape, latent_dim) to a generator of the family `name`, each layer of norm 1 if `spectral`."""

    def make(shape: tuple[int, ...], latent_dim: int) -> nn.Module:
        network = generator_family(name)(shape, latent_dim)
        if spectral:
            for layer in list(network.modules()):
                if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                    parametrize.register_parametrization(layer, "weight", UnitNorm())
        return network

    return make


def config_of(trial: Row, data: dict[str, Any]) -> RunConfig:
    """The plain GAN with the labels of `trial`."""
    adam = {"learning_rate": 1e-3, "betas": [0.0, 0.9]}
    content = {
        "name": "spectral-labels",
        "data": data,
        "system": {
            "name": "pacgan",
            "n_packed": 1,
            "latent": {"dim": LATENT},
            "critic_network": trial["network"],
            "adversarial": LABELS[trial["labels"]],
            "generator": adam,
            "critic": adam,
        },
        "training": {
            "generator_steps": trial["steps"],
            "critic_steps": 1,
            "batch_growth": 1,
            "learning_rate_decay_from": 1.0,
            "ema_decay": 0.0,
        },
    }
    return validate(RunConfig, content)


def trial_rows(trial: Row, root: Path, classifiers: Path) -> list[Row]:
    """The looks at each seed of a setting."""
    data = {"name": trial["data"]} | ({"root": str(root)} if trial["data"] == "mnist" else {})
    dataset, config = load(trial["data"], root), config_of(trial, data)
    classifier = classifier_of(dataset, classifiers)
    networks = Networks(generator=generator(trial["network"], trial["spectral"]))
    loops = loops_of(config, dataset, range(trial["seeds"]), networks)
    at = [trial["steps"] * i // LOOKS for i in range(1, LOOKS + 1)]
    noise = {name: x[0] for name, x in loops[0].system.draw(1, SAMPLES, torch.Generator().manual_seed(0)).items()}
    chosen = torch.randperm(len(dataset.x), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    rows: list[Row] = [{"seed": seed, "steps": at, **{name: [] for name in SHOWN}} for seed in range(trial["seeds"])]
    for _ in stepped(loops, at):
        for row, loop in zip(rows, loops, strict=True):
            x = of_latents(loop, noise)
            with torch.no_grad():
                scores = [loop.system.critic(images).sigmoid().mean() for images in (x, dataset.x[chosen])]
            masses = torch.bincount(classifier.probabilities(x).argmax(dim=1), minlength=10).double() / len(x)
            seen = [*map(float, scores), float(masses.max()), float(torch.special.entr(masses).sum())]
            for name, value in zip(SHOWN, seen, strict=True):
                row[name].append(round(value, 5))
    return rows


def table(done: list[Row]) -> str:
    """The means over the seeds and the last five looks."""
    head = "network | spectral norm | labels | seeds | steps"
    lines = [f"| {head} | {' | '.join(SHOWN)} | CPU-seconds | date |", "|---" * 11 + "|"]
    for trial in done:
        cells = [f"{fmean(fmean(row[name][-5:]) for row in trial['rows']):.3f}" for name in SHOWN]
        marks = [trial["network"], "yes" if trial["spectral"] else "no", trial["labels"]]
        marks += [f"{trial['seeds']}", f"{trial['steps']:,}"]
        lines.append(f"| {' | '.join(marks + cells)} | {trial['cpu_seconds']:.0f} | {trial['date']} |")
    return "\n".join(lines)


def figure(data: str, done: list[Row]) -> Figure:
    """The critic's mean sigmoid of samples, and the share of the largest class, over the steps: a line a seed."""
    networks = list(dict.fromkeys(trial["network"] for trial in done))
    drawn = new_figure(4.2 * len(networks) + 1.5, 5.6, f"{data}: labels and generators of spectral norm 1")
    for j, name in enumerate(("of_fakes", "largest_class")):
        for i, network in enumerate(networks):
            axes = drawn.add_subplot(2, len(networks), 1 + i + j * len(networks))
            for trial in (trial for trial in done if trial["network"] == network):
                color, style = OKABE_ITO[list(LABELS).index(trial["labels"])], "-" if trial["spectral"] else ":"
                for row in trial["rows"]:
                    label = (
                        f"{trial['labels']}{', spectral' if trial['spectral'] else ''}" if row["seed"] == 0 else None
                    )
                    axes.plot(row["steps"], row[name], style, color=color, label=label)
            axes.set_title(
                f"{network}: {'sigmoid of D, samples' if j == 0 else 'share of the largest class'}", fontsize=9
            )
            axes.set_ylim(0, 1)
            axes.set_xlabel("generator steps")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    return drawn


def main() -> None:
    """Train what is missing, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder that holds MNIST/raw")
    parser.add_argument("--networks", default="mlp,conv", help="comma-separated [mlp,conv]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000, help="generator steps")
    parser.add_argument("--classifiers", type=Path, default=Path("runs/classifiers"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/spectral_labels"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    common = {"data": options.data, "seeds": options.seeds, "steps": options.steps}
    asked: list[dict[str, Any]] = [
        common | {"network": network, "spectral": spectral, "labels": labels}
        for network, spectral, labels in itertools.product(options.networks.split(","), (False, True), LABELS)
    ]
    rows_of = partial(trial_rows, root=options.root, classifiers=options.classifiers)
    path = options.out / f"{options.data}.json"
    go_on(path, asked, rows_of)
    done = kept(path)
    text = table(done)
    head = f"# Labels and generators of spectral norm 1, {options.data}\n\n`python benchmarks/spectral_labels.py`\n\n"
    (options.out / f"{options.data}.md").write_text(f"{head}{text}\n")
    figure(options.data, done).savefig(options.out / f"{options.data}.png")
    print(text)


if __name__ == "__main__":
    main()
