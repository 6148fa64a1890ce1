"""What `benchmarks/family.py` trains and measures: the data sets, one run, and the row it gives."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runs import trained
from toposampler.config import flatten, merge_overrides, validate
from toposampler.data import DataConfig, Dataset
from toposampler.data.circles import CirclesConfig
from toposampler.data.digits import DigitsConfig
from toposampler.data.gaussians import GaussiansConfig
from toposampler.data.geometry import Discs
from toposampler.data.lines import LinesConfig
from toposampler.data.spheres import SpheresConfig
from toposampler.data.swiss_roll import SwissRollConfig
from toposampler.errors import TrainingStoppedError, UserError
from toposampler.keys import new_name
from toposampler.metrics.classes import CONFIDENCE, confident_classes, inter_mode_jsd
from toposampler.metrics.classifier import classifier_of
from toposampler.metrics.evaluate import evaluate
from toposampler.metrics.frechet import frechet_distance
from toposampler.metrics.manifold import modes_covered, off_manifold
from toposampler.priors.latent import LatentConfig
from toposampler.records import read_records
from toposampler.training import RunConfig, load_config
from toposampler.training.config import run_folder
from toposampler.training.seeds import FAILURE

log = logging.getLogger(__name__)
CONFIGS = Path(__file__).parent.parent / "configs"
ENTRANTS = tuple(sorted(path.stem.removeprefix("ring_") for path in CONFIGS.glob("ring_*.yaml")))
"""what takes part: a configuration on the ring each, whose `system` section holds a system's constants"""
REAL = "real data"
"""in the place of a system: as many new points of the data, what a perfect sampler would score"""
BATCH = 64
PROTOCOL = 2500
"""samples among which modes are counted (Srivastava et al. 2017, and those who compare with them)"""
EVALUATIONS, LAST = 10, 5
"""evaluations of a run, and how many of them, the last ones, must all be good for a task to count as solved"""
SOLVED = {
    "off_manifold_0.05": (0.0, 0.05),
    "coverage_0.05_mean": (0.95, 1.0),
    "coverage_0.05_min": (0.5, 1.0),
    "mass_tv": (0.0, 0.1),
}
"""least and greatest value of a good evaluation: few samples are off, all components are there, with their masses"""
TAU = 0.05
"""how far off the support a sample may be; of Gaussians the support is the disc of 3 standard deviations"""
SIZE_KEYS = ("n_generators", "n_categories", "n_components", "noise.branches")
"""keys of systems for K: the number of their generators, or of what they have in their place"""


@dataclass(frozen=True)
class Target:
    """A data set of the benchmark, and the sizes that all systems get on it."""

    title: str
    data: DataConfig
    components: int
    generators: int
    """K, for systems that have several"""
    reached: str = f"a sample within {TAU}"
    """what a mode must have to count"""
    budget: int = 2_240_000
    """real samples that the critic sees"""
    batch_growth: int = 4
    samples: int = 10_000
    """samples of the moving average that are evaluated, a fifth of it in training: enough for the sectors of the
    smallest component, of which even a perfect sampler misses one of 8 with probability 8 (7/8)^n at n samples in it"""
    latent_dim: int | None = None
    """the least of systems that ask for another than the default; None, here and below: the system's own"""
    widths: tuple[int, int] | None = None
    """of a single generator's last hidden layer, and of each of an ensemble's"""
    critic_width: int | None = None
    images: bool = False


IN_A_MODE = "a sample within 3 standard deviations"
TARGETS = {
    "lines": Target("Four segments of equal mass", LinesConfig(), 4, 10),
    "lines_unbalanced": Target(
        "Four segments, one with 70 % of the mass", LinesConfig(weights=(0.7, 0.1, 0.1, 0.1)), 4, 10
    ),
    "circles": Target("Two nested circles", CirclesConfig(layout="nested"), 2, 10),
    "ring": Target("Ring of 8 Gaussians", GaussiansConfig(), 8, 16, reached=IN_A_MODE),
    "grid": Target("Grid of 25 Gaussians", GaussiansConfig(layout="grid"), 25, 50, reached=IN_A_MODE),
    "grid9": Target(
        "3x3 Gaussians, mode k = 0 ... 8 with mass (9 - k) / 45",
        GaussiansConfig(layout="grid", side=3, weights=tuple((9 - k) / 45 for k in range(9))),
        9,
        18,
        reached=IN_A_MODE,
    ),
    "grid25_unequal": Target(
        "Grid of 25 Gaussians, mode k = 0 ... 24 with mass (k + 1) / 325",
        GaussiansConfig(layout="grid", weights=tuple((k + 1) / 325 for k in range(25))),
        25,
        50,
        reached=IN_A_MODE,
        samples=20_000,
    ),
    "grid100": Target(
        "Grid of 100 Gaussians, 33 standard deviations apart",
        GaussiansConfig(layout="grid", side=10, spacing=1.0, sd=0.03),
        100,
        200,
        reached=IN_A_MODE,
        samples=20_000,
    ),
    "spheres": Target(
        "Two spheres, 4 radii apart", SpheresConfig(), 2, 10, latent_dim=3, widths=(128, 64), critic_width=128
    ),
    "spheres100": Target(
        "Two 100-spheres, 4 radii apart",
        SpheresConfig(dimension=100),
        2,
        10,
        budget=560_000,
        latent_dim=101,
        widths=(128, 64),
        critic_width=128,
    ),
    "one_gaussian": Target("One Gaussian", GaussiansConfig(n_modes=1), 1, 10, reached=IN_A_MODE),
    "one_ring": Target("One ring", SpheresConfig(dimension=1, number=1), 1, 10),
    "swiss_roll": Target("A Swiss roll", SwissRollConfig(), 1, 10, latent_dim=3, widths=(128, 64), critic_width=128),
    "digits": Target(
        "Digits of 8x8 pixels",
        DigitsConfig(),
        10,
        20,
        reached=f"a sample that the classifier is {CONFIDENCE:.0%} sure of",
        budget=256_000,
        batch_growth=1,
        latent_dim=16,
        images=True,
    ),
}


Constants = dict[str, Any]
"""of a run, by their dotted keys"""


@dataclass(frozen=True)
class Task:
    """One run of the benchmark."""

    data: str
    system: str
    seed: int
    budget: int | None
    """real samples that the critic sees; None: the data's own"""
    output: str
    """folder of all runs, absolute: workers may have another working folder"""


def constants_file(task: Task) -> Path:
    """`configs/ring_NAME.yaml`; of images `configs/DATA_NAME.yaml`, where a system has one: other networks, which may
    need other constants than those of points."""
    own = CONFIGS / f"{task.data}_{task.system}.yaml"
    return own if TARGETS[task.data].images and own.exists() else CONFIGS / f"ring_{task.system}.yaml"


def run_config(task: Task) -> RunConfig:
    """The configuration of a run: the system's constants, as `constants_file` has them, and the sizes of the data set.

    The budget is spent at the system's own number of critic steps to a generator step.
    """
    target, ring = TARGETS[task.data], load_config(constants_file(task))
    system = ring.system.model_dump(mode="json")
    asked = flatten(system)
    sizes: dict[str, int | None] = {
        key: target.generators for key in SIZE_KEYS if key in asked and asked[key] != "auto"
    }
    if target.latent_dim:
        own = ring.system.latent.dim
        sizes["latent.dim"] = target.latent_dim if own == LatentConfig().dim else max(own, target.latent_dim)
    if target.widths:
        sizes["generator_width"] = target.widths[ring.system.has_ensemble]
    if target.critic_width:
        sizes["critic_width"] = target.critic_width
    grown = ring.training.batch_growth_from + (1 - ring.training.batch_growth_from) * target.batch_growth
    of_a_step = ring.training.critic_steps * BATCH * grown
    steps = max(1, round((task.budget or target.budget) / of_a_step))
    training = {
        "batch_size": BATCH,
        "batch_growth": target.batch_growth,
        "critic_steps": ring.training.critic_steps,
        "generator_steps": steps,
        "evaluate_every": max(1, steps // EVALUATIONS),
        "evaluation_samples": target.samples,
        "checkpoint_every": max(1, steps // 5),
    }
    content = {
        "name": f"{task.data}-{task.system}-{task.seed}",
        "output": task.output,
        "seed": task.seed,
        "data": target.data.model_dump(mode="json"),
        "system": merge_overrides(system, sizes),
        "training": training,
    }
    return validate(RunConfig, content)


def constants_of(task: Task, set_only: bool = False) -> Constants:
    """All constants that a row depends on, whatever its seed: not where its run is kept, nor how often it is evaluated.

    With `set_only` those alone that differ from the defaults of their keys.
    """
    config = TARGETS[task.data].data if task.system == REAL else run_config(task)
    unlike = {"output", "name", "seed", "cluster", "tracking"} if isinstance(config, RunConfig) else set()
    constants = flatten(config.model_dump(mode="json", exclude=unlike, exclude_defaults=set_only))
    return {key: value for key, value in constants.items() if key != "training.evaluate_every"}


def are_todays(constants: Constants, task: Task) -> bool:
    """Whether a row that was made with `constants` is what `task` would give: keys that came later have defaults, and
    values are read as a configuration's are, in old spellings too."""
    today = constants_of(task)
    constants = {new_name(key, today): value for key, value in constants.items()}
    later = constants_of(task, set_only=True).keys() - constants.keys()
    if later or not constants.keys() <= today.keys():
        return False
    if task.system != REAL:
        try:
            read = validate(RunConfig, merge_overrides(run_config(task).model_dump(mode="json"), constants))
        except UserError:
            return False
        constants = {key: flatten(read.model_dump(mode="json"))[key] for key in constants}
    return all(today[key] == value for key, value in constants.items())


def fingerprint(constants: Constants) -> str:
    """SHA-256 of `constants`: rows name them by it."""
    return hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()


def run_seeds(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The rows of runs that differ in their seed: those that are not complete are trained at once, as a population.

    Each member becomes a run like one trained alone. A run's seconds are its share of the population's.
    """
    missing = [task for task in tasks if task.system != REAL and not (_folder(task) / "result.json").exists()]
    failed: dict[int, str] = {}
    if len(missing) > 1:
        one = run_config(missing[0])
        seeds = [task.seed for task in missing]
        name = f"{missing[0].data}-{missing[0].system}-seeds-{'-'.join(map(str, seeds))}"
        together = validate(RunConfig, one.model_dump(mode="json") | {"name": name, "seeds": seeds})
        try:
            trained(together)
        except TrainingStoppedError:
            log.warning("%s: no seed has come to a result", name)
        for task in missing:
            member = run_folder(together) / f"seed-{task.seed}"
            if (member / "result.json").exists():
                result = json.loads((member / "result.json").read_text())
                shared = {"seconds": round(result["seconds"] / len(missing), 1), "together": len(missing)}
                (member / "result.json").write_text(json.dumps(result | shared, indent=2))
                shutil.rmtree(_folder(task), ignore_errors=True)
                member.rename(_folder(task))
            else:
                failed[task.seed] = (member / FAILURE).read_text()
        shutil.rmtree(run_folder(together))
    return [_failed(task, failed[task.seed]) if task.seed in failed else run(task) for task in tasks]


def _folder(task: Task) -> Path:
    return run_folder(run_config(task))


def _row(task: Task) -> dict[str, Any]:
    constants = fingerprint(constants_of(task))
    return {"data": task.data, "system": task.system, "seed": task.seed, "constants": constants}


def _failed(task: Task, why: str) -> dict[str, Any]:
    return _row(task) | {"failed": why}


def run(task: Task) -> dict[str, Any]:
    """Train one run, resume it or read it; its row. That of a run which broke down says why in `failed`."""
    row = _row(task)
    if task.system == REAL:
        return row | _of_real_data(task)
    config = run_config(task)
    try:
        result = trained(config)
    except TrainingStoppedError as error:
        return _failed(task, str(error))
    dataset = config.data.load()
    system = config.system.prepare(dataset).build(dataset.shape)
    sampled, plays = system.players()["generator"].modules, system.schedule(0, config.training.critic_steps)
    row |= {
        "K": system.K,
        "parameters": sum(p.numel() for name in system.averaged for p in sampled[name].parameters()),
        "parameters_in_training": sum(p.numel() for p in system.parameters()),
        "generator_steps": config.training.generator_steps,
        "critic_steps": config.training.critic_steps,
        "seconds": result["seconds"],
        "together": result.get("together", 1),
        "samples_seen": task.budget or TARGETS[task.data].budget if plays else 0,
        "active_generators": result["active_generators"],
        **_solved(run_folder(config), result["metrics"]),
    }
    return row | _summary(result["metrics"]) | _by_modes(dataset, samples_of(config), Path(task.output))


def _solved(folder: Path, metrics: dict[str, float]) -> dict[str, float]:
    """`solved`: 1 if all of `SOLVED` holds at the last evaluations of a run, the last of which is its result."""
    if not SOLVED.keys() <= metrics.keys():
        return {}
    records = [record.metrics for record in read_records(folder / "metrics.jsonl") if "eval/score" in record.metrics]
    of_training = [{name: record[f"eval/{name}"] for name in SOLVED} for record in records]
    evaluations = [*of_training[1 - LAST :], metrics]
    good = (low <= found[name] <= high for found in evaluations for name, (low, high) in SOLVED.items())
    return {"solved": float(len(evaluations) == LAST and all(good))}


def samples_of(config: RunConfig) -> Tensor:
    """The samples (n, *shape) of a finished run, in random order of their generators."""
    with np.load(run_folder(config) / "samples.npz") as stored:
        return torch.from_numpy(stored["samples"])


def _of_real_data(task: Task) -> dict[str, float]:
    """The scores of new points; images, of which there are no new ones, have none."""
    torch.set_num_threads(1)
    data = TARGETS[task.data].data
    dataset = data.load()
    n = TARGETS[task.data].samples
    fresh = data.model_copy(update={"n": n, "seed": 1 + task.seed}).load().x
    return _summary(evaluate(dataset, fresh, None, None, task.seed, max_real=n)) | _by_modes(
        dataset, fresh, Path(task.output)
    )


def _summary(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that are not of single components."""
    return {name: value for name, value in metrics.items() if "component_" not in name and "mode_mass" not in name}


def _by_modes(dataset: Dataset, x: Tensor, output: Path) -> dict[str, float]:
    """Modes that samples (n, *shape) reach, and what comes with it: by the support, or a classifier for images."""
    if dataset.manifold is not None:
        distance = dataset.manifold.distance(x[:PROTOCOL])
        if not isinstance(dataset.manifold, Discs):
            return {f"modes_{PROTOCOL}": modes_covered(distance, TAU)}
        return {
            f"modes_{PROTOCOL}": modes_covered(distance, 0.0),
            f"high_quality_3sd_{PROTOCOL}": 1 - off_manifold(distance, 0.0),
        }
    assert dataset.weights is not None
    classifier = classifier_of(dataset, output / "classifiers")
    probabilities, n = classifier.probabilities(x), min(len(x), len(dataset.x))
    sure = confident_classes(probabilities[:PROTOCOL])
    distance_of_features = frechet_distance(classifier.features(x[:n]), classifier.features(dataset.x[:n]))
    scores = {f"modes_{PROTOCOL}": len(sure[sure >= 0].unique()), f"fd_classifier_{n}": distance_of_features}
    return scores | inter_mode_jsd(probabilities, dataset.weights)
