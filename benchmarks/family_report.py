"""The table and the figure of a data set of `benchmarks/family.py`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from family_runs import PROTOCOL, REAL, TARGETS, TAU, Task, run_config, samples_of
from matplotlib.figure import Figure
from table_text import markdown, mean_sd

from toposampler.data.geometry import Discs
from toposampler.plots import image_grid, sample_panels
from toposampler.training import RunConfig
from toposampler.training.config import run_folder

POINTS = 2500
"""samples, and real points, in a panel"""
IMAGES = 16
COLUMNS = (
    (f"modes_{PROTOCOL}", "modes of {M}", ".1f"),
    (f"high_quality_3sd_{PROTOCOL}", "high quality", ".1%"),
    ("off_manifold_0.05", "off manifold > .05", ".4f"),
    ("off_support_nn99", "off support (99 % nn)", ".3f"),
    ("coverage_0.05_mean", "coverage", ".3f"),
    ("coverage_k5", "coverage (k = 5)", ".3f"),
    ("jsd_nats", "JSD (nats)", ".4f"),
    ("jsd_nats_conf0.8", "JSD of classes with probability ≥ .8 (nats)", ".4f"),
    ("jsd_nats_argmax", "JSD of argmax classes", ".4f"),
    ("confident_0.8", "share with probability ≥ .8", ".3f"),
    ("fd_classifier_1797", "FD of classifier features", ".2f"),
    ("prior_tv", "prior error (TV)", ".3f"),
    ("energy_distance_root", "energy distance (root)", ".4f"),
    ("score", "score", ".3f"),
    ("worst", "worst score", ".3f"),
    ("solved", "solved", ".0%"),
    ("active_generators", "active", ".1f"),
    ("K", "K", ".0f"),
    ("parameters", "parameters", ",.0f"),
    ("generator_steps", "generator steps", ",.0f"),
    ("samples_seen", "real samples seen", ",.0f"),
    ("seconds", "core-seconds", ".0f"),
)
"""metric, heading, format: those that a data set has are shown"""
REPORTED = {
    "ring": (
        ("GAN (VEEGAN paper)", "1", "99.3"),
        ("ALI (VEEGAN paper)", "2.8", "0.13"),
        ("VEEGAN (VEEGAN paper)", "8", "52.9"),
        ("GAN (PacGAN paper)", "6.3", "98.2"),
        ("PacGAN4 (PacGAN paper)", "7.8", "95.9"),
    ),
    "grid": (
        ("GAN (VEEGAN paper)", "3.3", "0.5"),
        ("ALI (VEEGAN paper)", "15.8", "1.6"),
        ("VEEGAN (VEEGAN paper)", "24.6", "40"),
        ("GAN (PacGAN paper)", "17.3", "94.8"),
        ("PacGAN4 (PacGAN paper)", "24.8", "93.6"),
    ),
}
"""modes and % of high quality as Srivastava et al. 2017 (arXiv 1705.07761) and Lin et al. 2018 (arXiv 1712.04086)
report them"""

TRIED = {
    "ring": (
        "VEEGAN comes and goes between 6 and 8 modes: in single trials, 16 latent dimensions had 7, 32 had 8, and",
        "2 with an inferred noise of standard deviation .3 had 8. PacGAN has all modes, but fewer samples in them:",
        "one critic step in place of three had 74 %, but 14 to 19 modes of the grid.",
    ),
    "grid": (
        "PacGAN stays below its paper, which has larger networks and trains for longer: in single trials one",
        "critic step in place of three had 14 to 19 modes, learning rates of 2e-3 19, networks of three times the",
        "width 20, and nine times the budget 22 to 23 modes with up to 75 % of samples in them.",
    ),
    "spheres": (
        "K is more than the data needs, as a user who does not know the number of components would choose it. That is",
        "what TopoSampler fails by here: with two branches in its gate in place of ten, 0.7 % of its samples are off,",
        "and its score is 0.012.",
    ),
}
"""of systems that stay below what others report, or we do elsewhere: what was tried, one seed each"""

Rows = Sequence[dict[str, Any]]


def page(data: str, rows: Rows, budget: int) -> str:
    """The Markdown page of a data set: how it was measured, the table, what others report."""
    target = TARGETS[data]
    seeds = seeds_of(rows)
    over = "one seed" if seeds == "1 seed" else f"mean ± standard deviation over {seeds}"
    own = f", or of `configs/{data}_NAME.yaml` where there is one" if target.images else ""
    lines = [
        f"# {target.title}",
        "",
        f"`python benchmarks/family.py --data {data}`: every system with one budget, {budget:,} real samples that its",
        "critic sees; core-seconds are what that takes on one thread, or a run's share of all seeds trained at once.",
        f"Constants are those of `configs/ring_NAME.yaml`{own}, with",
        f"K = {target.generators} for all that have several generators. {target.samples:,} samples of the moving",
        f"average; a mode counts if {PROTOCOL:,} of them hold {target.reached}. {over.capitalize()}, best score first",
        "([meanings](../../../docs/metrics.md)). Solved are the seeds that at each of the last five of ten evaluations",
        "have at most 5 % of samples off the support, 95 % of its bins covered (and half of each component's), and",
        "masses within a total variation of .1; rows without it were measured once, at the end.",
        "",
        table(data, rows),
    ]
    if data in REPORTED:
        lines += [
            "",
            "Reported by others, also of 2,500 samples within 3 standard deviations of a mode, but with networks,",
            "budgets and constants of their own (the same baseline differs between the papers):",
            "",
            "| reported | modes | high quality % |",
            "|---|---|---|",
            *(f"| {' | '.join(cells)} |" for cells in REPORTED[data]),
        ]
    if data in TRIED:
        lines += ["", *TRIED[data]]
    return "\n".join(lines) + "\n"


def table(data: str, rows: Rows) -> str:
    """The Markdown table: a row for each system, best mean score first, broken runs named."""
    by_system = Counter(row["system"] for row in rows if "score" in row)
    rows = [row | ({"worst": row["score"]} if by_system[row["system"]] > 1 and "score" in row else {}) for row in rows]
    columns = [column for column in COLUMNS if any(column[0] in row for row in rows)]
    headings = [heading.format(M=TARGETS[data].components) for _, heading, _ in columns]
    lines = [f"| system | {' | '.join(headings)} |", "|---" * (len(columns) + 1) + "|"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["system"], []).append(row)
    for system, of_seeds in sorted(groups.items(), key=lambda item: _rank(*item)):
        done = [row for row in of_seeds if "failed" not in row]
        broken = len(of_seeds) - len(done)
        name = f"{system} ({broken} of {len(of_seeds)} broke down)" if broken else system
        values = {metric: [row[metric] for row in done if metric in row] for metric, _, _ in columns}
        if values.get("worst"):
            values["worst"] = [max(values["worst"])]
        cells = [mean_sd(values[metric], form) for metric, _, form in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def overview(folder: Path) -> str:
    """The Markdown page on all data sets that have a page in `folder`."""
    lines = [
        "# Every system on every data set",
        "",
        "`python benchmarks/family.py`, one budget of real samples for all. The [score](../../../docs/metrics.md) is",
        "the share of samples off the support, plus the uncovered share of the least covered component, plus the error",
        "of the masses: 0 is perfect, 3 the worst. Mean ± standard deviation over the seeds; the best mean first. Each",
        "data set's page has all other metrics, the seeds, and what others report.",
        "",
        *scores_table(folder, pages=""),
    ]
    return "\n".join(lines) + "\n"


def scores_table(folder: Path, pages: str) -> list[str]:
    """Each system's score on each data set that has a page in `folder`, the best mean first, as a Markdown table.

    `pages` is the address of `folder` from the document, which headings link to: empty, or with a slash at its end.
    """
    rows = _measured(folder)
    scores: dict[str, dict[str, list[float]]] = {}
    for row in (row for of_data in rows.values() for row in of_data if "score" in row):
        scores.setdefault(row["system"], {}).setdefault(row["data"], []).append(row["score"])

    def heading(data: str) -> str:
        return f"[{data}]({pages}{data}.md), {seeds_of(rows[data])}"

    def rank(system: str) -> tuple[bool, int, float]:
        means = [fmean(values) for values in scores[system].values()]
        return system != REAL, -len(means), fmean(means)

    ranked = sorted(scores, key=rank)
    cells = ([system, *(mean_sd(scores[system].get(data, []), ".3f") for data in rows)] for system in ranked)
    return markdown(["system", *map(heading, rows)], cells)


def solved_table(folder: Path, system: str) -> list[str]:
    """How a system does over its seeds on each data set that has a page in `folder`, as a Markdown table."""
    cells = []
    for data, of_data in _measured(folder).items():
        rows = [row for row in of_data if row["system"] == system and "failed" not in row]
        if rows:
            scores, n = [row["score"] for row in rows], len(rows)
            right = sum(row["K"] == TARGETS[data].components for row in rows)
            cells.append(
                [
                    TARGETS[data].title,
                    f"{TARGETS[data].components} in {right} of {n}",
                    *(f"{value:.3f}" for value in (fmean(scores), max(scores))),
                    f"{sum(row['solved'] for row in rows):.0f} of {n}",
                    f"{fmean(row['seconds'] for row in rows):.0f}",
                ]
            )
    head = [system, "components found", "score, mean", "worst seed", "seeds that solve it", "core-seconds per seed"]
    return markdown(head, cells)


def places_table(folder: Path, system: str, whole: str) -> list[str]:
    """How a system's score compares with the best other's on each data set that has a page in `folder`, as a Markdown
    table.

    The best other is the one with the least mean, of the rows in `folder` and of those in the folder `whole` beside it,
    where all have a larger budget. `equal` first is within one standard deviation of it, the larger one of the two.
    """
    cells = []
    larger = _measured(folder.parent / whole)
    for data, rows in _measured(folder).items():
        scores = _scores(rows)
        if (own := scores.pop(system, None)) is None:
            continue
        others = [scores, _scores(larger.get(data, []))]
        best = [
            min((found for name, found in some.items() if name != system), key=_mean, default=None) for some in others
        ]
        rivals = [found for found in best if found is not None]
        cells.append(
            [
                TARGETS[data].title,
                mean_sd(own[1], ".4f"),
                *(f"`{found[0]}` {mean_sd(found[1], '.4f')}, {_seeds(found[1])}" if found else "-" for found in best),
                _place(own[1], min(rivals, key=_mean)[1]) if rivals else "-",
            ]
        )
    return markdown(
        ["task", system, "best other, the same real samples", "best other, all real samples", "place"], cells
    )


Scores = tuple[str, list[float]]
"""a system, and its score of each seed"""


def _scores(rows: Rows) -> dict[str, Scores]:
    """The scores of each system, without those of real data."""
    found: dict[str, Scores] = {}
    for row in rows:
        if "score" in row and row["system"] != REAL:
            found.setdefault(row["system"], (row["system"], []))[1].append(row["score"])
    return found


def _mean(scores: Scores) -> float:
    return fmean(scores[1])


def _seeds(values: Sequence[float]) -> str:
    return f"{len(values)} seed{'s' if len(values) > 1 else ''}"


def _place(own: Sequence[float], other: Sequence[float]) -> str:
    """`first`, `equal first` within one standard deviation, or `behind`."""
    spread = max(stdev(values) if len(values) > 1 else 0.0 for values in (own, other))
    difference = fmean(own) - fmean(other)
    if abs(difference) <= spread:
        return "equal first"
    return "first" if difference < 0 else "behind"


def _measured(folder: Path) -> dict[str, Rows]:
    """The rows of all data sets that have a page in `folder`."""
    found = [data for data in TARGETS if (folder / f"{data}.md").exists()]
    return {data: json.loads((folder / f"{data}.json").read_text())["rows"] for data in found}


def seeds_of(rows: Rows) -> str:
    """How many seeds the systems have: `1 seed`, `3 seeds`, or `1 to 3 seeds` where some have more than others."""
    counts = Counter(row["system"] for row in rows if row["system"] != REAL).values()
    least, most = min(counts), max(counts)
    return f"{most} seed{'s' if most > 1 else ''}" if least == most else f"{least} to {most} seeds"


def _rank(system: str, rows: Rows) -> tuple[bool, float]:
    """Real data first, then by the mean score; systems without one last."""
    scores = [row["score"] for row in rows if "score" in row]
    return system != REAL, fmean(scores) if scores else float("inf")


def figure(data: str, rows: Rows, tasks: Sequence[Task]) -> Figure | None:
    """Samples of the first seed of each system whose run is at hand, in the order of their names.

    None if no run came to its end, or some system's were made elsewhere.
    """
    done = {(row["system"], row["seed"]) for row in rows if "failed" not in row and row["system"] != REAL}
    configs: dict[str, RunConfig] = {}
    for task in sorted(tasks, key=lambda task: (task.system, task.seed)):
        if (task.system, task.seed) in done and (run_folder(config := run_config(task)) / "samples.npz").exists():
            configs.setdefault(task.system, config)
    if not configs or configs.keys() != {system for system, _ in done}:
        return None
    title, dataset = TARGETS[data].title, next(iter(configs.values())).data.load()
    clouds = {system: samples_of(config) for system, config in configs.items()}
    if dataset.manifold is None:
        real = [("real data", dataset.x[:IMAGES])]
        return image_grid(real + [(system, x[:IMAGES]) for system, x in clouds.items()], title)
    tau = 0.0 if isinstance(dataset.manifold, Discs) else TAU
    panels = {}
    for system, x in clouds.items():
        off = dataset.manifold.distance(x[:POINTS]).min(dim=1).values > tau
        panels[f"{system}: {off.double().mean():.1%} off"] = (x[:POINTS], off)
    where = "outside 3 standard deviations of all modes" if tau == 0 else f"farther than {tau:g} from the support"
    return sample_panels(dataset.x[:POINTS], panels, f"{title}\nin red: {where}")


def write(folder: Path, data: str, rows: Rows, tasks: Sequence[Task], budget: int) -> None:
    """Write the page and the figure of a data set to `folder`, which has its results, and the page on all of them."""
    (folder / f"{data}.md").write_text(page(data, rows, budget))
    (folder / "README.md").write_text(overview(folder))
    if (drawn := figure(data, rows, tasks)) is not None:
        drawn.savefig(folder / f"{data}.png")
