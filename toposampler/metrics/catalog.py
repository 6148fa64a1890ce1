"""What each metric means and which values of it are better: the one place that says so.

Tables, figures and files ask here. A name may hold numbers that depend on the protocol, such as of how many points it
is; docs/metrics.md has the protocols.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from toposampler.metrics.registered import METRICS

AS_REAL: Literal["as real"] = "as real"
Better = Literal["less", "more", "as real"] | float | None
"""which of two values is better: the lesser, the greater, the one nearer to that of real data, or to a number; None:
neither, the value only describes"""

NUMBER = re.compile(r"\{\w+\}")
DETAIL = re.compile(r"(component|class)_\d+$|mode_mass")
FURTHER = "further metrics"
"""the block of metrics that are not the package's"""


@dataclass(frozen=True)
class Kind:
    """One metric, or all whose names differ by numbers."""

    name: str
    """with `{n}` for each number"""
    better: Better
    meaning: str
    """in a few words"""
    block: str | None
    """of the table that shows it; None: it is in files only"""
    signed: bool = False
    """its expectation is 0 where samples are perfect, so that no number of draws tells the mean from 0"""

    @property
    def direction(self) -> str:
        """Which values are better, in a word: `less`, `more`, `as real`, a number, or `-` for neither."""
        return "-" if self.better is None else self.better if isinstance(self.better, str) else f"{self.better:g}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Of the names it has."""
        return re.compile(r"[\d.]+".join(map(re.escape, NUMBER.split(self.name))))


def _kinds() -> Iterator[Kind]:
    block: str | None = "on the support, and all of it"
    yield Kind("score", "less", "share off the support + uncovered share + error of the masses", block)
    yield Kind("off_manifold_{tau}", "less", "share of samples farther than that from the support", block)
    yield Kind("off_support_nn99", "less", "share of samples farther from real points than 99 % of these", block)
    for name, part in (("coverage_{tau}", "a component's bins"), ("coverage_k5", "a component's points")):
        yield Kind(f"{name}_min", "more", f"covered share of {part}, the least of all components", block)
        yield Kind(f"{name}_mean", "more", f"covered share of {part}, the mean over components", block)
        yield Kind(f"{name}_component_{{k}}", "more", f"covered share of {part}", None)
    block = "modes"
    yield Kind("high_quality_3sd", AS_REAL, "share of samples within 3 standard deviations of a mode", block)
    yield Kind("modes_covered_3sd", "more", "modes with a sample within 3 standard deviations", block)
    yield Kind("modes_of_1000", "more", "triples of digits among the samples", block)
    yield Kind("mode_kl_nats", "less", "KL divergence of samples to data over triples of digits", block)
    block = "masses"
    for suffix in ("", "_nn1"):
        yield Kind(f"jsd_nats{suffix}", "less", "Jensen-Shannon divergence of the components' masses", block)
        yield Kind(f"mass_tv{suffix}", "less", "total variation of the components' masses", block)
        yield Kind(f"mode_mass{suffix}_{{k}}", None, "share of samples in a component", None)
    yield Kind("prior_tv", "less", "total variation of the learned prior, by component", block)
    yield Kind("prior_error_max", "less", "largest error of the learned prior, by component", block)
    yield Kind("active_generators", None, "generators with more than 1 % of the prior (of K > 50: than 1 / 2K)", block)
    block = "distances"
    yield Kind("energy_distance_root", "less", "root of the energy distance", block)
    yield Kind("sliced_wasserstein_2", "less", "sliced 2-Wasserstein distance", block)
    yield Kind("wasserstein_2_{n}", "less", "2-Wasserstein distance", block)
    yield Kind("mmd2_{n}", "less", "squared maximum mean discrepancy, unbiased", block, signed=True)
    for name, of in (("classifier", "the classifier"), ("inception", "Inception"), ("dinov2", "DINOv2")):
        fd, kid = ("fid", "kid") if name == "inception" else (f"fd_{name}", f"kid_{name}")
        yield Kind(f"{fd}_{{n}}", "less", f"squared Fréchet distance of {of}'s features", block)
        yield Kind(f"{kid}_{{n}}", "less", f"cubic kernel's squared discrepancy of {of}'s features", block, signed=True)
        yield Kind(f"cmmd_form_{name}_{{n}}", "less", f"Gaussian kernel's discrepancy of {of}'s features", block)
    block = "shape"
    yield Kind("components_found", AS_REAL, "components of the samples, by their barcode", block)
    yield Kind("components_found_real", None, "components of the real points, by their barcode", None)
    yield Kind("diagram0_w1_{n}", "less", "1-Wasserstein distance of the barcodes", block)
    yield Kind("mtop_div_{b}_{n}", "less", "Manifold Topology Divergence", block)
    block = "fidelity and variety"
    for suffix in ("", "_classifier", "_inception", "_dinov2"):
        yield Kind(f"precision_k3{suffix}", "more", "share of samples in a ball of a real point", block)
        yield Kind(f"recall_k3{suffix}", "more", "share of real points in a ball of a sample", block)
        yield Kind(f"density_k5{suffix}", 1.0, "real balls that a sample is in, over 5", block)
        yield Kind(f"coverage_k5{suffix}", "more", "share of real balls with a sample", block)
    yield Kind("acceptance_rate", "more", "share of proposals that the rejection sampler keeps", block)
    block = "classes"
    yield Kind("jsd_nats_conf0.8", "less", "Jensen-Shannon divergence of the classes of sure samples", block)
    yield Kind("confident_0.8", AS_REAL, "share of samples whose class is sure", block)
    yield Kind("jsd_nats_argmax", "less", "Jensen-Shannon divergence of the argmax classes", block)
    yield Kind("mass_tv_argmax", "less", "total variation of the argmax classes", block)
    yield Kind("quality_0.9", AS_REAL, "share of samples with max softmax of .9 or more", block)
    yield Kind("purity", "more", "share of samples in the class of most of their generator's", block)
    block = "variety within classes"
    yield Kind("msd_ratio_min", 1.0, "variety over that of real images, the least of all classes", block)
    yield Kind("msd_ratio_max", 1.0, "variety over that of real images, the greatest of all classes", block)
    yield Kind("msd_ratio_class_{k}", 1.0, "variety over that of real images", None)
    yield Kind("msd_class_{k}", AS_REAL, "mean squared geodesic distance within a class", None)
    yield Kind("msd_images_class_{k}", None, "samples of a class that were measured", None)
    yield Kind("msd_unreachable_max", AS_REAL, "share of pairs without a path, the greatest of all classes", block)
    yield Kind("msd_unreachable_class_{k}", AS_REAL, "share of pairs of a class without a path", None)
    block = "copies of training points"
    yield Kind("memorized_q0.05", 0.05, "share of samples nearer to a training point than 5 % of real ones", block)
    yield Kind("closer_than_test", 0.5, "probability that a sample is nearer than a real point", block)


KINDS = tuple(_kinds())
"""of the package's metrics, in the order of tables"""


def kind_of(name: str) -> Kind | None:
    """What is known of the metric `name`; None for one that is neither the package's nor registered here.

    A registered function says by an attribute `better` which values are better, if it has one (see `Better`).
    """
    for kind in KINDS:
        if kind.pattern.fullmatch(name):
            return kind
    for entry in METRICS.entries():
        if entry.name == name:
            return Kind(name, _better(entry.value), entry.about, FURTHER)
    return None


def _better(function: object) -> Better:
    """What a registered metric says of itself; None if it says nothing, or what is no direction."""
    better = getattr(function, "better", None)
    if better in ("less", "more", AS_REAL):
        return better
    return float(better) if isinstance(better, (int, float)) and not isinstance(better, bool) else None


def direction(name: str) -> str:
    """`Kind.direction` of the metric `name`; `-` too where nothing is known of it."""
    kind = kind_of(name)
    return "-" if kind is None else kind.direction


def is_detail(name: str) -> bool:
    """Whether the metric `name` is of one component or class, of which there may be dozens: too many for a table or for
    panels. Their least, greatest or mean is a metric of its own."""
    return DETAIL.search(name) is not None


def by_block(names: Iterable[str]) -> dict[str, list[str]]:
    """Those of the metrics `names` that tables show, by their blocks, in the order of `KINDS`; unknown ones last."""
    blocks: dict[str, list[str]] = {kind.block: [] for kind in KINDS if kind.block is not None}
    for name in names:
        kind = kind_of(name)
        block = FURTHER if kind is None else kind.block
        if block is not None and not is_detail(name):
            blocks.setdefault(block, []).append(name)
    return {block: named for block, named in blocks.items() if named}
