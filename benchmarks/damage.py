"""What each metric says of real images that were damaged on purpose (DMGAN, section 3.2).

    python benchmarks/damage.py [--data digits,mnist] [--root data] [--seeds 3] [--out benchmarks/results/damage]

The images are cut into two halves at random, one a seed. One half is the real data; the other, new images of the same
kind, is damaged by a degree from 0 to 1 and stands for samples:

- repeated: a share of each class's images become one and the same image of the class;
- shrunk: every image moves by a part of the way to the mean of its class;
- reweighted: a share of the images of all classes but the first half of them is replaced by images of that half;
- dropped: a share of the images is replaced by images of the classes 1 and up, from those of class 0 first.

Metrics are those of `ray_jobs/evaluate.py` in the features of a classifier of the data (docs/metrics.md), which alone
is trained, and kept in `--classifiers`. Writes DATA.json and DATA.png to `--out`; what DATA.json has is
not measured again. `--images` of each half at most (2,000).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from populations import Row, go_on
from torch import Tensor

from toposampler.data.base import Dataset
from toposampler.data.digits import DigitsConfig
from toposampler.data.mnist import MnistConfig
from toposampler.metrics.classes import inter_mode_jsd, quality_curve
from toposampler.metrics.classifier import Classifier, classifier_of
from toposampler.metrics.frechet import frechet_distance
from toposampler.metrics.geodesic import intra_mode_msd
from toposampler.metrics.prdc import precision_recall_density_coverage
from toposampler.plots.style import OKABE_ITO, new_figure

DAMAGES = ("repeated", "shrunk", "reweighted", "dropped")
DEGREES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
SHOWN = (
    "fd_classifier",
    "jsd_nats_conf0.8",
    "msd_ratio_mean",
    "precision_k3",
    "recall_k3",
    "coverage_k5",
    "quality_0.9",
)


def load(data: str, root: Path) -> Dataset:
    """Digits, or the MNIST files below `root`."""
    return DigitsConfig().load() if data == "digits" else MnistConfig(root=root).load()


def damaged(x: Tensor, labels: Tensor, damage: str, degree: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images x (n, *shape) of classes `labels` (n,), damaged by `degree` in [0, 1], and their classes."""
    x, labels = x.clone(), labels.clone()
    classes = labels.unique()
    if damage in ("repeated", "shrunk"):
        for k in classes:
            members = (labels == k).nonzero()[:, 0]
            if damage == "repeated":
                members = members[torch.randperm(len(members), generator=rng)]
                x[members[: round(degree * len(members))]] = x[members[0]].clone()
            else:
                x[members] = torch.lerp(x[members], x[members].mean(dim=0), degree)
        return x, labels
    gone = classes[len(classes) // 2 :] if damage == "reweighted" else classes[:1]
    lost = torch.isin(labels, gone).nonzero()[:, 0]
    lost = lost[torch.randperm(len(lost), generator=rng)[: round(degree * len(lost))]]
    left = (~torch.isin(labels, gone)).nonzero()[:, 0]
    instead = left[torch.randint(len(left), (len(lost),), generator=rng)]
    x[lost], labels[lost] = x[instead], labels[instead]
    return x, labels


def measured(x: Tensor, real: Dataset, classifier: Classifier) -> dict[str, float]:
    """The metrics of images x (n, *shape) against as many `real` ones."""
    assert real.weights is not None
    probabilities, features, of_real = classifier.probabilities(x), classifier.features(x), classifier.features(real.x)
    found = {
        "fd_classifier": frechet_distance(features, of_real),
        "quality_0.9": quality_curve(probabilities, [0.9])[0],
    }
    found |= inter_mode_jsd(probabilities, real.weights) | precision_recall_density_coverage(features, of_real)
    varieties = intra_mode_msd(x, probabilities, real.x, classifier.probabilities(real.x))
    ratios = [variety.ratio for variety in varieties if variety.ratio is not None]
    return found | {"msd_ratio_mean": fmean(ratios)}


def trial_rows(trial: Row, whole: Dataset, classifiers: Path) -> list[Row]:
    """The metrics of one seed of a damage, by degree."""
    assert whole.labels is not None
    order = torch.randperm(len(whole.x), generator=torch.Generator().manual_seed(trial["seed"]))
    n = trial["images"]
    one, two = order[:n], order[n : 2 * n]
    shares = torch.bincount(whole.labels[one], minlength=int(whole.labels.max()) + 1).double() / n
    real = Dataset(whole.x[one], whole.labels[one], shares)
    classifier = classifier_of(whole, classifiers)
    rows = []
    for degree in DEGREES:
        rng = torch.Generator().manual_seed(trial["seed"])
        x, _ = damaged(whole.x[two], whole.labels[two], trial["damage"], degree, rng)
        rows.append({"degree": degree, **measured(x, real, classifier)})
    return rows


def figure(data: str, trials: list[Row]) -> Figure:
    """Each metric against the degree of each damage: mean, least and greatest over the seeds."""
    drawn = new_figure(3.1 * len(SHOWN[:4]), 5.6, f"{data}: metrics of real images, damaged")
    for i, metric in enumerate(SHOWN):
        axes = drawn.add_subplot(2, 4, 1 + i)
        for damage, color in zip(DAMAGES, OKABE_ITO, strict=False):
            curves = [[row[metric] for row in trial["rows"]] for trial in trials if trial["damage"] == damage]
            values = torch.tensor(curves, dtype=torch.float64)
            axes.plot(DEGREES, values.mean(dim=0), color=color, label=damage)
            axes.fill_between(DEGREES, values.amin(dim=0), values.amax(dim=0), color=color, alpha=0.2, linewidth=0)
        axes.set_title(metric, fontsize=10)
        axes.set_xlabel("degree")
    empty = drawn.add_subplot(2, 4, 1 + len(SHOWN))
    empty.set_axis_off()
    empty.legend(*axes.get_legend_handles_labels(), loc="center")
    return drawn


def table(trials: list[Row]) -> str:
    """The Markdown table: each metric undamaged, and at the degrees .25 and 1 of each damage."""
    lines = [f"| damage | degree | {' | '.join(SHOWN)} |", "|---" * (2 + len(SHOWN)) + "|"]
    for damage in DAMAGES:
        for degree in (0.0, 0.25, 1.0) if damage == DAMAGES[0] else (0.25, 1.0):
            rows = [row for t in trials if t["damage"] == damage for row in t["rows"] if row["degree"] == degree]
            cells = [f"{fmean(row[metric] for row in rows):.3g}" for metric in SHOWN]
            lines.append(f"| {damage if degree else 'none'} | {degree:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing; write table and figure of each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits,mnist", help="comma-separated [digits,mnist]")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder that holds MNIST/raw")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classifiers", type=Path, default=Path("runs/classifiers"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/damage"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for data in options.data.split(","):
        whole = load(data, options.root)
        asked: list[dict[str, Any]] = [
            {"data": data, "damage": damage, "seed": seed, "images": min(options.images, len(whole.x) // 2)}
            for damage in DAMAGES
            for seed in range(options.seeds)
        ]
        path = options.out / f"{data}.json"
        done = go_on(path, asked, partial(trial_rows, whole=whole, classifiers=options.classifiers))
        figure(data, done).savefig(options.out / f"{data}.png")
        print(table(done))


if __name__ == "__main__":
    main()
