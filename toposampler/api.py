"""`toposampler.fit`: a generative model of an array, a table or a file, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from toposampler.config import flatten, merge_overrides, validate
from toposampler.data import Dataset, describe
from toposampler.data.array import keep
from toposampler.data.arrays import dataset_of, number_labels
from toposampler.data.reading import read_object
from toposampler.data.tables import Arrays, as_labels
from toposampler.errors import UserError
from toposampler.fitted import Fitted, Form
from toposampler.lookup import fetch_initial
from toposampler.nn.custom import Networks
from toposampler.storage import is_address
from toposampler.training.config import RunConfig, run_folder
from toposampler.training.entry import train
from toposampler.training.model import load_model
from toposampler.training.networks import given_or_named
from toposampler.training.run import check

POINTS_STEPS, IMAGES_STEPS = 4000, 8000
"""generator steps of a fit of points and of images, unless set otherwise"""
LOOKS = 4
"""checkpoints of a fit"""
JUDGED = (1000, 5000)
"""least and most samples that a fit is evaluated by; between, as many as there are data"""
SYSTEM = "component_gan"
"""what fits data, unless another system is named"""
WIDE = 128
"""the critic's width in Component GAN's preset for points (`configs/*_component_gan.yaml`)"""


def fit(
    data: Any,
    system: str | None = None,
    generator: Any = None,
    critic: Any = None,
    output: str | Path | None = None,
    seed: int = 0,
    init_from: str | Path | None = None,
    **overrides: Any,
) -> Fitted:
    """Train a generative model of `data` in this process, and return it. Progress is shown on stderr.

    Component GAN finds the number of generators, their places and their mixture weights in the data: components that
    gaps separate, and where images have no gap, communities of their neighbor graph (docs/component_gan.md). Its
    generators of images start as Gaussian mixtures, and are left as they start, unless `system__game="always"`,
    networks or a model to begin with are given. The result says what was found, how sure that is, and what speaks
    against it.

    Points are standardized on the way in, and samples come back in the units of the data. Nothing is overwritten: each
    call gets a folder of its own in `output`, `fit`, `fit-2` and so on. Under a `name` of your own, a run that was cut
    short resumes when it is called again with the same data and configuration, and other ones are refused.

    Args:
        data: points (N, d) or images, as a NumPy array, a torch tensor, a list of lists, a pandas or Arrow table with
            columns of numbers, or a dict of x and labels; or the path of a .npy, .npz, .csv, .parquet or .pt file, or
            of a folder of images. Objects are kept in the run's folder, up to a GiB.
        system: the method, by its name; default: `component_gan`.
        generator: the network in place of the system's own: a module or a function (shape, latent_dim) to a module, of
            which each generator is a fresh copy; the name of a family; or `module:function`.
        critic: the same for the critic's trunk: a module, a function (shape) to a module, or a name. Component GAN's
            critic is also given the component, as one more column each: a function fits any number of them.
        output: the folder that holds runs; default: `runs`.
        seed: of the initialization, the noise and the order of the data.
        init_from: a trained model of the same networks to begin with: the folder of a run or of another fit, a
            checkpoint, a model directory, or its address on MLflow.
        overrides: any key of a configuration, with `__` for each dot (`training__generator_steps=2000`), or in a dict
            (`**{"system.n_generators": 20}`). `data__labels` may also be the labels themselves.

    Raises UserError, before training, for data or a configuration that cannot be used, and TrainingStoppedError if
    training diverges.
    """
    if output is not None and is_address(output):
        raise UserError(f"output {output}: toposampler.fit keeps data and model in a folder of this machine")
    asked = flatten({key.replace("__", "."): value for key, value in overrides.items()})
    asked |= {f"system.{key}_network": n for key, n in (("generator", generator), ("critic", critic)) if _named(n)}
    asked |= {} if init_from is None else {"init_from": str(init_from)}
    if asked.get("seeds") is not None:
        raise UserError("seeds: fit returns one model; call it for each seed, or toposampler.train for all at once")
    networks = Networks(*(None if _named(network) else network for network in (generator, critic)))
    content, arrays = _content(data, system or asked.get("system.name", SYSTEM), output, seed), None
    if not _is_path(data):
        arrays = _arrays(data, asked.pop("data.labels", None))
    dataset = _load(validate(RunConfig, merge_overrides(content, asked)), arrays, data)
    steps = asked.get("training.generator_steps", POINTS_STEPS if len(dataset.shape) == 1 else IMAGES_STEPS)
    config = validate(RunConfig, merge_overrides(content, {"training.generator_steps": steps, **asked}))
    chosen = {key: value for key, value in _constants(config, dataset, networks).items() if key not in asked}
    config = validate(RunConfig, merge_overrides(content, {"training.generator_steps": steps, **chosen, **asked}))
    config, networks = given_or_named(config, networks)
    fetch_initial(config, dataset, networks)
    if arrays is not None:
        config = _kept(config, dataset, arrays, networks)
    result = train(config, dataset=dataset, networks=networks)
    assert result is not None  # as this is the only process
    model = load_model(run_folder(config), networks=networks)
    columns = None if arrays is None else arrays.columns
    return Fitted(run_folder(config), model, result, describe(dataset)[0], columns, _form(data))


def _named(network: Any) -> bool:
    return isinstance(network, str)


def _is_path(data: Any) -> bool:
    return isinstance(data, (str, Path))


def _form(data: Any) -> Form:
    """In what form samples are wanted."""
    package = type(data).__module__.partition(".")[0]
    return "pandas" if package == "pandas" else "arrow" if package == "pyarrow" else "numpy"


def _content(data: Any, system: str, output: str | Path | None, seed: int) -> dict[str, Any]:
    """The configuration, as far as the arguments say it."""
    runs = Path(RunConfig.model_fields["output"].default if output is None else output)
    section: dict[str, Any] = {"name": "array", "path": "data.npz"}
    if _is_path(data):
        images = Path(data).is_dir() and Path(data).suffix.lower() != ".parquet"
        section = {"name": "folder" if images else "npy", "path": str(Path(data).absolute())}
    names = ("fit" if i == 1 else f"fit-{i}" for i in range(1, 10**6))
    name = next(name for name in names if not (runs / name).exists())
    return {"name": name, "output": str(runs), "seed": seed, "data": section, "system": {"name": system}}


def _arrays(data: Any, labels: Any) -> Arrays:
    """The object `data`, with `labels`: a column's name, or the labels themselves."""
    if labels is None or isinstance(labels, str):
        arrays = read_object(data, labels)
    else:
        arrays = replace(read_object(data), labels=as_labels(np.asarray(labels)))
    if arrays.labels is None:
        return arrays
    numbered = number_labels(arrays.labels, len(arrays.x), "labels")
    return replace(arrays, labels=numbered.numpy())


def _load(config: RunConfig, arrays: Arrays | None, data: Any) -> Dataset:
    """The data set of `config`, whose objects are `arrays`."""
    if arrays is None:
        return config.data.load()
    standardize: bool = getattr(config.data, "standardize", False)
    return dataset_of(f"data of type {type(data).__name__}", arrays.x, arrays.labels, "labels", standardize)


def _constants(config: RunConfig, dataset: Dataset, networks: Networks) -> Mapping[str, Any]:
    """What a fit of so many steps needs otherwise than a run of the default length."""
    steps = config.training.generator_steps
    least, most = JUDGED
    constants: dict[str, Any] = {
        "training.checkpoint_every": max(1, steps // LOOKS),
        "training.evaluate_every": steps,
        "training.log_every": max(1, min(50, steps // 20)),
        "training.evaluation_samples": min(max(least, len(dataset.x)), most),
    }
    if config.system.name == SYSTEM:
        given = (networks.generator, networks.critic) != (None, None) or config.init_from is not None
        named = {config.system.generator_network, config.system.critic_network} != {"default"}
        starts = getattr(config.system, "fitted_start", True)
        if len(dataset.shape) > 1:
            if starts and not (given or named):  # else the networks are what is asked for
                constants["system.game"] = "never"
        elif networks.critic is None and config.system.critic_network == "default":
            constants["system.critic_width"] = WIDE
    prior = getattr(config.system, "prior", None)
    if prior is not None and getattr(prior, "entropy_schedule", None) == "exponential":
        constants["system.prior.entropy_decay"] = min(prior.entropy_decay, prior.decay_that_fits(steps))
    return constants


def _kept(config: RunConfig, dataset: Dataset, arrays: Arrays, networks: Networks) -> RunConfig:
    """`config` with its data in the run's folder, where they are kept unless they are there already.

    Raises UserError if the folder holds other data, or another run.
    """
    path = run_folder(config) / "data.npz"
    config = config.model_copy(update={"data": config.data.model_copy(update={"path": path})})
    check(config, dataset, networks)
    if path.exists():
        if config.data.load().digest() != dataset.digest():
            raise UserError(f"{run_folder(config)} holds a run on other data: give another name")
        return config
    try:
        keep(arrays, path)
    except OSError as error:
        raise UserError(f"output: the data cannot be written to {path}: {error.strerror or error}") from None
    return config
