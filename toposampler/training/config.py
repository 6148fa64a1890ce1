"""The configuration of one run: all sections together, and the folder it writes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    field_serializer,
    field_validator,
    model_validator,
)

from toposampler.config import (
    ClusterConfig,
    Section,
    Seed,
    TrackingConfig,
    TrainingConfig,
    flatten,
    folder_name,
    merge_overrides,
    parse_overrides,
    validate,
)
from toposampler.data import SETS, DataConfig
from toposampler.errors import UserError
from toposampler.files import REGISTERED, local_path
from toposampler.keys import may, may_lengthen, may_resume, with_new_names
from toposampler.reader import read_yaml
from toposampler.registry import OneOf
from toposampler.storage import WorkedOn, address_of, is_address, output_place
from toposampler.systems import SYSTEM_CLASSES, SystemConfig

if TYPE_CHECKING:
    AnyData = DataConfig
    AnySystem = SystemConfig
else:
    AnyData = Annotated[DataConfig, OneOf(SETS)]
    AnySystem = Annotated[SystemConfig, OneOf(SYSTEM_CLASSES)]


def _model_place(place: str) -> str:
    """A model's address on MLflow as it is, a path absolute: a run keeps it, and may be resumed from elsewhere."""
    return place if place.startswith(REGISTERED) else str(Path(local_path(place)).absolute())


Model = Annotated[str, Field(min_length=1), AfterValidator(_model_place)]
"""what names a trained model"""


Output = Annotated[str, AfterValidator(output_place)]
"""a folder that all machines see, or the address of one in a storage that they reach"""


def _how_many_or_which(seeds: Any) -> Any:
    is_number = isinstance(seeds, int) and not isinstance(seeds, bool)
    if is_number and 1 <= seeds <= MAX_SEEDS:
        return seeds
    if isinstance(seeds, list | tuple) and 1 <= len(seeds) <= MAX_SEEDS:
        return [TypeAdapter(Seed).validate_python(seed, strict=True) for seed in seeds]
    raise ValueError(f"how many seeds, 1 to {MAX_SEEDS:,}, or a list of them, such as [0, 1, 2]")


MAX_SEEDS = 10_000
Seeds = Annotated[int | list[int], BeforeValidator(_how_many_or_which)]

EARLIER: tuple[tuple[Literal["data", "system"], str, str, Any], ...] = (
    ("data", "npy", "standardize", False),
    ("system", "component_gan", "game", "always"),
    ("system", "component_gan", "start_normals", 0),
)
"""section, its name, a key that came later, and what runs from before it did: not its default of today"""


class RunConfig(Section):
    """One training run."""

    name: str = Field(json_schema_extra=may(resume=True))
    """name of the run: its folder below `output`, and its name in MLflow; the same name resumes"""
    output: Output = Field("runs", json_schema_extra=may(resume=True))
    """folder that holds the runs: one that all machines see, or s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, file:///FOLDER"""
    seed: Seed = Field(0, json_schema_extra=may(branch=True))
    """seed of the initialization, the noise and the order of the data"""
    seeds: Seeds | None = Field(None, json_schema_extra=may(resume=True))
    """train with several seeds at once, a run for each, in a folder seed-N: so many from `seed` on, or those of a list;
    default: `seed` alone"""
    init_from: Model | None = Field(None, json_schema_extra=may(branch=True))
    """begin with a trained model: a run's folder, a checkpoint, a model directory, or models:/NAME@alias,
    models:/NAME/VERSION, runs:/RUN_ID; default: with fresh weights"""
    init_state: Literal["weights", "full"] = Field("weights", json_schema_extra=may(branch=True))
    """what of that model: weights: those of its networks, for a new training on these or other data; full: all that its
    checkpoint holds, so that its training continues under this name, to a length of its own"""
    data: AnyData
    system: AnySystem = Field(json_schema_extra=may(search=True))
    training: TrainingConfig = TrainingConfig()
    cluster: ClusterConfig = Field(ClusterConfig(), json_schema_extra=may(resume=True))
    tracking: TrackingConfig = Field(TrackingConfig(), json_schema_extra=may(resume=True))

    @field_serializer("output", when_used="json")
    def _written_as_its_address(self, output: str) -> str:
        return address_of(output) or output

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        return folder_name(name, "run")

    @model_validator(mode="after")
    def _full_state_is_of_a_model(self) -> Self:
        if self.init_state == "full" and self.init_from is None:
            raise ValueError("init_state full: init_from names the model whose training continues, and it is not given")
        return self

    @model_validator(mode="after")
    def _graphs_are_of_a_gpu(self) -> Self:
        if self.training.graph is True and not self.cluster.use_gpu:
            raise ValueError(
                "training.graph true captures iterations as CUDA graphs, and this run computes on a CPU: set "
                "cluster.use_gpu true where there is a GPU, or training.graph auto"
            )
        return self

    @model_validator(mode="after")
    def _seeds_are_runs(self) -> Self:
        if self.seeds is None:
            return self
        seeds = seeds_of(self)
        if repeated := [seed for seed, times in Counter(seeds).items() if times > 1]:
            raise ValueError(f"seeds: {repeated[0]} is given twice, and would be one run: leave one of them out")
        if max(seeds) >= 2**32:
            raise ValueError(f"seeds: {self.seeds} of them from {self.seed} on; the last must be less than 4294967296")
        if self.cluster.num_workers > len(seeds):
            raise ValueError(
                f"cluster.num_workers ({self.cluster.num_workers}) is more than the {len(seeds)} seeds: with `seeds` "
                "every worker trains some of the runs, and one would have nothing to do"
            )
        if self.cluster.placement == "sharded" or self.cluster.min_workers is not None:
            key = "cluster.min_workers" if self.cluster.min_workers is not None else "cluster.placement sharded"
            raise ValueError(f"{key} is for the workers of one run; with `seeds` each run has one worker: leave it out")
        if self.cluster.num_workers > 1 and address_of(self.output) is not None:
            raise ValueError(
                f"output {self.output}: with `seeds` several workers see each other's results in a folder only; set "
                "cluster.num_workers 1, or give a folder that all machines see"
            )
        for key in ("profile", "evaluate_beside"):
            if getattr(self.cluster, key):
                raise ValueError(f"cluster.{key} is of one run: leave it out, or `seeds`")
        return self

    @model_validator(mode="after")
    def _work_can_be_shared(self) -> Self:
        size = self.training.batch_size
        if size < self.system.least_batch:
            raise ValueError(
                f"training.batch_size ({size}) is too small: this system needs at least {self.system.least_batch} "
                "samples, one more than the bars it compares (system.topology_bars)"
            )
        if self.cluster.placement == "sharded" and not self.system.has_ensemble:
            raise ValueError(
                f"cluster.placement sharded needs a system with an ensemble of generators, and {self.system.name} has "
                "one network: set cluster.placement replicated"
            )
        most = self.cluster.num_workers if self.seeds is None else 1
        for workers in (most, *range(self.cluster.min_workers or most, most)):
            if fault := _too_many_workers(self, workers):
                raise ValueError(fault)
        return self


def _too_many_workers(config: RunConfig, workers: int) -> str | None:
    """Why so many workers cannot share the work of a run; None if they can."""
    size = config.training.batch_size
    if size < workers:
        return (
            f"training.batch_size ({size}) is less than cluster.num_workers ({workers}): the workers share the global "
            "batch, and one of them would have nothing to do"
        )
    pack = config.system.pack_size
    if pack > 1 and size % (pack * workers):
        shared = (
            "" if workers == 1 else f", and {workers} workers share them whole (cluster.min_workers to num_workers)"
        )
        return (
            f"training.batch_size ({size}) must be a multiple of {pack * workers}: the critic scores packs of {pack} "
            f"samples (system.n_packed){shared}"
        )
    if config.system.couples_samples and workers > 1:
        return (
            f"this system normalizes over its batch, which {workers} workers would cut apart: "
            "set cluster.num_workers 1, or system.encoder_norm none"
        )
    if config.cluster.placement == "sharded" and not config.system.asks_the_data and workers > config.system.K:
        return (
            f"cluster.placement sharded: {config.system.K} generators cannot live on {workers} workers; set "
            f"cluster.num_workers to {config.system.K} or less"
        )
    return None


def seeds_of(config: RunConfig) -> list[int]:
    """The seeds that `config` trains with."""
    if config.seeds is None:
        return [config.seed]
    return config.seeds if isinstance(config.seeds, list) else [config.seed + i for i in range(config.seeds)]


def check_workers(config: RunConfig, workers: int) -> None:
    """Raises UserError unless `workers` processes, as many as there really are, can share the work of the run."""
    if fault := _too_many_workers(config, workers):
        raise UserError(fault)


def run_folder(config: RunConfig) -> Path:
    """The folder the run writes to, absolute: workers have another working folder than the driver.

    Of a run at an address (`toposampler.storage`) it is the one that `toposampler.training.mirror` works in.
    """
    assert not is_address(config.output), f"{config.output} is worked on in a folder: training.mirror"
    return Path(config.output).absolute() / config.name


def run_address(config: RunConfig) -> str | None:
    """The run's address in a storage; None: it is a folder."""
    address = address_of(config.output)
    return None if address is None else f"{address}/{config.name}"


def as_known(config: RunConfig, path: Path | None = None) -> str:
    """The run's folder, or `path` in it, by the name that its user knows: its address, if it has one."""
    address = run_address(config)
    if address is None:
        return str(path or run_folder(config))
    return address if path is None else f"{address}/{path.relative_to(run_folder(config)).as_posix()}"


def in_run(config: RunConfig) -> str:
    """The `output` of runs that lie in the folder of `config`."""
    address, folder = run_address(config), str(run_folder(config))
    return folder if address is None else WorkedOn(folder, address)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in the YAML file `path` with `--key value` overrides. Raises UserError naming what is wrong."""
    content = merge_overrides(read_yaml(Path(path)), parse_overrides(overrides))
    try:
        return as_begun(validate(RunConfig, content))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def of_earlier_version(content: Mapping[str, Any]) -> dict[str, Any]:
    """The stored `content` of a RunConfig with what keys of `EARLIER` say that were not there when it was stored."""
    content = dict(content)
    for section, name, key, value in EARLIER:
        part = content.get(section)
        if isinstance(part, Mapping) and part.get("name") == name:
            content[section] = {key: value, **with_new_names(part, [key])}
    return content


def stored_config(folder: Path) -> RunConfig:
    """The configuration that the run in `folder` was begun with. Raises UserError as `load_config`."""
    path = folder / "config.yaml"
    try:
        return validate(RunConfig, of_earlier_version(read_yaml(path)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def with_init(config: RunConfig, init_from: str | Path | None, init_state: str | None) -> RunConfig:
    """`config`, beginning with the model `init_from`, and with `init_state` of it, where they are given."""
    asked = {"init_from": None if init_from is None else str(init_from), "init_state": init_state}
    given = {key: value for key, value in asked.items() if value is not None}
    checked = validate(RunConfig, config.model_dump() | given) if given else config
    return config.model_copy(update={key: getattr(checked, key) for key in given})


def as_begun(config: RunConfig) -> RunConfig:
    """`config`; where it leaves a key of `EARLIER` open that its run was begun without, with the value of that time.

    So the command that a run was begun with still resumes it.
    """
    left = [
        (section, key, value)
        for section, name, key, value in EARLIER
        if (part := getattr(config, section)).name == name and key not in part.model_fields_set
    ]
    if not left or is_address(config.output):
        return config  # a run at an address was begun when there were these keys
    path = run_folder(config) / "config.yaml"
    try:
        begun = path.is_file()
    except OSError as error:
        raise UserError(f"output: {path} cannot be read: {error.strerror}") from None
    content = read_yaml(path) if begun else {}
    for section, key, value in left:
        if begun and key not in with_new_names(content.get(section) or {}, [key]):
            part = getattr(config, section).model_copy(update={key: value})
            config = config.model_copy(update={section: part})
    return config


def differences(old: RunConfig, new: RunConfig, longer: bool = False) -> list[str]:
    """One line, `key: old -> new`, for each key that must not change when a run is resumed.

    What may change: where the run works, where it is recorded, what it is called (its folder may have been renamed or
    copied), and where the same data lies; see `toposampler.keys`. With `longer` also its length, if it grows.
    """
    before, after = (flatten(config.model_dump(mode="json")) for config in (old, new))
    absent = "(absent)"
    return [
        f"{key}: {before.get(key, absent)} -> {after.get(key, absent)}"
        for key in {**before, **after}
        if before.get(key, absent) != after.get(key, absent) and not may_resume(new if key in after else old, key)
        if not (longer and may_lengthen(new, key) and after[key] > before[key])
    ]
