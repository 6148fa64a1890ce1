"""The configuration of one run: all sections together, and the folder it writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from toposampler.config import (
    ClusterConfig,
    Folder,
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
from toposampler.keys import may, may_resume
from toposampler.reader import read_yaml
from toposampler.registry import OneOf
from toposampler.systems import PAGES, SystemConfig

if TYPE_CHECKING:
    AnyData = DataConfig
    AnySystem = SystemConfig
else:
    AnyData = Annotated[DataConfig, OneOf(SETS)]
    AnySystem = Annotated[SystemConfig, OneOf(PAGES)]


STANDARDISED = ("npy",)
"""names of the data that were there before `data.standardise`, and are standardised since unless told otherwise"""


class RunConfig(Section):
    """One training run."""

    name: str = Field(json_schema_extra=may(resume=True))
    """name of the run: its folder below `output`, and its name in MLflow; the same name resumes"""
    output: Folder = Field("runs", json_schema_extra=may(resume=True))
    """folder that holds the runs"""
    seed: Seed = Field(0, json_schema_extra=may(branch=True))
    """seed of the initialisation, the noise and the order of the data"""
    data: AnyData
    system: AnySystem = Field(json_schema_extra=may(search=True))
    training: TrainingConfig = TrainingConfig()
    cluster: ClusterConfig = Field(ClusterConfig(), json_schema_extra=may(resume=True))
    tracking: TrackingConfig = Field(TrackingConfig(), json_schema_extra=may(resume=True))

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        return folder_name(name, "run")

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
        most = self.cluster.num_workers
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
            f"training.batch_size ({size}) must be a multiple of {pack * workers}: the critic judges packs of {pack} "
            f"samples (system.n_packed){shared}"
        )
    if config.system.couples_samples and workers > 1:
        return (
            f"this system normalises over its batch, which {workers} workers would cut apart: "
            "set cluster.num_workers 1, or system.encoder_norm none"
        )
    if config.cluster.placement == "sharded" and not config.system.asks_the_data and workers > config.system.K:
        return (
            f"cluster.placement sharded: {config.system.K} generators cannot live on {workers} workers; set "
            f"cluster.num_workers to {config.system.K} or less"
        )
    return None


def check_workers(config: RunConfig, workers: int) -> None:
    """Raises UserError unless `workers` processes, as many as there really are, can share the work of the run."""
    if fault := _too_many_workers(config, workers):
        raise UserError(fault)


def run_folder(config: RunConfig) -> Path:
    """The folder the run writes to, absolute: workers have another working folder than the driver."""
    return Path(config.output).absolute() / config.name


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in the YAML file `path` with `--key value` overrides. Raises UserError naming what is wrong."""
    content = merge_overrides(read_yaml(Path(path)), parse_overrides(overrides))
    try:
        return as_begun(validate(RunConfig, content))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def of_earlier_version(content: Mapping[str, Any]) -> dict[str, Any]:
    """The stored `content` of a RunConfig with what a key says that was not there when it was stored.

    Points of one's own were not standardised before `data.standardise` was.
    """
    data = content.get("data")
    if not isinstance(data, Mapping) or data.get("name") not in STANDARDISED:
        return dict(content)
    return {**content, "data": {"standardise": False, **data}}


def stored_config(folder: Path) -> RunConfig:
    """The configuration that the run in `folder` was begun with. Raises UserError as `load_config`."""
    path = folder / "config.yaml"
    try:
        return validate(RunConfig, of_earlier_version(read_yaml(path)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def as_begun(config: RunConfig) -> RunConfig:
    """`config`; where it leaves `data.standardise` open, and its run was begun before there was that key, without it.

    So the command that a run was begun with still goes on with it.
    """
    path, key = run_folder(config) / "config.yaml", "standardise"
    if config.data.name not in STANDARDISED or key in config.data.model_fields_set or not path.is_file():
        return config
    if key in (read_yaml(path).get("data") or {}):
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={key: False})})


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """One line, `key: old -> new`, for each key that must not change when a run is resumed.

    What may change: where the run works, where it is recorded, what it is called (its folder may have been renamed or
    copied), and where the same data lies; see `toposampler.keys`.
    """
    before, after = (flatten(config.model_dump(mode="json")) for config in (old, new))
    absent = "(absent)"
    return [
        f"{key}: {before.get(key, absent)} -> {after.get(key, absent)}"
        for key in {**before, **after}
        if before.get(key, absent) != after.get(key, absent) and not may_resume(new if key in after else old, key)
    ]
