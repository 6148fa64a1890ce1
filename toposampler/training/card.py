"""The model card of a model directory: README.md in Hugging Face's form, for people and for hubs.

The card is no part of the model: it is not in the manifest, so that whoever publishes a model may edit it, and nothing
reads it when the model is loaded. The form is that of https://huggingface.co/docs/hub/model-cards: a header in YAML
with the metrics as a `model-index`, then Markdown. Whatever a user or another package has named is escaped.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from torch import Tensor

from toposampler.metrics.catalog import by_block, direction, kind_of
from toposampler.metrics.masses import active, least_active
from toposampler.training.config import RunConfig
from toposampler.training.manifest import SAMPLES, OwnNetwork

CARD = "README.md"
_KNOWN = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0
cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0
etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 h-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c
mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 open-mdw openrail openrail++ osl-3.0 pddl postgresql unlicense wtfpl
zlib
"""
LICENSES = frozenset(_KNOWN.split())
"""identifiers that hubs know; of another license the card gives the name"""
NAMED = 32
"""generators that have a row of their own, at most: those with the most mass"""
SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$&])")
"""what Markdown or HTML could read as more than itself, in the middle of a line"""


@dataclass(frozen=True)
class Value:
    """A metric of the model."""

    value: float
    interval: tuple[float, float] | None = None
    """of 95 %; None: of a single draw none is known"""


@dataclass(frozen=True)
class Measured:
    """How good a model is, and by which protocol that was found."""

    metrics: Mapping[str, Value]
    """by name"""
    samples: int
    """of the model in each draw, compared with as many real ones, or all if there are fewer"""
    seed: int
    """of the first draw"""
    draws: int = 1
    """a value is the mean over them"""


@dataclass(frozen=True)
class Described:
    """What a card tells of a model."""

    config: RunConfig
    step: int
    """generator steps it was trained for"""
    shape: tuple[int, ...]
    """of one sample"""
    data: str
    """SHA-256 of the data"""
    samples: int | None
    """that it was trained on; None: an earlier version did not record the number"""
    prior: Tensor | None
    """(K,) masses of the generators; None: there is one generator"""
    license: str | None
    measured: Measured | None
    """None: it was not evaluated"""
    standardized: bool
    """whether it was trained on standardized points; its samples are in the user's units in any case"""
    networks: Mapping[str, OwnNetwork] = field(default_factory=dict)
    """by role, those that are not the package's"""

    @property
    def images(self) -> bool:
        """Whether samples are images (C, H, W)."""
        return len(self.shape) == 3


def model_card(model: Described) -> str:
    """The content of the README.md of a model directory."""
    header = yaml.safe_dump(_header(model), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{header}---\n\n" + "\n".join(_body(model)) + "\n"


def escaped(text: str) -> str:
    """`text` as one line of Markdown that reads as it is written."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return SPECIAL.sub(r"\\\1", line)


def _header(model: Described) -> dict[str, Any]:
    config = model.config
    arxiv = [f"arxiv:{number}" for number in re.findall(r"arXiv (\d{4}\.\d{4,5})", _paper(model)[1])]
    header: dict[str, Any] = {"library_name": "toposampler"}
    header |= {"pipeline_tag": "unconditional-image-generation"} if model.images else {}
    header |= _license(model.license)
    several = ["mixture-of-generators"] if model.prior is not None else []
    header["tags"] = ["toposampler", "gan", "disconnected-manifold", *several, config.system.name, *arxiv]
    if model.measured is not None and (metrics := list(_index(model.measured))):
        task = "unconditional-image-generation" if model.images else "point-generation"
        dataset = {"name": config.data.name, "type": config.data.name, "args": {"sha256": model.data}}
        result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
        header["model-index"] = [{"name": config.name, "results": [result]}]
    return header


def _license(license: str | None) -> dict[str, str]:
    if license is None:
        return {}
    known = license.lower()
    return {"license": known} if known in LICENSES else {"license": "other", "license_name": license}


def _index(measured: Measured) -> Iterator[dict[str, Any]]:
    """The metrics of the `model-index`: those that tables show, and that are numbers, each with its protocol."""
    for name in _shown(measured):
        found = measured.metrics[name]
        about: dict[str, Any] = {"samples": measured.samples, "draws": measured.draws, "seed": measured.seed}
        about["better"] = direction(name)
        about |= {} if found.interval is None else {"interval_95": list(found.interval)}
        yield {"type": name, "name": name, "value": found.value, "args": about}


def _shown(measured: Measured) -> list[str]:
    finite = [name for name, found in measured.metrics.items() if math.isfinite(found.value)]
    return [name for names in by_block(finite).values() for name in names]


def _paper(model: Described) -> tuple[str, str]:
    """The title of the system's module, and its next paragraph, which cites the paper."""
    module = inspect.getmodule(type(model.config.system))
    title, *rest = ((module and inspect.getdoc(module)) or model.config.system.name).split("\n\n")
    text = " ".join(rest[0].split()) if rest and not rest[0].lstrip().startswith("|") else ""
    return " ".join(title.split()).rstrip("."), text


def _body(model: Described) -> Iterator[str]:
    config, (title, text) = model.config, _paper(model)
    yield from (f"# {escaped(config.name)}", "")
    what = "images" if model.images else "points"
    yield f"A generative model of {what} on disconnected manifolds, trained with toposampler."
    yield from ("", f"![Samples of this model]({SAMPLES})", "")
    yield from ("## How to load", "", *_loading(model), "")
    yield from ("## What it was trained on", "", *_data(model), "")
    yield from ("## System", "", f"`{config.system.name}`: {escaped(title)}.")
    if text:
        yield from ("", escaped(text))
    yield from ("", f"It was trained for {model.step:,} generator steps, with seed {config.seed}.", "")
    yield from ("## Generators", "", *_generators(model), "")
    yield from ("## Metrics", "", *_metrics(model.measured), "")
    yield from ("## Limits", "", *(f"- {limit}" for limit in _limits(model)))


def _loading(model: Described) -> Iterator[str]:
    names = [network.name for network in model.networks.values()]
    given = f", networks={names!r}" if names else ""
    yield from ("In this folder:", "", "```python", "import toposampler", f'model = toposampler.load("."{given})')
    yield from ("samples, generators = model.sample(1000, seed=0)", "```", "")
    of = "images in \\[-1, 1\\]" if model.images else "points in the units of the data"
    shape = ", ".join(map(str, model.shape))
    yield f"`samples` are {of}, of shape (1000, {shape}); `generators` says which generator made each."
    yield "Loading runs no code of this folder: weights are safetensors, and every file is checked by its SHA-256."


def _data(model: Described) -> Iterator[str]:
    kind = "images" if model.images else "points"
    number = f"{model.samples:,} {kind}" if model.samples is not None else f"{kind} (their number was not recorded)"
    shape = " x ".join(map(str, model.shape))
    yield f"- Data: {escaped(model.config.data.name)}, {number} of shape {shape}"
    yield f"- SHA-256 of the data: `{model.data}`"
    if model.standardized:
        yield "- Each column was standardized for training; samples are in the units of the data."


def _generators(model: Described) -> Iterator[str]:
    if model.prior is None:
        yield "One generator makes all samples."
        return
    used = active(model.prior)
    least = least_active(len(model.prior))
    yield f"{int(used.sum())} of {len(model.prior)} generators are active (mass above {least:.2g}):"
    yield from ("", "| generator | mass |", "|---|---|")
    order = [k for k in model.prior.argsort(descending=True, stable=True).tolist() if used[k]]
    yield from (f"| {k} | {float(model.prior[k]):.4f} |" for k in order[:NAMED])
    if len(order) > NAMED:
        rest = float(model.prior[order[NAMED:]].sum())
        yield f"| {len(order) - NAMED} others | {rest:.4f} |"


def _metrics(measured: Measured | None) -> Iterator[str]:
    if measured is None:
        yield "This model was not evaluated."
        return
    several = measured.draws > 1
    how = f"the mean over {measured.draws} draws, with Student's 95 % interval" if several else "one draw, no interval"
    yield f"Of {measured.samples:,} samples against as many real ones, or all if there are fewer: {how}; the first"
    yield f"seed is {measured.seed}. The definitions are in docs/metrics.md of toposampler."
    yield from ("", "| metric | value | 95 % interval | better | meaning |", "|---|---|---|---|---|")
    for name in _shown(measured):
        found, kind = measured.metrics[name], kind_of(name)
        ends = "-" if found.interval is None else "{:.4g} to {:.4g}".format(*found.interval)
        meaning = "-" if kind is None else escaped(kind.meaning)
        yield f"| {escaped(name)} | {found.value:.5g} | {ends} | {direction(name)} | {meaning} |"


def _limits(model: Described) -> Iterator[str]:
    yield "It reproduces the data named above, with their biases and gaps, and knows nothing else."
    if model.measured is not None:
        yield "Real samples in the metrics are of the data that it was trained on; none were held out."
        if model.measured.draws == 1:
            yield "They are of one trained model and one draw: the spread over seeds is not known from them."
    if model.prior is None:
        yield (
            "Where its latents are connected, so is the set that one generator reaches: of data with several "
            "components some samples then lie between them."
        )
    if model.networks:
        names = ", ".join(escaped(str(network)) for network in model.networks.values())
        yield f"Its networks are not toposampler's and not in this folder: {names}."
    if model.license is None:
        yield "Its owner has named no license."
