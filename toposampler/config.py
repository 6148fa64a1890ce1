"""What a configuration is made of: frozen sections, YAML plus dotted overrides, and exact error messages.

The sections every run has (`training`, `cluster`, `tracking`) are declared here. Each data set and each system
declares its own section in its own module; `toposampler.training.config.RunConfig` puts them together.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from toposampler.conversion import convert
from toposampler.errors import UserError
from toposampler.files import local_path
from toposampler.keys import may
from toposampler.reader import Scalar, read_argument
from toposampler.registry import OneOf, name_of
from toposampler.schedules import Schedule

MAX_FAULTS = 20
"""lines of one message"""
EXAMPLES = {
    "int_type": "input should be a valid integer, such as 64",
    "float_type": "input should be a valid number, such as 0.5 or 1e-4",
    "bool_type": "input should be true or false",
}
"""by pydantic's type of fault, what is right"""

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A frozen part of a configuration. Unknown keys are refused; every field carries its meaning: the docstring below
    it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_keys_want_it(cls, content: Any) -> Any:
        """A text for a text key, numbers for number keys; see `toposampler.conversion`.

        A section of which some keys are given has its own default's values in the others, not those of its class.
        """
        content = opened(content)
        if not isinstance(content, Mapping):
            return content
        fields = cls.model_fields
        content = {k: convert(value, fields[k].annotation) if k in fields else value for k, value in content.items()}
        defaults = {key: field.default for key, field in fields.items() if isinstance(field.default, Section)}
        given = {key: content[key] for key in defaults.keys() & content.keys() if isinstance(content[key], Mapping)}
        return {**content, **{key: _merged(defaults[key].model_dump(), value) for key, value in given.items()}}

    def schedules(self, steps: int) -> Iterator[Schedule]:
        """The constants of this section itself that change over a run of `steps` generator steps; here none.

        A section whose constants depend on `Batch.total_steps` has to declare them: a run is lengthened only where its
        steps so far would have been the same.
        """
        yield from ()


def opened(value: Any) -> Any:
    """The mapping that an argument such as `{a: 1}` means; any other value as it is."""
    return value.value if isinstance(value, Scalar) and isinstance(value.value, dict) else value


def _merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `content` with the values of `changes`, mappings merged key by key."""
    merged = dict(content)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def registry_name(name: str) -> str:
    """`name`, if a registered model can be called so and be found by it. Raises ValueError otherwise.

    MLflow takes nearly all; `models:/NAME@alias` cannot hold a slash or an @, its filters no quotes, a command line no
    name that begins like an option.
    """
    if len(name) > 200 or not re.fullmatch(r"[^\W_]([\w. -]*[\w.-])?", name):
        raise ValueError(
            "a registered model's name has at most 200 letters, digits, spaces, '.', '_' and '-', and starts with a "
            "letter or digit"
        )
    return name


def folder_name(name: str, what: str) -> str:
    """`name`, of `what` ("run"), if a folder can be called so everywhere. Raises ValueError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"a {what}'s name holds letters, digits, '.', '_' and '-', and starts with a letter or digit")
    if len(name) > 200:
        raise ValueError(f"a {what}'s name has at most 200 characters, as a folder's has: this one has {len(name)}")
    return name


def _seed_that_torch_uses(seed: int) -> int:
    if seed >= 2**32:
        raise ValueError(
            "a seed is less than 4294967296 (2**32): of a larger one torch's generator on CPUs drops the upper bits, "
            "so that it would repeat the run of another seed"
        )
    return seed


Seed = Annotated[int, Field(ge=0), AfterValidator(_seed_that_torch_uses)]
"""a seed for torch.manual_seed"""


Folder = Annotated[str, AfterValidator(local_path)]
"""a folder that all machines see"""


class OptimizerConfig(Section):
    """Adam (Kingma and Ba 2015) for one group of parameters."""

    learning_rate: float = Field(2e-4, gt=0, json_schema_extra=may(branch=True, search={"loguniform": [1e-4, 1e-2]}))
    """step size of Adam"""
    betas: tuple[float, float] = (0.5, 0.9)
    """decay of Adam's first and second moment, each in [0, 1)"""
    final_learning_rate: float | None = Field(None, gt=0)
    """step size at the end of system.burn_in, or without one of the run, reached along half a cosine; default: constant
    """
    final_beta2: float | None = Field(None, ge=0, lt=1)
    """decay of the second moment there; default: constant"""

    @model_validator(mode="after")
    def _betas_are_decays(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {list(self.betas)}")
        return self

    def learning_rate_at(self, remaining: float) -> float:
        """The step size where `remaining` is left of the way to the final one."""
        final = self.final_learning_rate
        return self.learning_rate if final is None else final + (self.learning_rate - final) * remaining

    def betas_at(self, remaining: float) -> tuple[float, float]:
        """The decays where `remaining` is left of the way to the final ones."""
        (one, two), final = self.betas, self.final_beta2
        return one, two if final is None else final + (two - final) * remaining


class AugmentationConfig(Section):
    """Random transformations of real and generated images alike, in front of every loss; see `nn.augmentation`."""

    probability: float = Field(0.0, ge=0, lt=1)
    """p, with which each transformation is applied to an image; with system.burn_in it grows from 0 along it (R3GAN on
    CIFAR-10: .55); 0: none"""
    adaptive: bool = False
    """p starts at `probability`, and then rises while the critic separates pairs too well, and falls else (ADA)"""
    target: float = Field(0.6, gt=-1, lt=1)
    """of adaptive: the mean sign of D(real) - D(fake) that p steers for: 1 where every pair is separated"""
    images: int = Field(500_000, ge=1, le=10**9)
    """of adaptive: images of a run within which p can go from 0 to 1"""
    every: int = Field(4, ge=1, le=10**6)
    """of adaptive: generator steps between two looks at the critic"""
    kinds: tuple[Literal["flip", "translation", "color", "cutout"], ...] = ("flip", "translation", "color", "cutout")
    """the transformations: horizontal flips; translations by up to an eighth of the side; brightness, saturation and
    contrast; a square of half the side, cut out"""


class TrainingConfig(Section):
    """The loop: how many steps, on how many samples, and how often it looks up from its work."""

    batch_size: int = Field(64, ge=2, le=2**20, json_schema_extra=may(search=True))
    """real samples per step, over all workers together"""
    batch_growth: int = Field(4, ge=1, le=1024, json_schema_extra=may(search=True))
    """factor by which the batch grows for the last part of the run (1: never)"""
    batch_growth_from: float = Field(0.75, ge=0, le=1, json_schema_extra=may(search=True))
    """share of the run after which the batch grows"""
    generator_steps: int = Field(13_333, ge=1, le=10**9, json_schema_extra=may(lengthen=True, branch=True))
    """generator steps in all"""
    critic_steps: int = Field(2, ge=1, le=10_000, json_schema_extra=may(search=True))
    """critic steps before each generator step"""
    learning_rate_decay_from: float = Field(0.5, ge=0, le=1, json_schema_extra=may(search=True))
    """share of the run after which learning rates fall linearly to 0 (1: never)"""
    ema_decay: float = Field(0.998, ge=0, lt=1, json_schema_extra=may(search=True))
    """decay per generator step of the moving average of the generators that is sampled from (0: none)"""
    augmentation: AugmentationConfig = AugmentationConfig()
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """arithmetic: fp32; tf32, its products on a GPU with inputs of 10 bits; bf16 autocast over fp32 weights, but for
    heads, logits and penalties; or fp64 (for checks)"""
    deterministic: bool = False
    """true: on a GPU too a run repeats and resumes to the last bit, as it does on a CPU: every sum has one order, which
    costs time; false: there convolutions and trees may round otherwise each time"""
    graph: bool | Literal["auto"] = False
    """capture an iteration once for each shape and replay it (CUDA graphs): auto: on a GPU, where system and networks
    allow it; true: or refuse the run; false: never, the default until it has been run on a GPU. It changes results by
    rounding only"""
    log_every: int = Field(100, ge=1, le=10**9, json_schema_extra=may(branch=True))
    """generator steps between two lines of metrics.jsonl"""
    evaluate_every: int = Field(1000, ge=1, le=10**9, json_schema_extra=may(branch=True))
    """generator steps between two evaluations during training"""
    checkpoint_every: int = Field(2000, ge=1, le=10**9, json_schema_extra=may(branch=True))
    """generator steps between two checkpoints"""
    evaluation_samples: int = Field(10_000, ge=100, le=10**7, json_schema_extra=may(branch=True))
    """samples drawn for the final evaluation (a fifth of it during training)"""
    minutes: float | None = Field(None, gt=0, json_schema_extra=may(resume=True))
    """stop with a checkpoint after so many minutes of training, and exit with code 75; the same command trains for as
    long again, up to generator_steps, with the same result as without stops; default: no limit"""
    snapshots: int = Field(36, ge=0, le=100, json_schema_extra=may(resume=True))
    """steps, at most, whose samples are kept for the slider of the run's report (0: none)"""

    def schedules(self, steps: int) -> Iterator[Schedule]:
        """The learning rates and the batch: shares of the run, whatever its length. The moving average adapts to the
        steps done (`Loop._ema_decay`) and so forgets its beginning in a run of any length."""
        if self.learning_rate_decay_from < 1:
            start = self.learning_rate_decay_from
            yield Schedule("learning_rate_decay_from", start, follows_length_from=start)
        if self.batch_growth > 1 and self.batch_growth_from < 1:
            start = self.batch_growth_from
            yield Schedule("batch_growth_from", start, follows_length_from=start)


class ClusterConfig(Section):
    """What is asked of Ray, and how the work is laid out on it.

    None of it changes what is computed but `use_gpu`: a GPU draws other random numbers than a CPU.
    """

    num_workers: int = Field(1, ge=1, le=10_000)
    """processes that share the work"""
    min_workers: int | None = Field(None, ge=1, le=10_000)
    """continue with as few as this many when machines are lost, with more once they are back; default: num_workers"""
    placement: Literal["replicated", "sharded"] = "replicated"
    """replicated: every worker holds the whole system; sharded: every generator is on one worker only"""
    use_gpu: bool = Field(False, json_schema_extra=may(resume=False))
    """workers compute on GPUs instead of CPUs"""
    gpus_per_worker: float = Field(1.0, gt=0, le=1024)
    """GPUs reserved for each worker with use_gpu; a fraction lets workers share one (they then talk by gloo)"""
    cpus_per_worker: int = Field(1, ge=1, le=10_000)
    """CPUs reserved for each worker, and the threads it computes with"""
    resources_per_worker: dict[str, float] = {}
    """further resources reserved for each worker, by their names in Ray, such as {"memory": 8e9}"""
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """workers on few nodes or on many (Ray's names); the strict ones fail where the others do their best"""
    wait_s: float = Field(0.0, ge=0, le=10**7)
    """seconds to wait for resources that are missing before the run is refused"""
    max_failures: int = Field(3, ge=0, le=10**6)
    """times a lost worker group is started again from the newest checkpoint"""
    profile: bool = False
    """record a few iterations of each worker: a trace for a browser, and a table of where the time goes"""

    @field_validator("resources_per_worker")
    @classmethod
    def _named_and_positive(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, amount in resources.items():
            if name in ("CPU", "GPU"):
                raise ValueError(f"set {name}s by {name.lower()}s_per_worker")
            if not amount > 0:
                raise ValueError(f"{name} must be positive, got {amount:g}")
        return resources

    @model_validator(mode="after")
    def _whole_gpus_or_a_share(self) -> Self:
        if self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ValueError(f"gpus_per_worker {self.gpus_per_worker:g}: above 1 it must be a whole number")
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers {self.min_workers} is more than num_workers {self.num_workers}")
        return self


HIDDEN = "***@"
"""written in the place of a user's name and password"""


def without_password(text: str) -> str:
    """`text` with the names and passwords of the addresses in it left out: it may be printed and written down."""
    text = re.sub(r"(https?://)[^/?#\s]*@", rf"\1{HIDDEN}", text)
    text = re.sub(r"(\b(?!https?:)[a-z][a-z0-9+.-]*://)[^\s'\"]*@", rf"\1{HIDDEN}", text, flags=re.IGNORECASE)
    return re.sub(r"([?&](?:password|passwd|pwd|token|sslpassword)=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)


class TrackingConfig(Section):
    """Where metrics, figures and models are recorded (MLflow)."""

    uri: str | None = Field(None, min_length=1)
    """MLflow tracking URI; default: MLFLOW_TRACKING_URI if set, else a SQLite file in the output folder"""
    experiment: str = Field("toposampler", min_length=1)
    """MLflow experiment"""
    required: bool = True
    """false: an unreachable server at the start is a warning, not an error"""
    enabled: bool = True
    """false: no MLflow at all"""

    @field_serializer("uri", when_used="json")
    def _written_without_password(self, uri: str | None) -> str | None:
        return None if uri is None else without_password(uri)


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn `--a.b 1 --c=[2,3]` into `{"a.b": "1", "c": "[2,3]"}`; each value is a Scalar, which knows what it means.

    Raises UserError for an argument that is not a `--key value` pair.
    """
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise UserError(f"unexpected argument {argument!r}: overrides are written --key value")
        key, equals, text = argument[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{key} needs a value: overrides are written --key value")
            text = rest.pop(0)
        try:
            overrides[key] = read_argument(text)
        except UserError as error:
            raise UserError(f"--{key} {error}") from None
    return overrides


def merge_overrides(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `content` with each dotted key of `overrides` set."""
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in content.items()}
    for dotted, value in overrides.items():
        *parents, leaf = dotted.split(".")
        place = merged
        for parent in parents:
            child = opened(place.get(parent))
            place[parent] = dict(child) if isinstance(child, Mapping) else {}
            place = place[parent]
        place[leaf] = value
    return merged


def validate(model: type[Model], content: Mapping[str, Any]) -> Model:
    """Build `model` from `content`. Raises UserError with one line per fault: key, value, what would be right."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = error.errors()
        lines = [_explain(fault, model) for fault in faults[:MAX_FAULTS]]
        lines += [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise UserError("bad configuration:\n" + "\n".join(f"  {line}" for line in lines)) from None


def shortened(text: str, length: int = 80) -> str:
    """`text`, cut to `length` characters for a message."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _explain(fault: ErrorDetails, model: type[BaseModel]) -> str:
    """One line for one pydantic fault."""
    section, path = _follow(model, fault["loc"])
    key = ".".join(map(shortened, path)) or "configuration"
    if fault["type"] == "extra_forbidden":
        known = sorted(section.model_fields)
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        return f"{key}: unknown key. {hint}Known keys here: {', '.join(known)}"
    if fault["type"] == "missing":
        return f"{key}: a value is required"
    if fault["type"] == "union_tag_invalid":
        context = fault["ctx"]
        known = [name_of(section_) for section_ in _sections_of(section.model_fields[path[-1]])]
        close = difflib.get_close_matches(str(context["tag"]), known, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        tag = shortened(repr(str(context["tag"])))
        return f"{key}.name: {tag} is not known. {hint}Choose one of {context['expected_tags']}"
    if fault["type"] == "union_tag_not_found":
        return f"{key}.name: a value is required"
    message = fault["msg"].removeprefix("Value error, ")
    message = EXAMPLES.get(fault["type"], message[0].lower() + message[1:])
    value = fault["input"]
    message = shortened(message, 400)
    return (
        f"{key}: {message}"
        if isinstance(value, Mapping)
        else f"{key}: {message} (got {shortened(without_password(repr(value)))})"
    )


def _follow(model: type[BaseModel], location: Sequence[str | int]) -> tuple[type[BaseModel], list[str]]:
    """The section a pydantic location ends in, and its dotted path without the tags of unions."""
    section, path = model, []
    union: list[type[BaseModel]] = []
    for part in map(str, location):
        if union:  # this part is the union's tag, not a key
            section = next(member for member in union if member.model_fields["name"].default == part)
            union = []
            continue
        path.append(part)
        members = _sections_of(section.model_fields[part]) if part in section.model_fields else []
        if len(members) == 1:
            section = members[0]
        else:
            union = members
    return section, path


def _sections_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The section types a field may hold: none for a plain value, several for a union by name."""
    for mark in field.metadata:
        if isinstance(mark, OneOf):
            return list(mark.sections())
    candidates: Sequence[Any] = (field.annotation,)
    if typing.get_origin(field.annotation) in (typing.Union, types.UnionType):
        candidates = typing.get_args(field.annotation)
    return [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]


def describe(model: type[BaseModel], example: BaseModel | None = None) -> Iterator[tuple[str, str, str]]:
    """Every key below `model` as (dotted key, default, meaning).

    `example` is what the section is when it is left out: its values are the defaults. A key that only some members of
    a union by name have says which: `n_generators (dmgan, dmgan_pl)`.
    """
    for name, field in model.model_fields.items():
        sections = _sections_of(field)
        value = getattr(example, name) if example else field.get_default(call_default_factory=True)
        if len(sections) == 1:
            below = describe(sections[0], value if isinstance(value, BaseModel) else None)
        elif sections:
            below = _describe_union(sections)
        else:
            text = "required" if example is None and field.is_required() else as_text(value)
            yield name, text, _meaning(model, name)
            continue
        yield from ((f"{name}.{key}", default, meaning) for key, default, meaning in below)


def _meaning(model: type[BaseModel], name: str) -> str:
    """A field's docstring; a field that only sets another default has that of the class which declares it."""
    bases = [base for base in model.__mro__ if issubclass(base, Section) and base is not Section]
    return " ".join(next((text for base in bases if (text := _docstrings(base).get(name))), "").split())


@cache
def _docstrings(section: type[Section]) -> dict[str, str]:
    """The docstring below each field in the source of `section`, by the field's name.

    They are read when a help asks for them: pydantic's own `use_attribute_docstrings` reads them all at each import,
    which takes a third of it.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _describe_union(sections: Sequence[type[BaseModel]]) -> Iterator[tuple[str, str, str]]:
    names = [section.model_fields["name"].default for section in sections]
    yield "name", "required", f"one of {', '.join(names)}"
    members: dict[tuple[str, str, str], list[str]] = {}
    for name, section in zip(names, sections, strict=True):
        for row in describe(section):
            if row[0] != "name":
                members.setdefault(row, []).append(name)
    for (key, default, meaning), having in members.items():
        yield (key if having == names else f"{key} ({', '.join(having)})"), default, meaning


def as_text(value: Any) -> str:
    """A value as it is typed: YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def to_yaml(config: BaseModel) -> str:
    """The resolved configuration as YAML, every key written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
